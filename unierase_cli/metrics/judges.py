"""Models that judge texts: a sentence encoder, an entailment classifier, a gibberish detector. Loaded when first asked.

Each is named by its hub id or a local folder (``eval.encoder``, ``eval.nli``, ``eval.gibberish``). A judge that is not named or not
there makes the metrics that need it unavailable, with the reason; nothing is put in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from numpy.typing import NDArray

# Texts -> unit vectors [n, d]; pairs (premise, hypothesis) -> labels; texts -> probability of being clean text.
Encode = Callable[[Sequence[str]], "NDArray"]
Classify = Callable[[Sequence[tuple[str, str]]], list[str]]
Judge = Callable[[Sequence[str]], list[float]]


class JudgeAbsent(Exception):
    """There is no such judge; the text says why and what mends it."""


@dataclass
class Judges:
    """Names of the judges; None: not wanted."""

    encoder: str | None = None
    nli: str | None = None
    gibberish: str | None = None
    _loaded: dict[str, object] = field(default_factory=dict, repr=False)
