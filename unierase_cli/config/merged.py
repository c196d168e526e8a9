"""Merges the chosen yamls and the values of the words into the schema, with Hydra and OmegaConf; errors become one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError, OmegaConfBaseException, UnsupportedInterpolationType, ValidationError

from unierase_cli.config import catalog
from unierase_cli.config.chosen import ROOT, composed
from unierase_cli.config.overrides import Override, check_key, describe_type, leaf_type, parse
from unierase_cli.config.schema import Composition, default_of, typed
from unierase_cli.contracts import UserError

# A chain among the parts of a chain.
NESTED = re.compile(r"method\.chain\.([^.]+)\.chain")


def merge(words: Sequence[str], folders: Sequence[Path]) -> tuple[DictConfig, list[str], list[Override]]:
    """The schema filled with the composed values, the missing keys, and the parsed words."""
    overrides = parse(words, catalog.groups(folders))
    # Hydra's errors do not name the file, so the user's own yamls are checked first.
    for folder in folders[:-1]:
        for path in catalog.yamls(folder):
            _check_defaults(path, catalog.read_yaml(path)[1])
    with one_line():
        written, chosen = composed(folders, overrides)
        plain = OmegaConf.to_container(written, resolve=False)
        missing = set(OmegaConf.missing_keys(written))
    if "experiment" in chosen:
        # OmegaConf replaces an experiment's ??? by a group's value, although ??? means that the user must give one.
        path = catalog.locate(folders, "experiment", chosen["experiment"])
        demanded = OmegaConf.missing_keys(OmegaConf.load(path)) - {override.key for override in overrides}
        missing = (missing | demanded) - _of_other_choices(written, demanded, path, chosen, folders)
    files = [folder / f"{ROOT}.yaml" for folder in folders]
    # A part of a chain is chosen as GROUP@PLACE.
    files += [catalog.locate(folders, group.partition("@")[0], name) for group, name in chosen.items()]
    _check_keys(plain, overrides, files)
    with one_line(plain):
        merged = typed(Composition, written)
        OmegaConf.resolve(merged)
    return merged, sorted(missing), overrides


def _of_other_choices(
    written: DictConfig, demanded: set[str], experiment: Path, chosen: Mapping[str, str], folders: Sequence[Path]
) -> set[str]:
    """The keys that the experiment demands in groups in which another choice than its own was made (``benchmark=jsonl``).

    They get the schema's default where the other choice sets none, unless that choice demands them itself.
    """
    entries = [entry for entry in catalog.read_yaml(experiment)[1].get("defaults") or () if isinstance(entry, dict)]
    own = {group.removeprefix("override ").strip("/ "): name for entry in entries for group, name in entry.items()}
    others = {group for group, name in own.items() if chosen.get(group, name) != name}
    lifted = set()
    for group in others & {key.partition(".")[0] for key in demanded}:
        its_own = OmegaConf.missing_keys(OmegaConf.load(catalog.locate(folders, group, chosen[group])))
        lifted |= {key for key in demanded if key.startswith(f"{group}.")} - {f"{group}.{key}" for key in its_own}
    for key in lifted:
        section, _, name = key.rpartition(".")
        if OmegaConf.is_missing(OmegaConf.select(written, section), name):
            OmegaConf.update(written, key, default_of(key), force_add=True)
    return lifted


def _check_defaults(path: Path, content: dict[Any, Any]) -> None:
    """Refuse a yaml whose defaults refer to a file outside the folders."""
    if ".." in re.split(r"[/\s'\",:\[\]{}@]+", str(content.get("defaults", ""))):
        raise UserError(f"{path}: its defaults point outside the folder", "name files of the folder by their group")


def _check_keys(node: Any, overrides: Sequence[Override], files: Sequence[Path], prefix: str = "") -> None:
    """Refuse unknown keys from a yaml or from a {...} value on the command line; names the file if it can be found."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        key = f"{prefix}{name}"
        if leaf_type(key) is None:
            if part := NESTED.fullmatch(key):
                raise UserError(f"{part[1]} is a chain itself, and no chain is a part of another", "name its parts instead")
            typed = next((o for o in overrides if key.startswith(o.key + ".")), None)
            within = re.compile(rf"^\s*(- *|{{ *)?{re.escape(str(name))}\s*:", re.MULTILINE)
            found = [file for file in files if file.is_file() and within.search(file.read_text("utf-8"))]
            check_key(key, f"{typed}: " if typed else f"{found[-1]}: " if found else "")
        _check_keys(value, overrides, files, key + ".")


@contextmanager
def one_line(plain: Any = None) -> Iterator[None]:
    """Turn errors of Hydra, OmegaConf and PyYAML into UserErrors; ``plain``: the data that is being converted."""
    try:
        yield
    except (ValidationError, ConfigTypeError) as error:
        raise _wrong_type(error, plain) from error
    except UnsupportedInterpolationType as error:
        key = f"{error.full_key}: " if error.full_key else ""
        called = _first_line(error).rpartition(" ")[2]
        what = f"{key}${{{called}:...}} would take its value from elsewhere, which is not allowed"
        raise UserError(what, "write the value itself; ${section.key} refers to another key") from error
    except (HydraException, OmegaConfBaseException) as error:
        text = _first_line(error if str(error).strip() or error.__cause__ is None else error.__cause__)
        if "Ambiguous value" in text or "sweep" in text.lower():
            raise UserError(
                f"one experiment cannot have several values for a key: {text}",
                "run one command per value; a list is KEY=[a,b]",
            ) from error
        if isinstance(error, OverrideParseException) and (
            typed := re.fullmatch(r"\++([^=]+)=(.*)", error.override, re.DOTALL)
        ):
            (key, value), (words, example) = typed.groups(), describe_type(typed[1])
            raise UserError(
                f"{key}={value} cannot be read: it must be {words}", f"type for example {key}={example}"
            ) from error
        reason = f" ({_first_line(error.__cause__)})" if error.__cause__ and str(error).strip() else ""
        raise UserError(
            f"the configuration cannot be composed: {text}{reason}", "check the words after the command"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.name}, line {mark.line + 1}" if mark else "a yaml of the configuration"
        raise UserError(f"{where}: {getattr(error, 'problem', None) or _first_line(error)}", "fix the file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"a yaml of the configuration is not UTF-8 text: {error}", "save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, hundreds of nested brackets
        raise UserError(f"the configuration cannot be composed: {_first_line(error)}", "check the values") from error


def _wrong_type(error: OmegaConfBaseException, plain: Any) -> UserError:
    key = re.sub(r"\[(\w+)\]", r".\1", str(error.full_key or error.key or "")).strip(".")
    while key and (leaf_type(key) is None or key.rpartition(".")[2].isdigit()):
        key = key.rpartition(".")[0]
    if not key:
        return UserError(f"the configuration has a value of the wrong type: {_first_line(error)}", "check the values")
    value = plain
    for part in key.split("."):
        if not isinstance(value, dict):
            break
        value = value.get(part)
    words, example = describe_type(key)
    return UserError(f"{key}={value} must be {words}", f"type for example {key}={example}")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
