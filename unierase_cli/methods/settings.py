"""The settings that a loss term states in its file (``SETTINGS``), completed with their defaults; torch is not imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import TermConfig
from unierase_cli.contracts import UserError
from unierase_cli.plugins import Plugins

TERMS = Plugins("unierase_cli.methods.terms", "unierase.terms", "term=", "loss term")


def completed(experiment: Experiment) -> Experiment:
    """The experiment with every setting of its method's terms in place. Raises UserError for an unknown or unfit one."""
    method = experiment.method
    forget, retain = (
        _completed_term(role, getattr(method, role), experiment.run.seed) for role in ("forget", "retain")
    )
    return replace(experiment, method=replace(method, forget=forget, retain=retain))


def given_settings(defaults: Mapping[str, Any], config: TermConfig, seed: int) -> dict[str, Any]:
    """What the configuration gives a term; to one that draws something and is given no seed, that of the run (``seed``)."""
    return {**({"seed": seed} if "seed" in defaults else {}), **config.settings}


def term_title(role: str, name: str) -> str:
    """How messages name the settings of a term."""
    return f"method.{role}.settings of term {name}"


def complete(defaults: Mapping[str, Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The defaults with what is given in their place. Raises UserError for a setting that is unknown, or of another kind."""
    for key, value in given.items():
        if key not in defaults:
            near = get_close_matches(key, list(defaults), n=1)
            known = f"{name} has {', '.join(defaults) or 'no settings'}"
            raise UserError(f"{name} has no setting {key!r}", f"did you mean {near[0]}?" if near else known)
        _check_type(f"{name}: {key}", defaults[key], value)
    return {**defaults, **given}


def _completed_term(role: str, config: TermConfig, seed: int) -> TermConfig:
    if config.term is None:
        return config
    defaults = TERMS.says(config.term, "SETTINGS", {})
    return replace(
        config, settings=complete(defaults, given_settings(defaults, config, seed), term_title(role, config.term))
    )


def _check_type(what: str, default: Any, given: Any) -> None:
    """Refuse a value of another kind than the default's, where that is a truth value, a whole number or a number."""
    for kind, fits, name in (
        (bool, bool, "true or false"),
        (int, int, "a whole number"),
        (float, int | float, "a number"),
    ):
        if isinstance(default, kind):
            if not isinstance(given, fits) or (kind is not bool and isinstance(given, bool)):
                raise UserError(f"{what}={given} must be {name}", f"its default is {default}")
            return
