"""Compares the time of evaluating a model with that of the naive evaluation with transformers.

    python -m scripts.bench_evaluation --csv scripts/results/evaluation-speed.csv experiment=tofu_mini protocol=full \\
        model.path=MODEL benchmark.data_dir=TOFU

Both run in turns in one process on one thread; the numbers are medians over ``--repeats`` of CPU seconds, which other
jobs disturb less than wall time. Three things are timed:

- generation: greedy answers with ``model.generate``, in fixed batches in the order of the data, padded on the left;
- scoring of given answers: passes over whole padded sequences with logits at every position. The limit is the time of
  the multiplications that cannot be left out, every prompt once and every answer once, at the rate of this machine's
  own matrix product;
- the whole suite: the naive evaluation asks for each metric separately. It generates for ROUGE, and for every metric
  that needs probabilities (probability, truth ratio's paraphrased and wrong answers, exact memorization, extraction
  strength, membership by loss, zlib, min-k, min-k++) it makes a pass of its own. ``--suite open_unlearning`` generates
  once per split; ``--suite all`` does so for every text metric of a report (ROUGE, token entropy, cosine similarity,
  entailment, refusals, gibberish). Ours is the code of ``unierase eval``, whose observations serve all of these metrics.

The last column compares what both compute: the share of answers that are not equal, the largest difference of a
log-probability per token, and the largest difference of a mean.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from scripts.timing import in_turns, matmul_rate, write_csv
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, Observation, SilentReporter
from unierase_cli.inference.generate import answer_text, generate
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.inference.observe import ask, observe, plan_batches
from unierase_cli.metrics.rouge import rouge_l_recall
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.pipeline.study import study_of

ANSWERED = ("forget", "retain_unseen", "real_authors", "world_facts")
PARAPHRASED = ("forget", "retain_unseen")
# Generations per split: one for each text metric of the suite.
TEXTS = {"open_unlearning": 1, "all": 6}
MEMBERSHIP = ("loss", "zlib", "min_k", "min_k_plus_plus")
Splits = dict[str, list[Fact]]
Found = dict[str, tuple[float, float]]
HEADINGS = ["what", "transformers (s)", "unierase (s)", "times faster", "unierase's speed", "limit (s)", "differ by"]


def naive(
    loaded: LoadedModel, experiment: Experiment, splits: Splits, batch: int, generations: int
) -> tuple[Found, int]:
    """Mean ROUGE and mean probability of the true answer per split, and the number of passes."""
    found, passes = {}, 0
    for split in ANSWERED:
        rows = splits[split]
        for _ in range(generations):
            texts = _generate(loaded, rows, experiment.protocol.max_new_tokens, batch)
        score = statistics.fmean(rouge_l_recall(text, row.answer) for text, row in zip(texts, rows, strict=True))
        likely = _probabilities(loaded, [(row.question, row.answer) for row in rows], batch)
        _probabilities(loaded, [(row.question, wrong) for row in rows for wrong in row.wrong_answers], batch)
        passes += 2 + generations
        if split in PARAPHRASED:
            _probabilities(loaded, [(row.question, row.paraphrased_answer or row.answer) for row in rows], batch)
            passes += 1
        found[split] = (score, statistics.fmean(likely))
    forget = [(row.question, row.answer) for row in splits["forget"]]
    for _ in ("exact memorization", "extraction strength", *MEMBERSHIP):
        _probabilities(loaded, forget, batch)
    for _ in MEMBERSHIP:
        _probabilities(loaded, [(row.question, row.answer) for row in splits["holdout"]], batch)
    return found, passes + 2 + 2 * len(MEMBERSHIP)


@torch.no_grad()
def _generate(loaded: LoadedModel, rows: Sequence[Fact], tokens: int, batch: int) -> list[str]:
    pad, texts = loaded.prompts.pad_id, []
    for start in range(0, len(rows), batch):
        prompts = [loaded.prompts.prompt(row.question).ids for row in rows[start : start + batch]]
        longest = max(map(len, prompts))
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = loaded.model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=tokens,
            pad_token_id=pad,
            eos_token_id=list(loaded.prompts.stop_ids),
        )
        texts += loaded.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
    return texts


@torch.no_grad()
def _probabilities(loaded: LoadedModel, pairs: Sequence[tuple[str, str]], batch: int) -> list[float]:
    """exp(-mean loss) of every answer, from whole sequences with logits at every position."""
    found = []
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        prompts = [loaded.prompts.prompt(question).ids for question, _ in some]
        answers = [loaded.prompts.answer_ids(answer) for _, answer in some]
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        rows = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
        ids = torch.tensor([row + [loaded.prompts.pad_id] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        log_p = torch.log_softmax(loaded.model(ids, attention_mask=mask).logits.float(), dim=-1)
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            at = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
            found.append(float(log_p[number, at, torch.tensor(answer)].mean().exp()))
    return found


def ours(loaded: LoadedModel, experiment: Experiment, splits: Splits) -> Found:
    """The same numbers from observations, which also serve the suite's other metrics."""
    found = {}
    for split, rows in splits.items():
        asked = ask(loaded, rows, "plain", experiment.protocol)
        batches = plan_batches(asked, 0, loaded.device.type)
        made: list[Observation] = []
        for some in observe(
            loaded,
            asked,
            batches,
            split=split,
            variant="plain",
            protocol=experiment.protocol,
            wrong_answers=split in ANSWERED,
        ):
            made += some
        if split in ANSWERED:
            likely = [torch.tensor(o.answers["true"][0].log_probs).mean().exp().item() for o in made]
            found[split] = (
                statistics.fmean(rouge_l_recall(o.text, o.reference) for o in made),
                statistics.fmean(likely),
            )
    return found


def generation(loaded: LoadedModel, facts: Sequence[Fact], tokens: int, batch: int, repeats: int) -> list[str]:
    prompts = [loaded.prompts.prompt(fact.question).ids for fact in facts]
    one, other, texts, found = in_turns(
        lambda: _generate(loaded, facts, tokens, batch),
        lambda: generate(loaded, prompts, max_new_tokens=tokens, batch_size=batch),
        repeats,
    )
    unlike = statistics.fmean(a != answer_text(loaded, b) for a, b in zip(texts, found, strict=True))
    speed = sum(len(answer.ids) + 1 for answer in found) / other
    return ["generation", *_times(one, other), f"{speed:,.0f} tokens/s", "", f"{unlike:.1%} of answers"]


def scoring(loaded: LoadedModel, facts: Sequence[Fact], batch: int, repeats: int, rate: float) -> list[str]:
    pairs = [(fact.question, text) for fact in facts for text in (fact.answer, *fact.wrong_answers)]
    items = [(loaded.prompts.prompt(q).ids, loaded.prompts.answer_ids(a)) for q, a in pairs]
    one, other, plain, scores = in_turns(
        lambda: _probabilities(loaded, pairs, batch), lambda: score_answers(loaded, items, batch_size=batch), repeats
    )
    ours = [statistics.fmean(score.log_probs) for score in scores]
    apart = max(abs(torch.tensor(a).log().item() - b) for a, b in zip(plain, ours, strict=True))
    needed = least_work(loaded, items)
    speed, limit = f"{needed / other / 1e9:.0f} GFLOP/s", f"{needed / rate:.1f}"
    return ["scoring given answers", *_times(one, other), speed, limit, f"{apart:.0e} per token"]


def least_work(loaded: LoadedModel, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
    """Multiplications and additions by weights: each prompt once, each answer once, the head at the answers' tokens."""
    block = 2 * sum(p.numel() for block in loaded.architecture.blocks for p in block.parameters() if p.dim() == 2)
    prompts = sum(map(len, {tuple(prompt) for prompt, _ in items}))
    answers = sum(len(answer) for _, answer in items)
    return float((prompts + answers) * block + answers * 2 * loaded.architecture.head.weight.numel())


def whole_suite(
    loaded: LoadedModel, experiment: Experiment, splits: Splits, batch: int, suite: str, repeats: int
) -> list[str]:
    one, other, (theirs, passes), found = in_turns(
        lambda: naive(loaded, experiment, splits, batch, TEXTS[suite]), lambda: ours(loaded, experiment, splits), repeats
    )
    apart = max(abs(a - b) for split in ANSWERED for a, b in zip(theirs[split], found[split], strict=True))
    return [f"suite {suite}, {passes} passes", *_times(one, other), "", "", f"{apart:.0e} of a mean"]


def _times(one: float, other: float) -> list[str]:
    return [f"{one:.1f}", f"{other:.1f}", f"{one / other:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40, help="rows of each split (0: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="batch size; the whole suite chooses its own for ours")
    parser.add_argument("--suite", choices=list(TEXTS), action="append", help="default: all of them")
    parser.add_argument("--csv", type=Path, help="write the table to this file")
    wanted, words = parser.parse_known_args()
    torch.set_num_threads(1)
    experiment = compose([word for word in words if word != "--"], None)
    loaded = load_model(experiment.model, experiment.run, reporter=SilentReporter())
    everything = study_of(experiment).benchmark.splits
    splits = {name: list(everything[name][: wanted.rows or None]) for name in (*ANSWERED, "holdout")}
    asked = [fact for name in ANSWERED for fact in splits[name]]
    rate = matmul_rate()
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s; rows: {', '.join(f'{n} {len(r)}' for n, r in splits.items())}", flush=True)
    measured: list[Callable[[], list[str]]] = [
        lambda: generation(loaded, asked, experiment.protocol.max_new_tokens, wanted.batch, wanted.repeats),
        lambda: scoring(loaded, asked, wanted.batch, wanted.repeats, rate),
    ]
    for suite in wanted.suite or TEXTS:
        measured.append(lambda suite=suite: whole_suite(loaded, experiment, splits, wanted.batch, suite, wanted.repeats))
    lines = []
    for measure in measured:
        lines.append(measure())
        print("  ".join(lines[-1]), flush=True)
    if wanted.csv:
        write_csv(wanted.csv, "bench_evaluation", [HEADINGS, *lines])


if __name__ == "__main__":
    main()
