"""How a folder records the model that it was made for (``check_model`` recognises it)."""

from __future__ import annotations

from pathlib import Path

from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.contracts import BuiltFor
from unierase_cli.models.fingerprint import local_fingerprint


def model_identity(model: ModelConfig) -> BuiltFor:
    """A folder by its files and path, else the hub id or the preset's name."""
    if model.path is None:
        return BuiltFor(model.name)
    there = Path(model.path).exists()
    return BuiltFor(str(Path(model.path).absolute()) if there else model.path, local_fingerprint(model.path))
