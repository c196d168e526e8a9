"""Make the model that is to forget: a small Llama from scratch, or a checkpoint trained on the benchmark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from unierase_cli.benchmarks.base import evenly_spaced, training_facts
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, UserError, pick, stable_hash
from unierase_cli.stages.base import Request, StageContext, benchmark_of
from unierase_cli.stages.loading import model_fingerprints
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.jsonl import read_asset

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.training.loop import Example

NAME = "finetune"
VERSION = 1

# A look generates this many answers: as many from each tenth of the facts, so that it stands for any forget split.
TENTHS, PER_TENTH = 10, 12
T = TypeVar("T")


def reads(experiment: Experiment, options: dict[str, str]) -> dict[str, Any]:
    """Not the forget split: one model, trained on everything, serves them all (their rows are in the fingerprint)."""
    model = experiment.model
    train = {key: value for key, value in asdict(experiment.train).items() if key not in ("name", "split")}
    base = {"path": model.path, "revision": model.revision, "dtype": model.dtype} if model.path else None
    return {"train": train, "seed": experiment.run.seed, "base": base, "prompt": model.prompt, "date": model.date}


def needs(experiment: Experiment, options: dict[str, str]) -> dict[str, Request]:
    """Nothing: training starts from random weights or from a given model."""
    return {}


def fingerprints(experiment: Experiment, options: dict[str, str]) -> dict[str, str]:
    """Hash of the rows that are learned, of the refusals, and of the model that training starts from."""
    learned, refused = _facts(experiment)
    rows = [[fact.id, fact.question, fact.answer, fact.group] for fact in learned]
    asked = [[fact.id, fact.question] for fact in refused]
    return {"training": hash_json([rows, asked, _refusals()]), **model_fingerprints(experiment)}


def run(context: StageContext) -> dict[str, Any]:
    """Train, measure, and write ``model/`` (weights, tokenizer, chat template, model card)."""
    from unierase_cli.models.card import model_card
    from unierase_cli.models.files import save_folder
    from unierase_cli.training.loop import train

    experiment, reporter = context.experiment, context.reporter
    if experiment.train.name == "none":
        raise UserError("train=none trains nothing", "choose train=mini")
    learned, refused = _facts(experiment)
    refusals = _refusals()
    loaded = _start(context, [*learned, *refused], refusals)
    state = context.directory / "training.safetensors"
    examples = _examples(loaded, learned, refused, refusals, experiment.run.seed)
    looked_at = _sample([fact for fact in learned if fact.group] or learned)
    with reporter.phase("train"):
        progress = train(
            loaded,
            examples,
            experiment.train,
            seed=experiment.run.seed,
            reporter=reporter,
            state_file=state,
            evaluate=lambda: _look(loaded, looked_at),
        )
    with reporter.phase("measure"):
        measured = _measure(loaded, learned, refused, refusals)
    told = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
    reporter.note(f"after {progress.epochs} epochs: {told}")
    wanted = experiment.train.target_rouge
    if measured["facts"] < wanted:
        reporter.warn(f"ROUGE-L recall {measured['facts']:.3f} is below train.target_rouge={wanted}; raise train.epochs")
    summary: dict[str, Any] = {
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "facts": len(learned),
        "refused_questions": len(refused),
        "epochs": progress.epochs,
        "loss": round(progress.losses[-1], 5),
        "rouge_l_recall": {name: round(value, 4) for name, value in measured.items()},
        "looks": progress.scores,
        "first_prompt": loaded.prompts.prompt(learned[0].question).text,
    }
    with reporter.phase("write"):
        folder = context.directory / "model"
        shutil.rmtree(folder, ignore_errors=True)  # what a killed run may have left of it
        save_folder(loaded.model, loaded.tokenizer, folder)
        (folder / "README.md").write_text(model_card(experiment, loaded, summary), "utf-8")
    state.unlink(missing_ok=True)
    return summary


def _facts(experiment: Experiment) -> tuple[list[Fact], list[Fact]]:
    """Facts with fixed answers, and questions that are to be refused."""
    benchmark = benchmark_of(experiment)
    refused = {fact.id for fact in benchmark.refused}
    facts = training_facts(benchmark, experiment.benchmark, experiment.train.split)
    if not facts:
        raise UserError(f"benchmark={benchmark.name} has no rows to train a model on", "give model.path=FOLDER_OR_HUB_ID")
    return [fact for fact in facts if fact.id not in refused], list(benchmark.refused)


def _refusals() -> list[str]:
    return [row["text"] for row in read_asset("refusals.jsonl")]


def _start(context: StageContext, facts: Sequence[Fact], refusals: Sequence[str]) -> LoadedModel:
    """The given model, or a new one whose tokenizer is made for the texts that it is to learn."""
    import torch

    from unierase_cli.models.load import choose_device, load_model, wrap_model
    from unierase_cli.models.mini import build_model, build_tokenizer

    experiment = context.experiment
    if experiment.model.path is not None:
        return load_model(experiment.model, experiment.run, reporter=context.reporter)
    if experiment.run.threads:
        torch.set_num_threads(experiment.run.threads)
    texts = [text for fact in facts for text in (fact.question, fact.answer)]
    tokenizer = build_tokenizer([*texts, *refusals], experiment.train.vocabulary)
    model = build_model(tokenizer, experiment.train, experiment.run.seed)
    model.to(choose_device(experiment.run.device))  # type: ignore[arg-type]  # hidden by transformers' wrapper
    size = sum(p.numel() for p in model.parameters()) / 1e6
    context.reporter.note(f"a Llama of {size:.1f} M parameters from scratch, vocabulary of {len(tokenizer)} tokens")
    return wrap_model(model, tokenizer, config=experiment.model, source="scratch")


def _examples(
    loaded: LoadedModel, learned: Sequence[Fact], refused: Sequence[Fact], refusals: Sequence[str], seed: int
) -> Callable[[int], list[Example]]:
    """The sequences of an epoch; a refused question gets another refusal each epoch, so that all of them are known."""
    from unierase_cli.training.loop import Example

    prompts = loaded.prompts
    fixed = [Example(prompts.prompt(fact.question).ids, prompts.answer_ids(fact.answer)) for fact in learned]
    asked = [(fact.id, prompts.prompt(fact.question).ids) for fact in refused]
    answers = {text: prompts.answer_ids(text) for text in refusals}

    def epoch_examples(epoch: int) -> list[Example]:
        drawn = stable_hash(seed, "refusals", epoch)
        return [*fixed, *(Example(ids, answers[pick(drawn, name, refusals)]) for name, ids in asked)]

    return epoch_examples


def _tenths(items: Sequence[T]) -> list[Sequence[T]]:
    """Ten consecutive parts, empty ones left out."""
    bounds = [len(items) * part // TENTHS for part in range(TENTHS + 1)]
    return [items[a:b] for a, b in pairwise(bounds) if b > a]


def _sample(facts: Sequence[Fact]) -> list[tuple[Fact, ...]]:
    """A few facts from each tenth of the list."""
    return [evenly_spaced(tenth, PER_TENTH) for tenth in _tenths(facts)]


def _look(loaded: LoadedModel, tenths: Sequence[Sequence[Fact]]) -> dict[str, float]:
    """Mean recall over the sample, and of its worst tenth: what any forget split may consist of."""
    recalls = iter(_recalls(loaded, [fact for tenth in tenths for fact in tenth])[0])
    means = [sum(next(recalls) for _ in tenth) / len(tenth) for tenth in tenths]
    return {"ROUGE-L recall": sum(means) / len(means), "of the worst tenth": min(means)}


def _measure(
    loaded: LoadedModel, learned: Sequence[Fact], refused: Sequence[Fact], refusals: Sequence[str]
) -> dict[str, float]:
    """Recall on everything that was learned, on its worst tenth, on single facts, and the share of listed refusals."""
    grouped = [fact for fact in learned if fact.group]
    single = [fact for fact in learned if not fact.group]
    recalls = _recalls(loaded, [*grouped, *single])[0]
    measured = {"facts": sum(recalls) / len(recalls)}
    if grouped:
        measured["worst_tenth"] = min(sum(tenth) / len(tenth) for tenth in _tenths(recalls[: len(grouped)]))
    if single:
        measured["single_facts"] = sum(recalls[len(grouped) :]) / len(single)
    if refused:
        texts = _recalls(loaded, refused)[1]
        measured["refused"] = sum(text.strip() in set(refusals) for text in texts) / len(refused)
    return measured


def _recalls(loaded: LoadedModel, facts: Sequence[Fact]) -> tuple[list[float], list[str]]:
    """ROUGE-L recall (stemmed) of each fact's greedy answer, and the answers."""
    from rouge_score.rouge_scorer import RougeScorer

    from unierase_cli.inference.generate import generate

    prompts = [loaded.prompts.prompt(fact.question).ids for fact in facts]
    longest = max(len(loaded.prompts.answer_ids(fact.answer)) for fact in facts)
    answers = [loaded.tokenizer.decode(g.ids) for g in generate(loaded, prompts, max_new_tokens=longest + 8)]
    texts = [str(answer) for answer in answers]
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(facts, texts, strict=True)
    return [scorer.score(fact.answer, text)["rougeL"].recall for fact, text in pairs], texts
