"""The interface of a loss term, and lookup by name: a file in this folder, or an entry point of ``unierase.terms``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from torch import Tensor

from unierase_cli.config.checks import complete
from unierase_cli.contracts import UserError
from unierase_cli.methods.settings import TERMS
from unierase_cli.training.unlearning.rows import RowBatch
from unierase_cli.training.unlearning.views import View

# Kinds of rows. i: the forget fact, r: its retain partner, k: its refusal, a: its alternative answer.
FORGET = "forget"  # question i, answer i
RETAIN = "retain"  # question r, answer r
FORGET_REFUSAL = "forget_refusal"  # question i, refusal k
RETAIN_REFUSAL = "retain_refusal"  # question r, refusal k
FORGET_ALTERNATE = "forget_alternate"  # question i, alternative answer a
UNLEARNED = "unlearned"  # question i, its unlearning token if there is one, and the refusal that follows
KINDS = (FORGET, RETAIN, FORGET_REFUSAL, RETAIN_REFUSAL, FORGET_ALTERNATE, UNLEARNED)


class Term(Protocol):
    """One loss, to be minimised. Its value is sum(weights * values) / sum(weights) over all units of an optimiser step.

    ``ROWS``: kinds of rows that the term reads; units are counted on the first. ``PER``: the unit: ``token`` (labelled
    token; ``values`` returns [N]), ``row`` ([B]) or ``position`` (every position of the padded batch, flattened [B * L]).
    ``SETTINGS``: settings with defaults. ``REFERENCE``: kind of row -> what the term needs from the reference model, the
    model before unlearning (``row_sums``, ``logits``, ``all_logits`` or ``blocks``).

    Optional: ``kinds(settings)``, ``per(settings)`` and ``reference(settings)`` replace ROWS, PER and REFERENCE, which then hold
    for the default settings only; ``weights(batch, settings)``: weights of the units (default: ``batch.token_weights``; 1 for
    rows and positions); ``settled(settings, count)``: the settings for a model of ``count`` blocks; ``blocks(settings)``: blocks
    whose outputs the term reads; ``batch_wide(settings)``: whether a row's value depends on the other rows of its batch;
    ``check(settings)`` raises UserError for invalid settings; ``after_step(state, losses, epoch, settings) -> state`` updates the
    coefficients of the roles ("forget", "retain").
    """

    ROWS: tuple[str, ...]
    PER: str
    SETTINGS: Mapping[str, Any]
    REFERENCE: Mapping[str, str]

    def values(self, rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor: ...


def term_names() -> list[str]:
    """Every available term: files of this folder, then entry points."""
    return TERMS.names()


def load_term(name: str) -> Term:
    """The term of that name. Raises UserError with near matches if there is none."""
    return cast(Term, TERMS.load(name))


def unit_weights(term: Term, batch: RowBatch, settings: Mapping[str, Any]) -> Tensor:
    """Weights of the term's units in a micro-batch: [N] tokens, [B] rows or [B * L] positions."""
    own = getattr(term, "weights", None)
    if own is not None:
        weights: Tensor = own(batch, settings)
        return weights
    per = unit_of(term, settings)
    if per == "row":
        return batch.weights.new_ones(len(batch))
    if per == "position":
        return batch.weights.new_ones(batch.ids.numel())
    return batch.token_weights


def rows_of(term: Term, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Kinds of rows that the term reads."""
    own = getattr(term, "kinds", None)
    return term.ROWS if own is None else own(settings)


def unit_of(term: Term, settings: Mapping[str, Any]) -> str:
    """The term's unit: ``token``, ``row`` or ``position``."""
    own = getattr(term, "per", None)
    return term.PER if own is None else own(settings)


def reference_of(term: Term, settings: Mapping[str, Any]) -> Mapping[str, str]:
    """Kind of row -> what the term needs from the reference model."""
    own = getattr(term, "reference", None)
    return term.REFERENCE if own is None else own(settings)


def term_loss(term: Term, rows: Mapping[str, View], settings: Mapping[str, Any], total: float | None = None) -> Tensor:
    """The term on a micro-batch: its weighted sum over ``total``, the whole step's weights (None: the micro-batch's own)."""
    weights = unit_weights(term, rows[rows_of(term, settings)[0]].batch, settings)
    summed = (weights * term.values(rows, settings)).sum()
    return summed / (weights.sum() if total is None else total)


def complete_settings(term: Term, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The term's defaults updated with ``given``. Raises UserError for an unknown or invalid setting."""
    settings = complete(term.SETTINGS, given, name)
    check = getattr(term, "check", None)
    if check is not None:
        try:
            check(settings)
        except UserError as error:
            raise UserError(f"{name}: {error.message}", error.hint) from None
    return settings
