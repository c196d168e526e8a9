"""Low-rank changes and token rows as a peft adapter, written by peft itself."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unierase_cli.contracts import UserError
from unierase_cli.editing.low_rank import shortened
from unierase_cli.editing.patch import joined
from unierase_cli.editing.solve import LowRank
from unierase_cli.models.load import LoadedModel


@dataclass
class TokenRow:
    """An unlearning token in the adapter: its name, its id there, its rows [h] (``row_out`` None for a tied head)."""

    name: str
    id: int
    row_in: Tensor
    row_out: Tensor | None


@dataclass
class AdapterContent:
    """The content of an adapter.

    ``changes``: module name -> peft's B [out, r] and A [r, in], as left @ right.T. ``kept``: share of the squared norm
    kept by the truncation, per module. ``ranks``: the ranks before it.
    """

    changes: dict[str, LowRank]
    ranks: dict[str, int]
    kept: dict[str, float]
    tokens: list[TokenRow] = field(default_factory=list)

    @property
    def rank(self) -> int:
        return max((change.left.shape[1] for change in self.changes.values()), default=1)


def content(loaded: LoadedModel, changes: Mapping[str, Sequence[LowRank]], rank: int | None) -> AdapterContent:
    """The steps' changes summed per parameter name, exactly or truncated to ``rank``.

    A sum with more columns than the matrix's smaller side is shortened without loss. Raises UserError for a parameter that
    peft cannot adapt.
    """
    found = AdapterContent({}, {}, {})
    for name, factors in changes.items():
        module_name = name.removesuffix(".weight")
        module = loaded.model.get_submodule(module_name) if name.endswith(".weight") else None
        if not isinstance(module, nn.Linear | Conv1D):
            raise UserError(f"{name} is not the weight of a linear layer", "unierase export RUN DIR --as model")
        change = joined(list(factors))
        columns, most = change.left.shape[1], min(module.weight.shape)
        wanted = min(rank or columns, most)
        kept = 1.0
        if wanted < columns:
            change, kept = shortened(change, wanted)
        # A Conv1D stores its weight as [in, out].
        found.changes[module_name] = LowRank(change.right, change.left) if isinstance(module, Conv1D) else change
        found.ranks[module_name], found.kept[module_name] = min(columns, most), kept
    return found


def write_adapter(loaded: LoadedModel, adapter: AdapterContent, folder: Path, base_name: str | None) -> None:
    """Write ``adapter_config.json``, which names the base model if it has a name, and ``adapter_model.safetensors``.

    The model must already have rows for the tokens' ids; it is left unchanged. Raises UserError without peft, and for a
    head with a bias, which peft drops when it replaces rows.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("--as lora needs the package peft", "pip install 'unierase[lora]'") from None
    if not adapter.changes:
        raise UserError(
            "the run changes only token rows: there is no low-rank change to export", "unierase export RUN DIR --as model"
        )
    if adapter.tokens and getattr(loaded.architecture.head, "bias", None) is not None:
        raise UserError(
            "this model's head has a bias, which peft drops when an adapter replaces rows of it",
            "unierase export RUN DIR --as model",
        )
    ranks = {name: change.left.shape[1] for name, change in adapter.changes.items()}
    others = {name: rank for name, rank in ranks.items() if rank != adapter.rank}
    modules = [loaded.model.get_submodule(name) for name in ranks]
    ids = [token.id for token in adapter.tokens]
    ends = {_name_of(loaded.model, module): ids for module in _ends(loaded)} if ids else None
    config = LoraConfig(
        r=adapter.rank,
        # The scale alpha / r must be 1 for every layer.
        lora_alpha=adapter.rank,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=list(ranks),
        fan_in_fan_out=all(isinstance(module, Conv1D) for module in modules),
        trainable_token_indices=ends,
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=base_name,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped: Any = get_peft_model(loaded.model, config)
        # For None, peft would write the path that the model was read from.
        wrapped.peft_config["default"].base_model_name_or_path = base_name or ""
        with torch.no_grad():
            for name, change in adapter.changes.items():
                module: Any = loaded.model.get_submodule(name)
                module.lora_A["default"].weight.copy_(change.right.T)
                module.lora_B["default"].weight.copy_(change.left)
            _write_rows(loaded, adapter.tokens)
        # Otherwise peft adds both whole matrices when the vocabulary has grown.
        wrapped.save_pretrained(folder, save_embedding_layers=False)
        wrapped.unload()
    loaded.architecture.refresh_ends(loaded.model)
    loaded.model.requires_grad_(False)


def load_adapter(loaded: LoadedModel, folder: Path) -> Any:
    """The model with the adapter, loaded from disk by peft."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", UserWarning)  # peft only warns about missing keys
        return PeftModel.from_pretrained(loaded.model, str(folder)).eval()


def _ends(loaded: LoadedModel) -> list[nn.Module]:
    """The modules whose rows are replaced; peft updates a tied head itself."""
    architecture = loaded.architecture
    return [architecture.embedding] if architecture.tied else [architecture.embedding, architecture.head]


def _write_rows(loaded: LoadedModel, tokens: Sequence[TokenRow]) -> None:
    if not tokens:
        return
    embedding: Any = loaded.model.get_input_embeddings()
    head: Any = loaded.model.get_output_embeddings()
    embedding.token_adapter.trainable_tokens_delta["default"].copy_(torch.stack([token.row_in for token in tokens]))
    rows_out = [token.row_out for token in tokens if token.row_out is not None]
    if rows_out:
        head.token_adapter.trainable_tokens_delta["default"].copy_(torch.stack(rows_out))


def _name_of(model: PreTrainedModel, module: nn.Module) -> str:
    name: str = next(name for name, found in model.named_modules() if found is module)
    return name
