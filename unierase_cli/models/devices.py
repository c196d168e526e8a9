"""Models on several devices: accelerate places the modules and moves their inputs to them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unierase_cli.contracts import UserError
from unierase_cli.models.architecture import Architecture


def device_of(architecture: Architecture, layer: int) -> torch.device:
    """The device of a block's down projection and its keys."""
    return architecture.projection(layer).weight.device


def is_spread(model: nn.Module) -> bool:
    """Whether the weights are on more than one device."""
    return len({parameter.device for parameter in model.parameters()}) > 1


def refuse_spread(model: nn.Module) -> None:
    """Raise UserError if a model on several devices is to be trained."""
    if is_spread(model):
        raise UserError(
            "model.device_map is for editing and evaluation, not for training",
            "set model.device_map=null; several GPUs with unlearn.sharding=fsdp",
        )


def check_spreading(device_map: Any) -> None:
    """Raise UserError without accelerate, which places the modules and moves data between them."""
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise UserError(
            f"model.device_map={device_map} needs the package accelerate",
            "pip install accelerate, or model.device_map=null",
        ) from None


def check_placed(model: nn.Module) -> None:
    """Raise UserError if weights did not fit the devices: accelerate leaves them on disk, where they cannot be edited."""
    left = [name for name, parameter in model.named_parameters() if parameter.device.type == "meta"]
    if left:
        raise UserError(
            f"model.device_map: {len(left)} weights do not fit the devices, e.g. {left[0]}",
            "use more devices, model.dtype=bfloat16, or a smaller model",
        )


def placement(model: nn.Module) -> str:
    """The share of each device, e.g. ``cuda:0 (54 %), cuda:1 (46 %)``."""
    sizes: dict[str, int] = {}
    for parameter in model.parameters():
        sizes[str(parameter.device)] = sizes.get(str(parameter.device), 0) + parameter.numel()
    total = sum(sizes.values())
    return ", ".join(f"{device} ({100 * size / total:.0f} %)" for device, size in sizes.items())
