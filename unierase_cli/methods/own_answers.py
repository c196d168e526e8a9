"""The unedited model's own answers, which gradient methods train on with ``unlearn.answers=model``.

A pretrained chat model answers in sentences of its own. Training it to keep a benchmark's short answers changes how it
answers every question, and facts are lost with the sentences that led to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from unierase_cli.contracts import Fact, UserError
from unierase_cli.editing.unedited import unedited
from unierase_cli.methods.base import EraseContext
from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes
from unierase_cli.training.unlearning.said import Said, load_said, save_said


def own_answers(
    loaded: LoadedModel, context: EraseContext, facts: Sequence[Fact], step: int
) -> Mapping[str, Said]:
    """Fact id -> the unedited model's greedy answer; empty unless ``unlearn.answers=model``.

    The answers of each ``step`` are kept in the run's folder, so that a resumed run trains on the same ones.
    """
    if context.experiment.unlearn.answers != "model":
        return {}
    file = None if context.directory is None else context.directory / f"said-{step:03d}.jsonl"
    # One process answers, so that all processes train on the same answers.
    return processes.of_first(lambda: _asked(loaded, facts, context, file))


def _asked(loaded: LoadedModel, facts: Sequence[Fact], context: EraseContext, file: Path | None) -> Mapping[str, Said]:
    if file is not None and file.exists():
        return load_said(file)
    if context.answer is None:
        raise UserError("unlearn.answers=model needs a generator, and there is none", "run it by `unierase erase`")
    with context.reporter.phase("own answers"), unedited(context.weights)():
        prompts = [loaded.prompts.prompt(fact.question, fact.kind).ids for fact in facts]
        answers = context.answer(prompts, context.experiment.unlearn.answer_tokens)
    found = {fact.id: said for fact, said in zip(facts, answers, strict=True)}
    if file is not None:
        save_said(file, found)
    return found
