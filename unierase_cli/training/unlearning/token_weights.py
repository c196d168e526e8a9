"""How much each token of an answer counts, from a file: where token-level attribution plugs in."""

from __future__ import annotations

from pathlib import Path

from unierase_cli.contracts import UserError
from unierase_cli.store.jsonl import iterate_jsonl

# A weight beyond this is a slip, and would be infinite in the types that models compute in.
LARGEST = 1e4


def load_token_weights(path: str | Path) -> dict[str, tuple[float, ...]]:
    """Fact id -> weights of its answer's tokens. Raises UserError naming file and line on what is not of that form."""
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
