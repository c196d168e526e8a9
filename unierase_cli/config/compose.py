"""Composes words into an Experiment: the chosen yamls, then the schema's types and checks. No DictConfig leaves this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unierase_cli.config import catalog
from unierase_cli.config.checks import usable
from unierase_cli.config.locate import config_folders
from unierase_cli.config.rebuilt import Unlike, rebuilt
from unierase_cli.config.schema import Composition, Experiment
from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.config.unread import unread
from unierase_cli.contracts import UserError
from unierase_cli.remembered import recall, remember


def compose(
    words: Sequence[str] = (), config_dir: str | Path | None = None, warn: Callable[[str], None] = lambda text: None
) -> Experiment:
    """The experiment described by the shipped defaults and ``words`` (``model=mini``, ``run.seed=1``).

    ``warn`` gets a sentence for each word that the method does not use. Raises UserError for an unknown key or choice, a value
    of the wrong type, a missing value, one that is overruled (``unread``), or an invalid yaml.
    """
    experiment = _composed(words, config_dir)
    for text in unread(experiment, words):
        warn(text)
    return experiment


def _composed(words: Sequence[str], config_dir: str | Path | None) -> Experiment:
    """The experiment, whether or not every word of it is used.

    Hydra and OmegaConf take half a second to import and compose, so the merged values are remembered for the same words and
    the same contents of all yamls.
    """
    folders = config_folders(config_dir)
    key = [list(words), *_state(folders)]
    with suppress(Unlike):
        known: Composition = rebuilt(Composition, recall("composed", key))
        usable("", known)
        return known.experiment()
    from omegaconf import OmegaConf

    from unierase_cli.config.merged import merge, one_line

    merged, missing, overrides = merge(words, folders)
    if missing:
        sections = dict.fromkeys(["experiment", *(key.partition(".")[0] for key in missing)])
        chosen = " ".join(str(o) for s in sections for o in overrides if o.key == s) or "this configuration"
        hub = " (benchmark.data_dir=null downloads it from the hub)" if "benchmark.data_dir" in missing else ""
        raise UserError(f"{chosen} needs {' and '.join(missing)}", "add " + " ".join(f"{k}=..." for k in missing) + hub)
    with one_line():
        made: Composition = OmegaConf.to_object(merged)  # type: ignore[assignment]
    usable("", made)
    remember("composed", key, OmegaConf.to_container(merged))
    return made.experiment()


def compose_launcher(words: Sequence[str] = (), config_dir: str | Path | None = None) -> LauncherConfig:
    """The launcher of a sweep, from the same words; missing values of the experiment do not matter here."""
    from omegaconf import OmegaConf

    from unierase_cli.config.merged import merge, one_line

    merged, _, _ = merge(words, config_folders(config_dir))
    with one_line():
        made: LauncherConfig = OmegaConf.to_object(merged.launcher)  # type: ignore[assignment]
    usable("launcher", made)
    return made


def to_yaml(words: Sequence[str] = (), config_dir: str | Path | None = None) -> str:
    """The composed configuration as yaml with every key of the schema; missing values appear as ``???``."""
    from omegaconf import MISSING, OmegaConf

    from unierase_cli.config.merged import merge

    merged, missing, _ = merge(words, config_folders(config_dir))
    for key in missing:
        OmegaConf.update(merged, key, MISSING)
    return OmegaConf.to_yaml(merged)


def to_json(words: Sequence[str] = (), config_dir: str | Path | None = None) -> dict[str, Any]:
    """The composed configuration as plain data; missing values are ``???``."""
    import yaml

    return yaml.safe_load(to_yaml(words, config_dir))


def _state(folders: Sequence[Path]) -> list[str]:
    """What the result depends on besides the words: every yaml, this folder's code, and the libraries that compose."""
    digest = sha256()
    code = sorted(Path(__file__).parent.rglob("*.py"))
    for path in [*code, *(path for folder in folders for path in catalog.yamls(folder))]:
        content = b""
        # A file that cannot be read is refused when it is needed, and then nothing is remembered.
        with suppress(OSError):
            content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path} {len(content)}\n".encode(errors="surrogateescape") + content)
    libraries = [find_spec(name) for name in ("hydra", "omegaconf")]
    files = [Path(found.origin) for found in libraries if found is not None and found.origin is not None]
    return [digest.hexdigest(), *(f"{file} {file.stat().st_mtime_ns}" for file in files)]
