"""Models that judge texts: two sentence encoders, an entailment classifier and a gibberish detector, loaded on first use.

Each is given by its hub id or a local folder (``eval.encoder``, ``eval.refusal_encoder``, ``eval.nli``, ``eval.gibberish``). There
are two encoders because the reference code bases measure similarity and find refusals with different ones. If a judge is not
configured, missing, fails, hangs or runs out of memory, its metrics are unavailable with the reason; nothing replaces it. Each
runs in its own process (``process``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Time limit for a judge to load, and for each batch, in seconds.
SECONDS = 600.0


@dataclass
class Judges:
    """The judges by name (None: not wanted), and a cache of their results.

    One object serves all model states, which share many texts. ``seconds``: time limit for loading and for each batch (None:
    SECONDS).
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
        """Judges made of plain functions, such as custom ones or those of a test."""
        given = {ENCODER: encode, NLI: classify, GIBBERISH: clean, REFUSAL_ENCODER: encode_refusals}
        return cls(_loaded={kind: judge for kind, judge in given.items() if judge is not None})

    def wanted(self, kind: str) -> bool:
        """Whether this judge is configured, available or not."""
        return bool(getattr(self, kind)) or kind in self._loaded

    def encode(self, texts: Sequence[str], kind: str = ENCODER) -> NDArray[np.float64]:
        """Unit vectors of the texts, [n, d], by an encoder of this kind; zero vectors stay zero. Raises JudgeAbsent."""
        import numpy as np

        vectors = np.asarray(self._ask(kind, texts), dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1.0)

    def classify(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """The label of each (premise, hypothesis), e.g. ``entailment``. Raises JudgeAbsent."""
        return self._ask(NLI, pairs)

    def clean(self, texts: Sequence[str]) -> list[float]:
        """Probability that each text is not gibberish. Raises JudgeAbsent."""
        return [float(value) for value in self._ask(GIBBERISH, texts)]

    def fingerprint(self) -> dict[str, str]:
        """State of the configured judges, without loading them, so that scores are recomputed once a missing one is available."""
        from unierase_cli.metrics.judges.models import fingerprint

        names = {kind: getattr(self, kind) for kind in KINDS}
        return {f"judge_{kind}": fingerprint(kind, name) for kind, name in names.items() if name}

    def _ask(self, kind: str, items: Sequence[Any]) -> list[Any]:
        """The judge's result for each item; equal items are judged once."""
        judge = self._judge(kind)
        fresh = [item for item in dict.fromkeys(items) if (kind, item) not in self._said]
        if fresh:
            try:
                self._said |= {(kind, item): said for item, said in zip(fresh, judge(fresh), strict=True)}
            except Exception as error:
                # Every metric that needs this judge reports the same failure, without waiting for it again.
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
        """The judge, or why it is absent, cached so that an unreachable hub is not asked again for the next metric."""
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
