"""The estimate for the stages of a plan, for --dry-run; loads nothing, and imports torch only for a plan with attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from unierase_cli.contracts import UserError
from unierase_cli.estimate.memory_and_disk import PROCESS_BYTES, disk_needs, memory_needs
from unierase_cli.estimate.need import ALL, Rows, rows_of, stage_peaks
from unierase_cli.estimate.shapes import Shape, shape_of
from unierase_cli.pipeline.machine import likely_accelerator
from unierase_cli.pipeline.pipeline import PlanRow
from unierase_cli.pipeline.study import Study

# Stages that use as much memory as another stage.
ALIKE = {"observe_facts": "observe", "ask": "observe", "prepare": "observe"}
ATTACK = "attack "
# Stages that must not use a benchmark, not even for an estimate.
WITHOUT_BENCHMARK = {"reveal"}


@dataclass(frozen=True)
class PlanNeeds:
    """Bytes by stage of what is still to be made; empty if no stage runs a model.

    ``memory``: at the peak; ``disk``: of the final files; ``unknown``: why there is no estimate. ``seconds``: of every attack,
    by stage; ``measured``: whether they come from attacks that were made here.
    """

    memory: dict[str, int]
    disk: dict[str, int]
    unknown: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    measured: bool = False

    def of(self, row: PlanRow) -> tuple[int | None, int | None]:
        """Memory and disk of a row of the plan; None if it is done or has no estimate."""
        stage = _stage(row)
        if row.state == "done":
            return None, None
        return self.memory.get(stage), self.disk.get(stage)


    def to_json(self, row: PlanRow) -> dict[str, float | None]:
        """Of a row: ``memory`` and ``disk`` in bytes, of an attack also ``seconds``."""
        found: dict[str, float | None] = dict(zip(("memory", "disk"), self.of(row), strict=True))
        return {**found, "seconds": self.seconds[row.stage]} if row.stage in self.seconds else found


def plan_needs(study: Study, plan: Sequence[PlanRow]) -> PlanNeeds:
    """The estimate for the artefacts that the plan still has to make."""
    experiment = study.experiment
    wanted = {_stage(row) for row in plan if row.state != "done"}
    if wanted <= WITHOUT_BENCHMARK and plan[-1].stage in WITHOUT_BENCHMARK:
        return PlanNeeds({}, {}, "no benchmark is read, from whose questions memory is estimated")
    try:
        shape, source = shape_of(experiment)
        if shape is None:
            return PlanNeeds({}, {}, source)
        cap = experiment.protocol.rows_for(experiment.benchmark.name)
        rows = rows_of(study.benchmark, experiment.eval.splits, cap, study.steps)
    except UserError as error:
        return PlanNeeds({}, {}, error.message)
    accelerator = likely_accelerator(experiment.run.device)
    memory = stage_peaks(memory_needs(study, shape, rows, accelerator, finetune="finetune" in wanted))
    disk: dict[str, int] = {}
    for need in disk_needs(experiment, shape, rows, download=False, finetune="finetune" in wanted):
        disk[need.stage] = disk.get(need.stage, 0) + need.bytes
    attacks = [row.stage for row in plan if row.state != "done" and row.stage.startswith(ATTACK)]
    found = PlanNeeds(_only(memory, wanted), _only(disk, wanted))
    return _with_attacks(found, study, shape, rows, accelerator, attacks) if attacks else found


def main_memory(study: Study, plan: Sequence[PlanRow], accelerator: bool) -> int:
    """Bytes of main memory at the plan's peak, 0 if unknown; with an accelerator, what loading the model takes there."""
    experiment = study.experiment
    if accelerator:
        try:
            shape, _ = shape_of(experiment)
        except UserError:
            shape = None
        return 0 if shape is None else shape.parameters * shape.stored + PROCESS_BYTES
    on_cpu = replace(experiment, run=replace(experiment.run, device="cpu"))
    return max(plan_needs(study.changed(on_cpu), plan).memory.values(), default=0)


def _with_attacks(
    found: PlanNeeds, study: Study, shape: Shape, rows: Rows, accelerator: bool, stages: Sequence[str]
) -> PlanNeeds:
    """The estimate with that of attacks, which are ``attack NAME MODEL``."""
    from unierase_cli.estimate.audit import answers_of, attack_memory, speed_of

    experiment, benchmark = study.experiment, study.benchmark
    names = {stage: stage.split()[1] for stage in stages}
    asking = [need for need in memory_needs(study, shape, rows, accelerator) if need.stage in (ALL, "observe")]
    speed = speed_of(experiment, benchmark, shape, rows, accelerator)
    memory = {name: attack_memory(experiment, shape, rows, accelerator, asking, name) for name in set(names.values())}
    answers = {name: answers_of(name, experiment, benchmark, shape.blocks) for name in set(names.values())}
    return replace(
        found,
        memory={**found.memory, **{stage: memory[name] for stage, name in names.items()}},
        seconds={stage: speed.seconds(name, answers[name]) for stage, name in names.items()},
        measured=speed.measured,
    )


def _only(found: dict[str, int], wanted: set[str]) -> dict[str, int]:
    return {stage: size for stage, size in found.items() if stage in wanted}


def _stage(row: PlanRow) -> str:
    if row.stage.startswith(ATTACK):
        return row.stage
    name = row.stage.split()[0]
    return ALIKE.get(name, name)
