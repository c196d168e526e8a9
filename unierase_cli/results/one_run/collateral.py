"""The collateral map: each retained group's (author's) loss against its similarity to what was forgotten.

``collateral.json`` is ``{"format": 1, "measure", "likeness", "groups": [{"group", "split", "similarity", "nearest",
"before", "after", "change", "ci95", "n"}], "correlation": {"rho", "p", "n", "exact"} or {"unavailable": reason},
"unavailable": reason or null, "unknown": rows}``, groups with the largest loss first. A group that is scored in two
splits has a row for each; the correlation has one value per group. ``unknown``: scored rows that the benchmark no
longer has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from unierase_cli.benchmarks.parts.neighbours import group_key, nearest_forgotten
from unierase_cli.contracts import Benchmark
from unierase_cli.metrics.scores import BASE, EDITED, Scores
from unierase_cli.metrics.statistics.bootstrap import mean_interval
from unierase_cli.metrics.statistics.rank_correlation import Correlation, spearman
from unierase_cli.results.one_run.tables import NAMES
from unierase_cli.results.table import Table

FORMAT = 1
SPLITS = ("retain_near", "retain_unseen", "retain_protected")
MEASURE = "rouge"
TFIDF = "TF-IDF cosine of the group's questions and answers, names left out"
# Number of groups named in the picture, and of rows in the table.
NAMED, LISTED = 6, 8
COLUMNS = ("group", "split", "alike", "nearest forgotten", "before", "after", "change", "95 % interval", "n")


def collateral_map(scores: Scores, benchmark: Benchmark) -> dict[str, Any]:
    """The map of a scored run.

    A fact without a group is its own group; if no fact of the benchmark has one, the map is unavailable.
    """
    found: dict[str, Any] = {"format": FORMAT, "measure": "ROUGE-L recall", "likeness": TFIDF, "unknown": 0}
    kept = [fact for split in SPLITS for fact in benchmark.splits.get(split, ())]
    facts = {fact.id: fact for fact in [*benchmark.protect, *kept]}
    if all(fact.group is None for fact in [*benchmark.forget, *facts.values()]):
        return _without(found, f"the facts of {benchmark.name} have no groups (such as authors)")
    changes: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for split in SPLITS:
        for fact_id, before, after in _values(scores, split):
            if fact_id in facts:
                changes[group_key(facts[fact_id]), split].append((before, after))
            else:
                found["unknown"] += 1
    if not changes:
        reason = "no retained split was scored before and after"
        return _without(found, "the benchmark has none of the scored rows" if found["unknown"] else reason)
    alike = nearest_forgotten(benchmark.forget, list(facts.values()))
    rows = [_row(*place, values, *alike[place[0]]) for place, values in changes.items()]
    rows.sort(key=lambda row: (row["change"], -row["similarity"], row["group"], row["split"]))
    return {**found, "groups": rows, "correlation": _correlation(changes, alike), "unavailable": None}


def worst_table(found: Mapping[str, Any]) -> Table:
    """The groups that lost most; empty if none lost anything."""
    lost = [row for row in found["groups"] if row["change"] < 0]
    body = tuple(
        (
            row["group"],
            NAMES.get(row["split"], row["split"]),
            f"{row['similarity']:.3f}",
            row["nearest"],
            *(f"{row[key]:.3f}" for key in ("before", "after")),
            f"{row['change']:+.3f}",
            "" if row["ci95"] is None else "{:+.3f} .. {:+.3f}".format(*row["ci95"]),
            str(row["n"]),
        )
        for row in lost[:LISTED]
    )
    told = f"{len(lost)} of {len(found['groups'])} retained groups lost ROUGE-L recall; {association(found)}."
    told += f" Alike: {found['likeness']}."
    single = " For a single question there is no interval." if any(row["ci95"] is None for row in lost[:LISTED]) else ""
    numbers = frozenset(COLUMNS) - {"group", "split", "nearest forgotten"}
    return Table("Collateral damage by group", COLUMNS, body, numbers, told + single)


def association(found: Mapping[str, Any]) -> str:
    """The correlation as a sentence."""
    c = found["correlation"]
    if "unavailable" in c:
        return f"no correlation with similarity: {c['unavailable']}"
    p = f"{c['p']:.3f}" if c["p"] >= 0.001 else f"{c['p']:.0e}"
    return f"Spearman correlation of change and similarity {c['rho']:+.2f} (p = {p}, n = {c['n']} groups)"


def draw(found: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Write the map as a PNG with the names of the groups that lost most."""
    from unierase_cli.results.pictures import GroupPoint, change_against_likeness

    points = [
        GroupPoint(
            row["similarity"],
            row["change"],
            NAMES.get(row["split"], row["split"]),
            row["group"] if number < NAMED and row["change"] < 0 else "",
        )
        for number, row in enumerate(found["groups"])
    ]
    change_against_likeness(points, path, title=title, note=association(found))


def _without(found: Mapping[str, Any], reason: str) -> dict[str, Any]:
    return {**found, "groups": [], "correlation": {"unavailable": reason}, "unavailable": reason}


def _values(scores: Scores, split: str) -> list[tuple[str, float, float]]:
    """(fact id, score before, score after) of a split that was scored row by row in both states."""
    facts = scores.facts.get(f"{split}.plain", [])
    states = [scores.measure(state, f"{split}.{MEASURE}").per_sample for state in (BASE, EDITED)]
    if not facts or any(len(values) != len(facts) for values in states):
        return []
    return list(zip(facts, *states, strict=True))


def _row(key: str, split: str, values: Sequence[tuple[float, float]], similarity: float, nearest: str) -> dict[str, Any]:
    changes = [after - before for before, after in values]
    return {
        "group": _shown(key),
        "split": split,
        "similarity": similarity,
        "nearest": _shown(nearest),
        "before": fmean(before for before, _ in values),
        "after": fmean(after for _, after in values),
        "change": fmean(changes),
        "ci95": mean_interval(changes),
        "n": len(values),
    }


def _correlation(
    changes: Mapping[tuple[str, str], Sequence[tuple[float, float]]], alike: Mapping[str, tuple[float, str]]
) -> dict[str, Any]:
    """Correlation over groups, using each group's mean change over all its questions, so that no group counts twice."""
    pooled: dict[str, list[float]] = defaultdict(list)
    for (key, _), values in changes.items():
        pooled[key] += [after - before for before, after in values]
    found = spearman([alike[key][0] for key in pooled], [fmean(values) for values in pooled.values()])
    return asdict(found) if isinstance(found, Correlation) else {"unavailable": found}


def _shown(key: str) -> str:
    return key.partition(":")[2]
