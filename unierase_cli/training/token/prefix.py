"""Key-value caches of the tokens before [UNL], which do not depend on the token's rows (spec 1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from unierase_cli.models.architecture import Architecture
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import Padded, pad_sequences
from unierase_cli.models.shared_starts import has_windows
from unierase_cli.sizes import PREFIX_BYTES


@dataclass
class Prefix:
    """A batch of left-padded prefixes. ``mask`` [B, P]; ``lengths`` [B]; ``keys``, ``values``: per block [B, heads, P, size];
    ``last`` [B, h]: hidden state after the final norm at each prefix's last token.
    """

    mask: Tensor
    lengths: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    last: Tensor

    @property
    def bytes(self) -> int:
        """Memory of the keys, values and last states, in bytes."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values, self.last))

    def row(self, index: int) -> Prefix:
        """One of the prefixes by itself, without padding; a copy."""
        real = self.mask[index].bool()

        def cut(tensor: Tensor) -> Tensor:
            return tensor[index : index + 1, :, real.to(tensor.device)]

        mask, ends = self.mask[index : index + 1, real], slice(index, index + 1)
        return Prefix(mask, self.lengths[ends], [*map(cut, self.keys)], [*map(cut, self.values)], self.last[ends].clone())

    def repeated(self, times: int) -> Prefix:
        """A batch of one prefix expanded to ``times`` equal ones, without copying."""
        return Prefix(
            self.mask.expand(times, -1),
            self.lengths.expand(times),
            [key.expand(times, -1, -1, -1) for key in self.keys],
            [value.expand(times, -1, -1, -1) for value in self.values],
            self.last.expand(times, -1),
        )

    def cache(self) -> DynamicCache:
        """A cache that starts with the prefixes; extending it does not change this object."""
        cache = DynamicCache()
        for layer, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(key, value, layer)
        return cache


class Prefixes:
    """Prefixes by their tokens, each run once while the weights stay, up to ``room`` bytes in all."""

    def __init__(self, loaded: LoadedModel, room: int | None = None) -> None:
        self.loaded, self.room = loaded, PREFIX_BYTES if room is None else room
        self._kept: dict[tuple[int, ...], Prefix] = {}

    def of(self, sequences: Sequence[Sequence[int]]) -> Prefix:
        """A batch of prefixes, cached or run now."""
        wanted = [tuple(sequence) for sequence in sequences]
        missing = [prompt for prompt in dict.fromkeys(wanted) if prompt not in self._kept]
        if not missing:
            return joined([self._kept[prompt] for prompt in wanted])
        if not self.room:
            return run_prefix(self.loaded, wanted)
        ran = run_prefix(self.loaded, missing)
        rows = {prompt: ran.row(index) for index, prompt in enumerate(missing)}
        batch = joined([rows[prompt] if prompt in rows else self._kept[prompt] for prompt in wanted])
        for prompt, row in rows.items():
            if row.bytes < self.room:
                self._kept[prompt] = row
                self.room -= row.bytes
        return batch

    def forget(self) -> None:
        """Clear the cache and stop caching."""
        self._kept, self.room = {}, 0


def joined(rows: Sequence[Prefix]) -> Prefix:
    """Prefixes without padding as one left-padded batch."""
    longest = max(row.mask.shape[1] for row in rows)

    def padded(tensors: Sequence[Tensor]) -> Tensor:
        first = tensors[0]
        out = first.new_zeros(len(tensors), *first.shape[1:-2], longest, first.shape[-1])
        for index, tensor in enumerate(tensors):
            out[index, ..., longest - tensor.shape[-2] :, :] = tensor[0]
        return out

    return Prefix(
        padded([row.mask[..., None] for row in rows])[..., 0],
        torch.cat([row.lengths for row in rows]),
        [padded(keys) for keys in zip(*(row.keys for row in rows), strict=True)],
        [padded(values) for values in zip(*(row.values for row in rows), strict=True)],
        torch.cat([row.last for row in rows]),
    )


@torch.no_grad()
def run_prefix(loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> Prefix:
    """Run prefixes (at least one token each) with the current weights; what all of them begin with is run once."""
    start = _shared_start(loaded, sequences)
    cache, mask = _started(loaded, sequences[0][:start], len(sequences))
    batch = pad_sequences([sequence[start:] for sequence in sequences], loaded.prompts.pad_id, loaded.device, left=True)
    mask = torch.cat([mask, batch.mask], dim=1)
    hidden = loaded.architecture.backbone(
        input_ids=batch.ids,
        attention_mask=mask,
        position_ids=batch.positions + start,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    # Padding is never attended to, but NaN that a kernel left there would propagate as 0 * NaN.
    real = mask[:, None, :, None].bool()
    held: list[Any] = list(cache.layers)
    keys = [torch.where(real.to(layer.keys.device), layer.keys, 0) for layer in held]
    values = [torch.where(real.to(layer.values.device), layer.values, 0) for layer in held]
    # Cloned, so that the other positions' hidden states are freed.
    return Prefix(mask, mask.sum(1), keys, values, hidden[:, -1].clone())


def _shared_start(loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> int:
    """Number of first tokens to run once: those that all sequences share, such as a chat template's system turn.

    None where padding behind them would count: attention windows are measured in columns.
    """
    if len(sequences) == 1 or has_windows(loaded.architecture):
        return 0
    shortest = min(len(sequence) for sequence in sequences) - 1
    first = sequences[0]
    return next((n for n in range(shortest) if any(s[n] != first[n] for s in sequences)), shortest)


def _started(loaded: LoadedModel, ids: Sequence[int], rows: int) -> tuple[DynamicCache, Tensor]:
    """A cache for ``rows`` sequences that holds their first tokens ``ids``, and its mask."""
    cache, whole = DynamicCache(), DynamicCache()
    if ids:
        batch = pad_sequences([ids], loaded.prompts.pad_id, loaded.device)
        loaded.architecture.backbone(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, past_key_values=cache, use_cache=True
        )
        held: list[Any] = list(cache.layers)
        for index, layer in enumerate(held):
            whole.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return whole, torch.ones(rows, len(ids), dtype=torch.long, device=loaded.device)


def run_suffix(architecture: Architecture, prefix: Prefix, suffix: Padded, embeddings: Tensor) -> Tensor:
    """Hidden states [B, T, h] after the final norm for the suffixes; differentiable in ``embeddings`` [B, T, h]."""
    return architecture.backbone(
        inputs_embeds=embeddings,
        attention_mask=torch.cat([prefix.mask, suffix.mask], dim=1),
        position_ids=suffix.positions + prefix.lengths[:, None],
        past_key_values=prefix.cache(),
        use_cache=True,
    ).last_hidden_state
