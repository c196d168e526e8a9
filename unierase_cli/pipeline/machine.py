"""The properties of a machine that determine the bits of a result; equal bits are promised if all are equal."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.training import processes

DEVICES = Path("/dev")


def machine(device: str) -> dict[str, Any]:
    """Processor and number of processes, and if torch is loaded, the device (``run.device``), instructions and threads."""
    found: dict[str, Any] = {"cpu": _cpu(), "processes": processes.world()}
    torch = sys.modules.get("torch")
    if torch is None:
        return found
    found |= {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    from unierase_cli.models.load import choose_device

    with suppress(UserError):  # a stage without a model may run on a machine without that device
        chosen = choose_device(device)
        found["device"] = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type
    return found


def likely_accelerator(device: str) -> bool:
    """Whether a run with this ``run.device`` will use an accelerator, as far as can be told without torch."""
    if device != "auto":
        return device != "cpu"
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    # NVIDIA, AMD, and either of them under WSL.
    return not hidden and (any(DEVICES.glob("nvidia[0-9]*")) or any((DEVICES / name).exists() for name in ("kfd", "dxg")))


@cache
def _cpu() -> str:
    """The processor's name if the system provides it, else its type."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or os.uname().machine
