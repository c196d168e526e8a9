"""The parts of an estimate: needs by stage and phase, the row counts that they depend on, and their peak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unierase_cli.contracts import Benchmark, Step

# Stage of needs that every stage has, and the phase in which a model is loaded.
ALL, LOADING = "all", "loading"
# Characters of English text per token, and tokens that a chat template adds to a question.
CHARACTERS, AROUND = 4, 12


@dataclass(frozen=True)
class Need:
    """``bytes`` that ``stage`` needs for ``what``, in a phase or (``phase`` empty) throughout; ``how`` explains the number."""

    stage: str
    what: str
    bytes: int
    how: str = ""
    phase: str = ""


@dataclass(frozen=True)
class Rows:
    """Number and length of a benchmark's facts.

    ``scored``: facts over all splits; ``largest``: facts of the largest split; ``steps``: number of requests;
    ``request``: facts of the largest request (0: all). Longest lengths in tokens: ``question`` with its template,
    ``answer`` (wrong answers too, which are scored) and ``learned`` (true answers of forget and protected facts). Mean
    lengths: ``usual_question``, ``usual_learned``.
    """

    forget: int
    protect: int
    scored: int
    largest: int = 400
    question: int = 70
    answer: int = 60
    learned: int = 60
    usual_question: int = 35
    usual_learned: int = 30
    steps: int = 1
    request: int = 0


def rows_of(benchmark: Benchmark, asked: Sequence[str] = (), cap: int = 0, steps: Sequence[Step] = ()) -> Rows:
    """Row counts and text lengths of a benchmark.

    ``asked``: the splits to ask (empty: all); ``cap``: maximum rows per split (0: no limit); ``steps``: the mode's
    plan.
    """
    learned = [*benchmark.forget, *benchmark.protect]
    facts = [*learned, *(fact for split in benchmark.splits.values() for fact in split)]
    splits = [len(split[: cap or None]) for name, split in benchmark.splits.items() if name in asked or not asked]
    return Rows(
        len(benchmark.forget),
        len(benchmark.protect),
        sum(splits),
        max(splits, default=0),
        AROUND + _longest(fact.question for fact in facts),
        1 + _longest(text for fact in facts for text in (fact.answer, *fact.wrong_answers)),
        1 + _longest(fact.answer for fact in learned),
        AROUND + _usual(fact.question for fact in learned),
        1 + _usual(fact.answer for fact in learned),
        max(1, len(steps)),
        max((len(step.forget) for step in steps), default=0),
    )


def stage_peaks(needs: Sequence[Need]) -> dict[str, int]:
    """Stage -> bytes at its peak, including the model."""
    stages = dict.fromkeys(need.stage for need in needs if need.stage != ALL)
    return {stage: _peak([need for need in needs if need.stage in (stage, ALL)]) for stage in stages}


def peak(needs: Sequence[Need]) -> tuple[int, str]:
    """Peak bytes of the largest stage, including the model, and the stage's name."""
    stages = stage_peaks(needs)
    worst = max(stages, key=lambda name: stages[name], default="")
    return (stages[worst], worst) if worst else (_peak(needs), "the model")


def _peak(needs: Sequence[Need]) -> int:
    phases: dict[str, int] = {}
    for need in needs:
        phases[need.phase] = phases.get(need.phase, 0) + need.bytes
    throughout = phases.pop("", 0)
    return throughout + max(phases.values(), default=0)


def _longest(texts: Iterable[str]) -> int:
    return max((len(text) for text in texts), default=0) // CHARACTERS


def _usual(texts: Iterable[str]) -> int:
    lengths = [len(text) for text in texts]
    return sum(lengths) // max(1, CHARACTERS * len(lengths))
