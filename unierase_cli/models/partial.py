"""Runs parts of a model through its own base forward, so that masks and rotary or learned positions stay the model's
own.

Blocks that are not needed pass their input through while a part runs; no code here is specific to a model family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from unierase_cli.models.architecture import Architecture
from unierase_cli.models.narrow import mlp_at

_returns_tuple: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@dataclass
class Padded:
    """Token sequences of one batch. ``ids``, ``mask`` (1 at real tokens), ``positions``: [B, T] integers."""

    ids: Tensor
    mask: Tensor
    positions: Tensor


def pad_sequences(
    sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device, *, left: bool = False
) -> Padded:
    """Pad to the longest sequence, on the right or on the left; padding repeats the last position on the right and has
    position 0 on the left.
    """
    longest = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        where = slice(longest - len(sequence), longest) if left else slice(0, len(sequence))
        ids[row, where] = torch.tensor(list(sequence), dtype=torch.long)
        mask[row, where] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return Padded(ids.to(device), mask.to(device), positions.to(device))


def length_sorted_batches(lengths: Sequence[int], batch_tokens: int, most_rows: int | None = None) -> list[list[int]]:
    """Batches of indices of similar length, longest first, each of at most ``batch_tokens`` padded tokens (at least one row)
    and ``most_rows`` rows.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for index in order:
        full = bool(batches) and len(batches[-1]) == most_rows
        if batches and not full and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@torch.no_grad()
def run_lower(
    architecture: Architecture,
    batch: Padded,
    *,
    inputs_of: Sequence[int] = (),
    outputs_of: Sequence[int] = (),
    on_input: Callable[[int, Tensor], Any] | None = None,
    on_output: Callable[[int, Tensor], Any] | None = None,
    cache: DynamicCache | None = None,
    start: tuple[int, Tensor] | None = None,
    read_at: Tensor | None = None,
) -> None:
    """Run the blocks up to the last one named, and report their inputs and outputs.

    ``on_input(layer, x)``: x [B, T, d], the input of the layer's down projection. ``on_output(layer, x)``: x [B, T, h],
    the output of the block. Later blocks and the head are not run. ``cache`` holds the tokens before the batch's;
    ``batch.mask`` then covers both. ``start``: a block and its known output, to go on from it. ``read_at`` [B]: the only
    position of each row that is read in the last block, whose input x may then be [B, 1, d].
    """
    last = max([*inputs_of, *outputs_of])
    returns_tuple(architecture)  # runs the model once, so call it before hooks are added
    handles = []
    try:
        for layer in inputs_of:
            show = _show_input(layer, on_input, batch.ids.shape)
            handles.append(architecture.projection(layer).register_forward_pre_hook(show))
        for layer in outputs_of:
            handles.append(architecture.blocks[layer].register_forward_hook(_show_output(layer, on_output)))
        unused = [n for n in range(architecture.n_blocks) if n > last or (start is not None and n <= start[0])]
        # A copy, since some models go on with a block's output in place.
        given = None if start is None else (start[0], start[1].clone())
        with passing_through(architecture, unused, given), mlp_at(architecture, last, read_at):
            architecture.backbone(
                input_ids=batch.ids,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                past_key_values=cache,
                use_cache=cache is not None,
            )
    finally:
        for handle in handles:
            handle.remove()


def _show_input(layer: int, show: Callable[[int, Tensor], Any] | None, size: torch.Size) -> Callable[..., None]:
    def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if show is not None:
            # OPT's blocks flatten the batch into one sequence.
            show(layer, arguments[0].reshape(size[0], -1, arguments[0].shape[-1]))

    return hook


def _show_output(layer: int, show: Callable[[int, Tensor], Any] | None) -> Callable[..., None]:
    def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
        if show is not None:
            show(layer, output[0] if isinstance(output, tuple) else output)

    return hook


@torch.no_grad()
def through_final_norm(architecture: Architecture, hidden: Tensor) -> Tensor:
    """Outputs of any block, [N, h], put through what the model has between its last block and its head; [N, h]."""
    ids = torch.zeros(len(hidden), 1, dtype=torch.long, device=architecture.embedding.weight.device)
    last = architecture.n_blocks - 1
    # A copy: some models go on with a block's output in place.
    with passing_through(architecture, range(last), (last, hidden[:, None].clone())):
        out = architecture.backbone(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return out.last_hidden_state[:, 0]


@contextmanager
def passing_through(
    architecture: Architecture, layers: Sequence[int], supply: tuple[int, Tensor] | None = None
) -> Iterator[None]:
    """Within, the named blocks return their input unchanged; with ``supply`` (layer, hidden) that block returns hidden."""
    as_tuple = returns_tuple(architecture)

    def stand_in(value: Tensor | None) -> Callable[..., Any]:
        def forward(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
            out = hidden_states if value is None else value
            return (out,) if as_tuple else out

        return forward

    wanted: dict[int, Tensor | None] = dict.fromkeys(layers)
    if supply is not None:
        wanted[supply[0]] = supply[1]
    # An instance attribute shadows the class's forward and keeps the block's other attributes visible to the model.
    before = {layer: architecture.blocks[layer].__dict__.get("forward") for layer in wanted}
    try:
        for layer, value in wanted.items():
            architecture.blocks[layer].__dict__["forward"] = stand_in(value)
        yield
    finally:
        for layer, forward in before.items():
            if forward is None:
                architecture.blocks[layer].__dict__.pop("forward", None)
            else:
                architecture.blocks[layer].__dict__["forward"] = forward


@torch.no_grad()
def returns_tuple(architecture: Architecture) -> bool:
    """Whether the model's blocks return a tuple; found by running the first block once on one token."""
    backbone = architecture.backbone
    if backbone not in _returns_tuple:
        seen: list[bool] = []
        handle = architecture.blocks[0].register_forward_hook(
            lambda _m, _a, output: seen.append(isinstance(output, tuple))
        )
        try:
            one = torch.zeros(1, 1, dtype=torch.long, device=architecture.embedding.weight.device)
            backbone(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False)
        finally:
            handle.remove()
        _returns_tuple[backbone] = seen[0]
    return _returns_tuple[backbone]
