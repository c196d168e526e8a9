"""Fits the rows of unlearning tokens while all other weights of the model stay frozen (spec 1.3, 1.5)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.tensors import save_tensors
from unierase_cli.training.optimizer_state import kept_state, restore_state
from unierase_cli.training.token.noise import Perturbation, Perturbed
from unierase_cli.training.token.pairs import TokenExample
from unierase_cli.training.token.prefix import Prefixes
from unierase_cli.training.unlearning.row_batches import Batch, Leaves, gradients

# Steps between two checks of whether a phase has learned enough.
LOOK_EVERY = 10


@dataclass(frozen=True)
class Phase:
    """Steps over batches of examples in turn, with an optimiser of their own. ``decay``: linear decay of the learning rate to 0;
    ``noisy``: layers with noise (none: prefixes are cached); ``enough``: called every LOOK_EVERY steps with the current rows,
    ends the phase if true.
    """

    name: str
    examples: list[TokenExample]
    steps: int
    lr: float
    decay: bool = False
    noisy: tuple[int, ...] = ()
    perturbation: Perturbation | None = None
    enough: Callable[[], bool] | None = None

    def told(self, losses: Sequence[float]) -> dict[str, Any]:
        """A summary for the record."""
        return {
            "name": self.name,
            "examples": len(self.examples),
            "steps": len(losses),
            "most_steps": self.steps,
            "lr": self.lr,
            "decay": self.decay,
            "noisy_layers": list(self.noisy),
            "losses": list(losses),
        }


@dataclass
class Progress:
    """Progress of a fit: number of finished phases, and every step's loss (nats per labelled token, and what a guard adds)."""

    phase: int = 0
    losses: list[list[float]] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Steps done in the current phase."""
        return len(self.losses[self.phase]) if self.phase < len(self.losses) else 0


def fit_rows(
    loaded: LoadedModel,
    leaves: Leaves,
    phases: Sequence[Phase],
    *,
    batch_size: int,
    reporter: Reporter,
    state_file: Path | None = None,
    prefixes: Prefixes | None = None,
) -> list[list[float]]:
    """Run the phases in order, without shuffling; returns the losses of each phase's steps.

    ``prefixes``: a cache that other users of the same weights share; phases with noise do not use it.
    The model is left unchanged, except for what a phase's ``enough`` does to it. With ``state_file``, rows and optimiser are
    saved after each epoch and before each check; an interrupted fit resumes there and ends with the rows of an uninterrupted
    one. Raises UserError if a loss is not finite.
    """
    progress = Progress()
    plan = [[p.name, p.steps, p.lr, p.decay, p.noisy, [e.ids for e in p.examples]] for p in phases]
    starts = [leaf.detach().clone() for leaf in leaves.parameters]
    identity = hash_json([plan, [start.tolist() for start in starts], batch_size])
    optimizer = _restore(state_file, identity, leaves, phases, progress)
    with reporter.progress("training the token", sum(p.steps for p in phases)) as advance:
        advance(sum(len(losses) for losses in progress.losses))
        while progress.phase < len(phases):
            phase = phases[progress.phase]
            optimizer = optimizer or torch.optim.Adam(leaves.parameters, lr=phase.lr)
            if len(progress.losses) <= progress.phase:
                progress.losses.append([])
            in_epoch = math.ceil(len(phase.examples) / batch_size)
            steps = _steps(loaded, leaves, starts, phase, batch_size, optimizer, progress.step, prefixes)
            while progress.step < phase.steps and not _is_enough(phase, progress.step):
                loss = next(steps)
                progress.losses[-1].append(loss)
                advance(1, f"{phase.name}, loss {loss:.3f}")
                reporter.measured(phase.name, len(progress.losses[-1]), {"loss": loss})
                looks = phase.enough is not None and progress.step % LOOK_EVERY == 0
                if state_file is not None and (looks or progress.step % in_epoch == 0 or progress.step == phase.steps):
                    _save(state_file, identity, leaves, optimizer, progress)
            advance(phase.steps - progress.step)
            progress.phase, optimizer = progress.phase + 1, None
    return progress.losses


def _is_enough(phase: Phase, step: int) -> bool:
    return phase.enough is not None and step > 0 and step % LOOK_EVERY == 0 and phase.enough()


def _steps(
    loaded: LoadedModel,
    leaves: Leaves,
    starts: Sequence[Tensor],
    phase: Phase,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    first: int,
    prefixes: Prefixes | None,
) -> Iterator[float]:
    """The phase's steps from number ``first`` on, yielding each loss before the update."""
    examples = phase.examples
    batches = [Batch(loaded, examples[i : i + batch_size], leaves.ids) for i in range(0, len(examples), batch_size)]
    noise = None if phase.perturbation is None else Perturbed(loaded.architecture, phase.noisy, phase.perturbation)
    prefixes = Prefixes(loaded, 0) if noise is not None else prefixes or Prefixes(loaded)
    for step in range(first, phase.steps):
        batch = batches[step % len(batches)]
        weights: AbstractContextManager[None] = nullcontext() if noise is None else noise.step(step)
        optimizer.zero_grad(set_to_none=True)
        with weights:
            value = gradients(loaded, leaves, batch, prefixes)
        if leaves.guard is not None and leaves.rows_out is not None:
            guarded = leaves.guard(torch.stack(leaves.rows_out))
            guarded.backward()
            value += guarded.item()
        if not math.isfinite(value):
            raise UserError(
                f"token training: the loss became {value} ({phase.name}, step {step + 1})",
                "lower lr in token.stages (token.refine_lr in a refinement), or load the model in float32",
            )
        # Adam skips leaves without a gradient, so tokens that the batch does not use stay unchanged.
        for slot in set(range(len(leaves.ids))) - set(batch.used):
            for leaf in leaves.parameters[slot :: len(leaves.ids)]:
                leaf.grad = None
        if phase.decay:
            optimizer.param_groups[0]["lr"] = phase.lr * (1 - step / phase.steps)
        optimizer.step()
        _stay(leaves, starts)
        yield value


@torch.no_grad()
def _stay(leaves: Leaves, starts: Sequence[Tensor]) -> None:
    """Undo the rows' change along the directions to be kept; Adam scales every number by itself and leaves any subspace."""
    if leaves.kept is not None:
        for leaf, start in zip(leaves.parameters, starts, strict=True):
            leaf.sub_((leaf - start) @ leaves.kept.T @ leaves.kept)


def _save(path: Path, identity: str, leaves: Leaves, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    tensors = dict(kept_state(leaves.parameters, optimizer, "leaf"))
    save_tensors(path, tensors, {"identity": identity, "progress": asdict(progress)})


def _restore(
    path: Path | None, identity: str, leaves: Leaves, phases: Sequence[Phase], progress: Progress
) -> torch.optim.Optimizer | None:
    """Restore what ``_save`` wrote, if it belongs to this fit; returns the current phase's optimiser."""
    if path is None or not path.exists():
        return None
    try:
        with safe_open(str(path), "pt") as file:
            about = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError, RecursionError):
        return None
    if about.get("identity") != identity:
        return None
    progress.phase, progress.losses = about["progress"]["phase"], about["progress"]["losses"]
    optimizer = torch.optim.Adam(leaves.parameters, lr=phases[progress.phase].lr)
    restore_state(leaves.parameters, optimizer, "leaf", tensors)
    return optimizer
