"""The search for z in batches, each saved when finished, so that a killed edit can resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.contracts import Reporter
from unierase_cli.editing.spans import EditRequest
from unierase_cli.editing.values import Values, find_values, join_values
from unierase_cli.models.load import LoadedModel
from unierase_cli.sizes import LOGIT_BYTES, MOST_FACTS
from unierase_cli.store.tensors import save_tensors


def search_values(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    config: ValueConfig,
    layer: int,
    *,
    refusal_starts: Sequence[int] = (),
    reporter: Reporter,
    folder: Path | None = None,
    name: str = "000",
) -> Values:
    """z of every request, batch by batch; finished batches are saved in ``folder`` as ``.values-<name>-<first>.safetensors``."""
    size = batch_size(loaded, requests, config)
    parts: list[Values] = []
    done = 0

    def search(facts: Sequence[EditRequest], count: int) -> Values:
        return find_values(
            loaded.architecture,
            facts[:count],
            config,
            layer,
            pad_id=loaded.prompts.pad_id,
            refusal_starts=refusal_starts,
            reporter=reporter,
        )

    with reporter.progress("searching values", len(requests)) as advance:
        while done < len(requests):
            left = requests[done : done + size]
            path = None if folder is None else folder / f".values-{name}-{done:05d}.safetensors"
            kept = None if path is None else _read(path, [r.fact_id for r in left])
            # The searches are independent: run as many at a time as fit in memory.
            found = kept or loaded.room.attempt("facts to search values for", len(left), partial(search, left))[1]
            if path is not None and kept is None:
                facts = [r.fact_id for r in left[: len(found.loss)]]
                save_tensors(path, found.tensors(), {"facts": facts})
            parts.append(Values(**{key: value.to(loaded.device) for key, value in found.tensors().items()}))
            done += len(found.loss)
            advance(len(found.loss), info=f"P(target) {float(found.probability.mean()):.2f}")
    return join_values(parts)


def batch_size(loaded: LoadedModel, requests: Sequence[EditRequest], config: ValueConfig) -> int:
    """Facts searched together: as configured, else as many as keep the logits small; the same on every machine."""
    if config.batch_size:
        return config.batch_size
    rows = max(len(r.prompts) * len(r.target) + (r.drift is not None) for r in requests)
    vocabulary = loaded.architecture.head.weight.shape[0]
    return max(1, min(MOST_FACTS, LOGIT_BYTES // (rows * vocabulary * 16)))


def clear_values(folder: Path) -> None:
    """Remove what ``search_values`` saved."""
    for path in folder.glob(".values-*"):
        path.unlink()


def _read(path: Path, facts: list[str]) -> Values | None:
    """The saved batch, if it is whole and covers the first of ``facts`` (not all of them, if memory was short)."""
    try:
        with safe_open(str(path), framework="pt") as file:
            kept = json.loads(file.metadata()["facts"])
            if not kept or kept != facts[: len(kept)]:
                return None
            return Values(**{key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None
