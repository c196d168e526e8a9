"""Perplexity on plain text: exp of the mean loss per token over all texts (pass ``perplexity``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import DETAIL, OVERALL, About, Column, Evidence, unavailable
from unierase_cli.metrics.statistics.bootstrap import percentiles, resampled

NAME = "perplexity"
VERSION = 1
HIGHER_IS_BETTER = False
ABOUT = About(NAME, "perplexity on plain text", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation], rows: Sequence[Mapping[str, Any]] = ()) -> Measure:
    """Perplexity from the pass's rows (``tokens``, summed ``loss``); the interval resamples texts."""
    losses, tokens = (np.array([row[key] for row in rows], dtype=np.float64) for key in ("loss", "tokens"))
    if not rows or tokens.sum() == 0:
        return unavailable(ABOUT, "there is no text to score")
    if not np.isfinite(losses).all():
        return unavailable(ABOUT, "the loss of a text is not a number", "try model.dtype=float32")
    interval = None
    if len(rows) > 1:
        chosen = resampled(len(rows), NAME)
        interval = percentiles(_bounded_exp(losses[chosen].sum(1) / tokens[chosen].sum(1)))
    value = float(_bounded_exp(losses.sum() / tokens.sum()))
    return ABOUT.measure(value, len(rows), interval)


def columns(evidence: Evidence) -> Iterable[Column]:
    if NAME in evidence.passes:
        yield Column(NAME, ABOUT.title, OVERALL, DETAIL, compute((), evidence.passes[NAME]))


def _bounded_exp(loss: Any) -> Any:
    # A broken model's perplexity may overflow float64.
    return np.exp(np.minimum(loss, math.log(np.finfo(np.float64).max)))
