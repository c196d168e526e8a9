"""Reads weights of answer tokens from a file, for token-level attribution."""

from __future__ import annotations

from pathlib import Path

from unierase_cli.contracts import UserError
from unierase_cli.store.jsonl import iterate_jsonl

# Larger weights are mistakes, and could overflow in the models' dtypes.
LARGEST = 1e4


def load_token_weights(path: str | Path) -> dict[str, tuple[float, ...]]:
    """Fact id -> weights of its answer's tokens. Raises UserError that names file and line of an invalid entry."""
    found = {}
    for number, row in iterate_jsonl(path):
        weights = row.get("weights")
        numbers = [w for w in weights if isinstance(w, (int, float)) and 0 <= w <= LARGEST] if isinstance(weights, list) else []
        if not isinstance(row.get("fact"), str) or not numbers or numbers != weights:
            raise UserError(
                f"{path}:{number}: not a fact with weights", 'write {"fact": "full-3960", "weights": [0, 0.5, 1]}'
            )
        found[row["fact"]] = tuple(float(weight) for weight in numbers)
    return found
