"""The model that a folder of splits was made for, stored in the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.contracts import Benchmark, BuiltFor, UserError
from unierase_cli.store.json_text import read_json, write_json

BUILT_FOR = "built_for.json"


def write_built_for(folder: Path, built_for: BuiltFor) -> None:
    write_json(folder / BUILT_FOR, {"model": built_for.model, "fingerprint": built_for.fingerprint})


def read_built_for(folder: Path) -> BuiltFor | None:
    """The recorded model, None if there is no record. Raises UserError if it cannot be read."""
    path = folder / BUILT_FOR
    if not path.exists():
        return None
    try:
        said = read_json(path)
        fingerprint = said.get("fingerprint")
        return BuiltFor(str(said["model"]), None if fingerprint is None else str(fingerprint))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}", "make the splits again: unierase prepare --force") from error


def check_model(
    benchmark: Benchmark,
    config: BenchmarkConfig,
    model: ModelConfig,
    fingerprint: Callable[[], str | None] = lambda: None,
) -> None:
    """Raise UserError for a model that the benchmark's facts were not selected for, unless ``benchmark.any_model`` is
    set.

    ``fingerprint`` hashes the model's files, only when needed; it returns None if they are not available, and the name
    decides.
    """
    wanted = benchmark.built_for
    if wanted is None or config.any_model:
        return
    given = model.path or model.name
    files = fingerprint() if wanted.fingerprint is not None else None
    if files == wanted.fingerprint if files is not None else _is_model(wanted.model, given):
        return
    what = f"{given}, with other files" if _is_model(wanted.model, given) else given
    command = "prepare-return model=... benchmark.path=RETURN.jsonl eval.nli=..." if benchmark.published else "prepare"
    raise UserError(
        f"benchmark={benchmark.name}: these splits were made for {wanted.model}, but the model is {what}",
        f"make its own: unierase {command}, then benchmark.data_dir=ITS_FOLDER; or benchmark.any_model=true for less "
        "meaningful numbers",
    )


def _is_model(wanted: str, given: str) -> bool:
    """Whether a hub id or folder is the wanted model.

    That is the folder itself, or any path with the model's name as a part (a copy, a hub cache).
    """
    if Path(wanted).is_absolute():
        return Path(given).absolute() == Path(wanted)
    parts = {part.casefold() for part in given.replace("--", "/").split("/")}
    return wanted.rpartition("/")[2].casefold() in parts
