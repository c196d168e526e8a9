"""Completes the settings that methods and loss terms declare in their files (``SETTINGS``), without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from unierase_cli.config.checks import complete
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, PartConfig, TermConfig
from unierase_cli.methods.base import METHODS
from unierase_cli.methods.parts import naming
from unierase_cli.plugins import Plugins

M = TypeVar("M", MethodConfig, PartConfig)
TERMS = Plugins("unierase_cli.methods.terms", "unierase.terms", "term=", "loss term")


def completed(experiment: Experiment) -> Experiment:
    """The experiment with all settings of its method, loss terms and optimiser filled in. Raises UserError for an unknown or
    invalid setting.
    """
    method, unlearn = experiment.method, experiment.unlearn
    unlearn = replace(unlearn, optimizer_settings=unlearn.all_optimizer_settings())
    chain = {name: _completed_part(name, part, experiment.run.seed) for name, part in method.chain.items()}
    return replace(experiment, method=replace(_completed(method, experiment.run.seed), chain=chain), unlearn=unlearn)


def _completed_part(name: str, part: PartConfig, seed: int) -> PartConfig:
    with naming(name):
        return _completed(part, seed)


def _completed(method: M, seed: int) -> M:
    forget, retain = (_completed_term(role, getattr(method, role), seed) for role in ("forget", "retain"))
    settings = method_settings(METHODS.says(method.implemented_by, "SETTINGS", {}), method)
    return replace(method, settings=settings, forget=forget, retain=retain)


def given_settings(defaults: Mapping[str, Any], config: TermConfig, seed: int) -> dict[str, Any]:
    """The configured settings of a term; a term with a ``seed`` setting defaults to the run's ``seed``."""
    return {**({"seed": seed} if "seed" in defaults else {}), **config.settings}


def term_title(role: str, name: str) -> str:
    """Name of a term's settings in messages."""
    return f"method.{role}.settings of term {name}"


def method_settings(defaults: Mapping[str, Any], config: MethodConfig | PartConfig) -> dict[str, Any]:
    """The method's settings, completed with ``defaults``. Raises UserError for an unknown or invalid setting."""
    return complete(defaults, config.settings, f"method.settings of {config.name}")


def _completed_term(role: str, config: TermConfig, seed: int) -> TermConfig:
    if config.term is None:
        return config
    defaults = TERMS.says(config.term, "SETTINGS", {})
    return replace(
        config, settings=complete(defaults, given_settings(defaults, config, seed), term_title(role, config.term))
    )
