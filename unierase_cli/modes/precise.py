"""Precise mode: each fact is forgotten on its own, from the original model, with one token for all of them."""

from __future__ import annotations

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Fact, Step, UserError
from unierase_cli.modes.requests import look_up

INDEPENDENT = True
TOKEN_QUESTIONS = "outside"


def plan(benchmark: Benchmark, config: ModeConfig) -> list[Step]:
    """A step per fact. Raises UserError for an id that the forget set does not have, and for a limit beyond its size."""
    return [Step(index, (fact,), benchmark.protect) for index, fact in enumerate(_facts(benchmark, config))]


def remarks(benchmark: Benchmark, config: ModeConfig) -> list[str]:
    """How many facts were named twice."""
    twice = len(config.facts) - len(set(config.facts))
    return [f"mode.facts names {twice} fact(s) twice: they are forgotten once"] if twice else []


def _facts(benchmark: Benchmark, config: ModeConfig) -> list[Fact]:
    if config.facts:
        facts = {fact.id: fact for fact in benchmark.forget}
        return look_up(list(dict.fromkeys(config.facts)), facts, "mode.facts")
    if config.limit > len(benchmark.forget):
        raise UserError(
            f"mode.limit={config.limit} is larger than the forget set ({len(benchmark.forget)} facts)", "0 takes all"
        )
    return list(benchmark.forget[: config.limit or None])
