"""The page of an audit: the verdict, three numbers, answers to plain questions, every attack, provenance. And that of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unierase_cli.audit.base import FORGET, PLAIN, RETAIN
from unierase_cli.audit.findings import Audit
from unierase_cli.audit.numbers import interval_of
from unierase_cli.results.audits.tables import overview, share_table
from unierase_cli.results.page.answers import Answer, answers_html
from unierase_cli.results.page.attacks import attacks_html
from unierase_cli.results.page.document import document, escaped, folded, section
from unierase_cli.results.page.headline import header_html, most_back, sentence_of
from unierase_cli.results.page.heat_map import heat_map_html
from unierase_cli.results.page.origin import origin_html
from unierase_cli.results.page.ranges import Range
from unierase_cli.results.page.tables import table_html


def audit_page(
    audit: Audit, answers: Sequence[Answer], *, asked: int | None, about: Mapping[str, str], settings: str = ""
) -> str:
    """The page of one audit.

    ``answers``: to plain questions, of splits FORGET and RETAIN. ``asked``: number of facts to forget, 0 where
    nothing was erased, None where nobody says what was done to the model.
    """
    after = _interval(answers, RETAIN)
    kept = Range("Recall of what it should keep", audit.retained, after, "keep", audit.retained_before, "1: all kept")
    forget = _plain(audit, _interval(answers, FORGET))
    parts = [
        section("answers", "Answers to plain questions", answers_html(answers)),
        section("back", "What comes back", attacks_html(audit)),
        section(
            "origin", "Where the numbers come from", folded("Keys, versions and settings", origin_html(about, settings))
        ),
    ]
    top = header_html(audit.title, sentence_of(asked, forget, kept, audit), [forget, kept, most_back(audit)])
    return document(f"Audit: {audit.title}", f"{top}<main>{''.join(parts)}</main>")


def audits_page(audits: Sequence[Audit]) -> str:
    """The page of several runs' audits: the heat map, then the verdicts and the shares as tables."""
    title = f"Audits of {len(audits)} runs"
    body = heat_map_html(audits) + table_html(overview(audits)) + table_html(share_table(audits))
    return document(title, f"<header><h1>{escaped(title)}</h1></header><main>{body}</main>")


def _interval(answers: Sequence[Answer], split: str) -> tuple[float, float] | None:
    """The 95 % interval of the mean recall of a split's answers, over groups as everywhere in an audit; None for one group."""
    some = [answer for answer in answers if answer.split == split]
    values = {str(number): answer.recall for number, answer in enumerate(some) if answer.recall is not None}
    groups = {str(number): answer.group for number, answer in enumerate(some) if answer.group}
    return interval_of(values, groups) if values else None


def _plain(audit: Audit, interval: tuple[float, float] | None) -> Range:
    """What plain questions bring back."""
    label = "Recall of what it should forget"
    found = next((finding for finding in audit.headlines() if finding.attack == PLAIN), None)
    if found is None:
        return Range(label, None, kind="forget", note="plain questions were not asked")
    note = "0: all forgotten" if found.control is None else f"a model that never had the facts: {found.control:.2f}"
    return Range(label, found.recovered, interval, "forget", found.ceiling, note)
