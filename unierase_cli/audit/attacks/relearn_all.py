"""One epoch on all forgotten facts, which are then asked (the relearning of UDS's evaluation, 2605.24614).

Any model recalls what it was just taught, so this is an upper bound and weak evidence: only recall that is back sooner than in the
control shows what was still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.rates import rate_name

CLASS, PRESET, VERSION = "relearning", "thorough", 1
WEAK = True
# For the adapters.
PACKAGES = ("peft",)
# Rates of training all weights, falling to 0, and of adapters (LoRA). The first is the headline.
SETTINGS: Mapping[str, Any] = {"lr": [2e-5, 1e-4], "lora_lr": [1e-4], "batch": 32}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    rates = [(lr, True) for lr in settings["lr"]] + [(lr, False) for lr in settings["lora_lr"]]
    return [Case(rate_name(lr, whole), {"lr": lr, "whole": whole}) for lr, whole in rates]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    from unierase_cli.audit.relearning import Training, after_steps, relearned

    looks = after_steps([-(-len(target.facts) // settings["batch"])])
    training = Training(
        case.values["lr"], looks, settings["batch"], case.values["whole"], schedule="linear", same=True
    )
    return relearned(target, target.facts, target.facts, training)
