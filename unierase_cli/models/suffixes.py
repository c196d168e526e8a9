"""Re-runs a model only from a key position on and only above a block, for the search for z (spec 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from unierase_cli.models.architecture import Architecture
from unierase_cli.models.partial import Padded, pad_sequences, passing_through, run_lower
from unierase_cli.models.shared_starts import run_prefixes


@dataclass
class Suffixes:
    """Sequences whose tokens before a key position are cached; only the tokens from the key on are re-run.

    ``hidden`` [B, T, h]: output of block ``layer`` from the key on. ``keys``, ``values``: for each later block, the KV
    cache [B, heads, P, size] of the tokens before the key (left padded). ``mask`` [B, P + T]; ``ids``, ``positions``
    [B, T].
    """

    architecture: Architecture
    layer: int
    ids: Tensor
    positions: Tensor
    mask: Tensor
    hidden: Tensor
    keys: list[Tensor]
    values: list[Tensor]

    def select(self, rows: Tensor) -> Suffixes:
        """The same, restricted to some rows (index tensor)."""

        def chosen(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]

        return replace(
            self,
            ids=chosen(self.ids),
            positions=chosen(self.positions),
            mask=chosen(self.mask),
            hidden=chosen(self.hidden),
            keys=[chosen(k) for k in self.keys],
            values=[chosen(v) for v in self.values],
        )

    def forward(self, delta: Tensor) -> Tensor:
        """Last hidden state after the final norm, [B, T, h], with ``delta`` [B, h] added at the key; differentiable in delta."""
        first = self.hidden[:, :1] + delta.to(self.hidden.dtype)[:, None]
        hidden = torch.cat([first, self.hidden[:, 1:]], dim=1)
        cache = self._cache()
        with passing_through(self.architecture, range(self.layer), (self.layer, hidden)):
            output = self.architecture.backbone(
                input_ids=self.ids,
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=cache,
                use_cache=True,
            )
        return output.last_hidden_state

    def _cache(self) -> DynamicCache:
        """A fresh cache with the prefixes; blocks up to ``layer`` only use its length."""
        cache = DynamicCache()
        rows, prefix = self.mask.shape[0], self.mask.shape[1] - self.ids.shape[1]
        if prefix == 0:
            return cache
        blank = self.hidden.new_zeros(rows, 1, prefix, 1)
        for layer in range(self.layer + 1):
            cache.update(blank, blank, layer)
        for offset, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(key, value, self.layer + 1 + offset)
        return cache


@torch.no_grad()
def prepare_suffixes(
    architecture: Architecture,
    sequences: Sequence[Sequence[int]],
    key_indices: Sequence[int],
    layer: int,
    pad_id: int,
    *,
    alike: Sequence[int] | None = None,
) -> Suffixes:
    """Run everything that does not depend on a change of block ``layer``'s output at each sequence's key position.

    Sequences are split at their key into prefixes (all blocks, run once) and suffixes (right padded, blocks up to
    ``layer``). ``alike``: sequences with the same number begin alike, and that is run once for all of them.
    """
    device = architecture.embedding.weight.device
    suffix = pad_sequences([s[k:] for s, k in zip(sequences, key_indices, strict=True)], pad_id, device)
    starts = torch.tensor(list(key_indices), device=device)
    positions = suffix.positions + starts[:, None]
    cache, mask, keys, values = DynamicCache(), suffix.mask, [], []
    if max(key_indices) > 0:
        prefixes = [s[:k] for s, k in zip(sequences, key_indices, strict=True)]
        cache, before = run_prefixes(architecture, prefixes, alike or [0] * len(prefixes), pad_id)
        mask = torch.cat([before, suffix.mask], dim=1)
        for later in range(layer + 1, architecture.n_blocks):
            held = cast(DynamicLayer, cache.layers[later])
            keys.append(cast(Tensor, held.keys))
            values.append(cast(Tensor, held.values))
    found: list[Tensor] = []
    batch = Padded(suffix.ids, mask, positions)
    run_lower(architecture, batch, outputs_of=[layer], on_output=lambda _layer, x: found.append(x.clone()), cache=cache)
    return Suffixes(architecture, layer, suffix.ids, positions, mask, found[0], keys, values)
