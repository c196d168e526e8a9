"""Forget requests as lists of facts: read from a file, looked up, and cleared of repeats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import COMPLETION, Fact, UserError, normalised
from unierase_cli.store.jsonl import iterate_jsonl

# Keys of a task row: ids of facts, or indices into TOFU's ``full``, whose examples have the ids full-0, full-1, ...
FACTS, INDICES = "facts", "full_index"
# Larger task numbers are rejected.
LARGEST = 10**15
EXAMPLE = 'a line looks like {"suite": "mine", "task_id": 1, "facts": ["full-3960", "full-3961"]}'


def read_tasks(config: ModeConfig) -> list[list[str]] | None:
    """Fact ids of each request in ``mode.tasks``, ordered by ``task_id``; None without such a file.

    Rows whose ``kind`` is not forget (closer-look's retain lists) are skipped. Raises UserError for a missing or
    malformed file, for an unknown suite, and for more steps than the file has.
    """
    if config.tasks is None:
        return None
    rows = [(f"{config.tasks}:{n}", row) for n, row in iterate_jsonl(config.tasks) if row.get("kind", "forget") == "forget"]
    suites = list(dict.fromkeys(str(row["suite"]) for _, row in rows if row.get("suite") is not None))
    if config.suite is None and len(suites) > 1:
        raise UserError(f"{config.tasks} has the suites {', '.join(suites)}", f"choose one, e.g. mode.suite={suites[0]}")
    if config.suite is not None and config.suite not in suites:
        raise UserError(f"mode.suite={config.suite} is not in {config.tasks}", _near(config.suite, suites, "mode.suite="))
    rows = [(where, row) for where, row in rows if config.suite is None or str(row.get("suite")) == config.suite]
    if not rows:
        raise UserError(f"{config.tasks} has no forget requests", EXAMPLE)
    found = sorted(((_number(row, where, place), _ids(row, where)) for place, (where, row) in enumerate(rows)), key=_first)
    if config.steps is not None and config.steps > len(found):
        raise UserError(f"mode.steps={config.steps}, and {config.tasks} has {len(found)} requests", "leave it out for all")
    return [ids for _, ids in found[: config.steps]]


def look_up(ids: Sequence[str], facts: Mapping[str, Fact], what: str) -> list[Fact]:
    """The facts with these ids. Raises UserError for an unknown id, with near matches."""
    for name in ids:
        if name not in facts:
            raise UserError(f"{what}: {name!r} is not in the forget set", _near(name, facts))
    return [facts[name] for name in ids]


def settle(requests: Sequence[Sequence[Fact]], *, steps: bool = True) -> tuple[list[list[Fact]], list[str]]:
    """The requests without repeated facts, and a sentence about the repeats and about each request left empty.

    A fact repeats another if it has the same question and the same answer (see ``normalised``). Raises UserError for
    one question with two answers (plain texts may begin alike): after the first is forgotten, it is undefined which one
    should go. ``steps``: the
    requests are steps that the user knows by number; otherwise sentences name only the facts.
    """
    asked: dict[tuple[bool, str], tuple[int, Fact]] = {}
    kept: list[list[Fact]] = []
    repeats: list[str] = []
    remarks: list[str] = []
    for number, request in enumerate(requests, start=1):
        left = []
        for fact in request:
            # Plain texts that begin alike are different texts.
            plain = fact.kind == COMPLETION
            text = plain, normalised(fact.question + fact.answer if plain else fact.question)
            if text not in asked:
                asked[text] = number, fact
                left.append(fact)
                continue
            step, earlier = asked[text]
            if plain or normalised(earlier.answer) == normalised(fact.answer):
                repeats.append(
                    f"{fact.id} of step {number} is in step {step}" if steps else f"{fact.id} repeats {earlier.id}"
                )
            else:
                whose = f"steps {step} and {number} ask" if steps else "the forget set asks"
                raise UserError(
                    f"{whose} to forget one question with two answers: {fact.question!r} ({earlier.id} and {fact.id})",
                    f"leave one of them out of the {'requests' if steps else 'forget set'}",
                )
        if left:
            kept.append(left)
        elif steps:
            remarks.append(f"step {number} only repeats earlier requests, and is left out")
    if repeats:
        remarks.insert(0, f"{len(repeats)} repeated fact(s) are forgotten once: {'; '.join(repeats[:3])}")
    return kept, remarks


def _first(pair: tuple[float, list[str]]) -> float:
    return pair[0]


def _number(row: Mapping[str, Any], where: str, place: int) -> float:
    number = row.get("task_id", place)
    if isinstance(number, bool) or not isinstance(number, int | float) or not -LARGEST < number < LARGEST:  # NaN is neither
        raise UserError(f"{where}: task_id {number!r} is not a number", EXAMPLE)
    return number


def _ids(row: Mapping[str, Any], where: str) -> list[str]:
    if isinstance(row.get(FACTS), list) and all(isinstance(name, str) for name in row[FACTS]):
        found = list(row[FACTS])
    elif isinstance(row.get(INDICES), list) and all(type(index) is int and 0 <= index < LARGEST for index in row[INDICES]):
        found = [f"full-{index}" for index in row[INDICES]]
    else:
        raise UserError(f"{where}: needs `{FACTS}`, a list of ids, or `{INDICES}`, a list of numbers", EXAMPLE)
    if not found:
        raise UserError(f"{where}: the request has no facts", EXAMPLE)
    return found


def _near(name: str, known: Collection[str], word: str = "") -> str:
    near = get_close_matches(name, known, n=3)
    if near:
        return f"did you mean {' or '.join(word + found for found in near)}?"
    shown = list(known)[:3]
    return f"ids look like {', '.join(shown)}" if shown else EXAMPLE
