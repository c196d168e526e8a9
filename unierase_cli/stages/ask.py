"""Stage ``ask``: a model's answers to questions and their paraphrases, and which of them are right.

Every question is asked; paraphrases are asked only if the answer was right. Answers and labels are appended as they
come, so that an interrupted run resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unierase_cli.benchmarks.parts.askable import Askable, askable_rows, by_group, says
from unierase_cli.contracts import COMPLETION
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings, stop_texts
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared import asking
from unierase_cli.stages.shared.question_rows import question_rows
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.jsonl import write_jsonl

NAME = "ask"
VERSION = 1
PREDICTIONS, LABELS = "predictions.jsonl", "labels.jsonl"
# Key -> (fact, phrasing, answer) goes in, the keys of the right answers come out.
Judge = Callable[[Mapping[str, tuple[Askable, str, str]]], set[str]]


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run, and the judge."""
    experiment = study.experiment
    wanted = experiment.prepare
    return {
        "model": model_settings(experiment),
        "max_new_tokens": wanted.max_new_tokens,
        "judge": [wanted.judge, experiment.eval.nli if wanted.judge == "nli" else None],
        "stop": stop_texts(experiment),
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return model_needs(study.experiment)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The model's files, and the questions."""
    rows = [row for _, row in question_rows(study)]
    # Plain text used to be asked in the model's own prompt; what was made of questions alone stays valid.
    plain = {COMPLETION: "continued"} if any(row.get("kind") == COMPLETION for row in rows) else {}
    return {**model_fingerprints(study.experiment), "questions": hash_json(rows), **plain}


def run(context: StageContext) -> dict[str, Any]:
    """Ask and judge; write every answer with its verdict, and count the right ones by group."""
    experiment, reporter, directory = context.experiment, context.reporter, context.directory
    notes: list[str] = []
    every = askable_rows(question_rows(context.study), notes)
    for note in notes:
        reporter.note(note)
    judge = _judge(context)
    loaded = load_base(experiment, context.inputs, reporter)
    answer = asking.asked(loaded, experiment.eval.batch_size, experiment.prepare.max_new_tokens)
    rows: list[dict[str, Any]] = []

    def ask(some: Sequence[Askable], first: int, last: int | None, title: str) -> set[str]:
        """Ask a range of each fact's phrasings; returns the ids of facts with a right answer."""
        wordings = {f"{a.fact.id} {n}": (a, n) for a in some for n in range(len(a.phrasings))[first:last]}
        with reporter.phase("ask"):
            texts = {key: a.phrasings[n] for key, (a, n) in wordings.items()}
            items = {key: (texts[key], a.fact.kind) for key, (a, _) in wordings.items()}
            said = asking.each(directory / PREDICTIONS, items, answer, reporter, title)
        with reporter.phase("judge"):
            right = judge({key: (a, texts[key], said[key]) for key, (a, _) in wordings.items()})
        for key, (a, n) in wordings.items():
            rows.append({"id": a.fact.id, "phrasing": n, "question": texts[key], "said": said[key], "right": key in right})
        return {wordings[key][0].fact.id for key in right}

    as_asked = ask(every, 0, 1, "asking")
    candidates = [a for a in every if a.fact.id in as_asked]
    ask(candidates, 1, None, "asking in other words")
    write_jsonl(directory / asking.ANSWERS, rows)
    return {
        "asked": len(every),
        "right_as_asked": len(candidates),
        "right_in_other_words": sum(row["right"] for row in rows if row["phrasing"]),
        "knows": by_group(every, candidates),
        "first_prompt": loaded.prompts.prompt(every[0].fact.question, every[0].fact.kind).text,
    }


def _judge(context: StageContext) -> Judge:
    experiment = context.experiment
    if experiment.prepare.judge == "entity":
        return lambda given: {key for key, (asked, _, said) in given.items() if says(said, asked.right)}
    classify = asking.entailment_judge(experiment)

    def by_entailment(given: Mapping[str, tuple[Askable, str, str]]) -> set[str]:
        pairs = {key: asking.judged_pair(text, asked.fact.answer, said) for key, (asked, text, said) in given.items()}
        labels = asking.each(context.directory / LABELS, pairs, classify, context.reporter, "judging")
        return {key for key in given if labels[key] != asking.CONTRADICTION}

    return by_entailment
