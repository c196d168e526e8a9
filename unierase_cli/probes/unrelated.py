"""Everyday requests that nobody asked to forget: a model that refuses them has learned to refuse, not to forget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unierase_cli.contracts import Fact
from unierase_cli.inference.observe import ask, observe, plan_batches
from unierase_cli.models.load import LoadedModel
from unierase_cli.probes.base import Asking
from unierase_cli.store.jsonl import read_asset

VERSION = 1
NAME, ASSET = "unrelated", "unrelated.jsonl"


def rows(loaded: LoadedModel, asking: Asking, remembered: Any) -> Iterator[dict[str, Any]]:
    """The observation of every request, as JSON."""
    asked = ask(loaded, _requests(), NAME, asking.protocol)
    batches = plan_batches(asked, asking.batch_size, loaded.device.type)
    # A separate variant without scored answers: many answers would be fine.
    for found in observe(loaded, asked, batches, split=NAME, variant=NAME, protocol=asking.protocol):
        yield from (o.to_json() for o in found)
        asking.advance(len(found))


def count(asking: Asking) -> int:
    """Number of rows that ``rows`` yields."""
    return len(_requests())


def _requests() -> list[Fact]:
    return [Fact(f"unrelated-{i}", row["question"], row["answer"]) for i, row in enumerate(read_asset(ASSET))]
