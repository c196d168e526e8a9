"""The loss of a model that never saw the forget set (``eval.reference_model``), which a membership attack subtracts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unierase_cli.inference.logprobs import score_answers
from unierase_cli.models.load import LoadedModel
from unierase_cli.probes.base import Asking

VERSION = 2


def rows(loaded: LoadedModel, asking: Asking, remembered: Any) -> Iterator[dict[str, Any]]:
    """``{"split", "fact_id", "value"}`` for every forget and holdout fact: mean loss of the true answer, nats per token."""
    other = asking.reference()
    asked = asking.of("forget", "holdout")
    items = [other.prompts.pair(fact) for _, fact in asked]
    total = asking.protocol.total_tokens
    scores = score_answers(other, items, total_tokens=total, batch_size=asking.batch_size, progress=asking.advance)
    for (split, fact), score in zip(asked, scores, strict=True):
        yield {"split": split, "fact_id": fact.id, "value": score.average_loss}


def count(asking: Asking) -> int:
    """Number of rows that ``rows`` yields."""
    return len(asking.of("forget", "holdout"))
