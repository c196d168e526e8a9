"""Closer-look's real people (Yuan et al., 2024, arXiv 2410.08109): twenty from RETURN to forget, twenty questions each.

A folder (``benchmark.data_dir``: data/real_world of their repository) holds forget, forget_perturbed, neighbor and
neighbor_perturbed. Every question has two answers. ``answer`` is long and in a model's own words: methods learn from
it, so that what the model says is unlearned (``benchmark.train_on=golden_answer`` uses the other). ``golden_answer`` is
RETURN's; every scored example has it. A forgotten fact and its scored version share an id but have different answers.
neighbor's twenty people are protected; ``retain_unseen`` are the twenty others of neighbor_perturbed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unierase_cli.benchmarks.parts.assemble import as_published, drop_asked
from unierase_cli.benchmarks.parts.rows import fact_from_row, read_text
from unierase_cli.benchmarks.parts.sources import Rows, folder_source
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, normalised

GOLDEN = "golden_answer"


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for missing files, rows without both answers, and files that do not match."""
    if config.data_dir is None:
        raise UserError(
            "benchmark=real_world needs the folder of its files: benchmark.data_dir=FOLDER",
            "use data/real_world of the repository closer-look-LLM-unlearning",
        )
    source = folder_source(config.data_dir)
    notes: list[str] = []
    forget = _facts(source("forget"), "forget", config.train_on)
    neighbours = _facts(source("neighbor"), "neighbor", config.train_on)
    unseen = _facts(source("neighbor_perturbed"), "neighbor-perturbed", GOLDEN)
    scored = _same_ids(_facts(source("forget_perturbed"), "forget-perturbed", GOLDEN), forget)
    protected = _same_ids(_facts(source("neighbor"), "neighbor", GOLDEN), neighbours)
    asked = {normalised(fact.question) for fact in forget}
    neighbours, unseen = (drop_asked(rows, asked, "neighbour", "a forget row", notes) for rows in (neighbours, unseen))
    shown = {normalised(fact.question) for fact in neighbours}
    return as_published(
        config,
        forget=forget,
        protect=neighbours,
        forget_splits={"forget": scored},
        protected=protected,
        unseen=drop_asked(unseen, shown, "scored neighbour", "a protected row", notes),
        notes=notes,
    )


def _facts(rows: Rows | None, slug: str, answer: str) -> list[Fact]:
    """A file's questions with one of their two answers, each with its person as the group."""
    facts = []
    for number, (where, row) in enumerate(rows or []):
        person = read_text(row, "name", where, required=True) or ""
        named = isinstance(row.get("question"), str) and person in row["question"]
        subject = person if named else None
        fact = fact_from_row(row, where, f"{slug}-{number:03d}", group=person, subject=subject, answer_key=answer)
        # Cosine similarity is computed with the model's own words, as in closer-look.
        facts.append(replace(fact, long_answer=read_text(row, "answer", where)) if answer == GOLDEN else fact)
    if not facts:
        raise UserError(f"real_world's {slug.replace('-', '_')} has no rows", "check benchmark.data_dir")
    return facts


def _same_ids(scored: Sequence[Fact], taught: Sequence[Fact]) -> list[Fact]:
    """The scored facts with the ids of the facts to learn from. Raises UserError for a question that none of these asks."""
    known: Mapping[tuple[str | None, str], Fact] = {(fact.group, normalised(fact.question)): fact for fact in taught}
    found = []
    for fact in scored:
        same = known.get((fact.group, normalised(fact.question)))
        if same is None:
            raise UserError(
                f"forget_perturbed has a question that is not in forget: {fact.question!r}",
                "the files of benchmark.data_dir must be of the same version",
            )
        found.append(replace(fact, id=same.id))
    return found
