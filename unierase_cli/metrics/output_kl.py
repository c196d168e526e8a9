"""How far predictions along the true answers moved: mean KL(before || after) per token, nats (pass ``output_kl``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import DETAIL, FORGET, About, Column, Evidence, mean_result

NAME = "output_kl"
VERSION = 1
HIGHER_IS_BETTER = False
ABOUT = About(NAME, "KL to the unedited model", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation], rows: Sequence[Mapping[str, Any]] = ()) -> Measure:
    """Mean over the pass's rows, in the order of the observations if these are given."""
    values = {row["fact_id"]: float(row["value"]) for row in rows}
    ordered = (
        [values[o.fact_id] for o in observations if o.fact_id in values] if observations else list(values.values())
    )
    return mean_result(ABOUT, ordered)


def columns(evidence: Evidence) -> Iterable[Column]:
    found = evidence.passes.get(NAME, ())
    for split in dict.fromkeys(row["split"] for row in found):
        result = compute(evidence.rows(split), [row for row in found if row["split"] == split])
        if split == FORGET:
            # On the forget split, distance to the unedited model is neither good nor bad.
            result = replace(result, higher_is_better=None)
        yield Column(NAME, ABOUT.title, split, DETAIL, result)
