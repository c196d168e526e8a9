"""Chooses the dtype that a training run computes in, with the reason."""

from __future__ import annotations

import torch

from unierase_cli.training.processor import cpu_has_bfloat16


def choose_compute(name: str, device: torch.device, key: str = "train.compute") -> tuple[torch.dtype, str]:
    """Dtype of weights and activations (master weights are always float32), and the reason.

    ``auto`` uses bfloat16 if the processor multiplies it natively, where a step of a small model took a third of the time of
    float32; elsewhere bfloat16 is emulated and slower.
    """
    if name != "auto":
        return getattr(torch, name), f"{key}={name}"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "this GPU has bfloat16 arithmetic"
        return torch.float32, "this GPU has no bfloat16 arithmetic"
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16, "this CPU has AVX-512 BF16 instructions"
    return torch.float32, f"this {device.type} has no bfloat16 instructions that pay off"
