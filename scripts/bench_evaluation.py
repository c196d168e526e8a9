"""Compares the time of one generation plus one teacher-forced pass with that of the naive evaluation.

    python scripts/bench_evaluation.py --rows 40 --repeats 3 -- experiment=tofu_mini protocol=full model.path=...

Both run alternately in one process; the result is the median CPU time (all threads), which other jobs affect less than
wall time. The naive evaluation asks for each metric separately: ``model.generate`` in fixed batches in the order of the
data, padded on the left, and for every metric that needs probabilities (probability, truth ratio's paraphrased and
wrong answers, exact memorization, extraction strength, membership by loss, zlib, min-k, min-k++) a pass over whole
padded sequences with logits at every position. ``--suite open_unlearning`` generates once per split, for ROUGE;
``--suite all`` does so for every text metric of a report (ROUGE, token entropy, cosine similarity, entailment,
refusals, gibberish). Ours is the code of ``unierase eval``, whose observations serve all of these metrics. At the end,
the numbers that both compute are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, Observation, SilentReporter
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


def obvious(
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


def _seconds(call: Callable[[], object]) -> tuple[float, object]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40, help="rows of each split (0: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="batch size of the naive evaluation")
    parser.add_argument("--suite", choices=list(TEXTS), default="open_unlearning")
    wanted, words = parser.parse_known_args()
    experiment = compose([word for word in words if word != "--"], None)
    loaded = load_model(experiment.model, experiment.run, reporter=SilentReporter())
    everything = study_of(experiment).benchmark.splits
    splits = {name: list(everything[name][: wanted.rows or None]) for name in (*ANSWERED, "holdout")}
    times: dict[str, list[float]] = {"obvious": [], "ours": []}
    for _ in range(wanted.repeats):
        seconds, (one, passes) = _seconds(  # type: ignore[misc]
            lambda: obvious(loaded, experiment, splits, wanted.batch, TEXTS[wanted.suite])
        )
        times["obvious"].append(seconds)
        seconds, other = _seconds(lambda: ours(loaded, experiment, splits))
        times["ours"].append(seconds)
        print(f"obvious {times['obvious'][-1]:.1f} s, ours {seconds:.1f} s", flush=True)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(
        f"rows: {', '.join(f'{name} {len(rows)}' for name, rows in splits.items())}; passes of the obvious way: {passes}"
    )
    print(
        f"medians of {wanted.repeats}: obvious {medians['obvious']:.1f} s, ours {medians['ours']:.1f} s,"
        f" ratio {medians['obvious'] / medians['ours']:.1f}"
    )
    for split in ANSWERED:
        far = max(abs(a - b) for a, b in zip(one[split], other[split], strict=True))  # type: ignore[index]
        print(f"{split}: ROUGE {other[split][0]:.4f}, probability {other[split][1]:.4f}; farthest apart {far:.1e}")  # type: ignore[index]


if __name__ == "__main__":
    main()
