"""Compares the time of an edit with that of the reference's loop, written down again as plainly as it is described.

    python -m scripts.bench_edit --csv scripts/results/edit-speed.csv

A random Llama edits the embedded benchmark's facts, all jointly and one by one, and reads second moments. Both sides run
in turns in one process; the numbers are medians over ``--repeats`` of CPU seconds on one thread, which other jobs disturb
less than wall time.

The reference's loop (AlphaEdit; spec 2.4-2.7): z of one fact at a time, each look a full forward pass over all of its prompts
with logits at every position; for each layer the keys of all prompts and the current outputs by full passes, and one dense
[d, d] solve; after an edit the keys of all layers once more; second moments by one full pass for each layer. That both do
the same is checked by the norm of each layer's change. The limit is the time of the multiplications that no
implementation can leave out (``limits``), at the rate of this machine's own matrix product.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from scripts.reference_edit import reference_edit, reference_moments
from scripts.timing import Call, in_turns, matmul_rate, write_csv
from unierase_cli.config.compose import compose
from unierase_cli.config.sections.edit import EditConfig, ValueConfig
from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.contracts import Fact, SilentReporter
from unierase_cli.editing.edit import Editing, edit_facts
from unierase_cli.editing.moments import Source, decompose, second_moments
from unierase_cli.editing.nullspace import Preservation, choose_preservation
from unierase_cli.editing.spans import EditRequest, make_requests
from unierase_cli.editing.state import EditState
from unierase_cli.editing.templates import Templates
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.load import LoadedModel, wrap_model
from unierase_cli.models.mini import build_model, build_tokenizer
from unierase_cli.pipeline.study import study_of

PREFIXES = (
    "The first of them was only a few years old", "Therefore it is not always easy to say what",
    "Because of the weather on that day they went", "I have often been asked what I think about",
    "You will find that most of what is written",
)  # fmt: skip
VALUES = ValueConfig(steps=10, lr=0.1, lr_kind="absolute", clamp=0.75, stop_loss=0.0, stop_kind="total", runner_up=0.0)
CONFIG = EditConfig(
    values=VALUES, preserve="null_space", threshold=0.5, threshold_kind="trace_share", lambda_=1e-3, lambda_kind="absolute"
)
HEADINGS = ["what", "reference (s)", "unierase (s)", "times faster", "limit (s)", "norms differ by"]
Seconds = dict[str, tuple[list[float], list[float]]]


def subject_of(sizes: TrainConfig, facts: int, texts: int) -> tuple[LoadedModel, list[Fact], list[Source]]:
    """The model, the facts to edit, and the texts of the second moments."""
    benchmark = study_of(compose(["experiment=demo", "benchmark.authors=100", "benchmark.split=forget10"], None)).benchmark
    forget, kept = benchmark.splits["forget"][:facts], benchmark.protect
    tokenizer = build_tokenizer([f"{fact.question} {fact.answer}" for fact in (*forget, *kept)], sizes.vocabulary)
    loaded = wrap_model(build_model(tokenizer, sizes, seed=0), tokenizer)
    rows = [[*loaded.prompts.prompt(f.question).ids, *loaded.prompts.answer_ids(f.answer)] for f in kept[:texts]]
    return loaded, list(forget), [Source("texts", 1.0, rows)]


def requests_of(loaded: LoadedModel, facts: Sequence[Fact], target: int) -> list[EditRequest]:
    return make_requests(loaded.prompts, facts, {fact.id: (target,) for fact in facts}, PREFIXES, "subject_last")


def unierase_edit(
    loaded: LoadedModel, requests: Sequence[EditRequest], layers: Sequence[int], kept: dict[int, Preservation], config: EditConfig
) -> dict[int, float]:
    """Norm of each layer's change; the model is restored."""
    weights = AppliedPatch(loaded)
    editing = Editing(weights, config, layers, lambda layer, _config: kept[layer], SilentReporter())
    edited, _ = edit_facts(editing, requests, EditState(templates=Templates(PREFIXES)))
    weights.revert()
    return {layer: float(factor.dense().norm()) for layer, factor in edited.factors.items()}


def limits(
    loaded: LoadedModel, requests: Sequence[EditRequest], layers: Sequence[int], texts: Sequence[Sequence[int]], rate: float
) -> dict[str, float]:
    """Seconds for what cannot be left out: the tokens before each key once, those from it on in every look (forwards and
    backwards above the last edited block), the keys once, and the moments once; ``rate`` in multiplications and additions.
    """
    architecture, looks = loaded.architecture, VALUES.steps
    block = 2 * sum(p.numel() for p in architecture.blocks[0].parameters() if p.dim() == 2)
    head, last = 2 * architecture.head.weight.numel(), layers[-1] + 1
    above = architecture.n_blocks - last
    every = [p for r in requests for p in (*r.prompts, *([r.drift] if r.drift else []))]
    whole, after = sum(len(p.ids) for p in every), sum(len(p.ids) - p.key for p in every)
    searched = (whole - after) * architecture.n_blocks * block + after * last * block
    searched += (2 * looks - 1) * (after * above * block + len(every) * head)
    keys = sum(p.key + 1 for r in requests for p in r.prompts) * last * block
    read = sum(map(len, texts))
    products = read * len(layers) * 2 * architecture.inner_size(layers[0]) ** 2
    edit = (searched + keys) / rate
    return {"joint": edit, "one by one": edit, "second moments": (read * last * block + products) / rate}


def compared(sizes: TrainConfig, facts: int, texts: int, layers: Sequence[int], repeats: int) -> list[list[str]]:
    """Lines of the table."""
    loaded, chosen, sources = subject_of(sizes, facts, texts)
    requests = requests_of(loaded, chosen, target=len(loaded.tokenizer) - 1)
    sums = second_moments(loaded, layers, sources, batch_tokens=8192, reporter=SilentReporter())
    kept = {}
    for layer, total in sums.items():
        moment = decompose(total)
        rows = moment.eigenvectors
        kept[layer] = choose_preservation(moment.eigenvalues, lambda a, b, rows=rows: rows[a:b], CONFIG, layer=layer)
    dense = {layer: found.apply(torch.eye(found.size)) for layer, found in kept.items()}
    pairs: dict[str, tuple[Call, Call]] = {}
    for name, at_a_time in (("joint", len(requests)), ("one by one", 1)):
        config = EditConfig(**{**vars(CONFIG), "one_by_one": at_a_time == 1})
        pairs[name] = (
            lambda size=at_a_time: reference_edit(loaded, requests, layers, dense, CONFIG, size),
            lambda config=config: unierase_edit(loaded, requests, layers, kept, config),
        )
    texts_of = sources[0].sequences
    pairs["second moments"] = (
        lambda: {layer: float(c.norm()) for layer, c in reference_moments(loaded, layers, texts_of).items()},
        lambda: {
            layer: float(c.norm())
            for layer, c in second_moments(loaded, layers, sources, batch_tokens=8192, reporter=SilentReporter()).items()
        },
    )
    lines, rate = [], matmul_rate()
    least = limits(loaded, requests, layers, texts_of, rate)
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s on {torch.get_num_threads()} thread(s)", flush=True)
    for name, (theirs, ours) in pairs.items():
        one, other, wanted, found = in_turns(theirs, ours, repeats)
        apart = max(abs(found[layer] / wanted[layer] - 1) for layer in layers)
        lines.append([name, f"{one:.1f}", f"{other:.1f}", f"{one / other:.1f}", f"{least[name]:.1f}", f"{apart:.1e}"])
        print("  ".join(lines[-1]), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="write the table to this file")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    sizes = TrainConfig(hidden_size=256, intermediate_size=1024, layers=8, heads=4, vocabulary=4096)
    lines = compared(sizes, wanted.facts, wanted.texts, range(1, 6), wanted.repeats)
    if wanted.csv:
        write_csv(wanted.csv, "bench_edit", [HEADINGS, *lines])


if __name__ == "__main__":
    main()
