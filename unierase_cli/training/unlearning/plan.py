"""The rows of every training step, derived from the seed alone, so independent of the number of processes, and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import stable_hash
from unierase_cli.store.jsonl import write_jsonl
from unierase_cli.training.unlearning.pairing import closer_look_pair


@dataclass(frozen=True)
class Item:
    """Indices of a forget fact, its retain partner, its refusal and its alternative answer.

    A forget index beyond the request's own facts is that of an earlier request's (``with_rehearsal``).
    """

    forget: int
    retain: int
    refusal: int
    alternate: int = 0


@dataclass(frozen=True)
class Sizes:
    """Numbers of candidates; ``alternates`` per forget fact, by which it multiplies the forget set."""

    forget: int
    retain: int
    refusals: int
    alternates: int = 1


def make_plan(sizes: Sizes, config: UnlearnConfig, seed: int) -> list[list[Item]]:
    """The items of every optimiser step: epochs in sequence, each in its own order, split into batches.

    Steps = floor(epochs * forget rows / batch_size), at least one, at most ``config.max_steps``. Raises UserError if a batch is
    larger than the forget set.
    """
    config.check_batch(sizes.forget * sizes.alternates)
    stream = [item for epoch in range(config.epochs) for item in _epoch(sizes, config.pairing, seed, epoch)]
    steps = max(1, len(stream) // config.batch_size)
    steps = min(steps, config.max_steps) if config.max_steps else steps
    return [stream[n * config.batch_size : (n + 1) * config.batch_size] for n in range(steps)]


def with_rehearsal(
    plan: Sequence[Sequence[Item]], sizes: Sizes, earlier: int, config: UnlearnConfig, seed: int
) -> list[list[Item]]:
    """The plan of a later request, each batch with ``config.rehearsal`` times as many of the ``earlier`` facts.

    Their forget indices follow those of the request's own facts, ``sizes.forget`` of them. All occur before one repeats.
    """
    count = config.rehearsed(max(map(len, plan)), earlier)
    if not count:
        return [list(batch) for batch in plan]
    passes = replace(config, epochs=-(-len(plan) * count // earlier), batch_size=count, max_steps=len(plan))
    others = make_plan(replace(sizes, forget=earlier, alternates=1), passes, seed)
    return [
        [*batch, *(replace(item, forget=sizes.forget + item.forget) for item in more)]
        for batch, more in zip(plan, others, strict=True)
    ]


def forget_batches(count: int, batch_size: int, steps: int, seed: int) -> list[list[Item]]:
    """``steps`` batches of forget facts without partners; all occur before one repeats."""
    size = min(batch_size, count)
    drawn = cycle(count, steps * size, seed, "forget rows")
    return [[Item(i, 0, 0) for i in drawn[n * size : (n + 1) * size]] for n in range(steps)]


def retain_batches(
    near: Sequence[int], every: Sequence[int], share: float, batch_size: int, steps: int, seed: int
) -> list[list[Item]]:
    """``steps`` batches of retain facts: a ``share`` of each from ``near``, the rest from ``every``; neither repeats early."""
    size = min(batch_size, len(every))
    close = min(round(share * size), len(near))
    drawn = [near[i] for i in cycle(len(near), steps * close, seed, "near retain rows")] if close else []
    others = [every[i] for i in cycle(len(every), steps * (size - close), seed, "retain rows")]
    batches = []
    for n in range(steps):
        found = drawn[n * close : (n + 1) * close] + others[n * (size - close) : (n + 1) * (size - close)]
        batches.append([Item(0, r, 0) for r in found])
    return batches


def save_plan(path: Path, plan: Sequence[Sequence[Item]]) -> None:
    """Write the plan as JSON Lines, one step per line, with items as [forget, retain, refusal, alternate]."""
    items = ([[i.forget, i.retain, i.refusal, i.alternate] for i in step] for step in plan)
    write_jsonl(path, [{"step": number, "items": found} for number, found in enumerate(items)])


def _epoch(sizes: Sizes, pairing: str, seed: int, epoch: int) -> list[Item]:
    order = _permutation(sizes.forget * sizes.alternates, seed, "order", epoch)
    places = [divmod(place, sizes.alternates) for place in order]
    if pairing == "closer_look":
        partners = [closer_look_pair(index, max(1, sizes.retain), max(1, sizes.refusals)) for index, _ in places]
    else:
        retain = cycle(sizes.retain, len(places), seed, "retain partners", epoch)
        refusals = cycle(sizes.refusals, len(places), seed, "refusals", epoch)
        partners = list(zip(retain, refusals, strict=True))
    return [Item(i, r, k, a) for (i, a), (r, k) in zip(places, partners, strict=True)]


def cycle(size: int, count: int, seed: int, purpose: str, epoch: int = 0) -> list[int]:
    """``count`` indices below ``size``; none repeats before all have occurred."""
    if not size:
        return [0] * count
    turns = -(-count // size)
    found = [index for turn in range(turns) for index in _permutation(size, seed, purpose, epoch, turn)]
    return found[:count]


def _permutation(size: int, *purpose: object) -> list[int]:
    generator = torch.Generator().manual_seed(stable_hash(*purpose))
    return torch.randperm(size, generator=generator).tolist()
