"""The files that a finished run read: a relative path starts at the folder that the run was made in, which may be another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.pipeline.study import study_of
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.patch_files import read_record, steps_in
from unierase_cli.store.unlearned import FORGOTTEN

# Keys that name the benchmark's files.
OF_THE_BENCHMARK = ("benchmark.path", "benchmark.retain_path", "benchmark.data_dir", "mode.tasks")
# Characters of a hash that are shown.
SHOWN = 12


def changed(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with other values of some keys (``section.name``)."""
    for key, value in changes.items():
        section, _, name = key.partition(".")
        experiment = replace(experiment, **{section: replace(getattr(experiment, section), **{name: value})})
    return experiment


def value_of(experiment: Experiment, key: str) -> Any:
    """The value of a key (``section.name``)."""
    section, _, name = key.partition(".")
    return getattr(getattr(experiment, section), name)


def where_made(artefact: Artefact, name: str) -> str:
    """The path that a run recorded as ``name``, seen from its outputs folder, which may have been moved with its surroundings."""
    above = artefact.path.absolute().parents
    if Path(name).is_absolute() or len(above) < 4:
        return name
    root, outputs = above[2], artefact.config["run"].get("outputs", "outputs")
    place = os.path.normpath(root.parent / name if Path(outputs).is_absolute() else root / os.path.relpath(name, outputs))
    return name if place == os.path.abspath(name) else place


def same_file(
    artefact: Artefact, key: str, name: str, read: Callable[[str], Mapping[str, str]], reporter: Reporter
) -> str:
    """The path of a file with the content that the run read: where it was made, or else as its configuration names it.

    ``read``: a path's fingerprints, as the run's manifest has them; a manifest without them fits any file. Raises UserError
    where no file fits, since a file of that name in the current folder may be another run's.
    """
    recorded = artefact.manifest.get("fingerprints", {})
    found: list[str] = []
    missing: list[UserError] = []
    for place in dict.fromkeys([where_made(artefact, name), name]):
        try:
            now = read(place)
        except UserError as error:
            missing.append(error)
            continue
        other = [part for part, value in now.items() if recorded.get(part, value) != value]
        if not other:
            if place != name:
                reporter.note(f"{key}={name} is {place}, where {artefact.full_name} was made")
            return place
        found.append(f"{place} ({other[0]} {now[other[0]][:SHOWN]}, recorded {recorded[other[0]][:SHOWN]})")
    if not found:
        raise missing[-1]
    raise UserError(
        f"{key}={name} is another file than {artefact.full_name} was made with: {' and '.join(found)}",
        f"give the file: {key}=PATH",
    )


def benchmark_places(artefact: Artefact, experiment: Experiment) -> list[Experiment]:
    """The experiment with the benchmark's files from where the artefact was made, and as they are named; empty without files."""
    named = {key: value for key in OF_THE_BENCHMARK if (value := value_of(experiment, key)) and not Path(value).is_absolute()}
    there = {key: where_made(artefact, value) for key, value in named.items()}
    return [changed(experiment, there), experiment][there == named :] if named else []


def own_benchmark(artefact: Artefact, experiment: Experiment, reporter: Reporter) -> Experiment:
    """The experiment with the benchmark's files from where its erase artefact was made, or else as they are named.

    The same facts are preferred; a change that leaves those to forget is told. Raises UserError where no file has these.
    """
    places = benchmark_places(artefact, experiment)
    if not places:
        return experiment
    forgotten = {
        mark for step in steps_in(artefact.whole) for mark in read_record(artefact.whole, step).info.get(FORGOTTEN, ())
    }
    alike: list[Experiment] = []
    failed: list[UserError] = []
    for one in places:
        try:
            benchmark = study_of(one).benchmark
        except UserError as error:
            failed.append(error)
            continue
        if benchmark.fingerprint == artefact.manifest.get("fingerprints", {}).get("benchmark"):
            return one
        if forgotten <= {fact.content_hash for fact in benchmark.forget}:
            alike.append(one)
    if alike:
        reporter.warn(f"the benchmark has changed since {artefact.full_name} was made")
        return alike[0]
    if len(failed) == len(places):
        raise failed[-1]
    told = " ".join(f"{key}={value}" for key in OF_THE_BENCHMARK if (value := value_of(experiment, key)))
    raise UserError(
        f"{told} does not have the facts that {artefact.full_name} forgot",
        "type the command in the folder that the run was made in",
    )
