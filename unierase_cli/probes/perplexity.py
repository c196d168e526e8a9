"""Loss on plain text unrelated to the benchmark: does the model still write its language?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unierase_cli.models.load import LoadedModel
from unierase_cli.probes.base import Asking, frozen_views
from unierase_cli.training.unlearning.rows import make_row

VERSION = 1
MAX_TOKENS = 512


def rows(loaded: LoadedModel, asking: Asking, remembered: Any) -> Iterator[dict[str, Any]]:
    """``{"id", "tokens", "loss"}`` for every text: the number of its tokens after the first, and their summed loss in nats."""
    sequences = [_ids(loaded, text) for text in asking.texts]
    whole = [make_row(ids[:1], ids[1:]) for ids in sequences]
    for indices, view in frozen_views(loaded, whole, asking.batch_size):
        for index, loss in zip(indices, view.row_sums.tolist(), strict=True):
            yield {"id": f"text-{index}", "tokens": len(sequences[index]) - 1, "loss": loss}
        asking.advance(len(indices))


def count(asking: Asking) -> int:
    """Number of rows that ``rows`` yields."""
    return len(asking.texts)


def _ids(loaded: LoadedModel, text: str) -> list[int]:
    formatter = loaded.prompts
    ids = [*formatter.bos_ids, *formatter.encoder.encode(text, [(0, len(text))])[0]]
    # A text of one token has nothing to predict, so the end token is added.
    ids = ids if len(ids) > 1 else [*ids, formatter.end_id]
    return ids[: min(MAX_TOKENS, formatter.max_length or MAX_TOKENS)]
