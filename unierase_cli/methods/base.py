"""The interface of a method, the context that it gets, and lookup by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from unierase_cli.contracts import Fact, Reporter, Step
from unierase_cli.plugins import Plugins

if TYPE_CHECKING:
    from torch import Tensor

    from unierase_cli.config.schema import Experiment
    from unierase_cli.config.sections.edit import EditConfig
    from unierase_cli.editing.nullspace import Preservation
    from unierase_cli.editing.patch import Patch
    from unierase_cli.editing.state import EditState
    from unierase_cli.editing.weights import AppliedPatch
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.models.token_rows import TokenRows
    from unierase_cli.training.unlearning.said import Said

NOT_METHODS = {
    "base", "closed_form", "gradient_checks", "gradient_rows", "gradient_terms", "own_answers", "parts", "rounds", "settings",
    "trained", "traits",
}  # fmt: skip
METHODS = Plugins("unierase_cli.methods", "unierase.methods", "method=", "method", NOT_METHODS)


# ``preservation`` and ``second_moment`` of an EraseContext.
Renewed: TypeAlias = "tuple[Callable[[int, EditConfig], Preservation], Callable[[int], Tensor]]"


@dataclass
class EraseContext:
    """What a method may use besides the model and the step's facts.

    ``weights``: the model's changes so far; the method adds its own. ``preservation(layer, config)``: what the edit must
    preserve. ``refine``: retrains token rows on the edited model (None: no retraining). ``directory``: for files that an
    interrupted run resumes from. ``evaluate``: quick evaluation of the current model (score by name).
    ``sample(prompts, seed)``: answers sampled from the current model at temperature 1. ``token_weights``: fact id -> weight
    of each answer token; ``attributed``: those of the stage attribute, for parts of a chain that ask for them.
    ``nearest(forget, facts)``: the facts ordered by how similar their groups are to those to forget (None: unknown).
    ``answer(prompts, most)``: the current model's greedy answers of at most ``most`` tokens, each with whether the model ended it.
    ``reveal(round)``: what the current model reveals about ``reveal.targets``, and its mean relevance.
    ``second_moment(layer)``: C [d, d] of the texts to keep, float64. ``watched``: prompts of the held-out questions of
    ``edit.keep_first``. ``renewed()``: ``preservation`` and ``second_moment`` of the model as it is now (None: those of the
    unedited model serve). ``several``: whether the plan has more than one step, so that a step with nothing to do leaves an
    empty patch instead of ending the run.
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
    attributed: Mapping[str, Sequence[float]] = field(default_factory=dict)
    nearest: Callable[[Sequence[Fact], Sequence[Fact]], tuple[Fact, ...]] | None = None
    answer: Callable[[Sequence[list[int]], int], list[Said]] | None = None
    reveal: Callable[[int], tuple[Sequence[Fact], float]] | None = None
    second_moment: Callable[[int], Tensor] | None = None
    watched: Sequence[Sequence[int]] = ()
    renewed: Callable[[], Renewed] | None = None
    several: bool = False


class Method(Protocol):
    """A module in this folder, or an object behind an entry point of group ``unierase.methods``.

    Optional: ``SETTINGS``: settings for ``method.settings.NAME=VALUE``, with defaults. ``check(experiment, steps, refusals)``
    raises UserError if the configuration, these settings included, cannot work; it runs before anything is made, without a
    model.

    Optional constants for the stages (see ``traits``), each a literal: ``SAMPLES = True``: the method samples answers from
    the model. ``NEEDS_ADAPTER = True``: it trains adapters only. ``REVEALS = True``: it asks the model about
    ``reveal.targets``. ``ROWS_PER_FACT = "NAME"``: the setting that holds the number of training examples per fact.
    ``CHANGES_NOTHING = True``: it leaves the model unchanged.
    """

    def erase(
        self, loaded: LoadedModel, step: Step, state: EditState, context: EraseContext
    ) -> tuple[Patch, EditState]:
        """Make ``loaded`` forget ``step.forget``; return the change and the state for the next step."""
        ...


def load_method(name: str) -> Method:
    """The method of that name. Raises UserError with near matches if there is none."""
    return cast(Method, METHODS.load(name))
