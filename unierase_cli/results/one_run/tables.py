"""Tables of a scored run, from ``metrics.json``: the headline, what comes back, every number, and example answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.metrics import refusal_rate, refusal_rule
from unierase_cli.metrics.base import NO_TOKEN
from unierase_cli.metrics.scores import Change, Scores
from unierase_cli.results.table import Table

PART_OF = re.compile(r"^.*is missing(?: \(and .*? parts\))?: ")
NUMBERS = frozenset({"before", "after", "change", "95 % interval", "n"})
# Number of forget questions in the table of other ways of asking.
ATTACKED = 5
COLUMNS = ("", "before", "after", "change", "95 % interval", "n")
# Columns of the headline in order: is it forgotten, is the rest kept.
HEADLINE = (
    "forget.rouge",
    "forget.first_token_unlearn",
    "forget.refusal_rate",
    f"forget.{refusal_rule.NAME}",
    "forget.degenerate_output",
    "forget_eval.rouge",
    "forget_level1.rouge",
    "forget_level2.rouge",
    "forget_level3.rouge",
    "forgotten_before.rouge",
    "forgotten_before.first_token_unlearn",
    "forgotten_before.refusal_rate",
    f"forgotten_before.{refusal_rule.NAME}",
    "retain_unseen.rouge",
    "retain_near.rouge",
    "same_subject.rouge",
    "distance_2.rouge",
    "distance_3.rouge",
    "retain_protected.rouge",
    "real_authors.rouge",
    "world_facts.rouge",
    "all.model_utility",
    "all.lume_aggregate",
    "all.muse_verbmem",
    "all.muse_knowmem_forget",
    "all.muse_knowmem_retain",
    "all.muse_privleak",
    "all.pistol_deviation",
    "all.return_forget_score",
    "all.return_retain_score",
    "all.return_average",
)
NAMES = {
    "forget": "forget",
    "forget_eval": "forget, unseen questions",
    "forgotten_before": "forgotten before",
    "verbatim": "forget, texts to continue",
    "forget_level1": "forget, blanks",
    "forget_level2": "forget, questions",
    "forget_level3": "forget, attacks",
    "retain_unseen": "retain, never seen",
    "retain_near": "retain, neighbouring authors",
    "same_subject": "retain, the same people",
    "distance_2": "retain, two steps away",
    "distance_3": "retain, three or more steps away",
    "retain_protected": "retain, protected",
    "retain": "retain",
    "factual": "general knowledge",
    "member": "documents that were learned",
    "nonmember": "documents never learned",
    "real_authors": "real authors",
    "world_facts": "world facts",
    "holdout": "people never learned",
    "general": "general ability",
}


def headline_table(scores: Scores) -> Table:
    """Forgetting and retention in a dozen rows; the most important one for retention is "never seen"."""
    rows = {row.column.id: row for row in scores.changes()}
    chosen = [rows[name] for name in HEADLINE if name in rows and not _of_no_token(rows[name])]
    return _table("Forgetting and retention", [row for row in chosen if _tells_more(row, rows)])


def honesty_table(scores: Scores) -> Table:
    """How much comes back when the model is asked in other ways."""
    every = [row for row in scores.changes() if row.column.group == "honesty"]
    rows = [row for row in every if not _of_no_token(row)]
    with_token = len(rows) == len(every)
    by_id = {row.column.id: row for row in rows}
    rows = [row for row in rows if _tells_more(row, by_id)]
    why = "An unlearning token hides facts, which may still be in the weights. " if with_token else ""
    caption = f"{why}These rows show how much of what was forgotten comes back when it is asked in other ways."
    return _table("What comes back", rows, caption)


def _of_no_token(row: Change) -> bool:
    """Whether a row is about [UNL] and the edited model has no such token."""
    return row.after.value is None and row.unavailable == NO_TOKEN


def _tells_more(row: Change, rows: Mapping[str, Change]) -> bool:
    """False for refusals by rule that are unavailable, or the same numbers as the clean (listed) ones in ``rows``."""
    place, _, metric = row.column.id.rpartition(".")
    if metric != refusal_rule.NAME:
        return True
    listed = rows.get(f"{place}.{refusal_rate.NAME}")
    return not row.unavailable and (listed is None or _cells(listed)[1:3] != _cells(row)[1:3])


def number_tables(scores: Scores) -> list[Table]:
    """Every column of ``metrics.json``, one table per group."""
    titles = {"forgetting": "Forget set", "retention": "Retention", "overview": "Aggregates", "detail": "Further metrics"}
    return [_table(title, [r for r in scores.changes() if r.column.group == group]) for group, title in titles.items()]


def further_table(scores: Scores) -> Table:
    """The other metrics that have a value, including judges and further passes; the caption explains missing ones."""
    rows = [row for row in scores.changes() if row.column.group == "detail"]
    known = [row for row in rows if row.after.value is not None]
    # The reason of an aggregate ends with the reason of its part.
    reasons = dict.fromkeys(PART_OF.sub("", row.unavailable) for row in rows if row.unavailable)
    caption = "\n".join(f"n/a: {reason}" for reason in reasons)
    return Table("Further metrics", COLUMNS, tuple(_cells(row) for row in known), NUMBERS, caption)


def general_tables(scores: Scores) -> list[Table]:
    """General ability; empty if it was not measured."""
    rows = [row for row in scores.changes() if row.column.group == "general"]
    return [Table("General ability", COLUMNS, tuple(_cells(row) for row in rows), NUMBERS)] if rows else []


def example_table(scores: Scores, *, limit: int = 12, width: int = 0) -> Table:
    """Answers before and after, forget rows first, a third of them kept rows; ``width`` shortens answers, 0 does not."""
    forget = [e for e in scores.examples if e.split == "forget"]
    kept = [e for e in scores.examples if e.split != "forget"]
    rows = [*forget[: limit - min(len(kept), max(1, limit // 3))], *kept][:limit]
    body = tuple(
        (NAMES.get(e.split, e.split), *(cut(text, width) for text in (e.question, e.before, e.after))) for e in rows
    )
    return Table("Answers before and after", ("split", "question", "before", "after"), body)


def attack_table(scores: Scores) -> Table:
    """The edited model's answers to forget questions asked in other ways."""
    rows = [e for e in scores.examples if e.split == "forget"][:ATTACKED]
    body = tuple(
        tuple(cut(text, 0) for text in (e.question, e.true, e.forbidden, e.paraphrased, e.answer_prefix)) for e in rows
    )
    columns = ("question", "true answer", "[UNL] forbidden", "question paraphrased", "answer's start given")
    return Table("Forget questions asked in other ways, after the edit", columns, body)


def layer_tables(patches: Iterable[Mapping[str, Any]]) -> list[Table]:
    """One table for each patch whose ``info`` describes layers; a gradient method's does not."""
    return [layer_table(patch) for patch in patches if patch.get("layers")]


def layer_table(patch: Mapping[str, Any]) -> Table:
    """What the edit changed in each layer, from a patch's ``info``."""
    columns = ("layer", "free directions", "mean k'Bk", "lambda", "applied", "residual before", "residual after", "|dW|/|W|")
    body = tuple(
        (
            str(layer["layer"]),
            f"{layer['rank']:.0f} of {layer['size']}",
            f"{layer['mean_kbk']:.4g}",
            f"{layer['lambda_']:.4g}",
            f"{layer['applied']:.3f}",
            f"{layer['residual_before']:.2f}",
            f"{layer['residual_after']:.2f}",
            f"{layer['relative_norm']:.4f}",
        )
        for layer in patch["layers"]
    )
    caption = f"{100 * patch['changed_share']:.2f} % of the parameters changed"
    return Table("The edit, layer by layer", columns, body, frozenset(columns[1:]), caption)


def notes(scores: Scores) -> list[str]:
    """The reasons for unavailable values, each once."""
    return list(dict.fromkeys(f"{row.column.name}: {row.unavailable}" for row in scores.changes() if row.unavailable))


def _table(title: str, rows: Sequence[Change], caption: str = "") -> Table:
    """A table of rows; its caption names the numbers without an interval, because they come from a single row."""
    single = [_named(row) for row in rows if row.n == 1 and row.after.value is not None and row.after.ci95 is None]
    told = f"For a single row there is no interval: {', '.join(single)}." if single else ""
    return Table(title, COLUMNS, tuple(_cells(row) for row in rows), NUMBERS, " ".join(filter(None, (caption, told))))


def _named(row: Change) -> str:
    name = row.column.name
    for split, words in NAMES.items():
        name = name.replace(f"{split}:", f"{words}:")
    return name


def _cells(row: Change) -> tuple[str, ...]:
    change = row.change.value
    bounds = (row.after if change is None else row.change).ci95
    return (
        _named(row),
        _number(row.before.value),
        _number(row.after.value),
        "" if change is None else f"{change:+.3f}",
        interval(bounds, signed=change is not None),
        str(row.n or ""),
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def interval(bounds: Sequence[float] | None, *, signed: bool) -> str:
    """``-0.250 .. +0.125``, or an empty text."""
    if bounds is None:
        return ""
    low, high = bounds
    return f"{low:+.3f} .. {high:+.3f}" if signed else f"{low:.3f} .. {high:.3f}"


def cut(text: str | None, width: int, absent: str = "") -> str:
    """The text on one line, shortened to ``width`` characters (0: not shortened)."""
    if text is None:
        return absent
    text = " ".join(text.split())
    return text if not width or len(text) <= width else text[: width - 3] + "..."
