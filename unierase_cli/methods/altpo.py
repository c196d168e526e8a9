"""AltPO (arXiv 2409.13474): prefers plausible alternative answers, sampled from the model itself, to the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.config.checks import positive
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, Step, UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.settings import method_settings
from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes
from unierase_cli.training.unlearning.alternates import load_alternates, save_alternates

# alternates: how many alternative answers are sampled per question to forget.
SETTINGS: Mapping[str, Any] = {"alternates": 5}
ROWS_PER_FACT = "alternates"
SAMPLES = True
ASK = (
    "The answer to the question below is known: {answer}\n"
    "Write one other answer to it, in the same style, that sounds plausible but states different facts.\n"
    "Question: {question}"
)


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """Run the checks of every gradient method; the alternative answers are sampled later, when the method runs."""
    count = method_settings(SETTINGS, experiment.method)["alternates"]
    positive("method.settings.alternates", count)
    gradient.check(experiment, steps, refusals, alternates=count)


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Sample ``alternates`` alternative answers per question, then train on each of them against the true answer."""
    file = None if context.directory is None else context.directory / f"alternates-{step.index:03d}.jsonl"
    # One process samples, so that all processes train on the same answers.
    drawn = processes.of_first(lambda: _alternates(loaded, step, context, file))
    return gradient.erase(loaded, step, state, context, alternates=drawn)


def _alternates(loaded: LoadedModel, step: Step, context: EraseContext, file: Path | None) -> Mapping[str, list[str]]:
    """Fact id -> answers, saved to ``file`` so that a resumed run trains on the same ones."""
    if file is not None and file.exists():
        return load_alternates(file)
    if context.sample is None:
        raise UserError("AltPO samples answers from the model, but got no sampler", "run it by `unierase erase`")
    seed, count = context.experiment.run.seed, method_settings(SETTINGS, context.experiment.method)["alternates"]
    found: dict[str, list[str]] = {fact.id: [] for fact in step.forget}
    with context.reporter.phase("alternates"), context.reporter.progress("alternative answers", count) as advance:
        for turn in range(count):
            prompts = [_prompt(loaded, fact) for fact in step.forget]
            answers = context.sample(prompts, seed + 7919 * turn)
            for fact, answer in zip(step.forget, answers, strict=True):
                found[fact.id].append(answer.strip() or "I do not know.")
            advance()
    same = sum(answer == fact.answer for fact in step.forget for answer in found[fact.id])
    if same:
        context.reporter.warn(
            f"{same} of {count * len(step.forget)} alternative answers are the true one: "
            "this model does not follow the instruction to give another one"
        )
    if file is not None:
        save_alternates(file, found)
    return found


def _prompt(loaded: LoadedModel, fact: Fact) -> list[int]:
    return loaded.prompts.prompt(ASK.format(question=fact.question, answer=fact.answer)).ids
