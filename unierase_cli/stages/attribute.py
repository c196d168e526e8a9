"""Stage ``attribute``: the weight of every answer token of the facts to forget, for ``unlearn.token_weights=attribution``.

Each answer is scored twice by the unedited model: after its question, and after the question with its subject masked.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from unierase_cli.benchmarks.parts.shown import hides_texts, texts_fingerprint
from unierase_cli.config.counted import counted
from unierase_cli.contracts import Fact
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.store.jsonl import write_jsonl

if TYPE_CHECKING:
    from unierase_cli.contracts import AnswerScore
    from unierase_cli.models.load import LoadedModel

NAME = "attribute"
VERSION = 1
# One row per fact: {"fact", "weights", "tokens", "falls", "entropies"}; a file for unlearn.token_weights=FILE too.
FILE, PAGE = "attribution.jsonl", "attribution.html"
DIGITS = 4


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run and prompted, and how weights are made."""
    return {"model": model_settings(study.experiment), "attribute": counted(study.experiment.attribute)}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return model_needs(study.experiment)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    experiment = study.experiment
    return {
        **model_fingerprints(experiment), "benchmark": study.benchmark.fingerprint, **texts_fingerprint(experiment.benchmark),
    }  # fmt: skip


def run(context: StageContext) -> dict[str, Any]:
    """Write the weights and a page with the answers coloured by them."""
    from unierase_cli.editing.subjects import find_subjects
    from unierase_cli.inference.logprobs import score_answers
    from unierase_cli.results.page.attribution_page import attribution_page
    from unierase_cli.training.unlearning.attribution import masked_question

    config, facts = context.experiment.attribute, context.study.benchmark.forget
    loaded = load_base(context.experiment, context.inputs, context.reporter)
    subjects = find_subjects(facts)
    masked = [masked_question(f.question, s, config.mask) for f, s in zip(facts, subjects, strict=True)]
    prompts = loaded.prompts
    answers = [prompts.answer_ids(fact.answer, style=fact.kind) for fact in facts]
    asked = [[fact.question for fact in facts], [question for question, _ in masked]]
    items = [
        (prompts.prompt(text, fact.kind).ids, ids)
        for texts in asked
        for text, fact, ids in zip(texts, facts, answers, strict=True)
    ]
    with context.reporter.progress("attributing answers", len(items)) as advance:
        scores = score_answers(loaded, items, batch_size=context.experiment.eval.batch_size, progress=advance)
    rows = [
        _row(loaded, context, fact, subject, *scored)
        for fact, subject, *scored in zip(facts, subjects, scores[: len(facts)], scores[len(facts) :], strict=True)
    ]
    without = sum(not there for _, there in masked)
    if without:
        context.reporter.note(f"attribute: {without} of {len(facts)} questions have no known subject and are masked as a whole")
    write_jsonl(context.directory / FILE, rows)
    title = f"Which tokens carry the facts: {context.study.benchmark.name}, {context.experiment.model.name}"
    hidden = hides_texts(context.experiment.benchmark)
    page = attribution_page(title, rows, None if hidden else [fact.question for fact in facts])
    (context.directory / PAGE).write_text(page, "utf-8")
    heavy = [max(row["weights"]) for row in rows]
    return {"facts": len(rows), "without_subject": without, "largest_weight": max(heavy), "mean_largest": sum(heavy) / len(heavy)}


def _row(
    loaded: LoadedModel, context: StageContext, fact: Fact, subject: str | None, whole: AnswerScore, hidden: AnswerScore
) -> dict[str, Any]:
    from unierase_cli.training.unlearning.attribution import copied, token_weights

    # An answer that does not fit the context with both prompts is weighted as far as it does.
    size = min(len(whole.token_ids), len(hidden.token_ids))
    falls = [a - b for a, b in zip(whole.log_probs[:size], hidden.log_probs[:size], strict=True)]
    for begin, end in copied(fact.answer, subject):
        first, last = loaded.prompts.answer_span(fact.answer, begin, end, style=fact.kind)[1]
        falls[first:last] = [0.0] * len(falls[first:last])
    entropies = [-mean for mean in hidden.mean_log_prob[:size]]
    weights = token_weights(falls, entropies, context.experiment.attribute)
    ids = loaded.prompts.answer_ids(fact.answer, style=fact.kind)
    weights += [1.0] * (len(ids) - size)
    numbers = {"weights": weights, "falls": falls, "entropies": entropies}
    return {"fact": fact.id, "tokens": _texts(loaded, ids), **{k: [round(v, DIGITS) for v in vs] for k, vs in numbers.items()}}


def _texts(loaded: LoadedModel, ids: list[int]) -> list[str]:
    """What each token adds to the decoded text."""
    grown = [str(loaded.tokenizer.decode(ids[:count])) for count in range(len(ids) + 1)]
    return [after[len(before) :] if after.startswith(before) else "" for before, after in pairwise(grown)]
