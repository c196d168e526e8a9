"""Whether a benchmark's texts may stand in reports: of a hazardous one (``HAZARDOUS`` in its file) only ids and scores may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unierase_cli.benchmarks.base import BENCHMARKS
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import UserError


def hides_texts(section: BenchmarkConfig | Mapping[str, Any]) -> bool:
    """Of the section ``benchmark``, composed or as a manifest recorded it; a benchmark that is not installed hides nothing."""
    chosen = asdict(section) if isinstance(section, BenchmarkConfig) else section
    return any(map(_is_hazardous, (chosen.get("implementation") or chosen.get("name"), chosen.get("gold"))))


def _is_hazardous(name: str | None) -> bool:
    try:
        return name is not None and bool(BENCHMARKS.says(name, "HAZARDOUS", False))
    except UserError:
        return False


def texts_fingerprint(section: BenchmarkConfig) -> dict[str, str]:
    """For the keys of what shows texts: what was made before they were hidden is made again."""
    return {"texts": "hidden"} if hides_texts(section) else {}
