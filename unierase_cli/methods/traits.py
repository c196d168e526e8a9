"""What a method and its loss terms say of themselves in their files: asked by name, without importing them or torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.contracts import UserError
from unierase_cli.methods.base import METHODS
from unierase_cli.methods.settings import TERMS, completed, method_settings


def samples(method: MethodConfig) -> bool:
    """Whether it draws answers from the model (``SAMPLES``)."""
    return bool(METHODS.says(method.implemented_by, "SAMPLES", False))


def changes_nothing(method: MethodConfig) -> bool:
    """Whether the model is left as it is (``CHANGES_NOTHING``); no for a method that is no longer there."""
    with suppress(UserError):
        return bool(METHODS.says(method.implemented_by, "CHANGES_NOTHING", False))
    return False


def rows_per_fact(method: MethodConfig) -> int:
    """Examples that it trains on for each fact to forget: the value of the setting that ``ROWS_PER_FACT`` names, else 1."""
    setting = METHODS.says(method.implemented_by, "ROWS_PER_FACT")
    return 1 if setting is None else method_settings(METHODS.says(method.implemented_by, "SETTINGS", {}), method)[setting]


def check_adapter(experiment: Experiment) -> None:
    """Refuse a method that trains adapters (``NEEDS_ADAPTER``) where none is chosen."""
    method = experiment.method
    if METHODS.says(method.implemented_by, "NEEDS_ADAPTER", False) and experiment.adapter.name == "none":
        raise UserError(f"method={method.name} trains adapters", "add adapter=lora, or choose method=task_vector")


@dataclass(frozen=True)
class Looks:
    """What a loss term looks at. ``rows``: kinds of examples; ``everywhere``: whether at every position of the padded batch;
    ``reference``: kind -> what is needed of the model before unlearning.
    """

    rows: tuple[str, ...]
    everywhere: bool
    reference: Mapping[str, str]


def looks(experiment: Experiment) -> dict[str, Looks]:
    """Role (``forget``, ``retain``) -> what its term looks at. A term is imported only if what it says depends on settings that are
    not the defaults.
    """
    method = completed(experiment).method
    return {role: _looks(term) for role, term in (("forget", method.forget), ("retain", method.retain)) if term.term is not None}


def _looks(config: TermConfig) -> Looks:
    assert config.term is not None
    everywhere = _says(config, "PER", "per", "token") == "position"
    return Looks(TERMS.says(config.term, "ROWS", ()), everywhere, _says(config, "REFERENCE", "reference", {}))


def _says(config: TermConfig, constant: str, function: str, default: Any) -> Any:
    assert config.term is not None
    usual = config.settings == TERMS.says(config.term, "SETTINGS", {})
    own = None if usual else TERMS.says(config.term, function)
    return TERMS.says(config.term, constant, default) if own is None else own(config.settings)
