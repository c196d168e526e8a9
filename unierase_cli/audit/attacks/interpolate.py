"""The model moved towards the unedited one and away from it: where do the answers come back (audit, section 6)?

A diagnostic, not an attack: it needs the unedited model. The control is moved the same way, so excess says how much sooner
the unlearned model gives back its answers than one that never had them. A jump near 0 means that the change is a thin switch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import RETAIN, Case, Row, Target
from unierase_cli.contracts import UserError
from unierase_cli.models.interpolation import moved_towards

CLASS, PRESET, VERSION = "weights", "thorough", 2
# Shares of the way to the unedited model; the first number is the headline.
SETTINGS: Mapping[str, Any] = {"amounts": [0.3, 0.1, 0.5, 0.7, 0.9, -0.25, -0.5]}
NEEDS = ("ceiling",)
# Nobody else has the unedited model, so no verdict rests on it.
WEAK = True


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case(f"{100 * amount:g} percent", {"amount": amount}) for amount in settings["amounts"]]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    if target.ceiling is None:
        raise UserError("interpolate needs the unedited model", "name it with --ceiling MODEL")
    with moved_towards(target.loaded, target.ceiling(), case.values["amount"]):
        yield from answers(target, target.facts, probability=True)
        yield from answers(target, target.kept, split=RETAIN)
