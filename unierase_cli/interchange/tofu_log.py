"""Reads evaluation logs of TOFU and of closer-look: ``eval_log_aggregated.json`` (spec: metrics, section 4.1).

``{"eval_log.json": {field: values}, "eval_real_author_wo_options.json": ..., "eval_real_world_wo_options.json": ...,
"eval_log_forget.json": ...}``; values are ``{index: value}`` (TOFU) or a list (closer-look, and excerpts, which have a list
``index`` if their rows are not the first ones). Both contain average losses per answer token; closer-look adds scores of the texts.
Open-unlearning's ``TOFU_EVAL.json`` is converted to this format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError, normalised
from unierase_cli.interchange.json_files import number, read_object, section
from unierase_cli.interchange.open_unlearning_rows import as_tofu_log, is_evaluation
from unierase_cli.metrics.base import FORGET, RETAIN

WHAT = "an eval_log_aggregated.json of TOFU or closer-look, or open-unlearning's TOFU_EVAL.json"
# Our split -> its key in the log. In both code bases the model may have seen the retain rows.
SETS = {
    RETAIN: "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
    FORGET: "eval_log_forget.json",
}
LOSS, PARAPHRASED, WRONG = "avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss"
ROUGE, ENTROPY, COSINE, LABELS = "rougeL_recall", "token_entropy", "cosine_similarity", "entailment_labels"
# Field -> its smallest and largest possible value; rounding may exceed them slightly.
RANGES = {
    LOSS: (0.0, float("inf")),
    PARAPHRASED: (0.0, float("inf")),
    WRONG: (0.0, float("inf")),
    ROUGE: (0.0, 1.0),
    ENTROPY: (0.0, 1.0),
    COSINE: (-1.0, 1.0),
}
ROUNDING = 1e-3
# Written by closer-look only.
CLOSER_FIELDS = (ENTROPY, COSINE, LABELS)
TOFU, CLOSER, OPEN = "TOFU", "closer-look", "open-unlearning"


@dataclass(frozen=True)
class LogSet:
    """One set's rows: their index (their position, unless ``indexed``), their prompts if the log has them, and their values."""

    index: tuple[str, ...]
    indexed: bool
    prompts: tuple[str, ...]
    fields: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class TofuLog:
    """A parsed log: ``wrote`` is the code base that wrote it, ``sets`` its sets by our split names."""

    path: Path
    wrote: str
    sets: Mapping[str, LogSet]


def read_log(path: Path) -> TofuLog:
    """Read and check a log. Raises UserError for any fault."""
    data = read_object(path, WHAT)
    theirs = is_evaluation(data)
    if theirs:
        data = as_tofu_log(data, path)
    found = {key.removesuffix(".json"): value for key, value in data.items()}
    named = {split: key.removesuffix(".json") for split, key in SETS.items()}
    present = {split: key for split, key in named.items() if key in found}
    if not present:
        raise UserError(f"{path} is not a log of TOFU, closer-look or open-unlearning", _hint(data))
    sets = {split: _read_set(found[key], f"{path}: {SETS[split]}") for split, key in present.items()}
    closer = any(field in read.fields for read in sets.values() for field in CLOSER_FIELDS)
    return TofuLog(path, OPEN if theirs else CLOSER if closer else TOFU, sets)


def differing_rows(first: LogSet, second: LogSet) -> tuple[int, str]:
    """Number of rows that one set lacks of the other, in any order, and what identifies rows: question, index or position."""
    if first.prompts and second.prompts:
        named, rows = "question", (first.prompts, second.prompts)
    else:
        named = "index" if first.indexed and second.indexed else "position"
        rows = (first.index, second.index)
    mine, theirs = map(Counter, rows)
    return max((mine - theirs).total(), (theirs - mine).total()), named


def _read_set(value: Any, where: str) -> LogSet:
    fields = section(value, where)
    known = {name: _column(fields[name], f"{where} {name}") for name in (*RANGES, LABELS) if name in fields}
    if not known:
        raise UserError(f"{where} has none of {', '.join(RANGES)}", f"name {WHAT}")
    # Rows are identified by their index if given, else by the keys of {index: value}, else by position.
    order = next((list(column) for column in known.values() if isinstance(column, dict)), None)
    index = order
    if order is None and "index" in fields:
        index = [str(entry) for entry in _list(fields["index"], f"{where} index")]
    indexed = index is not None
    if index is None:
        index = [str(place) for place in range(len(next(iter(known.values()))))]
    if not index:
        raise UserError(f"{where} has no rows", "evaluate that set, or leave it out of the log")
    columns = {name: _ordered(column, index, f"{where} {name}") for name, column in known.items()}
    checked = {
        name: [_value(name, entry, f"{where} {name} {row}") for row, entry in zip(index, column, strict=True)]
        for name, column in columns.items()
    }
    return LogSet(tuple(index), indexed, tuple(_prompts(fields.get("generated_text"), index)), checked)


def _column(value: Any, where: str) -> dict[str, Any] | list[Any]:
    return value if isinstance(value, dict) else _list(value, where)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{where} is neither a list nor an object of rows", f"name {WHAT}")
    return value


def _ordered(column: dict[str, Any] | list[Any], index: Sequence[str], where: str) -> list[Any]:
    """The column's values in the order of ``index``. Raises UserError if it has other rows."""
    if len(column) != len(index):
        raise UserError(
            f"{where} has {len(column)} rows, other fields have {len(index)}", "the log is damaged: write it again"
        )
    if isinstance(column, list):
        return column
    missing = [row for row in index if row not in column]
    if missing:
        raise UserError(f"{where} lacks row {missing[0]}, which other fields have", "the log is damaged: write it again")
    return [column[row] for row in index]


def _value(name: str, value: Any, where: str) -> Any:
    if name == LABELS:
        if not isinstance(value, str):
            raise UserError(f"{where} is not a label", "entailment_labels holds one word per row")
        return value
    if name != WRONG:
        return _in_range(name, number(value, where), where)
    losses = [_in_range(name, number(loss, where), where) for loss in _list(value, where)]
    if not losses:
        raise UserError(f"{where} has no wrong answers", "the truth ratio needs one per row at least")
    return losses


def _in_range(name: str, value: float, where: str) -> float:
    least, most = RANGES[name]
    if not least - ROUNDING <= value <= most + ROUNDING:
        raise UserError(f"{where} is {value:g}, which {name} cannot be", "the log is damaged: write it again")
    # Values rounded to above 1 stay, because the code bases average them too. A harmonic mean needs values of at least 0.
    return max(value, least)


def _prompts(texts: Any, index: Sequence[str]) -> list[str]:
    """The prompt of each row from the logged (prompt, generated, truth); empty if the log lacks the texts of its rows."""
    if not isinstance(texts, dict | list) or len(texts) != len(index):
        return []
    entries = [texts.get(row) for row in index] if isinstance(texts, dict) else texts
    found = [entry[0] for entry in entries if isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)]
    return [normalised(prompt) for prompt in found] if len(found) == len(index) else []


def _hint(data: Mapping[str, Any]) -> str:
    if any(isinstance(value, dict) and "agg_value" in value for value in data.values()):
        return "open-unlearning's TOFU_EVAL.json has *_Q_A_Prob with value_by_index for each set"
    if LOSS in data:
        return "it is the log of one set; name the eval_log_aggregated.json beside it"
    return f"name {WHAT}"
