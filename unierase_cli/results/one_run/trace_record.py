"""``trace.json``: what restoring states brings back of the answers, and which blocks that would have edited."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FILE, PICTURE = "trace.json", "trace.png"
AGAIN = "unierase trace --force makes it again"


@dataclass(frozen=True)
class Curve:
    """Mean indirect effects over ``facts`` facts, one per block: of states of one ``kind``, at one class of tokens (``position``),
    on ``measure``, ``probability`` or ``log_prob``. ``low``, ``high``: 95 % interval of each, empty for fewer than two facts.
    """

    kind: str
    position: str
    measure: str
    facts: int
    mean: list[float]
    low: list[float]
    high: list[float]

    def at(self, block: int) -> str:
        """A value with its interval, as text."""
        interval = f" [{self.low[block]:.3f}, {self.high[block]:.3f}]" if self.low else ""
        return f"{self.mean[block]:.3f}{interval}"


@dataclass(frozen=True)
class Window:
    """The MLPs of a window of blocks with the largest mean effect on the answer's probability, and the block at its centre.
    If block 0 is among them, another window of the same ``position`` follows, without it.

    ``key_position``: where an edit would write to them; ``position``: the same as a class of tokens.
    """

    key_position: str
    position: str
    blocks: list[int]
    centre: int


@dataclass(frozen=True)
class Trace:
    """``clean``, ``corrupted``: measure -> mean over the traced facts. ``asked``: facts to forget; ``answered``: those that the
    model answers; ``facts``: those of these that were traced; ``skipped``: reason -> number of facts.

    ``default``: blocks that the rule for the model's depth edits; ``windows``: what was measured instead, empty without MLPs;
    none at the last prompt token with ``trace.lead``, behind which it was measured and no edit writes.
    """

    blocks: int
    window: int
    asked: int
    answered: int
    facts: int
    skipped: dict[str, int]
    clean: dict[str, float]
    corrupted: dict[str, float]
    curves: list[Curve]
    default: list[int]
    windows: list[Window]

    def curve(self, kind: str, position: str, measure: str = "probability") -> Curve | None:
        wanted = (kind, position, measure)
        return next((c for c in self.curves if (c.kind, c.position, c.measure) == wanted), None)

    def kinds(self) -> list[str]:
        return list(dict.fromkeys(curve.kind for curve in self.curves))

    def positions(self) -> list[str]:
        """Classes of tokens that some fact has."""
        return list(dict.fromkeys(curve.position for curve in self.curves))


def conclusions(trace: Trace) -> list[str]:
    """What the numbers say, in lines: the total effect, the largest effect of each kind, and the blocks that an edit would take."""
    clean, corrupted = trace.clean["probability"], trace.corrupted["probability"]
    skipped = "".join(f"; {count} skipped ({reason})" for reason, count in trace.skipped.items())
    lines = [
        f"{trace.facts} facts traced of {trace.answered} that the model answers, of {trace.asked} to forget{skipped}",
        f"probability of the answer's first token: {clean:.3f}, with noise on the subject {corrupted:.3f} "
        f"(total effect {clean - corrupted:.3f})",
    ]
    for kind in trace.kinds():
        curves = [c for c in trace.curves if c.kind == kind and c.measure == "probability"]
        best = max(curves, key=lambda curve: max(curve.mean))
        block = best.mean.index(max(best.mean))
        lines.append(f"{kind}: largest at the {best.position}, block {block}: {best.at(block)}")
    for position in dict.fromkeys(window.position for window in trace.windows):
        if (curve := trace.curve("mlp", position)) is not None:
            lines.append(_proposal(trace, [window for window in trace.windows if window.position == position], curve))
    return lines


def _proposal(trace: Trace, windows: list[Window], curve: Curve) -> str:
    best, default = windows[0], trace.default
    without = "".join(f"; without block 0 {_words(w.blocks)} ({curve.at(w.centre)})" for w in windows[1:])
    told = _words(default)
    # Its own effect was measured only if the rule's blocks are a window too.
    if len(default) == trace.window:
        told += f" ({curve.at(default[0] + trace.window // 2)})"
    return (
        f"edit.layers={_words(best.blocks)} are the blocks whose MLPs have the largest effect at the {best.position} "
        f"({curve.at(best.centre)}; key_position={best.key_position}){without}; the default rule takes {told}"
    )


def _words(blocks: list[int]) -> str:
    return f"[{','.join(map(str, blocks))}]"


def to_json(trace: Trace) -> dict[str, Any]:
    return {**asdict(trace), "conclusions": conclusions(trace)}
