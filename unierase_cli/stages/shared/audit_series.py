"""What an audit's rows say along a line: curves of relearning, depth by block, rounding by matrix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from unierase_cli.audit import scores
from unierase_cli.audit.base import ATTACKS, FORGET, PLAIN, Row
from unierase_cli.audit.curves import CEILING, CONTROL, UNLEARNED, curve, when
from unierase_cli.audit.numbers import mean
from unierase_cli.audit.series import Block, Curve, Rounded
from unierase_cli.stages.attack import Done
from unierase_cli.stages.shared import audited
from unierase_cli.stages.shared.audit_rows import Asked, of_split, rows_of

# The attack whose rows are matrices, and its scores.
ROUNDING, UNDONE, LARGEST = "rounding", "undone", "largest"
BLOCK = re.compile(r"block (\d+)")
LOST_BY_CONTROL, LOST = "lost by the control in", "lost in"
Rows = Mapping[str, Sequence[Row]]


class Series:
    """What every case of every attack says along a line."""

    def __init__(self, asked: Mapping[str, Asked], plain: Asked, models: audited.Models, groups: Mapping[str, str]) -> None:
        self._asked, self._plain, self._models, self._groups = asked, plain, models, groups

    def curves(self) -> list[Curve]:
        parts = {UNLEARNED: self._models.unlearned, CONTROL: self._models.control, CEILING: self._models.ceiling}
        plain = {model: self._plain[of].rows(PLAIN) for model, of in parts.items() if of is not None}
        apart = self._models.control == audited.CONTROL_FACTS
        found = []
        for name, case in self._cases(relearning=True):
            asked = self._asked[name]
            rows = {model: rows_of(asked, self._plain, of, case) for model, of in parts.items() if of is not None and of in asked}
            if (line := curve_of(name, case.name, rows, plain, self._groups, apart=apart)) is not None:
                found.append(line)
        return found

    def blocks(self) -> list[Block]:
        return [block for name, case in self._cases() for block in blocks_of(name, case.name, self._own(name, case))]

    def rounding(self) -> list[Rounded]:
        return [one for name, case in self._cases() if name == ROUNDING for one in rounding_of(case.name, self._own(name, case))]

    def _cases(self, relearning: bool = False) -> Iterator[tuple[str, Done]]:
        for name, asked in self._asked.items():
            if not relearning or ATTACKS.says(name, "CLASS") == "relearning":
                yield from ((name, case) for case in asked[self._models.unlearned].cases.values())

    def _own(self, name: str, case: Done) -> list[Row]:
        return of_split(self._asked[name][self._models.unlearned].rows(case.name), FORGET)


def curve_of(attack: str, setting: str, rows: Rows, plain: Rows, groups: Mapping[str, str], *, apart: bool) -> Curve | None:
    """The curve of an attack's case; None of one that does not look several times.

    ``rows``, ``plain``: of the unlearned model, the control and the ceiling by these names. ``apart``: the control's facts are
    others.
    """
    found: dict[str, dict[float, dict[str, float]]] = {}
    units = set()
    for model, some in rows.items():
        for at in dict.fromkeys(row.at for row in some if row.split == FORGET):
            told = when(at)
            if told is None:
                return None
            units.add(told[1])
            found.setdefault(model, {})[told[0]] = scores.by_fact(r for r in some if r.at == at and r.split == FORGET)
    if len(units) != 1 or UNLEARNED not in found:
        return None
    for model, looks in found.items():
        asked = {fact for of in looks.values() for fact in of}
        looks[0.0] = {f: v for f, v in scores.by_fact(r for r in plain[model] if r.split == FORGET).items() if f in asked}
    paired = [model for model in found if not (apart and model == CONTROL)]
    common = set.intersection(*(set(of) for model in paired for of in found[model].values()))
    for model in paired:
        found[model] = {at: {f: v for f, v in of.items() if f in common} for at, of in found[model].items()}
    return curve(attack, setting, units.pop(), found, groups)


def blocks_of(attack: str, setting: str, rows: Sequence[Row]) -> list[Block]:
    """Depth by block, from an attack whose rows score blocks; empty for any other."""
    numbers = sorted({int(match[1]) for row in rows for name in row.scores if (match := BLOCK.fullmatch(name))})
    found = []
    for block in numbers:
        some = [row.scores for row in rows if f"block {block}" in row.scores]
        losses = [
            mean([one[f"{name} {block}"] for one in some]) if all(f"{name} {block}" in one for one in some) else None
            for name in (LOST_BY_CONTROL, LOST)
        ]
        found.append(Block(attack, setting, block, len(some), mean([one[f"block {block}"] for one in some]), *losses))
    return found


def rounding_of(setting: str, rows: Sequence[Row]) -> list[Rounded]:
    """What rounding makes of the edit, matrix by matrix."""
    return [Rounded(setting, row.fact, row.scores[UNDONE], row.scores[LARGEST]) for row in rows]
