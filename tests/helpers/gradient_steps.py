"""One step of a gradient method on a tiny model, and how well the model still knows its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from tests.helpers.places import ROOT
from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import SilentReporter, Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.methods.base import EraseContext, load_method
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.supervised import Example, answer_loss

CONF = ROOT / "conf" / "method"
STEP = Step(0, tuple(FACTS[:4]), tuple(FACTS[4:]))
REFUSALS = ("I do not know.", "I cannot say.", "No idea.")
# An untrained model is no better than guessing from the start.
UNLEARN = UnlearnConfig(epochs=3, batch_size=4, lr=3e-3, compute="float32", warmup=0.0, stop_retain_loss=100.0)


def shipped(name: str) -> MethodConfig:
    """A method as its yaml has it, without its parts, and a scrub that an untrained model leaves something to do."""
    data = yaml.safe_load((CONF / f"{name}.yaml").read_text("utf-8"))
    data = {key: value for key, value in data.items() if key not in ("defaults", "chain")}
    if name == "scrub":
        short = {"rounds": 1, "steps": 3, "look_every": 1, "repair_steps": 2}
        data["settings"] = {"margin": 20.0, **short, "keep": 100.0, "limit": 100.0}
    for role in ("forget", "retain"):
        data[role] = TermConfig(**data.get(role, {}))
    return MethodConfig(**data)


def context(
    loaded: LoadedModel,
    method: MethodConfig,
    unlearn: UnlearnConfig = UNLEARN,
    adapter: AdapterConfig | None = None,
    directory: Path | None = None,
) -> EraseContext:
    experiment = Experiment(method=method, unlearn=unlearn, adapter=adapter or AdapterConfig())
    return EraseContext(
        experiment, AppliedPatch(loaded), [1], "prompt_last", lambda layer, config: None, SilentReporter(),  # type: ignore[arg-type,return-value]
        refusals=REFUSALS, directory=directory, evaluate=lambda: {"forget": 0.5},
        sample=lambda prompts, seed: [f"Answer {seed} of {len(ids)}." for ids in prompts], reveal=lambda number: ([], 0.0),
    )  # fmt: skip


def erased(method: MethodConfig, *args: Any, loaded: LoadedModel | None = None, **more: Any) -> tuple[LoadedModel, Patch]:
    loaded = loaded or tiny_llama()
    found = context(loaded, method, *args, **more)
    step = more.pop("step", STEP)
    patch, state = load_method(method.implementation or method.name).erase(loaded, step, EditState(), found)
    assert state.steps == 1
    return loaded, patch


def loss_on(loaded: LoadedModel, facts: tuple[Any, ...] = STEP.forget) -> float:
    examples = [Example(*loaded.prompts.pair(fact)) for fact in facts]
    with torch.no_grad():
        return answer_loss(loaded, examples).item()
