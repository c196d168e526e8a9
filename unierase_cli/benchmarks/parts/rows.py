"""Converts one row of a file to a Fact; every error names file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unierase_cli.contracts import COMPLETION, Fact, UserError, continuing, normalised

KNOWN = frozenset(
    {
        "id", "question", "answer", "subject", "group", "paraphrased_question", "paraphrased_answer",
        "kind", "wrong_answers", "perturbed_answer", "long_answer", "original_answer", "aliases", "paraphrases",
    }
)  # fmt: skip
EXAMPLE = 'a row looks like {"question": "Who ...?", "answer": "..."}'


def fact_from_row(
    row: Mapping[str, Any],
    where: str,
    fact_id: str,
    *,
    group: str | None = None,
    subject: str | None = None,
    question_key: str = "question",
    answer_key: str = "answer",
    kind: str | None = None,
) -> Fact:
    """The row as a Fact; ``where`` is file:line, ``group`` and ``subject`` are used if the row has none.

    ``perturbed_answer`` and ``original_answer`` are TOFU's names for ``wrong_answers`` and ``long_answer``. The first
    of the ``paraphrases`` is used if there is no ``paraphrased_question``; ``aliases`` (other spellings of the answer)
    only help to find out what a model knows. Optional keys may be null. Raises UserError for a missing or empty
    question or answer, for values that are not strings, and for a subject that is not in the question.
    """
    question = read_text(row, question_key, where, required=True)
    answer = read_text(row, answer_key, where, required=True)
    assert question is not None
    assert answer is not None
    subject = read_text(row, "subject", where) or subject
    if subject is not None and subject not in question:
        raise UserError(
            f"{where}: the subject {subject!r} is not in the question {question!r}",
            "copy the subject verbatim from the question, or leave it out to have it found",
        )
    return Fact(
        id=_identifier(row, where) or fact_id,
        question=question,
        answer=answer,
        subject=subject,
        paraphrased_question=read_text(row, "paraphrased_question", where)
        or next(iter(read_texts(row, "paraphrases", where)), None),
        paraphrased_answer=read_text(row, "paraphrased_answer", where),
        wrong_answers=read_texts(row, "wrong_answers", where) or read_texts(row, "perturbed_answer", where),
        group=read_text(row, "group", where) or group,
        long_answer=read_text(row, "long_answer", where) or read_text(row, "original_answer", where),
        kind=kind or _read_kind(row, where),
    )


def completion(fact: Fact) -> Fact:
    """The fact as plain text to continue: a space joins its answer, unless one is there."""
    plain = replace(fact, kind=COMPLETION)
    return replace(plain, answer=continuing(plain, fact.answer))


def _read_kind(row: Mapping[str, Any], where: str) -> str | None:
    kind = read_text(row, "kind", where)
    if kind not in (None, "question", COMPLETION):
        raise UserError(f'{where}: "kind" is {kind!r}', f"write question or {COMPLETION}, or leave it out")
    return None if kind == "question" else kind


def phrasings(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The question and its paraphrases, without repeats."""
    given = [read_text(row, key, where) for key in ("question", "paraphrased_question")]
    found: dict[str, str] = {}
    for text in (*given, *read_texts(row, "paraphrases", where)):
        if text is not None:
            found.setdefault(normalised(text), text)
    return tuple(found.values())


def unknown_keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that no part of the tool reads, sorted."""
    return sorted({str(key) for row in rows for key in row} - KNOWN)


def read_text(row: Mapping[str, Any], key: str, where: str, *, required: bool = False) -> str | None:
    """The row's text under a key, None if there is none.

    Raises UserError for a value that is not a text, and for a missing ``required`` one.
    """
    value = row.get(key)
    if value is None:
        if not required:
            return None
        reason = "is null" if key in row else "is missing"
        raise UserError(f'{where}: "{key}" {reason}', EXAMPLE)
    if not isinstance(value, str):
        raise UserError(f'{where}: "{key}" is {_kind(value)}, not a string', "put the value in double quotes")
    if not value.strip():
        raise UserError(
            f'{where}: "{key}" is empty', "write a text or remove the row" if required else "remove the key"
        )
    return value


def read_texts(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """The row's list of texts under a key, empty if there is none. Raises UserError for anything but a list of texts."""
    values = row.get(key)
    if values is None:
        return ()
    if not isinstance(values, list | tuple):
        raise UserError(f'{where}: "{key}" is {_kind(values)}, not a list of strings', f'write "{key}": ["...", "..."]')
    for value in values:
        if not isinstance(value, str) or not value.strip():
            complaint = "an empty string" if isinstance(value, str) else _kind(value)
            raise UserError(f'{where}: "{key}" holds {complaint}', "every entry must be a text")
    return tuple(values)


def _identifier(row: Mapping[str, Any], where: str) -> str | None:
    value = row.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return read_text(row, "id", where)


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
