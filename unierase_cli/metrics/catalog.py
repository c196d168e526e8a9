"""Finding metrics: every file of this folder that names one, then the entry points of group ``unierase.metrics``.

A file may offer further metrics of the same face in ``MORE``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterable
from importlib.metadata import entry_points
from typing import cast

import unierase_cli.metrics as package
from unierase_cli.metrics.base import Column, Evidence, Metric

GROUP = "unierase.metrics"


def all_metrics() -> list[Metric]:
    """All metrics, by name. Heavy libraries are imported by a metric only when it computes."""
    found: dict[str, Metric] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, "NAME") and hasattr(module, "columns"):
            found |= {metric.NAME: cast(Metric, metric) for metric in (module, *getattr(module, "MORE", ()))}
    for point in entry_points(group=GROUP):
        module = point.load()
        found.setdefault(module.NAME, cast(Metric, module))
    return [found[name] for name in sorted(found)]


def all_columns(evidence: Evidence, names: Collection[str] | None = None) -> Iterable[Column]:
    """Every metric, or those named, at every place where it applies to a model state."""
    for metric in all_metrics():
        if names is None or metric.NAME in names:
            yield from metric.columns(evidence)
