"""Memory of training a whole model or adapters: weights with all their copies, and one forward and backward pass."""

from __future__ import annotations

from dataclasses import replace

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.unlearn import original_reference, reference_from
from unierase_cli.estimate.need import Need, Rows
from unierase_cli.estimate.shapes import BYTES, Shape
from unierase_cli.estimate.workspace import Workspace
from unierase_cli.methods.parts import parts_of
from unierase_cli.methods.traits import looks
from unierase_cli.pipeline.study import Study
from unierase_cli.training.processor import cpu_has_bfloat16

# Bytes per weight of AdamW's two 8-bit averages.
ADAM_8BIT = 2
# Float32 logit tensors per labelled token: logits and log-softmax for all kinds of rows, and gradients for one kind.
LOGITS = 3
# Prefix of the kinds of rows whose questions are those of retain partners.
RETAIN = "retain"


def training_needs(
    study: Study, space: Workspace, rows: Rows, accelerator: bool, finetune: bool
) -> list[Need]:
    """Needs of the stages ``finetune``, if it is made, and ``erase``, if the method trains."""
    experiment = study.experiment
    found: list[Need] = []
    if finetune:
        # Initialised in float32 and trained, without a copy of the original weights.
        found += trained_weights("finetune", space, computing_bytes(experiment.train.compute, accelerator), masters=True, base=0)
        batch = experiment.train.batch_size
        space_then = replace(space, size=computing_bytes(experiment.train.compute, accelerator))
        found += training_pass(
            "finetune",
            space_then,
            batch,
            rows.question + rows.learned,
            batch * rows.learned,
            written_out=not accelerator,
        )
    for part in parts_of(experiment).values():
        if part.method.trains:
            found += _method(study.changed(part), space, rows, accelerator)
    return found


def _method(study: Study, space: Workspace, rows: Rows, accelerator: bool) -> list[Need]:
    experiment = study.experiment
    config, adapter, shape = experiment.unlearn, experiment.adapter, space.shape
    size = space.size
    if adapter.name == "lora":
        trained = adapter.r * shape.adapter_width
        needs = [Need("erase", "adapters, gradients, Adam", trained * 16, f"rank {adapter.r}, 16 B per weight")]
    else:
        size = computing_bytes(config.compute, accelerator)
        base = 0 if accelerator else space.size
        eighth = config.optimizer == "paged_adamw_8bit"
        needs = trained_weights("erase", space, size, masters=config.masters, base=base, narrow=eighth)
    if rank := config.adversary_rank:
        needs.append(Need("erase", "adversarial adapters", rank * shape.adapter_width * 4, f"rank {rank}, 4 B per weight"))
    terms = looks(experiment)
    kinds = len({kind for term in terms.values() for kind in term.rows})
    each = min(config.batch_size, max(rows.request or rows.forget, 1))
    each += config.rehearsed(each, _earlier(study, rows))
    each = min(config.micro_batch or each, each)
    learned = min(config.max_length or rows.learned, rows.learned)
    length = min(config.max_length or 1 << 30, rows.question + rows.learned)
    length = config.max_length if config.layout == "closer_look" else length
    # Kinds of rows that compute logits at every position.
    labelled_whole = {"forget"} if config.forget_labels == "all" else set()
    everywhere = len({role for role, term in terms.items() if term.everywhere} | labelled_whole)
    batch, labelled = kinds * each, each * (everywhere * length + (kinds - everywhere) * learned)
    then = replace(space, size=size)
    if config.gradient_checkpointing:
        # Only the inputs of the blocks are kept; one block at a time is recomputed.
        kept = then.copies(shape.blocks, batch * length * shape.hidden, size)
        kept += then.kept(batch * length, trained=True, blocks=1)
        needs.append(Need("erase", "activations for the backward pass", kept, f"{batch} rows of {length} tokens", "pass"))
        needs.append(Need("erase", "logits", then.logits(labelled, LOGITS), phase="pass"))
    else:
        needs += training_pass("erase", then, batch, length, labelled, written_out=not accelerator)
    place = _reference(study, rows)
    if place == "second_model":
        needs.append(Need("erase", "second model", shape.parameters * space.size, "the reference"))
    elif place == "stored" and not accelerator:
        # With an accelerator it is kept in main memory. Sizes above the limit are refused.
        stored = min(stored_reference(study, shape, rows), int(config.reference_gib * 2**30))
        needs.append(Need("erase", "reference, stored", stored))
    return needs


def stored_reference(study: Study, shape: Shape, rows: Rows) -> int:
    """Bytes of the reference outputs stored in a step, for losses that compare whole predictions or hidden states."""
    if _reference(study, rows) != "stored":
        return 0
    experiment = study.experiment
    config = experiment.unlearn
    forget, protect = max(rows.request or rows.forget, 1), max(rows.protect, 1)
    seen = min(config.epochs * forget, (config.max_steps or 1 << 40) * config.batch_size)
    again = round(config.rehearsal * seen) if _earlier(study, rows) else 0
    earlier = min(again, _earlier(study, rows))
    if config.pairing == "closer_look":
        partners: float = min(forget + earlier, protect)
    else:
        # Partners are drawn anew in each epoch, some of them repeatedly.
        each = min(forget * (seen + again) / seen, protect)
        partners = protect * (1 - (1 - each / protect) ** config.epochs)
    learned = min(config.max_length or rows.usual_learned, rows.usual_learned)
    kept = {"logits": 0.0, "blocks": 0.0}
    for kind, what in {pair for term in looks(experiment).values() for pair in term.reference.items()}:
        if what in kept:
            kept[what] += min(partners if kind.startswith(RETAIN) else forget + earlier, seen + again)
    hidden = kept["blocks"] * (rows.usual_question + learned)
    return int(4 * (kept["logits"] * learned * shape.vocabulary + hidden * shape.hidden))


def _earlier(study: Study, rows: Rows) -> int:
    """Facts of all requests before the last one."""
    return max(0, rows.forget - (rows.request or rows.forget)) if study.stepwise and rows.steps > 1 else 0


def _reference(study: Study, rows: Rows) -> str:
    """Where the losses get the reference model."""
    experiment = study.experiment
    original = original_reference(experiment.mode, experiment.unlearn) and study.stepwise and rows.steps > 1
    return reference_from(experiment.unlearn, experiment.adapter, original=original)


def trained_weights(stage: str, space: Workspace, size: int, *, masters: bool, base: int, narrow: bool = False) -> list[Need]:
    """Memory of trained weights in addition to the loaded ones, at the update and during a pass.

    Weights compute in ``size`` bytes. If that is not float32, a float32 master is updated, unless ``masters`` is off.
    ``base``: bytes for a copy of the original weight. Gradients have the computing type and are widened for the update.
    Adam's averages have the type of the updated weights, or 8 bits if ``narrow``.
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


def training_pass(stage: str, space: Workspace, rows: int, length: int, labelled: int, *, written_out: bool) -> list[Need]:
    """A training pass over rows of ``length`` tokens, of which ``labelled`` are answer tokens."""
    kept = space.kept(rows * length, trained=True)
    if written_out and space.size == 2:
        # On a CPU, attention in bfloat16 computes its weights explicitly.
        kept += space.attention_weights(rows, length)
    return [
        Need(stage, "activations for the backward pass", kept, f"{rows} rows of {length} tokens", "pass"),
        Need(stage, "logits and gradients", space.logits(labelled, LOGITS), f"{LOGITS} x {labelled} positions", "pass"),
    ]


def computing_bytes(wanted: str, accelerator: bool) -> int:
    """Bytes per computing weight; ``auto`` is bfloat16 if the processor supports it, as all recent GPUs do."""
    if wanted == "auto":
        return 2 if accelerator or cpu_has_bfloat16() else 4
    return 2 if wanted == "bfloat16" else 4


def trained_files(part: Experiment, shape: Shape, rows: Rows, written: int) -> list[Need]:
    """Files of a method that trains, or of such a part of a chain; ``written``: checkpoints that exist at a time."""
    if part.method.editing:
        return []
    if part.adapter.name == "lora":
        rank = part.adapter.r
        return [Need("erase", "adapters", rows.steps * rank * shape.adapter_width * 4, f"{rows.steps} x rank {rank}")]
    if not part.method.trains:
        return []
    size = BYTES.get(part.model.dtype, shape.stored)
    needs = [Need("erase", "changed weights", rows.steps * shape.parameters * size, f"{rows.steps} x all weights")]
    if part.unlearn.checkpoint_every >= 0:
        needs.append(Need("erase", "checkpoints while training", written * shape.parameters * 12))
    return needs
