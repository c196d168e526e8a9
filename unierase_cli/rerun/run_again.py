"""Makes a finished run again from its manifests: every artefact of its chain with its recorded configuration, as a new version.

``rerun.verdict`` compares the results.
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

# A name may belong to artefacts of several stages; the run is then the one that comes last in the chain.
ENDS = ("report", "precise", "trajectory", "score")
SHOWN = 4
# More threads in a manifest than this are not plausible.
MOST_THREADS = 4096


@dataclass(frozen=True)
class Repeated:
    """An artefact and its new version; ``now`` is ``then`` if it was not made again."""

    then: Artefact
    now: Artefact


def find_run(store: Store, word: str) -> Artefact:
    """The artefact that RUN names; of several stages with that name, the last one."""
    for stage in () if word == "latest" else ENDS:
        if store.list(stage):
            try:
                return store.resolve(word, stage)
            except UserError:
                continue
    return store.resolve(word)


@dataclass(frozen=True)
class Link:
    """An artefact of a chain, and the links that it was made from by name."""

    artefact: Artefact
    sources: dict[str, Link]


def chain(store: Store, run: Artefact) -> list[Link]:
    """Everything that the run was made from, inputs first, then the run; raises UserError if part is gone, or for a comparison."""
    if run.stage not in STAGES:
        raise UserError(f"{run.full_name} is not a run but a {run.stage}", "unierase rerun, with one of its runs")
    found: dict[Path, Link] = {}

    def visit(artefact: Artefact) -> Link:
        # An artefact may have been recorded with different spellings of its path.
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
    """Make the run again, inputs first; with ``since`` only from that stage on.

    Each artefact is made with its recorded configuration and number of threads. Changes of data, models or code are
    reported before anything is made. Raises UserError for a damaged artefact, and for a stage that is not in the run's
    chain.
    """
    there = chain(store, run)
    for link in there:
        link.artefact.check()
    again = _made_again(there, since)
    # Artefacts with the same configuration share a pipeline, which then reports everything once.
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
    reporter.note(f"repeating {len(again)} of {len(there)} artefacts, which took {seconds:.0f} s before")
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
    """The inputs of an artefact; raises UserError if one is gone."""
    found = {}
    for name, source in store.inputs_of(artefact).items():
        if source is None:
            made, place = " ".join(artefact.manifest.get("command") or ["unierase run"]), artefact.manifest["inputs"][name]["path"]
            raise UserError(f"{artefact.full_name} cannot be repeated: its {name} is gone ({place})", made)
        found[name] = source
    return found


def _made_again(there: Sequence[Link], since: str | None) -> list[Link]:
    """The links to make again: all, or those of a stage and everything made from them."""
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
    """One sentence for each dependency of the artefact that has changed."""
    first, second = then.manifest.get("fingerprints", {}), pipeline.fingerprints(_request(then))
    other = [name for name in dict.fromkeys([*first, *second]) if first.get(name) != second.get(name)]
    told = [f"{_request(then)}: {name} has changed since {then.full_name} was made" for name in other]
    version = load_stage(then.stage).VERSION
    if version != then.manifest.get("stage_version", version):
        before = then.manifest["stage_version"]
        told.append(f"{_request(then)}: the stage is at version {version}, {then.full_name} was made by version {before}")
    recorded = flat(then.config)
    later = [key for key in flat(asdict(pipeline.experiment)) if key not in recorded and not _within(key, recorded)]
    if later:
        more = f" and {len(later) - SHOWN} more" if len(later) > SHOWN else ""
        told.append(f"{_request(then)}: settings that are newer than the run have their defaults: {', '.join(later[:SHOWN])}{more}")
    return told


def _within(key: str, recorded: dict[str, Any]) -> bool:
    """Whether a prefix of the key was recorded as a value (an empty section)."""
    parts = key.split(".")
    return any(".".join(parts[:count]) in recorded for count in range(1, len(parts)))


def _use_threads(artefact: Artefact) -> None:
    """Use the recorded number of threads, which affects rounding; a launcher's processes keep theirs."""
    threads = artefact.manifest.get("machine", {}).get("threads")
    if threads and 0 < threads <= MOST_THREADS and processes.world() == 1:
        import torch

        torch.set_num_threads(threads)
