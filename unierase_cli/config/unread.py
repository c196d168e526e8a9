"""Refuses words that a chain's parts overrule with values of their own, and names sections that a method does not use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from unierase_cli.config.overrides import WORD
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, PartConfig
from unierase_cli.contracts import UserError

# Section -> whether closed-form edits read it; methods that train read the others.
SECTIONS = {"unlearn": False, "adapter": False, "edit": True}


def unread(experiment: Experiment, words: Sequence[str]) -> list[str]:
    """One sentence for each key that a word sets and that the method, or some parts of a chain, do not use.

    Raises UserError if all parts that would use it have a value of their own: the result would be that of another setting than
    the one that was typed.
    """
    method = experiment.method
    parts: dict[str, MethodConfig | PartConfig] = dict(method.chain) if method.chain else {"": method}
    told = []
    for section, name, key, value in dict.fromkeys(_typed(words)):
        readers = {place: part for place, part in parts.items() if part.editing == SECTIONS[section]}
        if not readers:
            told.append(f"method={method.name} does not use {key}")
        given = getattr(getattr(experiment, section), name, None)
        own = [place for place, part in readers.items() if _overrules(part, experiment, section, name, given)]
        # A part whose own value was typed too is meant to differ.
        silent = [place for place in own if not _named(words, f"method.chain.{place}.{section}.{name}")]
        if not silent:
            continue
        has = f"{' and '.join(silent)} {'has its' if len(silent) == 1 else 'have their'} own value"
        if len(own) < len(readers):
            told.append(f"{key} does not reach every part: {has}")
            continue
        where = [place for place in silent if name in getattr(readers[place], section)]
        hint = " ".join(f"method.chain.{place}.{key}={value}" for place in where)
        raise UserError(f"{key}={value} changes nothing: {has}", hint or "leave it out")
    return list(dict.fromkeys(told))


def _typed(words: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """Section, field, dotted key and value of every word that sets a value of one of ``SECTIONS``."""
    for word in words:
        match = WORD.fullmatch(word)
        if match is None or match["value"] is None:
            continue
        section, *names = match["key"].split(".")
        if section not in SECTIONS:
            continue
        if names:
            yield section, names[0], match["key"], match["value"]
        elif match["value"].startswith("{"):
            from hydra.core.override_parser.overrides_parser import OverridesParser

            values = OverridesParser.create().parse_override(f"{section}={match['value']}").value()
            assert isinstance(values, dict)
            for name, value in values.items():
                yield section, str(name), f"{section}.{name}", str(value)



def _overrules(part: MethodConfig | PartConfig, experiment: Experiment, section: str, name: str, given: Any) -> bool:
    """Whether a part of a chain has another value of its own; another optimiser also has settings of its own."""
    own = getattr(part, section, {}) if isinstance(part, PartConfig) else {}
    if section == "unlearn" and name == "optimizer_settings" and name not in own:
        return bool(own.get("optimizer", experiment.unlearn.optimizer) != experiment.unlearn.optimizer)
    return name in own and bool(own[name] != given)


def _named(words: Sequence[str], key: str) -> bool:
    return any(word.lstrip("+").startswith((f"{key}=", f"{key}.")) for word in words)
