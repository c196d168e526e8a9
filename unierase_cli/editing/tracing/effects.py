"""Indirect effects: how much of an answer's probability comes back when one state of the corrupted run is put right.

Per fact, with P the answer's probability and noise on the subject's embeddings (Meng et al. 2022, section 2.1),

    total effect = P(clean) - P(corrupted)
    indirect effect of a state = P(corrupted, the state as in the clean run) - P(corrupted)

both averaged over samples of the noise. A state is what a block puts out at one token (``residual``), or what the MLPs
(``mlp``) or attentions (``attention``) of a window of blocks put out there. P is the probability of the answer's first token,
or the mean log-probability of all its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.contracts import UserError, evenly_spaced
from unierase_cli.editing.tracing.prompts import CLASSES, TraceRequest
from unierase_cli.editing.tracing.states import RESIDUAL, Cut, cut, recorded, replaced, run
from unierase_cli.models.architecture import Architecture
from unierase_cli.models.partial import returns_tuple
from unierase_cli.models.room import Room
from unierase_cli.sizes import SCORED_POSITIONS

PROBABILITY, LOG_PROB = "probability", "log_prob"
MEASURES = (PROBABILITY, LOG_PROB)


@dataclass(frozen=True)
class Restoration:
    """States of ``request`` to put right: those at the tokens ``positions``, ascending. ``noise``: [S, subject tokens, h]."""

    request: TraceRequest
    positions: tuple[int, ...]
    noise: Tensor

    @property
    def tokens(self) -> int:
        """Tokens of all its rows."""
        return len(self.noise) * len(self.request.inputs)


@dataclass(frozen=True)
class Restored:
    """Probability of the first token and mean log-probability of the answer: ``clean`` and ``corrupted`` [2], and with the state of
    each kind and block restored [kinds, L, 2]; float32, means over the samples.
    """

    clean: Tensor
    corrupted: Tensor
    restored: Tensor


@dataclass(frozen=True)
class Traced:
    """A fact's ``clean`` and ``corrupted`` values [2] and its indirect effects: kind -> class of tokens -> [L, 2]."""

    fact_id: str
    clean: Tensor
    corrupted: Tensor
    effects: dict[str, dict[str, Tensor]]


def window_around(layer: int, width: int, n_blocks: int) -> range:
    """The blocks of a window of ``width`` with ``layer`` at its centre, cut off at the model's ends."""
    begin = layer - width // 2
    return range(max(begin, 0), min(begin + width, n_blocks))


def check_window(width: int, n_blocks: int) -> None:
    """Raise UserError for a window of which the model has none that leaves a block above it."""
    if not 1 <= width < n_blocks:
        raise UserError(
            f"trace.window={width} does not fit: the model has {n_blocks} blocks, and a window leaves one above it",
            f"type for example trace.window={max(1, n_blocks // 5)}",
        )


def best_window(effects: Sequence[float], width: int, first: int = 0) -> int | None:
    """The centre of the whole window from block ``first`` up with the largest effect, of those that leave a block above; None
    without any.

    ``effects``: one per block that a window is centred on.
    """
    count = len(effects)
    windows = {n: window_around(n, width, count - 1) for n in range(count)}
    whole = [n for n, window in windows.items() if len(window) == width and window[0] >= first]
    return max(whole, key=lambda n: effects[n], default=None)


def trace(
    architecture: Architecture,
    requests: Sequence[TraceRequest],
    noise: Sequence[Tensor],
    kinds: Sequence[str],
    window: int,
    *,
    pad_id: int,
    batch_tokens: int,
    class_tokens: int = 0,
    room: Room | None = None,
) -> list[Traced]:
    """Restore every state of every fact, one token at a time; a class with several tokens gets their mean.

    ``noise``: per request, [S, subject tokens, h]. ``class_tokens``: tokens of a class, at most, evenly spaced; 0 for all.
    """
    wanted = [
        (place, name, Restoration(request, (index,), noise[place]))
        for place, request in enumerate(requests)
        for name, indices in request.positions().items()
        for index in evenly_spaced(indices, class_tokens or len(indices))
    ]
    found: dict[int, Restored] = {}
    for batch in _batches([job for _, _, job in wanted], batch_tokens):
        for part, results in (room or Room()).parts(
            "states to restore",
            batch,
            lambda part: restore(architecture, [wanted[n][2] for n in part], kinds, window, pad_id),
        ):
            found |= dict(zip(part, results, strict=True))
    of_facts: list[list[tuple[str, Restored]]] = [[] for _ in requests]
    for number, (place, name, _) in enumerate(wanted):
        of_facts[place].append((name, found[number]))
    return [_of_fact(request, of_fact, kinds) for request, of_fact in zip(requests, of_facts, strict=True)]


def _of_fact(request: TraceRequest, found: Sequence[tuple[str, Restored]], kinds: Sequence[str]) -> Traced:
    effects: dict[str, dict[str, Tensor]] = {kind: {} for kind in kinds}
    for name in CLASSES:
        each = [one.restored - one.corrupted for where, one in found if where == name]
        if each:
            mean = torch.stack(each).mean(0)
            for place, kind in enumerate(kinds):
                effects[kind][name] = mean[place]
    return Traced(request.fact_id, found[0][1].clean, found[0][1].corrupted, effects)


def _batches(jobs: Sequence[Restoration], batch_tokens: int) -> list[list[int]]:
    """Indices in batches of similar length behind their first restored token, of ``batch_tokens`` tokens at most (one at least)."""
    order = sorted(range(len(jobs)), key=lambda n: (jobs[n].positions[0] - len(jobs[n].request.inputs), n))
    batches: list[list[int]] = []
    held = 0
    for index in order:
        held += jobs[index].tokens
        if not batches or held > batch_tokens:
            batches.append([])
            held = jobs[index].tokens
        batches[-1].append(index)
    return batches


@torch.no_grad()
def restore(
    architecture: Architecture, jobs: Sequence[Restoration], kinds: Sequence[str], window: int, pad_id: int
) -> list[Restored]:
    """What each restoration brings back, for every kind and block, as one batch with all samples of the noise."""
    returns_tuple(architecture)  # asks the model itself, so before anybody listens
    samples = len(jobs[0].noise)
    starts = [job.positions[0] for job in jobs]
    many = [job for job in jobs for _ in range(samples)]
    clean = cut(architecture, [job.request.inputs for job in jobs], starts, pad_id)
    corrupted = cut(
        architecture,
        [job.request.inputs for job in many],
        [job.positions[0] for job in many],
        pad_id,
        [dict(zip(job.request.noisy, noise, strict=True)) for job in jobs for noise in job.noise],
    )
    with recorded(architecture, [*dict.fromkeys([*kinds, RESIDUAL])], clean.ids.shape) as right:
        clean_values = _values(architecture, jobs, run(architecture, clean))
    with recorded(architecture, [RESIDUAL], corrupted.ids.shape) as wrong:
        corrupted_values = _values(architecture, many, run(architecture, corrupted))
    where = torch.zeros(len(jobs), 1, clean.ids.shape[1], 1, dtype=torch.bool)
    for row, job in enumerate(jobs):
        where[row, 0, [index - starts[row] for index in job.positions]] = True
    restored = torch.stack(
        [
            torch.stack(
                [
                    _values(
                        architecture,
                        many,
                        _with_state(architecture, corrupted, kind, layer, window, right[kind], wrong[RESIDUAL], where),
                    )
                    for layer in range(architecture.n_blocks)
                ]
            )
            for kind in kinds
        ]
    )
    means = restored.view(len(kinds), architecture.n_blocks, len(jobs), samples, -1).mean(3)
    bases = corrupted_values.view(len(jobs), samples, -1).mean(1)
    return [Restored(clean_values[n], bases[n], means[:, :, n]) for n in range(len(jobs))]


def _with_state(
    architecture: Architecture,
    rows: Cut,
    kind: str,
    layer: int,
    window: int,
    right: dict[int, Tensor],
    wrong: dict[int, Tensor],
    where: Tensor,
) -> Tensor:
    """Last hidden states of the corrupted rows with one state as in the clean run. Blocks below it are not run again."""
    if kind == RESIDUAL:
        state, hidden = right[layer][:, None], wrong[layer]
        grouped = hidden.view(state.shape[0], -1, *state.shape[2:])
        return run(architecture, rows, (layer, torch.where(where.to(hidden.device), state, grouped).view_as(hidden)))
    blocks = window_around(layer, window, architecture.n_blocks)
    start = (blocks[0] - 1, wrong[blocks[0] - 1]) if blocks[0] else None
    with replaced(architecture, kind, {n: right[n][:, None] for n in blocks}, where):
        return run(architecture, rows, start)


def _values(architecture: Architecture, jobs: Sequence[Restoration], hidden: Tensor) -> Tensor:
    """Probability of the answer's first token and mean log-probability of all its tokens, per row: [B, 2] float32 on the CPU."""
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    for row, job in enumerate(jobs):
        answer, first = job.request.answer, job.request.prompt - 1 - job.positions[0]
        rows += [row] * len(answer)
        columns += range(first, first + len(answer))
        targets += answer
    owner = torch.tensor(rows)
    picked = hidden[owner.to(hidden.device), torch.tensor(columns, device=hidden.device)]
    parts = []
    for start in range(0, len(targets), SCORED_POSITIONS):
        logits = architecture.logits(picked[start : start + SCORED_POSITIONS]).float()
        wanted = torch.tensor(targets[start : start + SCORED_POSITIONS], device=logits.device)
        parts.append(torch.log_softmax(logits, dim=-1).gather(1, wanted[:, None])[:, 0].cpu())
    log_probs = torch.cat(parts)
    if bool(log_probs.isnan().any()):
        raise UserError(
            "the model's log-probabilities are not numbers (NaN)",
            "its weights are damaged or overflow: try model.dtype=float32",
        )
    counts = torch.bincount(owner, minlength=len(jobs))
    first_tokens = counts.cumsum(0) - counts
    means = torch.zeros(len(jobs)).index_add_(0, owner, log_probs) / counts
    return torch.stack([log_probs[first_tokens].exp(), means], dim=1)
