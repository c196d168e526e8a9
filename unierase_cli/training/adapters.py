"""LoRA adapters by peft: trained instead of the weights, switched off for the reference, and exported as low-rank changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel


class Adapter:
    """Adapters on a loaded model's linear layers, active until ``remove``."""

    def __init__(self, loaded: LoadedModel, config: AdapterConfig, seed: int) -> None:
        """Raises UserError without peft, and if no module has one of the target names."""
        check_peft()
        from peft import LoraConfig, get_peft_model

        names = _linear_layers(loaded, config.targets)
        self._loaded = loaded
        lora = LoraConfig(
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=names,
            fan_in_fan_out=all(isinstance(loaded.model.get_submodule(name), Conv1D) for name in names),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._peft: Any = get_peft_model(loaded.model, lora)
        # The trained parameters, float32.
        self.parameters: list[nn.Parameter] = [p for p in self._peft.parameters() if p.requires_grad]
        self._layers = {name: loaded.model.get_submodule(name) for name in names}

    def downs(self) -> dict[str, nn.Parameter]:
        """Parameter name -> the adapter's trained A matrix [r, in]."""
        found: dict[str, Any] = {f"{name}.weight": layer for name, layer in self._layers.items()}
        return {name: layer.lora_A["default"].weight for name, layer in found.items()}

    def off(self) -> AbstractContextManager[object]:
        """Context in which the model is the one before unlearning."""
        return self._peft.disable_adapter()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Context within ``off`` in which the adapters are active, but not trained."""
        self._peft.base_model.enable_adapter_layers()
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            self._peft.base_model.disable_adapter_layers()

    def changes(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Parameter name -> (left [rows, r], right [columns, r]), float32; the stored parameter changes by left @ right.T."""
        found = {}
        for name, layer in self._layers.items():
            module: Any = layer
            scale = module.scaling["default"]
            down = module.lora_A["default"].weight.detach().float().cpu()  # [r, in]
            up = module.lora_B["default"].weight.detach().float().cpu() * scale  # [out, r]
            # Conv1D stores its weight as [in, out].
            left, right = (down.T, up) if getattr(module, "fan_in_fan_out", False) else (up, down.T)
            found[f"{name}.weight"] = (left.contiguous(), right.contiguous())
        return found

    def remove(self) -> None:
        """Remove the adapters and restore the model."""
        self._peft.unload()
        self._loaded.model.requires_grad_(False)


def check_peft() -> None:
    """Raise UserError if peft is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError:
        hint = "pip install 'unierase[lora]', or train all weights (adapter=none)"
        raise UserError("LoRA adapters need the package peft", hint) from None


def _linear_layers(loaded: LoadedModel, endings: list[str]) -> list[str]:
    """Full names of the blocks' linear layers, or of those with the given endings."""
    architecture = loaded.architecture
    every = [
        f"{architecture.blocks_name}.{name}"
        for name, module in architecture.blocks.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
    ]
    found = [name for name in every if not endings or any(name.endswith(ending) for ending in endings)]
    if not found:
        known = sorted({name.rpartition(".")[2] for name in every})
        raise UserError(f"no linear layer is called {' or '.join(endings)}", f"choose among: {', '.join(known)}")
    return found
