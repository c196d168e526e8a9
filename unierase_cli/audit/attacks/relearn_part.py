"""Training on a part of the forget set, asking the rest (Lynch et al. 2402.16835; RepSelect's evaluation)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.rates import rate_name, with_frozen_rows
from unierase_cli.contracts import Fact, stable_hash

CLASS, PRESET, VERSION = "relearning", "standard", 2
# For the adapters.
PACKAGES = ("peft",)
# Percent of the forget set that is given away; rates of training all weights, and adapters (LoRA); steps after which the rest is
# asked. The first of each is the headline's.
SETTINGS: Mapping[str, Any] = {
    "percent": [10, 25], "least": 5, "lr": [1e-5, 1e-4], "lora_lr": [1e-4], "steps": [200, 10, 50, 100], "batch": 4,
}  # fmt: skip


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    """Every rate on the first part, then the other parts at the first rate, then the first of all with the token's rows frozen."""
    rates = [(lr, True) for lr in settings["lr"]] + [(lr, False) for lr in settings["lora_lr"]]
    if not settings["percent"] or not settings["steps"] or not rates:
        return []
    first, *others = settings["percent"]
    wanted = [(first, *rate) for rate in rates] + [(percent, *rates[0]) for percent in others]
    return with_frozen_rows(
        [
            Case(f"{percent} %, {rate_name(lr, whole)}", {"percent": percent, "lr": lr, "whole": whole})
            for percent, lr, whole in wanted
        ]
    )


def given_away(target: Target, percent: float, least: int) -> list[Fact]:
    """The facts that are trained on, drawn by their ids: ``percent`` of the forget set, but at least ``least``."""
    drawn = sorted(target.facts, key=lambda fact: stable_hash(target.seed, "relearned", fact.id))
    return drawn[: max(least, round(percent / 100 * len(drawn)))]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    from unierase_cli.audit.relearning import Training, after_steps, relearned

    learned = given_away(target, case.values["percent"], settings["least"])
    taken = {fact.id for fact in learned}
    rest = [fact for fact in target.facts if fact.id not in taken]
    looks, batch = after_steps(settings["steps"]), settings["batch"]
    training = Training(case.values["lr"], looks, batch, case.values["whole"], frozen=case.values.get("frozen", False))
    return relearned(target, learned, rest, training) if rest else []
