"""Composes the chosen yamls with Hydra and caches the result for the same choices and files."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import get_origin

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException

from unierase_cli.config import catalog
from unierase_cli.config.overrides import Override, leaf_type, quoted
from unierase_cli.config.schema import default_of
from unierase_cli.contracts import UserError
from unierase_cli.temporary import temporary_folder

ROOT = "config"


def composed(folders: Sequence[Path], overrides: Sequence[Override]) -> tuple[DictConfig, dict[str, str]]:
    """The composed configuration with all values set, and the choice made in each group.

    Hydra needs a third of a second for its list of defaults, whatever the values are. So choices are composed once per
    process, and values are set on a copy. Raises the errors of Hydra and OmegaConf.
    """
    values = OverridesParser.create().parse_overrides([o.for_hydra() for o in overrides if not o.group])
    if any(value.is_sweep_override() for value in values):
        # Hydra itself refuses these.
        config, chosen = _composed(folders, [o.for_hydra() for o in overrides])
    else:
        words = [o.for_hydra() for o in overrides if o.group]
        config, chosen = _remembered(tuple(folders), _state(folders), tuple(words))
        config = copy.deepcopy(config)
        values = [value for value in values if not (value.is_delete() and _is_default(config, value.key_or_group))]
        for value in values:
            _fill_list(config, value.key_or_group)
            _set(config, value)
    # Hydra and OmegaConf provide functions for ${name:...}. One would write environment variables into the record of a
    # run, others parse text or return the time. None is needed here, so all are disabled; OmegaConf has no public list of them.
    BaseContainer._resolvers.clear()
    return config, dict(chosen)


def _set(config: DictConfig, override: HydraOverride) -> None:
    """What Hydra does with ``++key=value`` and ``~key``. Raises its error for a value that does not fit there."""
    key = override.key_or_group
    try:
        if override.is_delete():
            above, _, name = key.rpartition(".")
            with open_dict(config):
                del (OmegaConf.select(config, above) if above else config)[name]
        else:
            OmegaConf.update(config, key, override.value(), merge=True, force_add=True)
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {override.input_line}") from error


def _is_default(config: DictConfig, key: str) -> bool:
    """Whether the key is in the schema but in no yaml, so that there is nothing to delete."""
    return OmegaConf.select(config, key) is None and leaf_type(key) is not None


def _fill_list(config: DictConfig, key: str) -> None:
    """For a value within a list, insert the schema's list if no yaml has one, so that one item of it can be changed.

    Raises UserError for an item that the list does not have.
    """
    within = re.fullmatch(r"(.+?)\.(\d+)(?:\..+)?", key)
    if within is None or get_origin(leaf_type(within[1])) is not list:
        return
    name, number = within[1], int(within[2])
    if OmegaConf.select(config, name) is None:
        OmegaConf.update(config, name, default_of(name), force_add=True)
    count = len(OmegaConf.select(config, name) or ())
    if number >= count:
        raise UserError(f"{name} has {count} item{'s' * (count != 1)}; there is no {key}", f"give the whole list: {name}=[...]")


def _state(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Path, modification time and size of every yaml in the folders."""
    files = ((path, path.stat()) for folder in folders for path in catalog.yamls(folder) if path.exists())
    return tuple((str(path), found.st_mtime_ns, found.st_size) for path, found in files)


@lru_cache(maxsize=64)
def _remembered(
    folders: tuple[Path, ...], state: tuple[tuple[str, int, int], ...], words: tuple[str, ...]
) -> tuple[DictConfig, dict[str, str]]:
    """``_composed``, cached for the same words and unchanged files; the result is shared and must not be changed."""
    return _composed(folders, words)


def _composed(folders: Sequence[Path], words: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    # Hydra expects the primary file in its first folder, so a user's folder without one gets a copy of the shipped
    # file.
    first = next((folder for folder in folders if (folder / f"{ROOT}.yaml").is_file()), None)
    lending = first is not None and first != folders[0]
    with temporary_folder("conf") if lending else nullcontext() as lent:
        if first is not None and lent is not None:
            shutil.copy(first / f"{ROOT}.yaml", lent)
            folders = [lent, *folders]
        others = ",".join(quoted(f"file://{folder}") for folder in folders[1:])
        search = [f"hydra.searchpath=[{others}]"] if others else []
        with initialize_config_dir(config_dir=str(folders[0]), version_base=None, job_name="unierase"):
            made = hydra_compose(ROOT, overrides=[*search, *words], return_hydra_config=True)
    chosen = {k: v for k, v in made.hydra.runtime.choices.items() if v and not k.startswith("hydra/")}
    return OmegaConf.masked_copy(made, [str(key) for key in made if key != "hydra"]), chosen
