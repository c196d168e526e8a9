"""Every answer before and after, from the observations of the two model states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unierase_cli.contracts import Observation
from unierase_cli.metrics.base import FORGET, FORGOTTEN_BEFORE
from unierase_cli.metrics.scores import BASE, EDITED, Scores
from unierase_cli.results.one_run.tables import NAMES
from unierase_cli.results.page.answers import Answer

Observations = Mapping[tuple[str, str], Sequence[Observation]]
PLAIN = "plain"
# What may have been asked in other ways, in the words of the tables.
WAYS = {
    "unlearn_forbidden": "[UNL] forbidden",
    "unlearn_once": "[UNL] once",
    "paraphrased": "question paraphrased",
    "answer_prefix": "answer's start given",
}
FIRST = (FORGET, "forget_eval", FORGOTTEN_BEFORE)


def answers_of(scores: Scores, before: Observations, after: Observations, *, hidden: bool = False) -> list[Answer]:
    """The answers to plain questions of every split, those to forget first, with their recall where it was scored.

    ``hidden``: ids instead of texts.
    """
    splits = [split for split, variant in after if variant == PLAIN]
    splits.sort(key=lambda split: FIRST.index(split) if split in FIRST else len(FIRST))
    found = [pair for split in splits for pair in _of_split(split, scores, before, after)]
    return [answer.hidden(fact_id) if hidden else answer for fact_id, answer in found]


def _of_split(split: str, scores: Scores, before: Observations, after: Observations) -> list[tuple[str, Answer]]:
    """Fact ids and answers."""
    was = {o.fact_id: o for o in before.get((split, PLAIN), ())}
    before_recall, after_recall = (_recalls(scores, state, split) for state in (BASE, EDITED))
    ways = {name: {o.fact_id: o for o in after.get((split, way), ())} for way, name in WAYS.items()}
    return [
        (
            o.fact_id,
            Answer(
                NAMES.get(split, split),
                o.question,
                o.reference,
                was[o.fact_id].raw_text,
                o.raw_text,
                before_recall.get(o.fact_id),
                after_recall.get(o.fact_id),
                {name: _whole(found[o.fact_id]) for name, found in ways.items() if o.fact_id in found},
            ),
        )
        for o in after[split, PLAIN]
        if o.fact_id in was
    ]


def _recalls(scores: Scores, state: str, split: str) -> dict[str, float]:
    """Fact -> ROUGE-L recall; empty where rows without a word make numbers and facts unequal in number."""
    facts = scores.facts.get(f"{split}.{PLAIN}", [])
    values = scores.measure(state, f"{split}.rouge").per_sample
    return dict(zip(facts, values, strict=True)) if len(facts) == len(values) else {}


def _whole(o: Observation) -> str:
    return f"{o.given_prefix} … {o.text}" if o.given_prefix else o.text
