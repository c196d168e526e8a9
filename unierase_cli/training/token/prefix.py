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


@torch.no_grad()
def run_prefix(loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> Prefix:
    """Run prefixes (at least one token each) with the current weights."""
    batch = pad_sequences(sequences, loaded.prompts.pad_id, loaded.device, left=True)
    cache = DynamicCache()
    hidden = loaded.architecture.backbone(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    # Padding is never attended to, but NaN that a kernel left there would propagate as 0 * NaN.
    real = batch.mask[:, None, :, None].bool()
    held: list[Any] = list(cache.layers)
    keys = [torch.where(real.to(layer.keys.device), layer.keys, 0) for layer in held]
    values = [torch.where(real.to(layer.values.device), layer.values, 0) for layer in held]
    # Cloned, so that the other positions' hidden states are freed.
    return Prefix(batch.mask, batch.mask.sum(1), keys, values, hidden[:, -1].clone())


def run_suffix(architecture: Architecture, prefix: Prefix, suffix: Padded, embeddings: Tensor) -> Tensor:
    """Hidden states [B, T, h] after the final norm for the suffixes; differentiable in ``embeddings`` [B, T, h]."""
    return architecture.backbone(
        inputs_embeds=embeddings,
        attention_mask=torch.cat([prefix.mask, suffix.mask], dim=1),
        position_ids=suffix.positions + prefix.lengths[:, None],
        past_key_values=prefix.cache(),
        use_cache=True,
    ).last_hidden_state
