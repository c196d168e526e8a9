"""Bring your own: facts to forget, and optionally facts to retain, as JSON Lines.

A row has ``question`` and ``answer``, and may have ``id``, ``subject`` (a part of the question, letter by letter), ``group``
(what facts share, e.g. a person), ``paraphrased_question``, ``paraphrased_answer``, ``wrong_answers`` and ``long_answer`` (the
answer as a sentence, where ``answer`` is a word or two).
"""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.benchmarks.parts.assemble import assemble
from unierase_cli.benchmarks.parts.neighbours import by_group, group_key
from unierase_cli.benchmarks.parts.rows import fact_from_row, unknown_keys
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, duplicates, stable_hash
from unierase_cli.store.jsonl import iterate_jsonl


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark of ``config.path`` and ``config.retain_path``; raises UserError naming file and line of a bad row."""
    if config.path is None:
        raise UserError(
            "benchmark=jsonl needs a file of facts to forget",
            'type benchmark.path=my.jsonl with rows like {"question": "Who ...?", "answer": "..."}',
        )
    notes: list[str] = []
    forget = _facts(config.path, "forget", notes)
    if not forget:
        raise UserError(
            f"{config.path}: the forget set is empty", "write at least one row with a question and an answer"
        )
    retain = _facts(config.retain_path, "retain", notes) if config.retain_path is not None else []
    repeated = duplicates(fact.id for fact in (*forget, *retain))
    if repeated:
        raise UserError(
            f"{config.path}: {len(repeated)} repeated id(s), the first is {repeated[0]!r}",
            "give every row of both files an id of its own, or leave the ids out",
        )
    unseen = _held_out(retain, {group_key(fact) for fact in forget}, config)
    return assemble(
        config, forget=forget, retain=retain, unseen=unseen, further_splits={}, training=[*forget, *retain], notes=notes
    )


def _facts(path: str, role: str, notes: list[str]) -> list[Fact]:
    lines = list(iterate_jsonl(path))
    unknown = unknown_keys([row for _, row in lines])
    if unknown:
        notes.append(f"{path}: keys that nothing reads: {', '.join(unknown)}")
    return [fact_from_row(row, f"{path}:{number}", f"{role}-{number:04d}") for number, row in lines]


def _held_out(retain: Sequence[Fact], forgotten: set[str], config: BenchmarkConfig) -> list[Fact]:
    """The rows of ``unseen_share`` of the groups, drawn by a stable hash; groups that are in part forgotten stay out of it."""
    keys = [key for key in by_group(retain) if key not in forgotten]
    keys.sort(key=lambda key: stable_hash(config.seed, "retain_unseen", key))
    chosen = set(keys[: round(len(keys) * config.unseen_share)])
    return [fact for fact in retain if group_key(fact) in chosen]
