"""Answers to plain questions before and after, as an audit asked them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unierase_cli.audit import scores
from unierase_cli.audit.base import FORGET, PLAIN, RETAIN, group_of
from unierase_cli.benchmarks.parts.shown import hides_texts
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.stages.attack import read_cases, read_rows
from unierase_cli.stages.shared import audited
from unierase_cli.stages.shared.audit_rows import input_name

if TYPE_CHECKING:
    from unierase_cli.audit.base import Row
    from unierase_cli.results.page.answers import Answer

CONTROL = "a model that never had the facts"


def plain_answers(context: StageContext) -> list[Answer]:
    """The unlearned model's answers, those of the unedited model before them, the control's beside them."""
    from unierase_cli.results.page.answers import Answer

    models = audited.models_of(context.experiment)
    after, before, control = (_rows(context, of) for of in (models.unlearned, models.ceiling, models.control))
    asked = (*audited.attacked(context.study), *audited.kept(context.study))
    groups = {fact.id: group_of(fact) for fact in asked}
    found, hidden = [], hides_texts(context.experiment.benchmark)
    for split in (FORGET, RETAIN):
        for (fact, of_split), row in after.items():
            if of_split != split:
                continue
            was, beside = before.get((fact, split)), control.get((fact, split))
            others = {CONTROL: beside.text} if beside is not None else {}
            text = None if was is None else was.text
            recalls, group = (_recall(was), _recall(row)), groups.get(fact, fact)
            answer = Answer(split, row.question, row.reference, text, row.text, *recalls, others, group)
            found.append(answer.hidden(fact) if hidden else answer)
    return found


def _rows(context: StageContext, of: str | None) -> dict[tuple[str, str], Row]:
    """(fact, split) -> its row; empty where there is no such model."""
    if of is None:
        return {}
    made = context.inputs[input_name(PLAIN, of)]
    return {(row.fact, row.split): row for case in read_cases(made).values() for row in read_rows(made, case)}


def _recall(row: Row | None) -> float | None:
    return None if row is None else scores.by_fact([row]).get(row.fact)
