"""Keys and values of many sequences, of which what several begin with is run once."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from unierase_cli.models.architecture import Architecture
from unierase_cli.models.narrow import mlp_at
from unierase_cli.models.partial import pad_sequences

# Tokens that have to be saved for another pass to pay.
LEAST = 64


def has_windows(architecture: Architecture) -> bool:
    """Whether attention counts columns, so that padding between tokens would count: it has windows, or it places tokens by
    their columns alone (BLOOM, MPT).
    """
    backbone = architecture.backbone
    config = backbone.config.get_text_config()  # type: ignore[operator, union-attr]
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    windows = getattr(config, "sliding_window", None) or getattr(config, "window_size", None)  # GPT-Neo's
    return bool(windows or kinds) or "position_ids" not in signature(backbone.forward).parameters


@torch.no_grad()
def run_prefixes(
    architecture: Architecture, sequences: Sequence[Sequence[int]], alike: Sequence[int], pad_id: int
) -> tuple[DynamicCache, Tensor]:
    """A cache with the keys and values of all sequences (at least one token in one of them), and its mask [B, P].

    ``alike``: sequences with the same number are taken to begin alike. Keys and values of padding are 0.
    """
    starts, owner = _starts(architecture, sequences, alike)
    if not starts:
        return _run(architecture, sequences, [0] * len(sequences), DynamicCache(), None, pad_id)
    began, began_mask = _run(architecture, starts, [0] * len(starts), DynamicCache(), None, pad_id)
    rests = [sequence[len(starts[of]) :] for sequence, of in zip(sequences, owner, strict=True)]
    cache, rows = DynamicCache(), torch.tensor(owner)
    for block, (keys, values) in enumerate(_held(began)):
        cache.update(keys[rows.to(keys.device)], values[rows.to(values.device)], block)
    mask = began_mask[rows.to(began_mask.device)]
    if not any(rests):
        return cache, mask
    return _run(architecture, rests, [len(starts[of]) for of in owner], cache, mask, pad_id)


def _starts(
    architecture: Architecture, sequences: Sequence[Sequence[int]], alike: Sequence[int]
) -> tuple[list[list[int]], list[int]]:
    """What is to be run first, and of each sequence which of it; nothing if that would save little."""
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(alike))}
    groups: list[list[Sequence[int]]] = [[] for _ in kinds]
    for sequence, kind in zip(sequences, alike, strict=True):
        groups[kinds[kind]].append(sequence)
    # What the first and the last in order share, all between them share too.
    pairs = [zip(min(map(tuple, group)), max(map(tuple, group)), strict=False) for group in groups]
    starts = [[one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pair)] for pair in pairs]
    saved = sum((len(group) - 1) * len(start) for group, start in zip(groups, starts, strict=True))
    if saved < LEAST or has_windows(architecture):
        return [], []
    return starts, [kinds[kind] for kind in alike]


def _run(
    architecture: Architecture,
    sequences: Sequence[Sequence[int]],
    begun: Sequence[int],
    cache: DynamicCache,
    before: Tensor | None,
    pad_id: int,
) -> tuple[DynamicCache, Tensor]:
    """Run sequences behind ``begun`` tokens each that are in the cache; ``before`` [B, S] is the mask of those."""
    batch = pad_sequences(sequences, pad_id, architecture.embedding.weight.device, left=True)
    mask = batch.mask if before is None else torch.cat([before, batch.mask], dim=1)
    # Of the last block only the keys and values are needed.
    with mlp_at(architecture, architecture.n_blocks - 1, torch.zeros(len(sequences), dtype=torch.long)):
        architecture.backbone(
            input_ids=batch.ids,
            attention_mask=mask,
            position_ids=batch.positions + torch.tensor(list(begun), device=batch.ids.device)[:, None],
            past_key_values=cache,
            use_cache=True,
        )
    clean = DynamicCache()
    for block, (keys, values) in enumerate(_held(cache)):
        # Padding is never attended to, but NaN left there by a kernel must not become 0 * NaN.
        real = mask[:, None, :, None].bool().to(keys.device)
        clean.update(torch.where(real, keys, 0), torch.where(real, values, 0), block)
    return clean, mask


def _held(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    layers = cast("list[DynamicLayer]", cache.layers)
    return [(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers]
