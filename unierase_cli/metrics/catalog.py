"""Finds metrics: every file of this folder that defines one, then the entry points of group ``unierase.metrics``.

A file may define further metrics with the same interface in ``MORE``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterable
from importlib.metadata import entry_points
from typing import cast

import unierase_cli.metrics as package
from unierase_cli.metrics.base import Column, Evidence, Metric
from unierase_cli.plugins import CODE
from unierase_cli.sources import code_hash

GROUP = "unierase.metrics"


def all_metrics() -> list[Metric]:
    """All metrics, sorted by name. A metric imports heavy libraries only when it computes."""
    return [metric for _, (metric, _) in sorted(_found().items())]


def metric_code(names: Collection[str] | None = None) -> dict[str, str]:
    """Code fingerprints of every metric, or of those named; shared code counts for each."""
    found = {name: module for name, (_, module) in sorted(_found().items()) if names is None or name in names}
    return {f"{CODE}metric {name}": code_hash(module, package.__name__) or "no file" for name, module in found.items()}


def _found() -> dict[str, tuple[Metric, str]]:
    """Name -> the metric and its module."""
    found: dict[str, tuple[Metric, str]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, "NAME") and hasattr(module, "columns"):
            found |= {m.NAME: (cast(Metric, m), module.__name__) for m in (module, *getattr(module, "MORE", ()))}
    for point in entry_points(group=GROUP):
        metric = cast(Metric, point.load())
        found.setdefault(metric.NAME, (metric, point.module))
    return found


def all_columns(evidence: Evidence, names: Collection[str] | None = None) -> Iterable[Column]:
    """The columns of every metric, or of those named, for one model state."""
    for metric in all_metrics():
        if names is None or metric.NAME in names:
            yield from metric.columns(evidence)
