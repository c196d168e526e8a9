"""Supervised fine-tuning on questions and answers, which makes target models and retain-only models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import Reporter, stable_hash
from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.loop import LoopPlan, fit
from unierase_cli.training.optimisation import Masters, Optimisation
from unierase_cli.training.precision import choose_compute
from unierase_cli.training.unlearning.objective import PURPOSE, drops


@dataclass(frozen=True)
class Example:
    """One sequence; the loss covers ``answer_ids``, end token included."""

    prompt_ids: list[int]
    answer_ids: list[int]


@dataclass
class Learned:
    """The result of a run. ``losses``: mean per epoch, nats per answer token. ``scores``: one entry per evaluation."""

    epochs: int = 0
    losses: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    reached: bool = False


def train(
    loaded: LoadedModel,
    examples: Callable[[int], Sequence[Example]],
    config: TrainConfig,
    *,
    seed: int,
    reporter: Reporter,
    directory: Path | None = None,
    evaluate: Callable[[], dict[str, float]] | None = None,
) -> Learned:
    """Train the weights of ``loaded``, or adapters that are merged into them, in place; they are float32 afterwards.

    ``examples`` returns the sequences of an epoch, always the same number. ``evaluate`` runs every ``config.look_every``
    epochs, and training ends once all its scores reach ``config.target_rouge``. With ``directory``, an interrupted run
    resumes from its last evaluation and ends with the weights of an uninterrupted one. Raises UserError if a loss is not
    finite.
    """
    model = loaded.model
    dtype, reason = choose_compute(config.compute, loaded.device)
    attention = model.config._attn_implementation
    if loaded.device.type == "cpu" and dtype is torch.bfloat16:
        model.set_attn_implementation("eager")  # sdpa has no fast bfloat16 path on CPUs
    reporter.note(f"training in {str(dtype).removeprefix('torch.')} with float32 master weights ({reason})")
    objective = Answers(loaded, examples, config.batch_size, seed)
    per_epoch = objective.per_epoch
    every = config.look_every * per_epoch

    def look() -> tuple[dict[str, float], str | None]:
        assert evaluate is not None
        scores = evaluate()
        reached = min(scores.values()) >= config.target_rouge
        return scores, "every score reaches the target" if reached else None

    plan = LoopPlan(
        config.epochs * per_epoch,
        seed,
        checkpoint_every=every,
        look_every=every,
        look=look if evaluate is not None and config.target_rouge else None,
        directory=directory,
        identity=asdict(config),
        hint="lower train.lr, or train.compute=float32",
    )
    settings = Optimisation(
        config.lr, "cosine", config.warmup, config.weight_decay, (0.9, 0.98), config.clip, batch=config.batch_size
    )
    with _trained(loaded, config.lora_rank, dtype, seed) as masters:
        progress = fit(loaded, masters, objective, settings, plan, reporter)
    model.set_attn_implementation(attention)
    losses = [part["loss"] for part in progress.parts]
    means = [sum(losses[i : i + per_epoch]) / per_epoch for i in range(0, len(losses), per_epoch)]
    scores = [{**look, "epoch": int(look["step"]) // per_epoch} for look in progress.looks]
    return Learned(progress.steps // per_epoch, means, scores, progress.stopped is not None)


@contextmanager
def _trained(loaded: LoadedModel, rank: int, dtype: torch.dtype, seed: int) -> Iterator[Masters]:
    """What trains in ``dtype``: all weights, or (``rank`` above 0) adapters beside frozen ones, merged at the end."""
    model = loaded.model
    weights = Masters(list(model.parameters()), dtype)
    adapter = Adapter(loaded, AdapterConfig("lora", rank, 2 * rank, 0.0), stable_hash(seed, "adapter")) if rank else None
    masters = weights if adapter is None else Masters(adapter.parameters, dtype)
    if adapter is None:
        model.requires_grad_(True)
    changes: dict[str, tuple[Tensor, Tensor]] = {}
    try:
        yield masters
        if adapter is not None:
            masters.finish(torch.float32)
            changes = adapter.changes()
    finally:
        if adapter is not None:
            adapter.remove()
        model.requires_grad_(False)
        model.eval()
    weights.finish(torch.float32)
    for name, (left, right) in changes.items():
        model.get_parameter(name).data += (left @ right.T).to(loaded.device)


def answer_loss(loaded: LoadedModel, batch: Sequence[Example], total: float | None = None) -> Tensor:
    """Cross-entropy of the batch's answer tokens over ``total`` (None: their number); only these go through the head."""
    longest = max(len(e.prompt_ids) + len(e.answer_ids) for e in batch)
    rows, places, targets, padded = [], [], [], []
    for row, example in enumerate(batch):
        ids = example.prompt_ids + example.answer_ids
        padded.append(ids + [loaded.prompts.pad_id] * (longest - len(ids)))
        for place, target in enumerate(example.answer_ids, start=len(example.prompt_ids) - 1):
            rows.append(row)
            places.append(place)
            targets.append(target)
    device = loaded.device
    # Right padding needs no mask: earlier positions of a causal model cannot attend to it.
    hidden = loaded.architecture.backbone(torch.tensor(padded, device=device), use_cache=False).last_hidden_state
    labelled = hidden[torch.tensor(rows, device=device), torch.tensor(places, device=device)]
    logits = loaded.architecture.logits(labelled).float()
    return cross_entropy(logits, torch.tensor(targets, device=device), reduction="sum") / (total or len(targets))


class Answers:
    """The loop's objective: mean cross-entropy of a batch's answer tokens, independent of the number of processes."""

    def __init__(
        self, loaded: LoadedModel, examples: Callable[[int], Sequence[Example]], size: int, seed: int
    ) -> None:
        self.loaded, self.examples, self.size, self.seed = loaded, examples, size, seed
        self.per_epoch = math.ceil(len(examples(0)) / size)
        self.state: dict[str, float] = {}
        self._size = 0
        self._epoch: tuple[int, list[list[Example]]] = (-1, [])

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        epoch, number = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            order = stable_hash(self.seed, "order", epoch)
            self._epoch = (epoch, batches(self.examples(epoch), self.size, order))
        batch = self._epoch[1][number]
        own, total = processes.share(batch), sum(len(e.answer_ids) for e in batch)
        self._size = self.loaded.room.size(PURPOSE, len(own))
        for start in range(0, len(own), max(1, self._size)):
            loss = answer_loss(self.loaded, own[start : start + self._size], total)
            yield loss, {"loss": loss.item()}

    def shrink(self) -> bool:
        return not drops(self.loaded.model) and self.loaded.room.halve(PURPOSE, self._size)

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return None


def batches(examples: Sequence[Example], size: int, seed: int) -> list[list[Example]]:
    """Shuffled batches of sequences of similar length: sorted within blocks of eight batches."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator).tolist()
    block = 8 * size
    found = []
    for start in range(0, len(order), block):
        chosen = [examples[i] for i in order[start : start + block]]
        chosen.sort(key=lambda e: len(e.prompt_ids) + len(e.answer_ids))
        found += [chosen[i : i + size] for i in range(0, len(chosen), size)]
    return [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]
