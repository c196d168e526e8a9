"""Compares two model states: every metric of both, their differences and example answers, as stored in ``metrics.json``.

Intervals of differences come from paired per-row differences; an aggregate's come from its members' rows, resampled together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    DETAIL,
    FORGET,
    FORGETTING,
    FORGOTTEN_BEFORE,
    GENERAL,
    HONESTY,
    OVERALL,
    OVERVIEW,
    RETAIN,
    RETENTION,
    Column,
    Evidence,
)
from unierase_cli.metrics.catalog import all_columns
from unierase_cli.metrics.scores import BASE, EDITED, Described, Example, Scores
from unierase_cli.metrics.statistics.aggregate import difference_interval
from unierase_cli.metrics.statistics.bootstrap import mean_interval

GROUPS = (FORGETTING, RETENTION, HONESTY, OVERVIEW, GENERAL, DETAIL)
# A rise in ROUGE-L recall that is more than a few words.
CAME_BACK = 0.1
EXAMPLES = ((FORGET, 8), (FORGOTTEN_BEFORE, 2), (RETAIN, 4))


def compare(base: Evidence, edited: Evidence, names: Collection[str] | None = None) -> Scores:
    """Every metric (or those named) of both states, their differences and example answers."""
    edited = replace(edited, unedited=edited.unedited or base)
    found = {BASE: _by_id(base, names), EDITED: _by_id(edited, names)}
    splits = [*dict.fromkeys([*base.splits(), *edited.splits()]), OVERALL]
    columns = list({**found[BASE], **found[EDITED]}.values())
    columns.sort(key=lambda c: (GROUPS.index(c.group), splits.index(c.split) if c.split in splits else len(splits)))
    return Scores(
        rows={split: len(edited.rows(split) or base.rows(split)) for split in splits[:-1]},
        facts={_name(key): [o.fact_id for o in rows] for key, rows in {**base.observations, **edited.observations}.items()},
        columns=[_describe(column) for column in columns],
        states={state: {i: c.result for i, c in of_state.items()} for state, of_state in found.items()},
        differences={c.id: _difference(found[BASE].get(c.id), found[EDITED].get(c.id)) for c in columns},
        stops={evidence.state: _stops(evidence) for evidence in (base, edited)},
        examples=[example for split, count in EXAMPLES for example in _examples(base, edited, split, count)],
    )


def unchanged(base: Evidence, edited: Evidence) -> str | None:
    """A sentence if the edit has no visible effect (identical scores and texts, or identical forget answers), else None."""
    before = {(o.split, o.fact_id): o for o in _plain(base)}
    after = {(o.split, o.fact_id): o for o in _plain(edited)}
    if not after or before.keys() != after.keys():
        return None
    if all(before[key].text == o.text and before[key].answers == o.answers for key, o in after.items()):
        return "the edited model is identical to base on every scored row: the edit has no effect"
    forget = {key: o for key, o in after.items() if key[0] == FORGET}
    if forget and all(before[key].raw_text == o.raw_text for key, o in forget.items()):
        return "the edited model answers every forget question exactly as the base model does: nothing is forgotten"
    return None


def came_back(scores: Scores) -> str | None:
    """A sentence if the edited model answers facts forgotten in an earlier run better than before, else None."""
    column = f"{FORGOTTEN_BEFORE}.rouge"
    before, after = (scores.measure(state, column).value for state in (BASE, EDITED))
    if before is None or after is None or after - before <= CAME_BACK:
        return None
    return f"facts that the model forgot in an earlier run come back: ROUGE-L recall {before:.2f} before, {after:.2f} after"


def _plain(evidence: Evidence) -> list[Observation]:
    return [o for (_, variant), rows in evidence.observations.items() if variant == "plain" for o in rows]


def _by_id(evidence: Evidence, names: Collection[str] | None) -> dict[str, Column]:
    return {column.id: column for column in all_columns(evidence, names)}


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}.{key[1]}"


def _stops(evidence: Evidence) -> dict[str, dict[str, int]]:
    return {_name(key): dict(Counter(o.stop for o in rows)) for key, rows in evidence.observations.items()}


def _describe(column: Column) -> Described:
    about = {name: getattr(column, name) for name in ("id", "metric", "title", "split", "variant", "group")}
    return Described(**about, higher_is_better=column.result.higher_is_better, version=column.result.version)


def _difference(base: Column | None, edited: Column | None) -> Measure:
    """Edited minus base, with the interval of the paired differences if both have the same rows."""
    before, after = (Measure(unavailable="not computed") if c is None else c.result for c in (base, edited))
    if before.value is None or after.value is None:
        reasons = [f"{s}: {r.unavailable}" for s, r in ((BASE, before), (EDITED, after)) if r.value is None]
        return Measure(unavailable="; ".join(reasons))
    return Measure(value=after.value - before.value, n=after.n, ci95=_paired_interval(before, after))


def _paired_interval(before: Measure, after: Measure) -> tuple[float, float] | None:
    if after.members:
        return difference_interval(before.members, after.members)
    if not after.per_sample or len(before.per_sample) != len(after.per_sample):
        return None
    return mean_interval([b - a for a, b in zip(before.per_sample, after.per_sample, strict=True)])


def _examples(base: Evidence, edited: Evidence, split: str, count: int) -> list[Example]:
    """Examples spread evenly over the split, so that they cover several authors."""
    rows = edited.rows(split)
    before = {o.fact_id: o for o in base.rows(split)}
    variants = {
        variant: {o.fact_id: o.given_prefix + o.text for o in edited.rows(split, variant)}
        for variant in ("unlearn_forbidden", "paraphrased", "answer_prefix")
    }
    chosen: Sequence[Observation] = [rows[i * len(rows) // count] for i in range(count)] if len(rows) > count else rows
    return [
        Example(
            split=split,
            fact_id=o.fact_id,
            question=o.question,
            true=o.reference,
            before=before[o.fact_id].raw_text if o.fact_id in before else None,
            after=o.raw_text,
            forbidden=variants["unlearn_forbidden"].get(o.fact_id),
            paraphrased=variants["paraphrased"].get(o.fact_id),
            answer_prefix=variants["answer_prefix"].get(o.fact_id),
        )
        for o in chosen
    ]
