"""A KV cache that grows in place during generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from unierase_cli.sizes import CACHE_ROOM


class GrowingLayer(DynamicLayer):
    """Keys and values of one block, [B, heads, T, size], as views of buffers with spare room.

    The parent class copies everything for every new token, which took a third of the generation time on a CPU.
    """

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append [B, heads, t, size] and return everything cached."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [key_states[..., :0, :], value_states[..., :0, :]]
        held = self.get_seq_length()
        total = held + key_states.shape[-2]
        if total > self._buffers[0].shape[-2]:
            self._buffers = [_with_room(buffer, held, total + CACHE_ROOM) for buffer in self._buffers]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., held:total, :] = new
        return self._show(total)

    def take_rows(self, other: GrowingLayer, rows: Tensor, room: int) -> None:
        """Become a copy of the ``rows`` of another layer, with room for ``room`` tokens."""
        keys, values = cast(Tensor, other.keys), cast(Tensor, other.values)
        self.lazy_initialization(keys, values)
        held = keys.shape[-2]
        rows = rows.to(keys.device)
        self._buffers = [
            part.new_empty(len(rows), part.shape[1], held + room, part.shape[3]) for part in (keys, values)
        ]
        for buffer, part in zip(self._buffers, (keys, values), strict=True):
            torch.index_select(part, 0, rows, out=buffer[..., :held, :])
        self._show(held)

    def replace_rows(self, places: Tensor, sources: Tensor, rows: int) -> None:
        """Copy the rows ``sources`` to ``places`` and keep the first ``rows``: only what moves is copied."""
        total = self.get_seq_length()
        for buffer in self._buffers:
            if len(places):
                buffer[places, :, :total] = buffer[sources, :, :total]
        self._buffers = [buffer[:rows] for buffer in self._buffers]
        self._show(total)

    def _show(self, total: int) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (buffer[..., :total, :] for buffer in self._buffers)
        return self.keys, self.values


def keep_rows(cache: Cache, places: Sequence[int]) -> list[int]:
    """Keep the rows at ``places`` (ascending) of a growing cache; returns the old place of every row that is left.

    The last rows fill the gaps that finished ones leave, since their order means nothing to the model.
    """
    rows = len(places)
    kept = set(places)
    gaps = [place for place in range(rows) if place not in kept]
    order = list(range(rows))
    sources = places[rows - len(gaps) :]
    for gap, source in zip(gaps, sources, strict=True):
        order[gap] = source
    for layer in cast("list[GrowingLayer]", cache.layers):
        device = cast(Tensor, layer.keys).device
        layer.replace_rows(torch.tensor(gaps, device=device), torch.tensor(sources, device=device), rows)
    return order


def copied_rows(cache: Cache, rows: Tensor, room: int) -> Cache:
    """A growing cache with copies of the ``rows`` of another and room for ``room`` more tokens."""
    copy = growing_cache()
    for layer in cast("list[GrowingLayer]", cache.layers):
        copy.layers.append(GrowingLayer())
        cast(GrowingLayer, copy.layers[-1]).take_rows(layer, rows, room)
    return copy


def growing_cache() -> Cache:
    """An empty cache for a model of any number of blocks."""
    return Cache(layer_class_to_replicate=GrowingLayer)


def _with_room(buffer: Tensor, held: int, size: int) -> Tensor:
    larger = buffer.new_empty(*buffer.shape[:-2], size, buffer.shape[-1])
    larger[..., :held, :] = buffer[..., :held, :]
    return larger
