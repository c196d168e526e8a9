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
from unierase_cli.sizes import STATE_BYTES

# Indices of prompts and the captured tensor, [rows, size].
Seen = tuple[list[int], Tensor]


@dataclass
class AtKeys:
    """Activations at the key tokens of some prompts, float32: ``keys`` per layer [d, n], ``outputs`` per block [h, n]."""

    keys: dict[int, Tensor]
    outputs: dict[int, Tensor]


@dataclass
class Part:
    """Prompts that run together, and a block's output [B, T, h] for all of their tokens if it is kept."""

    rows: list[int]
    start: tuple[int, Tensor] | None = None


@dataclass
class Budget:
    """Bytes of hidden states that may still be kept."""

    left: int = STATE_BYTES


class Passes:
    """Passes over the same prompts, up to their key tokens, while one block after another is changed.

    What the blocks below the changed one put out is kept within the ``budget``; from there the next pass goes on.
    """

    def __init__(
        self,
        architecture: Architecture,
        prompts: Sequence[Located],
        *,
        pad_id: int,
        batch_tokens: int,
        room: Room | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.architecture, self.prompts, self.pad_id = architecture, prompts, pad_id
        self.room, self.budget = room or Room(), budget or Budget()
        self._parts = [Part(rows) for rows in length_sorted_batches([p.key + 1 for p in prompts], batch_tokens)]

    def look(self, *, keys_of: Sequence[int] = (), outputs_of: Sequence[int] = (), settled: int = 0) -> AtKeys:
        """Down projection inputs and block outputs at every prompt's key token; later tokens and blocks are not run.

        ``settled``: the blocks below this one, none of which may be asked for, stay as they are from now on.
        """
        seen_keys: dict[int, list[Seen]] = {layer: [] for layer in keys_of}
        seen_outputs: dict[int, list[Seen]] = {layer: [] for layer in outputs_of}
        parts: list[Part] = []
        for part in self._parts:

            def run(rows: Sequence[int], part: Part = part) -> tuple[Part, dict[int, Seen], dict[int, Seen]]:
                if len(rows) == len(part.rows):
                    return self._run(part, keys_of, outputs_of, settled - 1)
                # Of a part that had to be split, nothing is kept, since memory is short.
                self.budget.left += _bytes(part)
                part.start = None
                return self._run(Part(list(rows)), keys_of, outputs_of, -1)

            for _, (ran, keys, outputs) in self.room.parts("prompts to look at", part.rows, run):
                parts.append(self._kept(part, ran))
                for store, seen in ((seen_keys, keys), (seen_outputs, outputs)):
                    for layer, at_keys in seen.items():
                        store[layer].append(at_keys)
        self._parts = parts
        return AtKeys(
            {layer: _in_order(found, len(self.prompts)) for layer, found in seen_keys.items()},
            {layer: _in_order(found, len(self.prompts)) for layer, found in seen_outputs.items()},
        )

    def _run(
        self, part: Part, keys_of: Sequence[int], outputs_of: Sequence[int], below: int
    ) -> tuple[Part, dict[int, Seen], dict[int, Seen]]:
        """What the part's prompts show, and the part with the output of block ``below``."""
        cut = [self.prompts[i].ids[: self.prompts[i].key + 1] for i in part.rows]
        batch = pad_sequences(cut, self.pad_id, self.architecture.embedding.weight.device)
        last = batch.mask.sum(1) - 1
        keys: dict[int, Seen] = {}
        outputs: dict[int, Seen] = {}
        kept = part.start
        keep_output = _keep_last(outputs, part.rows, last)

        def on_output(layer: int, seen: Tensor) -> None:
            nonlocal kept
            if layer == below:
                kept = layer, seen.clone()
            else:
                keep_output(layer, seen)

        further = below >= 0 and (part.start is None or part.start[0] < below)
        run_lower(
            self.architecture,
            batch,
            inputs_of=keys_of,
            outputs_of=[*([below] if further else []), *outputs_of],
            on_input=_keep_last(keys, part.rows, last),
            on_output=on_output,
            start=part.start,
            read_at=last,
        )
        return Part(part.rows, kept), keys, outputs

    def _kept(self, before: Part, after: Part) -> Part:
        """The part with its state, if that fits beside the others'."""
        self.budget.left += _bytes(before)
        if len(after.rows) < len(before.rows) or _bytes(after) > self.budget.left:
            return Part(after.rows)
        self.budget.left -= _bytes(after)
        return after


def _bytes(part: Part) -> int:
    return 0 if part.start is None else part.start[1].nbytes


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
    """One pass over prompts that keeps nothing (``Passes.look``)."""
    passes = Passes(architecture, prompts, pad_id=pad_id, batch_tokens=batch_tokens, room=room)
    return passes.look(keys_of=keys_of, outputs_of=outputs_of)


def _keep_last(store: dict[int, Seen], rows: Sequence[int], last: Tensor) -> Callable[[int, Tensor], None]:
    """A callback that stores what it sees at each sequence's last token."""
    every = torch.arange(len(rows), device=last.device)

    def keep(layer: int, seen: Tensor) -> None:
        # Where the block ran at this token alone, there is no other.
        at = seen[:, 0] if seen.shape[1] == 1 else seen[every.to(seen.device), last.to(seen.device)]
        store[layer] = list(rows), at.to(torch.float32, copy=True)

    return keep


def _in_order(parts: list[Seen], count: int) -> Tensor:
    """Rows of several batches as the columns of one matrix, in the prompts' order."""
    first = parts[0][1]
    out = first.new_empty(first.shape[1], count)
    for rows, seen in parts:
        out[:, rows] = seen.T
    return out


class FactPasses:
    """Passes over the prompts of some facts while one layer after another is edited.

    ``weights``: one per template, the bare prompt's first (``Templates.weights``).
    """

    def __init__(
        self,
        architecture: Architecture,
        requests: Sequence[EditRequest],
        weights: Sequence[float],
        *,
        pad_id: int,
        batch_tokens: int,
        room: Room | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.weights, self.facts = weights, len(requests)
        budget = budget or Budget()
        passes = [
            Passes(architecture, prompts, pad_id=pad_id, batch_tokens=batch_tokens, room=room, budget=budget)
            for prompts in ([r.prompts[0] for r in requests], [p for r in requests for p in r.prompts[1:]])
        ]
        self._bare, self._prefixed = passes

    def keys(
        self, layers: Sequence[int], *, outputs_of: Sequence[int] = (), settled: int = 0
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Keys of each layer averaged over templates, [d, n], and the bare prompts' block outputs, [h, n]; float32.

        ``settled``: the blocks below this one stay as they are from now on.
        """
        bare = self._bare.look(keys_of=layers, outputs_of=outputs_of, settled=settled)
        keys = {layer: found * self.weights[0] for layer, found in bare.keys.items()}
        if self._prefixed.prompts and layers:
            for layer, seen in self._prefixed.look(keys_of=layers, settled=settled).keys.items():
                shares = torch.tensor(self.weights[1:], dtype=seen.dtype, device=seen.device)
                keys[layer] = keys[layer] + (seen.view(seen.shape[0], self.facts, -1) * shares).sum(-1)
        return keys, bare.outputs
