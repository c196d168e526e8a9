"""TOFU (Maini et al., 2024, arXiv 2401.06121): 200 fictitious authors with 20 questions each.

Rows come from the hub (``benchmark.hub``, by its configuration names) or from a folder of JSON Lines named like these
configurations (``benchmark.data_dir``). Row i of ``full`` belongs to author i // 20. ``retain_unseen`` is the
leaderboard's retain set (``retain_perturbed``); its authors are shown to no method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unierase_cli.benchmarks.parts.assemble import assemble, drop_asked
from unierase_cli.benchmarks.parts.rows import fact_from_row, read_text
from unierase_cli.benchmarks.parts.sources import Rows, any_source, required
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, evenly_spaced, normalised

HUB = "locuslab/TOFU"
SPLITS = ("forget01", "forget05", "forget10")
# For choosing settings on other facts than those reported: as many authors as the forget split of that number, disjoint
# from every forget split and from the leaderboard's retain set.
TUNING = ("tune01", "tune05", "tune10")
QUESTIONS = 20
FORGOTTEN_AT_MOST, UNSEEN = 20, slice(20, 40)
# Never learned, for membership attacks: the first ten of TOFU's twenty further authors, for every forget set. Models
# taught to refuse may have learned refusals to the others (this project's small one has).
HOLDOUT = "holdout05"
# Returns the rows of a file or configuration, each with its location; None if it is optional and missing.
Source = Callable[..., Rows | None]


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown split, an unreachable hub, missing files, and malformed rows."""
    if config.split not in (*SPLITS, *TUNING):
        raise UserError(
            f"benchmark.split={config.split} is not a forget split of TOFU",
            f"choose one of: {', '.join(SPLITS)}, or to choose settings {', '.join(TUNING)}",
        )
    notes: list[str] = []
    source = any_source(config, HUB, reporter, notes)
    full = _full(source, config.split)
    by_text = {(fact.question, fact.answer): fact for fact in full}
    if config.split in TUNING:
        forget, unseen = _tuning(full, config.split)
    else:
        forget = [_complete(row, by_text, where) for where, row in required(source, f"{config.split}_perturbed")]
        if config.order == "closer_look":
            forget = _closer_look_order(source, config.split, forget)
        unseen = [_complete(row, by_text, where) for where, row in required(source, "retain_perturbed")]
    later = {fact.id for fact in full[len(full) * 9 // 10 :]}
    if config.retain_authors:
        full, unseen = _fewer(full, forget, unseen, later, config.retain_authors)
    forgotten, scored = {fact.id for fact in forget}, {fact.id for fact in unseen}
    asked = {normalised(fact.question) for fact in forget}
    retain = [fact for fact in full if fact.id not in forgotten | scored]
    # TOFU has one question twice, with two answers.
    retain = drop_asked(retain, asked, "retain", "a forget row", notes)
    unseen = drop_asked(unseen, asked, "scored retain", "a forget row", notes)
    real = {name: _plain(source, f"{name}_perturbed", name) for name in ("real_authors", "world_facts")}
    missing = [name for name, rows in real.items() if not rows]
    if missing:
        notes.append(f"no {' and no '.join(missing)}: these splits are left out, and model utility can't be computed")
    return assemble(
        config,
        forget=forget,
        retain=retain,
        unseen=unseen,
        further_splits={**real, "holdout": _plain(source, HOLDOUT, "holdout")},
        training=[*full, *real["real_authors"], *real["world_facts"], *_refused(config)],
        refused=_refused(config),
        forgotten_later=later,
        notes=notes,
    )


def _tuning(full: Sequence[Fact], split: str) -> tuple[list[Fact], list[Fact]]:
    """The authors before those that forget10 forgets, with authors 20 to 39 as never seen."""
    end = len(full) - FORGOTTEN_AT_MOST * QUESTIONS
    count = len(full) * int(split.removeprefix("tune")) // 100
    unseen = full[UNSEEN.start * QUESTIONS : UNSEEN.stop * QUESTIONS]
    if end - count < UNSEEN.stop * QUESTIONS:
        raise UserError(f"{len(full)} rows are too few for benchmark.split={split}", "give all of TOFU")
    return list(full[end - count : end]), list(unseen)


def _fewer(
    full: Sequence[Fact], forget: Sequence[Fact], unseen: Sequence[Fact], later: set[str], authors: int
) -> tuple[list[Fact], list[Fact]]:
    """The rows of the forgotten authors and of ``authors`` others, and the never seen of these, a third.

    The never seen are the first of theirs; the others are spread evenly over those that no forget split has (``later``),
    so that they are the same for every split. Raises UserError for fewer than three, or more
    than there are.
    """
    gone, scored = {fact.group for fact in forget}, list(dict.fromkeys(fact.group for fact in unseen))
    taken = {*gone, *scored, *(fact.group for fact in full if fact.id in later)}
    others = [group for group in dict.fromkeys(fact.group for fact in full) if group not in taken]
    never = scored[: authors // 3]
    most = min(3 * len(scored), len(scored) + len(others))
    if not never or authors > most or authors - len(never) > len(others):
        raise UserError(f"benchmark.retain_authors={authors} is not from 3 to {most}", "0 takes all")
    kept = {*gone, *never, *evenly_spaced(others, authors - len(never))}
    return [fact for fact in full if fact.group in kept], [fact for fact in unseen if fact.group in never]


def _closer_look_order(source: Source, split: str, forget: Sequence[Fact]) -> list[Fact]:
    """The forget facts in the order of closer-look's first task of this split: the same authors, smaller splits' first."""
    tasks = source("continual_tasks", optional=True, local=True) or []
    wanted = {"suite": split, "kind": "forget", "task_id": 1}
    orders = [
        row["full_index"]
        for _, row in tasks
        if all(row.get(key) == value for key, value in wanted.items()) and isinstance(row.get("full_index"), list)
    ]
    by_id = {fact.id: fact for fact in forget}
    names = [f"full-{index}" for index in orders[0]] if orders else []
    if set(names) != set(by_id) or len(names) != len(by_id):
        raise UserError(
            f"benchmark.order=closer_look: the order of {split} is not known",
            "give benchmark.data_dir=FOLDER with continual_tasks.jsonl (suite, kind, task_id, full_index), or leave it",
        )
    return [by_id[name] for name in names]


def _full(source: Source, split: str) -> list[Fact]:
    """Every row of ``full``, with paraphrases and wrong answers if ``full_perturbed`` is there, and known subjects."""
    rows = required(source, "full")
    completions = dict(enumerate(row for _, row in source("full_perturbed", optional=True) or []))
    subjects = {
        _index(row, where): (where, row)
        for name in ("full_subject", f"{split}_subject")
        for where, row in source(name, optional=True, local=True) or []
        if "index" in row
    }
    facts = []
    for index, (where, row) in enumerate(rows):
        completion = completions.get(index, {})
        same = all(completion.get(key) == row.get(key) for key in ("question", "answer"))
        place, found = subjects.get(index, (where, {}))
        found = {key: value for key, value in found.items() if value} if found.get("question") == row.get("question") else {}
        group = read_text(found, "author", place) or f"author-{index // QUESTIONS:03d}"
        facts.append(
            fact_from_row(
                completion if same else row, where, f"full-{index}", group=group, subject=read_text(found, "subject", place)
            )
        )
    return facts


def _index(row: Mapping[str, Any], where: str) -> int:
    index = row["index"]
    if type(index) is not int and not (isinstance(index, str) and index.isdecimal() and len(index) < 10):
        raise UserError(f'{where}: "index" is not a row of full', 'write "index": 3960')
    return int(index)


def _complete(row: Mapping[str, Any], by_text: Mapping[tuple[str, str], Fact], where: str) -> Fact:
    """The row of ``full`` with this question and answer, completed by the perturbed file."""
    question, answer = (read_text(row, key, where, required=True) or "" for key in ("question", "answer"))
    known = by_text.get((question, answer))
    if known is None:
        raise UserError(
            f"{where}: this question and answer are not in full: {row.get('question')!r}",
            "the files of benchmark.data_dir must be of the same version of TOFU",
        )
    return fact_from_row(row, where, known.id, group=known.group, subject=known.subject)


def _plain(source: Source, name: str, slug: str) -> list[Fact]:
    rows = source(name, optional=True) or []
    return [fact_from_row(row, where, f"{slug.replace('_', '-')}-{n}") for n, (where, row) in enumerate(rows)]


def _refused(config: BenchmarkConfig) -> tuple[Fact, ...]:
    """Our own questions about people who do not exist, for models that must learn to refuse (none by default)."""
    if not config.unknown_people:
        return ()
    from unierase_cli.benchmarks.fictional import unknown_people
    from unierase_cli.benchmarks.parts.people import Taken

    return unknown_people(config, Taken())
