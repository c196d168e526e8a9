"""What an experiment will take in memory and on disk, stage by stage, before anything is loaded.

Rough on purpose: it tells whether a run fits and what to make smaller, from shapes and row counts alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from unierase_cli.config.schema import Experiment
from unierase_cli.stages.shapes import BYTES, Shape

# Tokens of a rendered question with its chat header, of an answer, and from the edited key to the prompt's end.
PROMPT_TOKENS, ANSWER_TOKENS, SUFFIX_TOKENS = 70, 60, 16
# Largest batch of facts in the search for z, and bytes of its logits and their gradients (editing/checkpoints.py). Rows
# per batch of answers are those of inference/batching.py.
MOST_FACTS, LOGIT_BYTES = 64, 2 << 30
OBSERVATION_BYTES = 6000


@dataclass(frozen=True)
class Need:
    """``bytes`` that ``stage`` takes for ``what``; ``how`` shows the sum. The model itself has the stage ``all``."""

    stage: str
    what: str
    bytes: int
    how: str = ""


@dataclass(frozen=True)
class Rows:
    """How many facts there are; ``scored`` counts those of every split."""

    forget: int
    protect: int
    scored: int


def edited_layers(experiment: Experiment, shape: Shape) -> list[int]:
    """edit.layers, else model.layers, else the rule for the model's depth."""
    named = experiment.edit.layers if experiment.edit.layers is not None else experiment.model.layers
    return shape.default_layers() if named is None else list(named)


def loaded_bytes(experiment: Experiment, shape: Shape, accelerator: bool) -> int:
    """Bytes per weight once loaded: as configured, else float32 on a CPU and the checkpoint's type on an accelerator."""
    return BYTES.get(experiment.model.dtype, shape.stored if accelerator else 4)


def memory_needs(experiment: Experiment, shape: Shape, rows: Rows, accelerator: bool) -> list[Need]:
    """Memory of the device, by stage. Stages run one after the other: the peak is the largest stage and the model."""
    size = loaded_bytes(experiment, shape, accelerator)
    layers, edit = edited_layers(experiment, shape), experiment.edit
    # Kept for the way back, per token and block: norms, attention, MLP gate, up and product.
    token = (8 * shape.hidden + 4 * shape.inner) * size
    needs = [Need("all", "model weights", shape.parameters * size, f"{shape.parameters:,} weights of {size} B")]
    if experiment.model.path is None:
        tokens = experiment.train.batch_size * (PROMPT_TOKENS + ANSWER_TOKENS)
        needs.append(Need("finetune", "masters, gradients, Adam", shape.parameters * 18, "18 B per weight"))
        work = tokens * (shape.blocks * token + 12 * shape.vocabulary)
        needs.append(Need("finetune", "activations and logits", work, f"{tokens} tokens"))
    if experiment.method.token and edit.target == "token":
        batch, labelled = experiment.token.batch_size, experiment.token.batch_size * 20
        tokens = batch * (PROMPT_TOKENS + 20)
        needs.append(Need("train-token", "activations", tokens * shape.blocks * token, f"{tokens} tokens"))
        needs.append(Need("train-token", "logits at labels", labelled * shape.vocabulary * 12, f"{labelled} positions"))
    if experiment.method.editing:
        needs += _editing(experiment, shape, rows, layers, size, token)
    elif experiment.method.forget.term is not None:
        needs += _training(experiment, shape, token)
    batch = experiment.eval.batch_size or (128 if accelerator else 64)
    length = PROMPT_TOKENS + max(experiment.protocol.max_new_tokens, ANSWER_TOKENS)
    cache = 2 * shape.key_value_heads * shape.head_size * size * shape.blocks
    needs.append(Need("eval", "key-value cache", batch * length * cache, f"{batch} rows of {length} tokens"))
    needs.append(Need("eval", "logits", batch * shape.vocabulary * 12, f"{batch} rows"))
    return needs


def _editing(experiment: Experiment, shape: Shape, rows: Rows, layers: list[int], size: int, token: int) -> list[Need]:
    edit, count, square = experiment.edit, len(layers), shape.inner**2
    prompts = 1 + (len(edit.templates.fixed) or len(edit.templates.starts)) + 1
    facts = edit.values.batch_size or max(1, min(MOST_FACTS, LOGIT_BYTES // (prompts * shape.vocabulary * 16)))
    facts = min(facts, max(rows.forget, 1))
    position = edit.key_position or experiment.model.key_position
    suffix = SUFFIX_TOKENS if position == "subject_last" else 1
    above = shape.blocks - 1 - (layers[-1] if layers else 0)
    prefix = 2 * shape.key_value_heads * shape.head_size * size * above * PROMPT_TOKENS
    kept = count if edit.one_by_one or experiment.mode.name != "batch" else 1
    solve = 4 if edit.solve_dtype == "float32" else 8
    matrices = count * shape.hidden * shape.inner * (8 + size)
    keys = 4 * rows.forget * (shape.inner + shape.hidden + rows.forget) * solve
    return [
        Need("moments", "second moments", count * square * 8, f"{count} x {shape.inner}^2 of 8 B"),
        Need("moments", "eigendecomposition", 3 * square * 8, f"3 x {shape.inner}^2 of 8 B"),
        Need("moments", "activations", edit.moments.batch_tokens * token, f"{edit.moments.batch_tokens} tokens"),
        Need("edit", "protected directions", kept * square * 4, f"{kept} x {shape.inner}^2 of 4 B"),
        Need("edit", "edited matrices", matrices, f"{count} x {shape.hidden} x {shape.inner}"),
        Need("edit", "keys and solve", keys, f"{rows.forget} facts"),
        Need(
            "edit",
            "search for z: activations",
            facts * prompts * (suffix * above * token + prefix),
            f"{facts} facts at a time",
        ),
        Need("edit", "search for z: logits", facts * prompts * shape.vocabulary * 16, f"{facts * prompts} rows"),
    ]


def _training(experiment: Experiment, shape: Shape, token: int) -> list[Need]:
    """A gradient method: what it trains, and one pass of forget and retain rows."""
    config, adapter = experiment.unlearn, experiment.adapter
    needs = []
    if adapter.name == "lora":
        pairs = shape.blocks * (4 * 2 * shape.hidden + 3 * (shape.hidden + shape.inner))
        needs.append(Need("erase", "adapters, gradients, Adam", adapter.r * pairs * 16, f"rank {adapter.r}, 16 B per weight"))
    else:
        each = 18 if config.masters else 8
        needs.append(Need("erase", "masters, gradients, Adam", shape.parameters * each, f"{each} B per weight"))
    terms = {experiment.method.forget.term, experiment.method.retain.term}
    # A preferred and a dispreferred answer, or two kinds of retain rows, are one kind of row more.
    kinds = 2 + bool(terms & {"dpo", "altpo", "ap"})
    rows = kinds * (config.micro_batch or config.batch_size)
    length = config.max_length or PROMPT_TOKENS + ANSWER_TOKENS
    kept = 2 * shape.hidden + token // shape.blocks if config.gradient_checkpointing else token
    needs.append(Need("erase", "activations", rows * length * shape.blocks * kept, f"{rows} rows of {length} tokens"))
    labelled = rows * ANSWER_TOKENS
    needs.append(Need("erase", "logits at labels", labelled * shape.vocabulary * 12, f"{labelled} positions"))
    if config.reference == "second_model" and adapter.name == "none":
        needs.append(Need("erase", "second model", shape.parameters * 4, "the reference"))
    return needs


def disk_needs(experiment: Experiment, shape: Shape, rows: Rows, download: bool) -> list[Need]:
    """Bytes that the artefacts take below run.outputs, and the download in the hub's cache."""
    layers = edited_layers(experiment, shape)
    needs = []
    if download:
        needs.append(Need("download", "model from the hub", shape.parameters * shape.stored))
    if experiment.model.path is None:
        needs.append(Need("finetune", "model", shape.parameters * 4))
        needs.append(Need("finetune", "checkpoint while training", shape.parameters * 12))
    if experiment.method.editing:
        per_fact = shape.inner + shape.hidden
        needs.append(Need("moments", "moments.safetensors", len(layers) * shape.inner**2 * 4))
        needs.append(Need("erase", "patch", len(layers) * rows.forget * per_fact * 4, f"{rows.forget} facts"))
        state = len(layers) * rows.forget * (2 * shape.inner + rows.forget) * 8
        needs.append(Need("erase", "state", state, f"{rows.forget} facts"))
    elif experiment.adapter.name == "lora":
        pairs = shape.blocks * (4 * 2 * shape.hidden + 3 * (shape.hidden + shape.inner))
        needs.append(Need("erase", "adapters", experiment.adapter.r * pairs * 4))
    else:
        size = BYTES.get(experiment.model.dtype, shape.stored)
        needs.append(Need("erase", "changed weights", shape.parameters * size))
        needs.append(Need("erase", "checkpoints while training", 2 * shape.parameters * 12))
    observed = rows.scored * 2 + rows.forget * len(experiment.eval.forget_variants) * 2
    needs.append(Need("observe", "observations", observed * OBSERVATION_BYTES, f"{observed} rows"))
    return needs


def peak(needs: list[Need]) -> tuple[int, str]:
    """Bytes of the largest stage together with the model, and that stage's name."""
    stages: dict[str, int] = {}
    for need in needs:
        stages[need.stage] = stages.get(need.stage, 0) + need.bytes
    model = stages.pop("all", 0)
    worst = max(stages, key=lambda name: stages[name], default="")
    return model + stages.get(worst, 0), worst or "the model"
