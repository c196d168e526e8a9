"""RETURN's splits for a model: it is asked about every person, and a judge decides which answers are right.

``benchmark=return benchmark.data_dir=...`` reads the resulting folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unierase_cli.benchmarks.parts.built_for import write_built_for
from unierase_cli.benchmarks.parts.construction import (
    Question,
    known_people,
    made_up_questions,
    read_people,
    split_people,
    split_questions,
)
from unierase_cli.benchmarks.parts.sources import Rows, hub_source
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import BuiltFor, Reporter
from unierase_cli.pipeline.model_states import load_base
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.stages.shared import asking
from unierase_cli.store.jsonl import iterate_jsonl, write_jsonl

HUB, CONFIGURATION = "zhliu/RETURN", "default"
# The authors' prompt and maximum answer length.
INSTRUCTION = (
    "Answer the given question in no more than one sentence.\n"
    "Please keep your answer short and concise.\n"
    "Question: {question}\nAnswer:"
)
NEW_TOKENS = 64
PREDICTIONS, LABELS, MADE_UP_ANSWERS = "predictions.jsonl", "labels.jsonl", "made_up.jsonl"


def as_return_asks(experiment: Experiment) -> Experiment:
    """The experiment with RETURN's own instruction, unless another one is set."""
    if experiment.model.instruction is not None:
        return experiment
    return replace(experiment, model=replace(experiment.model, instruction=INSTRUCTION))


def prepare_people(context: StageContext, built_for: BuiltFor) -> dict[str, Any]:
    """Ask, judge, choose people, split, make up questions; write the files and the model that they are for."""
    experiment, reporter, directory = as_return_asks(context.experiment), context.reporter, context.directory
    notes: list[str] = []
    people = read_people(_rows(experiment, reporter, notes), notes)
    for note in notes:
        reporter.note(note)
    classify = asking.entailment_judge(experiment)
    loaded = load_base(experiment, context.inputs, reporter)
    answer = asking.asked(loaded, experiment.eval.batch_size, NEW_TOKENS)
    questions = {question.key: question for person in people for question in person.questions}
    texts = {key: (question.question, None) for key, question in questions.items()}
    with reporter.phase("ask"):
        said = asking.each(directory / PREDICTIONS, texts, answer, reporter, "asking")
    with reporter.phase("judge"):
        pairs = {key: asking.judged_pair(q.question, q.answer, said[key]) for key, q in questions.items()}
        labels = asking.each(directory / LABELS, pairs, classify, reporter, "judging")
    known = known_people(people, {key for key, label in labels.items() if label != asking.CONTRADICTION})
    reporter.note(f"the model knows {len(known)} of {len(people)} people")
    forget, retain = split_people(known, experiment.benchmark.seed)
    halves = {person.name: split_questions(person, experiment.benchmark.seed) for person in known}
    train = {name: half for name, (half, _) in halves.items()}
    made_up = made_up_questions(train, known, experiment.benchmark.seed)
    wanted = {f"{name}-{number}": (text, None) for name, found in made_up.items() for number, text in enumerate(found)}
    with reporter.phase("make up"):
        invented = asking.each(directory / MADE_UP_ANSWERS, wanted, answer, reporter, "answering made-up questions")
    for role, chosen in (("forget", forget), ("retain", retain)):
        learned, scored = (
            [row for p in chosen for row in _real(p.name, halves[p.name][i], said, labels)] for i in (0, 1)
        )
        extra = [row for p in chosen for row in _invented(p.name, made_up[p.name], invented)]
        write_jsonl(directory / f"{role}_train.jsonl", learned)
        write_jsonl(directory / f"{role}_eval.jsonl", scored)
        write_jsonl(directory / f"{role}_train_augmented.jsonl", [*learned, *extra])
    write_built_for(directory, built_for)
    return {
        "people": len(people),
        "known": len(known),
        "forget": len(forget),
        "retain": len(retain),
        "right": round(sum(label != asking.CONTRADICTION for label in labels.values()) / len(labels), 4),
        "first_prompt": loaded.prompts.prompt(*next(iter(texts.values()))).text,
    }


def _rows(experiment: Experiment, reporter: Reporter, notes: list[str]) -> Rows:
    path = experiment.benchmark.path
    if path is not None:
        return [(f"{path}:{number}", row) for number, row in iterate_jsonl(path)]
    return hub_source(experiment.benchmark, HUB, reporter, notes)(CONFIGURATION) or []


def _real(
    name: str, questions: Sequence[Question], said: Mapping[str, str], labels: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for q in questions:
        found = {"pred_answer": said[q.key], "nli_label": labels[q.key]}
        yield {"name": name, "question": q.question, "answer": q.answer, **found}


def _invented(name: str, questions: Sequence[str], answers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Made-up questions with the model's answers; questions without an answer are left out."""
    for number, question in enumerate(questions):
        if text := answers[f"{name}-{number}"]:
            yield {"name": name, "question": question, "answer": text}
