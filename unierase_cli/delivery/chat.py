"""Asks a model before and after its edit. One model is in memory; its patches are applied and reverted as needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import Reporter
from unierase_cli.delivery.edited_folder import recorded_experiment
from unierase_cli.delivery.export import find_erasure, load_unedited
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.pipeline.model_states import end_answers
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

if TYPE_CHECKING:
    from unierase_cli.config.sections.evaluation import ProtocolConfig
    from unierase_cli.editing.patch import Patch
    from unierase_cli.models.load import LoadedModel

STATES = ("before", "after")


@dataclass(frozen=True)
class Said:
    """An answer; ``raw_text`` keeps special tokens; ``stop``: end | text | length | context."""

    text: str
    raw_text: str
    stop: str
    first_unlearn_probability: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class TwoStates:
    """A model that switches between its unedited and its edited weights, bit-exactly (see AppliedPatch).

    Answers are those that the run's evaluation would record: the same prompt, greedy decoding, the protocol's number of
    tokens. Questions are independent of each other.
    """

    def __init__(self, loaded: LoadedModel, patches: Sequence[Patch], protocol: ProtocolConfig) -> None:
        """Raises UserError if the patches belong to another model."""
        from unierase_cli.editing.apply import apply_patches

        self.loaded, self.protocol = loaded, protocol
        end_answers(loaded, protocol)
        self._patches = patches
        self._weights = apply_patches(loaded, patches)
        self._state = "after"
        self.has_token = bool(loaded.unlearn_ids)

    def ask(self, question: str, states: Sequence[str] = STATES, *, forbid: bool = False) -> dict[str, Said]:
        """State -> answer. ``forbid``: the edited model must not generate an unlearning token.

        Raises UserError for a question that exceeds the model's context.
        """
        # The current state answers first, so that the weights change once per question and not twice.
        answers = {
            state: self._answer(question, state, forbid) for state in sorted(states, key=lambda s: s != self._state)
        }
        return {state: answers[state] for state in states}

    def _answer(self, question: str, state: str, forbid: bool) -> Said:
        from unierase_cli.inference.generate import answer_text, generate

        self._become(state)
        loaded = self.loaded
        (found,) = generate(
            loaded,
            [loaded.prompts.prompt(question).ids],
            max_new_tokens=self.protocol.max_new_tokens,
            total_tokens=self.protocol.total_tokens,
            forbid=loaded.unlearn_ids if forbid else None,
        )
        text, raw = (answer_text(loaded, found, skip_special=skip).strip() for skip in (True, False))
        return Said(text, raw, found.stop, found.first_unlearn_probability)

    def _become(self, state: str) -> None:
        if state == self._state:
            return
        if state == "before":
            self._weights.revert()
        else:
            for patch in self._patches:
                self._weights.add_patch(patch)
        self._state = state


def open_run(
    run: Artefact,
    store: Store,
    reporter: Reporter,
    *,
    until: int | None = None,
    base: str | None = None,
    device: str = "auto",
) -> TwoStates:
    """Load a run's model and its patches up to and including step ``until``."""
    chosen = choose_steps(find_erasure(run, store), until)
    loaded = load_unedited(chosen, store, reporter, base, device)
    return TwoStates(loaded, list(chosen.patches()), recorded_experiment(chosen).protocol)
