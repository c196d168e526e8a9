"""Estimates an experiment's memory and disk, stage by stage, before anything is loaded.

It uses only widths, row counts and the lengths of the benchmark's texts; ``scripts/bench_memory.py`` compares it with
measurements. A stage's peak is what it holds throughout plus its largest phase. Stages run one after another.
"""

from __future__ import annotations

from functools import partial

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import ANSWERS, AUTO, TRACED
from unierase_cli.estimate.need import ALL, LOADING, Need, Rows
from unierase_cli.estimate.shapes import BYTES, Shape
from unierase_cli.estimate.token import token_needs
from unierase_cli.estimate.training import trained_files, training_needs
from unierase_cli.estimate.workspace import Workspace
from unierase_cli.methods.parts import parts_of
from unierase_cli.pipeline.study import Study
from unierase_cli.sizes import (
    CACHE_ROOM,
    CHECKPOINTS,
    CPU_ROWS,
    CPU_SCORED_ROWS,
    GPU_ROWS,
    LOGIT_BYTES,
    MOST_FACTS,
    SCORED_POSITIONS,
    SEARCHED_TOKENS,
    STATE_BYTES,
    WIDENED_ROWS,
    pass_tokens,
)
from unierase_cli.store.gguf_files import gguf_at

# Resident size of Python with torch, transformers and this package imported and used once: 390 to 410 MiB with torch
# 2.13 for CPUs and transformers 5.23 on Linux. On an accelerator, its libraries and context take device memory.
PROCESS_BYTES, CONTEXT_BYTES = 400 << 20, 500 << 20
# Length of the longest questions of a general suite, in tokens.
SUITE_TOKENS = 600
OBSERVATION_BYTES = 6000
# A new checkpoint is written before the oldest one is deleted.
WRITTEN = CHECKPOINTS + 1


def edited_layers(experiment: Experiment, shape: Shape) -> list[int]:
    """``edit.layers``, else ``model.layers``, else the default for the model's depth; as many if they are yet to be traced."""
    named = experiment.edit.layers if experiment.edit.layers is not None else experiment.model.layers
    if named == TRACED:
        return list(range(experiment.trace.window or len(shape.default_layers())))
    return shape.default_layers() if named is None else list(named)


def loaded_bytes(experiment: Experiment, shape: Shape, accelerator: bool) -> int:
    """Bytes per loaded weight: as configured, else float32 on a CPU and the checkpoint's type on an accelerator."""
    return BYTES.get(experiment.model.dtype, shape.stored if accelerator else 4)


def memory_needs(
    study: Study, shape: Shape, rows: Rows, accelerator: bool, *, finetune: bool = False
) -> list[Need]:
    """Device memory by stage (on a CPU, of the whole process); ``finetune``: whether a given model is trained further."""
    experiment = study.experiment
    size = loaded_bytes(experiment, shape, accelerator)
    space = Workspace(shape, size, heap=not accelerator)
    needs = [Need(ALL, "model weights", shape.parameters * size, f"{shape.parameters:,} weights of {size} B")]
    if accelerator:
        needs.append(Need(ALL, "libraries and context", CONTEXT_BYTES))
    else:
        needs.append(Need(ALL, "Python and libraries", PROCESS_BYTES))
        if experiment.model.path is not None and shape.stored != size:
            # Without a conversion the mapped file itself holds the weights.
            needs.append(Need(ALL, "file mapped while it is converted", shape.parameters * shape.stored, phase=LOADING))
        if experiment.model.path is not None and gguf_at(experiment.model.path) is not None:
            needs.append(Need(ALL, "tensors while a GGUF file is dequantised", shape.parameters * 4, phase=LOADING))
    needs += training_needs(study, space, rows, accelerator, finetune or experiment.model.path is None)
    if experiment.method.token and experiment.edit.target == "token":
        needs += token_needs(experiment, space, rows, "train_token", edited_layers(experiment, shape))
    if experiment.method.editing:
        needs += _moments(experiment, space, rows, accelerator) + _editing(study, space, rows, accelerator)
    needs += _evaluation(experiment, space, rows, accelerator)
    return needs


def _moments(experiment: Experiment, space: Workspace, rows: Rows, accelerator: bool) -> list[Need]:
    count, inner = len(edited_layers(experiment, space.shape)), space.shape.inner
    square, moments = inner**2, experiment.edit.moments
    tokens = pass_tokens(not accelerator, moments.batch_tokens)
    if moments.corpus in (ANSWERS, AUTO) and moments.texts is None:
        texts = min(rows.protect, moments.samples or rows.protect)
        answer = rows.answer if moments.corpus == AUTO else moments.answer_tokens
        tokens = min(tokens, texts * (rows.question + answer))
    return [
        Need("moments", "second moments", count * square * 8, f"{count} x {inner}^2 of 8 B"),
        Need("moments", "pass over texts", space.forward(tokens), f"{tokens} tokens", "pass"),
        # A batch's product in float32, and its copy in float64.
        Need("moments", "a batch's product", space.copies(1, square) + space.copies(1, square, 8), phase="pass"),
        # Symmetric input, eigenvectors, and twice as much for LAPACK; eigenvectors of finished layers are float32.
        Need("moments", "eigendecomposition", 4 * square * 8, f"4 x {inner}^2 of 8 B", "eigh"),
    ]


def _editing(study: Study, space: Workspace, rows: Rows, accelerator: bool) -> list[Need]:
    experiment, edit, shape = study.experiment, study.experiment.edit, space.shape
    layers = edited_layers(experiment, shape)
    count, square, matrix = len(layers), shape.inner**2, shape.hidden * shape.inner
    prompts = 1 + (len(edit.templates.fixed) or len(edit.templates.starts))
    facts = edit.values.batch_size or max(1, min(MOST_FACTS, LOGIT_BYTES // ((prompts + 1) * shape.vocabulary * 16)))
    at_subject = (edit.key_position or experiment.model.key_position) == "subject_last"
    # From the end of the subject to the end of the prompt is about half of the prompt; a drift row ends with its
    # subject.
    after = rows.question // 2 if at_subject else 1
    if not accelerator and not edit.values.batch_size:
        facts = max(1, min(facts, SEARCHED_TOKENS // max(1, (prompts + 1) * after)))
    facts, forget = min(facts, max(rows.forget, 1)), max(rows.forget, 1)
    searched = facts * (prompts + 1)
    suffix = facts * (prompts * after + 1)
    above = shape.blocks - 1 - (layers[-1] if layers else 0)
    several = edit.one_by_one or study.stepwise or study.independent
    solve = 4 if edit.solve_dtype == "float32" else 8
    looked = min(pass_tokens(not accelerator), forget * rows.question)
    states = min(STATE_BYTES, forget * prompts * rows.question * shape.hidden * space.size)
    base = 0 if accelerator else space.size
    need = partial(Need, "erase")
    matrices = f"{count} x {shape.hidden} x {shape.inner}, and their base"
    solved = forget * (6 * shape.inner + 4 * shape.hidden + 3 * forget) * solve
    needs = [
        need("edited matrices", count * matrix * (4 + base), matrices),
        need("passes over prefixes", space.forward(searched * rows.question), f"{searched} rows", "prefixes"),
        need("KV cache, all blocks", space.cache(searched, rows.question), "", "prefixes"),
        need("KV cache, upper blocks", space.cache(searched, rows.question, above), "", "search"),
        need("activations for the backward pass", space.kept(suffix, trained=False, blocks=above), f"{suffix} tokens", "search"),
        # Logits, log-softmax, three each for the drift rows and the runner-ups, and two in the backward pass.
        need("logits and gradients", space.logits(searched, 7), f"7 x {searched} rows", "search"),
        need("pass that looks at keys", space.forward(looked), f"{looked} tokens", "keys"),
        *(need("states below the edited block", states, f"{forget * prompts} rows", at) for at in ("keys", "solve", "write")),
        need("protected directions", square * 4 * (count if several else 1), "", "" if several else "solve"),
        need("directions as solved in", min(WIDENED_ROWS, shape.inner) * shape.inner * solve, "", "solve"),
        need("keys, residuals, factors", solved, f"{forget} facts", "solve"),
        need("a matrix and its change", space.copies(2, matrix), "", "write"),
    ]
    if experiment.method.token and edit.target == "token" and experiment.token.refine_epochs:
        needs += token_needs(experiment, space, rows, "erase", layers)
    return needs


def _evaluation(experiment: Experiment, space: Workspace, rows: Rows, accelerator: bool) -> list[Need]:
    """Generation and scoring; all stages of an evaluation do the same with different questions."""
    config, protocol, shape = experiment.eval, experiment.protocol, space.shape
    wanted = config.batch_size or (GPU_ROWS if accelerator else CPU_ROWS)
    answers = min(CPU_SCORED_ROWS, wanted) if not accelerator else wanted
    general = config.general
    needs = []
    asked = [("observe", min(wanted, max(rows.largest, 1)), rows.question, protocol.max_new_tokens)]
    if general.wanted:
        asked.append(("general", wanted, SUITE_TOKENS, general.max_new_tokens))
    if experiment.method.editing and experiment.edit.moments.corpus == ANSWERS and rows.protect:
        asked.append(("moments", min(wanted, rows.protect), rows.question, experiment.edit.moments.answer_tokens))
    for stage, batch, question, new in asked:
        prefill, length = batch * question, question + new + CACHE_ROOM
        read = batch * length * shape.heads * shape.head_size
        need = partial(Need, stage)
        needs += [
            need("pass over prompts", space.forward(prefill), f"{batch} rows of {question} tokens", "prompts"),
            need("KV cache", space.cache(batch, question + CACHE_ROOM), "", "prompts"),
            need("KV cache, grown", space.cache(batch, length), f"{question + new} tokens a row", "answers"),
            # A block's cache is copied when it grows, and its keys and values are repeated for all heads in attention.
            need("a block's cache while it is read", space.copies(2, read, space.size), "", "answers"),
            need("logits", space.logits(batch, 3), f"3 x {batch} rows", "answers"),
        ]
    batch, tokens = asked[0][1], answers * (rows.answer + 1)
    piece = min(SCORED_POSITIONS, tokens)
    need = partial(Need, "observe")
    return [
        *needs,
        need("KV cache of the prompts", space.cache(batch, rows.question), f"{batch} rows", "scores"),
        need(
            "KV cache of the answers", space.cache(answers, rows.question + rows.answer), f"{answers} answers", "scores"
        ),
        need("pass over answers", space.forward(tokens), f"{tokens} tokens", "scores"),
        # Logits, log-probabilities, their exponentials and their products.
        need("statistics of a piece", space.logits(piece, 4), f"4 x {piece} positions", "scores"),
    ]


def disk_needs(
    experiment: Experiment, shape: Shape, rows: Rows, download: bool, *, finetune: bool = False
) -> list[Need]:
    """Bytes of the artefacts below ``run.outputs``, and of the download in the hub's cache."""
    layers = edited_layers(experiment, shape)
    needs = []
    if download:
        needs.append(Need("download", "model from the hub", shape.parameters * shape.stored))
    if finetune or experiment.model.path is None:
        needs.append(Need("finetune", "model", shape.parameters * 4))
        needs.append(Need("finetune", "checkpoints while training", WRITTEN * shape.parameters * 12))
    if experiment.method.editing:
        per_fact = shape.inner + shape.hidden
        needs.append(Need("moments", "moments.safetensors", len(layers) * shape.inner**2 * 4))
        needs.append(Need("erase", "patch", len(layers) * rows.forget * per_fact * 4, f"{rows.forget} facts"))
        solve = 4 if experiment.edit.solve_dtype == "float32" else 8
        needs.append(Need("erase", "state", len(layers) * rows.forget * shape.inner * solve, f"{rows.forget} facts"))
    for part in parts_of(experiment).values():
        needs += trained_files(part, shape, rows, WRITTEN)
    observed = rows.scored * 2 + rows.forget * len(experiment.eval.forget_variants) * 2
    needs.append(Need("observe", "observations", observed * OBSERVATION_BYTES, f"{observed} rows"))
    return needs
