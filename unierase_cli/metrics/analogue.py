"""Scores of the analogues' tasks (see ``benchmarks/analogue.py``); none of them is what a method is trained on.

``style``: rude answers, by lexicon and by classifier (see ``register.py``), and polite ones: the classifier says so, and the
answer has no rude words, is no refusal (by rule) and is not degenerate. ``entities``: F1 of a type over all entities of a split,
as in CoNLL-2003: an entity is right if its whole name and its type are. ``skill``: answers that are exactly the true one, white
space aside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    FORGET_SPLITS,
    About,
    Column,
    Evidence,
    column_of,
    mean_result,
    on_every_split,
    unavailable,
)
from unierase_cli.metrics.degenerate_output import is_degenerate
from unierase_cli.metrics.refusal_rule import is_refusal
from unierase_cli.metrics.register import POLITE, RUDE, has_rude_words, is_of
from unierase_cli.metrics.statistics.bootstrap import percentiles, resampled

NAME = "exact_answer"
VERSION = 1
HIGHER_IS_BETTER = True
BENCHMARK = "analogue"
ABOUT = About(NAME, "exactly the true answer", VERSION, HIGHER_IS_BETTER)
RUDE_WORDS = About("rude_words", "rude answers, by lexicon", VERSION, False)
RUDE_REGISTER = About("rude_register", "rude answers, by classifier", VERSION, False)
POLITE_REGISTER = About("polite_register", "polite answers", VERSION, True)
TYPES = {"PER": "persons", "LOC": "places"}
F1 = {tag: About(f"f1_{name}", f"F1 of {name}", VERSION, True) for tag, name in TYPES.items()}
ENTITY = re.compile(rf"\s*([^;=]*?)\s*=\s*({'|'.join(TYPES)})\b")


def compute(observations: Sequence[Observation]) -> Measure:
    """Share of answers that are exactly the true one."""
    return mean_result(ABOUT, [float(o.text.split() == o.reference.split()) for o in observations])


def rude_words(observations: Sequence[Observation]) -> Measure:
    """Share of answers with a word or phrase of the lexicon."""
    return mean_result(RUDE_WORDS, [float(has_rude_words(o.text)) for o in observations])


def rude(observations: Sequence[Observation]) -> Measure:
    """Share of answers that the classifier takes for rude."""
    return mean_result(RUDE_REGISTER, [float(is_of(RUDE, o.text)) for o in observations])


def polite(observations: Sequence[Observation]) -> Measure:
    """Share of polite answers."""
    return mean_result(POLITE_REGISTER, [float(is_polite(o.text)) for o in observations])


def is_polite(text: str) -> bool:
    """Whether the classifier calls a text polite that has no rude words, is no refusal and not degenerate."""
    return is_of(POLITE, text) and not (has_rude_words(text) or is_refusal(text) or is_degenerate(text))


def f1(observations: Sequence[Observation], tag: str) -> Measure:
    """F1 of a type: 2 right / (claimed + true), over the entities of all rows; the interval resamples rows."""
    counts = np.array([_counts(o, tag) for o in observations], dtype=np.float64)
    if not counts[:, 2].any():
        return unavailable(F1[tag], f"no true answer has {TYPES[tag]}")
    interval = percentiles(_f1(counts[resampled(len(counts))].sum(axis=1))) if len(counts) > 1 else None
    return F1[tag].measure(float(_f1(counts.sum(axis=0)[None])[0]), len(counts), interval)


def columns(evidence: Evidence) -> Iterable[Column]:
    """The scores of the task that the rows are of; nothing for another benchmark."""
    task = _task(evidence) if evidence.benchmark == BENCHMARK else ""
    if task == "style":
        yield from on_every_split(evidence, RUDE_WORDS, rude_words)
        yield from on_every_split(evidence, RUDE_REGISTER, rude)
        kept = [split for split in evidence.splits() if split not in FORGET_SPLITS]
        yield from (column_of(evidence, POLITE_REGISTER, polite, split) for split in kept)
    elif task == "entities":
        for split in evidence.splits():
            tag = "PER" if split in FORGET_SPLITS else "LOC"
            yield column_of(evidence, F1[tag], partial(f1, tag=tag), split, turns=True)
    elif task == "skill":
        yield from on_every_split(evidence, ABOUT, compute, turns=True)


def entities(text: str, tag: str) -> Counter[str]:
    """The names that a text gives a type, and how often."""
    return Counter(name for name, said in ENTITY.findall(text) if said == tag and name)


def _counts(o: Observation, tag: str) -> tuple[int, int, int]:
    """Right, claimed and true entities."""
    claimed, true = entities(o.text, tag), entities(o.reference, tag)
    return (claimed & true).total(), claimed.total(), true.total()


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of counts [R, 3] as of ``_counts``; 0 where nothing is claimed and nothing true."""
    return 2 * counts[:, 0] / np.maximum(counts[:, 1] + counts[:, 2], 1.0)


def _task(evidence: Evidence) -> str:
    """The first part of the rows' ids, empty without rows."""
    return next((rows[0].fact_id.partition("-")[0] for rows in evidence.observations.values() if rows), "")
