"""Finds a benchmark by its file's name, and checks it.

A benchmark is a module in this folder (or an entry point of the group ``unierase.benchmarks``) with a function
``load(config: BenchmarkConfig, reporter: Reporter | None) -> Benchmark``. Helpers are in ``parts``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, cast

from unierase_cli.benchmarks.parts.forgotten import with_forgotten
from unierase_cli.benchmarks.parts.requested import as_scored, with_forget
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, duplicates, evenly_spaced, normalised
from unierase_cli.plugins import Plugins
from unierase_cli.store.hashing import hash_json
from unierase_cli.words import has_words

BENCHMARKS = Plugins("unierase_cli.benchmarks", "unierase.benchmarks", "benchmark=", "choice")
# Everything except the long answer, which only metrics read, so that artefacts older than long answers stay valid.
LEARNABLE = tuple(field.name for field in fields(Fact) if field.name != "long_answer")
# Between a fact's id and the number of another wording of it, which only the finetune stage sees.
SAME_FACT = "#"
Loader = Callable[[BenchmarkConfig, Reporter | None], Benchmark]


def load_benchmark(
    config: BenchmarkConfig,
    reporter: Reporter | None = None,
    forget: Sequence[str] | None = None,
    forgotten: Sequence[str] = (),
) -> Benchmark:
    """Load the benchmark that ``config`` names: checked, scored splits cut to ``config.rows``, with a fingerprint.

    The fingerprint is a sha256 over all facts in all roles, so that artefacts are never reused for other data.
    ``forget``: ids of the facts to forget, instead of the split's. ``forgotten``: hashes of what the model forgot
    before (``Fact.content_hash``). Raises UserError for an unknown name and for unusable data.
    """
    benchmark = _loader(config.implementation or config.name)(config, reporter)
    if forget is not None:
        benchmark = with_forget(benchmark, config, forget)
    benchmark = with_forgotten(benchmark, config, forgotten)
    check_benchmark(benchmark)
    benchmark = replace(benchmark, scored=as_scored(benchmark))
    notes = benchmark.notes
    if config.rows:
        splits = {name: evenly_spaced(rows, config.rows) for name, rows in benchmark.splits.items()}
        cut = [name for name, rows in benchmark.splits.items() if len(rows) > config.rows]
        if cut:
            notes = (*notes, f"benchmark.rows={config.rows}: at most that many examples are scored of {', '.join(cut)}")
        benchmark = replace(benchmark, splits=splits)
    if not benchmark.protect:
        notes = (*notes, "no retain rows: nothing is protected, and the cost of an edit elsewhere is not measured")
    notes = (*notes, *_wordless(benchmark))
    if reporter is not None:
        for note in notes:
            reporter.note(f"benchmark {benchmark.name}: {note}")
    return replace(benchmark, notes=notes, fingerprint=fingerprint(benchmark))


def _wordless(benchmark: Benchmark) -> list[str]:
    """A sentence about splits that ROUGE cannot judge, because an answer has no words."""
    found = {name: [fact for fact in facts if not has_words(fact.answer)] for name, facts in benchmark.splits.items()}
    found = {name: facts for name, facts in found.items() if facts}
    if not found:
        return []
    first = next(iter(found.values()))[0]
    where = ", ".join(f"{len(facts)} of {name}" for name, facts in found.items())
    return [
        f"answers without a word ({where}; the first is {first.id}: {first.answer!r}): ROUGE-based metrics are n/a there; "
        "answer in words, or leave these rows out"
    ]


def training_facts(benchmark: Benchmark, config: BenchmarkConfig, split: str) -> tuple[Fact, ...]:
    """What the finetune stage learns: everything (``full``), or all but the forget set (``retain`` or its TOFU name).

    For forget05 the TOFU name is retain95. Raises UserError for any other split.
    """
    if split == "full":
        return benchmark.training
    names = ["retain"]
    if config.split.startswith("forget") and config.split[6:].isdecimal():
        names.append(f"retain{100 - int(config.split[6:]):02d}")
    if split not in names:
        raise UserError(
            f"train.split={split} does not match benchmark.split={config.split}",
            f"choose one of: full, {', '.join(names)}",
        )
    # Other questions about what is forgotten would teach it (KnowUnDo), and so would the true facts of revealed ones.
    asked = [fact for name, facts in benchmark.splits.items() if name.startswith("forget") for fact in facts]
    forgotten = {fact.id for fact in (*benchmark.forget, *asked)}
    # A fact in other words has the fact's id in front of a mark (birthdays) and is neither retained nor scored.
    known = {fact.id for facts in (benchmark.protect, benchmark.outside, *benchmark.splits.values()) for fact in facts}

    def teaches(fact: Fact) -> bool:
        return fact.id in forgotten or (fact.id not in known and fact.id.rpartition(SAME_FACT)[0] in forgotten)

    return tuple(fact for fact in benchmark.training if not teaches(fact))


def check_benchmark(benchmark: Benchmark) -> None:
    """Raise UserError for an empty forget set, repeated ids, subjects not in their questions, and forget facts that are
    retained.
    """
    if not benchmark.forget:
        raise UserError(
            f"benchmark {benchmark.name}: the forget set is empty", "give at least one fact to forget, or another split"
        )
    roles = [
        ("forget", benchmark.forget),
        ("protect", benchmark.protect),
        ("training", benchmark.training),
        *benchmark.splits.items(),
    ]
    for role, facts in roles:
        repeated = duplicates(fact.id for fact in facts)
        if repeated:
            raise UserError(
                f"benchmark {benchmark.name}: {len(repeated)} repeated id(s) in {role}, the first is {repeated[0]!r}",
                "give every row its own id, or leave the ids out",
            )
        for fact in facts:
            if fact.subject is not None and fact.subject not in fact.question:
                raise UserError(
                    f"{role} {fact.id}: the subject {fact.subject!r} is not in the question {fact.question!r}",
                    "copy the subject verbatim from the question, or leave it out to have it found",
                )
    retain = [f for n, facts in benchmark.splits.items() if n.startswith("retain") for f in facts]
    check_overlap(benchmark.forget, [*benchmark.protect, *retain, *benchmark.outside])


def check_overlap(forget: Sequence[Fact], retain: Sequence[Fact]) -> None:
    """Raise UserError for a question (see ``normalised``) that is both to be forgotten and to be kept."""
    asked = {normalised(fact.question): fact for fact in forget}
    both = {normalised(f.question): f for f in reversed(retain) if normalised(f.question) in asked}
    if not both:
        return
    first, kept = next((asked[question], both[question]) for question in asked if question in both)
    raise UserError(
        f"{len(both)} question(s) are in the forget set and among the rows to keep, the first is "
        f"{first.question!r} ({first.id} and {kept.id})",
        "remove them from one of the two",
    )


def fingerprint(benchmark: Benchmark) -> str:
    """Sha256 of all facts in all roles, without notes and long answers: nothing is learned or edited from these."""
    roles = {
        "forget": benchmark.forget, "protect": benchmark.protect, "outside": benchmark.outside,
        "training": benchmark.training, "refused": benchmark.refused,
    }  # fmt: skip
    everything = {**{f"split {name}": rows for name, rows in benchmark.splits.items()}, **roles}
    return hash_json({role: [_learnable(fact) for fact in facts] for role, facts in everything.items()})


def _learnable(fact: Fact) -> dict[str, Any]:
    """Everything in a fact that can be learned; questions have no kind, as in artefacts older than plain text."""
    return {name: getattr(fact, name) for name in LEARNABLE if name != "kind" or fact.kind}


def _loader(name: str) -> Loader:
    """The ``load`` function of the module or entry point called ``name``."""
    found = BENCHMARKS.load(name)
    return cast(Loader, getattr(found, "load", found))
