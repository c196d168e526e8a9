"""Plans a sweep: composes and plans every combination before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sweep import Combination, Sweep
from unierase_cli.contracts import Reporter, SilentReporter, UserError
from unierase_cli.pipeline.evaluation import SCORE, TRAJECTORY, last_of_evaluation
from unierase_cli.pipeline.pipeline import Pipeline, PlanRow
from unierase_cli.pipeline.study import Study
from unierase_cli.results.table import Table
from unierase_cli.stages.shared.choose_reference import with_reference
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

SCORED = ("score", "report")
# Stages that use the retain reference, directly or through scores.
REFERRING = (*SCORED, TRAJECTORY)
DONE, INTERRUPTED, MISSING = "done", "interrupted", "missing"


@dataclass
class Planned:
    """A combination with its artefacts, the requested one last; ``twin``: number of an earlier one with the same artefact."""

    number: int
    combination: Combination
    experiment: Experiment
    rows: list[PlanRow]
    twin: int | None = None

    @property
    def done(self) -> bool:
        return self.rows[-1].state == DONE and not self.experiment.run.force

    @property
    def label(self) -> str:
        return self.combination.label

    @property
    def folder(self) -> Path | None:
        path = self.rows[-1].path
        return Path(path) if path and self.done else None


class Snapshot(Store):
    """The store as it is now, read once, because a plan looks up every artefact of every combination."""

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self.everything: list[Artefact] = super().list()

    def list(self, stage: str | None = None) -> list[Artefact]:
        return [artefact for artefact in self.everything if stage in (None, artefact.stage)]


class StillToMake(Exception):
    """Carries the plan of an artefact that does not exist yet."""

    def __init__(self, rows: list[PlanRow]) -> None:
        super().__init__(rows[-1].stage)
        self.rows = rows


class Looking(Pipeline):
    """A pipeline that makes nothing; raises StillToMake for an artefact that does not exist."""

    def make(self, stage: str, **options: str) -> Artefact:
        rows = self.plan(stage, **options)
        found = self.store.find(stage, rows[-1].key)
        if found is None:
            raise StillToMake(rows)
        return found


def plan_sweep(sweep: Sweep, stage: str, config_dir: Path | None, reporter: Reporter) -> list[Planned]:
    """Plan every combination; raises UserError, naming the combination, for an invalid one and for duplicates."""
    experiments = _composed(sweep, config_dir, reporter)
    silent = SilentReporter()
    store = Snapshot(experiments[0][1].run.outputs)

    study: Study | None = None

    def looking(experiment: Experiment) -> Looking:
        nonlocal study
        pipeline = Looking(experiment, silent, like=study)
        pipeline.store, study = store, pipeline.study
        return pipeline

    planned: list[Planned] = []
    twins: dict[str, int] = {}
    with reporter.progress("planning", len(experiments)) as advance:
        for number, (combination, experiment) in enumerate(experiments, 1):
            with _naming(combination):
                rows = _rows(experiment, stage, looking)
            planned.append(Planned(number, combination, experiment, rows, twins.get(rows[-1].key)))
            twins.setdefault(rows[-1].key, number)
            advance(1)
    for warning in dict.fromkeys(silent.warnings):
        reporter.warn(warning)
    return planned


def _composed(sweep: Sweep, config_dir: Path | None, reporter: Reporter) -> list[tuple[Combination, Experiment]]:
    from unierase_cli.config.compose import compose

    found: list[tuple[Combination, Experiment]] = []
    seen: dict[str, str] = {}
    with reporter.progress("composing", len(sweep)) as advance:
        for combination in sweep:
            with _naming(combination):
                experiment = compose(combination.words, config_dir)
            text = json.dumps(asdict(experiment), sort_keys=True, default=str)
            if text in seen:
                raise UserError(f"{seen[text]} and {combination.label} are the same experiment", "leave one of them out")
            seen[text] = combination.label
            found.append((combination, experiment))
            advance(1)
    return found


def _rows(experiment: Experiment, stage: str, looking: Callable[[Experiment], Pipeline]) -> list[PlanRow]:
    """The plan rows of a run, including the retain reference that it will find or make first.

    An evaluation ends with the last stage of its mode.
    """
    if stage == SCORE:
        stage = last_of_evaluation(looking(experiment).study)
    if stage not in REFERRING:
        return looking(experiment).plan(stage)
    try:
        return looking(with_reference(experiment, SilentReporter(), looking)).plan(stage)
    except StillToMake as reference:
        # Until the reference exists, artefacts scored against it have no key: they are missing and equal to no other.
        rows = looking(replace(experiment, eval=replace(experiment.eval, retain_reference=None))).plan(stage)
        return [*reference.rows, *(_without_key(row) if row.stage in REFERRING else row for row in rows)]


def _without_key(row: PlanRow) -> PlanRow:
    return replace(row, key=f"{row.key}, with a retain reference", state=MISSING, path=None)


@contextmanager
def _naming(combination: Combination) -> Iterator[None]:
    """Put the combination's label before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{combination.label}: {error.message}" if combination.chosen else error.message, error.hint) from error


def plan_table(planned: Sequence[Planned]) -> Table:
    """One row per combination; artefacts that several combinations need are listed at the first one."""
    told: set[str] = set()
    shared: set[str] = set()
    rows = []
    for one in planned:
        left = [row for row in one.rows if row.state != DONE]
        shared |= {row.key for row in left} & told
        fresh = [row for row in left if row.key not in told]
        told |= {row.key for row in left}
        rows.append((str(one.number), one.label, _state(one), ", ".join(map(_short, fresh))))
    ready, twins = sum(one.done for one in planned), sum(one.twin is not None and not one.done for one in planned)
    caption = f"{len(planned)} combinations: {ready} done, {len(planned) - ready - twins} to run; {len(told)} artefacts to make"
    caption += f" ({len(shared)} shared, listed at the first combination)" if shared else ""
    return Table("Sweep", ("no.", "combination", "now", "to make"), tuple(rows), frozenset({"no."}), caption)


def _state(one: Planned) -> str:
    if one.done:
        return DONE
    if one.twin is not None:
        return f"as {one.twin}"
    return INTERRUPTED if any(row.state == INTERRUPTED for row in one.rows) else MISSING


def _short(row: PlanRow) -> str:
    return f"{row.stage} (resumes)" if row.state == INTERRUPTED else row.stage


def plan_data(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """The plan as JSON data."""
    return [
        {
            "number": one.number,
            "combination": dict(one.combination.chosen),
            "words": list(one.combination.words),
            "state": _state(one),
            "plan": [vars(row) for row in one.rows],
        }
        for one in planned
    ]
