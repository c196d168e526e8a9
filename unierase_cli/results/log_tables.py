"""Tables of other code bases' logs: their numbers in every definition, and the reasons for missing ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.contracts import Measure
from unierase_cli.results.table import Table

if TYPE_CHECKING:
    from unierase_cli.interchange.tofu_scores import LogScores

SETS = {"retain_unseen": "retain", "real_authors": "real authors", "world_facts": "world facts", "forget": "forget"}
MEMBERS = {
    "rouge": "ROUGE-L recall",
    "probability": "probability (of real authors and world facts: among the options)",
    "truth_ratio": "truth ratio (geometric)",
    "truth_ratio_arithmetic": "truth ratio (arithmetic)",
    "token_entropy": "token entropy",
    "cosine_similarity": "cosine similarity",
    "entailment_score": "entailment score",
}
AGGREGATES = {
    "model_utility": "model utility, TOFU (geometric truth ratio: the leaderboard's)",
    "model_utility_arithmetic": "model utility, TOFU (arithmetic truth ratio: of its training runs)",
    "model_utility_closer_look": "model utility, closer-look (18 numbers)",
    "model_utility_closer_look_retain": "model utility, closer-look, retain alone (6 numbers)",
    "model_utility_closer_look_neighbour": "model utility, closer-look, real people's neighbours (6 numbers)",
    "forget_efficacy": "forget efficacy, closer-look",
}
QUALITY = "forget quality"


def score_logs(log: Path, retain: Path | None) -> LogScores:
    """Read and score a log, optionally with a retain model's; raises UserError for a bad log or other forget rows."""
    from unierase_cli.interchange.tofu_log import read_log
    from unierase_cli.interchange.tofu_scores import score_log

    return score_log(read_log(log), None if retain is None else read_log(retain))


def summary_of(log: Path) -> dict[str, float] | None:
    """The numbers of open-unlearning's TOFU_SUMMARY.json, or None for another kind of log."""
    from unierase_cli.interchange.json_files import read_object
    from unierase_cli.interchange.open_unlearning_rows import is_summary, read_summary
    from unierase_cli.interchange.tofu_log import WHAT

    data = read_object(log, WHAT)
    return read_summary(data, log) if is_summary(data) else None


def summary_table(log: Path, known: dict[str, float]) -> Table:
    """The summary's numbers, unchanged."""
    rows = tuple((name, f"{value:.4g}") for name, value in known.items())
    about = "Aggregates as logged; TOFU_EVAL.json beside it has the rows, from which every definition can be computed."
    return Table(f"{log.name}: open-unlearning's summary", ("", "value"), rows, frozenset({"value"}), about)


def log_tables(scores: LogScores) -> list[Table]:
    """A table of the numbers of every set, and one of the aggregates."""
    sets = [split for split in SETS if split in scores.log.sets]
    names = tuple(SETS[split] for split in sets)
    body = [("rows", *(str(len(scores.log.sets[split].index)) for split in sets))]
    body += [(title, *(_value(scores.members[split][name]) for split in sets)) for name, title in MEMBERS.items()]
    if "forget" in sets:
        turned = [_value(scores.upside_down) if split == "forget" else "" for split in sets]
        body.append(("truth ratio upside down, as closer-look reports it", *turned))
    title = f"{scores.log.path.name}: a log of {scores.log.wrote}"
    members = Table(title, ("", *names), tuple(body), frozenset(names))
    rows = [(title, _value(scores.aggregates[name])) for name, title in AGGREGATES.items()]
    quality = scores.forget_quality
    rows += [
        (f"{QUALITY}: KS statistic", _number(quality.statistic)),
        (f"{QUALITY}: p-value", "n/a" if quality.p is None else f"{quality.p:.4g}"),
        (f"{QUALITY}: log10 of the p-value", "n/a" if quality.log10_p is None else f"{quality.log10_p:.3f}"),
    ]
    if quality.n:
        rows.append((f"{QUALITY}: forget rows, retain model's", f"{quality.n}, {quality.n_retain}"))
    return [members, Table("Aggregates", ("", "value"), tuple(rows), frozenset({"value"}))]


def reasons(scores: LogScores) -> list[str]:
    """The reasons for missing numbers, and notes on the others."""
    found = [f"{AGGREGATES[name]}: {r.unavailable}" for name, r in scores.aggregates.items() if r.unavailable]
    if scores.forget_quality.unavailable:
        found.append(f"{QUALITY}: {scores.forget_quality.unavailable}")
    return [f"n/a: {text}" for text in found] + [f"note: {text}" for text in scores.notes]


def _value(result: Measure) -> str:
    return _number(result.value)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
