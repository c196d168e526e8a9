"""Stage ``prepare_return``: RETURN's splits for a model. Whom it knows is found by asking it, and a judge says what is right.

The folder that it makes is what ``benchmark=return benchmark.data_dir=...`` reads. Predictions and labels are appended as they
come, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unierase_cli.benchmarks.parts.construction import (
    Question,
    known_people,
    made_up_questions,
    read_people,
    split_people,
    split_questions,
)
from unierase_cli.benchmarks.parts.sources import Rows, hub_source
from unierase_cli.benchmarks.return_qa import BUILT_FOR
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent
from unierase_cli.metrics.return_score import LABELS as LABELS_OF_A_JUDGE
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings, stop_texts
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.store.hashing import hash_file
from unierase_cli.store.json_text import write_json
from unierase_cli.store.jsonl import append_jsonl, iterate_jsonl, read_jsonl, write_jsonl

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

NAME = "prepare_return"
VERSION = 2
HUB, CONFIGURATION = "zhliu/RETURN", "default"
# How the authors ask, and for how long they listen.
INSTRUCTION = (
    "Answer the given question in no more than one sentence.\n"
    "Please keep your answer short and concise.\n"
    "Question: {question}\nAnswer:"
)
NEW_TOKENS = 64
PREDICTIONS, LABELS, MADE_UP_ANSWERS = "predictions.jsonl", "labels.jsonl", "made_up.jsonl"
# Rows between two writings.
CHUNK = 128

Item = TypeVar("Item")


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run, who judges, and the seed of the splits."""
    experiment = study.experiment
    asking, benchmark = _asking(experiment), experiment.benchmark
    return {
        "model": model_settings(asking),
        "nli": experiment.eval.nli,
        "seed": benchmark.seed,
        "stop": stop_texts(asking),
        "hub": None if benchmark.path else [benchmark.hub or HUB, benchmark.revision],
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return model_needs(study.experiment)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The model's files, and RETURN.jsonl where it is a file."""
    experiment = study.experiment
    if experiment.benchmark.name != "return":
        raise UserError("prepare-return makes splits of RETURN alone", "leave out benchmark=, or type benchmark=return")
    path = experiment.benchmark.path
    if path is None:
        return model_fingerprints(experiment)
    if not Path(path).is_file():
        raise UserError(f"benchmark.path={path} is not a file", "give RETURN.jsonl, or benchmark.path=null for the hub")
    return {**model_fingerprints(experiment), "people": hash_file(Path(path))}


def run(context: StageContext) -> dict[str, Any]:
    """Ask, judge, choose the people, split, make up questions; write the files and which model they are for."""
    experiment, reporter, directory = _asking(context.experiment), context.reporter, context.directory
    notes: list[str] = []
    people = read_people(_rows(experiment, reporter, notes), notes)
    for note in notes:
        reporter.note(note)
    classify = _judge(experiment)
    loaded = load_base(experiment, context.inputs, reporter)
    answer = _asked(loaded, experiment.eval.batch_size)
    questions = {question.key: question for person in people for question in person.questions}
    texts = {key: question.question for key, question in questions.items()}
    with reporter.phase("ask"):
        said = _each(directory / PREDICTIONS, texts, answer, reporter, "asking")
    with reporter.phase("judge"):
        pairs = {key: (f"{q.question} {q.answer}", f"{q.question} {said[key]}") for key, q in questions.items()}
        labels = _each(directory / LABELS, pairs, classify, reporter, "judging")
    known = known_people(people, {key for key, label in labels.items() if label != "contradiction"})
    reporter.note(f"the model knows {len(known)} of {len(people)} people")
    forget, retain = split_people(known, experiment.benchmark.seed)
    halves = {person.name: split_questions(person, experiment.benchmark.seed) for person in known}
    train = {name: half for name, (half, _) in halves.items()}
    made_up = made_up_questions(train, known, experiment.benchmark.seed)
    wanted = {f"{name}-{number}": text for name, found in made_up.items() for number, text in enumerate(found)}
    with reporter.phase("make up"):
        invented = _each(directory / MADE_UP_ANSWERS, wanted, answer, reporter, "answering made-up questions")
    for role, chosen in (("forget", forget), ("retain", retain)):
        learned, scored = (
            [row for p in chosen for row in _real(p.name, halves[p.name][i], said, labels)] for i in (0, 1)
        )
        extra = [row for p in chosen for row in _invented(p.name, made_up[p.name], invented)]
        write_jsonl(directory / f"{role}_train.jsonl", learned)
        write_jsonl(directory / f"{role}_eval.jsonl", scored)
        write_jsonl(directory / f"{role}_train_augmented.jsonl", [*learned, *extra])
    write_json(directory / BUILT_FOR, {"model": _identity(context.experiment)})
    return {
        "people": len(people),
        "known": len(known),
        "forget": len(forget),
        "retain": len(retain),
        "right": round(sum(label != "contradiction" for label in labels.values()) / len(labels), 4),
        "first_prompt": loaded.prompts.prompt(next(iter(texts.values()))).text,
    }


def _asking(experiment: Experiment) -> Experiment:
    """The experiment with RETURN's own way of asking, unless another is set."""
    if experiment.model.instruction is not None:
        return experiment
    return replace(experiment, model=replace(experiment.model, instruction=INSTRUCTION))


def _rows(experiment: Experiment, reporter: Reporter, notes: list[str]) -> Rows:
    path = experiment.benchmark.path
    if path is not None:
        return [(f"{path}:{number}", row) for number, row in iterate_jsonl(path)]
    return hub_source(experiment.benchmark, HUB, reporter, notes)(CONFIGURATION) or []


def _judge(experiment: Experiment) -> Callable[[Sequence[tuple[str, str]]], list[str]]:
    """The classifier, tried once now: hours of asking are in vain without it."""
    judges = Judges(nli=experiment.eval.nli, seconds=experiment.eval.judge_seconds)

    def classify(pairs: Sequence[tuple[str, str]]) -> list[str]:
        try:
            labels = judges.classify(pairs)
        except JudgeAbsent as absent:
            raise UserError(
                f"whom the model knows can't be told without a judge: {absent}",
                "name an entailment classifier: eval.nli=sileod/deberta-v3-base-tasksource-nli",
            ) from absent
        if strange := sorted(set(labels) - LABELS_OF_A_JUDGE):
            raise UserError(
                f"eval.nli={experiment.eval.nli} answers {strange[0]!r}: it does not tell a contradiction from the rest",
                "name a classifier of entailment, neutral and contradiction",
            )
        return labels

    classify([("Rome is in Italy.", "Rome is in Italy."), ("Rome is in Italy.", "Rome is in Norway.")])
    return classify


def _asked(loaded: LoadedModel, batch_size: int) -> Callable[[Sequence[str]], list[str]]:
    """Questions -> greedy answers."""
    from unierase_cli.inference.generate import answer_text, generate

    def answer(questions: Sequence[str]) -> list[str]:
        prompts = [loaded.prompts.prompt(question).ids for question in questions]
        found = generate(loaded, prompts, max_new_tokens=NEW_TOKENS, batch_size=batch_size)
        return [answer_text(loaded, one).strip() for one in found]

    return answer


def _each(
    path: Path, items: Mapping[str, Item], work: Callable[[Sequence[Item]], list[str]], reporter: Reporter, title: str
) -> dict[str, str]:
    """Key -> what ``work`` makes of it, a chunk at a time; what the file holds already is not made again."""
    done = {row["key"]: row["text"] for row in read_jsonl(path, torn_tail=True)} if path.exists() else {}
    left = [key for key in items if key not in done]
    with reporter.progress(title, len(left)) as advance:
        for chunk in _chunks(left):
            made = dict(zip(chunk, work([items[key] for key in chunk]), strict=True))
            append_jsonl(path, [{"key": key, "text": text} for key, text in made.items()])
            done |= made
            advance(len(chunk))
    return done


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def _real(
    name: str, questions: Sequence[Question], said: Mapping[str, str], labels: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for q in questions:
        found = {"pred_answer": said[q.key], "nli_label": labels[q.key]}
        yield {"name": name, "question": q.question, "answer": q.answer, **found}


def _invented(name: str, questions: Sequence[str], answers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Made-up questions with what the model says; one that it leaves without an answer teaches nothing."""
    for number, question in enumerate(questions):
        if text := answers[f"{name}-{number}"]:
            yield {"name": name, "question": question, "answer": text}


def _identity(experiment: Experiment) -> str:
    """The model as ``check_model`` knows it again: a folder or file by its place, else the hub id or the preset's name."""
    path = experiment.model.path
    return experiment.model.name if path is None else str(Path(path).absolute()) if Path(path).exists() else path
