"""Stage ``observe_facts``: asks the model without each single fact in turn, loading it once.

``base.jsonl`` has the unedited model's answers to all rows. ``edited.jsonl`` has, for each forgotten fact, the answers
to it, to its paraphrase, to its neighbours and to far facts, as ``{"edited": fact id, "role", "observation"}``. After
each fact the weights are reverted bit-exactly. A killed run resumes after the last fact that is complete in the file.
Several processes share the facts; the files are the same as from a single process.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, Observation, UserError
from unierase_cli.pipeline.model_states import (
    load_base,
    model_fingerprints,
    model_needs,
    model_settings,
    protocol_settings,
)
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared.fact_rows import FACT, FactRows, fact_rows
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.jsonl import append_jsonl, iterate_jsonl, read_jsonl, write_jsonl
from unierase_cli.training import processes

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

NAME = "observe_facts"
VERSION = 3
BASE, EDITED = "base.jsonl", "edited.jsonl"
PARAPHRASE = "paraphrase"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run and asked; the fingerprint covers the rows."""
    return {"model": model_settings(study.experiment), "protocol": protocol_settings(study.experiment)}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return {**model_needs(study.experiment), "erase": Request("erase")}


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    rows = [[[role, fact.id, fact.row_hash] for role, fact in found.all()] for found in fact_rows(study)]
    return {**model_fingerprints(study.experiment), "rows": hash_json(rows)}


def run(context: StageContext) -> dict[str, Any]:
    """Ask the unedited model once, then the model without each fact; returns the number of rows asked."""
    experiment, reporter, folder = context.experiment, context.reporter, context.directory
    planned = fact_rows(context.study)
    loaded = load_base(experiment, context.inputs, reporter)
    if processes.rank() == 0 and not (folder / BASE).exists():
        with reporter.phase("observe base"):
            write_jsonl(folder / BASE, [o.to_json() for _, o in _observe(experiment, loaded, _once(planned))])
    done = processes.of_first(lambda: _whole(folder / EDITED, planned))
    left = planned[done:]
    with reporter.phase("observe facts"), reporter.progress("observe each fact", len(planned)) as advance:
        advance(done)
        mine = _without_each(context, loaded, processes.share(left))
        for rows, rowwise in processes.in_order(mine, len(left)):
            asked = [{"edited": rows.fact.id, "role": role, "observation": o.to_json()} for role, o in rowwise]
            append_jsonl(folder / EDITED, asked)
            advance()
    without = sum(not found.near for found in planned)
    if without:
        reporter.warn(f"{without} of {len(planned)} facts have no neighbour (no other fact of their group or subject)")
    return {"facts": len(planned), "rows": sum(_size(found) for found in planned), "without_neighbours": without}


def _without_each(
    context: StageContext, loaded: LoadedModel, planned: list[FactRows]
) -> Iterator[tuple[FactRows, list[tuple[str, Observation]]]]:
    """The answers to each fact's rows with only that fact's patch applied; the model is reverted at the end."""
    from unierase_cli.editing.patch import Patch
    from unierase_cli.editing.weights import AppliedPatch

    applied = AppliedPatch(loaded)
    # Reverting is bit-exact, so a tensor whose hash has matched once still matches.
    checked: dict[str, str] = {}
    for rows in planned:
        patch = Patch.load(context.inputs["erase"].whole, rows.step)
        hashes = {name: wanted for part in patch.parts for name, wanted in part.base_hashes.items()}
        applied.check({name: wanted for name, wanted in hashes.items() if checked.get(name) != wanted})
        checked |= hashes
        try:
            applied.add_patch(patch)
            yield rows, _observe(context.experiment, loaded, rows.all())
        finally:
            applied.revert()


def _observe(
    experiment: Experiment, loaded: LoadedModel, rows: list[tuple[str, Fact]]
) -> list[tuple[str, Observation]]:
    """Plain answers to every row in order, then paraphrased answers for the edited facts that have a paraphrase."""
    from unierase_cli.inference.observe import ask, observe, plan_batches

    found = []
    for variant, wanted in (("plain", rows), ("paraphrased", [row for row in rows if row[0] == FACT])):
        asked = ask(loaded, [fact for _, fact in wanted], variant, experiment.protocol)
        batches = plan_batches(asked, experiment.eval.batch_size, loaded.device.type)
        made = observe(loaded, asked, batches, split=FACT, variant=variant, protocol=experiment.protocol)
        said = {o.fact_id: o for batch in made for o in batch}
        named = {fact.id: role for role, fact in wanted}
        found += [(named[i] if variant == "plain" else PARAPHRASE, said[i]) for i in (row.fact.id for row in asked)]
    return found


def _once(planned: list[FactRows]) -> list[tuple[str, Fact]]:
    """Every row of all facts once; a row that is to be forgotten has the fact's role, so that its paraphrase is asked too."""
    rows: dict[str, tuple[str, Fact]] = {}
    for found in planned:
        for role, fact in found.all():
            if role == FACT or fact.id not in rows:
                rows[fact.id] = role, fact
    return list(rows.values())


def _size(rows: FactRows) -> int:
    return len(rows.all()) + (rows.fact.paraphrased_question is not None)


def _whole(path: Path, planned: list[FactRows]) -> int:
    """The number of facts that are complete in the file, in plan order; a partly written fact is removed."""
    if not path.exists():
        return 0
    rows = read_jsonl(path, torn_tail=True)
    ends = list(accumulate((_size(found) for found in planned), initial=0))
    done = max(count for count, end in enumerate(ends) if end <= len(rows))
    write_jsonl(path, rows[: ends[done]])
    return done


def read_facts(made: Artefact) -> tuple[dict[tuple[str, str], Observation], dict[str, list[tuple[str, Observation]]]]:
    """The unedited answers by (fact id, variant), and per forgotten fact the roles and answers of its rows.

    Raises UserError for a damaged file.
    """
    base: dict[tuple[str, str], Observation] = {}
    edited: dict[str, list[tuple[str, Observation]]] = {}
    for name in (BASE, EDITED):
        path = made.file(name)
        for number, row in iterate_jsonl(path):
            try:
                if name == BASE:
                    said = Observation.from_json(row)
                    base[said.fact_id, said.variant] = said
                else:
                    edited.setdefault(row["edited"], []).append((row["role"], Observation.from_json(row["observation"])))
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{path}:{number}: not an observation ({error})", "unierase eval --force") from error
    return base, edited
