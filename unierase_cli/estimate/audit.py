"""Memory and time of an audit's attacks, before anything is loaded.

Time counts answers: every question that an attack asks is one, and so is every example that it trains on (a forward and a backward
pass over the tokens of an answer take about as long as generating it). Seconds per answer are those of attacks on the same model
and benchmark that were made here, over the answers counted for them in the same way; without any they follow from the model's size
and are right within a factor of several.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from unierase_cli.audit.base import ATTACKS, CEILING, CONTROL, asks, attack_settings, load_attack
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Benchmark, UserError
from unierase_cli.estimate.memory_and_disk import loaded_bytes
from unierase_cli.estimate.need import Need, Rows, stage_peaks
from unierase_cli.estimate.shapes import Shape
from unierase_cli.estimate.training import computing_bytes, trained_weights, training_pass
from unierase_cli.estimate.workspace import Workspace
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

ATTACK = "attack"
# Operations per second and thread of a processor, and of an accelerator, while small batches of answers are generated.
CPU_SPEED, GPU_SPEED = 5e9, 1e13
# Rank of the adapters that relearning trains, bytes per weight of adapters with gradients and AdamW, and facts of a batch.
RANK, ADAPTER_BYTES, BATCH = 16, 16, 8
# Facts that a relearning attack trained on and asks again.
ASKED_AGAIN = 24
# Forward passes over a row's tokens that take as long as generating an answer.
PASSES = 4


@dataclass(frozen=True)
class Speed:
    """Seconds per answer on this model: by attack where it was made here, else the average of those that were, else a guess."""

    of_attack: Mapping[str, float]
    usual: float

    @property
    def measured(self) -> bool:
        """Whether any attack was made here."""
        return bool(self.of_attack)

    def seconds(self, attack: str, answers: int) -> float:
        """Of so many answers under an attack."""
        return answers * self.of_attack.get(attack, self.usual)


def answers_of(
    name: str, experiment: Experiment, benchmark: Benchmark, blocks: int, made: Collection[str] | None = None
) -> int:
    """Answers that an attack takes on one model, over all its cases (``made``: over these), those that it trains on included.

    Roughly.
    """
    settings = attack_settings(name, experiment.audit.settings.get(name, {}))
    facts = len(benchmark.splits.get("forget", benchmark.forget))
    facts = min(facts, experiment.audit.facts or facts, settings.get("facts") or facts)
    kind = ATTACKS.says(name, "CLASS", "prompts")
    kept = min(experiment.audit.kept, len(benchmark.protect)) if kind in ("weights", "relearning") else 0

    def answers(values: Mapping[str, Any]) -> int:
        if kind == "inside":
            # Each block of a row is a pass of its own.
            return ceil(facts * (2 * blocks + 3) / PASSES)
        if kind == "relearning":
            return _relearned(settings, values, facts, kept)
        if kind == "embeddings":
            return _embedded(settings, values, facts)
        return (facts + kept) * int(settings.get("samples", 1) * settings.get("seeds", 1))

    cases = load_attack(name).cases(settings)
    return sum(answers(case.values) for case in cases if made is None or case.name in made)


def _relearned(settings: Mapping[str, Any], values: Mapping[str, Any], facts: int, kept: int) -> int:
    """A case that trains the model: so many steps of a batch, or so many examples once (all facts if none are named), or all folds
    but one for some epochs.
    """
    if "folds" in settings:
        parts = min(settings["folds"], facts)
        tested, fold, epochs = min(settings["tested"] or parts, parts), facts / parts, _listed(settings["epochs"])
        return ceil(tested * (max(epochs) * (facts - fold) + len(epochs) * fold + kept + ASKED_AGAIN))
    steps = _listed(settings.get("steps"))
    learned = max(steps) * settings.get("batch", BATCH) if steps else values.get("count", facts)
    return facts * (len(steps) or 1) + kept + ASKED_AGAIN + int(learned)


def _embedded(settings: Mapping[str, Any], values: Mapping[str, Any], facts: int) -> int:
    """A case that trains embeddings: of each fact's own (``texts`` of each), or one set for all with a batch of facts a step."""
    steps, own = max(_listed(settings.get("steps")), default=0), values.get("own", False)
    trained = facts * values.get("texts", 1) if own else min(settings.get("batch", BATCH), facts)
    return steps * trained + facts * (ceil(steps / settings["every"]) if "every" in settings else 1)


def speed_of(experiment: Experiment, benchmark: Benchmark, shape: Shape, rows: Rows, accelerator: bool) -> Speed:
    """From the newest attacks on models of this name and folder, on this device.

    Attacks of another kind than those that ask (inside the model, or on its matrices) say nothing about the others.
    """
    found: dict[str, float] = {}
    for artefact in Store(experiment.run.outputs).list(ATTACK):
        told = _told(artefact, experiment, benchmark, shape.blocks)
        if told is not None:
            found[artefact.manifest["options"][ATTACK]] = told
    usual = [told for name, told in found.items() if ATTACKS.says(name, "CLASS") != "inside" and asks(name)]
    if usual:
        return Speed(found, sum(usual) / len(usual))
    rate = GPU_SPEED if accelerator else CPU_SPEED * (experiment.run.threads or os.cpu_count() or 1)
    tokens = rows.usual_question + min(rows.usual_learned, experiment.protocol.max_new_tokens or rows.usual_learned)
    return Speed(found, 2 * shape.parameters * tokens / rate)


def attack_memory(
    experiment: Experiment, shape: Shape, rows: Rows, accelerator: bool, asking: Sequence[Need], name: str
) -> int:
    """Bytes at an attack's peak. ``asking``: needs of the stage that asks the same questions plainly (``observe``)."""
    size = loaded_bytes(experiment, shape, accelerator)
    space, kind = Workspace(shape, size, heap=not accelerator), ATTACKS.says(name, "CLASS", "prompts")
    others = sum(need in ATTACKS.says(name, "NEEDS", ()) for need in (CONTROL, CEILING))
    needs = [Need("attack", need.what, need.bytes, need.how, need.phase) for need in asking]
    needs.append(Need("attack", "control and unedited model", others * shape.parameters * size))
    if kind == "weights":
        # On an accelerator it is kept in main memory.
        needs.append(Need("attack", "weights as they were", 0 if accelerator else shape.parameters * size))
        needs.append(Need("attack", "a matrix that is changed", 3 * space.copies(1, shape.hidden * shape.inner)))
    if kind in ("relearning", "embeddings"):
        computing = computing_bytes("auto", accelerator)
        then = Workspace(shape, computing, heap=not accelerator)
        settings = attack_settings(name, experiment.audit.settings.get(name, {}))
        batch = settings.get("batch", BATCH)
        if kind == "relearning" and settings.get("lr"):
            # They stay while the model is asked as it learns.
            held = trained_weights("attack", space, computing, masters=True, base=0 if accelerator else size)
            needs += [replace(need, phase="") for need in held if need.phase == "pass"]
        else:
            needs.append(Need("attack", "adapters, gradients, Adam", RANK * shape.adapter_width * ADAPTER_BYTES))
        length = rows.question + rows.learned
        needs += training_pass("attack", then, batch, length, batch * rows.learned, written_out=not accelerator)
    return stage_peaks(needs)["attack"]


def _told(artefact: Artefact, experiment: Experiment, benchmark: Benchmark, blocks: int) -> float | None:
    """Seconds per answer that a finished attack took, None if it says nothing about this experiment's model and benchmark."""
    try:
        recorded = Experiment.from_json(artefact.manifest["config"])
        model, own = recorded.model, experiment.model
        if (model.name, model.path, recorded.run.device) != (own.name, own.path, experiment.run.device):
            return None
        if recorded.benchmark != experiment.benchmark:
            return None
        rows, seconds = artefact.summary["rows"], artefact.summary["seconds"]
        # A case without rows was left out.
        made = [case for case in seconds if rows[case]]
        answers = answers_of(artefact.manifest["options"][ATTACK], recorded, benchmark, blocks, made)
    except (UserError, KeyError):
        # Of another version, or of an attack that is not installed here.
        return None
    return sum(seconds[case] for case in made) / answers if answers else None


def _listed(value: Any) -> list[int]:
    found = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return [int(each) for each in found]
