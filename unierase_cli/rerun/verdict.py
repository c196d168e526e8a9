"""Whether a repeated run gave the same results: artefact by artefact, metric by metric, with the changes since then.

Equal bits are promised on a CPU with the same kind of machine: processor, threads, processes and package versions.
Otherwise, or if a tolerance is given, the run's metrics must agree within it; for a run without metrics, the numbers in
its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.rerun.differences import of_files, of_numbers
from unierase_cli.rerun.run_again import Repeated
from unierase_cli.results.runs import METRICS, PRECISE, STEPS, read_precise, read_scores, read_steps
from unierase_cli.store.artefact import LOG, Artefact
from unierase_cli.store.patch_files import TIMES

CPU = "cpu"
BITS, NUMBERS, OTHER, KEPT = "bits", "numbers", "other", "kept"
TOLERANCE = 1e-6
# Files with names, dates and times; a report only shows the numbers of the artefacts that it was made from.
TOLD = (LOG, TIMES, "config.yaml", "report.md", "report.html")
# Manifests of older versions lack these keys; then no difference is known.
MACHINE = ("device", "cpu", "instructions", "threads", "processes")


def result(repeated: Sequence[Repeated], tolerance: float | None = None) -> dict[str, Any]:
    """``{"run", "again", "same", "promise": bits|numbers, "because", "tolerance", "artefacts", "metrics", "changes"}``, JSON-able.

    ``because``: why equal bits are not promised. ``artefacts``: ``{"stage", "then", "now", "same":
    bits|numbers|other|kept, "largest", "files": [those that differ]}``. ``metrics``: ``{"name", "then", "now",
    "difference"}``; the difference is 0 for equal bits and None if only one of them is a number. ``changes``:
    ``{"what", "then", "now", "matters"}``; ``matters``: whether it affects the promise.
    """
    changes = _changes(repeated)
    devices = {pair.now.manifest.get("machine", {}).get("device", CPU) for pair in repeated}
    because = [f"other {change['what']}" for change in changes if change["matters"]]
    because += [f"a run on {device}" for device in sorted(devices - {CPU})]
    promise = BITS if tolerance is None and not because else NUMBERS
    tolerance = TOLERANCE if tolerance is None else tolerance
    artefacts = [_artefact(pair) for pair in repeated]
    metrics = [row for pair in repeated if pair.now is not pair.then for row in _metrics(pair)]
    if promise == BITS:
        same = all(row["same"] in (BITS, KEPT) for row in artefacts)
    elif metrics:
        same = all(row["difference"] is not None and row["difference"] <= tolerance for row in metrics)
    else:
        same = all(row["same"] != OTHER and row["largest"] <= tolerance for row in artefacts)
    last = repeated[-1]
    about = {"run": last.then.full_name, "again": last.now.full_name, "same": same, "promise": promise}
    about |= {"because": because, "tolerance": None if promise == BITS else tolerance}
    return {**about, "artefacts": artefacts, "metrics": metrics, "changes": changes}


def _artefact(pair: Repeated) -> dict[str, Any]:
    about = {"stage": " ".join([pair.then.stage, *pair.then.manifest.get("options", {}).values()])}
    about |= {"then": str(pair.then.path), "now": str(pair.now.path)}
    if pair.now is pair.then:
        return {**about, "same": KEPT, "largest": 0.0, "files": []}
    files: list[dict[str, Any]] = []
    for name in sorted(_files(pair.then) | _files(pair.now)):
        found = of_files(pair.then.whole / name, pair.now.whole / name)
        if not found.same:
            files.append({"file": name, "numbers": found.values, "largest": found.largest, "other": found.other})
    same = OTHER if any(file["other"] for file in files) else NUMBERS if files else BITS
    return {**about, "same": same, "largest": max((file["largest"] for file in files), default=0.0), "files": files}


def _files(artefact: Artefact) -> set[str]:
    return {name for name in artefact.manifest.get("files", {}) if name not in TOLD}


def _metrics(pair: Repeated) -> Iterable[dict[str, Any]]:
    """Every metric of an artefact, then and now; a metric that only one of them has counts as unavailable in the other."""
    then, now = (measured(artefact) for artefact in (pair.then, pair.now))
    for name in dict.fromkeys([*then, *now]):
        first, second = then.get(name), now.get(name)
        if first is None or second is None:
            difference = 0.0 if first == second and name in then and name in now else None
        else:
            difference = of_numbers(first, second)
        yield {"name": name, "then": first, "now": second, "difference": difference}


def measured(artefact: Artefact) -> dict[str, float | None]:
    """The metrics of an artefact by name; None for an unavailable one. Raises UserError for a damaged file."""
    found: dict[str, float | None] = {}
    if artefact.has(METRICS):
        for state, measures in read_scores(artefact).states.items():
            found |= {f"{name} ({state})": measure.value for name, measure in measures.items()}
    if artefact.has(PRECISE):
        for mean in read_precise(artefact).measures:
            found |= {f"{mean.id} (before)": mean.before, f"{mean.id} (after)": mean.after}
    if artefact.has(STEPS):
        for step in read_steps(artefact).steps:
            found |= {f"{name} (step {step.step})": measure.value for name, measure in step.measures.items()}
    return found


def _changes(repeated: Sequence[Repeated]) -> list[dict[str, Any]]:
    """The changes of machine, versions, data and models since then, each once."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for then, now in ((pair.then.manifest, pair.now.manifest) for pair in repeated if pair.now is not pair.then):
        stage = now["stage"]
        first, second = then.get("machine", {}), now.get("machine", {})
        both = [(name, first[name], second[name], True) for name in MACHINE if name in first and name in second]
        both += [] if first else [("machine", "not recorded", second.get("cpu"), False)]
        first, second = then.get("environment", {}), now.get("environment", {})
        packages = first.get("packages", {}), second.get("packages", {})
        both += [(name, *_pair(name, *packages), True) for name in dict.fromkeys([*packages[0], *packages[1]])]
        both += [(name, *_pair(name, first, second), False) for name in ("python", "platform", "git_commit")]
        prints = then.get("fingerprints", {}), now.get("fingerprints", {})
        both += [(f"{stage}: {name}", *_pair(name, *prints), False) for name in dict.fromkeys([*prints[0], *prints[1]])]
        both.append((f"{stage}: stage version", then.get("stage_version"), now.get("stage_version"), False))
        for what, before, after, matters in both:
            if before != after:
                row = {"what": what, "then": before, "now": after, "matters": matters}
                found.setdefault((what, str(before), str(after)), row)
    return list(found.values())


def _pair(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Any, Any]:
    return first.get(name), second.get(name)
