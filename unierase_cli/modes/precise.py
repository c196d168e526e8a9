"""Precise mode: each fact is forgotten on its own, from the original model, with one token for all facts.

To keep what is close to a fact, the method is given some of its neighbours (``mode.hold``); others are asked
afterwards.
"""

from __future__ import annotations

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Fact, Step, UserError, evenly_spaced
from unierase_cli.modes.neighbours import held_neighbours
from unierase_cli.modes.requests import look_up, settle

INDEPENDENT = True
TOKEN_QUESTIONS = "outside"


def plan(benchmark: Benchmark, config: ModeConfig) -> list[Step]:
    """One step per fact, repeated facts once.

    Raises UserError for an id that is not in the forget set, for a limit beyond its size, and for one question with two
    answers.
    """
    steps = []
    requests, _ = settle([_facts(benchmark, config)], steps=False)
    for index, fact in enumerate(requests[0]):
        held = held_neighbours(benchmark, fact, config)
        # As many others as neighbours, so that a method that samples from retain draws both equally often.
        retain = (*held, *evenly_spaced(benchmark.protect, len(held))) if held else benchmark.protect
        steps.append(Step(index, (fact,), retain, hold=held))
    return steps


def remarks(benchmark: Benchmark, config: ModeConfig) -> list[str]:
    """How many facts were named twice, and which repeat another."""
    twice = len(config.facts) - len(set(config.facts))
    named = [f"mode.facts names {twice} fact(s) twice: they are forgotten once"] if twice else []
    return named + settle([_facts(benchmark, config)], steps=False)[1]


def _facts(benchmark: Benchmark, config: ModeConfig) -> list[Fact]:
    if config.facts:
        facts = {fact.id: fact for fact in benchmark.forget}
        return look_up(list(dict.fromkeys(config.facts)), facts, "mode.facts")
    if config.limit > len(benchmark.forget):
        raise UserError(
            f"mode.limit={config.limit} is larger than the forget set ({len(benchmark.forget)} facts)", "0 takes all"
        )
    return list(benchmark.forget[: config.limit or None])
