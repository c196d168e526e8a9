"""The yamls that words choose, composed by Hydra. What it made of the same choices and files before is remembered."""

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
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

from unierase_cli.config import catalog
from unierase_cli.config.overrides import Override, leaf_type, quoted
from unierase_cli.config.schema import default_of
from unierase_cli.contracts import UserError
from unierase_cli.temporary import temporary_folder

ROOT = "config"


def composed(folders: Sequence[Path], overrides: Sequence[Override]) -> tuple[DictConfig, dict[str, str]]:
    """The composed configuration with all values set, and the choice that was made in each group.

    Hydra takes a third of a second for its list of defaults, most of it whatever the values are: choices are composed once
    per process, and values are set on a copy. Raises what Hydra and OmegaConf raise.
    """
    values = OverridesParser.create().parse_overrides([o.for_hydra() for o in overrides if not o.group])
    if any(value.is_sweep_override() for value in values):
        # Refused by Hydra itself.
        config, chosen = _composed(folders, [o.for_hydra() for o in overrides])
    else:
        words = [o.for_hydra() for o in overrides if o.group]
        config, chosen = _remembered(tuple(folders), _state(folders), tuple(words))
        config = copy.deepcopy(config)
        values = [value for value in values if not (value.is_delete() and _is_default(config, value.key_or_group))]
        for value in values:
            _fill_list(config, value.key_or_group)
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
    # Hydra and OmegaConf bring functions for ${name:...}: one writes the environment into what is kept of a run, others
    # make values of text or tell the time. None of them is of use here, so none of them works.
    BaseContainer._resolvers.clear()
    return config, dict(chosen)


def _is_default(config: DictConfig, key: str) -> bool:
    """Whether no yaml has the key, though the schema does: there is nothing to take away."""
    return OmegaConf.select(config, key) is None and leaf_type(key) is not None


def _fill_list(config: DictConfig, key: str) -> None:
    """For a value within a list: put the schema's list where no yaml has one, of which the value then changes one item.

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
        raise UserError(f"{name} has {count} item{'s' * (count != 1)}, and there is no {key}", f"give the whole list: {name}=[...]")


def _state(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Every yaml of the folders with the time of its last change and its size."""
    files = ((path, path.stat()) for folder in folders for path in catalog.yamls(folder) if path.exists())
    return tuple((str(path), found.st_mtime_ns, found.st_size) for path, found in files)


@lru_cache(maxsize=64)
def _remembered(
    folders: tuple[Path, ...], state: tuple[tuple[str, int, int], ...], words: tuple[str, ...]
) -> tuple[DictConfig, dict[str, str]]:
    """As ``_composed``, for the same words and unchanged files. The result is shared and must not be changed."""
    return _composed(folders, words)


def _composed(folders: Sequence[Path], words: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    # Hydra wants the primary file in its first folder: a folder of one's own without one is lent the shipped file.
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
