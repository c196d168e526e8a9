"""Trains the model on a few facts and asks it as it learns; afterwards it is restored bit for bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import gcd

import torch
from torch import Tensor

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import RETAIN, TRAINED, Row, Target
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import Fact, UserError, evenly_spaced, stable_hash
from unierase_cli.models.devices import refuse_spread
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.room import is_out_of_memory
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.loop import LoopPlan, fit
from unierase_cli.training.optimisation import Masters, Optimisation
from unierase_cli.training.precision import choose_compute
from unierase_cli.training.supervised import Answers, Example

# Rank and scale of the adapters (Che et al., model tampering; RepSelect).
RANK, ALPHA = 16, 32
# A model above this many parameters is trained with adapters alone: AdamW on all weights does not fit one device.
LARGEST_WHOLE = 3_000_000_000

# So many of the facts that it is trained on are asked, to see whether it has learned them.
SAMPLE = 24


@dataclass(frozen=True)
class Training:
    """How a copy is trained: AdamW, cross-entropy of the answers' tokens with their end token, at a rate that stays (``schedule``
    constant) or falls to 0 (linear) after ``warmup`` steps. ``whole``: all weights, else LoRA on every linear layer of the blocks;
    ``frozen``: but for the unlearning tokens' rows. ``looks``: step after which it is asked -> what that is called, the headline
    first. ``same``: what is trained on is asked too.
    """

    lr: float
    looks: Mapping[int, str]
    batch: int
    whole: bool
    warmup: int = 0
    frozen: bool = False
    schedule: str = "constant"
    same: bool = False


def after_steps(steps: Sequence[int]) -> dict[int, str]:
    """Looks that are called by their steps."""
    return {step: f"{step} steps" for step in steps}


def relearned(target: Target, learned: Sequence[Fact], asked: Sequence[Fact], training: Training) -> list[Row]:
    """What the model says to ``asked`` while it is trained on ``learned``: at the headline look first, with what is kept and some
    of what it trained on; then at the others. Nothing for a model that is too large to train whole, or without peft for adapters.

    No fact that is asked is ever trained on, unless ``training.same``: one that says the same as a learned one is not asked.
    """
    size = sum(p.numel() for p in target.loaded.model.parameters())
    if training.whole and size > LARGEST_WHOLE:
        target.reporter.note(
            f"relearning with all weights is left out: the model has {size / 1e9:.1f} billion parameters, "
            f"more than {LARGEST_WHOLE / 1e9:.0f} billion"
        )
        return []
    if not training.whole and not _has_peft():
        target.reporter.warn("relearning with adapters is left out: pip install 'unierase[lora]'")
        return []
    taught = {fact.content_hash for fact in learned}
    apart = [fact for fact in asked if training.same or fact.content_hash not in taught]
    sample = evenly_spaced(learned, SAMPLE)
    found: dict[int, list[Row]] = {}

    def look(step: int) -> None:
        rows = answers(target, apart, probability=True)
        if step == next(iter(training.looks)):
            rows += answers(target, target.kept, split=RETAIN) + answers(target, sample, split=TRAINED)
        found[step] = [replace(row, at=training.looks[step]) for row in rows]

    try:
        _train(target, learned, training, look)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        hint = "leave training all weights out: audit.settings.NAME.lr=[] leaves LoRA" if training.whole else "eval.batch_size=1"
        raise UserError("relearning does not fit the memory", hint) from error
    return [row for step in training.looks for row in found.get(step, [])]


def _has_peft() -> bool:
    return importlib.util.find_spec("peft") is not None


def _train(target: Target, learned: Sequence[Fact], training: Training, look: object) -> None:
    loaded = target.loaded
    prompts = loaded.prompts
    examples = [Example(*prompts.pair(fact)) for fact in learned]
    objective = Answers(loaded, lambda epoch: examples, training.batch, target.seed)
    steps, every = max(training.looks), gcd(*training.looks)
    seen = 0

    def looked() -> tuple[dict[str, float], str | None]:
        nonlocal seen
        seen += every
        if seen in training.looks:
            look(seen)  # type: ignore[operator]
        return {}, None

    plan = LoopPlan(steps, target.seed, look_every=every, look=looked, name="relearning", hint="lower audit.settings.NAME.lr")
    warmup = min(training.warmup, steps) / steps
    settings = Optimisation(training.lr, training.schedule, warmup, 0.0, batch=training.batch)
    frozen = frozen_rows(loaded) if training.frozen else nullcontext()
    with trainable(loaded, training.whole, stable_hash(target.seed, "adapter")) as masters, frozen:
        fit(loaded, masters, objective, settings, plan, target.reporter)


@contextmanager
def frozen_rows(loaded: LoadedModel) -> Iterator[None]:
    """Inside, no gradient reaches the unlearning tokens' rows of embedding and head, so that AdamW without decay keeps them."""
    ends = {id(end): end for end in (loaded.architecture.embedding.weight, loaded.architecture.head.weight)}

    def without(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[loaded.unlearn_ids] = 0.0
        return gradient

    hooks = [end.register_hook(without) for end in ends.values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def trainable(loaded: LoadedModel, whole: bool, seed: int) -> Iterator[Masters]:
    """Inside, the model trains through the masters: all of it, or adapters on it. It is given back as it was."""
    refuse_spread(loaded.model)
    model, attention = loaded.model, loaded.model.config._attn_implementation
    kept: dict[str, Tensor] = {}
    adapter: Adapter | None = None
    try:
        if whole:
            kept = {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters()}
            dtype, _ = choose_compute("auto", loaded.device)
            if loaded.device.type == "cpu" and dtype is torch.bfloat16:
                model.set_attn_implementation("eager")  # sdpa has no fast bfloat16 path on CPUs
            model.requires_grad_(True)
            yield Masters(list(model.parameters()), dtype)
        else:
            adapter = Adapter(loaded, AdapterConfig("lora", RANK, ALPHA, 0.0), seed)
            yield Masters(adapter.parameters, torch.float32)
    finally:
        if adapter is not None:
            adapter.remove()
        for name, parameter in model.named_parameters():
            parameter.grad = None
            if name in kept:
                parameter.data = kept[name].to(parameter.device, copy=True)
        model.requires_grad_(False)
        model.eval()
        model.set_attn_implementation(attention)
