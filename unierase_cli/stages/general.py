"""Stage ``general``: a model state's general ability, asked suite by suite, with the answers recorded.

``<suite>.jsonl`` has one row per question, appended batch by batch: id, prompt hash, output, its number of tokens, the
right answer, and for programs whether they passed their tests. Answers are judged when they are scored, so a changed
rule needs no model. A question that exceeds the model's context is wrong, with an empty output and the stop reason "too
long"; a warning gives their number. An interrupted run resumes at its next batch; several processes share the batches.
Tasks of lm-eval are ``lm_eval.<task>.jsonl``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.benchmarks.general.base import SUITES, Item, data_fingerprints, load_items, load_suite
from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.general import TOO_LONG
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.model_states import (
    load_base,
    load_edited,
    model_fingerprints,
    model_settings,
    state_needs,
    stop_texts,
)
from unierase_cli.pipeline.observation_files import batches_done
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.plugins import code_of
from unierase_cli.stages.shared.cut_short import told
from unierase_cli.stages.shared.unedited import same_answers, taken_over
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.json_text import read_as, write_json
from unierase_cli.store.jsonl import append_jsonl, read_jsonl, write_jsonl
from unierase_cli.training import processes

if TYPE_CHECKING:
    from unierase_cli.inference.sandbox.sandbox import Limits
    from unierase_cli.inference.suites import Question
    from unierase_cli.models.load import LoadedModel

NAME = "general"
VERSION = 3
PLAN = "plan.json"
AGAIN = "ask again with --force"
LM_EVAL = "lm_eval."
# Time limit for a program in the script of UniErase's authors.
COMPAT_CODE_SECONDS = 1.0


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run, and what it is asked."""
    experiment = study.experiment
    return {
        "model": model_settings(experiment),
        "general": counted(experiment.eval.general),
        "stop": stop_texts(experiment),
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return state_needs(study.experiment, options["state"]) | same_answers(study, NAME, options)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The model's files, the suites' rows and code, and the lm-eval version, so that it runs once it is installed."""
    experiment = study.experiment
    found = {**model_fingerprints(experiment), **data_fingerprints(experiment.eval.general)}
    found |= code_of("suite", SUITES, *experiment.eval.general.suites)
    if experiment.eval.general.lm_eval:
        from unierase_cli.inference.lm_harness import folder_fingerprint, installed_version

        found["lm_eval"] = installed_version() or "absent"
        found["lm_eval_folder"] = folder_fingerprint(experiment.eval.general.lm_eval_folder)
    return found


def judged_by(experiment: Experiment) -> dict[str, Any]:
    """The versions of the rules that judge the rows, for the key of the scores; empty if no suite is asked."""
    config = experiment.eval.general
    suites = {name: load_suite(name).VERSION for name in config.suites}
    return {"general": {"suites": suites, "compat": config.compat}} if suites else {}


def run(context: StageContext) -> dict[str, Any]:
    """Ask all suites, then run lm-eval's tasks; returns the numbers of rows and of too long ones, and how programs are confined."""
    config, reporter = context.experiment.eval.general, context.reporter
    if (known := taken_over(context)) is not None:
        return known
    items = {name: load_items(name, config, reporter) for name in config.suites}
    load = load_edited if context.options["state"] == "edited" else load_base
    loaded = load(context.experiment, context.inputs, reporter)
    confined = ""
    if any(hasattr(load_suite(name), "problem") for name in items):
        from unierase_cli.inference.sandbox.sandbox import check_sandbox

        confined = check_sandbox(_limits(context))
        reporter.note(f"generated programs run in processes of their own: {confined}")
    asked = _questions(context, items, loaded)
    left = processes.of_first(lambda: _left(context, loaded, asked))
    for name, questions in asked.items():
        _ask_suite(context, loaded, name, items[name], questions, left[name])
    if processes.rank():
        return {}
    for name in items:
        stops = [row["stop"] for row in read_jsonl(context.directory / f"{name}.jsonl") if row["stop"] != TOO_LONG]
        if warning := told(load_suite(name).TITLE, stops, "allow more with eval.general.max_new_tokens"):
            reporter.warn(warning)
    for task in config.lm_eval:
        _run_task(context, loaded, task)
    return {
        "rows": {name: len(found) for name, found in items.items()},
        "too_long": {name: sum(q.too_long for q in questions) for name, questions in asked.items()},
        "programs_confined_by": confined,
    }


def read_general(directory: Path, experiment: Experiment) -> dict[str, list[dict[str, Any]]]:
    """The judged rows of a finished artefact by ``general.<suite>``, with ``correct``, ``follows`` and the suite's ``title``."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in experiment.eval.general.suites:
        suite = load_suite(name)
        rows = found[f"{NAME}.{name}"] = sorted(read_jsonl(directory / f"{name}.jsonl"), key=lambda row: row["place"])
        for row in rows:
            judged = suite.judge(row, experiment.eval.general.compat)
            asked = row["stop"] != TOO_LONG
            row |= {"title": suite.TITLE, "correct": judged.correct and asked, "follows": judged.follows and asked}
    for task in experiment.eval.general.lm_eval:
        found[f"{NAME}.{LM_EVAL}{task}"] = read_jsonl(_task_file(directory, task))
    return found


def _questions(context: StageContext, items: Mapping[str, Sequence[Item]], loaded: LoadedModel) -> dict[str, list[Question]]:
    """Every question with its prompt, by suite."""
    from unierase_cli.inference.suites import questions_of

    compat = context.experiment.eval.general.compat
    asked = {}
    for name, found in items.items():
        prompts = [(item.id, load_suite(name).prompt(item, compat)) for item in found]
        asked[name] = questions_of(loaded, prompts, compat=compat)
    _tell_too_long(context, asked, loaded)
    return asked


def _left(context: StageContext, loaded: LoadedModel, asked: Mapping[str, Sequence[Question]]) -> dict[str, list[list[int]]]:
    """The batches of each suite that are still to be asked; ``plan.json`` records all batches when the run starts."""
    from unierase_cli.inference.batching import choose_batch_size, length_sorted

    path = context.directory / PLAN
    hashes = {name: hash_json([[q.id, q.prompt_hash] for q in questions]) for name, questions in asked.items()}
    if not path.exists():
        size = choose_batch_size(context.experiment.eval.batch_size, loaded.device.type)
        made = {name: length_sorted([len(q.ids) for q in questions], size) for name, questions in asked.items()}
        write_json(path, {"state": context.options["state"], "questions": hashes, "batches": made})
    plan = read_as(path, dict[str, Any], AGAIN)
    if plan.get("questions") != hashes:
        raise UserError(f"{path} was made for other questions", AGAIN)
    planned = plan["batches"].items()
    return {name: batches[batches_done(context.directory / f"{name}.jsonl", batches) :] for name, batches in planned}


def _tell_too_long(context: StageContext, asked: Mapping[str, Sequence[Question]], loaded: LoadedModel) -> None:
    for name, questions in asked.items():
        if count := sum(question.too_long for question in questions):
            context.reporter.warn(
                f"{load_suite(name).TITLE}: {count} of {len(questions)} questions do not fit the model's context of "
                f"{loaded.prompts.max_length} tokens; they are not asked and count as wrong"
            )


def _ask_suite(
    context: StageContext,
    loaded: LoadedModel,
    name: str,
    items: Sequence[Item],
    questions: Sequence[Question],
    left: Sequence[list[int]],
) -> None:
    """Ask the remaining questions of a suite and append the answers batch by batch."""
    title = f"general {context.options['state']} {load_suite(name).TITLE}"
    with context.reporter.phase(title), context.reporter.progress(title, sum(map(len, left))) as advance:
        answers = _answers(context, loaded, name, items, questions, processes.share(left))
        for rows in processes.in_order(answers, len(left)):
            append_jsonl(context.directory / f"{name}.jsonl", rows)
            advance(len(rows))


def _answers(
    context: StageContext,
    loaded: LoadedModel,
    name: str,
    items: Sequence[Item],
    questions: Sequence[Question],
    batches: Sequence[list[int]],
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each batch."""
    from unierase_cli.inference.suites import answers_to

    config, suite = context.experiment.eval.general, load_suite(name)
    for batch in batches:
        rows = []
        answers = answers_to(loaded, [questions[i] for i in batch], config.max_new_tokens)
        for place, answer in zip(batch, answers, strict=True):
            row = {"suite": name, "place": place, **asdict(answer), "gold": items[place].gold}
            if hasattr(suite, "problem"):
                said = {"content": items[place].content, "output": answer.output}
                problem = suite.problem(said, config.compat) if answer.stop != TOO_LONG else None
                row |= _tried(problem, _limits(context))
            rows.append(row)
        yield rows


def _tried(problem: Mapping[str, str] | None, limits: Limits) -> dict[str, Any]:
    from unierase_cli.inference.sandbox.sandbox import run_tests

    if problem is None:
        return {"passed": False, "reason": "the answer contains no program"}
    try:
        verdict = run_tests(**problem, limits=limits)
    except UserError as error:
        # It got no process, perhaps for lack of memory. The sandbox worked before the first question, so the run
        # continues.
        return {"passed": None, "reason": error.message, "seconds": None}
    return {"passed": verdict.passed, "reason": verdict.reason, "seconds": verdict.seconds}


def _limits(context: StageContext) -> Limits:
    from unierase_cli.inference.sandbox.sandbox import Limits

    config = context.experiment.eval.general
    return Limits(COMPAT_CODE_SECONDS if config.compat else config.code_seconds, config.code_memory_mib)


def _run_task(context: StageContext, loaded: LoadedModel, task: str) -> None:
    """Run one task of lm-eval, unless an interrupted run finished it."""
    from unierase_cli.inference.lm_harness import run_task

    config, path = context.experiment.eval.general, _task_file(context.directory, task)
    if path.exists():
        return
    title = f"general {context.options['state']} lm-eval {task}"
    with context.reporter.phase(title):
        rows = run_task(
            loaded,
            task,
            folder=config.lm_eval_folder,
            shots=config.lm_eval_shots,
            rows=config.rows or None,
            batch_size=context.experiment.eval.batch_size,
        )
    for row in rows:
        if row.get("unavailable"):
            context.reporter.warn(f"lm-eval {task}: {row['unavailable']}")
    write_jsonl(path, rows)


def _task_file(directory: Path, task: str) -> Path:
    return directory / f"{LM_EVAL}{''.join(c if c.isalnum() or c in '_-' else '-' for c in task)}.jsonl"
