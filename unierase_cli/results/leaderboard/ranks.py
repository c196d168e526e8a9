"""Ranks by balance that say which differences are real: paired tests over the same questions, corrected for their number.

Two rows are compared on the forget and retained questions that all their runs answered, with the same bootstrap resamples and sign
flips of questions in every seed, model and state (``metrics.statistics.paired``). The best rank of a row is 1 + the number of rows
that are significantly above it; the worst is the number of rows that are not significantly below it, itself included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct, structs

from unierase_cli.metrics.scores import BASE, EDITED
from unierase_cli.metrics.statistics.aggregate import Array, harmonic, interval_of, paired_difference_interval, value_of
from unierase_cli.metrics.statistics.paired import FLIPS, aggregate_sign_flip, holm
from unierase_cli.results.many_runs.rows import FORGET, KEPT
from unierase_cli.results.runs import ScoredRun
from unierase_cli.results.two_runs.columns import values_by_fact
from unierase_cli.results.two_runs.pair import unlike
from unierase_cli.results.two_runs.questions import answers
from unierase_cli.results.two_runs.tables import SIGNIFICANT
from unierase_cli.store.artefacts import Store

SPLITS = ("forget", "retain_unseen")
COLUMNS = dict(zip(SPLITS, (FORGET, KEPT), strict=True))
# With so many random sign patterns per pair, p can be small enough after the correction.
FLIPS_PER_PAIR = 100
# Column id -> fact -> value.
Values = Mapping[str, Mapping[str, float]]


class RowPair(Struct, kw_only=True):
    """Two rows, by their numbers in the table: ``second`` - ``first`` balance on the questions that both have.

    ``p``: two-sided sign-flip test; ``holm``: corrected for all pairs of the table.
    """

    first: int
    second: int
    difference: float
    ci95: tuple[float, float] | None = None
    p: float
    holm: float = 1.0


@dataclass(frozen=True)
class Entry:
    """A row's runs by seed, with the ROUGE-L recall of both splits before and after, or the reason why it cannot be compared."""

    runs: Mapping[int, ScoredRun]
    values: Mapping[int, Values]
    lacking: str = ""


def entry_of(runs: Sequence[ScoredRun]) -> Entry:
    values: dict[int, Values] = {}
    for run in runs:
        found = {}
        for column in COLUMNS.values():
            for state in (BASE, EDITED):
                by_fact = values_by_fact(run, column, state)
                if isinstance(by_fact, str):
                    return Entry({r.seed: r for r in runs}, {}, by_fact)
                found[f"{column} {state}"] = by_fact
        values[run.seed] = found
    return Entry({run.seed: run for run in runs}, values)


def balance_interval(entry: Entry) -> tuple[float, float] | None:
    """95 % interval of the mean balance over a row's seeds, resampling questions; None where there is none."""
    members = _members(entry, sorted(entry.values), _facts([entry], sorted(entry.values)))
    return interval_of(members, balances) if members else None


def balances(means: Array) -> Array:
    """Mean over seeds of the balance (``many_runs.rows.balance``), from means as ``_members`` orders them, [4 S, ...]."""
    forget, kept = np.split(means, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        forgotten = np.where(forget[0::2] > 0, 1 - forget[1::2] / forget[0::2], 0.0)
        remaining = np.where(kept[0::2] > 0, kept[1::2] / kept[0::2], 0.0)
    return np.asarray(harmonic(np.clip(np.stack([forgotten, remaining]), 0.0, 1.0)).mean(axis=0))


def tested_pairs(store: Store, entries: Mapping[int, Entry]) -> tuple[list[RowPair], list[str]]:
    """The test of every pair of rows, corrected together, and remarks on pairs that cannot be compared, or not on all seeds.

    ``entries``: in the table's order. A pair that is the other way round on its common seeds would contradict that order.
    """
    questions = {number: _questions(store, entry) for number, entry in entries.items()}
    numbers = list(entries)
    pairs = [(one, other) for place, one in enumerate(numbers) for other in numbers[place + 1 :]]
    flips = max(FLIPS, FLIPS_PER_PAIR * len(pairs))
    made: list[RowPair] = []
    refused: dict[str, list[str]] = {}
    partly: dict[str, list[str]] = {}
    for one, other in pairs:
        found = _differ(questions[one], questions[other]) or _tested(one, other, entries, flips)
        seeds = _some_seeds(entries[one], entries[other])
        if isinstance(found, RowPair) and seeds and found.difference > 0:
            found = f"on {seeds}, which both have, the lower row is above; the table is in order of the means over all seeds"
        if isinstance(found, str):
            refused.setdefault(found, []).append(f"{one} and {other}")
        else:
            made.append(found)
            if seeds:
                partly.setdefault(seeds, []).append(f"{one} and {other}")
    corrected = holm([pair.p for pair in made])
    made = [structs.replace(pair, holm=p) for pair, p in zip(made, corrected, strict=True)]
    told = [f"not compared: rows {', '.join(which)}: {reason}" for reason, which in refused.items()]
    told += [f"compared on {seeds} only, which both have: rows {', '.join(which)}" for seeds, which in partly.items()]
    return made, told


def ranks_of(numbers: Sequence[int], pairs: Sequence[RowPair]) -> dict[int, tuple[int, int]]:
    """Row's number -> its best and its worst rank."""
    real = [(p.second, p.first) if p.difference > 0 else (p.first, p.second) for p in pairs if p.holm <= SIGNIFICANT]
    above = {number: sum(worse == number for _, worse in real) for number in numbers}
    below = {number: sum(better == number for better, _ in real) for number in numbers}
    return {number: (1 + above[number], len(numbers) - below[number]) for number in numbers}


def _tested(one: int, other: int, entries: Mapping[int, Entry], flips: int) -> RowPair | str:
    first, second = entries[one], entries[other]
    if reason := first.lacking or second.lacking:
        return reason
    common = sorted(first.values.keys() & second.values.keys())
    # Rows without a common seed are compared by their means over seeds.
    seeds = [common, common] if common else [sorted(entry.values) for entry in (first, second)]
    paired = zip(*seeds, strict=True) if common else [(seeds[0][0], seeds[1][0])]
    if told := unlike([(first.runs[a], second.runs[b]) for a, b in paired]):
        return "; ".join(told)
    facts = {split: set.intersection(*(_facts([entry], of)[split] for entry, of in zip((first, second), seeds, strict=True)))
             for split in SPLITS}  # fmt: skip
    sides = [_members(entry, of, facts, pooled=not common) for entry, of in zip((first, second), seeds, strict=True)]
    values = [value_of(side, balances) if side else None for side in sides]
    p = aggregate_sign_flip(*sides, statistic=balances, flips=flips) if all(sides) else None
    if p is None or values[0] is None or values[1] is None:
        return "fewer than two questions of a split are common to both"
    interval = paired_difference_interval(*sides, statistic=balances)
    return RowPair(first=one, second=other, difference=values[1] - values[0], ci95=interval, p=p)


def _some_seeds(first: Entry, second: Entry) -> str:
    """The seeds that rows are compared on, where one of them has others too; empty where that is all, or none is common."""
    common = sorted(first.values.keys() & second.values.keys())
    if not common or first.values.keys() == second.values.keys():
        return ""
    return f"seed{'s' * (len(common) != 1)} {', '.join(map(str, common))}"


def _facts(entries: Sequence[Entry], seeds: Sequence[int]) -> dict[str, set[str]]:
    """The questions of each split that all these runs have, before and after."""
    found = {}
    for split, column in COLUMNS.items():
        sets = [set(e.values[s][f"{column} {state}"]) for e in entries for s in seeds for state in (BASE, EDITED)]
        found[split] = set.intersection(*sets) if sets else set()
    return found


def _members(
    entry: Entry, seeds: Sequence[int], facts: Mapping[str, set[str]], *, pooled: bool = False
) -> dict[str, list[float]]:
    """ROUGE-L recall before and after by ``split.seed.state``, in one order of questions; empty where there is nothing.

    ``pooled``: means over seeds, as if of one seed. The labels' order is that which ``balances`` relies on.
    """
    if not seeds or not all(facts.values()):
        return {}
    found = {}
    for split, column in COLUMNS.items():
        order = sorted(facts[split])
        for place, chosen in enumerate([seeds] if pooled else [[seed] for seed in seeds]):
            for number, state in enumerate((BASE, EDITED)):
                columns = [[entry.values[seed][f"{column} {state}"][fact] for fact in order] for seed in chosen]
                found[f"{split}.{place:06d}.{number}"] = [sum(row) / len(row) for row in zip(*columns, strict=True)]
    return found


def _questions(store: Store, entry: Entry) -> dict[str, str]:
    """Fact id -> hash of its content, as the row's runs were asked it, as far as that is still recorded."""
    run = next(iter(entry.runs.values()))
    return {f"{split} {fact}": o.row_hash for split in SPLITS for fact, o in answers(store, run, split).items()}


def _differ(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """Why rows that have the same ids cannot be paired, or an empty text."""
    other = sum(first[fact] != second[fact] for fact in first.keys() & second.keys())
    return f"{other} questions have the same id but different content" if other else ""
