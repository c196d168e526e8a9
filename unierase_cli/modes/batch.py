"""Batch mode: everything is forgotten in one step."""

from __future__ import annotations

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Step


def plan(benchmark: Benchmark, config: ModeConfig) -> list[Step]:
    """One step with the whole forget set and all rows that may be protected."""
    return [Step(index=0, forget=benchmark.forget, retain=benchmark.protect)]
