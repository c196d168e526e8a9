"""A finished run made once more from its manifests: every artefact of its chain with the configuration that was recorded for it,
in a new version beside the old one. What came out the same is the business of ``rerun_result``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.delivery.leaving import check_complete
from unierase_cli.pipeline.passed_over import flat
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request, load_stage
from unierase_cli.pipeline.stage_table import STAGES
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json
from unierase_cli.training import processes

# Where a name is that of several stages' artefacts, the run is the one that all others lead to.
ENDS = ("report", "precise", "trajectory", "score")
SHOWN = 4
# A manifest that names more threads was not written here.
MOST_THREADS = 4096


@dataclass(frozen=True)
class Repeated:
    """An artefact and its new version; ``now`` is ``then`` where it was not made again."""

    then: Artefact
    now: Artefact


def find_run(store: Store, word: str) -> Artefact:
    """The artefact that RUN means, of a name that several stages share the last one."""
    for stage in () if word == "latest" else ENDS:
        if store.list(stage):
            try:
                return store.resolve(word, stage)
            except UserError:
                continue
    return store.resolve(word)


@dataclass(frozen=True)
class Link:
    """An artefact of a chain and what it was made from, by name."""

    artefact: Artefact
    sources: dict[str, Link]


def chain(store: Store, run: Artefact) -> list[Link]:
    """All that the run was made from, inputs first, then the run. Raises UserError if some of it is gone, or for a comparison."""
    if run.stage not in STAGES:
        raise UserError(f"{run.full_name} is no run but a {run.stage}", "unierase rerun, with one of its runs")
    found: dict[Path, Link] = {}

    def visit(artefact: Artefact) -> Link:
        # An artefact may have been recorded under several spellings of its path.
        path = artefact.path.resolve()
        if path not in found:
            sources = {name: visit(source) for name, source in _sources(store, artefact).items()}
            found[path] = Link(artefact, sources)
        return found[path]

    visit(run)
    return list(found.values())


def repeat(
    store: Store, run: Artefact, reporter: Reporter, command: Sequence[str], since: str | None = None
) -> list[Repeated]:
    """Make the run again, inputs first; ``since``: from this stage on, what comes before is taken as it is.

    Each artefact is made with its own recorded configuration and number of threads. What of the data, the model or the code is
    no longer what it was is told before anything is made. Raises UserError for a damaged artefact, and for a stage that the run
    did not go through.
    """
    there = chain(store, run)
    for link in there:
        link.artefact.check()
    again = _made_again(there, since)
    # Most often all have one configuration, and then one pipeline, which says everything once.
    configured: dict[str, Pipeline] = {}
    pipelines: dict[int, Pipeline] = {}
    for link in again:
        artefact = link.artefact
        config = hash_json([artefact.config, artefact.manifest.get("overrides", [])])
        if config not in configured:
            configured[config] = _pipeline(store, artefact, reporter, command)
        pipelines[id(link)] = configured[config]
        for text in _changes(artefact, configured[config]):
            reporter.warn(text)
    seconds = sum(link.artefact.manifest.get("wall_seconds", 0.0) for link in again)
    reporter.note(f"repeating {len(again)} of {len(there)} artefacts, which took {seconds:.0f} s then")
    found: dict[int, Repeated] = {}
    for link in there:
        now = link.artefact
        if id(link) in pipelines:
            inputs = {name: found[id(source)].now for name, source in link.sources.items()}
            _use_threads(link.artefact)
            now = pipelines[id(link)].remake(_request(link.artefact), inputs)
        found[id(link)] = Repeated(link.artefact, now)
    return list(found.values())


def _sources(store: Store, artefact: Artefact) -> dict[str, Artefact]:
    """What an artefact was made from. Raises UserError if some of it is gone."""
    found = {}
    for name, source in store.inputs_of(artefact).items():
        if source is None:
            made, place = " ".join(artefact.manifest.get("command") or ["unierase run"]), artefact.manifest["inputs"][name]["path"]
            raise UserError(f"{artefact.full_name} cannot be repeated: its {name} is gone ({place})", made)
        found[name] = source
    return found


def _made_again(there: Sequence[Link], since: str | None) -> list[Link]:
    """What is made again: everything, or what is of a stage or was made from such."""
    if since is None:
        return list(there)
    wanted, stages = since.replace("-", "_"), list(dict.fromkeys(link.artefact.stage for link in there))
    if wanted not in stages:
        raise UserError(f"the run has no stage {since}", f"--from one of: {', '.join(stages)}")
    again: dict[int, Link] = {}
    for link in there:
        if link.artefact.stage == wanted or any(id(source) in again for source in link.sources.values()):
            again[id(link)] = link
    return list(again.values())


def _pipeline(store: Store, artefact: Artefact, reporter: Reporter, command: Sequence[str]) -> Pipeline:
    check_complete(artefact, "making it again")
    experiment = Experiment.from_json(artefact.config)
    here = replace(experiment, run=replace(experiment.run, outputs=str(store.root)))
    return Pipeline(here, reporter, command, artefact.manifest.get("overrides", []))


def _request(artefact: Artefact) -> Request:
    return Request(artefact.stage, tuple(sorted(artefact.manifest.get("options", {}).items())))


def _changes(then: Artefact, pipeline: Pipeline) -> list[str]:
    """What the artefact depends on that is no longer what it was, a sentence each."""
    first, second = then.manifest.get("fingerprints", {}), pipeline.fingerprints(_request(then))
    other = [name for name in dict.fromkeys([*first, *second]) if first.get(name) != second.get(name)]
    told = [f"{_request(then)}: {name} is not what it was when {then.full_name} was made" for name in other]
    version = load_stage(then.stage).VERSION
    if version != then.manifest.get("stage_version", version):
        before = then.manifest["stage_version"]
        told.append(f"{_request(then)}: the stage is at version {version}, {then.full_name} was made by version {before}")
    recorded = flat(then.config)
    later = [key for key in flat(asdict(pipeline.experiment)) if key not in recorded and not _within(key, recorded)]
    if later:
        more = f" and {len(later) - SHOWN} more" if len(later) > SHOWN else ""
        told.append(f"{_request(then)}: settings that came later have their defaults: {', '.join(later[:SHOWN])}{more}")
    return told


def _within(key: str, recorded: dict[str, Any]) -> bool:
    """Whether a part of the key was recorded as a value (an empty section)."""
    parts = key.split(".")
    return any(".".join(parts[:count]) in recorded for count in range(1, len(parts)))


def _use_threads(artefact: Artefact) -> None:
    """Work with as many threads as then: another number adds up in another order. A launcher's processes keep theirs."""
    threads = artefact.manifest.get("machine", {}).get("threads")
    if threads and 0 < threads <= MOST_THREADS and processes.world() == 1:
        import torch

        torch.set_num_threads(threads)
