"""Memory of training all of a model or adapters on it: weights in all their copies, and one pass forth and back."""

from __future__ import annotations

from dataclasses import replace

from unierase_cli.config.sections.unlearn import reference_from
from unierase_cli.estimate.need import Need, Rows
from unierase_cli.estimate.shapes import Shape
from unierase_cli.estimate.workspace import Workspace
from unierase_cli.methods.traits import looks
from unierase_cli.pipeline.study import Study
from unierase_cli.training.processor import cpu_has_bfloat16

# Bytes of the two averages of AdamW's 8-bit form.
ADAM_8BIT = 2
# Float32 tensors of logits per labelled token: the logits and their log-softmax of every kind of row, and the gradients of one.
LOGITS = 3
# How kinds of rows begin whose question is that of a retain partner.
RETAIN = "retain"


def training_needs(
    study: Study, space: Workspace, rows: Rows, accelerator: bool, finetune: bool
) -> list[Need]:
    """Of the stages ``finetune``, if it is among those that are made, and ``erase`` where it trains."""
    experiment = study.experiment
    found: list[Need] = []
    if finetune:
        # Made in float32 from random weights, trained without a copy of what it was.
        found += _weights("finetune", space, _computes(experiment.train.compute, accelerator), masters=True, base=0)
        batch = experiment.train.batch_size
        space_then = replace(space, size=_computes(experiment.train.compute, accelerator))
        found += _pass(
            "finetune",
            space_then,
            batch,
            rows.question + rows.learned,
            batch * rows.learned,
            written_out=not accelerator,
        )
    if experiment.method.trains:
        found += _method(study, space, rows, accelerator)
    return found


def _method(study: Study, space: Workspace, rows: Rows, accelerator: bool) -> list[Need]:
    experiment = study.experiment
    config, adapter, shape = experiment.unlearn, experiment.adapter, space.shape
    size = space.size
    if adapter.name == "lora":
        trained = adapter.r * shape.adapter_width
        needs = [Need("erase", "adapters, gradients, Adam", trained * 16, f"rank {adapter.r}, 16 B per weight")]
    else:
        size = _computes(config.compute, accelerator)
        base = 0 if accelerator else space.size
        eighth = config.optimizer == "paged_adamw_8bit"
        needs = _weights("erase", space, size, masters=config.masters, base=base, narrow=eighth)
    terms = looks(experiment)
    kinds = len({kind for term in terms.values() for kind in term.rows})
    each = min(config.micro_batch or config.batch_size, max(rows.request or rows.forget, 1))
    learned = min(config.max_length or rows.learned, rows.learned)
    length = min(config.max_length or 1 << 30, rows.question + rows.learned)
    length = config.max_length if config.layout == "closer_look" else length
    # Kinds of rows whose every position goes through the head.
    labelled_whole = {"forget"} if config.forget_labels == "all" else set()
    everywhere = len({role for role, term in terms.items() if term.everywhere} | labelled_whole)
    batch, labelled = kinds * each, each * (everywhere * length + (kinds - everywhere) * learned)
    then = replace(space, size=size)
    if config.gradient_checkpointing:
        # Only the blocks' inputs are kept; one block at a time is run again.
        kept = then.copies(shape.blocks, batch * length * shape.hidden, size)
        kept += then.kept(batch * length, trained=True, blocks=1)
        needs.append(Need("erase", "kept for the way back", kept, f"{batch} rows of {length} tokens", "pass"))
        needs.append(Need("erase", "logits", then.logits(labelled, LOGITS), phase="pass"))
    else:
        needs += _pass("erase", then, batch, length, labelled, written_out=not accelerator)
    place = _reference(study, rows)
    if place == "second_model":
        needs.append(Need("erase", "second model", shape.parameters * space.size, "the reference"))
    elif place == "stored" and not accelerator:
        # Where there is an accelerator it is kept beside it all the same, in the machine's memory. More than the limit is refused.
        stored = min(stored_reference(study, shape, rows), int(config.reference_gib * 2**30))
        needs.append(Need("erase", "reference, stored", stored))
    return needs


def stored_reference(study: Study, shape: Shape, rows: Rows) -> int:
    """Bytes that are kept at a step of the model before unlearning, for losses that compare whole predictions or hidden states."""
    if _reference(study, rows) != "stored":
        return 0
    experiment = study.experiment
    config = experiment.unlearn
    forget, protect = max(rows.request or rows.forget, 1), max(rows.protect, 1)
    seen = min(config.epochs * forget, (config.max_steps or 1 << 40) * config.batch_size)
    if config.pairing == "closer_look":
        partners: float = min(forget, protect)
    else:
        # New ones are drawn each epoch, some of them again.
        partners = protect * (1 - (1 - min(forget, protect) / protect) ** config.epochs)
    learned = min(config.max_length or rows.usual_learned, rows.usual_learned)
    kept = {"logits": 0.0, "blocks": 0.0}
    for kind, what in {pair for term in looks(experiment).values() for pair in term.reference.items()}:
        if what in kept:
            kept[what] += min(partners if kind.startswith(RETAIN) else forget, seen)
    hidden = kept["blocks"] * (rows.usual_question + learned)
    return int(4 * (kept["logits"] * learned * shape.vocabulary + hidden * shape.hidden))


def _reference(study: Study, rows: Rows) -> str:
    """Where the losses find the model before unlearning."""
    experiment = study.experiment
    original = experiment.mode.reference == "original" and study.stepwise and rows.steps > 1
    return reference_from(experiment.unlearn, experiment.adapter, original=original)


def _weights(stage: str, space: Workspace, size: int, *, masters: bool, base: int, narrow: bool = False) -> list[Need]:
    """What a trained weight takes beside the loaded one: at the update, and while gradients are made.

    It computes in ``size`` bytes; where that is not float32 a master in float32 is updated, unless ``masters`` is off. ``base``
    bytes keep what it was. Gradients come in the computing type and are widened for the update. Adam's averages are of the type
    that is updated, ``narrow`` ones of 8 bits.
    """
    own = size == 4 or not masters
    master, widened = (0, size) if own else (4, 4)
    adam = ADAM_8BIT if narrow else 2 * widened
    at_update = size + master + widened + adam + base - space.size
    in_pass = size + master + size + adam + base - space.size
    count = space.shape.parameters
    what = "masters, gradients, Adam" + (", the original" if base else "")
    return [
        Need(stage, what, count * at_update, f"{at_update} B per weight beside the loaded ones", "update"),
        Need(stage, what, count * in_pass, f"{in_pass} B per weight beside the loaded ones", "pass"),
    ]


def _pass(stage: str, space: Workspace, rows: int, length: int, labelled: int, *, written_out: bool) -> list[Need]:
    """A pass over rows of ``length`` tokens whose answers' tokens are labelled, with trained weights."""
    kept = space.kept(rows * length, trained=True)
    if written_out and space.size == 2:
        # On a CPU attention is written out where it computes in bfloat16.
        kept += space.attention_weights(rows, length)
    return [
        Need(stage, "kept for the way back", kept, f"{rows} rows of {length} tokens", "pass"),
        Need(stage, "logits and gradients", space.logits(labelled, LOGITS), f"{LOGITS} x {labelled} positions", "pass"),
    ]


def _computes(wanted: str, accelerator: bool) -> int:
    """Bytes of a weight as it computes: ``auto`` takes bfloat16 where the processor has it, as all recent GPUs do."""
    if wanted == "auto":
        return 2 if accelerator or cpu_has_bfloat16() else 4
    return 2 if wanted == "bfloat16" else 4
