"""Further passes over a model, selected by name (``eval.passes``): what generation and teacher forcing do not measure.

A pass is a file of this folder (or an entry point of the group ``unierase.probes``) with ``VERSION``, ``rows``,
``count`` and, if it compares the edited model with the unedited one, ``remember(loaded, asking)``. Its rows are stored
beside the observations, where metrics read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.contracts import Fact
from unierase_cli.models.load import LoadedModel
from unierase_cli.plugins import Plugins
from unierase_cli.training.unlearning.rows import Row, RowBatch, collate, make_row
from unierase_cli.training.unlearning.views import FrozenView

PASSES = Plugins("unierase_cli.probes", "unierase.probes", "eval.passes=", "pass")


@dataclass(frozen=True)
class Asking:
    """The input of a pass.

    ``facts``: the scored splits. ``texts``: plain text (``eval.texts``). ``reference``: loads ``eval.reference_model``,
    a model that never saw the forget set.
    """

    facts: Mapping[str, Sequence[Fact]]
    texts: Sequence[str]
    protocol: ProtocolConfig
    batch_size: int
    reference: Callable[[], LoadedModel]
    advance: Callable[..., None] = lambda *args, **kwargs: None

    def of(self, *splits: str) -> list[tuple[str, Fact]]:
        """(split, fact) for every fact of the named splits that exist."""
        return [(split, fact) for split in splits for fact in self.facts.get(split, ())]


class Pass(Protocol):
    """A further pass over a model.

    ``count``: number of rows. ``rows``: JSON-able rows as they are found, in any order. ``remembered``: what
    ``remember`` returned for the unedited model; None if there is no such function or the state is ``base``.
    """

    VERSION: int

    def count(self, asking: Asking) -> int: ...

    def rows(self, loaded: LoadedModel, asking: Asking, remembered: Any) -> Iterator[dict[str, Any]]: ...


def load_pass(name: str) -> Pass:
    """The pass of that name. Raises UserError with near matches if there is none."""
    return cast(Pass, PASSES.load(name))


def training_row(loaded: LoadedModel, fact: Fact, protocol: ProtocolConfig) -> Row:
    """Prompt and true answer as one sequence, cut to the model's context and the protocol's total, as for scored answers."""
    prompt, answer = loaded.prompts.pair(fact)
    most = min((limit for limit in (loaded.prompts.max_length, protocol.total_tokens) if limit), default=0)
    # A long prompt keeps one token of its answer.
    return make_row(prompt, answer, max(most, len(prompt) + 1) if most else 0)


def frozen_views(
    loaded: LoadedModel, rows: Sequence[Row], batch_size: int
) -> Iterator[tuple[Sequence[int], FrozenView]]:
    """Gradient-free views of batches of similar length, each with the indices of its rows."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    size = batch_size or 16
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield chosen, FrozenView(loaded, batch_of(loaded, [rows[i] for i in chosen]))


def batch_of(loaded: LoadedModel, rows: Sequence[Row]) -> RowBatch:
    """The rows as a batch on the model's device."""
    return collate(rows, loaded.prompts.pad_id, loaded.device)
