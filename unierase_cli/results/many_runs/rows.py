"""The rows of a comparison: first the unedited models, then one row per configuration, with seeds pooled."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from unierase_cli.contracts import Measure
from unierase_cli.metrics import scores
from unierase_cli.results.many_runs.labels import configuration, labelled
from unierase_cli.results.one_run.trajectory_picture import points_of
from unierase_cli.results.runs import ScoredRun
from unierase_cli.store.hashing import hash_json

FORGETTING, RETENTION, COST, BALANCE = "forgetting", "retention", "cost", "balance"
UNEDITED, RETAIN_ONLY, EDITED = "unedited", "retain_only", "edited"
FORGET, KEPT, SO_FAR = "forget.rouge", "retain_unseen.rouge", "forget_so_far.rouge"


class ColumnSpec(NamedTuple):
    """A column of the comparison; ``id``: of ``metrics.json``, or a cost; ``unit``: rate | seconds | GiB | percent."""

    id: str
    title: str
    part: str
    higher_is_better: bool
    unit: str = "rate"


COLUMNS = (
    ColumnSpec(FORGET, "forget ROUGE-L", FORGETTING, False),
    ColumnSpec("forget.probability", "forget probability", FORGETTING, False),
    ColumnSpec("forget.truth_ratio", "forget truth ratio", FORGETTING, True),
    ColumnSpec("forget.forget_quality", "forget quality", FORGETTING, True),
    ColumnSpec("forget.unlearn_forbidden.leak", "[UNL] forbidden", FORGETTING, False),
    ColumnSpec("forget.paraphrased.leak", "question paraphrased", FORGETTING, False),
    ColumnSpec("forget.answer_prefix.leak", "answer prefix given", FORGETTING, False),
    ColumnSpec("forget.refusal_rate", "clean refusals", FORGETTING, True),
    ColumnSpec("forget.degenerate_output", "degenerate answers", FORGETTING, False),
    ColumnSpec(KEPT, "retain never seen", RETENTION, True),
    ColumnSpec("retain_near.rouge", "neighbours", RETENTION, True),
    ColumnSpec("retain_protected.rouge", "protected", RETENTION, True),
    ColumnSpec("real_authors.rouge", "real authors", RETENTION, True),
    ColumnSpec("world_facts.rouge", "world facts", RETENTION, True),
    ColumnSpec("all.model_utility", "model utility", RETENTION, True),
    ColumnSpec("seconds", "seconds", COST, False, "seconds"),
    ColumnSpec("memory", "peak memory GiB", COST, False, "GiB"),
    ColumnSpec("changed", "weights changed %", COST, False, "percent"),
    ColumnSpec("balance", "balance", BALANCE, True),
)


class Pooled(Struct):
    """A measure pooled over seeds: ``sd`` (of the sample) only for at least two seeds, ``ci95`` (over rows) only for one.

    ``unavailable``: the reason for a missing value, "" if the column does not apply.
    """

    mean: float | None
    sd: float | None = None
    n: int = 0
    unavailable: str | None = None
    ci95: tuple[float, float] | None = None


class Row(Struct, kw_only=True):
    """A row of a comparison.

    ``number`` counts the edited rows from 1 and is None for unedited models; ``values``: by column id; ``runs``:
    ``name``, ``key`` and ``seed`` of each run; ``steps``: column -> (step, value, interval) of its first run, if it
    served several requests.
    """

    number: int | None = None
    kind: str
    method: str = ""
    label: str
    differences: dict[str, Any] = {}
    seeds: list[int]
    runs: list[dict[str, Any]]
    values: dict[str, Pooled]
    steps: dict[str, list[tuple[int, float, tuple[float, float] | None]]] = {}


class Compared(Struct, kw_only=True):
    """One table of a comparison: the runs of one mode."""

    benchmark: str
    split: str
    model: str
    mode: str
    rows: list[Row]
    remarks: list[str]


def compare_table(
    runs: Sequence[ScoredRun], retain: Sequence[ScoredRun], more: Sequence[ColumnSpec] = ()
) -> tuple[list[Row], list[str]]:
    """The ordered rows, and remarks. ``more``: columns beside COLUMNS."""
    columns = (*COLUMNS, *more)
    first, remarks = _reference(UNEDITED, "unedited model", runs, columns)
    rows = [first]
    if retain:
        row, told = _reference(RETAIN_ONLY, "retain-only model", retain, columns)
        rows.append(row)
        remarks += told
    before = [first.values[column].mean for column in (FORGET, KEPT)]
    for row in rows:
        after = [row.values[column].mean for column in (FORGET, KEPT)]
        row.values["balance"] = _pooled([balance(before, after)], row.seeds[:1])
    edited, told = _edited_rows(runs, columns)
    remarks += told
    edited.sort(key=lambda row: (-_or_below(row.values["balance"].mean), row.label))
    for number, row in enumerate(edited, 1):
        row.number = number
    return [*rows, *edited], remarks


def balance(before: Sequence[float | None], after: Sequence[float | None]) -> Measure:
    """Harmonic mean of forgetting and retention, each relative to the unedited model and clipped to 0..1.

    ``before``, ``after``: ROUGE-L recall of the forget set and of the retain rows never seen.
    """
    forget, kept = before
    if forget is None or kept is None or after[0] is None or after[1] is None:
        return Measure(unavailable="it needs the ROUGE-L of forget and retain never seen, before and after")
    if forget <= 0 or kept <= 0:
        return Measure(unavailable="the unedited model knows nothing to forget or to keep")
    forgotten = min(1.0, max(0.0, 1 - after[0] / forget))
    remaining = min(1.0, max(0.0, after[1] / kept))
    total = forgotten + remaining
    return Measure(value=2 * forgotten * remaining / total if total else 0.0)


def _edited_rows(runs: Sequence[ScoredRun], columns: Sequence[ColumnSpec]) -> tuple[list[Row], list[str]]:
    methods: dict[str, dict[str, list[ScoredRun]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        methods[run.config["method"]["name"]][hash_json(configuration(run.config))].append(run)
    rows, remarks = [], []
    for method, groups in methods.items():
        members = list(groups.values())
        labels, differences, told = labelled(method, [configuration(group[0].config) for group in members])
        remarks += told
        for label, different, group in zip(labels, differences, members, strict=True):
            chosen, told = _one_per_seed(label, group)
            remarks += told
            seeds = [run.seed for run in chosen]
            values = {c.id: _pooled([_measured(run, c.id) for run in chosen], seeds) for c in columns}
            steps = _curves(chosen[0])
            rows.append(_row(EDITED, label, chosen, values, method=method, differences=different, steps=steps))
    return rows, remarks


def _curves(run: ScoredRun) -> dict[str, Any]:
    """What all requests so far and the rest give back after every request; empty of a single request."""
    if run.steps is None:
        return {}
    found = {column: points_of(run.steps, column) for column in (SO_FAR, KEPT)}
    return {column: points for column, points in found.items() if points}


def _measured(run: ScoredRun, column: str) -> Measure:
    if column == "balance":
        before, after = ([run.number(state, c).value for c in (FORGET, KEPT)] for state in (scores.BASE, scores.EDITED))
        return balance(before, after)
    return run.costs[column] if column in run.costs else run.number(scores.EDITED, column)


def _one_per_seed(label: str, runs: Sequence[ScoredRun]) -> tuple[list[ScoredRun], list[str]]:
    """Of several runs with the same seed, the one with the most numbers, then the newest; remarks name the others."""
    seeds: dict[int, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        seeds[run.seed].append(run)
    chosen, remarks = [], []
    for seed, same in sorted(seeds.items()):
        best = max(same, key=lambda run: (sum(_measured(run, c.id).value is not None for c in COLUMNS), _finished(run)))
        chosen.append(best)
        if others := [run.name for run in same if run is not best]:
            remarks.append(f"{label}, seed {seed}: {best.name} is shown; left out (same configuration): {', '.join(others)}")
    return chosen, remarks


def _reference(
    kind: str, label: str, runs: Sequence[ScoredRun], columns: Sequence[ColumnSpec]
) -> tuple[Row, list[str]]:
    """The row of an unedited model: the ``base`` state of its runs, one value per model (seeds may share a model)."""
    fullest = sorted(runs, key=lambda run: (run.questions, _finished(run)), reverse=True)
    models: dict[str, ScoredRun] = {}
    remarks = []
    if unlike := sorted({run.name for run in fullest if _recipe(run) != _recipe(fullest[0])}):
        remarks.append(f"{label}: some runs have one that was trained differently; not in its row: {', '.join(unlike)}")
        fullest = runs = [run for run in fullest if _recipe(run) == _recipe(fullest[0])]
    for seed in sorted({run.seed for run in runs}):
        of_seed = [run for run in fullest if run.seed == seed]
        models.setdefault(of_seed[0].model, of_seed[0])
        if others := sorted({run.name for run in of_seed if run.model != of_seed[0].model}):
            remarks.append(f"{label}: the runs of seed {seed} start from different ones; not in its row: {', '.join(others)}")
    values: dict[str, Pooled] = {}
    for column in columns:
        if column.part not in (FORGETTING, RETENTION):
            values[column.id] = _pooled([Measure()] * len(models), [])
            continue
        per_model = []
        for model in models:
            found = [run.number("base", column.id) for run in fullest if run.model == model]
            there = [one for one in found if one.value is not None]
            per_model.append((there or found)[0])
            if there and max(m.value for m in there) - min(m.value for m in there) > 1e-6:  # type: ignore[type-var,operator]
                remarks.append(f"{column.title} of the {label} differs among its runs; the run with the most questions counts")
        values[column.id] = _pooled(per_model, [run.seed for run in models.values()])
    return _row(kind, label, list(models.values()), values), remarks


def _recipe(run: ScoredRun) -> dict[str, Any]:
    """How this tool trained the run's model (empty if it did not); the same for all seeds of a model."""
    if run.config["model"].get("path"):
        return {}
    return {key: value for key, value in run.config.get("train", {}).items() if key not in ("name", "split")}


def _row(kind: str, label: str, runs: Sequence[ScoredRun], values: dict[str, Pooled], **more: Any) -> Row:
    named = [{"name": run.name, "key": run.score.key, "seed": run.seed} for run in runs]
    return Row(kind=kind, label=label, seeds=[run.seed for run in runs], runs=named, values=values, **more)


def _pooled(found: Sequence[Measure], seeds: Sequence[int]) -> Pooled:
    """The mean over seeds; unavailable, with the reason, if any seed lacks a value."""
    missing = [index for index, one in enumerate(found) if one.value is None]
    if missing:
        reason = found[missing[0]].unavailable or ""
        if len(missing) < len(found):
            lacking = ", ".join(str(seeds[index]) for index in missing)
            reason = f"{len(missing)} of {len(found)} seeds lack it (seed {lacking}): {reason}"
        return Pooled(None, n=len(found) - len(missing), unavailable=reason)
    numbers = [one.value for one in found if one.value is not None]
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Pooled(statistics.fmean(numbers), sd, len(numbers), ci95=found[0].ci95 if len(found) == 1 else None)


def _finished(run: ScoredRun) -> float:
    return run.score.order


def _or_below(value: float | None) -> float:
    return -1.0 if value is None else value
