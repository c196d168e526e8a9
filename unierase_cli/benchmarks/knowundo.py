"""KnowUnDo's privacy part (Tian et al., 2024, arXiv 2407.01920): private and public knowledge about the same fictional authors.

A folder (``benchmark.data_dir``) holds unlearn_train, unlearn_val, retention_train and retention_val. ``unlearn_train``
(addresses, parents, e-mail) is forgotten, ``forget_eval`` (unlearn_val) asks the same people other private questions.
``retention_train`` (public knowledge) is protected; ``same_subject`` (retention_val) is what is left of it: other public
questions about the people whose private data is forgotten. There is nobody else, so no split is never seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from unierase_cli.benchmarks.fictional import unknown_people
from unierase_cli.benchmarks.parts.assemble import as_published, drop_asked
from unierase_cli.benchmarks.parts.names import most_shared, shared_names
from unierase_cli.benchmarks.parts.people import Taken
from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.benchmarks.parts.sources import any_source, required
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, normalised

FILES = ("unlearn_train", "unlearn_val", "retention_train", "retention_val")
SAME_SUBJECT = "same_subject"


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for missing and empty files and malformed rows."""
    notes: list[str] = []
    source = any_source(config, None, reporter, notes)
    rows = {
        name: [fact_from_row(row, where, f"{name.replace('_', '-')}-{n}") for n, (where, row) in enumerate(required(source, name))]
        for name in FILES
    }
    names = shared_names(fact.question for facts in rows.values() for fact in facts)
    forget, forget_eval, protect, same = (_about(rows[name], names) for name in FILES)
    asked = {normalised(fact.question) for fact in (*forget, *forget_eval)}
    protect = drop_asked(protect, asked, "retention", "an unlearn row", notes)
    shown = {normalised(fact.question) for fact in protect}
    same = drop_asked(same, asked | shown, "scored retention", "another row", notes)
    made = as_published(
        config,
        forget=forget,
        protect=protect,
        forget_splits={"forget": forget, "forget_eval": forget_eval},
        protected=protect,
        unseen=(),
        notes=notes,
    )
    refused = unknown_people(config, Taken(names=set(names)))
    training = (*forget, *forget_eval, *protect, *same, *refused)
    return replace(made, splits={**made.splits, SAME_SUBJECT: tuple(same)}, training=training, refused=refused)


def _about(facts: Sequence[Fact], names: Counter[str]) -> list[Fact]:
    """The facts with their author as group and subject."""
    found = [(fact, most_shared(fact.question, names)) for fact in facts]
    return [replace(fact, group=fact.group or name, subject=fact.subject or name) for fact, name in found]
