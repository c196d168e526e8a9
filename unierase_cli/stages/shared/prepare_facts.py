"""Divides the facts that a model knows into facts to forget and to keep.

``benchmark=world`` and ``benchmark=jsonl`` read the resulting folder with ``benchmark.data_dir=...``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from unierase_cli.benchmarks.parts.askable import askable_rows, by_group
from unierase_cli.benchmarks.parts.known_facts import share_out
from unierase_cli.benchmarks.parts.prepared import write_prepared
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import BuiltFor, UserError
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.stages.shared.asking import ANSWERS
from unierase_cli.stages.shared.question_rows import question_rows
from unierase_cli.store.jsonl import read_jsonl


def prepare_facts(context: StageContext, built_for: BuiltFor) -> dict[str, Any]:
    """Choose the facts that the recorded answers show as known, divide them, and write them with the model that they are for.

    Raises UserError if the model knows none of the facts, or no more than are to be forgotten.
    """
    experiment, wanted, config = context.experiment, context.experiment.prepare, context.experiment.benchmark
    every = askable_rows(question_rows(context.study), [])
    answers = read_jsonl(context.inputs["ask"].file(ANSWERS))
    said = {row["id"]: row["said"] for row in answers if not row["phrasing"]}
    as_asked = {row["id"] for row in answers if not row["phrasing"] and row["right"]}
    times = Counter(row["id"] for row in answers if row["right"])
    known = [a for a in every if a.fact.id in as_asked and times[a.fact.id] >= min(wanted.min_right, len(a.phrasings))]
    context.reporter.note(f"the model knows {len(known)} of {len(every)} facts")
    shared = share_out(
        [a.fact for a in known],
        count=_count(experiment, len(known), len(every)),
        groups=wanted.groups,
        unseen_share=config.unseen_share,
        near_groups=config.near_authors,
        seed=config.seed,
    )
    if not (shared.protect or shared.near or shared.unseen):
        raise UserError(f"prepare.groups={wanted.groups} leaves none of the {len(known)} known facts to keep", "name fewer groups")
    rows = {a.fact.id: {**a.row, "said": said[a.fact.id], "right": times[a.fact.id]} for a in known}
    never_known = [{**a.row, "said": said[a.fact.id]} for a in every if a.fact.id not in as_asked]
    write_prepared(context.directory, shared, rows, never_known, built_for)
    name = config.name if config.name == "world" else "jsonl"
    context.reporter.note(f"to use it: benchmark={name} benchmark.data_dir={context.directory}")
    return {
        "asked": len(every),
        "right_as_asked": len(as_asked),
        "known": len(known),
        "forget": len(shared.forget),
        "protected": len(shared.protect),
        "neighbours": len(shared.near),
        "never_seen": len(shared.unseen),
        "never_known": len(never_known),
        "knows": by_group(every, known),
    }


def _count(experiment: Experiment, known: int, asked: int) -> int:
    """The number of facts to forget; raises UserError if nothing would be left to forget or to keep."""
    wanted = experiment.prepare
    if not known:
        raise UserError(
            f"0 of {asked} answered right: nothing to forget",
            "use a larger model, or questions that it knows; answers.jsonl of the ask stage has its answers",
        )
    count = round(wanted.forget * known) if wanted.forget < 1 else int(wanted.forget)
    if not wanted.groups and count >= known:
        raise UserError(
            f"{known} of {asked} answered right, and prepare.forget={wanted.forget:g} leaves none of them to keep",
            f"type for example prepare.forget={max(1, known // 4)}, or prepare.min_right=1",
        )
    return max(1, count)
