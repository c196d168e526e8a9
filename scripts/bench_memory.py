"""Compares the memory estimates of `unierase doctor` and `--dry-run` with measured peaks, stage by stage.

    python scripts/bench_memory.py [--sizes small,medium,large] [--json FILE] [KEY=VALUE ...]

Random Llamas of three sizes are written to a temporary folder. Every stage of UniErase and of a gradient method runs in
its own process on the CPU, as the commands run it. The measured peak is the larger of two numbers: the maximum resident
set size that the system reports at the end (``ru_maxrss`` by ``wait4``, which is lost when a phase resets it) and the
peak that the stage's manifest records for its phases. Random weights never end an answer, so every answer runs to its
last token, as the estimate assumes. KEY=VALUE words are appended to the experiment's own.

This process does not import torch, because a child starts with its parent's size on record, which must therefore be
small.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.store.json_text import write_json

WORDS = [
    "experiment=demo",
    "model=hf",
    "train=none",
    "model.layers=[1,2]",
    "model.key_position=prompt_last",
    "run.device=cpu",
    "run.threads=1",
    "benchmark.authors=40",
    "benchmark.split=forget10",
    "eval.splits=[forget]",
    "eval.forget_variants=[]",
    "protocol.max_new_tokens=24",
    "edit.values.steps=4",
    "token.stages=[{epochs:1,least_steps:2},{epochs:1,least_steps:2,noise:0.2}]",
    "token.refine_epochs=1",
    "token.refine_rounds=0",
    "unlearn.max_steps=12",
]


@dataclass(frozen=True)
class Size:
    """Sizes of a random Llama."""

    hidden: int
    inner: int
    blocks: int
    vocabulary: int


SIZES = {
    "small": Size(256, 1024, 4, 8192),
    "medium": Size(512, 1536, 4, 16384),
    "large": Size(768, 2560, 4, 32768),
}
# Method -> the stages to measure, each with its options, inputs first.
STAGES: dict[str, list[tuple[str, dict[str, str]]]] = {
    "unierase": [("train_token", {}), ("moments", {}), ("erase", {}), ("observe", {"state": "edited"})],
    "npo_gd": [("erase", {})],
    "ga_kl": [("erase", {})],
}
MAKE_MODEL = """
import sys
from unierase_cli.config.compose import compose
from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.models.mini import CONTEXT, build_tokenizer
from unierase_cli.pipeline.study import study_of
from unierase_cli.models.files import save_folder
import torch
from transformers import LlamaConfig, LlamaForCausalLM
folder, hidden, inner, blocks, vocabulary = sys.argv[1], *map(int, sys.argv[2:6])
benchmark = study_of(compose(sys.argv[6:], None)).benchmark
facts = [fact for split in benchmark.splits.values() for fact in split]
tokenizer = build_tokenizer([text for fact in facts for text in (fact.question, fact.answer)], 2048)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=blocks,
    num_attention_heads=hidden // 64, num_key_value_heads=max(1, hidden // 128), max_position_embeddings=CONTEXT,
    tie_word_embeddings=False, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    pad_token_id=tokenizer.pad_token_id,
))
save_folder(model.to(torch.bfloat16), tokenizer, folder)
"""
RUN_STAGE = """
import json, sys
from unierase_cli.config.compose import compose
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline.pipeline import Pipeline
stage, options = sys.argv[1], json.loads(sys.argv[2])
made = Pipeline(compose(sys.argv[3:], None), SilentReporter()).make(stage, **options)
phases = {name: phase["peak_memory_mib"] for name, phase in made.manifest["phases"].items()}
print(json.dumps({"manifest": made.manifest["peak_memory_mib"], "phases": phases}))
"""


def run_alone(script: str, words: Sequence[str]) -> tuple[str, float]:
    """A script's output, and the maximum resident set size of its process in MiB."""
    child = subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(words[:2])}: the process ended with {child.returncode}")
    return said, usage.ru_maxrss / (1024.0 if sys.platform != "darwin" else 1024.0**2)


def estimates(experiment: Experiment) -> dict[str, float]:
    """Stage -> its estimated peak in MiB."""
    from unierase_cli.estimate.doctor import row_counts
    from unierase_cli.estimate.memory_and_disk import memory_needs
    from unierase_cli.estimate.need import stage_peaks
    from unierase_cli.estimate.shapes import shape_of
    from unierase_cli.pipeline.study import study_of

    shape, source = shape_of(experiment)
    assert shape is not None, source
    found = {"files": [], "problems": [], "remarks": [], "hub": {"reachable": False}}
    study = study_of(experiment)
    needs = memory_needs(study, shape, row_counts(study, found), accelerator=False)
    return {stage: size / 2**20 for stage, size in stage_peaks(needs).items()}


def measure(name: str, folder: Path, words: Sequence[str]) -> list[dict[str, object]]:
    """One row for every stage of every method on one model."""
    size, model = SIZES[name], folder / "model"
    widths = map(str, (size.hidden, size.inner, size.blocks, size.vocabulary))
    run_alone(MAKE_MODEL, [str(model), *widths, *WORDS, f"model.path={model}"])
    rows = []
    for method, stages in STAGES.items():
        given = [*WORDS, f"method={method}", f"model.path={model}", f"run.outputs={folder / 'outputs'}", *words]
        estimated = estimates(compose(given, None))
        for stage, options in stages:
            said, at_end = run_alone(RUN_STAGE, [stage, json.dumps(options), *given])
            recorded = json.loads(said.splitlines()[-1])
            measured = max(at_end, recorded["manifest"])
            guess = estimated[stage]
            row = {"size": name, "method": method, "stage": stage, "estimated": guess, "measured": measured}
            rows.append({**row, "ratio": guess / measured, **recorded})
            print(
                f"{name:8}{method:10}{stage:13}{guess:9.0f}{measured:10.0f}{rows[-1]['manifest']:10.0f}{guess / measured:8.2f}",
                flush=True,
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--json", type=Path, help="write the rows, with every phase's peak, to this file")
    wanted, words = parser.parse_known_args()
    print(f"{'model':8}{'method':10}{'stage':13}{'estimated':>9}{'measured':>10}{'manifest':>10}{'ratio':>8}   (MiB)")
    rows = []
    for name in wanted.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, Path(folder), words)
    for name in dict.fromkeys(row["size"] for row in rows):
        of_size = [row for row in rows if row["size"] == name]
        peak = max(row["estimated"] for row in of_size) / max(row["measured"] for row in of_size)
        print(f"{name}: peak of the whole run, estimated / measured = {peak:.2f}")
    if wanted.json:
        write_json(wanted.json, rows)


if __name__ == "__main__":
    main()
