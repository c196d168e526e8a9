"""Your own facts to forget, and optionally facts to retain, as JSON Lines.

A row has ``question`` and ``answer``, and may have ``id``, ``subject`` (a verbatim part of the question), ``group``
(what facts share, e.g. a person), ``paraphrased_question`` or ``paraphrases`` (a list), ``paraphrased_answer``,
``wrong_answers``, ``aliases`` (other spellings of the answer) and ``long_answer`` (the answer as a sentence, if
``answer`` is a word or two).
"""

from __future__ import annotations

from unierase_cli.benchmarks.parts.assemble import assemble
from unierase_cli.benchmarks.parts.known_facts import held_out
from unierase_cli.benchmarks.parts.neighbours import group_key
from unierase_cli.benchmarks.parts.prepared import prepared
from unierase_cli.benchmarks.parts.rows import fact_from_row, unknown_keys
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, duplicates
from unierase_cli.store.jsonl import iterate_jsonl


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark of ``config.path`` and ``config.retain_path``, or of the folder that ``unierase prepare`` made from
    them.

    Raises UserError with file and line of a malformed row.
    """
    if config.data_dir is not None:
        return prepared(config, config.data_dir)
    if config.path is None:
        raise UserError(
            "benchmark=jsonl needs a file of facts to forget",
            'set benchmark.path=my.jsonl with rows like {"question": "Who ...?", "answer": "..."}',
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
            "give every row of both files its own id, or leave the ids out",
        )
    unseen = held_out(retain, {group_key(fact) for fact in forget}, config.unseen_share, config.seed)
    return assemble(
        config, forget=forget, retain=retain, unseen=unseen, further_splits={}, training=[*forget, *retain], notes=notes
    )


def _facts(path: str, role: str, notes: list[str]) -> list[Fact]:
    lines = list(iterate_jsonl(path))
    unknown = unknown_keys([row for _, row in lines])
    if unknown:
        notes.append(f"{path}: unused keys: {', '.join(unknown)}")
    return [fact_from_row(row, f"{path}:{number}", f"{role}-{number:04d}") for number, row in lines]
