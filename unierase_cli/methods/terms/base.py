"""What a loss term is, and how one is found by name: a file in this folder, or an entry point of ``unierase.terms``."""

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
KINDS = (FORGET, RETAIN, FORGET_REFUSAL, RETAIN_REFUSAL, FORGET_ALTERNATE)


class Term(Protocol):
    """One loss, to be minimised. Its value is sum(weights * values) / sum(weights) over all units of an optimiser step.

    ``ROWS``: kinds of rows that are looked at, the one that units are counted on first. ``PER``: what a unit is: ``token``
    (labelled token; ``values`` gives [N]), ``row`` ([B]) or ``position`` (every position of the padded batch, flattened
    [B * L]). ``SETTINGS``: what can be set, with defaults. ``REFERENCE``: kind of row -> what is needed of the model before
    unlearning (``row_sums``, ``logits``, ``all_logits`` or ``blocks``).

    Optional: ``per(settings)`` and ``reference(settings)``, where PER and REFERENCE hold for the default settings only;
    ``weights(batch, settings)``: the units' weights, where they are not ``batch.token_weights`` (rows and positions: all 1);
    ``blocks(settings)``: layers whose outputs are asked for; ``batch_wide(settings)``: whether a row's value depends on the rows
    beside it; ``check(settings)`` raises UserError on impossible settings; ``after_step(state, losses, epoch, settings) -> state``:
    coefficients that move while training ("forget", "retain").
    """

    ROWS: tuple[str, ...]
    PER: str
    SETTINGS: Mapping[str, Any]
    REFERENCE: Mapping[str, str]

    def values(self, rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor: ...


def term_names() -> list[str]:
    """Every term that can be found: files of this folder, then entry points."""
    return TERMS.names()


def load_term(name: str) -> Term:
    """The term of that name. Raises UserError with near matches when there is none."""
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


def unit_of(term: Term, settings: Mapping[str, Any]) -> str:
    """``token``, ``row`` or ``position``."""
    own = getattr(term, "per", None)
    return term.PER if own is None else own(settings)


def reference_of(term: Term, settings: Mapping[str, Any]) -> Mapping[str, str]:
    """Kind of row -> what the term needs of the model before unlearning."""
    own = getattr(term, "reference", None)
    return term.REFERENCE if own is None else own(settings)


def term_loss(term: Term, rows: Mapping[str, View], settings: Mapping[str, Any], total: float | None = None) -> Tensor:
    """The term on a micro-batch: its weighted sum over ``total`` (the whole step's weights; None: the micro-batch's own)."""
    weights = unit_weights(term, rows[term.ROWS[0]].batch, settings)
    summed = (weights * term.values(rows, settings)).sum()
    return summed / (weights.sum() if total is None else total)


def complete_settings(term: Term, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The term's settings: defaults with what is given in their place. Raises UserError on an unknown or unfit one."""
    settings = complete(term.SETTINGS, given, name)
    check = getattr(term, "check", None)
    if check is not None:
        try:
            check(settings)
        except UserError as error:
            raise UserError(f"{name}: {error.message}", error.hint) from None
    return settings
