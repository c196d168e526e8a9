"""Reads the rows of a data set from the hub, or from a folder of JSON Lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.store.jsonl import iterate_jsonl

# Each row with its location (file:line, or hub id, configuration and row).
Rows = list[tuple[str, dict[str, Any]]]
OFFER = "give benchmark.data_dir=FOLDER with the data set's files as JSON Lines"


def any_source(
    config: BenchmarkConfig, default: str | None, reporter: Reporter | None, notes: list[str]
) -> Callable[..., Rows | None]:
    """The folder ``benchmark.data_dir``, else the hub's data set (``benchmark.hub`` or ``default``).

    The source also takes CONFIGURATION/SPLIT for a name: ``<folder>/CONFIGURATION/SPLIT.jsonl``, or that split on the hub.
    Raises UserError if neither is given.
    """
    if config.data_dir is not None:
        return folder_source(config.data_dir)
    if config.hub is None and default is None:
        raise UserError(
            f"benchmark={config.name} needs the folder of its files: benchmark.data_dir=FOLDER",
            "or benchmark.hub=ID of a data set whose configurations have the files' names",
        )
    return hub_source(config, default or "", reporter, notes)


def required(source: Callable[..., Rows | None], name: str, *keys: str) -> Rows:
    """The rows of a file or configuration. Raises UserError if it has none, or if a row lacks one of the ``keys``."""
    rows = source(name)
    if not rows:
        raise UserError(f"{name} has no rows", "check benchmark.data_dir, or the version of the data set")
    for where, row in rows:
        for key in keys:
            if key not in row:
                raise UserError(f'{where}: "{key}" is missing', f"a row of {name} has {', '.join(keys)}")
    return rows


def folder_source(folder: str) -> Callable[..., Rows | None]:
    """Reads ``<folder>/<name>.jsonl``, else ``<name>.json`` (also JSON Lines, as some authors name it).

    A missing file gives None if it is optional, else UserError.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(
            f"benchmark.data_dir={folder} is not a folder", "check the path; relative paths start at the current folder"
        )

    def read(name: str, *, optional: bool = False, local: bool = False) -> Rows | None:
        path = root / f"{name}.jsonl"
        other = path.with_suffix(".json")
        path = other if other.exists() and not path.exists() else path
        if not path.exists():
            if optional:
                return None
            raise UserError(
                f"{path} does not exist", f"benchmark.data_dir needs {name}.jsonl, named like the hub's configuration"
            )
        return [(f"{path}:{number}", row) for number, row in iterate_jsonl(path)]

    return read


def hub_source(
    config: BenchmarkConfig, default: str, reporter: Reporter | None, notes: list[str]
) -> Callable[..., Rows | None]:
    """Loads configurations of a data set by its hub id with ``datasets`` (its cache makes later runs offline).

    Names that exist only in our folders are requested with ``local`` and give None here. Raises UserError if the hub
    cannot be reached or lacks a required configuration. An unpinned revision is reported as a warning.
    """
    hub = config.hub or default
    if config.revision is None:
        warning = (
            f"benchmark.revision is null: the newest version of {hub} is read, and it may change; "
            "pin it with benchmark.revision=COMMIT"
        )
        if reporter is not None:
            reporter.warn(warning)
        else:
            notes.append(warning)

    def read(name: str, *, optional: bool = False, local: bool = False) -> Rows | None:
        if local:
            return None
        return _load(hub, name, config.revision, optional)

    return read


def _load(hub: str, name: str, revision: str | None, optional: bool) -> Rows | None:
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"the package `datasets` can't be imported: {error}", f"install it, or {OFFER}") from error
    try:
        configuration, _, split = name.partition("/")
        loaded = datasets.load_dataset(hub, configuration, revision=revision, split=split or "train")
    except Exception as error:  # the library raises its own, requests', huggingface_hub's and OS errors
        known = _configurations(error, name)
        if known and optional:
            return None
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if known:
            raise UserError(
                f"{hub} has no configuration {name}: {first[:200]}", f"check benchmark.hub, or {OFFER}"
            ) from error
        raise UserError(
            f"{hub} ({name}) could not be loaded: {type(error).__name__}: {first[:200]}",
            f"check the network and HF_HUB_OFFLINE, or {OFFER}",
        ) from error
    return [(f"{hub} {name} row {index}", dict(row)) for index, row in enumerate(loaded)]


def _configurations(error: Exception, name: str) -> bool:
    """Whether the error says that the data set exists but not this configuration."""
    return isinstance(error, ValueError) and "BuilderConfig" in str(error) and name.partition("/")[0] in str(error)
