"""How strongly each input of a linear layer is driven: what pruning by activations weighs weights with (Wanda, Sun et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences


@torch.no_grad()
def input_norms(
    loaded: LoadedModel, sequences: Sequence[Sequence[int]], *, batch_tokens: int = 2048
) -> dict[str, Tensor]:
    """||x_j||_2 over all tokens of ``sequences``, of every linear layer in the blocks: module name -> [in] float32."""
    architecture = loaded.architecture
    sums: dict[str, Tensor] = {}
    mask = torch.empty(0)

    def added(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
            x = arguments[0].float().reshape(-1, arguments[0].shape[-1])
            squares = (x.square() * mask.to(x.device).reshape(-1, 1)).sum(0)
            sums[name] = sums[name] + squares if name in sums else squares

        return hook

    handles = [
        module.register_forward_pre_hook(added(f"{architecture.blocks_name}.{name}"))
        for name, module in architecture.blocks.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    try:
        for rows in length_sorted_batches([len(sequence) for sequence in sequences], batch_tokens):
            batch = pad_sequences([sequences[row] for row in rows], loaded.prompts.pad_id, loaded.device)
            mask = batch.mask
            architecture.backbone(
                input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
            )
    finally:
        for handle in handles:
            handle.remove()
    return {name: squares.sqrt() for name, squares in sums.items()}
