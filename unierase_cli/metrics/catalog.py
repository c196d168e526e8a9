"""Finds metrics: every file of this folder that defines one, then the entry points of group ``unierase.metrics``.

A file may define further metrics with the same interface in ``MORE``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterable
from importlib.metadata import entry_points
from typing import Any, cast

import unierase_cli.metrics as package
from unierase_cli.metrics.base import Column, Evidence, Metric
from unierase_cli.plugins import CODE
from unierase_cli.remembered import recall, remember
from unierase_cli.sources import code_hash, room_hash

GROUP = "unierase.metrics"


def all_metrics() -> list[Metric]:
    """All metrics, sorted by name. A metric imports heavy libraries only when it computes."""
    return [metric for _, (metric, _) in sorted({**_others(), **_shipped()}.items())]


def metric_versions() -> dict[str, int]:
    """Name -> version of every metric."""
    return {name: version for name, (version, _) in _told().items()}


def metric_code(names: Collection[str] | None = None) -> dict[str, str]:
    """Code fingerprints of every metric, or of those named; shared code counts for each."""
    return {f"{CODE}metric {name}": code for name, (_, code) in _told().items() if names is None or name in names}


def _told() -> dict[str, list[Any]]:
    """Name -> version and code hash, sorted; shipped metrics are imported only if one of their files has changed."""
    key = [package.__name__, room_hash(package.__name__), room_hash(code_hash.__module__)]
    shipped = recall("metrics", key)
    if not _as_told(shipped):
        shipped = _versions(_shipped())
        remember("metrics", key, shipped)
    return dict(sorted({**_versions(_others()), **shipped}.items()))


def _as_told(value: Any) -> bool:
    """Whether what was remembered has the form of ``_versions``; anybody can write to the folder."""
    if not isinstance(value, dict) or not value:
        return False
    return all(isinstance(one, list) and [type(part) for part in one] == [int, str] for one in value.values())


def _versions(found: dict[str, tuple[Metric, str]]) -> dict[str, list[Any]]:
    return {n: [metric.VERSION, code_hash(module, package.__name__) or "no file"] for n, (metric, module) in found.items()}


def _shipped() -> dict[str, tuple[Metric, str]]:
    """Name -> the metric of a file of this folder, and its module."""
    found: dict[str, tuple[Metric, str]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, "NAME") and hasattr(module, "columns"):
            found |= {m.NAME: (cast(Metric, m), module.__name__) for m in (module, *getattr(module, "MORE", ()))}
    return found


def _others() -> dict[str, tuple[Metric, str]]:
    """Name -> the metric of an entry point, and its module; of two with the same name the first."""
    found = [(cast(Metric, point.load()), point.module) for point in entry_points(group=GROUP)]
    return {metric.NAME: (metric, module) for metric, module in reversed(found)}


def all_columns(evidence: Evidence, names: Collection[str] | None = None) -> Iterable[Column]:
    """The columns of every metric, or of those named, for one model state."""
    for metric in all_metrics():
        if names is None or metric.NAME in names:
            yield from metric.columns(evidence)
