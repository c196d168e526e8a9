"""Stage ``attack``: one attack on one model: the edited one, the unedited one, one that never had the facts.

Every case of the attack (one of its settings) is a file of rows, and ``cases.json`` says which there are. The model is loaded once
for all of them; an interrupted attack goes on at its next case. Attacked weights are not kept.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.audit.base import ATTACKS, CEILING, CONTROL, Row, attack_settings
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.model_states import model_settings, protocol_settings
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.plugins import code_of
from unierase_cli.stages.shared import audited, audited_facts
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.json_text import read_as, write_json
from unierase_cli.store.jsonl import read_rows_as, write_jsonl

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

NAME = "attack"
VERSION = 1
CASES = "cases.json"
AGAIN = "unierase audit with --force makes it again"
# In place of a file's path, which does not matter.
BY_CONTENT = "a file"


@dataclass(frozen=True)
class Done:
    """A case that was run: its file, whether it is of a token, and what it cost."""

    name: str
    file: str
    token: bool
    without_token: str
    rows: int
    seconds: float


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run and asked, and the attack's settings; its batch size does not matter, nor where its files are."""
    experiment, name = study.experiment, options["attack"]
    settings = attack_settings(name, experiment.audit.settings.get(name, {}))
    return {
        "model": model_settings(experiment),
        "protocol": protocol_settings(experiment),
        "settings": {**settings, **dict.fromkeys(_files(name, settings), BY_CONTENT)},
        "version": ATTACKS.says(name, "VERSION", 1),
        "seed": experiment.audit.seed,
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    found = audited.needs_of(study.experiment, options["of"])
    for part in _beside(study, options):
        found |= audited.needs_of(study.experiment, part)
    return found


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The model's files, the facts in all their parts, the files that settings name, the attack's code and what it imports.

    Raises UserError for a setting that names no file.
    """
    experiment, name = study.experiment, options["attack"]
    rows = {
        "facts": audited_facts.asked(study, options["of"]),
        "kept": audited.kept(study),
        "material": audited.material(study),
        "forgotten": study.benchmark.forget,
        "never_trained": audited_facts.never_trained(study),
    }
    found = audited.fingerprints_of(experiment, options["of"])
    for part in _beside(study, options):
        found |= {f"{part} {key}": value for key, value in audited.fingerprints_of(experiment, part).items()}
    # A row's hash leaves its subject out, which some questions are made of.
    found["rows"] = hash_json({part: [[f.id, f.row_hash, f.group, f.subject] for f in facts] for part, facts in rows.items()})
    files = _files(name, attack_settings(name, experiment.audit.settings.get(name, {})))
    found |= {f"file {key}": hash_file(path) for key, path in files.items()}
    if ATTACKS.says(name, "ENTITIES", False) and experiment.audit.entities:
        found["entities"] = audited_facts.entities_hash(experiment)
    for package in ATTACKS.says(name, "PACKAGES", ()):
        found[f"package {package}"] = "absent" if importlib.util.find_spec(package) is None else "there"
    return {**found, **code_of("attack", ATTACKS, name)}


def _files(name: str, settings: Mapping[str, Any]) -> dict[str, Path]:
    """Setting -> the file that it names. Raises UserError where there is none."""
    found = {key: Path(settings[key]) for key in ATTACKS.says(name, "FILES", ()) if settings.get(key)}
    for key, path in found.items():
        if not path.is_file():
            raise UserError(f"audit.settings.{name}.{key}={path} is not a file", "check the path; it starts at the current folder")
    return found


def _beside(study: Study, options: dict[str, str]) -> list[str]:
    """Further models that the attack looks at."""
    models, wanted = audited.models_of(study.experiment), ATTACKS.says(options["attack"], "NEEDS", ())
    parts = [part for need, part in ((CONTROL, models.control), (CEILING, models.ceiling)) if need in wanted]
    return [part for part in parts if part is not None]


def run(context: StageContext) -> dict[str, Any]:
    """Run every case that is not there yet; the summary says how many rows each has and how long it took."""
    from unierase_cli.audit.base import load_attack

    experiment, name, of = context.experiment, context.options["attack"], context.options["of"]
    attack = load_attack(name)
    settings = attack_settings(name, experiment.audit.settings.get(name, {}))
    cases = list(attack.cases(settings))
    if not cases:
        raise UserError(f"audit.settings.{name} leaves {name} no case", "give each of its lists an entry, or leave the attack out")
    loaded = audited.load_part(experiment, of, context.inputs, context.reporter)
    cases = [case for case in cases if loaded.unlearn_ids or not case.token]
    done = _done(context)
    write_json(context.directory / CASES, [vars(entry) for entry in done])
    for case in cases:
        if case.name not in {entry.name for entry in done}:
            title = f"{name} on {of}: {case.name}"
            started = time.perf_counter()
            with context.reporter.phase(title):
                rows = list(attack.run(_target(context, loaded), case, settings))
            file = file_of(case.name)
            write_jsonl(context.directory / file, [asdict(row) for row in rows])
            seconds = round(time.perf_counter() - started, 3)
            done.append(Done(case.name, file, case.token, case.without_token, len(rows), seconds))
            write_json(context.directory / CASES, [vars(entry) for entry in done])
    return {"model": of, "seconds": {entry.name: entry.seconds for entry in done}, "rows": {e.name: e.rows for e in done}}


def _done(context: StageContext) -> list[Done]:
    """The cases that an interrupted run left whole."""
    path = context.directory / CASES
    return read_as(path, list[Done], AGAIN) if path.exists() else []


def _target(context: StageContext, loaded: LoadedModel) -> Any:
    from unierase_cli.audit.base import Target
    from unierase_cli.audit.mentions import entity_lines

    study, experiment = context.study, context.experiment
    models = audited.models_of(experiment)
    return Target(
        loaded,
        audited_facts.asked(study, context.options["of"]),
        audited.kept(study),
        audited.material(study),
        study.benchmark.forget,
        experiment.protocol,
        experiment.audit.seed,
        experiment.eval.batch_size,
        context.reporter,
        _loader(context, models.control),
        _loader(context, models.ceiling),
        entity_lines(experiment.audit.entities),
        audited_facts.never_trained(study),
    )


def _loader(context: StageContext, part: str | None) -> Callable[[], LoadedModel] | None:
    if part in (None, audited.CONTROL_FACTS):
        return None
    assert part is not None
    return lambda: audited.load_part(context.experiment, part, context.inputs, context.reporter)


def file_of(case: str) -> str:
    """The file of a case's rows."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in case.lower()) + ".jsonl"


def read_cases(artefact: Artefact) -> dict[str, Done]:
    """The cases of a finished attack by name. Raises UserError for a damaged one."""
    return {entry.name: entry for entry in read_as(artefact.file(CASES), list[Done], AGAIN)}


def read_rows(artefact: Artefact, case: Done) -> list[Row]:
    """The rows of a case."""
    return read_rows_as(artefact.file(case.file), Row, AGAIN)
