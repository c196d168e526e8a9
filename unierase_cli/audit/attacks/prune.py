"""The least important weights set to zero: by magnitude in a matrix or a row, or by activations in a row (audit, section 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import RETAIN, Case, Row, Target
from unierase_cli.audit.weights import changed
from unierase_cli.contracts import evenly_spaced
from unierase_cli.models.input_norms import input_norms
from unierase_cli.models.weight_changes import pruned

CLASS, PRESET, VERSION = "weights", "standard", 2
# Shares of the weights; the first number is the headline. sequences: retained examples whose activations are looked at.
SETTINGS: Mapping[str, Any] = {"shares": [0.3, 0.1, 0.5], "sequences": 128}
MATRIX, ROW, ACTIVATIONS = "of a matrix", "of a row", "of a row by activations"


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [
        Case(f"{100 * share:g} percent {way}", {"share": share, "way": way})
        for way in (MATRIX, ROW, ACTIVATIONS)
        for share in settings["shares"]
    ]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    share, way = case.values["share"], case.values["way"]
    if way == ACTIVATIONS and not target.material:
        target.reporter.warn("pruning by activations is left out: there are no retained examples to take them from")
        return
    norms = _norms(target, settings["sequences"]) if way == ACTIVATIONS else {}

    def smaller(name: str, weight: Tensor) -> Tensor:
        return pruned(weight, share, per_row=way != MATRIX, input_norms=norms.get(name.removesuffix(".weight")))

    with changed(target.loaded, smaller):
        yield from answers(target, target.facts, probability=True)
        yield from answers(target, target.kept, split=RETAIN)


def _norms(target: Target, count: int) -> dict[str, Tensor]:
    """What drives every linear layer on retained examples, prompt and answer."""
    prompts = target.loaded.prompts
    examples = evenly_spaced(target.material, count)
    return input_norms(
        target.loaded, [prompt + answer for prompt, answer in map(prompts.pair, examples)]
    )
