"""Detects fast CPU instructions, without torch, because estimates need this before anything is loaded."""

from __future__ import annotations

from pathlib import Path


def cpu_has_bfloat16(info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU lists AVX-512 BF16 or AMX BF16 (Linux only; False elsewhere)."""
    try:
        flags = set(info.read_text("utf-8").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16"})
