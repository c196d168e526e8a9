"""The training loop: AdamW on float32 master weights, loss on the answers' tokens only, goes on where it was interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import cross_entropy

from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.contracts import Reporter, UserError, stable_hash
from unierase_cli.models.load import LoadedModel
from unierase_cli.store.tensors import load_tensors, save_tensors
from unierase_cli.training.precision import choose_compute


@dataclass(frozen=True)
class Example:
    """One sequence: the loss is taken on ``answer_ids`` (the end token among them)."""

    prompt_ids: list[int]
    answer_ids: list[int]


@dataclass
class Progress:
    """What a run has done so far. ``losses``: mean per epoch, nats per answer token. ``scores``: one entry per look."""

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
    state_file: Path | None = None,
    evaluate: Callable[[], dict[str, float]] | None = None,
) -> Progress:
    """Train all weights of ``loaded`` in place; they are float32 afterwards.

    ``examples`` gives the sequences of an epoch, always equally many. Every ``config.look_every`` epochs ``evaluate`` is
    asked, and training ends once all its scores reach ``config.target_rouge``. With ``state_file`` an interrupted run
    goes on from its last look and ends with the weights of an uninterrupted one. Raises UserError on a loss that is
    not a number.
    """
    model = loaded.model
    dtype, reason = choose_compute(config.compute, loaded.device)
    attention = model.config._attn_implementation
    if loaded.device.type == "cpu" and dtype is torch.bfloat16:
        model.set_attn_implementation("eager")  # sdpa has no fast bfloat16 path on CPUs
    reporter.note(f"training in {str(dtype).removeprefix('torch.')} with float32 master weights ({reason})")
    weights = list(model.parameters())
    masters = [p.detach().float().clone() for p in weights]
    _cast(weights, dtype)
    optimizer = _optimizer(masters, config)
    progress = _restore(state_file, masters, optimizer)
    _publish(masters, weights)
    steps = math.ceil(len(examples(0)) / config.batch_size)
    with reporter.progress("training", config.epochs * steps) as advance:
        advance(progress.epochs * steps)
        while progress.epochs < config.epochs and not progress.reached:
            epoch = progress.epochs
            model.train().requires_grad_(True)
            losses: list[float] = []
            for batch in _batches(examples(epoch), config.batch_size, stable_hash(seed, "order", epoch)):
                rate = _schedule(epoch * steps + len(losses), config.epochs * steps, config)
                losses.append(_step(loaded, batch, weights, masters, optimizer, rate, config.clip))
                if not math.isfinite(losses[-1]):
                    where = f"epoch {epoch + 1}, step {len(losses)}"
                    raise UserError(f"the training loss became {losses[-1]} ({where})", "lower train.lr, or train.compute=float32")
                advance(1, f"epoch {epoch + 1}, loss {losses[-1]:.3f}")
            model.eval().requires_grad_(False)
            progress.losses.append(sum(losses) / len(losses))
            progress.epochs += 1
            if progress.epochs % config.look_every == 0 or progress.epochs == config.epochs:
                _look(progress, evaluate, config, reporter)
                if state_file is not None:
                    _save(state_file, masters, optimizer, progress)
    model.set_attn_implementation(attention)
    _cast(weights, torch.float32)
    _publish(masters, weights)
    return progress


def _step(
    loaded: LoadedModel,
    batch: Sequence[Example],
    weights: list[torch.nn.Parameter],
    masters: list[Tensor],
    optimizer: torch.optim.Optimizer,
    rate: float,
    clip: float,
) -> float:
    """One update. Returns the mean loss over the batch's answer tokens, before the update."""
    loss = answer_loss(loaded, batch)
    value = loss.item()
    if not math.isfinite(value):
        return value
    loss.backward()
    for weight, master in zip(weights, masters, strict=True):
        master.grad = None if weight.grad is None else weight.grad.float()
        weight.grad = None
    torch.nn.utils.clip_grad_norm_(masters, clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    _publish(masters, weights)
    return value


def answer_loss(loaded: LoadedModel, batch: Sequence[Example]) -> Tensor:
    """Mean cross-entropy over all answer tokens of the batch; only they go through the head."""
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
    # Padding stands on the right, where a causal model's earlier positions cannot see it: no mask is needed.
    hidden = loaded.architecture.backbone(torch.tensor(padded, device=device), use_cache=False).last_hidden_state
    labelled = hidden[torch.tensor(rows, device=device), torch.tensor(places, device=device)]
    return cross_entropy(loaded.architecture.logits(labelled).float(), torch.tensor(targets, device=device))


def _batches(examples: Sequence[Example], size: int, seed: int) -> list[list[Example]]:
    """Shuffled batches of sequences of similar length: sorted within blocks of eight batches."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator).tolist()
    block = 8 * size
    batches = []
    for start in range(0, len(order), block):
        chosen = [examples[i] for i in order[start : start + block]]
        chosen.sort(key=lambda e: len(e.prompt_ids) + len(e.answer_ids))
        batches += [chosen[i : i + size] for i in range(0, len(chosen), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _schedule(step: int, total: int, config: TrainConfig) -> float:
    """Learning rate: linear warm-up, then a cosine down to a twentieth."""
    warm = max(1, round(config.warmup * total))
    if step < warm:
        return config.lr * (step + 1) / warm
    along = (step - warm) / max(1, total - warm)
    return config.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * along)))


def _optimizer(masters: list[Tensor], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; matrices decay, vectors (norms, biases) do not."""
    groups = [
        {"params": [m for m in masters if m.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [m for m in masters if m.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=(0.9, 0.98), fused=True)


def _cast(weights: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Change the weights' type and leave buffers alone: rounded rotary frequencies would be another model."""
    for weight in weights:
        weight.data = weight.data.to(dtype)


def _publish(masters: list[Tensor], weights: Sequence[Tensor]) -> None:
    """Round the master weights into the model."""
    with torch.no_grad():
        for weight, master in zip(weights, masters, strict=True):
            weight.copy_(master)


def _look(
    progress: Progress, evaluate: Callable[[], dict[str, float]] | None, config: TrainConfig, reporter: Reporter
) -> None:
    if evaluate is None or not config.target_rouge:
        return
    scores = evaluate()
    progress.scores.append({"epoch": progress.epochs, **scores})
    progress.reached = min(scores.values()) >= config.target_rouge
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    reporter.note(f"epoch {progress.epochs}: loss {progress.losses[-1]:.3f}, {told}")


def _save(path: Path, masters: list[Tensor], optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    tensors = {f"master.{i}": master for i, master in enumerate(masters)}
    for i, master in enumerate(masters):
        for name, value in optimizer.state[master].items():
            tensors[f"{name}.{i}"] = value
    save_tensors(path, tensors, {"progress": asdict(progress)})


def _restore(path: Path | None, masters: list[Tensor], optimizer: torch.optim.Optimizer) -> Progress:
    if path is None or not path.exists():
        return Progress()
    tensors = load_tensors(path)
    with safe_open(str(path), "pt") as file:
        progress = Progress(**json.loads(file.metadata()["progress"]))
    for i, master in enumerate(masters):
        master.copy_(tensors[f"master.{i}"])
        names = [key.split(".")[0] for key in tensors if key.endswith(f".{i}") and not key.startswith("master")]
        optimizer.state[master] = {name: tensors[f"{name}.{i}"].to(master.device) for name in names}
    return progress
