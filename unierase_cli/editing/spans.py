"""Where a fact is edited: its key token in its prompt, in prefixed prompts and in the drift prompt (spec 2.2, 2.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unierase_cli.contracts import Fact, UserError
from unierase_cli.models.prompts import Prompt, PromptFormatter

DRIFT_ENDING = " is a"


@dataclass(frozen=True)
class Located:
    """A prompt and the index of its key token."""

    ids: list[int]
    key: int


@dataclass(frozen=True)
class EditRequest:
    """One fact, ready to be edited.

    ``prompts``: the bare prompt, then one per context prefix. ``target``: token ids that should follow. ``drift``:
    "{subject} is a", whose next-token distribution at its key should not move; None for a fact without a subject.
    """

    fact_id: str
    prompts: tuple[Located, ...]
    target: tuple[int, ...]
    drift: Located | None


def key_index(formatter: PromptFormatter, prompt: Prompt, subject: str | None, key_position: str) -> int:
    """Index of the key token: the last one that overlaps the subject's last occurrence; the prompt's last one for prompt_last
    or without a subject.

    Raises UserError if the subject is not in the question.
    """
    if key_position == "prompt_last" or subject is None:
        return len(prompt.ids) - 1
    begin, end = prompt.question_span
    place = prompt.text.rfind(subject, begin, end)
    if place < 0:
        raise UserError(
            f"the subject {subject!r} is not in the question {prompt.text[begin:end]!r}",
            "correct the fact's subject, or leave it out to have one found",
        )
    return formatter.token_span(prompt, place, place + len(subject))[1] - 1


def drift_prompt(formatter: PromptFormatter, subject: str | None, key_position: str) -> Located | None:
    """The text "{subject} is a" after BOS, cut after its key: the subject's last token, or the last token of the text."""
    if not subject or not subject.strip():
        return None
    prompt = formatter.prompt(subject + DRIFT_ENDING, style="raw")
    if key_position == "prompt_last":
        return Located(prompt.ids, len(prompt.ids) - 1)
    key = formatter.token_span(prompt, prompt.question_span[0], prompt.question_span[0] + len(subject))[1] - 1
    return Located(prompt.ids[: key + 1], key)


def make_requests(
    formatter: PromptFormatter,
    facts: Sequence[Fact],
    targets: Mapping[str, Sequence[int]],
    prefixes: Sequence[str],
    key_position: str,
    *,
    style: str | None = None,
) -> list[EditRequest]:
    """Requests for facts. ``targets``: fact id -> token ids; ``prefixes``: contexts in front of the whole prompt.

    ``style`` overrides the formatter's own for the bare prompt; prefixes are then not possible.
    """
    requests = []
    for fact in facts:
        prompts = [
            formatter.prompt(fact.question, style or fact.kind),
            *(formatter.render_prefixed(fact.question, p, fact.kind) for p in prefixes),
        ]
        located = tuple(Located(p.ids, key_index(formatter, p, fact.subject, key_position)) for p in prompts)
        requests.append(
            EditRequest(fact.id, located, tuple(targets[fact.id]), drift_prompt(formatter, fact.subject, key_position))
        )
    return requests


def without_subject(facts: Sequence[Fact]) -> int:
    """Number of facts without a subject, which are edited at their prompt's last token."""
    return sum(fact.subject is None for fact in facts)
