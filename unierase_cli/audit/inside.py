"""What attacks on hidden states share: rows with an entity, the states of three models, and depth scores as an audit's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.depth import Depth, erased_share
from unierase_cli.representation.entities import Entity, entities_of
from unierase_cli.representation.erasure import BlockErasure, weighted_erasure
from unierase_cli.representation.rows import EntityRow, entity_rows
from unierase_cli.representation.states import States, read_states

# What is left of a fact: 0 as in the control, 1 as in the unedited model.
INTACT = "intact"
# With the specification's own prompt, and as the run asks.
BOTH_PROMPTS = (Case("plain prompt", {"style": "plain"}), Case("prompt of the run", {"style": None}))
# What the unedited model loses in a block, by the control's states and by this model's.
LOST_BY_CONTROL, LOST = "lost by the control in", "lost in"
# In place of a fact, where a score is of all of them.
TOGETHER = "all facts"


@dataclass(frozen=True)
class Inside:
    """Rows, and three models' states at their positions. ``full`` is the unedited model."""

    full: LoadedModel
    rows: list[EntityRow]
    entities: Mapping[str, Entity]
    of_full: States
    of_retain: States
    of_unlearned: States


def look_inside(target: Target, settings: Mapping[str, Any], style: str | None) -> Inside:
    """States of the model under audit, of the control and of the unedited model.

    ``settings``: ``tokenisation``, ``last_block``, ``batch_tokens``. Raises UserError without these models, for other tokenizers
    or shapes, and where no fact has an entity.
    """
    full, retain, entities, rows = comparable_rows(target, settings, style)
    states = [
        read_states(model, rows, last_block=settings["last_block"], batch_tokens=settings["batch_tokens"])
        for model in (full, retain, target.loaded)
    ]
    return Inside(full, rows, {entity.fact_id: entity for entity in entities}, *states)


def comparable_rows(
    target: Target, settings: Mapping[str, Any], style: str | None
) -> tuple[LoadedModel, LoadedModel, list[Entity], list[EntityRow]]:
    """The unedited model, the control, and the facts' rows, which are the same tokens in all three models.

    ``settings``: ``tokenisation``. Raises UserError as ``look_inside`` does.
    """
    if target.control is None or target.ceiling is None:
        raise UserError(
            "hidden states need the unedited model and a control", "name them: --ceiling MODEL --control MODEL"
        )
    full, retain = target.ceiling(), target.control()
    entities, rows = entities_and_rows(target, full, settings, style)
    for other, name in ((retain, "control"), (target.loaded, "model under audit")):
        if _shape(other) != _shape(full):
            raise UserError(
                f"the {name} has {_shape(other)}, the unedited model {_shape(full)}",
                "compare models of one architecture",
            )
        made = entity_rows(other.prompts, entities, tokenisation=settings["tokenisation"], style=style)
        if made.rows != rows:
            raise UserError(
                f"the {name} makes other tokens of the facts than the unedited model", "compare models of one family"
            )
    return full, retain, entities, rows


def entities_and_rows(
    target: Target, loaded: LoadedModel, settings: Mapping[str, Any], style: str | None
) -> tuple[list[Entity], list[EntityRow]]:
    """The facts' entities (whole answers without ``target.entities``), and their rows as ``loaded`` tokenizes them.

    What is left out is counted in a note. Raises UserError where no fact has a row.
    """
    entities = entities_of(target.facts, target.entities)
    found = entity_rows(loaded.prompts, entities, tokenisation=settings["tokenisation"], style=style)
    left_out = {
        "are not in the file of entities": len(target.facts) - len(entities),
        "have an answer without their entity": len(found.not_found),
        "do not fit the context": len(found.too_long),
    }
    for reason, count in left_out.items():
        if count:
            target.reporter.note(f"{count} of {len(target.facts)} facts {reason} and are left out")
    if not found.rows:
        raise UserError("no fact of the forget set can be looked for inside", "check audit.entities")
    return entities, found.rows


def depth_rows(target: Target, inside: Inside, depth: Depth, threshold: float) -> Iterator[Row]:
    """One row per fact with a score: 1 - depth, the same of every block that encodes the fact, and the nats per token that are lost
    by the control's states and by the unlearned model's. Notes count the others.
    """
    counts = {
        "are not encoded in any block and have no score": depth.without_block,
        "give no finite logits and have no score": len(depth.failed),
        "are hardly known by the unedited model": depth.unknown,
    }
    for what, count in counts.items():
        if count:
            target.reporter.note(f"{count} of {len(inside.rows)} facts {what}")
    for row in depth.rows:
        if row.score is None:
            continue
        entity = inside.entities[row.fact_id]
        pairs = enumerate(zip(row.retain, row.unlearned, strict=True))
        blocks = {
            name: value
            for block, (retain, unlearned) in pairs
            if retain > threshold
            for name, value in {
                f"block {block}": 1 - erased_share(retain, unlearned),
                f"{LOST_BY_CONTROL} {block}": retain,
                f"{LOST} {block}": unlearned,
            }.items()
        }
        yield Row(
            row.fact_id, entity.question, entity.entity, "", entity.prefix, scores={INTACT: 1 - row.score, **blocks}
        )


def erasure_rows(target: Target, blocks: Sequence[BlockErasure]) -> Iterator[Row]:
    """The one row of a score that all facts have together; none, and a note, where control and unedited model are alike."""
    value = weighted_erasure(blocks)
    if value is None:
        target.reporter.note("the control and the unedited model cannot be told apart in any block: there is no score")
        return
    scores = {INTACT: 1 - value} | {f"block {block.block}": 1 - block.erasure for block in blocks}
    yield Row(TOGETHER, "", "", "", scores=scores)


def _shape(loaded: LoadedModel) -> str:
    return f"{loaded.architecture.n_blocks} blocks of width {loaded.architecture.hidden_size}"


def some(rows: Sequence[EntityRow], count: int) -> list[int]:
    """Indices of the ``count`` shortest rows."""
    return sorted(range(len(rows)), key=lambda index: (rows[index].stop, index))[:count]
