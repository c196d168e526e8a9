"""What a method is, what it works with, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from unierase_cli.contracts import Fact, Reporter, Step
from unierase_cli.plugins import Plugins

if TYPE_CHECKING:
    from unierase_cli.config.schema import Experiment
    from unierase_cli.config.sections.edit import EditConfig
    from unierase_cli.editing.nullspace import Preservation
    from unierase_cli.editing.patch import Patch
    from unierase_cli.editing.state import EditState
    from unierase_cli.editing.weights import AppliedPatch
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.models.token_rows import TokenRows

NOT_METHODS = {"base", "closed_form", "gradient_checks", "gradient_rows", "gradient_terms", "settings", "trained", "traits"}
METHODS = Plugins("unierase_cli.methods", "unierase.methods", "method=", "method", NOT_METHODS)


@dataclass
class EraseContext:
    """What a method may use beside the model and the step's facts.

    ``weights``: the model's changes so far, to which the method adds. ``preservation(layer, config)``: what the edit
    must leave alone. ``refine``: trains token rows once more on the edited model (None: leave them). ``directory``:
    for files that an interrupted run goes on from. ``evaluate``: a quick look at the model as it is now (named scores);
    ``sample(prompts, seed)``: answers drawn from it at temperature 1. ``token_weights``: fact id -> how much each token of
    its answer counts.
    """

    experiment: Experiment
    weights: AppliedPatch
    layers: list[int]
    key_position: str
    preservation: Callable[[int, EditConfig], Preservation]
    reporter: Reporter
    refusals: Sequence[str] = ()
    tokens: TokenRows | None = None
    refine: Callable[[LoadedModel, TokenRows, Sequence[Fact]], TokenRows] | None = None
    directory: Path | None = None
    evaluate: Callable[[], dict[str, float]] | None = None
    sample: Callable[[Sequence[list[int]], int], list[str]] | None = None
    token_weights: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Method(Protocol):
    """A module in this folder, or an object behind an entry point of group ``unierase.methods``.

    Optional: ``SETTINGS``: what ``method.settings.NAME=VALUE`` can set, with defaults. ``check(experiment, steps, refusals)``
    raises UserError for what the configuration shows to be impossible, these settings included; it is asked before anything is
    made, without a model.

    What stages want to know of it (``traits``), each a literal: ``SAMPLES = True``: it draws answers from the model.
    ``NEEDS_ADAPTER = True``: it trains adapters alone. ``ROWS_PER_FACT = "NAME"``: the setting that says how many examples each
    fact makes. ``CHANGES_NOTHING = True``: the model is left as it is.
    """

    def erase(
        self, loaded: LoadedModel, step: Step, state: EditState, context: EraseContext
    ) -> tuple[Patch, EditState]:
        """Change ``loaded`` so that it forgets ``step.forget``; returns the change and what the next step must know."""
        ...


def load_method(name: str) -> Method:
    """The method of that name. Raises UserError with near matches when there is none."""
    return cast(Method, METHODS.load(name))
