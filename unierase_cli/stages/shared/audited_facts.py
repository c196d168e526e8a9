"""What a part's model is asked in an audit, beside the facts that are attacked: facts that it never knew, and where facts stand."""

from __future__ import annotations

from pathlib import Path

from unierase_cli.audit.base import group_of
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, UserError, evenly_spaced
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared.audited import CONTROL_FACTS, FACTS, attacked, models_of
from unierase_cli.store.hashing import hash_file

# TOFU's facts that no model has seen.
HOLDOUT = "holdout"


def asked(study: Study, of: str) -> tuple[Fact, ...]:
    """The facts that a part's model is asked. Raises UserError where no fact is known to be unknown, and these are the control."""
    return control_facts(study) if of == CONTROL_FACTS else attacked(study)


def control_facts(study: Study) -> tuple[Fact, ...]:
    """As many facts that no model knows as are attacked, evenly spaced. Raises UserError where there are none."""
    found = never_trained(study)
    if not found:
        raise UserError(
            f"audit.control={FACTS}: benchmark={study.experiment.benchmark.name} has no facts that the model never knew",
            "--control MODEL; or benchmark.data_dir=FOLDER of `unierase prepare`, which writes them",
        )
    return evenly_spaced(found, len(attacked(study)))


def never_trained(study: Study) -> tuple[Fact, ...]:
    """What the model was asked and does not know, or was never trained on; none of it is to be forgotten."""
    benchmark = study.benchmark
    found = benchmark.never_known or benchmark.splits.get(HOLDOUT, ())
    forgotten = {fact.content_hash for fact in benchmark.forget}
    return tuple(fact for fact in found if fact.content_hash not in forgotten)


def groups(study: Study) -> dict[str, str]:
    """Fact -> its group, of everything that any part's model is asked."""
    return {fact.id: group_of(fact) for of in models_of(study.experiment).all for fact in asked(study, of)}


def entities_hash(experiment: Experiment) -> str:
    """The content of ``audit.entities``; "" without a file. Raises UserError where it names none."""
    path = experiment.audit.entities
    if path is None:
        return ""
    if not Path(path).is_file():
        raise UserError(f"audit.entities={path} is not a file", "check the path; it starts at the current folder")
    return hash_file(Path(path))
