"""MUSE (Shi et al., 2024, arXiv 2407.06460): news articles or books that a model was trained on, as whole texts.

From the hub (muse-bench/MUSE-News, or MUSE-Books with ``benchmark.split=books``) or a folder (CONFIGURATION/SPLIT.jsonl).
raw/forget is forgotten and raw/retain1 protected, in passages: plain text, which has no subjects. ``verbatim`` (verbmem) are
beginnings to be continued, ``forget_eval`` and ``retain_unseen`` (knowmem) questions after examples, ``member`` and ``nonmember``
(privleak) whole texts for membership. Scores: the metric ``muse``, with protocol=muse.
"""

from __future__ import annotations

from dataclasses import replace

from unierase_cli.benchmarks.parts.assemble import drop_asked, in_columns
from unierase_cli.benchmarks.parts.rows import completion, fact_from_row
from unierase_cli.benchmarks.parts.sources import Rows, any_source, required
from unierase_cli.benchmarks.parts.texts import passages, whole_text
from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, normalised

HUBS = {"news": "muse-bench/MUSE-News", "books": "muse-bench/MUSE-Books"}
EXAMPLE = "Question: {question}\nAnswer: {answer}\n\n"
ASKED = "Question: {question}\nAnswer: "


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown corpus, missing and empty files, and malformed rows."""
    one_of("benchmark.split", config.split, list(HUBS))
    notes: list[str] = []
    source = any_source(config, HUBS[config.split], reporter, notes)

    def texts(name: str) -> list[Fact]:
        slug = name.replace("/", "-")
        rows = enumerate(required(source, name, "text"))
        return [fact for number, (where, row) in rows for fact in passages(row, where, f"{slug}-{number:04d}")]

    def whole(name: str, role: str) -> list[Fact]:
        rows = enumerate(required(source, name, "text"))
        return [whole_text(row, where, f"{config.split}-{role}-{number:04d}") for number, (where, row) in rows]

    def asked(role: str) -> list[Fact]:
        shown = "".join(EXAMPLE.format(**row) for _, row in required(source, f"knowmem/{role}_qa_icl", "question", "answer"))
        return _after_examples(shown, required(source, f"knowmem/{role}_qa", "question", "answer"), role)

    verbatim = [
        completion(fact_from_row({"question": row["prompt"], "answer": row["gt"]}, where, f"verbatim-{number:04d}"))
        for number, (where, row) in enumerate(required(source, "verbmem/forget", "prompt", "gt"))
    ]
    forget = texts("raw/forget")
    begun = {normalised(fact.question) for fact in forget}
    return in_columns(
        config,
        forget=forget,
        protect=drop_asked(texts("raw/retain1"), begun, "retain", "a forget row", notes),
        near=[],
        unseen=asked("retain"),
        further_splits={
            "forget_eval": asked("forget"),
            "verbatim": verbatim,
            "member": whole("privleak/forget", "member"),
            "nonmember": whole("privleak/holdout", "nonmember"),
        },
        training=[],
        notes=notes,
    )


def _after_examples(shown: str, rows: Rows, role: str) -> list[Fact]:
    """The questions, each after the same examples, as plain text."""
    found = []
    for number, (where, row) in enumerate(rows):
        fact = fact_from_row(row, where, f"{role}-qa-{number:04d}")
        found.append(completion(replace(fact, question=shown + ASKED.format(question=fact.question))))
    return found
