"""Finds a mode by its file's name; a mode only plans: it turns a benchmark into a list of steps."""

from __future__ import annotations

from typing import Protocol, cast

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Step
from unierase_cli.plugins import Plugins

MODES = Plugins("unierase_cli.modes", "unierase.modes", "mode=", "mode", {"base", "neighbours", "requests"})


class Mode(Protocol):
    """A module in this folder, or an object behind an entry point of group ``unierase.modes``.

    Optional attributes: ``INDEPENDENT = True``: every step starts from the original model. ``STEPWISE = True``: the
    model is evaluated after every step. ``TOKEN_QUESTIONS = "outside"``: the default questions for training an
    unlearning token (else ``forget``). ``remarks(benchmark, config)``: sentences to show the user.
    """

    def plan(self, benchmark: Benchmark, config: ModeConfig) -> list[Step]: ...


def load_mode(name: str) -> Mode:
    """The mode of that name. Raises UserError with near matches if there is none."""
    return cast(Mode, MODES.load(name))
