"""The training loop: accumulation, schedule, clipping, checkpoints. A resumed run ends like an uninterrupted one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from unierase_cli.contracts import Reporter, UserError, stable_hash
from unierase_cli.models.devices import refuse_spread
from unierase_cli.models.heap import trim
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.room import empty_caches
from unierase_cli.store.refusals import is_out_of_memory
from unierase_cli.training import processes
from unierase_cli.training.checkpoints import load_checkpoint, save_checkpoint
from unierase_cli.training.events import Events
from unierase_cli.training.optimisation import Masters, Optimisation, make_optimizer
from unierase_cli.training.optimizer_state import kept_state, restore_state
from unierase_cli.training.sharding import clip

# Steps between releases of freed memory: batch shapes vary, so a CPU's heap would grow to twice the memory in use.
TRIMMED_EVERY = 8


class Objective(Protocol):
    """The loss to minimise. ``state`` is JSON-serialisable and saved in checkpoints (for example coefficients that change)."""

    state: dict[str, float]

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        """Yield this process's micro-batches of a step: losses whose gradients, summed over all processes, are the step's
        gradients, and the named parts of each loss (nats), which sum up likewise.
        """
        ...

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        """Called with the step's parts; returns a reason to stop training, or None."""
        ...

    def shrink(self) -> bool:
        """After memory ran out, use smaller micro-batches from now on; False if impossible or if it would change the result."""
        ...


@dataclass
class Progress:
    """Progress of a run. ``parts``: named losses per step. ``looks``: quick evaluations. ``stopped``: reason of an early stop."""

    steps: int = 0
    parts: list[dict[str, float]] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)
    stopped: str | None = None


@dataclass(frozen=True)
class LoopPlan:
    """Length and intervals of a run. ``look``, called every ``look_every`` steps, returns named scores and a reason to stop or
    None. ``identity``: the settings that a checkpoint must have been made with.
    """

    steps: int
    seed: int
    checkpoint_every: int = 0
    look_every: int = 0
    look: Callable[[], tuple[dict[str, float], str | None]] | None = None
    directory: Path | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    name: str = "training"
    hint: str = "lower unlearn.lr, or unlearn.compute=float32"


def fit(
    loaded: LoadedModel,
    masters: Masters,
    objective: Objective,
    settings: Optimisation,
    plan: LoopPlan,
    reporter: Reporter,
) -> Progress:
    """Train ``masters`` on the objective; checkpoints and ``events.jsonl`` go to ``plan.directory`` if it is set.

    Raises UserError if a loss is not finite.
    """
    refuse_spread(loaded.model)
    optimizer = make_optimizer(masters.tensors, settings)
    progress = _restore(plan, masters, optimizer, objective, reporter)
    events = Events(plan.directory)
    events.cut(progress.steps)
    masters.publish()
    model = loaded.model
    with reporter.progress(plan.name, plan.steps) as advance:
        advance(progress.steps)
        while progress.steps < plan.steps and progress.stopped is None:
            step = progress.steps
            model.train()
            with _dropout(plan.seed, step, loaded.device):
                parts = _backward(objective, masters, step)
            _check(parts, step, plan)
            masters.take_gradients()
            processes.add_up_gradients(masters.tensors)
            parts["gradient"] = clip(masters.tensors, settings.clip)
            _check({"gradient's norm": parts["gradient"]}, step, plan)
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step, plan.steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            masters.publish()
            model.eval()
            progress.steps += 1
            progress.parts.append(parts)
            progress.stopped = objective.after_step(step, parts)
            numbers = {"lr": settings.rate(step, plan.steps), **parts}
            events.write(progress.steps, numbers)
            reporter.measured(plan.name, progress.steps, numbers)
            advance(1, f"step {progress.steps}, " + ", ".join(f"{k} {v:.3f}" for k, v in parts.items()))
            _look(plan, progress, events, reporter)
            if progress.steps % TRIMMED_EVERY == 0:
                trim()
            ends = progress.steps == plan.steps or progress.stopped is not None
            if plan.directory is not None and not ends and _due(plan.checkpoint_every, progress, plan.steps):
                _save(plan, masters, optimizer, objective, progress)
    return progress


def _backward(objective: Objective, masters: Masters, step: int) -> dict[str, float]:
    """Compute the gradients of a step; returns its losses, summed over micro-batches and processes.

    If memory runs out, the step is repeated with smaller micro-batches, provided that its gradients stay the same.
    """
    while True:
        parts: dict[str, float] = {}
        loss: Tensor | None = None
        try:
            for loss, found in objective.micro_losses(step):
                loss.backward()
                for name, value in found.items():
                    parts[name] = parts.get(name, 0.0) + value
            return processes.add_up_named(parts)
        except Exception as error:
            # With several processes a retry would deadlock: the others wait for this one.
            if not is_out_of_memory(error) or processes.world() > 1 or not objective.shrink():
                raise
        loss = None
        for weight in masters.weights:
            weight.grad = None
        empty_caches()


def _check(parts: dict[str, float], step: int, plan: LoopPlan) -> None:
    for name, value in parts.items():
        if not math.isfinite(value):
            what = name if name.startswith(("loss", "gradient")) else f"{name} loss"
            raise UserError(f"{plan.name}: the {what} became {value} (step {step + 1} of {plan.steps})", plan.hint)


@contextmanager
def _dropout(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Seed the dropout of each step separately, so that a resumed run draws the same masks as an uninterrupted one."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stable_hash(seed, "dropout", step, processes.rank()))
        yield


def _look(plan: LoopPlan, progress: Progress, events: Events, reporter: Reporter) -> None:
    if plan.look is None or not _due(plan.look_every, progress, plan.steps):
        return
    scores, stop = plan.look()
    progress.looks.append({"step": progress.steps, **scores})
    progress.stopped = progress.stopped or stop
    looked = {f"look/{name}": value for name, value in scores.items()}
    events.write(progress.steps, looked)
    reporter.measured(plan.name, progress.steps, looked)
    if not scores:
        # A look that measures elsewhere, as relearning's.
        return
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    reporter.note(f"step {progress.steps}: loss {progress.parts[-1].get('loss', 0.0):.3f}, {told}")


def _due(every: int, progress: Progress, total: int) -> bool:
    return bool(every) and (progress.steps % every == 0 or progress.steps == total or progress.stopped is not None)


def _save(
    plan: LoopPlan, masters: Masters, optimizer: torch.optim.Optimizer, objective: Objective, progress: Progress
) -> None:
    assert plan.directory is not None
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for key, value in kept_state(masters.tensors, optimizer, "master"):
        if processes.rank() == 0:
            (tensors if isinstance(value, Tensor) else scalars)[key] = value
    if processes.rank() == 0:
        record = {"parts": progress.parts, "looks": progress.looks, "stopped": progress.stopped}
        info = {"identity": plan.identity, "state": objective.state, "progress": record, "scalars": scalars}
        save_checkpoint(plan.directory, progress.steps, tensors, info)
    processes.wait()


def _restore(
    plan: LoopPlan, masters: Masters, optimizer: torch.optim.Optimizer, objective: Objective, reporter: Reporter
) -> Progress:
    found = None if plan.directory is None else load_checkpoint(plan.directory, plan.identity, reporter)
    if found is None:
        return Progress()
    info, tensors = found
    restore_state(masters.tensors, optimizer, "master", {**tensors, **info["scalars"]})
    objective.state.update(info["state"])
    reporter.note(f"resuming after step {info['step']} of {plan.steps}")
    return Progress(info["step"], **info["progress"])
