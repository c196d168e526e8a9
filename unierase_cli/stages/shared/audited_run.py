"""A finished run as it is audited: its own artefacts and configuration, and the models that words name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.audit import AuditConfig, VerdictConfig
from unierase_cli.contracts import UserError
from unierase_cli.methods.traits import changes_nothing
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

# Stages whose artefacts have the name of a run, and lead to its model.
LEADING = ("erase", "score", "report")


def find_model(store: Store, word: str) -> Artefact:
    """The artefact that a word means: of a name that several stages share, and of ``latest``, one that leads to a model; of a name
    without a version the newest.

    Raises UserError for none.
    """
    found = []
    for stage in LEADING:
        with suppress(UserError):
            found.append(store.resolve(word, stage))
    if word == "latest" and found:
        return max(found, key=lambda artefact: artefact.order)
    if found:
        return found[0]
    for stage in LEADING:
        versions = [made for made in store.list(stage) if word in (made.path.parent.name, f"{stage}/{made.path.parent.name}")]
        if versions:
            return max(versions, key=lambda artefact: artefact.order)
    return store.resolve(word)


def made_of(store: Store, run: Artefact) -> dict[str, Artefact]:
    """The artefacts that a run leads to, by stage, the erase artefact among them. Raises UserError where there is none."""
    found: dict[str, Artefact] = {}
    left = [run]
    while left:
        artefact = left.pop()
        found.setdefault(artefact.stage, artefact)
        left += [source for source in store.inputs_of(artefact).values() if source is not None]
    if "erase" not in found:
        hint = "unierase audit model.path=FOLDER audits a model as it is"
        raise UserError(f"{run.full_name} leads to no model that something was erased from", hint)
    return found


def as_recorded(found: dict[str, Artefact], typed: Experiment, words: Sequence[str]) -> Experiment:
    """The run's experiment, with what the command line says of the audit and of the run.

    ``typed``: what was composed of ``words``, which say what of it somebody typed. Where the run erased nothing its model is its
    own ceiling.
    """
    recorded = Experiment.from_json(found["erase"].config)
    keys = {word.lstrip("+").partition("=")[0] for word in words}
    run = replace(typed.run, seed=recorded.run.seed, threads=typed.run.threads or recorded.run.threads)
    run = run if "run.device" in keys else replace(run, device=recorded.run.device)
    audit = _settled(recorded.audit, typed.audit, keys)
    if audit.ceiling is None and changes_nothing(recorded.method):
        audit = replace(audit, ceiling=unedited(found))
    return replace(recorded, audit=audit, run=run)


def _settled(recorded: AuditConfig, typed: AuditConfig, keys: Collection[str]) -> AuditConfig:
    """The run's own section with what was typed in its place: its experiment may have settings of attacks that suit its model.

    A typed key counts whatever its value; what a chosen yaml says (``audit=NAME``) counts where it is not the default.
    """
    both = dict.fromkeys([*recorded.settings, *typed.settings])
    settings = {name: {**recorded.settings.get(name, {}), **typed.settings.get(name, {})} for name in both}
    verdict = replace(recorded.verdict, **_changes(typed.verdict, VerdictConfig(), "audit.verdict", keys))
    changes = {**_changes(typed, AuditConfig(), "audit", keys), "name": typed.name, "attacks": typed.attacks}
    return replace(recorded, **{**changes, "settings": settings, "verdict": verdict})


def _changes(typed: AuditConfig | VerdictConfig, usual: object, section: str, keys: Collection[str]) -> dict[str, Any]:
    found = {f.name: getattr(typed, f.name) for f in fields(typed)}
    return {n: value for n, value in found.items() if f"{section}.{n}" in keys or value != getattr(usual, n)}


def unedited(found: dict[str, Artefact]) -> str:
    """The folder or hub id of a run's model before anything was erased."""
    if "finetune" in found:
        return str(found["finetune"].whole / "model")
    return str(found["erase"].config["model"]["path"])


def named_model(store: Store, word: str, option: str) -> str:
    """The model that a word means: a folder, the unedited model of a run, or a hub id. Raises UserError for none of them."""
    if (Path(word).expanduser() / "config.json").is_file():
        return str(Path(word).expanduser())
    try:
        artefact = find_model(store, word)
    except UserError:
        if word.count("/") == 1 and not word.startswith((".", "/", "~")):
            return word
        raise
    if artefact.stage == "finetune":
        return str(artefact.whole / "model")
    found = made_of(store, artefact)
    if not changes_nothing(Experiment.from_json(found["erase"].config).method):
        raise UserError(
            f"{option} {word} is a run that erased something",
            "name a model, or a run with method=none; `unierase export` writes one",
        )
    return unedited(found)
