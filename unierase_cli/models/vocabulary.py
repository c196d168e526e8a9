"""Rows of the embedding and of the head: adding unlearning tokens, reading and writing their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import AddedToken

from unierase_cli.models.encoding import token_id

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel


def add_unlearning_tokens(loaded: LoadedModel, names: Sequence[str], generator: torch.Generator) -> list[int]:
    """Make ``names`` single control tokens of the tokenizer, with rows in embedding and head; returns their ids.

    Spare rows of a padded vocabulary are used first; matrices only grow. New rows are drawn from N(0,
    initializer_range) (input row, then output row of an untied head); all other rows stay bit-identical. If the head
    has a bias (Phi, GPT-J), theirs is the average bias. A name that the tokenizer already has keeps its id and its
    rows. The ids are appended to ``loaded.unlearn_ids``.
    """
    if not names:
        return []
    tokenizer, model = loaded.tokenizer, loaded.model
    known = tokenizer.get_vocab()
    new = [name for name in dict.fromkeys(names) if name not in known]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in new], special_tokens=True)
    ids = [token_id(tokenizer, name) for name in names]
    # Over the tokens in use: training lowers the bias of spare rows, since they are never targets.
    usual = None if loaded.architecture.head.bias is None else _mean_bias(loaded, len(known))
    if max(ids) >= loaded.architecture.embedding.weight.shape[0]:
        _grow(loaded, max(ids) + 1)
    fresh = [token_id(tokenizer, name) for name in new]
    if fresh:
        spread = float(getattr(model.config.get_text_config(), "initializer_range", None) or 0.02)
        shape = (len(fresh), loaded.architecture.embedding.weight.shape[1])
        rows_in = torch.randn(shape, generator=generator) * spread
        rows_out = None if loaded.architecture.tied else torch.randn(shape, generator=generator) * spread
        set_rows(loaded, fresh, rows_in, rows_out)
        if usual is not None:
            loaded.added_bias |= dict.fromkeys(fresh, float(usual))
    # Undoing the rows leaves the names in the tokenizer, so the bias must be set again.
    again = [token for token in ids if token in loaded.added_bias]
    if again:
        set_bias(loaded, again, torch.tensor([loaded.added_bias[token] for token in again], dtype=torch.float64))
    loaded.unlearn_ids = list(dict.fromkeys([*loaded.unlearn_ids, *ids]))
    return ids


def get_rows(loaded: LoadedModel, ids: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Float32 copies of the input rows [g, h] and of the output rows [g, h], the latter None for a tied head."""
    architecture = loaded.architecture
    index = torch.tensor(list(ids), device=architecture.embedding.weight.device)
    rows_in = architecture.embedding.weight.detach()[index].float()
    if architecture.tied:
        return rows_in, None
    return rows_in, architecture.head.weight.detach()[index.to(architecture.head.weight.device)].float()


def set_rows(loaded: LoadedModel, ids: Sequence[int], rows_in: Tensor, rows_out: Tensor | None) -> None:
    """Write rows [g, h], cast to the model's dtype; ``rows_out`` is ignored for a tied head, and None leaves the output
    rows unchanged.
    """
    architecture = loaded.architecture
    targets = [(architecture.embedding.weight, rows_in)]
    if rows_out is not None and not architecture.tied:
        targets.append((architecture.head.weight, rows_out))
    with torch.no_grad():
        for weight, rows in targets:
            index = torch.tensor(list(ids), device=weight.device)
            weight[index] = rows.detach().to(weight.device, weight.dtype)


def get_bias(loaded: LoadedModel, ids: Sequence[int]) -> Tensor | None:
    """Float32 copy of the head's bias at some tokens [g]; None for a head without a bias."""
    bias = loaded.architecture.head.bias
    return None if bias is None else bias.detach()[torch.tensor(list(ids), dtype=torch.long, device=bias.device)].float()


def set_bias(loaded: LoadedModel, ids: Sequence[int], values: Tensor) -> None:
    """Write the head's bias at some tokens, cast to the model's dtype."""
    bias = loaded.architecture.head.bias
    with torch.no_grad():
        bias[torch.tensor(list(ids), dtype=torch.long, device=bias.device)] = values.detach().to(bias.device, bias.dtype)


def put_back_rows(
    loaded: LoadedModel,
    size: int,
    ids: Sequence[int],
    rows_in: Tensor,
    rows_out: Tensor | None,
    bias: Tensor | None,
) -> None:
    """Undo ``add_unlearning_tokens``: shrink to ``size`` rows and restore the former rows and bias of ``ids``."""
    architecture = loaded.architecture
    if architecture.embedding.weight.shape[0] != size:
        loaded.model.resize_token_embeddings(size, mean_resizing=False)
        architecture.refresh_ends(loaded.model)
        loaded.model.requires_grad_(False)
    if ids:
        set_rows(loaded, ids, rows_in, rows_out)
        if bias is not None:
            set_bias(loaded, ids, bias)


def _mean_bias(loaded: LoadedModel, count: int) -> Tensor:
    """Mean over the first ``count`` tokens, in float64 on the CPU so that every machine gets the same value."""
    return loaded.architecture.head.bias.detach()[:count].to("cpu", torch.float64).mean()


def _grow(loaded: LoadedModel, size: int) -> None:
    """Give both matrices ``size`` rows; added rows are zero until set."""
    model, architecture = loaded.model, loaded.architecture
    before = architecture.embedding.weight.shape[0]
    model.resize_token_embeddings(size, mean_resizing=False)
    architecture.refresh_ends(model)
    with torch.no_grad():
        for module in (architecture.embedding, architecture.head):
            module.weight[before:] = 0
            module.requires_grad_(False)
        if architecture.head.bias is not None:
            architecture.head.bias[before:] = 0
