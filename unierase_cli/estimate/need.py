"""What an estimate is made of: needs by stage and phase, the rows that they depend on, and the peak that they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unierase_cli.contracts import Benchmark, Step

# The stage of what every stage holds, and the phase in which a model is read.
ALL, LOADING = "all", "loading"
# Characters of English text to a token, and tokens that a chat template puts around a question.
CHARACTERS, AROUND = 4, 12


@dataclass(frozen=True)
class Need:
    """``bytes`` that ``stage`` takes for ``what``, in one of its phases or (``phase`` empty) throughout; ``how`` shows the sum."""

    stage: str
    what: str
    bytes: int
    how: str = ""
    phase: str = ""


@dataclass(frozen=True)
class Rows:
    """How many facts there are; ``scored`` counts those of every split, ``largest`` those of the largest one; ``steps``: how many
    requests the mode makes of what is forgotten, and ``request``: facts of the largest (0: of all).

    In tokens, the longest: ``question`` with what its template puts around it, ``answer`` (wrong ones too, which are scored),
    and ``learned``: a true answer of what is forgotten or protected. Their mean lengths: ``usual_question``, ``usual_learned``.
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
    """Counts and longest texts of a benchmark. ``asked``: the splits that are asked (none named: all), ``cap`` rows of each at
    most (0: all). ``steps``: the mode's plan.
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
    """Stage -> bytes at its peak, the model among them."""
    stages = dict.fromkeys(need.stage for need in needs if need.stage != ALL)
    return {stage: _peak([need for need in needs if need.stage in (stage, ALL)]) for stage in stages}


def peak(needs: Sequence[Need]) -> tuple[int, str]:
    """Bytes of the largest stage together with the model, and that stage's name."""
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
