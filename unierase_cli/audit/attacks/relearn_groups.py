"""Retrain on T (Deeb & Roger 2410.08827): training on some of the forgotten facts, asking the others, which training does not name.

The facts are divided into folds; a model is trained on all but one and asked that one. ``other groups``: a fold holds whole groups,
so that no answer can be guessed from what is learned. ``same groups``: the groups' facts are dealt out, the easier attack. What a
model that never had the facts says afterwards is what can be guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.rates import rate_name, with_frozen_rows
from unierase_cli.audit.splits import folds

CLASS, PRESET, VERSION = "relearning", "thorough", 1
# For the adapters.
PACKAGES = ("peft",)
# tested: so many of the folds are asked, 0 for all. Rates of training all weights, and of adapters (LoRA); epochs after which the
# fold is asked. The first of each is the headline's. warmup: steps of rising rate.
SETTINGS: Mapping[str, Any] = {
    "folds": 5, "tested": 2, "lr": [1e-5, 3e-5], "lora_lr": [1e-4, 3e-4], "epochs": [6, 1, 2, 4], "warmup": 24, "batch": 4,
}  # fmt: skip


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    """Other groups at every rate, the first of them with the token's rows frozen, then the same groups at the first rate."""
    rates = [(lr, True) for lr in settings["lr"]] + [(lr, False) for lr in settings["lora_lr"]]
    if not settings["epochs"] or not rates:
        return []
    others = [_case("other groups", *rate, together=True) for rate in rates]
    return [*with_frozen_rows(others), _case("same groups", *rates[0], together=False)]


def _case(name: str, lr: float, whole: bool, *, together: bool) -> Case:
    return Case(f"{name}, {rate_name(lr, whole)}", {"lr": lr, "whole": whole, "together": together})


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    from unierase_cli.audit.relearning import Training, relearned

    values = case.values
    parts = folds(target.facts, settings["folds"], target.seed, together=values["together"])
    if len(parts) < 2:
        target.reporter.warn(
            "relearn_groups is left out: the facts are of a single group, and there are no others to learn from"
        )
        return
    batch = settings["batch"]
    for number, tested in enumerate(parts[: settings["tested"] or None]):
        learned = [fact for other, part in enumerate(parts) if other != number for fact in part]
        per_epoch = -(-len(learned) // batch)
        looks = {epoch * per_epoch: f"{epoch} epoch{'s' * (epoch != 1)}" for epoch in settings["epochs"]}
        training = Training(
            values["lr"], looks, batch, values["whole"], settings["warmup"], values.get("frozen", False)
        )
        yield from relearned(target, learned, tested, training)
