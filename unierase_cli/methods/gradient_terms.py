"""A gradient method's loss terms with their settings: bound for the training loop, and checked for what they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unierase_cli.config.checks import model_block
from unierase_cli.config.sections.model import TermConfig
from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import UserError
from unierase_cli.methods.settings import given_settings, term_title
from unierase_cli.methods.terms.base import (
    FORGET,
    Term,
    complete_settings,
    load_term,
    reference_of,
    rows_of,
    term_loss,
    unit_of,
    unit_weights,
)
from unierase_cli.training.unlearning.objective import BoundTerm

Terms = Mapping[str, tuple[Term, dict[str, Any]]]


def bind_terms(forget: TermConfig, retain: TermConfig, seed: int) -> Terms:
    """Role -> (term, its settings). Raises UserError for an unknown term or setting, and if there is no term.

    ``seed``: the run's, for a term with randomness whose own seed is not set.
    """
    found = {}
    for role, config in (("forget", forget), ("retain", retain)):
        if config.term is not None:
            term = load_term(config.term)
            given = given_settings(term.SETTINGS, config, seed)
            found[role] = (term, complete_settings(term, given, term_title(role, config.term)))
    if not found:
        raise UserError("this method has no loss term", "set method.forget.term=... and method.retain.term=...")
    return found


def kinds_of(terms: Terms) -> set[str]:
    """Kinds of rows that the terms read."""
    return {kind for term, settings in terms.values() for kind in rows_of(term, settings)}


def blocks_of(term: Term, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Blocks whose outputs a term reads."""
    asked = getattr(term, "blocks", None)
    return () if asked is None else tuple(asked(settings))


def reference_needs(terms: Terms) -> dict[str, set[str]]:
    """Kind of row -> what the terms need from the reference model."""
    needs: dict[str, set[str]] = {}
    for term, settings in terms.values():
        for kind, what in reference_of(term, settings).items():
            needs.setdefault(kind, set()).add(what)
    return needs


def with_blocks(terms: Terms, count: int) -> Terms:
    """The terms with the blocks that they read in a model of ``count`` blocks; raises UserError for one that it lacks."""
    found = {}
    for role, (term, settings) in terms.items():
        if hasattr(term, "settled"):
            settings = term.settled(settings, count)
        for block in blocks_of(term, settings):
            model_block(f"method.{role}.settings.layer", block, count)
        found[role] = (term, settings)
    return found


def check_labels(terms: Terms, config: UnlearnConfig) -> None:
    """Raise UserError if labels cover the padding and a loss compares with numbers stored before the padding is known."""
    if config.forget_labels == "all" and config.layout != "closer_look" and reference_needs(terms).get(FORGET):
        raise UserError(
            "unlearn.forget_labels=all labels the padding, which varies by step, so there is no fixed reference",
            "add unlearn.layout=closer_look unlearn.max_length=200",
        )


def bound(role: str, term: Term, settings: dict[str, Any]) -> BoundTerm:
    """A term in the form that the objective uses."""
    after = getattr(term, "after_step", None)
    return BoundTerm(
        role,
        rows_of(term, settings),
        lambda batch: unit_weights(term, batch, settings),
        lambda views, total: term_loss(term, views, settings, total),
        blocks_of(term, settings),
        None if after is None else lambda state, parts, epoch: after(state, parts, epoch, settings),
        unit_of(term, settings),
        hasattr(term, "batch_wide") and term.batch_wide(settings),
    )
