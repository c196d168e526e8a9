"""Over-refusal: share of everyday requests unrelated to the forget set that are refused (pass ``unrelated``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics import refusal_rate
from unierase_cli.metrics.base import DETAIL, OVERALL, About, Column, Evidence, mean_result, unavailable

NAME = "over_refusal"
VERSION = refusal_rate.VERSION
HIGHER_IS_BETTER = False
ABOUT = About(NAME, "unrelated requests refused", VERSION, HIGHER_IS_BETTER)
LED = About("unrelated_first_token", "unrelated requests: first token is [UNL]", VERSION, HIGHER_IS_BETTER)
PASS = "unrelated"


def compute(observations: Sequence[Observation], refusals: Sequence[str] = ()) -> Measure:
    """Share of the requests answered with a listed refusal."""
    if not refusals:
        return unavailable(ABOUT, "no refusals are listed", "give token.targets=FILE")
    return mean_result(ABOUT, [float(refusal_rate.is_refusal(o.text, refusals)) for o in observations])


def columns(evidence: Evidence) -> Iterable[Column]:
    rows = [Observation.from_json(row) for row in evidence.passes.get(PASS, ())]
    if not rows:
        return
    yield Column(NAME, ABOUT.title, OVERALL, DETAIL, compute(rows, evidence.refusals))
    if evidence.has_token():
        led = mean_result(LED, [float(o.first_is_unlearn) for o in rows])
        yield Column(LED.name, LED.title, OVERALL, DETAIL, led)
