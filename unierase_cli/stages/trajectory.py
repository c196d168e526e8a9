"""Stage ``trajectory``: forgetting and retention along a sequence of requests, from the observations after each step.

``steps.json`` is a ``metrics.scores.Trajectory``. ``forget_so_far`` of a step is the mean over its facts and all
earlier ones; if ``eval.step_rows`` limits the rows, the two parts are weighted by their full sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import defstruct

from unierase_cli.contracts import Measure, Observation, UserError
from unierase_cli.pipeline.asked_rows import BEFORE, END, FORGET, KEPT, NOW, asked_at_all, step_requests, step_splits
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.json_text import Finite, write_json

if TYPE_CHECKING:
    from unierase_cli.metrics.base import About, Compute, Evidence
    from unierase_cli.metrics.scores import Trajectory

NAME = "trajectory"
VERSION = 1
FILE, PICTURE = "steps.json", "trajectory.png"
SO_FAR = "forget_so_far"
UTILITY = "all.model_utility"
Rows = dict[str, list[Observation]]
# The fields of an edit's ``steps.jsonl`` that are used.
RECORD: Any = defstruct("Record", [("facts", list[Any]), ("changed_share", Finite | None, None)])


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The versions of the metrics, and the evaluated steps."""
    from unierase_cli.metrics import model_utility

    found = {about.name: about.version for split in (NOW, *KEPT) for about, _ in _measured(split)}
    return {"metrics": found | {model_utility.NAME: model_utility.VERSION}, "steps": study.experiment.eval.steps}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    """The scores before and at the end, whose answers are reused, and an observation for every other step."""
    found = {"score": Request("score"), "erase": Request("erase"), "base": Request("observe", (("state", "base"),))}
    return found | {_name(index): request for index, request in step_requests(study).items()}


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The rows that each step is judged by; those of the last step may be some of the rows asked at the end."""
    rows = [[[f.id for f in facts] for facts in step_splits(study, i).values()] for i in step_requests(study)]
    return {"rows": hash_json(rows)}


def run(context: StageContext) -> dict[str, Any]:
    """Write steps.json and its picture; the summary has the last step's numbers."""
    from unierase_cli.results.one_run.trajectory_picture import draw

    found = measure(context)
    write_json(context.directory / FILE, found.to_json())
    e = context.experiment
    draw(found, context.directory / PICTURE, title=f"{e.method.name}, {len(found.steps)} steps, {e.model.name}")
    return {"steps": len(found.steps), **{name: measure.value for name, measure in found.steps[-1].measures.items()}}


def measure(context: StageContext) -> Trajectory:
    """The content of ``steps.json``, from the inputs' files; raises UserError for a damaged one."""
    from unierase_cli.metrics.scores import AfterStep, Trajectory

    study = context.study
    base = _by_split(context, "base")
    records, times = _records(context)
    steps: list[AfterStep] = []
    for index, request in step_requests(study).items():
        observed = _by_split(context, _name(index), at_the_end=request == END)
        sizes = {name: len(facts) for name, facts in asked_at_all(study, index).items()}
        rows = _chosen(study, index, observed)
        steps.append(
            AfterStep(
                step=index + 1,
                facts=len(records[index].facts),
                forgotten_so_far=sum(len(record.facts) for record in records[: index + 1]),
                seconds=times.get(index),
                changed_share=records[index].changed_share,
                measures=_measures(rows, sizes),
                before=_measures(_chosen(study, index, base), sizes),
            )
        )
    # The kept rows are the same after every step; if they are limited, the values before are limited to them too.
    kept = _chosen(study, min(step_requests(study)), base)
    asked_for = {fact.id for step in study.steps for fact in step.forget}
    forgotten = [row for row in base.get(FORGET, []) if row.fact_id in asked_for]
    rows = {SO_FAR: forgotten, **{name: kept[name] for name in KEPT if name in kept}}
    before = _measures({name: found for name, found in rows.items() if found}, {})
    columns = list(dict.fromkeys([*(name for step in steps for name in step.measures), *before]))
    return Trajectory(columns=[_column(name) for name in columns], before=before, steps=steps)


def _name(index: int) -> str:
    return f"step_{index:03d}"


def _by_split(context: StageContext, name: str, at_the_end: bool = True) -> Rows:
    """Plain observations of an input by split; observations after a step have their forget rows merged."""
    from unierase_cli.pipeline.observation_files import read_state

    _, observations = read_state(context.inputs[name].whole)
    found = {split: list(rows) for (split, variant), rows in observations.items() if variant == "plain"}
    return found if at_the_end else {**found, FORGET: [*found.get(NOW, []), *found.get(BEFORE, [])]}


def _chosen(study: Study, index: int, observed: Rows) -> Rows:
    """The observations of the rows that a step is judged by; a split that lacks one is left out."""
    chosen: Rows = {}
    for name, facts in step_splits(study, index).items():
        known = {o.fact_id: o for o in observed.get(FORGET if name in (NOW, BEFORE) else name, ())}
        if all(fact.id in known for fact in facts):
            chosen[name] = [known[fact.id] for fact in facts]
    return chosen


def _measures(rows: Rows, sizes: Mapping[str, int]) -> dict[str, Measure]:
    """Every measure on every split, and model utility over its three splits."""
    from unierase_cli.metrics import model_utility
    from unierase_cli.metrics.base import Evidence

    evidence = Evidence("", {(split, "plain"): found for split, found in rows.items()})
    found: dict[str, Measure] = {}
    for split in rows:
        for about, compute in _measured(split):
            found[f"{split}.{about.name}"] = evidence.measure(about, compute, split)
    if NOW in rows:
        found |= _so_far(rows, sizes, evidence)
    if any(split in rows for split in KEPT):
        found[UTILITY] = model_utility.of_evidence(evidence)
    return found


def _so_far(rows: Rows, sizes: Mapping[str, int], evidence: Evidence) -> dict[str, Measure]:
    """Means over the step's facts and all earlier ones, with an interval if all of them were asked."""
    parts = [split for split in (NOW, BEFORE) if split in rows]
    whole = all(len(rows[split]) == sizes[split] for split in parts)
    total = sum(sizes[split] for split in parts)
    found = {}
    for about, compute in _measured(NOW):
        if whole:
            found[f"{SO_FAR}.{about.name}"] = compute([o for split in parts for o in rows[split]])
            continue
        measured = {split: evidence.measure(about, compute, split) for split in parts}
        reason = next((result.unavailable for result in measured.values() if result.value is None), None)
        if reason is not None:
            found[f"{SO_FAR}.{about.name}"] = Measure(unavailable=reason)
            continue
        value = sum((measured[split].value or 0.0) * sizes[split] / total for split in parts)
        found[f"{SO_FAR}.{about.name}"] = Measure(value=value, n=sum(len(rows[split]) for split in parts))
    return found


def _measured(split: str) -> Sequence[tuple[About, Compute]]:
    from unierase_cli.metrics import first_token_unlearn, probability, rouge
    from unierase_cli.metrics.base import OPTION_SPLITS

    likely: tuple[About, Compute] = (probability.ABOUT, probability.compute)
    if split in OPTION_SPLITS:
        likely = (probability.NORMALISED, probability.compute_normalised)
    found: list[tuple[About, Compute]] = [(rouge.ABOUT, rouge.compute), likely]
    return found if split in KEPT else [*found, (first_token_unlearn.ABOUT, first_token_unlearn.compute)]


def _column(name: str) -> dict[str, Any]:
    from unierase_cli.metrics import first_token_unlearn, model_utility, probability, rouge

    titles = {m.ABOUT.name: m.ABOUT.title for m in (rouge, probability, first_token_unlearn, model_utility)}
    titles[probability.NORMALISED.name] = probability.NORMALISED.title
    split, _, metric = name.partition(".")
    forgetting = split in (NOW, BEFORE, SO_FAR)
    return {"id": name, "title": titles[metric], "higher_is_better": (metric == first_token_unlearn.NAME) == forgetting}


def _records(context: StageContext) -> tuple[list[Any], dict[int, float]]:
    """The record of every patch, and the seconds that each step took (the last time it was made)."""
    from unierase_cli.stages.erase import STEPS, step_seconds
    from unierase_cli.store.jsonl import read_rows_as

    erased = context.inputs["erase"]
    records = read_rows_as(erased.file(STEPS), RECORD, "make the edit again with --force")
    if len(records) != len(context.study.steps):
        raise UserError(f"{erased.full_name} does not have {len(context.study.steps)} steps", "make the edit again with --force")
    return records, step_seconds(erased)
