"""A linear probe tells a fact's entity from another one by the hidden state in front of it (depth, section 7).

Its score is the share of blocks in which the true first token is preferred by a probe that was fitted on other facts; guessing
gives 0.5. The control's score is subtracted as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.inside import BOTH_PROMPTS, entities_and_rows
from unierase_cli.representation.probe import FOLDS, other_tokens, probe_accuracy
from unierase_cli.representation.states import read_states

CLASS, PRESET, VERSION = "inside", "thorough", 1
# As in uds.
SETTINGS: Mapping[str, Any] = {"tokenisation": "joint", "batch_tokens": 2048}
ENTITIES = True
SCORE = "probe"


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return BOTH_PROMPTS


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    loaded = target.loaded
    entities, rows = entities_and_rows(target, loaded, settings, case.values["style"])
    if len(rows) < FOLDS or len({row.labels[0] for row in rows}) < 2:
        target.reporter.warn(
            f"probe is left out: it needs {FOLDS} facts or more, with entities that differ, and there are {len(rows)}"
        )
        return
    states = read_states(loaded, rows, batch_tokens=settings["batch_tokens"])
    blocks = probe_accuracy(loaded, rows, states, other_tokens(rows, target.seed), seed=target.seed)
    known = {entity.fact_id: entity for entity in entities}
    for row, right in zip(rows, zip(*blocks, strict=True), strict=True):
        entity = known[row.fact_id]
        scores = {SCORE: sum(right) / len(right)} | {f"block {block}": value for block, value in enumerate(right)}
        yield Row(row.fact_id, entity.question, entity.entity, "", entity.prefix, scores=scores)
