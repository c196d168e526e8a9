"""A model's states at the tokens of some sequences, and the same sequences run again with some of these states replaced.

A sequence is cut at the first token that will be replaced. What comes before is run once; its attention keys and values are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from unierase_cli.models.architecture import Architecture
from unierase_cli.models.partial import pad_sequences, passing_through

RESIDUAL, MLP, ATTENTION = "residual", "mlp", "attention"


@dataclass
class Cut:
    """Sequences from a token of each on. ``ids``, ``positions``: [B, T]; ``mask``: [B, P + T], prefixes are padded on the left.

    ``keys``, ``values``: per block, [B, heads, P, size], of the prefixes. ``noise`` [B, T, h] is added to the embeddings.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    noise: Tensor | None = None

    def cache(self, skipped: int) -> DynamicCache:
        """A fresh cache of the prefixes. The first ``skipped`` blocks do not run: of theirs only the length counts."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            if layer < skipped:
                keys = values = keys.new_zeros(keys.shape[0], 1, keys.shape[2], 1)
            cache.update(keys, values, layer)
        return cache


@torch.no_grad()
def cut(
    architecture: Architecture,
    sequences: Sequence[Sequence[int]],
    starts: Sequence[int],
    pad_id: int,
    noise: Sequence[Mapping[int, Tensor]] = (),
) -> Cut:
    """The sequences from ``starts`` on, with their prefixes run. ``noise``: per sequence, token index -> [h]; empty for none."""
    device = architecture.embedding.weight.device
    suffix = pad_sequences([s[t:] for s, t in zip(sequences, starts, strict=True)], pad_id, device)
    positions = suffix.positions + torch.tensor(list(starts), device=device)[:, None]
    width = max(starts)
    here = _laid_out(noise, [-t for t in starts], suffix.ids.shape, architecture)
    if width == 0:
        return Cut(suffix.ids, positions, suffix.mask, [], [], here)
    prefix = pad_sequences([s[:t] for s, t in zip(sequences, starts, strict=True)], pad_id, device, left=True)
    before = _laid_out(noise, [width - t for t in starts], prefix.ids.shape, architecture)
    cache = DynamicCache()
    with _added_to_embeddings(architecture, before):
        architecture.backbone(
            input_ids=prefix.ids,
            attention_mask=prefix.mask,
            position_ids=prefix.positions,
            past_key_values=cache,
            use_cache=True,
        )
    real = prefix.mask[:, None, :, None].bool()
    held = [cast(DynamicLayer, layer) for layer in cache.layers]
    # Padding is never attended to, but whatever a kernel left there must not become 0 * NaN.
    keys = [torch.where(real.to(cast(Tensor, layer.keys).device), cast(Tensor, layer.keys), 0) for layer in held]
    values = [torch.where(real.to(cast(Tensor, layer.values).device), cast(Tensor, layer.values), 0) for layer in held]
    return Cut(suffix.ids, positions, torch.cat([prefix.mask, suffix.mask], dim=1), keys, values, here)


@torch.no_grad()
def run(architecture: Architecture, rows: Cut, start: tuple[int, Tensor] | None = None) -> Tensor:
    """Last hidden states [B, T, h] after the final norm. ``start`` (block, its output [B, T, h]): that block and those below do
    not run.
    """
    with ExitStack() as stack:
        if start is None:
            stack.enter_context(_added_to_embeddings(architecture, rows.noise))
        else:
            stack.enter_context(passing_through(architecture, range(start[0]), start))
        output = architecture.backbone(
            input_ids=rows.ids,
            attention_mask=rows.mask,
            position_ids=rows.positions,
            past_key_values=rows.cache(0 if start is None else start[0] + 1),
            use_cache=True,
        )
    return cast(Tensor, output.last_hidden_state)


def module_of(architecture: Architecture, kind: str, layer: int) -> nn.Module:
    """The module whose output a state is: a block, the down projection of its MLP, or the projection that ends its attention."""
    if kind == RESIDUAL:
        return architecture.blocks[layer]
    return architecture.projection(layer) if kind == MLP else architecture.attention_output(layer)


@contextmanager
def recorded(architecture: Architecture, kinds: Sequence[str], size: torch.Size) -> Iterator[dict[str, dict[int, Tensor]]]:
    """While inside, a forward pass of ``size`` = [B, T] tokens leaves its states: kind -> block -> [B, T, h]."""
    found: dict[str, dict[int, Tensor]] = {kind: {} for kind in kinds}

    def keep(kind: str, layer: int) -> Any:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
            seen = output[0] if isinstance(output, tuple) else output
            # A copy: some blocks add to it in place. OPT's run all sequences of a batch as one.
            found[kind][layer] = seen.detach().reshape(*size, -1).clone()

        return hook

    with _hooks((module_of(architecture, k, n), keep(k, n)) for k in kinds for n in range(architecture.n_blocks)):
        yield found


@contextmanager
def replaced(architecture: Architecture, kind: str, states: Mapping[int, Tensor], where: Tensor) -> Iterator[None]:
    """While inside, MLPs or attentions put out ``states`` (block -> [J, 1, T, h]) at the tokens ``where`` [J, 1, T, 1] says.

    A forward pass has J groups of equally many rows.
    """

    def put(state: Tensor) -> Any:
        def hook(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
            rows = output.reshape(state.shape[0], -1, *state.shape[2:])
            return torch.where(where.to(rows.device), state.to(rows), rows).reshape(output.shape)

        return hook

    with _hooks((module_of(architecture, kind, layer), put(state)) for layer, state in states.items()):
        yield


@contextmanager
def _hooks(pairs: Any) -> Iterator[None]:
    handles = []
    try:
        for module, hook in pairs:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _added_to_embeddings(architecture: Architecture, noise: Tensor | None) -> Iterator[None]:
    if noise is None:
        yield
        return
    with _hooks([(architecture.embedding, lambda _m, _a, output: output + noise.to(output))]):
        yield


def _laid_out(
    noise: Sequence[Mapping[int, Tensor]], shifts: Sequence[int], size: torch.Size, architecture: Architecture
) -> Tensor | None:
    """The noise of each sequence at its tokens' columns (index + shift), [B, T, h]; what falls outside is left out."""
    if not noise:
        return None
    out = torch.zeros(*size, architecture.hidden_size)
    for row, (found, shift) in enumerate(zip(noise, shifts, strict=True)):
        for index, vector in found.items():
            if 0 <= index + shift < size[1]:
                out[row, index + shift] = vector
    return out.to(architecture.embedding.weight.device)
