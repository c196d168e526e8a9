"""The rows of an audit's attacks, read once they are asked for, each model's where it has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unierase_cli.audit.base import PLAIN, Row
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.stages.attack import Done, read_cases, read_rows
from unierase_cli.stages.shared import audited


def input_name(attack: str, of: str) -> str:
    """What an attack on a model is called among an audit's inputs."""
    return f"{attack} {of}"


class AskedOf:
    """An attack on one model: its cases, and their rows once they are asked for."""

    def __init__(self, context: StageContext, name: str, of: str) -> None:
        self._artefact = context.inputs[input_name(name, of)]
        self.cases: dict[str, Done] = read_cases(self._artefact)
        self._rows: dict[str, list[Row]] = {}

    def rows(self, case: str) -> list[Row]:
        if case not in self._rows:
            self._rows[case] = read_rows(self._artefact, self.cases[case])
        return self._rows[case]


Asked = Mapping[str, AskedOf]


def of_all_models(context: StageContext, name: str, models: audited.Models) -> Asked:
    return {of: AskedOf(context, name, of) for of in audited.looked_at(name, models)}


def rows_of(asked: Asked, plain: Asked, of: str, case: Done) -> list[Row]:
    """A model's rows of a case; where it has no token, those that say the same of it."""
    if case.name in asked[of].cases:
        return asked[of].rows(case.name)
    stands_in = case.without_token
    return asked[of].rows(stands_in) if stands_in in asked[of].cases else plain[of].rows(PLAIN)


def of_split(rows: Sequence[Row], split: str) -> list[Row]:
    return [row for row in rows if row.split == split]
