"""Answers before and after, side by side, with a search box and filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from unierase_cli.results.page.difference import marked
from unierase_cli.results.page.document import escaped
from unierase_cli.results.page.tables import controls

# How many are shown at first, and added by every click.
STEP = 10
LIST = "answer-list"
# More than these make a page too large to open on a phone.
MOST = 2500


@dataclass(frozen=True)
class Answer:
    """A question with the answers before (None: not known) and after. ``recall_before``, ``recall``: in [0, 1] or not scored.

    ``others``: in what other way it was asked, or which other model -> what came then. ``group``: of the facts that it is resampled
    with, empty where it stands alone.
    """

    split: str
    question: str
    true: str
    before: str | None
    after: str
    recall_before: float | None = None
    recall: float | None = None
    others: dict[str, str] = field(default_factory=dict)
    group: str = ""

    def hidden(self, fact_id: str) -> Answer:
        """The id and the scores alone."""
        return replace(self, question=fact_id, true="", before=None, after="", others={})


def answers_html(answers: Sequence[Answer]) -> str:
    """The list with its controls; at most MOST answers, from the first. Empty without any."""
    if not answers:
        return ""
    shown = answers[:MOST]
    names = [answer.split for answer in shown]
    above = controls([LIST], {"split": ("split", names)}, {"changed": "changed only"})
    left = len(answers) - len(shown)
    note = f'<p class="note">{left} more answers are left out of this page.</p>' if left else ""
    items = "".join(map(_item, shown))
    more = '<button type="button" class="more"></button>'
    return f'{above}<div><div id="{LIST}" class="answers" data-step="{STEP}">{items}</div>{more}</div>{note}'


def _item(answer: Answer) -> str:
    known = answer.after if answer.before is None else answer.before
    before, after = marked(known, answer.after)
    changed = "yes" if known != answer.after else "no"
    told = escaped(answer.split)
    if answer.recall is not None:
        was = "" if answer.recall_before is None else f"{answer.recall_before:.2f} → "
        told += f' <span class="recall">recall {was}{answer.recall:.2f}</span>'
    others = "".join(f"<dt>{escaped(way)}</dt><dd {SAID}>{escaped(text)}</dd>" for way, text in answer.others.items())
    ways = f'<details><summary>other answers</summary><dl class="pairs">{others}</dl></details>' if others else ""
    sides = [_side("true answer", escaped(answer.true))]
    if answer.before is None:
        sides.append(_side("answer", after))
    else:
        sides += [_side("before", before), _side("after", after if changed == "yes" else "", "as before")]
    return (
        f'<article data-item data-split="{escaped(answer.split)}" data-changed="{changed}">'
        f'<p class="meta">{told}</p><h3 {SAID}>{escaped(answer.question)}</h3><div class="sides">{"".join(sides)}</div>'
        f"{ways}</article>"
    )


# The direction of the text is its own, so that no answer turns what is around it.
SAID = 'class="said" dir="auto"'


def _side(label: str, body: str, empty: str = "no text") -> str:
    shown = body or f'<span class="empty">{escaped(empty)}</span>'
    return f'<div><p class="label">{escaped(label)}</p><p {SAID}>{shown}</p></div>'
