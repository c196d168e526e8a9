"""Runs a model on soft prompts: vectors in place of token embeddings, in front of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unierase_cli.inference.batching import choose_batch_size
from unierase_cli.inference.sample import own_settings
from unierase_cli.models.load import LoadedModel


def with_text(loaded: LoadedModel, soft: Tensor, ids: Sequence[int]) -> Tensor:
    """Input embeddings [n, k + len(ids), h]: each soft prompt of ``soft`` [n, k, h] in front of ``ids``, behind a BOS."""
    table = loaded.architecture.embedding.weight
    first = len(loaded.prompts.bos_ids) if list(ids[: len(loaded.prompts.bos_ids)]) == loaded.prompts.bos_ids else 0
    text = loaded.architecture.embedding(torch.tensor([list(ids)], device=table.device)).expand(len(soft), -1, -1)
    return torch.cat([text[:, :first], soft.to(table.device, table.dtype), text[:, first:]], dim=1)


@torch.no_grad()
def last_states(loaded: LoadedModel, soft: Tensor, ids: Sequence[int]) -> Tensor:
    """Hidden state of the last token behind every soft prompt, [n, h] float32 on the CPU."""
    found = []
    for part in soft.split(choose_batch_size(0, loaded.device.type)):
        output = loaded.architecture.backbone(inputs_embeds=with_text(loaded, part, ids), use_cache=False)
        found.append(output.last_hidden_state[:, -1].float().cpu())
    return torch.cat(found)


@torch.no_grad()
def continued(loaded: LoadedModel, soft: Tensor, ids: Sequence[int], max_new_tokens: int) -> list[str]:
    """The greedy continuation behind every soft prompt, without special tokens."""
    model: Any = loaded.model
    found: list[str] = []
    with own_settings(model):
        for part in soft.split(choose_batch_size(0, loaded.device.type)):
            embedded = with_text(loaded, part, ids)
            made = model.generate(
                inputs_embeds=embedded,
                attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device),
                do_sample=False,
                max_new_tokens=max_new_tokens,
                eos_token_id=loaded.prompts.stop_ids,
                pad_token_id=loaded.prompts.pad_id,
            )
            found += [str(text) for text in loaded.tokenizer.batch_decode(made, skip_special_tokens=True)]
    return found
