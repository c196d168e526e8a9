"""Numbers that compare with a retain-only model, for scores that were made without one: forget quality and MIA.

They are computed from the recorded observations of the run and of a given retain-only run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics import forget_quality, overall_uds
from unierase_cli.metrics.base import FORGET, Evidence, Reference
from unierase_cli.metrics.membership import HOLDOUT
from unierase_cli.metrics.scores import BASE, EDITED
from unierase_cli.pipeline.observation_files import PLAN, Plan, read_pass
from unierase_cli.results.runs import ScoredRun, source_of
from unierase_cli.store.artefacts import Store

FORGET_QUALITY = f"{FORGET}.{forget_quality.NAME}"
MIA = f"{FORGET}.{overall_uds.MIA.name}"
Rows = Mapping[tuple[str, str], list[Observation]]


def against_retain(store: Store, runs: Iterable[ScoredRun], references: Sequence[ScoredRun]) -> list[ScoredRun]:
    """The runs with these numbers, against the reference with the same seed, else the first reference.

    A run is unchanged if there are no references or its observations are gone.
    """
    known = {id(reference): _rows(store, reference, BASE) for reference in references}
    found = []
    for run in runs:
        twin = next((r for r in references if r.seed == run.seed), references[0] if references else None)
        rows = known[id(twin)] if twin is not None else {}
        found.append(_measured(store, run, Reference(rows)) if rows.get((FORGET, "plain")) else run)
    return found


def _measured(store: Store, run: ScoredRun, reference: Reference) -> ScoredRun:
    states = dict(run.scores.states)
    for state in (BASE, EDITED):
        lacking = [column for column in (FORGET_QUALITY, MIA) if run.number(state, column).value is None]
        rows = _rows(store, run, state) if lacking else {}
        if rows.get((FORGET, "plain")):
            evidence = Evidence(state, rows, reference=reference)
            states[state] = {**states.get(state, {}), **{column: _number(column, evidence) for column in lacking}}
    return replace(run, scores=structs.replace(run.scores, states=states))


def _number(column: str, evidence: Evidence) -> Measure:
    if column == MIA:
        return overall_uds.mia_of(evidence)
    return forget_quality.compute(evidence.rows(FORGET), evidence.reference)


def _rows(store: Store, run: ScoredRun, state: str) -> Rows:
    """Plain observations of the forget and holdout splits, as far as they are there. Raises UserError if they are damaged."""
    observed = source_of(store, run.score, state)
    if observed is None or not observed.has(PLAN):
        return {}
    passes = Plan.load(observed.file(PLAN).parent).passes
    wanted = [p for p in passes if p.split in (FORGET, HOLDOUT) and p.variant == "plain" and observed.has(p.file)]
    return {(p.split, p.variant): read_pass(observed.file(p.file).parent, p) for p in wanted}
