"""Finding a mode by its file's name. A mode is pure planning: a benchmark becomes a list of steps."""

from __future__ import annotations

from typing import Protocol, cast

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Step
from unierase_cli.plugins import Plugins

MODES = Plugins("unierase_cli.modes", "unierase.modes", "mode=", "mode", {"base", "neighbours", "requests"})


class Mode(Protocol):
    """A module in this folder, or an object behind an entry point of group ``unierase.modes``.

    It may say more of itself by attributes. ``INDEPENDENT = True``: every step starts from the original model. ``STEPWISE =
    True``: the model is of interest after every step. ``TOKEN_QUESTIONS = "outside"``: what an unlearning token is trained on
    unless the configuration says (else ``forget``). ``remarks(benchmark, config)``: sentences that the user should be told.
    """

    def plan(self, benchmark: Benchmark, config: ModeConfig) -> list[Step]: ...


def load_mode(name: str) -> Mode:
    """The mode of that name. Raises UserError with near matches when there is none."""
    return cast(Mode, MODES.load(name))
