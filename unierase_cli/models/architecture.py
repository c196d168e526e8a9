"""Finds the parts of a causal language model by what they do, not by their names (spec section 8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unierase_cli.contracts import UserError
from unierase_cli.sizes import default_layers

Projection = nn.Linear | Conv1D
# Supported layer types (config.layer_types): keys and values per token, which the code here can continue from.
ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass
class Architecture:
    """The parts of a model that unlearning works on; weights are viewed as [h, d]: ``block output += W @ key``.

    ``backbone`` returns last_hidden_state after the final norm; ``logits`` turns it into logits.
    """

    blocks: nn.ModuleList
    blocks_name: str
    hidden_size: int
    n_blocks: int
    embedding: nn.Embedding
    head: nn.Linear
    tied: bool
    backbone: nn.Module
    soft_cap: float | None = None
    logit_scale: float = 1.0
    _projections: dict[int, tuple[str, Projection]] = field(default_factory=dict, repr=False)

    def attention_output(self, layer: int) -> Projection:
        """The projection that ends the block's attention: the last Linear or Conv1D in it whose output width is h."""
        self.check_layers([layer])
        where = f"{self.blocks_name}.{layer}"
        return _find_projection(self.blocks[layer], self.hidden_size, where, attention=True)[1]

    def projection(self, layer: int) -> Projection:
        """The block's down projection: the last Linear or Conv1D outside its attention with output width h."""
        return self._find(layer)[1]

    def mlp(self, layer: int) -> nn.Module | None:
        """The module that the down projection ends; None if it belongs to the block itself (OPT)."""
        parent = self._find(layer)[0].rpartition(".")[0]
        return self.blocks[layer].get_submodule(parent) if parent else None

    def projection_name(self, layer: int) -> str:
        """Full module name, e.g. ``model.layers.4.mlp.down_proj``."""
        return f"{self.blocks_name}.{layer}.{self._find(layer)[0]}"

    def weight(self, layer: int) -> Tensor:
        """Float32 copy of the projection as [h, d], whatever the module's own orientation."""
        module = self.projection(layer)
        stored = module.weight.detach()
        return (stored.T if isinstance(module, Conv1D) else stored).to(torch.float32, copy=True).contiguous()

    def set_weight(self, layer: int, weight_hd: Tensor) -> None:
        """Write [h, d] into the projection in place, cast to the parameter's dtype."""
        module = self.projection(layer)
        value = weight_hd.T if isinstance(module, Conv1D) else weight_hd
        with torch.no_grad():
            module.weight.copy_(value)

    def projected(self, layer: int, keys: Tensor) -> Tensor:
        """The projection's output for keys [..., d], bias included: [..., h] in the keys' dtype."""
        module = self.projection(layer)
        weight = module.weight.detach().to(keys)
        out = keys @ (weight if isinstance(module, Conv1D) else weight.T)
        return out if module.bias is None else out + module.bias.detach().to(keys)

    def inner_size(self, layer: int) -> int:
        """d, the width of the projection's input."""
        return _widths(self.projection(layer))[0]

    def default_layers(self) -> list[int]:
        """Blocks to edit unless a preset says otherwise."""
        return default_layers(self.n_blocks)

    def check_layers(self, layers: list[int]) -> None:
        """Raise UserError unless ``layers`` are existing blocks in ascending order."""
        if not layers:
            raise UserError("model.layers is empty", _layers_hint(self.default_layers()))
        outside = [layer for layer in layers if not 0 <= layer < self.n_blocks]
        if outside:
            raise UserError(
                f"layer {outside[0]} is out of range: the model has blocks 0..{self.n_blocks - 1}",
                _layers_hint(self.default_layers()),
            )
        if list(layers) != sorted(set(layers)):
            raise UserError(f"layers {layers} must be ascending, each block once", _layers_hint(sorted(set(layers))))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states [..., h] after the final norm, including the model's logit scale and soft cap."""
        logits = self.head(hidden) * self.logit_scale if self.logit_scale != 1.0 else self.head(hidden)
        return torch.tanh(logits / self.soft_cap) * self.soft_cap if self.soft_cap else logits

    def refresh_ends(self, model: PreTrainedModel) -> None:
        """Refresh embedding and head after the vocabulary was resized."""
        self.embedding, self.head = _ends(model)

    def _find(self, layer: int) -> tuple[str, Projection]:
        if layer not in self._projections:
            self.check_layers([layer])
            where = f"{self.blocks_name}.{layer}"
            self._projections[layer] = _find_projection(self.blocks[layer], self.hidden_size, where)
        return self._projections[layer]


def find_architecture(model: PreTrainedModel) -> Architecture:
    """Find the parts of ``model``. Raises UserError that names what is missing or why the model cannot be edited."""
    config, name = model.config.get_text_config(), type(model).__name__
    refuse_unsupported(config, name)
    embedding, head = _ends(model)
    if model.base_model is model:
        raise UserError(f"{name} does not separate its blocks from its head", "choose a decoder-only language model")
    # A multimodal model has further blocks for images, which text does not pass.
    backbone = model.base_model if config is model.config else model.get_decoder()
    blocks_name, blocks = _find_blocks(model, backbone, config.num_hidden_layers)
    found = Architecture(
        blocks=blocks,
        blocks_name=blocks_name,
        hidden_size=config.hidden_size,
        n_blocks=len(blocks),
        embedding=embedding,
        head=head,
        tied=head.weight is embedding.weight,
        backbone=backbone,
        soft_cap=getattr(config, "final_logit_softcapping", None),
        logit_scale=_logit_scale(config),
    )
    if embedding.weight.shape[1] != found.hidden_size:
        raise UserError(f"{name} projects its embeddings to another width", "choose a model that does not")
    weight = found.projection(0).weight
    if not weight.is_floating_point():
        raise UserError(f"{name} is quantised ({found.projection_name(0)}: {weight.dtype})", "load the full weights")
    return found


def _ends(model: PreTrainedModel) -> tuple[nn.Embedding, nn.Linear]:
    """The embedding and the head, through the standard accessors."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    for module, what in ((embedding, "input embedding matrix"), (head, "language-model head")):
        if getattr(module, "weight", None) is None:
            raise UserError(f"{type(model).__name__} has no {what}", "choose a causal language model")
    return cast(nn.Embedding, embedding), cast(nn.Linear, head)


def refuse_unsupported(config: object, name: str) -> None:
    """Raise UserError for models that cannot be edited.

    These are mixtures of experts, layers other than attention, and residual streams that rescale the MLP's output.
    """
    for key in ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"):
        if (getattr(config, key, None) or 0) > 1:
            kind = f"{name} ({getattr(config, 'model_type', '?')}) is a mixture of {getattr(config, key)} experts"
            raise UserError(f"{kind}: a key belongs to the experts that it was routed to", "choose a dense model")
    others = set(getattr(config, "layer_types", None) or []) - ATTENTION
    if others:
        kinds = f"{name} has blocks of other kinds than attention ({', '.join(sorted(others))})"
        raise UserError(f"{kinds}, which cannot continue from the tokens before a key", "choose another model")
    if getattr(config, "num_kv_shared_layers", None):
        raise UserError(f"{name} has blocks that share keys and values with earlier ones", "choose another model")
    if getattr(config, "residual_multiplier", 1.0) not in (1, 1.0, None):
        raise UserError(f"{name} scales what its MLPs add to the residual stream", "choose another model")


def _find_blocks(model: PreTrainedModel, backbone: nn.Module, n_blocks: int) -> tuple[str, nn.ModuleList]:
    inside = {id(module) for module in backbone.modules()}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_blocks and id(module) in inside:
            return name, module
    raise UserError(f"{type(model).__name__} has no list of {n_blocks} blocks", "choose a decoder-only transformer")


def _find_projection(
    block: nn.Module, hidden_size: int, where: str, *, attention: bool = False
) -> tuple[str, Projection]:
    candidates = [
        (name, module)
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and ("att" in name.lower()) is attention
        and _widths(module)[1] == hidden_size
    ]
    if not candidates:
        part = "attention" if attention else "MLP"
        raise UserError(f"{where} has no {part} projection to the hidden width {hidden_size}", "choose other layers")
    return candidates[-1]


def _widths(module: Projection) -> tuple[int, int]:
    """Input and output width of a Linear or Conv1D."""
    rows, columns = module.weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def _logit_scale(config: object) -> float:
    """Factor on the head's output: Cohere multiplies by logit_scale, Granite divides by logits_scaling."""
    return float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)


def _layers_hint(layers: list[int]) -> str:
    return f"set for example model.layers={layers}".replace(", ", ",")
