"""Fitting the rows of unlearning tokens while every other weight of the model stays as it is (spec 1.3, 1.5)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.sizes import PREFIX_BYTES
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.tensors import save_tensors
from unierase_cli.training.optimizer_state import kept_state, restore_state
from unierase_cli.training.token.noise import Perturbation, Perturbed
from unierase_cli.training.token.pairs import TokenExample
from unierase_cli.training.unlearning.row_batches import Batch, Leaves, Prefixes, gradients


@dataclass(frozen=True)
class Phase:
    """Some epochs over some examples with an optimiser of their own. ``decay``: the rate falls to nothing in a straight line;
    ``noisy``: layers with noise (none: prefixes are cached)."""

    name: str
    examples: list[TokenExample]
    epochs: int
    lr: float
    decay: bool = False
    noisy: tuple[int, ...] = ()
    perturbation: Perturbation | None = None

    def told(self, losses: Sequence[float]) -> dict[str, Any]:
        """What goes on record."""
        return {
            "name": self.name,
            "examples": len(self.examples),
            "epochs": self.epochs,
            "lr": self.lr,
            "decay": self.decay,
            "noisy_layers": list(self.noisy),
            "losses": list(losses),
        }


@dataclass
class Progress:
    """How far a fit is: finished phases and epochs of the present one, and every step's loss (nats per labelled token)."""

    phase: int = 0
    epoch: int = 0
    losses: list[list[float]] = field(default_factory=list)


def fit_rows(
    loaded: LoadedModel,
    leaves: Leaves,
    phases: Sequence[Phase],
    *,
    batch_size: int,
    reporter: Reporter,
    state_file: Path | None = None,
) -> list[list[float]]:
    """Run the phases, in order, without shuffling; returns the losses of each phase's steps. The model is left as it was.

    With ``state_file`` rows and optimiser are kept after each epoch; a fit that was interrupted goes on there and ends with
    the rows of an uninterrupted one. Raises UserError on a loss that is not a number.
    """
    progress = Progress()
    plan = [[p.name, p.epochs, p.lr, p.decay, p.noisy, [e.ids for e in p.examples]] for p in phases]
    identity = hash_json([plan, [leaf.tolist() for leaf in leaves.parameters], batch_size])
    optimizer = _restore(state_file, identity, leaves, phases, progress)
    total = sum(p.epochs * math.ceil(len(p.examples) / batch_size) for p in phases)
    with reporter.progress("training the token", total) as advance:
        advance(sum(len(losses) for losses in progress.losses))
        while progress.phase < len(phases):
            phase = phases[progress.phase]
            optimizer = optimizer or torch.optim.Adam(leaves.parameters, lr=phase.lr)
            if len(progress.losses) <= progress.phase:
                progress.losses.append([])
            steps = _steps(loaded, leaves, phase, batch_size, optimizer, progress)
            for loss, ends_epoch in steps:
                progress.losses[-1].append(loss)
                advance(1, f"{phase.name}, loss {loss:.3f}")
                if ends_epoch:
                    progress.epoch += 1
                    if state_file is not None:
                        _save(state_file, identity, leaves, optimizer, progress)
            progress.phase, progress.epoch, optimizer = progress.phase + 1, 0, None
    return progress.losses


def _steps(
    loaded: LoadedModel,
    leaves: Leaves,
    phase: Phase,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> Iterator[tuple[float, bool]]:
    """The steps of a phase that are still to be made: (loss before the update, whether an epoch is complete)."""
    examples = phase.examples
    batches = [Batch(loaded, examples[i : i + batch_size], leaves.ids) for i in range(0, len(examples), batch_size)]
    noise = None if phase.perturbation is None else Perturbed(loaded.architecture, phase.noisy, phase.perturbation)
    prefixes = Prefixes(loaded, PREFIX_BYTES if noise is None else 0)
    for epoch in range(progress.epoch, phase.epochs):
        for number, batch in enumerate(batches):
            step = epoch * len(batches) + number
            weights: AbstractContextManager[None] = nullcontext() if noise is None else noise.step(step)
            optimizer.zero_grad(set_to_none=True)
            with weights:
                value = gradients(loaded, leaves, batch, prefixes)
            if not math.isfinite(value):
                where = f"{phase.name}, epoch {epoch + 1}, step {number + 1}"
                raise UserError(
                    f"token training: the loss became {value} ({where})",
                    "lower lr in token.stages (token.refine_lr in a refinement), or load the model in float32",
                )
            # A token that the batch does not use stays where it is: Adam passes by leaves without a gradient.
            for slot in set(range(len(leaves.ids))) - set(batch.used):
                for leaf in leaves.parameters[slot :: len(leaves.ids)]:
                    leaf.grad = None
            if phase.decay:
                optimizer.param_groups[0]["lr"] = phase.lr * (1 - step / (phase.epochs * len(batches)))
            optimizer.step()
            yield value, number + 1 == len(batches)


def _save(path: Path, identity: str, leaves: Leaves, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    tensors = dict(kept_state(leaves.parameters, optimizer, "leaf"))
    save_tensors(path, tensors, {"identity": identity, "progress": asdict(progress)})


def _restore(
    path: Path | None, identity: str, leaves: Leaves, phases: Sequence[Phase], progress: Progress
) -> torch.optim.Optimizer | None:
    """Take up what ``_save`` left, if it belongs to this fit; returns the present phase's optimiser."""
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
    progress.phase, progress.epoch = about["progress"]["phase"], about["progress"]["epoch"]
    progress.losses = about["progress"]["losses"]
    optimizer = torch.optim.Adam(leaves.parameters, lr=phases[progress.phase].lr)
    restore_state(leaves.parameters, optimizer, "leaf", tensors)
    return optimizer
