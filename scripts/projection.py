"""Projects how long UniErase takes on a device, from multiplications and bytes alone; nothing is loaded or measured.

    python -m scripts.projection --peak 989 --bandwidth 3.35 experiment=tofu_llama_3_1_8b benchmark.data_dir=TOFU
    python -m scripts.projection --cpu --outputs OUTPUTS experiment=tofu_mini model.path=MODEL benchmark.data_dir=TOFU

``--peak`` (dense bfloat16, TFLOP/s) and ``--bandwidth`` (TB/s) describe the device; ``--share`` of the peak is what matrix
products are assumed to reach, ``--wide`` (TFLOP/s) the rate of solves and eigendecompositions in float32 and float64.
``--cpu`` takes this machine's rate of float32 products instead, measured now, without shares. ``--outputs``: a folder with such a
run, whose recorded seconds (with ``--cpu`` CPU seconds) are set against the projection.

A phase takes the longer of its multiplications at that rate and its bytes at the bandwidth. Counted: every weight times every token
that the code passes through it (a backward pass through frozen weights counts as one forward pass), with the benchmark's mean
lengths of texts. Not counted: attention's own products, sampling of prefixes, scoring of refusals, further turns of a refinement,
steps that end early, loading, Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from unierase_cli.config.compose import compose
from unierase_cli.config.sections.edit import ANSWERS
from unierase_cli.config.sections.token import TokenStage
from unierase_cli.estimate.memory_and_disk import edited_layers
from unierase_cli.estimate.need import Rows, rows_of
from unierase_cli.estimate.shapes import Shape, shape_of
from unierase_cli.estimate.token import REFUSAL_LENGTH
from unierase_cli.pipeline.study import Study, study_of
from unierase_cli.sizes import GPU_ROWS
from unierase_cli.store.artefacts import Store

# Given answers that are scored for a fact: true, paraphrased, five wrong.
SCORED = 7
# Multiplications and additions of an eigendecomposition, per cube of the matrix's side.
EIGEN = 9
# Phase of the projection -> stage and phase of a manifest.
RECORDED = {
    "moments": ("moments", "moments"),
    "eigendecomposition": ("moments", "eigendecomposition"),
    "token training": ("train_token", "train token"),
    "search, keys and solve": ("erase", "edit"),
    "token refinement": ("erase", "refine token"),
}


class Work(NamedTuple):
    """Multiplications and additions of a phase, at the rate of products (``fast``) or of solves (``wide``), and bytes read."""

    phase: str
    fast: float
    wide: float = 0.0
    read: float = 0.0


def works(study: Study, shape: Shape, rows: Rows) -> list[Work]:
    """The phases of an erasure and of the evaluation of its forget set."""
    edit, token, layers = study.experiment.edit, study.experiment.token, edited_layers(study.experiment, shape)
    head, d = 2.0 * shape.vocabulary * shape.hidden, shape.inner
    ends = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    block = 2 * (shape.parameters - ends) / shape.blocks
    model, last, facts = shape.blocks * block, layers[-1] + 1, rows.forget
    question, answer, matrix = rows.usual_question, rows.usual_learned, shape.hidden * d
    protected = min(rows.protect, edit.moments.samples or rows.protect)
    texts = protected * (question + answer)
    asked = rows.protect * question if edit.moments.corpus != ANSWERS and edit.moments.prompt_end_weight else 0
    said = protected * answer if edit.moments.corpus == ANSWERS else 0
    # An answer's tokens are generated one after another, each with all weights, for a batch of rows at once.
    batches = ceil(facts / GPU_ROWS) * answer, ceil(said / GPU_ROWS)
    stages = [*token.stages]
    refined = TokenStage(epochs=token.refine_epochs, least_steps=token.refine_least_steps, noise=token.refine_noise)

    def trained(name: str, parts: Sequence[TokenStage]) -> Work:
        """Rows of the token: whole texts under noise, refusals alone after cached questions otherwise."""
        fast = read = 0.0
        for stage in parts:
            examples = facts * len(stage.formats)
            steps = stage.steps(ceil(examples / token.batch_size))
            length = REFUSAL_LENGTH + 2 + (question if stage.noise else 0)
            fast += 2 * steps * min(token.batch_size, examples) * (length * model + REFUSAL_LENGTH * head)
            fast += 0 if stage.noise else examples * question * model
            # Weights of every step, forwards and backwards, and the noisy matrices written and read in float32.
            read += steps * (2 * shape.parameters * shape.stored + (16 * len(layers) * matrix if stage.noise else 0))
        return Work(name, fast, read=read)

    moments = texts * (last * block + len(layers) * 2.0 * d * d) + asked * last * block
    prompts = 1 + (len(edit.templates.fixed) or len(edit.templates.starts))
    every = facts * (prompts + 1)
    whole = every * question + facts * (prompts - 1) * edit.templates.length
    at_subject = (edit.key_position or study.experiment.model.key_position) == "subject_last"
    after, looks = every * (question // 2 if at_subject else 1), edit.values.steps
    search = (whole - after) * model + after * last * block
    search += (2 * looks - 1) * (after * (shape.blocks - last) * block + every * head)
    solve = len(layers) * (4.0 * d * d * facts + 2.0 * d * facts**2 + facts**3)
    generated = facts * ((question + answer) * model + answer * head)
    scored = SCORED * facts * answer * (model + head)
    weights = shape.parameters * shape.stored
    return [
        Work("answers to keep, generated", said * (model + head), read=batches[1] * weights),
        Work("moments", moments),
        Work("eigendecomposition", 0.0, wide=EIGEN * float(d) ** 3 * len(layers)),
        trained("token training", stages),
        Work("search, keys and solve", search + whole * last * block, wide=solve),
        trained("token refinement", [refined]),
        Work("forget set, answers generated", generated, read=batches[0] * weights),
        Work("forget set, answers scored", scored),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", type=float, default=989.0)
    parser.add_argument("--bandwidth", type=float, default=3.35)
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--wide", type=float, default=5.0)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--outputs", type=Path)
    wanted, words = parser.parse_known_args()
    experiment = compose(words, None)
    study, (shape, source) = study_of(experiment), shape_of(experiment)
    if shape is None:
        parser.error(source)
    rate, wide, bandwidth = wanted.peak * wanted.share * 1e12, wanted.wide * 1e12, wanted.bandwidth * 1e12
    if wanted.cpu:
        import torch

        from scripts.timing import matmul_rate

        torch.set_num_threads(1)
        rate = wide = matmul_rate()
        bandwidth = float("inf")
        print(f"matrix product: {rate / 1e9:.0f} GFLOP/s")
    rows = rows_of(study.benchmark, experiment.eval.splits, 0, study.steps)
    phases = {} if wanted.outputs is None else {a.stage: a.manifest.get("phases", {}) for a in Store(wanted.outputs).list()}
    print(f"{rows.forget} facts; {source}")
    total = 0.0
    for work in works(study, shape, rows):
        seconds = max(work.fast / rate + work.wide / wide, work.read / bandwidth)
        total += seconds
        stage, phase = RECORDED.get(work.phase, ("", ""))
        measured = phases.get(stage, {}).get(phase, {}).get("cpu_seconds" if wanted.cpu else "seconds")
        told = "" if measured is None else f"{measured:9.1f} measured, {measured / seconds:5.1f} times as long"
        print(f"{work.phase:30}{(work.fast + work.wide) / 1e12:12.2f} TFLOP{work.read / 1e9:12.1f} GB{seconds:10.2f} s{told}")
    print(f"{'all':30}{total:43.2f} s")


if __name__ == "__main__":
    main()
