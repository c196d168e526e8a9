"""Describes a run's patches from their files, without reading a tensor."""

from __future__ import annotations

from typing import Any

from unierase_cli.delivery.patches import Chosen
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.patch_files import PART, bytes_on_disk, steps_in, stored_shapes

STATE = "state.safetensors"


def describe(erasure: Artefact) -> dict[str, Any]:
    """A run's patches: facts, layers, rank, tokens and bytes per step and part, and separately the size of the state."""
    folder = erasure.whole
    chosen = Chosen(erasure, tuple(steps_in(folder)))
    steps = []
    for (step, part), record in zip(chosen.places(), chosen.records(), strict=True):
        shapes = stored_shapes(folder, step, part)
        ranks = {name: shape[1] for name, shape in shapes.items() if name.endswith(".left")}
        steps.append(
            {
                "step": step,
                "part": record.info.get(PART),
                "facts": len(record.info.get("facts", [])),
                "layers": record.layers,
                "named": len(record.named),
                "dense": len(record.dense),
                "rank": [min(ranks.values()), max(ranks.values())] if ranks else None,
                "tokens": record.tokens.names if record.tokens else [],
                "token_ids": record.tokens.ids if record.tokens else [],
                "bytes": bytes_on_disk(folder, step, part),
            }
        )
    state = folder / STATE
    return {
        "run": erasure.name,
        "path": str(erasure.path),
        "key": erasure.key,
        "weights": chosen.dtype,
        "base_hashes": {name: value for record in chosen.records() for name, value in record.base_hashes.items()},
        "steps": steps,
        "bytes": sum(step["bytes"] for step in steps),
        "state_bytes": state.stat().st_size if state.exists() else 0,
    }
