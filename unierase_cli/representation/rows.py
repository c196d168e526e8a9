"""A question and its answer as tokens, with the range of tokens that says the fact (spec: depth, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from unierase_cli.contracts import UserError
from unierase_cli.models.prompts import PromptFormatter
from unierase_cli.representation.entities import Entity

# joint: the answer is encoded once, as the model is trained on it. apart: prefix and rest are encoded one by one, as the
# reference code does it; then an entity may start with tokens that the model has never seen there.
Tokenisation = Literal["joint", "apart"]


@dataclass(frozen=True)
class EntityRow:
    """``ids[start:stop]`` are the entity's tokens; the positions in front of them predict them."""

    fact_id: str
    ids: list[int]
    start: int
    stop: int

    @property
    def positions(self) -> range:
        """Where the entity's tokens are predicted: the positions that are read and patched."""
        return range(self.start - 1, self.stop - 1)

    @property
    def labels(self) -> list[int]:
        """The entity's tokens."""
        return self.ids[self.start : self.stop]


@dataclass(frozen=True)
class EntityRows:
    """Rows, and the ids of facts that have none: their entity is not in the answer, or the sequence exceeds the context."""

    rows: list[EntityRow]
    not_found: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many facts have no row."""
        return len(self.not_found) + len(self.too_long)


def entity_rows(
    prompts: PromptFormatter,
    entities: Sequence[Entity],
    *,
    tokenisation: Tokenisation = "joint",
    style: str | None = "plain",
) -> EntityRows:
    """Rows of entities, in their order. ``style``: "plain" is ``Question: ...\\nAnswer: ...``, None the model's own template.

    ``apart`` always takes the plain prompt. Plain text is continued as it is, in one piece. Raises UserError for another word.
    """
    if tokenisation not in get_args(Tokenisation):
        raise UserError(
            f"there is no tokenisation {tokenisation!r}", f"take one of {', '.join(get_args(Tokenisation))}"
        )
    found = EntityRows([])
    for entity in entities:
        apart = tokenisation == "apart" and not entity.kind
        row = _apart(prompts, entity) if apart else _joint(prompts, entity, entity.kind or style)
        if row is None:
            found.not_found.append(entity.fact_id)
        elif prompts.max_length is not None and len(row.ids) > prompts.max_length:
            found.too_long.append(entity.fact_id)
        else:
            found.rows.append(row)
    return found


def _joint(prompts: PromptFormatter, entity: Entity, style: str | None) -> EntityRow | None:
    """The answer is encoded as a whole; nothing that follows the entity is kept, for nothing looks at it."""
    begin, name = _place(entity.answer, entity, _rest_begins(entity))
    if begin < 0:
        return None
    prompt = prompts.prompt(entity.question, style).ids
    answer, (first, last) = prompts.answer_span(entity.answer, begin, begin + len(name), style=style)
    return EntityRow(entity.fact_id, prompt + answer[:last], len(prompt) + first, len(prompt) + last)


def _apart(prompts: PromptFormatter, entity: Entity) -> EntityRow | None:
    """Prompt with prefix (special tokens added) and rest (none) are encoded one by one."""
    tokenizer = prompts.tokenizer
    text = f"Question: {entity.question}\nAnswer: {entity.prefix}"
    rest = entity.answer[_rest_begins(entity) :]
    if not rest[:1].isspace() and not text[-1].isspace():
        rest = " " + rest
    begin, name = _place(rest, entity, 0)
    if begin < 0:
        return None
    prompt = list(tokenizer(text)["input_ids"])
    encoded = tokenizer(rest, add_special_tokens=False, return_offsets_mapping=True)
    inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < begin + len(name) and b > begin]
    if not inside:
        return None
    first, last = inside[0], inside[-1] + 1
    ids = prompt + list(encoded["input_ids"][:last])
    return EntityRow(entity.fact_id, ids, len(prompt) + first, len(prompt) + last)


def _rest_begins(entity: Entity) -> int:
    """Where the answer goes on after the prefix; 0 where it does not begin with it."""
    return len(entity.prefix) if entity.answer.startswith(entity.prefix) else 0


def _place(text: str, entity: Entity, after: int) -> tuple[int, str]:
    """First occurrence of the entity (else of it without white space around it) from ``after`` on, and how it is written.

    -1 where there is none.
    """
    for name in (entity.entity, entity.entity.strip()):
        if name and (begin := text.find(name, after)) >= 0:
            return begin, name
    return -1, ""
