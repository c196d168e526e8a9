"""An audit as tables: the verdict's numbers, every setting, examples of what came back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from unierase_cli.audit.base import CLASSES, PLAIN
from unierase_cli.audit.findings import Audit, Finding
from unierase_cli.audit.numbers import Interval
from unierase_cli.audit.scores import RECALL
from unierase_cli.audit.verdict import DESTROYS, too_weak
from unierase_cli.markdown import inline
from unierase_cli.results.audits.series_tables import rounding_table, speed_table
from unierase_cli.results.table import Table

WORD = re.compile(r"\w+")
COLUMNS = (
    "class", "attack", "setting", "plain", "recovered", "control", "ceiling", "excess [95 %]", "share [95 %]", "n", "verdict",
)  # fmt: skip
NUMBERS = frozenset({"plain", "recovered", "control", "ceiling", "excess [95 %]", "share [95 %]", "n"})
CAPTION = (
    "Mean score of the true answers that come back. control: from a model that never had the facts; ceiling: from the unedited "
    "model; excess = recovered - control; share = excess / (ceiling - control). Classes: "
    + ", ".join(f"{letter} {kind}" for kind, letter in CLASSES.items())
    + ". The score is recall, unless the attack has one of its own; it decides, and entity and probability stand beside it."
)


def attack_table(audit: Audit, *, everything: bool = False) -> Table:
    """Each attack's headline setting (``everything``: all settings), by class, then by share."""
    chosen = audit.findings if everything else audit.headlines()
    rows = tuple(_row(found) for found in sorted(chosen, key=_place))
    title = "Every setting" if everything else "What comes back"
    return Table(title, COLUMNS, rows, NUMBERS, CAPTION if not everything else "")


def best_table(audit: Audit) -> Table:
    """The most that any setting of an attack brings back. It is biased upwards, and so is the control's."""
    body = []
    for head in sorted(audit.headlines(), key=_place):
        some = [found for found in audit.findings if (found.attack, found.score) == (head.attack, head.score)]
        if len(some) > 1:
            best = max(some, key=lambda found: found.recovered)
            controls = [found.control for found in some if found.control is not None]
            control = _number(max(controls) if controls else None)
            body.append((head.attack, str(len(some)), best.setting, _number(best.recovered), control))
    columns = ("attack", "settings", "best setting", "recovered", "control's best")
    return Table("Best of m settings", columns, tuple(body), frozenset({"settings", "recovered", "control's best"}))


def example_table(audit: Audit, width: int = 0) -> Table:
    """Of every attack that recovered something, some answers beside the control's. ``width``: characters, 0 for all."""
    body = [
        (found.attack, *(_cut(text, width) for text in (e.question, e.answer, e.text, e.control or "n/a")))
        for found in audit.headlines()
        for e in found.examples
    ]
    return Table("Examples", ("attack", "question", "true answer", "what came back", "the control says"), tuple(body))


def notes(audit: Audit) -> list[str]:
    """Sentences below the tables: what was left out, what breaks the model, what must be known."""
    found = [f"{name} was left out: {reason}" for name, reason in audit.left_out.items()]
    for finding in audit.headlines():
        if finding.attack != PLAIN and finding.retained is not None and audit.retained is not None:
            found.append(f"under {finding.attack}: retain recall {finding.retained:.3f} ({audit.retained:.3f} without it)")
        if too_weak(finding):
            told = f"did not learn its own training facts (recall {finding.trained:.2f}), so it shows little"
            found.append(f"{finding.attack} {told}")
        if finding.weak:
            found.append(f"{finding.attack} is weak evidence")
    reasons: dict[str, list[str]] = {}
    for finding in sorted(audit.headlines(), key=_place):
        if finding.why_no_share:
            reasons.setdefault(finding.why_no_share, []).append(finding.attack)
    return [*found, *(f"{', '.join(names)}: no share: {reason}" for reason, names in reasons.items()), *audit.remarks]


def markdown(audit: Audit, picture: str | None, further: Mapping[str, str] | None = None) -> str:
    """audit.md. ``further``: what other pictures show -> their files."""
    lines = [f"# Audit: {inline(audit.title)}", "", f"**{inline(audit.line)}**", ""]
    lines += [*(inline(sentence) for sentence in sentences(audit)), ""]
    lines += [f"![share of the facts that each attack brings back]({picture})", ""] if picture else []
    tables = [attack_table(audit), best_table(audit), example_table(audit), speed_table(audit), rounding_table(audit)]
    lines += [table.markdown() for table in tables if table.rows]
    lines += [f"![{inline(title)}]({file})\n" for title, file in (further or {}).items()]
    lines += [attack_table(audit, everything=True).markdown()]
    if told := notes(audit):
        lines += ["### Remarks", "", *(f"- {inline(note)}" for note in told), ""]
    return "\n".join(lines)


def most(audit: Audit) -> Finding | None:
    """The attack that the verdict names, else the one that brings back most, one without a share last.

    None that breaks the model, is weak evidence or did not learn what it trains on.
    """
    heads = [found for found in audit.headlines() if found.attack != PLAIN and not found.weak and found.word != DESTROYS]
    words = set(WORD.findall(audit.line.rpartition("; ")[0].lower()))
    if named := next((found for found in heads if found.attack in words), None):
        return named
    attacks = [found for found in heads if not too_weak(found)]
    return max(attacks, key=lambda found: (-1.0 if found.share is None else min(1.0, found.share), found.recovered), default=None)


def sentences(audit: Audit) -> list[str]:
    """The attack that brings back most, in plain words."""
    best = most(audit)
    if best is None:
        return []
    control = "" if best.control is None else f"; a model that never learned them reaches {best.control:.2f}"
    plain = "" if best.plain is None else f" (plain questions: {best.plain:.2f})"
    found = f"Under {best.attack} ({best.setting}) the model"
    if best.score == RECALL:
        return [f"{found} gives back {best.recovered:.2f} of the answers{plain}{control}."]
    return [f"{found} has {best.score} {best.recovered:.2f}{control}."]


def _row(found: Finding) -> tuple[str, ...]:
    return (
        CLASSES[found.kind],
        found.attack,
        found.setting,
        *(_number(value) for value in (found.plain, found.recovered, found.control, found.ceiling)),
        _spread(found.excess, found.excess_ci, "+.3f"),
        _spread(found.share, found.share_ci, ".2f"),
        str(found.n),
        found.word,
    )


def _place(found: Finding) -> tuple[bool, int, float, str, bool]:
    """Plain questions first, then by class, the largest share first, an attack's headline before its other settings."""
    share = -1.0 if found.share is None else found.share
    return found.attack != PLAIN, list(CLASSES).index(found.kind), -share, found.attack, not found.headline


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _spread(value: float | None, interval: Interval | None, form: str) -> str:
    if value is None:
        return "n/a"
    told = format(value, form)
    return told if interval is None else f"{told} [{format(interval[0], form)}, {format(interval[1], form)}]"


def _cut(text: str, width: int) -> str:
    return text if not width or len(text) <= width else text[: width - 1] + "…"


def share_table(audits: Sequence[Audit]) -> Table:
    """The share that each attack's headline brings back, a column for every run, and what is left of the retained questions."""
    heads = [{found.attack: found for found in audit.headlines()} for audit in audits]
    kinds = {found.attack: found.kind for found in sorted((f for head in heads for f in head.values()), key=_place)}
    body = [
        (attack, *(_spread(head[attack].share, head[attack].share_ci, ".2f") if attack in head else "n/a" for head in heads))
        for attack in kinds
    ]
    body.append(("retain recall", *(_number(audit.retained) for audit in audits)))
    columns = ("attack", *(f"{number}: {audit.title.partition(',')[0]}" for number, audit in enumerate(audits, start=1)))
    return Table("Share that comes back [95 %]", columns, tuple(body), frozenset(columns[1:]))


def overview(audits: Sequence[Audit]) -> Table:
    """Several runs' verdicts, one a line."""
    body = tuple((str(number), audit.title, audit.line) for number, audit in enumerate(audits, start=1))
    return Table("Audits", ("", "run", "verdict"), body)
