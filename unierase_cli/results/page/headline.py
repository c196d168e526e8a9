"""The top of a page: one sentence, then three numbers with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.audit.findings import Audit
from unierase_cli.results.audits.tables import most
from unierase_cli.results.page.document import escaped
from unierase_cli.results.page.ranges import Range, spread, track

RECALL = "Recall: the share of the true answer's words that the model's answer has, in order (ROUGE-L), mean over the questions."


def header_html(title: str, sentence: str, numbers: Sequence[Range], command: str = "") -> str:
    """The top; ``sentence`` is HTML; ``command``: what audits this run, where nothing has."""
    told = (
        f'<p class="verdict">Not audited: <code>{escaped(command)}</code> says whether it is gone or only hidden.</p>'
    )
    tiles = "".join(_tile(number) for number in numbers)
    return (
        f'<header><h1>{escaped(title)}</h1><p class="sentence">{sentence}</p>{told if command else ""}'
        f'<div class="tiles">{tiles}</div><p class="note">{escaped(RECALL)}</p></header>'
    )


def sentence_of(asked: int | None, forget: Range, kept: Range, audit: Audit | None) -> str:
    """What was asked, what is forgotten, what was kept, and the audit's verdict, as HTML.

    ``asked``: number of facts to forget; 0: nothing was erased; None: nobody says what was done to the model.
    """
    told, before = "Nothing was erased: the model", "before"
    if asked is None:
        told, before = "The model", "in the unedited model"
    elif asked:
        told = f"Asked to forget {asked} fact{'s' * (asked != 1)}, the model now"
    whose = "of their answers" if asked else "of the answers that are to be forgotten"
    told += f" recalls {_recall(forget)} {whose}{_before(forget, before)}"
    if kept.value is None:
        told += "; nothing that it should keep was asked"
    else:
        told += f" and {_recall(kept)} of the answers that it should keep{_before(kept, before)}"
    return (
        escaped(f"{told}; ") + f"<strong>audit: {escaped(verdict(audit))}</strong>." if audit else escaped(f"{told}.")
    )


def verdict(audit: Audit) -> str:
    """The audit's line without what is kept, which stands elsewhere."""
    return audit.line.rpartition("; ")[0] or audit.line


def most_back(audit: Audit) -> Range:
    """What the attack that the verdict names brings back, else the most that any does."""
    title, found = "Recovered under attack", most(audit)
    if found is None:
        return Range(title, None, note="no attack gave a number")
    setting = "" if found.setting in ("", "default") else f" ({found.setting})"
    if found.share is None:
        return Range(
            title, found.recovered, note=f"{found.score} under {found.attack}{setting}; no share: {found.why_no_share}"
        )
    control = "" if found.control is None else f" (a model that never learned them: {found.control:.2f})"
    note = f"share of the lost facts, by {found.attack}{setting}: {found.score} {found.recovered:.2f}{control}"
    return Range(title, found.share, found.share_ci, note=note)


def _tile(number: Range) -> str:
    value = "n/a" if number.value is None else f"{number.value:.2f}"
    was = "" if number.before is None else f" · {number.before:.2f} before"
    between = f"95 % interval {spread(number.interval)}{was}" if number.interval else was.removeprefix(" · ")
    return (
        f'<div class="tile {escaped(number.kind)}"><h2>{escaped(number.label)}</h2><p class="big">{value}</p>'
        f"{track(number.value, number.interval, number.before)}"
        f'<p class="between">{escaped(between)}</p><p class="note">{escaped(number.note)}</p></div>'
    )


def _recall(number: Range) -> str:
    return "an unknown share" if number.value is None else f"{number.value:.2f}"


def _before(number: Range, when: str) -> str:
    return "" if number.before is None else f" ({number.before:.2f} {when})"
