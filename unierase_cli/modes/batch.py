"""Batch mode: everything is forgotten in one step."""

from __future__ import annotations

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Step
from unierase_cli.modes.requests import settle


def plan(benchmark: Benchmark, config: ModeConfig) -> list[Step]:
    """One step with the whole forget set, repeated facts once, and everything that may be protected.

    Raises UserError for one question with two answers.
    """
    requests, _ = settle([benchmark.forget], steps=False)
    return [Step(index=0, forget=tuple(requests[0]), retain=benchmark.protect)]


def remarks(benchmark: Benchmark, config: ModeConfig) -> list[str]:
    """Which facts are repeated."""
    return settle([benchmark.forget], steps=False)[1]
