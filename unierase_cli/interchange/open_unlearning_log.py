"""Reads open-unlearning's ``TOFU_EVAL.json`` of a retain model as our retain reference (spec: metrics, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError, normalised
from unierase_cli.interchange.json_files import number, read_object, section
from unierase_cli.metrics.base import Reference

WHAT = "open-unlearning's TOFU_EVAL.json"
RATIOS, TEXTS = "forget_truth_ratio", "forget_Q_A_ROUGE"
# Their attacks (mia_*); entries of another kind under such a name are ignored.
ATTACKS = ("loss", "min_k", "min_k_plus_plus", "zlib", "gradnorm", "reference")


@dataclass(frozen=True)
class RetainLog:
    """The file's numbers of a model that never saw the forget set. ``prompts``: those of its forget rows, if it has their texts."""

    path: Path
    reference: Reference
    prompts: tuple[str, ...] = ()

    def unknown(self, questions: Sequence[str]) -> list[str]:
        """Questions that no prompt of the file contains; empty if the file has no prompts."""
        prompts = [normalised(prompt) for prompt in self.prompts]
        return [q for q in questions if prompts and not any(normalised(q) in prompt for prompt in prompts)]


def read_retain_log(path: Path) -> RetainLog:
    """The truth ratios R = p(wrong) / p(correct) of the forget rows, and each attack's AUC.

    Raises UserError for a file that is damaged or lacks ``forget_truth_ratio``.
    """
    data = read_object(path, WHAT)
    if RATIOS not in data:
        raise UserError(f"{path} has no {RATIOS}", f"name {WHAT} of a retain model, evaluated with TOFU's suite")
    rows = _rows(data[RATIOS], f"{path}: {RATIOS}")
    ratios = [number(section(r, w).get("score"), f"{w} score") for w, r in rows]
    negative = next((place for place, ratio in enumerate(ratios) if ratio < 0), None)
    if negative is not None:
        raise UserError(f"{rows[negative][0]} score is negative, which a ratio cannot be", "evaluate that model again")
    found = {name: data[f"mia_{name}"] for name in ATTACKS if f"mia_{name}" in data}
    attacks = {name: _auc(entry, f"{path}: mia_{name}") for name, entry in found.items()}
    known = {name: auc for name, auc in attacks.items() if auc is not None}
    return RetainLog(path, Reference(truth_ratios=tuple(ratios), attacks=known), _prompts(data.get(TEXTS)))


def _rows(entry: Any, where: str) -> list[tuple[str, Any]]:
    """(description of the place, value) of every row, in index order."""
    by_index = section(section(entry, where).get("value_by_index"), f"{where} value_by_index")
    if not by_index:
        raise UserError(f"{where} has no rows", "evaluate that model again")
    order = sorted(by_index, key=lambda index: (not index.isdecimal(), int(index) if index.isdecimal() else 0, index))
    return [(f"{where} row {index}", by_index[index]) for index in order]


def _auc(entry: Any, where: str) -> float | None:
    """The attack's AUC; None if the attack was not run."""
    found = section(entry, where)
    value = found.get("auc", found.get("agg_value"))
    if value is None:
        return None
    auc = number(value, f"{where} auc")
    if not 0 <= auc <= 1:
        raise UserError(f"{where} auc is {auc:g}, outside of [0, 1]", "evaluate that model again")
    return auc


def _prompts(entry: Any) -> tuple[str, ...]:
    rows = entry.get("value_by_index") if isinstance(entry, Mapping) else None
    entries = list(rows.values()) if isinstance(rows, dict) else []
    texts = [row["input"] for row in entries if isinstance(row, dict) and isinstance(row.get("input"), str)]
    return tuple(texts) if len(texts) == len(entries) else ()
