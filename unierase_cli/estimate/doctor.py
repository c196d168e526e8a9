"""Checks everything that a run needs without loading anything: versions, devices, the hub, files, memory and disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import ANSWERS, AUTO, HUB
from unierase_cli.contracts import UserError
from unierase_cli.estimate.memory_and_disk import disk_needs, edited_layers, memory_needs
from unierase_cli.estimate.need import Need, Rows, peak, rows_of, stage_peaks
from unierase_cli.estimate.shapes import Shape, cached_config, shape_of
from unierase_cli.pipeline.study import Study, study_of
from unierase_cli.store.gguf_files import check_gguf, gguf_at
from unierase_cli.store.manifest import environment
from unierase_cli.training.token.targets import NAMED

HUB_SECONDS = 3.0
# A need above this share of the free amount gets a remark.
TIGHT = 0.85


def examine(experiment: Experiment) -> dict[str, Any]:
    """JSON-able findings: ``problems`` would stop the run, each with a remedy; ``remarks`` might."""
    found: dict[str, Any] = {"environment": environment(), "problems": [], "remarks": []}
    found["devices"] = devices(experiment, found)
    found["hub"] = hub(experiment)
    found["files"] = files(experiment, found)
    study = study_of(experiment)
    rows = row_counts(study, found)
    if not _sound(found, "model."):
        return found
    try:
        shape, source = shape_of(experiment)
    except UserError as error:
        found["problems"].append(f"{error.message}; {error.hint}")
        return found
    if shape is None:
        found["remarks"].append(f"{source}: no estimate of memory and disk")
    else:
        _sizes(study, shape, source, rows, found)
    return found


def devices(experiment: Experiment, found: dict[str, Any]) -> dict[str, Any]:
    """The available devices, and the one that ``run.device`` selects."""
    free, total = machine_memory()
    listed: list[dict[str, Any]] = [{"name": "cpu", "what": f"{os.cpu_count()} cores", "free": free, "total": total}]
    try:
        import torch

        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            what = torch.cuda.get_device_name(index)
            listed.append({"name": f"cuda:{index}", "what": what, "free": free, "total": total})
        if torch.backends.mps.is_available():
            listed.append({"name": "mps", "what": "Apple GPU", "free": listed[0]["free"], "total": listed[0]["total"]})
    except ImportError as error:
        found["problems"].append(f"torch cannot be imported: {error}")
    wanted = experiment.run.device
    names = [device["name"] for device in listed]
    chosen = names[min(1, len(names) - 1)] if wanted == "auto" else "cuda:0" if wanted == "cuda" else wanted
    if chosen not in names:
        found["problems"].append(f"run.device={wanted}: this machine has {', '.join(names)}")
        chosen = "cpu"
    return {"available": listed, "chosen": chosen}


def machine_memory() -> tuple[int | None, int | None]:
    """(free, total) bytes of main memory, limited by the container; None if unknown."""
    free = total = None
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free, total = (int(lines[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        try:
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (OSError, ValueError, AttributeError):
            return None, None
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = (int((Path("/sys/fs/cgroup") / name).read_text()) for name in (limit, used))
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        if total is None or most < total:
            total, free = most, max(0, most - now) if free is None else min(free, most - now)
    return free if free is not None else total, total


def hub(experiment: Experiment) -> dict[str, Any]:
    """Whether the hub answers within ``HUB_SECONDS``; being offline is not a problem by itself."""
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return {"address": address, "reachable": False, "detail": "not asked: HF_HUB_OFFLINE is set"}
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_SECONDS) as answer:
            return {"address": address, "reachable": True, "detail": f"answers ({answer.status})"}
    except urllib.error.HTTPError as error:
        return {"address": address, "reachable": True, "detail": f"answers ({error.code})"}
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return {"address": address, "reachable": False, "detail": f"no answer ({reason}); local files still work"}


def files(experiment: Experiment, found: dict[str, Any]) -> list[dict[str, str]]:
    """The folders of the model, the benchmark and the outputs, and the files that the configuration names."""
    looked: list[dict[str, str]] = []

    def look(key: str, path: str | None, parts: tuple[str, ...] = (), *, folder: bool = True) -> None:
        if path is None:
            return
        place = Path(path).expanduser()
        missing = [part for part in parts if not any(place.glob(part))] if place.is_dir() else []
        state = "ok"
        if not (place.is_dir() if folder else place.is_file()):
            state = "missing"
        elif missing:
            state = "incomplete: no " + ", ".join(missing)
        looked.append({"key": key, "path": str(place), "state": state})
        if state != "ok":
            found["problems"].append(f"{key}={path}: {state}")

    model = experiment.model.path
    file = None if model is None else gguf_at(model)
    if file is not None:
        try:
            state = f"ok: {check_gguf(file).quantisation}"
        except UserError as error:
            state = "cannot be loaded"
            found["problems"].append(f"{error.message}; {error.hint}")
        looked.append({"key": "model.path", "path": str(file), "state": state})
    elif model is not None and not _is_hub_id(model):
        look("model.path", model, ("config.json", "*.safetensors", "tokenizer*"))
    elif model is not None:
        local = cached_config(model, experiment.model.revision) is not None
        looked.append(
            {"key": "model.path", "path": model, "state": "in the hub's cache" if local else "to be downloaded"}
        )
        if not local and not found["hub"]["reachable"]:
            found["problems"].append(f"model.path={model} is not in the local cache and the hub does not answer")
    look("benchmark.data_dir", experiment.benchmark.data_dir)
    look("benchmark.path", experiment.benchmark.path, folder=False)
    look("benchmark.retain_path", experiment.benchmark.retain_path, folder=False)
    targets = experiment.token.targets
    look("token.targets", None if targets in NAMED else targets, folder=False)
    corpus, texts = experiment.edit.moments.corpus, experiment.edit.moments.texts
    look("edit.moments.corpus", None if corpus in (ANSWERS, AUTO) or corpus.startswith(HUB) else corpus, folder=False)
    look("edit.moments.texts", None if texts is None or texts.startswith(HUB) else texts, folder=False)
    return looked


def row_counts(study: Study, found: dict[str, Any]) -> Rows:
    """The benchmark's row counts; if it cannot be read, a problem is added and TOFU's largest numbers are used."""
    if _sound(found, "benchmark."):
        if not found["hub"]["reachable"]:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # otherwise every access to a hub data set tries again
        try:
            experiment, benchmark = study.experiment, study.benchmark
            found["remarks"] += [f"benchmark {benchmark.name}: {note}" for note in benchmark.notes]
            cap = experiment.protocol.rows_for(experiment.benchmark.name)
            return rows_of(benchmark, experiment.eval.splits, cap, study.steps)
        except UserError as error:
            found["problems"].append(f"{error.message}; {error.hint}")
    found["remarks"].append("the benchmark cannot be read: sizes assume 400 forget and 1000 scored rows")
    return Rows(400, 1000, 1000)


def _sizes(study: Study, shape: Shape, source: str, rows: Rows, found: dict[str, Any]) -> None:
    experiment = study.experiment
    layers = edited_layers(experiment, shape)
    outside = [layer for layer in layers if not 0 <= layer < shape.blocks]
    if outside:
        found["problems"].append(f"layer {outside[0]} is out of range: the model has blocks 0..{shape.blocks - 1}")
    chosen = next(d for d in found["devices"]["available"] if d["name"] == found["devices"]["chosen"])
    memory = memory_needs(study, shape, rows, accelerator=chosen["name"] != "cpu")
    path = experiment.model.path
    file = None if path is None else gguf_at(path)
    here = path is None or file is not None or Path(path).is_dir()
    download = not here and cached_config(str(path), experiment.model.revision) is None
    disk = disk_needs(experiment, shape, rows, download)
    if file is not None:
        disk.append(Need("load model", "dequantised, in the hub's cache", shape.parameters * 4, "once per file"))
    worst, stage = peak(memory)
    found["model"] = {
        **asdict(shape),
        "source": source,
        "parameters": shape.parameters,
        "layers": layers,
        "edited_share": len(layers) * shape.hidden * shape.inner / shape.parameters,
    }
    free_disk = free_space(Path(experiment.run.outputs))
    found["memory"] = {"needs": [asdict(n) for n in memory], "peak": worst, "stage": stage, "free": chosen["free"]}
    found["memory"]["peaks"] = stage_peaks(memory)
    found["disk"] = {"needs": [asdict(n) for n in disk], "total": sum(n.bytes for n in disk), "free": free_disk}
    found["rows"] = asdict(rows)
    narrower = "" if experiment.model.dtype in ("bfloat16", "float16") else ", or model.dtype=bfloat16"
    _judge(found, f"memory of {chosen['name']}", worst, chosen["free"], f"choose a smaller model{narrower}")
    _judge(found, f"disk of {experiment.run.outputs}", found["disk"]["total"], free_disk, "set run.outputs=")


def _judge(found: dict[str, Any], what: str, need: int, free: int | None, hint: str) -> None:
    if free is None or need <= TIGHT * free:
        return
    text = f"{what}: about {need / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free; {hint}"
    found["problems" if need > free else "remarks"].append(text)


def free_space(folder: Path) -> int | None:
    """Free bytes at ``folder``, or at its nearest existing parent."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _is_hub_id(path: str) -> bool:
    local = Path(path).expanduser().exists() or path.startswith(("/", ".", "~")) or path.lower().endswith(".gguf")
    return not local and path.count("/") <= 1


def _sound(found: dict[str, Any], keys: str) -> bool:
    """Whether no file whose key starts with ``keys`` is missing."""
    return all(f["state"] != "missing" for f in found["files"] if f["key"].startswith(keys))
