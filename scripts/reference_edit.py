"""The reference's edit (AlphaEdit; spec 2.4-2.7), written down again as plainly as it is described; for time and agreement.

One fact at a time for z, full forward passes with logits everywhere, keys by full passes for each layer, one dense solve
for each layer. Nothing here is fast, and nothing is left out that the reference does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.editing.spans import EditRequest, Located
from unierase_cli.models.load import LoadedModel

# Sequences per pass that looks at keys.
ROWS = 128


def reference_edit(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    layers: Sequence[int],
    projections: dict[int, Tensor],
    config: EditConfig,
    at_a_time: int,
) -> dict[int, float]:
    """Norm of each layer's change after editing ``at_a_time`` facts together, P [d, d] by layer; the model is restored."""
    architecture = loaded.architecture
    base = {layer: architecture.weight(layer) for layer in layers}
    earlier = {layer: torch.zeros_like(projections[layer]) for layer in layers}
    for start in range(0, len(requests), at_a_time):
        batch = requests[start : start + at_a_time]
        z = torch.stack([_search(loaded, request, layers[-1], config) for request in batch], dim=1)
        for position, layer in enumerate(layers):
            keys = _keys(loaded, batch, layer)
            residual = (z - _outputs(loaded, [r.prompts[0] for r in batch], layers[-1])) / (len(layers) - position)
            free = projections[layer]
            system = free @ (keys @ keys.T + earlier[layer]) + config.lambda_ * torch.eye(len(keys))
            change = torch.linalg.solve(system, free @ keys @ residual.T).T
            architecture.set_weight(layer, architecture.weight(layer) + change)
        for layer in layers:
            keys = _keys(loaded, batch, layer)
            earlier[layer] += keys @ keys.T
    norms = {layer: float((architecture.weight(layer) - base[layer]).norm()) for layer in layers}
    for layer in layers:
        architecture.set_weight(layer, base[layer])
    return norms


@torch.no_grad()
def reference_moments(
    loaded: LoadedModel, layers: Sequence[int], texts: Sequence[Sequence[int]], rows: int = 16
) -> dict[int, Tensor]:
    """Mean of k k' over the texts' tokens, [d, d] by layer: one full pass for each layer."""
    found = {}
    for layer in layers:
        total = torch.zeros(loaded.architecture.inner_size(layer), loaded.architecture.inner_size(layer))
        for start in range(0, len(texts), rows):
            ids, mask = _padded(loaded, texts[start : start + rows])
            keys = _inputs(loaded, layer, ids, mask)[mask.bool()]
            total += keys.T @ keys
        found[layer] = total / sum(map(len, texts))
    return found


def _search(loaded: LoadedModel, request: EditRequest, layer: int, config: EditConfig) -> Tensor:
    """z [h] of one fact: Adam on a change of the block's output, the norm clamped after each step."""
    values = config.values
    prompts = [*request.prompts, *([request.drift] if request.drift is not None else [])]
    ids, mask = _padded(loaded, [prompt.ids for prompt in prompts])
    rows, at = torch.arange(len(prompts)), torch.tensor([prompt.key for prompt in prompts])
    ends = torch.tensor([len(prompt.ids) - 1 for prompt in request.prompts])
    delta = torch.zeros(loaded.architecture.hidden_size, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=values.lr)
    start = before = None
    for look in range(values.steps):

        def moved(output: Tensor) -> Tensor:
            nonlocal start
            start = output[0, at[0]].detach().clone() if start is None else start
            return output.index_put((rows, at), output[rows, at] + delta)

        with _changed(loaded, layer, moved):
            log_probs = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits.log_softmax(-1)
        loss = -log_probs[: len(ends)][torch.arange(len(ends)), ends, request.target[0]].mean()
        if request.drift is not None:
            drift = log_probs[-1, at[-1]]
            before = drift.detach() if before is None else before
            loss = loss + values.kl_factor * (drift.exp() * (drift - before)).sum()
        assert start is not None
        loss = loss + values.weight_decay * delta.norm() / start.norm() ** 2
        if loss.item() < values.stop_loss or look + 1 == values.steps:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            if delta.norm() > values.clamp * start.norm():
                delta.mul_(values.clamp * start.norm() / delta.norm())
    assert start is not None
    return start + delta.detach()


@torch.no_grad()
def _keys(loaded: LoadedModel, requests: Sequence[EditRequest], layer: int) -> Tensor:
    """Keys [d, n]: half of the bare prompt's, half of the mean over the prefixed ones."""
    prompts = [prompt for request in requests for prompt in request.prompts]
    found = []
    for start in range(0, len(prompts), ROWS):
        some = prompts[start : start + ROWS]
        seen = _inputs(loaded, layer, *_padded(loaded, [prompt.ids for prompt in some]))
        found.append(seen[torch.arange(len(some)), torch.tensor([prompt.key for prompt in some])])
    keys = torch.cat(found).view(len(requests), len(requests[0].prompts), -1)
    return (keys[:, 0] / 2 + keys[:, 1:].mean(1) / 2).T


@torch.no_grad()
def _outputs(loaded: LoadedModel, prompts: Sequence[Located], layer: int) -> Tensor:
    """The block's outputs at the prompts' keys, [h, n]."""
    ids, mask = _padded(loaded, [prompt.ids for prompt in prompts])
    seen: list[Tensor] = []
    with _changed(loaded, layer, lambda output: seen.append(output) or output):  # type: ignore[func-returns-value]
        loaded.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return seen[0][torch.arange(len(prompts)), torch.tensor([prompt.key for prompt in prompts])].T


@torch.no_grad()
def _inputs(loaded: LoadedModel, layer: int, ids: Tensor, mask: Tensor) -> Tensor:
    """Inputs of the layer's down projection at every position, [B, T, d]."""
    seen: list[Tensor] = []
    handle = loaded.architecture.projection(layer).register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
    try:
        loaded.model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        handle.remove()
    return seen[0]


@contextmanager
def _changed(loaded: LoadedModel, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within, the block's output is what ``change`` makes of it."""

    def hook(_module: Any, _given: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = loaded.architecture.blocks[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _padded(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[loaded.prompts.pad_id] * (longest - len(row))] for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
