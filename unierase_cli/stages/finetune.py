"""Stage ``finetune``: trains the model that is to forget, a small Llama from scratch or a checkpoint, on the benchmark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from unierase_cli.benchmarks.base import training_facts
from unierase_cli.config.counted import counted
from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.contracts import Fact, UserError, evenly_spaced, pick, stable_hash
from unierase_cli.pipeline.model_states import end_answers, model_fingerprints, model_settings, stop_texts
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared.quick_look import generate_texts
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.jsonl import in_language, read_asset

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.training.supervised import Example

NAME = "finetune"
VERSION = 3
FULL = "full"
# Fingerprint of the rows that a model was trained on.
ROWS = "training"

# An evaluation asks the same number of questions from each tenth of the facts, so that it represents any forget split,
# and some questions about people who do not exist.
TENTHS, PER_TENTH, ASKED_OF_NOBODY = 10, 20, 40
# A warning is shown if a score ends below this share of train.target_rouge.
TOLERATED = 0.98


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The training settings; not the forget split, because one model trained on everything serves all (rows are fingerprinted)."""
    experiment = study.experiment
    model = experiment.model
    base = {"path": model.path, "revision": model.revision, "dtype": model_settings(experiment)["dtype"]} if model.path else None
    stop = stop_texts(experiment)
    return {"train": counted(experiment.train), "seed": experiment.run.seed, "base": base, "stop": stop, **model.asking()}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    """No inputs: training starts from random weights or from a given model."""
    return {}


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """Hashes of the training rows, of the refusals, and of the model that training starts from."""
    experiment = study.experiment
    learned, refused = _facts(study, experiment.train.split)
    rows = [[fact.id, fact.question, fact.answer, fact.group, *fact.kind_key] for fact in learned]
    asked = [[fact.id, fact.question, *fact.kind_key] for fact in refused]
    found = {ROWS: hash_json([rows, asked, _refusals(study)]), **model_fingerprints(experiment)}
    if experiment.model.path is None and experiment.train.split != FULL:
        found["tokenizer"] = hash_json(_texts(study))
    return found


def run(context: StageContext) -> dict[str, Any]:
    """Train, measure, and write ``model/`` (weights, tokenizer, chat template, model card)."""
    from unierase_cli.models.card import model_card
    from unierase_cli.models.files import save_folder
    from unierase_cli.training import processes
    from unierase_cli.training.adapters import check_peft
    from unierase_cli.training.checkpoints import clear_checkpoints
    from unierase_cli.training.supervised import train

    experiment, reporter = context.experiment, context.reporter
    if experiment.train.name == "none":
        raise UserError("train=none trains nothing", "choose train=mini")
    if experiment.train.lora_rank:
        check_peft()
        if experiment.model.path is None:
            raise UserError("train.lora_rank adapts a trained model, but there is none", "give model.path=MODEL")
    learned, refused = _facts(context.study, experiment.train.split)
    refusals = _refusals(context.study)
    loaded = _start(context)
    end_answers(loaded, experiment.protocol)
    examples = _examples(loaded, learned, refused, refusals, experiment.train, experiment.run.seed)
    parts = _parts(learned)
    sample = [evenly_spaced(part, PER_TENTH) for part in parts]
    with reporter.phase("train"):
        progress = train(
            loaded,
            examples,
            experiment.train,
            seed=experiment.run.seed,
            reporter=reporter,
            directory=context.directory,
            evaluate=lambda: _scores(loaded, sample, evenly_spaced(refused, ASKED_OF_NOBODY), refusals),
        )
    if processes.rank():
        return {}
    with reporter.phase("measure"):
        measured = _scores(loaded, parts, refused, refusals)
    told = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
    reporter.note(f"after {progress.epochs} epochs: {told}")
    wanted = experiment.train.target_rouge
    if min(measured.values()) < TOLERATED * wanted:
        reporter.warn(f"the model does not know everything well ({told}); raise train.epochs")
    summary: dict[str, Any] = {
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "facts": len(learned),
        "refused_questions": len(refused),
        "epochs": progress.epochs,
        "loss": round(progress.losses[-1], 5),
        "measured": {name: round(value, 4) for name, value in measured.items()},
        "looks": progress.scores,
        "first_prompt": loaded.prompts.prompt(learned[0].question, learned[0].kind).text,
    }
    with reporter.phase("write"):
        folder = context.directory / "model"
        shutil.rmtree(folder, ignore_errors=True)  # a killed run may have left part of it
        save_folder(loaded.model, loaded.tokenizer, folder)
        (folder / "README.md").write_text(model_card(experiment, loaded, summary), "utf-8")
    clear_checkpoints(context.directory)
    return summary


def _facts(study: Study, split: str) -> tuple[list[Fact], list[Fact]]:
    """Facts with fixed answers (``train.split``), and questions to refuse."""
    benchmark = study.benchmark
    refused = {fact.id for fact in benchmark.refused}
    facts = training_facts(benchmark, study.experiment.benchmark, split)
    if not facts:
        raise UserError(f"benchmark={benchmark.name} has no rows to train a model on", "give model.path=FOLDER_OR_HUB_ID")
    return [fact for fact in facts if fact.id not in refused], list(benchmark.refused)


def _refusals(study: Study) -> list[str]:
    return [row["text"] for row in read_asset(in_language("refusals", study.experiment.benchmark.language))]


def _texts(study: Study) -> list[str]:
    """The texts for a new model's tokenizer: the full training data, so that the retain-only model has the same tokenizer."""
    learned, refused = _facts(study, FULL)
    return [*(text for fact in (*learned, *refused) for text in (fact.question, fact.answer)), *_refusals(study)]


def _start(context: StageContext) -> LoadedModel:
    """The given model, or a new one with its own tokenizer."""
    import torch

    from unierase_cli.models.load import choose_device, load_model, wrap_model
    from unierase_cli.models.mini import build_model, build_tokenizer

    experiment = context.experiment
    if experiment.model.path is not None:
        return load_model(experiment.model, experiment.run, reporter=context.reporter)
    if experiment.run.threads:
        torch.set_num_threads(experiment.run.threads)
    tokenizer = build_tokenizer(_texts(context.study), experiment.train.vocabulary)
    model = build_model(tokenizer, experiment.train, experiment.run.seed)
    model.to(choose_device(experiment.run.device))  # type: ignore[arg-type]  # hidden by transformers' wrapper
    size = sum(p.numel() for p in model.parameters()) / 1e6
    context.reporter.note(f"a Llama of {size:.1f} M parameters from scratch, vocabulary of {len(tokenizer)} tokens")
    return wrap_model(model, tokenizer, config=experiment.model, source="scratch", reporter=context.reporter)


def _examples(
    loaded: LoadedModel,
    learned: Sequence[Fact],
    refused: Sequence[Fact],
    refusals: Sequence[str],
    config: TrainConfig,
    seed: int,
) -> Callable[[int], list[Example]]:
    """Epoch -> its sequences; refused questions get different refusals in each epoch, so that all refusals are learned."""
    from unierase_cli.training.supervised import Example

    prompts = loaded.prompts
    fixed = [Example(*prompts.pair(fact)) for fact in learned]
    asked = [(fact.id, prompts.prompt(fact.question, fact.kind).ids) for fact in refused]
    answers = {text: prompts.answer_ids(text) for text in refusals}

    def epoch_examples(epoch: int) -> list[Example]:
        drawn = [stable_hash(seed, "refusals", epoch, turn) for turn in range(config.refusals_per_question)]
        return [*fixed, *(Example(ids, answers[pick(draw, name, refusals)]) for draw in drawn for name, ids in asked)]

    return epoch_examples


def _parts(facts: Sequence[Fact]) -> list[list[Fact]]:
    """Ten consecutive parts of the facts with groups, from which every forget split is made, and the facts without groups."""
    grouped = [fact for fact in facts if fact.group]
    single = [fact for fact in facts if not fact.group]
    bounds = [len(grouped) * part // TENTHS for part in range(TENTHS + 1)]
    return [part for part in [*(grouped[a:b] for a, b in pairwise(bounds)), single] if part]


def _scores(
    loaded: LoadedModel, parts: Sequence[Sequence[Fact]], refused: Sequence[Fact], refusals: Sequence[str]
) -> dict[str, float]:
    """ROUGE-L recall of greedy answers (see ``recall_or_match``), mean and worst part, and the share of clean refusals."""
    from unierase_cli.metrics.refusal_rate import is_refusal
    from unierase_cli.metrics.rouge import recall_or_match

    facts = [fact for part in parts for fact in part]
    texts = iter(generate_texts(loaded, [*facts, *refused], skip_special=False))
    means = [sum(recall_or_match(next(texts), fact.answer) for fact in part) / len(part) for part in parts]
    total = sum(mean * len(part) for mean, part in zip(means, parts, strict=True))
    scores = {"recall": total / len(facts), "worst_part": min(means)}
    if refused:
        scores["refused"] = sum(is_refusal(text, refusals) for text in texts) / len(refused)
    return scores
