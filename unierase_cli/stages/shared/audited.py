"""The models of an audit, what each is loaded from, and the facts that all of them are asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.audit.base import (
    ATTACKS,
    CEILING,
    CONTROL,
    PARAPHRASES,
    TOKEN,
    attack_settings,
    chosen_attacks,
    lacking,
)
from unierase_cli.benchmarks.parts.prepared import has_never_known
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, Reporter, UserError, evenly_spaced
from unierase_cli.methods.traits import changes_nothing
from unierase_cli.pipeline.model_states import load_base, load_edited, model_fingerprints, state_needs
from unierase_cli.pipeline.stage import Request
from unierase_cli.pipeline.study import Study, study_of
from unierase_cli.stages import finetune
from unierase_cli.stages.shared.same_section import same_section
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.model_folders import cached_file
from unierase_cli.store.unlearned import TOKENIZER, unlearning_tokens_in

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

BASE, EDITED = "base", "edited"
# What ``audit.control`` says, and the part's name: the unedited model, which is asked facts that it never knew.
FACTS, CONTROL_FACTS = "facts", "control_facts"
# Of a training: what the model is to learn, which differs, and what it is called.
NOT_COMPARED = ("split", "name")
KEPT = ("retain_unseen", "retain_protected")
WHY = {
    TOKEN: "the model has no unlearning token",
    PARAPHRASES: "no question is given in other words",
    CONTROL: "no model without these facts",
    CEILING: "no unedited model",
}


@dataclass(frozen=True)
class Models:
    """Which model plays which part, as the option ``of`` of stage ``attack`` names them; None where there is none."""

    unlearned: str
    control: str | None
    ceiling: str | None

    @property
    def all(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(name for name in (self.unlearned, self.control, self.ceiling) if name is not None))


def models_of(experiment: Experiment) -> Models:
    """The parts, from ``audit.control`` and ``audit.ceiling`` and from whether the method changes anything.

    A control or ceiling that is the run's own unedited model is that, so that nothing is asked twice.
    """
    edits, audit = not changes_nothing(experiment.method), experiment.audit
    ceiling = _part(experiment, CEILING, audit.ceiling) or (BASE if edits else None)
    control = CONTROL_FACTS if audit.control == FACTS else _part(experiment, CONTROL, audit.control)
    return Models(EDITED if edits else BASE, control, ceiling)


def _part(experiment: Experiment, name: str, path: str | None) -> str | None:
    return BASE if path is not None and _same_place(path, experiment.model.path) else None if path is None else name


def _same_place(one: str, other: str | None) -> bool:
    if other is None:
        return False
    return one == other or (Path(one).is_dir() and Path(other).is_dir() and Path(one).resolve() == Path(other).resolve())


def with_control(experiment: Experiment, reporter: Reporter) -> Experiment:
    """The experiment with ``audit.control`` settled: what was named, ``model.control``, a retain-only model that the finetune stage
    has made, facts that the model never knew in a prepared folder, or still null. Raises UserError for a named folder that is none.
    """
    audit = experiment.audit
    for key, path in (("control", audit.control), ("ceiling", audit.ceiling)):
        if path is not None and path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
            raise UserError(f"audit.{key}={path} is no folder", f"--{key} with a model's folder, its hub id, or a RUN")
    if audit.control is not None:
        return experiment
    found = _known_control(experiment) or _trained_control(experiment)
    if found is None and has_never_known(experiment.benchmark):
        reporter.note(
            "the control: facts that the unedited model never knew, because no model without the forgotten facts is available"
        )
        return replace(experiment, audit=replace(audit, control=FACTS))
    if found is None:
        return experiment
    reporter.note(f"the control, which never had these facts: {found} (audit.control)")
    return replace(experiment, audit=replace(audit, control=found))


def make_control(experiment: Experiment) -> str:
    """What to type where there is no control."""
    if experiment.model.path is None:
        return "unierase finetune train.split=retain with the same words makes one, which is then found"
    return "--control MODEL, the same model trained without what is to be forgotten"


def _known_control(experiment: Experiment) -> str | None:
    """What the model's preset says (``model.control``); None for a folder that is not there."""
    model, split = experiment.model, experiment.benchmark.split
    if model.control is None or model.path is None or experiment.mode.tasks is not None:
        return None
    share = split.removeprefix("forget")
    if "{retained}" in model.control and not share.isdecimal():
        return None
    found = model.control.format(path=model.path, retained=f"{100 - int(share):02d}" if share.isdecimal() else "")
    if not Path(model.path).is_dir():
        return found
    return str(Path(found).resolve()) if Path(found).is_dir() else None


def _trained_control(experiment: Experiment) -> str | None:
    """The newest model that was trained here like the experiment's, but on all of the benchmark's rows that should be kept.

    The rows themselves are compared (their fingerprint), because a file of the same name may have other ones by now.
    """
    if experiment.model.path is not None:
        return None
    rows: dict[str, str] = {}
    for artefact in reversed(Store(experiment.run.outputs).list(finetune.NAME)):
        config: dict[str, Any] = artefact.manifest.get("config", {})
        train, benchmark = config.get("train", {}), config.get("benchmark", {})
        split = str(train.get("split", ""))
        if (
            split.startswith("retain")
            and (benchmark.get("name"), benchmark.get("split")) == (experiment.benchmark.name, experiment.benchmark.split)
            and same_section(train, experiment.train, NOT_COMPARED)
            and config.get("model", {}).get("path") is None
            and config.get("run", {}).get("seed") == experiment.run.seed
        ):
            if split not in rows:
                trained = replace(experiment, train=replace(experiment.train, split=split))
                rows[split] = finetune.fingerprints(study_of(trained), {})[finetune.ROWS]
            if artefact.manifest.get("fingerprints", {}).get(finetune.ROWS) == rows[split]:
                return str(artefact.whole / "model")
    return None


def model_of(experiment: Experiment, of: str) -> str:
    """The part whose model a part is asked with: for control facts the unedited one."""
    models = models_of(experiment)
    return (models.ceiling or models.unlearned) if of == CONTROL_FACTS else of


def of_part(experiment: Experiment, of: str) -> Experiment:
    """The experiment whose unedited model is the one that plays a part."""
    path = {CONTROL: experiment.audit.control, CEILING: experiment.audit.ceiling}.get(of)
    return experiment if path is None else replace(experiment, model=replace(experiment.model, path=path, revision=None))


def needs_of(experiment: Experiment, of: str) -> dict[str, Request]:
    """What a part's model is loaded from, beside its files."""
    model = model_of(experiment, of)
    return state_needs(experiment, model) if model in (BASE, EDITED) else {}


def fingerprints_of(experiment: Experiment, of: str) -> dict[str, str]:
    return model_fingerprints(of_part(experiment, model_of(experiment, of)))


def load_part(experiment: Experiment, of: str, inputs: dict[str, Artefact], reporter: Reporter) -> LoadedModel:
    """The model that plays a part."""
    model = model_of(experiment, of)
    load = load_edited if model == EDITED else load_base
    return load(of_part(experiment, model), inputs if model in (BASE, EDITED) else {}, reporter)


def has_token(experiment: Experiment, of: str) -> bool:
    """Whether a part's model has an unlearning token, as far as that can be told before it is loaded.

    True of a hub model whose tokenizer is not in the cache: once loaded, a model without a token gives no rows of what needs one.
    """
    if of == EDITED and experiment.method.token:
        return True
    model = of_part(experiment, of).model
    if model.path is None:
        return False
    place = Path(model.path)
    if place.exists():
        return bool(unlearning_tokens_in(place))
    return _has_token_on_hub(model.path, model.revision)


# Once per process: what an audit is made of stays the same when loading the model fills the cache.
@cache
def _has_token_on_hub(name: str, revision: str | None) -> bool:
    tokenizer = cached_file(name, TOKENIZER, revision)
    return tokenizer is None or bool(unlearning_tokens_in(tokenizer.parent))


def attacked(study: Study) -> tuple[Fact, ...]:
    """The facts that are attacked, ``audit.facts`` at most. Raises UserError where none are to be forgotten."""
    facts = study.benchmark.splits.get("forget", study.benchmark.forget)
    most = study.experiment.audit.facts
    return evenly_spaced(facts, most) if most else tuple(facts)


def kept(study: Study) -> tuple[Fact, ...]:
    """Retained questions that are asked beside them: those that no method has seen, where there are any."""
    splits = study.benchmark.splits
    found = next((splits[name] for name in KEPT if splits.get(name)), ())
    return evenly_spaced(found, study.experiment.audit.kept)


def material(study: Study) -> tuple[Fact, ...]:
    """What an attacker may use: retained facts that are not asked."""
    asked = {fact.id for fact in kept(study)}
    return tuple(fact for fact in study.benchmark.protect if fact.id not in asked)


def chosen(study: Study) -> tuple[list[str], dict[str, str]]:
    """The attacks that are made, and of those that are asked for and cannot be made the reason.

    Raises UserError for an unknown attack or setting.
    """
    experiment = study.experiment
    for name, given in experiment.audit.settings.items():
        attack_settings(name, given)
    models = models_of(experiment)
    available = {
        TOKEN: has_token(experiment, models.unlearned),
        PARAPHRASES: any(fact.paraphrased_question for fact in attacked(study)),
        CONTROL: models.control not in (None, CONTROL_FACTS),
        CEILING: models.ceiling is not None,
    }
    there = [need for need, given in available.items() if given]
    made, left_out = [], {}
    for name in chosen_attacks(experiment.audit.attacks):
        settings = attack_settings(name, experiment.audit.settings.get(name, {}))
        files = [key for key in ATTACKS.says(name, "FILES", ()) if settings.get(key)]
        if missing := lacking(name, [*there, *files]):
            left_out[name] = "; ".join(WHY.get(need, f"audit.settings.{name}.{need} names no file") for need in missing)
        else:
            made.append(name)
    return made, left_out


def looked_at(name: str, models: Models) -> list[str]:
    """The models that an attack is made on: of one that compares by itself the unlearned one alone."""
    return [models.unlearned] if ATTACKS.says(name, "RELATIVE", False) else models.all
