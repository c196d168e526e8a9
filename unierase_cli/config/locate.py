"""Finds the configuration folders. The first folder that has a file wins; the shipped folder comes last."""

from __future__ import annotations

import os
from pathlib import Path

from unierase_cli.contracts import UserError

VARIABLE = "UNIERASE_CONF"


def config_folders(config_dir: str | Path | None = None) -> list[Path]:
    """``--config-dir``, else ``$UNIERASE_CONF``, followed by the shipped folder.

    Files missing in the first folder are taken from the shipped one, so a user's folder may hold a single new yaml.
    Raises UserError if the named folder does not exist.
    """
    named, origin = (config_dir, "--config-dir") if config_dir else (os.environ.get(VARIABLE), f"${VARIABLE}")
    shipped = shipped_folder()
    if not named:
        return [shipped]
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{origin} names {folder}, which is not a folder", f"leave it out to use {shipped}")
    return [folder] if folder.resolve() == shipped.resolve() else [folder, shipped]


def shipped_folder() -> Path:
    """``conf/`` of the source checkout that this package runs from, else the copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "conf").is_dir():
        return checkout / "conf"
    return package / "conf"
