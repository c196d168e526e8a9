"""Forget quality in a comparison: computed against the given retain-only run for scores that were made without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from msgspec import structs

from unierase_cli.contracts import Observation
from unierase_cli.metrics import forget_quality
from unierase_cli.metrics.base import FORGET, Reference
from unierase_cli.metrics.scores import BASE, EDITED
from unierase_cli.pipeline.observation_files import PLAN, Plan, read_pass
from unierase_cli.results.runs import ScoredRun, source_of
from unierase_cli.store.artefacts import Store

COLUMN = f"{FORGET}.{forget_quality.NAME}"


def with_forget_quality(store: Store, runs: Iterable[ScoredRun], references: Sequence[ScoredRun]) -> list[ScoredRun]:
    """The runs with forget quality, computed from their observations and a reference with the same seed, else the first reference.

    A run is unchanged if there are no references or its observations are gone.
    """
    known = {id(reference): _forget_rows(store, reference, "base") for reference in references}
    found = []
    for run in runs:
        twin = next((r for r in references if r.seed == run.seed), references[0] if references else None)
        rows = known[id(twin)] if twin is not None else []
        found.append(_measured(store, run, Reference({(FORGET, "plain"): rows})) if rows else run)
    return found


def _measured(store: Store, run: ScoredRun, reference: Reference) -> ScoredRun:
    states = dict(run.scores.states)
    for state in (BASE, EDITED):
        rows = _forget_rows(store, run, state) if run.number(state, COLUMN).value is None else []
        if rows:
            states[state] = {**states.get(state, {}), COLUMN: forget_quality.compute(rows, reference)}
    return replace(run, scores=structs.replace(run.scores, states=states))


def _forget_rows(store: Store, run: ScoredRun, state: str) -> list[Observation]:
    """Plain observations of the forget split; empty if they are gone. Raises UserError if they are damaged."""
    observed = source_of(store, run.score, state)
    if observed is None or not observed.has(PLAN):
        return []
    passes = Plan.load(observed.file(PLAN).parent).passes
    asked = next((p for p in passes if (p.split, p.variant) == (FORGET, "plain")), None)
    if asked is None or not observed.has(asked.file):
        return []
    return read_pass(observed.file(asked.file).parent, asked)
