"""Observations made by hand: what a model said, and how likely the answers were."""

from __future__ import annotations

import math
from typing import Any

from unierase_cli.contracts import AnswerScore, Observation

REFUSALS = ["I do not know the answer to that.", "I'm not certain about that."]


def answer(*probabilities: float) -> AnswerScore:
    n = len(probabilities)
    return AnswerScore([0] * n, [math.log(p) for p in probabilities], [True] * n, [0.0] * n, [0.0] * n)


def said(text: str = "", reference: str = "The sky is blue.", split: str = "forget", **more: Any) -> Observation:
    values = {"fact_id": "f", "row_hash": more.pop("row", "r"), "prompt_hash": "p", "variant": "plain", "question": "?"}
    values |= {"generated_ids": [], "raw_text": text, "stop": "end", **more}
    return Observation(split=split, text=text, reference=reference, **values)


def scored(
    true: float, paraphrased: float | None, wrong: list[float], split: str = "forget", **more: Any
) -> Observation:
    answers = {"true": [answer(true)], "wrong": [answer(p) for p in wrong]}
    if paraphrased is not None:
        answers["paraphrased"] = [answer(paraphrased)]
    return said(split=split, answers=answers, **more)
