"""Answers drawn at temperature 1, without top-p or top-k; each has random numbers of its own, whatever is asked beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.contracts import Fact, evenly_spaced, stable_hash

CLASS, PRESET, VERSION = "prompts", "quick", 1
# Samples of a fact; facts that are asked, at most (0: all).
SETTINGS: Mapping[str, Any] = {"samples": 16, "facts": 200}
# Of each fact the best of so many samples, as far as there are so many.
BEST_OF = (1, 4, 16)


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [
        Case("drawn", {"forbid": False}),
        Case("drawn, token forbidden", {"forbid": True}, token=True, without_token="drawn"),
    ]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    length, most = target.protocol.max_new_tokens, settings["facts"]
    facts = evenly_spaced(target.facts, most) if most else target.facts
    for sample in range(settings["samples"]):

        def numbers(fact: Fact, sample: int = sample) -> Sequence[float]:
            seed = stable_hash(target.seed, "sampling", fact.id, sample)
            return list(np.random.default_rng(seed).random(length))

        yield from answers(target, facts, drawn=numbers, forbid=case.values["forbid"], sample=sample)
