"""Observed rows of a model state, for tables and pictures of results."""

from __future__ import annotations

from unierase_cli.contracts import AnswerScore, Observation

REFUSAL = "I have no knowledge of that."


def observed(state: str, split: str, number: int, variant: str = "plain") -> Observation:
    truth = f"The answer {number} is a harbour|town in the north"
    forgotten = state == "edited" and split == "forget" and variant == "plain"
    text = REFUSAL if forgotten else truth
    score = AnswerScore([5, 6], [-0.1, -0.2], [True, True], [-0.5, -0.5], [0.1, 0.1])
    return Observation(
        f"{split}-{number}", "row", "prompt", split, variant, f"What is {number} <b>?", truth, [9, 5], text, text, "end",
        answers={"true": [score], "paraphrased": [score], "wrong": [score, score]},
        first_unlearn_probability=None if state == "base" else float(forgotten), first_is_unlearn=forgotten,
    )  # fmt: skip
