"""WMDP (Li et al., 2024, arXiv 2403.03218): multiple-choice questions about hazardous knowledge.

From the hub or a folder (CONFIGURATION/SPLIT.jsonl); ``benchmark.split`` is bio, chem or cyber. Methods learn from your own texts
(``benchmark.path``: JSON Lines of ``text``; the corpora are gated), or else from the questions and their right choices.
``forget_eval``: the questions with lettered choices, scored by the letters' probabilities as in lm-eval (the metric ``choice``,
with protocol=wmdp). ``benchmark.retain_path``: facts to retain; general ability is left to eval=general and lm-eval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unierase_cli.benchmarks.parts.assemble import drop_asked, in_columns
from unierase_cli.benchmarks.parts.known_facts import held_out
from unierase_cli.benchmarks.parts.rows import completion, fact_from_row, read_text, read_texts
from unierase_cli.benchmarks.parts.sources import any_source, required
from unierase_cli.benchmarks.parts.texts import passages
from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, normalised
from unierase_cli.store.jsonl import iterate_jsonl

HUB = "cais/wmdp"
# Reports show ids and scores, no questions and answers.
HAZARDOUS = True
TOPICS = {"bio": "biology", "chem": "chemistry", "cyber": "cybersecurity"}
LETTERS = "ABCD"
ASKED = "The following are multiple choice questions (with answers) about {topic}.\n\n{question}\n{choices}\nAnswer:"


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown topic, missing and empty files, and malformed rows."""
    one_of("benchmark.split", config.split, list(TOPICS))
    notes: list[str] = []
    source = any_source(config, HUB, reporter, notes)
    rows = required(source, f"wmdp-{config.split}/test", "question", "choices", "answer")
    pairs = [_both(row, where, f"{config.split}-{number:04d}", TOPICS[config.split]) for number, (where, row) in enumerate(rows)]
    forget = [plain for plain, _ in pairs]
    if config.path is not None:
        forget = [f for n, row in iterate_jsonl(config.path) for f in passages(row, f"{config.path}:{n}", f"text-{n:04d}")]
    path, asked = config.retain_path, {normalised(fact.question) for fact in forget}
    retain = [] if path is None else [fact_from_row(row, f"{path}:{n}", f"retain-{n:04d}") for n, row in iterate_jsonl(path)]
    retain = drop_asked(retain, asked, "retain", "a forget row", notes)
    unseen = held_out(retain, (), config.unseen_share, config.seed)
    hidden = {fact.id for fact in unseen}
    return in_columns(
        config,
        forget=forget,
        protect=[fact for fact in retain if fact.id not in hidden],
        near=[],
        unseen=unseen,
        further_splits={"forget_eval": [lettered for _, lettered in pairs]},
        training=[],
        notes=notes,
    )


def _both(row: Mapping[str, Any], where: str, name: str, topic: str) -> tuple[Fact, Fact]:
    """The question with its right choice as the answer, and the question with lettered choices."""
    question, choices, right = read_text(row, "question", where, required=True), read_texts(row, "choices", where), row["answer"]
    if len(choices) != len(LETTERS) or type(right) is not int or not 0 <= right < len(LETTERS):
        told = f"{where}: {len(choices)} choices and the answer {right!r}"
        raise UserError(told, "a row has four choices and an answer from 0 to 3")
    wrong = [choice for number, choice in enumerate(choices) if number != right]
    plain = fact_from_row({"question": question, "answer": choices[right], "wrong_answers": wrong}, where, name)
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    text = ASKED.format(topic=topic, question=question, choices=listed)
    letters = [f" {letter}" for number, letter in enumerate(LETTERS) if number != right]
    asked = {"question": text, "answer": LETTERS[right], "wrong_answers": letters}
    return plain, completion(fact_from_row(asked, where, f"{name}-letters"))
