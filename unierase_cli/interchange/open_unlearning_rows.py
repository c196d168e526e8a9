"""Reads what open-unlearning writes: ``TOFU_EVAL.json``, converted to TOFU's log format, and ``TOFU_SUMMARY.json``.

The first has average losses per answer token and ROUGE, as TOFU's logs, so equal rows give equal numbers in every definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.interchange.json_files import number, section

# TOFU's set -> open-unlearning's prefix.
PREFIXES = {
    "eval_log.json": "retain",
    "eval_real_author_wo_options.json": "ra",
    "eval_real_world_wo_options.json": "wf",
    "eval_log_forget.json": "forget",
}
# TOFU's field -> open-unlearning's suffix after the prefix, and the key in a row.
FIELDS = {
    "avg_gt_loss": ("_Q_A_Prob", "avg_loss"),
    "avg_paraphrased_loss": ("_Q_A_PARA_Prob", "avg_loss"),
    "average_perturb_loss": ("_Q_A_PERT_Prob", "avg_loss"),
    "rougeL_recall": ("_Q_A_ROUGE", "rougeL_recall"),
}
# Sets whose correct answer is the true answer itself.
SHORT = ("ra", "wf")


def is_evaluation(data: Mapping[str, Any]) -> bool:
    """Whether this is a ``TOFU_EVAL.json``: it has per-row metrics of the known sets."""
    found = (data.get(f"{prefix}_Q_A_Prob") for prefix in PREFIXES.values())
    return any(isinstance(entry, dict) and "value_by_index" in entry for entry in found)


def is_summary(data: Mapping[str, Any]) -> bool:
    """Whether this is a ``TOFU_SUMMARY.json``: it has only numbers by metric."""
    named = ("model_utility", "forget_quality", "forget_Q_A_Prob", "forget_Q_A_ROUGE", "forget_truth_ratio")
    return any(name in data for name in named) and all(isinstance(value, int | float) for value in data.values())


def as_tofu_log(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The sets in the format of ``eval_log_aggregated.json``. Raises UserError for rows that lack their numbers."""
    sets: dict[str, Any] = {}
    for key, prefix in PREFIXES.items():
        fields = {
            field: found
            for field, (suffix, name) in FIELDS.items()
            if (found := _column(data, f"{prefix}{suffix}", name, path, several=field == "average_perturb_loss"))
        }
        if prefix in SHORT and "avg_gt_loss" in fields:
            fields["avg_paraphrased_loss"] = fields["avg_gt_loss"]
        if fields:
            sets[key] = fields
    return sets


def read_summary(data: Mapping[str, Any], path: Path) -> dict[str, float]:
    """The numbers by metric. Raises UserError for a value that is not a number."""
    return {name: number(value, f"{path}: {name}") for name, value in sorted(data.items())}


def _column(data: Mapping[str, Any], metric: str, name: str, path: Path, *, several: bool) -> dict[str, Any]:
    """Row -> value; empty if the file lacks the metric."""
    entry = data.get(metric)
    if entry is None:
        return {}
    where = f"{path}: {metric}"
    rows = section(section(entry, where).get("value_by_index"), f"{where} value_by_index")
    found = {}
    for index, row in rows.items():
        value = section(row, f"{where} row {index}").get(name)
        if value is None:
            raise UserError(f"{where} row {index} has no {name}", "evaluate that model again")
        if not several and isinstance(value, list) and len(value) == 1:
            value = value[0]
        found[index] = [value] if several and not isinstance(value, list) else value
    return found
