"""How much of the edit rounding undoes: the share of edited weights that are rounded to the same value as the unedited ones.

It explains what int8, int4 and NF4 bring back (spec: audit, section 6; 2410.16454). A matrix stands where facts do elsewhere; one
that was not edited has no row. It asks nothing, so it has a table of its own and no share of facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.weights import matrices
from unierase_cli.contracts import UserError
from unierase_cli.models.quantise import int4_codes, int8_codes, nf4_codes

CLASS, PRESET, VERSION = "weights", "standard", 2
SETTINGS: Mapping[str, Any] = {}
NEEDS = ("ceiling",)
# RELATIVE: only the unlearned model is looked at.
SCORE, RELATIVE, ASKS = "undone", True, False
LARGEST = "largest"
ROUND = {"int8": int8_codes, "int4": int4_codes, "nf4": nf4_codes}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case(name) for name in ROUND]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    if target.ceiling is None:
        raise UserError("rounding needs the unedited model", "name it with --ceiling MODEL")
    rounded = ROUND[case.name]
    for (name, own), (other, before) in zip(matrices(target.loaded), matrices(target.ceiling()), strict=True):
        if name != other or own.shape != before.shape:
            raise UserError(f"{name} has another shape in the unedited model", "compare models of one architecture")
        before = before.to(own.device)
        edited = own != before
        if not bool(edited.any()):
            continue
        ours, theirs = rounded(own), rounded(before)
        largest = float(((own - before).abs() / (theirs.scale * theirs.step)).max())
        # Scales hardly move; an entry with the same code is where it was.
        undone = float((ours.codes == theirs.codes)[edited].double().mean())
        yield Row(name, "", "", "", scores={SCORE: undone, LARGEST: largest})
