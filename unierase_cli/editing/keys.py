"""Keys: the inputs of a down projection at a fact's key token (spec 2.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.editing.spans import EditRequest, Located
from unierase_cli.models.architecture import Architecture
from unierase_cli.models.partial import length_sorted_batches, pad_sequences, run_lower
from unierase_cli.models.room import Room

# Indices of prompts and the captured tensor, [rows, size].
Seen = tuple[list[int], Tensor]


@dataclass
class AtKeys:
    """Activations at the key tokens of some prompts, float32: ``keys`` per layer [d, n], ``outputs`` per block [h, n]."""

    keys: dict[int, Tensor]
    outputs: dict[int, Tensor]


def look_at_keys(
    architecture: Architecture,
    prompts: Sequence[Located],
    *,
    keys_of: Sequence[int] = (),
    outputs_of: Sequence[int] = (),
    pad_id: int,
    batch_tokens: int,
    room: Room | None = None,
) -> AtKeys:
    """Down projection inputs and block outputs at every prompt's key token; later tokens and blocks are not run."""
    seen_keys: dict[int, list[Seen]] = {layer: [] for layer in keys_of}
    seen_outputs: dict[int, list[Seen]] = {layer: [] for layer in outputs_of}

    def look(rows: Sequence[int]) -> tuple[dict[int, Seen], dict[int, Seen]]:
        cut = [prompts[i].ids[: prompts[i].key + 1] for i in rows]
        batch = pad_sequences(cut, pad_id, architecture.embedding.weight.device)
        keys: dict[int, Seen] = {}
        outputs: dict[int, Seen] = {}
        run_lower(
            architecture,
            batch,
            inputs_of=keys_of,
            outputs_of=outputs_of,
            on_input=_keep_last(keys, rows, batch.mask),
            on_output=_keep_last(outputs, rows, batch.mask),
        )
        return keys, outputs

    for batch in length_sorted_batches([p.key + 1 for p in prompts], batch_tokens):
        for _, found in (room or Room()).parts("prompts to look at", batch, look):
            for store, seen in zip((seen_keys, seen_outputs), found, strict=True):
                for layer, at_keys in seen.items():
                    store[layer].append(at_keys)
    return AtKeys(
        {layer: _in_order(parts, len(prompts)) for layer, parts in seen_keys.items()},
        {layer: _in_order(parts, len(prompts)) for layer, parts in seen_outputs.items()},
    )


def _keep_last(store: dict[int, Seen], rows: Sequence[int], mask: Tensor) -> Callable[[int, Tensor], None]:
    """A callback that stores what it sees at each sequence's last token."""
    every, last = torch.arange(len(rows), device=mask.device), mask.sum(1) - 1

    def keep(layer: int, seen: Tensor) -> None:
        store[layer] = list(rows), seen[every.to(seen.device), last.to(seen.device)].float()

    return keep


def _in_order(parts: list[Seen], count: int) -> Tensor:
    """Rows of several batches as the columns of one matrix, in the prompts' order."""
    first = parts[0][1]
    out = first.new_empty(first.shape[1], count)
    for rows, seen in parts:
        out[:, rows] = seen.T
    return out


def fact_keys(
    architecture: Architecture,
    requests: Sequence[EditRequest],
    layer: int,
    weights: Sequence[float],
    *,
    output_of: int,
    pad_id: int,
    batch_tokens: int,
    room: Room | None = None,
) -> tuple[Tensor, Tensor]:
    """Keys of ``layer`` averaged over templates, [d, n], and the bare prompts' output of block ``output_of``, [h, n];
    float32.

    ``weights``: one per template, the bare prompt's first (``Templates.weights``).
    """
    bare = look_at_keys(
        architecture,
        [r.prompts[0] for r in requests],
        keys_of=[layer],
        outputs_of=[output_of],
        pad_id=pad_id,
        batch_tokens=batch_tokens,
        room=room,
    )
    keys = bare.keys[layer] * weights[0]
    prefixed = [p for r in requests for p in r.prompts[1:]]
    if prefixed:
        seen = look_at_keys(
            architecture, prefixed, keys_of=[layer], pad_id=pad_id, batch_tokens=batch_tokens, room=room
        ).keys[layer]
        shares = torch.tensor(weights[1:], dtype=seen.dtype, device=seen.device)
        keys = keys + (seen.view(seen.shape[0], len(requests), -1) * shares).sum(-1)
    return keys, bare.outputs[output_of]
