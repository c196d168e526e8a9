"""Plans a sweep: composes and plans every combination before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from unierase_cli.cli.amounts import duration
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sweep import Combination, Sweep
from unierase_cli.contracts import Reporter, SilentReporter, UserError
from unierase_cli.pipeline.evaluation import SCORE, TRAJECTORY, last_of_evaluation
from unierase_cli.pipeline.pipeline import Pipeline, PlanRow
from unierase_cli.pipeline.study import Study
from unierase_cli.results.table import Table
from unierase_cli.stages import audit
from unierase_cli.stages.shared.audited import BASE, models_of, with_control
from unierase_cli.stages.shared.choose_reference import with_reference
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

SCORED = ("score", "report")
# Stages that use the retain reference, directly or through scores.
REFERRING = (*SCORED, TRAJECTORY)
DONE, INTERRUPTED, MISSING, TO_AUDIT = "done", "interrupted", "missing", "to audit"
ATTACK = "attack"


@dataclass
class Planned:
    """A combination with its artefacts, the requested one last; ``twin``: number of an earlier one with the same artefact.

    ``audit``: the artefacts of its audit, if one is asked for, the audit last; ``audit_seconds``: an estimate for those that no
    earlier combination makes.
    """

    number: int
    combination: Combination
    experiment: Experiment
    rows: list[PlanRow]
    twin: int | None = None
    audit: list[PlanRow] = field(default_factory=list)
    audit_seconds: float = 0.0

    @property
    def audited(self) -> bool:
        """Whether its audit is there."""
        return bool(self.audit) and self.audit[-1].state == DONE and not self.experiment.run.force

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


def plan_sweep(
    sweep: Sweep, stage: str, config_dir: Path | None, reporter: Reporter, attacks: Sequence[str] = ()
) -> list[Planned]:
    """Plan every combination; raises UserError, naming the combination, for an invalid one and for duplicates.

    ``attacks``: of an audit of every run, if there is to be one.
    """
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
    planned_before: set[str] = set()
    with reporter.progress("planning", len(experiments)) as advance:
        for number, (combination, experiment) in enumerate(experiments, 1):
            with _naming(combination):
                rows = _rows(experiment, stage, looking)
                audited, seconds = _audit(experiment, attacks, looking, planned_before) if attacks else ([], 0.0)
            planned.append(Planned(number, combination, experiment, rows, twins.get(rows[-1].key), audited, seconds))
            twins.setdefault(rows[-1].key, number)
            advance(1)
    for warning in dict.fromkeys(silent.warnings):
        reporter.warn(warning)
    return planned


def _composed(sweep: Sweep, config_dir: Path | None, reporter: Reporter) -> list[tuple[Combination, Experiment]]:
    from unierase_cli.config.compose import compose

    found: list[tuple[Combination, Experiment]] = []
    seen: dict[str, str] = {}
    warnings: list[str] = []
    with reporter.progress("composing", len(sweep)) as advance:
        for combination in sweep:
            with _naming(combination):
                experiment = compose(combination.words, config_dir, warnings.append)
            text = json.dumps(asdict(experiment), sort_keys=True, default=str)
            if text in seen:
                raise UserError(f"{seen[text]} and {combination.label} are the same experiment", "leave one of them out")
            seen[text] = combination.label
            found.append((combination, experiment))
            advance(1)
    for warning in dict.fromkeys(warnings):
        reporter.warn(warning)
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


def _audit(
    experiment: Experiment, attacks: Sequence[str], looking: Callable[[Experiment], Pipeline], before: set[str]
) -> tuple[list[PlanRow], float]:
    """The plan of a run's audit, and the seconds that what is not in ``before`` takes; its keys are added there.

    Raises UserError for a run or attacks that no audit can be made of.
    """
    from unierase_cli.estimate.of_plan import plan_needs

    wanted = replace(experiment.audit, attacks=list(attacks))
    if models_of(experiment).unlearned == BASE and wanted.ceiling is None:
        # As `unierase audit RUN` has it: a run that erases nothing is of the unedited model.
        wanted = replace(wanted, ceiling=experiment.model.path)
    pipeline = looking(with_control(replace(experiment, audit=wanted), SilentReporter()))
    audit.check(pipeline.study)
    rows = pipeline.plan(audit.NAME)
    fresh = [row for row in rows if row.key not in before]
    before.update(row.key for row in rows)
    return rows, sum(plan_needs(pipeline.study, fresh).seconds.values())


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
        # An audit needs some of what the evaluation makes.
        left = list({row.key: row for row in (*one.rows, *one.audit) if row.state != DONE}.values())
        shared |= {row.key for row in left} & told
        fresh = [row for row in left if row.key not in told]
        told |= {row.key for row in left}
        rows.append((str(one.number), one.label, _state(one), _listed(fresh)))
    ready, twins = sum(one.done for one in planned), sum(one.twin is not None and not one.done for one in planned)
    caption = f"{_counted(len(planned), 'combination')}: {ready} done, {len(planned) - ready - twins} to run; "
    caption += f"{_counted(len(told), 'artefact')} to make"
    caption += f" ({len(shared)} shared, listed at the first combination)" if shared else ""
    seconds = sum(one.audit_seconds for one in planned)
    caption += f"; audits: about {duration(seconds)} (rough estimate)" if seconds else ""
    return Table("Sweep", ("no.", "combination", "now", "to make"), tuple(rows), frozenset({"no."}), caption)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _state(one: Planned) -> str:
    if one.done:
        return DONE if one.audited or not one.audit else TO_AUDIT
    if one.twin is not None:
        return f"as {one.twin}"
    return INTERRUPTED if any(row.state == INTERRUPTED for row in one.rows) else MISSING


def _listed(rows: Sequence[PlanRow]) -> str:
    """The stages to make; of attacks, which are many, only the number."""
    attacks = sum(row.stage.startswith(f"{ATTACK} ") for row in rows)
    named = [_short(row) for row in rows if not row.stage.startswith(f"{ATTACK} ")]
    return ", ".join([*named, *([_counted(attacks, "attack")] if attacks else [])])


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
            **({"audit": [vars(row) for row in one.audit], "audit_seconds": one.audit_seconds} if one.audit else {}),
        }
        for one in planned
    ]
