"""Compares two finished runs question by question: paired tests per column, and the answers that changed most."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unierase_cli.contracts import UserError
from unierase_cli.metrics.statistics.paired import holm
from unierase_cli.results.many_runs.labels import configuration, labelled
from unierase_cli.results.runs import SCORE, UNKNOWN, WILD, ScoredRun, find_runs, unlike_scored
from unierase_cli.results.two_runs.columns import Pair, chosen_columns, compare_column, name_of
from unierase_cli.results.two_runs.compared import ColumnTest, ComparedRun, ComparedSide, Comparison
from unierase_cli.results.two_runs.questions import changed_most, other_questions
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json

# Where the data is and how much of it is scored: rows are matched by id, so these keys may differ between the runs.
BENCHMARK_LEFT_OUT = ("data_dir", "hub", "revision", "rows", "protected_scored", "note")
# Keys of the model that affect how questions are asked.
ASKING = ("prompt", "system", "instruction", "date")
PROTOCOL_LEFT_OUT = ("name", "note", "rows")


@dataclass(frozen=True)
class Side:
    """The runs that one RUN means: one configuration, by seed."""

    word: str
    runs: dict[int, ScoredRun]
    remarks: list[str]


def compare_pair(
    store: Store, words: Sequence[str], *, metrics: Sequence[str] = (), top: int = 5, anyway: bool = False
) -> Comparison:
    """The paired comparison of two RUNs.

    ``metrics``: column ids, names of metrics or splits, or ``all``; default: the columns of the comparison of many
    runs. ``top``: questions per split. Raises UserError for words that are not two runs, for runs that cannot be paired
    (unless ``anyway`` is set and pairing is possible at all), and if no row is common to both.
    """
    if len(words) != 2:
        raise UserError(f"{len(words)} RUN{'s' * (len(words) != 1)} given, but a paired comparison takes two", _hint(len(words)))
    first, second = (_side(store, word) for word in words)
    pairs = _pairs(first, second)
    differing = unlike(pairs) or other_questions(store, pairs)
    if differing and not anyway:
        raise UserError(
            f"these runs cannot be paired: {'; '.join(differing)}",
            "compare runs that differ only in the method, or add --anyway (rows are then matched only by their ids)",
        )
    columns: list[ColumnTest] = []
    untested: list[tuple[str, str]] = []
    for column in chosen_columns(pairs, metrics):
        found = compare_column(pairs, column)
        if isinstance(found, str):
            untested.append((name_of(column), found))
        else:
            columns.append(found)
    if not columns:
        reasons = "; ".join(dict.fromkeys(f"{name}: {reason}" for name, reason in untested[:3]))
        raise UserError(f"nothing can be compared: {reasons}", "choose other columns with --metrics, or other runs")
    corrected = holm([column.test.p for column in columns])
    columns = [replace(column, holm=p) for column, p in zip(columns, corrected, strict=True)]
    labels = _labels(first, second)
    return Comparison(
        first=_describe(first, labels[0], [a for a, _ in pairs]),
        second=_describe(second, labels[1], [b for _, b in pairs]),
        seeds=[(a.seed, b.seed) for a, b in pairs],
        columns=columns,
        questions=changed_most(store, pairs, top),
        remarks=[
            *differing, *unlike_scored(run for pair in pairs for run in pair), *first.remarks, *second.remarks,
            *_on_seeds(first, second, pairs), *_on_rows(columns), *_on_untested(untested),
        ],
    )  # fmt: skip


def _hint(count: int) -> str:
    return "unierase compare RUN RUN" if count < 2 else "unierase report RUN RUN ... puts many runs in one table"


def _side(store: Store, word: str) -> Side:
    """The runs of one word; of several with the same seed, the one with the most questions, then the newest.

    Raises UserError for runs of several configurations.
    """
    runs = find_runs(store, [_with_seeds(store, word)])
    by_configuration: dict[str, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        # A configuration does not contain names, but two methods may differ in nothing else.
        names = [run.config[section]["name"] for section in ("benchmark", "model", "method", "mode")]
        by_configuration[hash_json([names, configuration(run.config)])].append(run)
    if len(by_configuration) > 1:
        examples = [members[-1].name for members in by_configuration.values()]
        shown = ", ".join(examples[:4]) + (", ..." if len(examples) > 4 else "")
        raise UserError(f"{word} means runs of {len(examples)} configurations: {shown}", f"name one, such as {examples[-1]}")
    seeds: dict[int, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        seeds[run.seed].append(run)
    chosen, remarks = {}, []
    for seed, same in sorted(seeds.items()):
        chosen[seed] = max(same, key=lambda run: (run.questions, run.score.order))
        if others := [run.name for run in same if run is not chosen[seed]]:
            remarks.append(f"{chosen[seed].name} is compared; left out, with the same configuration and seed: {', '.join(others)}")
    return Side(word, chosen, remarks)


def _with_seeds(store: Store, word: str) -> str:
    """Expand a slug without a seed to a pattern for all its seeds."""
    name = word.rstrip("/").removeprefix(f"{SCORE}/")
    several = re.compile(re.escape(name) + r"_seed\d+")
    if WILD & set(word) or not any(several.fullmatch(a.path.parent.name) for a in store.list(SCORE)):
        return word
    return f"{name}_seed*"


def _pairs(first: Side, second: Side) -> list[Pair]:
    """Pairs of runs with the same seed, or two single runs whatever their seeds."""
    if common := sorted(first.runs.keys() & second.runs.keys()):
        pairs = [(first.runs[seed], second.runs[seed]) for seed in common]
    elif len(first.runs) == len(second.runs) == 1:
        pairs = list(zip(first.runs.values(), second.runs.values(), strict=True))
    else:
        told = [f"{side.word} has {', '.join(map(str, side.runs))}" for side in (first, second)]
        raise UserError(f"no seed is common to both: {' and '.join(told)}", "name one run of each: NAME@v001")
    same = next((a.name for a, b in pairs if a.score.path.resolve() == b.score.path.resolve()), None)
    if same is not None:
        raise UserError(f"both words mean {same}", "name two different runs")
    return pairs


def unlike(pairs: Sequence[Pair]) -> list[str]:
    """Reasons why two runs cannot be compared: different questions, ways of asking, or unedited models."""
    found = []
    for a, b in pairs:
        for section, left_out in (("benchmark", BENCHMARK_LEFT_OUT), ("protocol", PROTOCOL_LEFT_OUT)):
            old, new = a.config.get(section, {}), b.config.get(section, {})
            for key in [key for key in {**old, **new} if key not in left_out and old.get(key) != new.get(key)]:
                found.append(f"{section}.{key} is {old.get(key)} and {new.get(key)}")
        for key in ASKING:
            old, new = a.config.get("model", {}).get(key), b.config.get("model", {}).get(key)
            if old != new:
                found.append(f"model.{key} is {old} and {new}")
        if a.model != b.model or (a.model == UNKNOWN and _base_key(a) != _base_key(b)):
            found.append(f"their unedited models differ ({a.name}: {a.model[:40]}, {b.name}: {b.model[:40]})")
    return list(dict.fromkeys(found))


def _base_key(run: ScoredRun) -> str | None:
    return run.score.manifest.get("inputs", {}).get("base", {}).get("key")


def _labels(first: Side, second: Side) -> list[str]:
    """Each side's method, with the settings that distinguish the two."""
    runs = [next(iter(side.runs.values())) for side in (first, second)]
    methods = [run.config["method"]["name"] for run in runs]
    if methods[0] != methods[1]:
        return methods
    labels = labelled(methods[0], [configuration(run.config) for run in runs])[0]
    return labels if labels[0] != labels[1] else [f"{label} {run.score.name}" for label, run in zip(labels, runs, strict=True)]


def _describe(side: Side, label: str, runs: Sequence[ScoredRun]) -> ComparedSide:
    return ComparedSide(side.word, label, [ComparedRun(run.name, run.score.key, run.seed) for run in runs])


def _on_seeds(first: Side, second: Side, pairs: Sequence[Pair]) -> list[str]:
    remarks = []
    if len(pairs) > 1:
        remarks.append(f"every question's value is the mean over {len(pairs)} seeds ({_listed([a.seed for a, _ in pairs])})")
    elif pairs[0][0].seed != pairs[0][1].seed:
        remarks.append(f"the runs have different seeds: {pairs[0][0].seed} and {pairs[0][1].seed}")
    used = ({a.seed for a, _ in pairs}, {b.seed for _, b in pairs})
    for side, seeds in zip((first, second), used, strict=True):
        if alone := sorted(side.runs.keys() - seeds):
            remarks.append(f"left out, because the other run has no such seed: {side.word} seed {_listed(alone)}")
    return remarks


def _on_rows(columns: Sequence[ColumnTest]) -> list[str]:
    """Remarks on rows without a partner, with one sentence for all columns that have the same counts."""
    counts: dict[tuple[int, int], list[str]] = defaultdict(list)
    for row in columns:
        counts[row.only_first, row.only_second].append(row.name)
    remarks = [
        f"left out of {', '.join(names)}: {a} rows that only A has and {b} that only B has"
        for (a, b), names in counts.items()
        if a or b
    ]
    if single := [row.name for row in columns if row.test.n == 1]:
        remarks.append(f"for a single row there is no interval and no test: {', '.join(single)}")
    if averaged := [row.name for row in columns if row.yes_no and row.test.mcnemar is None]:
        remarks.append(f"no McNemar test of {', '.join(averaged)}: means over seeds are not yes or no")
    return remarks


def _on_untested(untested: Sequence[tuple[str, str]]) -> list[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, reason in untested:
        reasons[reason].append(name)
    return [f"not compared: {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
