"""The search for z in batches, each saved when finished, so that a killed edit can resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.contracts import Reporter
from unierase_cli.editing.spans import EditRequest
from unierase_cli.editing.values import Values, find_values, join_values
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches
from unierase_cli.sizes import LOGIT_BYTES, MOST_FACTS, SEARCHED_TOKENS
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
    """z of every request, batch by batch; finished batches are saved in ``folder`` as
    ``.values-<name>-<number of facts before>.safetensors``.
    """
    parts: list[Values] = []
    order: list[int] = []

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
        for batch in plan_searches(loaded, requests, config):
            while batch:
                left = [requests[i] for i in batch]
                path = None if folder is None else folder / f".values-{name}-{len(order):05d}.safetensors"
                kept = None if path is None else _read(path, [r.fact_id for r in left])
                # The searches are independent: run as many at a time as fit in memory.
                found = kept or loaded.room.attempt("facts to search values for", len(left), partial(search, left))[1]
                count = len(found.loss)
                if path is not None and kept is None:
                    save_tensors(path, found.tensors(), {"facts": [r.fact_id for r in left[:count]]})
                parts.append(Values(**{key: value.to(loaded.device) for key, value in found.tensors().items()}))
                order, batch = [*order, *batch[:count]], batch[count:]
                advance(count, info=f"P(target) {float(found.probability.mean()):.2f}")
    places = torch.tensor(order).argsort().to(loaded.device)
    return Values(**{key: value[..., places] for key, value in join_values(parts).tensors().items()})


def plan_searches(loaded: LoadedModel, requests: Sequence[EditRequest], config: ValueConfig) -> list[list[int]]:
    """Indices of the facts that are searched together: as many as configured, else as keep the logits small and, on a CPU,
    the tokens few; the same on every machine of a kind.

    Facts with rows of similar length are together, because a batch's rows are padded to the longest.
    """
    rows = max(len(r.prompts) * len(r.target) + (r.drift is not None) for r in requests)
    vocabulary = loaded.architecture.head.weight.shape[0]
    most = config.batch_size or max(1, min(MOST_FACTS, LOGIT_BYTES // (rows * vocabulary * 16)))
    bounded = loaded.device.type == "cpu" and not config.batch_size
    lengths = [_searched_tokens(request) for request in requests]
    return [sorted(batch) for batch in length_sorted_batches(lengths, SEARCHED_TOKENS if bounded else most * max(lengths), most)]


def _searched_tokens(request: EditRequest) -> int:
    """Tokens from the key on in all rows of a fact, padded to the longest."""
    after = [len(p.ids) - p.key for p in request.prompts]
    return (len(after) + (request.drift is not None)) * (max(after) + len(request.target) - 1)


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
