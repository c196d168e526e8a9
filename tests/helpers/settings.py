"""An experiment with other settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unierase_cli.config.schema import Experiment


def with_settings(experiment: Experiment, /, **settings: Any) -> Experiment:
    """A copy with these values: ``eval__batch_size=5`` stands for eval.batch_size."""
    for key, value in settings.items():
        experiment = _with(experiment, key.split("__"), value)
    return experiment


def _with(section: Any, names: list[str], value: Any) -> Any:
    name, *rest = names
    return replace(section, **{name: _with(getattr(section, name), rest, value) if rest else value})
