"""Models that judge texts: two sentence encoders, an entailment classifier, a gibberish detector. Loaded when first asked.

Each is named by its hub id or a local folder (``eval.encoder``, ``eval.refusal_encoder``, ``eval.nli``, ``eval.gibberish``). The
reference codes measure similarity and find refusals with two different encoders, so there are two here. A judge that is not named,
not there, or that fails, hangs or runs out of memory makes the metrics that need it unavailable, with the reason; nothing is put in
its place. Each runs in a process of its own (``process``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unierase_cli.metrics.judges.kinds import (
    ENCODER,
    GIBBERISH,
    KINDS,
    NLI,
    REFUSAL_ENCODER,
    Classify,
    Encode,
    Judge,
    JudgeAbsent,
    JudgeFailed,
    why,
)

# How long a judge may take to load, and for each batch, before it counts as hung.
SECONDS = 600.0


@dataclass
class Judges:
    """The judges by name (None: not wanted), and what they have said: one object serves all states, which share many texts.

    ``seconds``: how long a judge may be silent, to load or over a batch (None: SECONDS).
    """

    encoder: str | None = None
    nli: str | None = None
    gibberish: str | None = None
    refusal_encoder: str | None = None
    seconds: float | None = None
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False)
    _said: dict[tuple[str, Hashable], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        *,
        encode: Encode | None = None,
        classify: Classify | None = None,
        clean: Judge | None = None,
        encode_refusals: Encode | None = None,
    ) -> Judges:
        """Judges that are functions already: one's own, or a test's."""
        given = {ENCODER: encode, NLI: classify, GIBBERISH: clean, REFUSAL_ENCODER: encode_refusals}
        return cls(_loaded={kind: judge for kind, judge in given.items() if judge is not None})

    def wanted(self, kind: str) -> bool:
        """Whether somebody named this judge, be it there or not."""
        return bool(getattr(self, kind)) or kind in self._loaded

    def encode(self, texts: Sequence[str], kind: str = ENCODER) -> NDArray[np.float64]:
        """Unit vectors of the texts, [n, d], by an encoder of this kind; zeros where it gives zeros. Raises JudgeAbsent."""
        vectors = np.asarray(self._ask(kind, texts), dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1.0)

    def classify(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """The label of each (premise, hypothesis), e.g. ``entailment``. Raises JudgeAbsent."""
        return self._ask(NLI, pairs)

    def clean(self, texts: Sequence[str]) -> list[float]:
        """Probability that each text is no gibberish. Raises JudgeAbsent."""
        return [float(value) for value in self._ask(GIBBERISH, texts)]

    def fingerprint(self) -> dict[str, str]:
        """What is known of the named judges without loading them, so that scores are made again once a missing one is there."""
        from unierase_cli.metrics.judges.models import fingerprint

        names = {kind: getattr(self, kind) for kind in KINDS}
        return {f"judge_{kind}": fingerprint(kind, name) for kind, name in names.items() if name}

    def _ask(self, kind: str, items: Sequence[Any]) -> list[Any]:
        """What the judge says of each item; it is asked once about equal ones."""
        judge = self._judge(kind)
        fresh = [item for item in dict.fromkeys(items) if (kind, item) not in self._said]
        if fresh:
            try:
                self._said |= {(kind, item): said for item, said in zip(fresh, judge(fresh), strict=True)}
            except Exception as error:
                # Whatever went wrong is told of each metric that asks, and the next one does not wait for it again.
                told = str(error) if isinstance(error, JudgeAbsent) else why(kind, getattr(self, kind) or "", error)
                self._loaded[kind] = JudgeFailed(told)
                raise JudgeFailed(told) from error
        return [self._said[kind, item] for item in items]

    def _judge(self, kind: str) -> Callable[[Sequence[Any]], Sequence[Any]]:
        if kind not in self._loaded:
            self._loaded[kind] = self._load(kind)
        found = self._loaded[kind]
        if isinstance(found, JudgeAbsent):
            raise type(found)(*found.args)
        judge: Callable[[Sequence[Any]], Sequence[Any]] = found
        return judge

    def _load(self, kind: str) -> Any:
        """The judge, or why it is absent: a hub that did not answer is not asked again for the next metric."""
        what, example = KINDS[kind]
        name = getattr(self, kind)
        if not name:
            return JudgeAbsent(f"no {what} is named; give one by hub id or folder, e.g. eval.{kind}={example}")
        from unierase_cli.metrics.judges.models import find_judge
        from unierase_cli.metrics.judges.process import JudgeProcess

        try:
            return JudgeProcess(kind, name, find_judge(kind, name), self.seconds or SECONDS)
        except JudgeAbsent as absent:
            return absent
