"""The rows asked after a step of a sequence: the step's own facts, those of earlier steps, and what should be kept.

After the last step most of them are also asked by the final evaluation; then its answers are used, so that nothing is
asked twice.
"""

from __future__ import annotations

from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.evaluation import SPLITS
from unierase_cli.contracts import Fact, UserError, duplicates, evenly_spaced
from unierase_cli.pipeline.stage import Request
from unierase_cli.pipeline.study import Study

FORGET, FORGOTTEN = "forget", "forgotten_before"
NOW, BEFORE = "forget_now", "forget_before"
KEPT = ("retain_unseen", "same_subject", "real_authors", "world_facts")
END = Request("observe", (("state", "edited"),))


def scored_splits(study: Study) -> dict[str, list[Fact]]:
    """The facts of each split to ask, at most ``protocol.rows`` per split.

    Raises UserError for a split that no benchmark has, and for a fact id that occurs twice in a split.
    """
    splits = study.benchmark.splits
    for name in study.experiment.eval.splits:
        # A list for several benchmarks may name splits that this one lacks; a name that no benchmark has is a typo.
        if name not in SPLITS:
            one_of("eval.splits", name, list(dict.fromkeys([*splits, *SPLITS])))
    # Facts that an earlier run made the model forget are always asked.
    wanted = [*(study.experiment.eval.splits or splits), FORGOTTEN]
    rows = study.experiment.protocol.rows_for(study.experiment.benchmark.name) or None
    found = {name: list(splits[name][:rows]) for name in splits if name in wanted and splits[name]}
    if not found:
        raise UserError("there is nothing to score: no split has a row", "choose others with eval.splits=[forget]")
    for name, facts in found.items():
        twice = duplicates(fact.id for fact in facts)
        if twice:
            raise UserError(f"split {name}: fact id {twice[0]} occurs twice", "give every fact an id of its own")
    return found


def step_splits(study: Study, index: int) -> dict[str, list[Fact]]:
    """The facts of each split to ask after step ``index``; empty splits are left out.

    ``protocol.rows`` takes the first rows of a split; ``eval.step_rows`` then takes evenly spaced ones of these.
    """
    found = _limited(study, asked_at_all(study, index))
    size = study.experiment.eval.step_rows
    return {name: list(evenly_spaced(facts, size)) if size else facts for name, facts in found.items()}


def asked_at_all(study: Study, index: int) -> dict[str, list[Fact]]:
    """``step_splits`` with no row limit except the benchmark's own: the population that the numbers represent."""
    splits, step = study.benchmark.splits, study.steps[index]
    scored = {fact.id: fact for fact in splits[FORGET]}
    found = {NOW: step.forget, BEFORE: step.forgotten_before}
    rows = {name: [scored[fact.id] for fact in facts if fact.id in scored] for name, facts in found.items()}
    wanted = study.experiment.eval.splits or list(splits)
    rows |= {name: list(splits[name]) for name in KEPT if name in splits and name in wanted}
    return {name: facts for name, facts in rows.items() if facts}


def step_requests(study: Study) -> dict[int, Request]:
    """Step -> the request whose answers describe the model after it: an observation of that step, or the final one."""
    last = len(study.steps) - 1
    return {
        index: END if index == last and _asked_at_the_end(study, index) else _after(index)
        for index in study.observed_steps
    }


def _after(index: int) -> Request:
    return Request("observe", (("state", "edited"), ("step", str(index))))


def _asked_at_the_end(study: Study, index: int) -> bool:
    end = {name: {fact.id for fact in facts} for name, facts in scored_splits(study).items()}
    wanted = step_splits(study, index)
    return all({f.id for f in facts} <= end.get(FORGET if n in (NOW, BEFORE) else n, set()) for n, facts in wanted.items())


def _limited(study: Study, rows: dict[str, list[Fact]]) -> dict[str, list[Fact]]:
    cap = study.experiment.protocol.rows_for(study.experiment.benchmark.name)
    return {name: facts[: cap or None] for name, facts in rows.items()}
