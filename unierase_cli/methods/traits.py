"""What methods and loss terms declare in their files, read by name without importing them or torch."""

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
    """Whether the method samples answers from the model (``SAMPLES``)."""
    return bool(METHODS.says(method.implemented_by, "SAMPLES", False))


def reveals(experiment: Experiment) -> bool:
    """Whether the method asks the model about targets that are given (``REVEALS``)."""
    there = experiment.reveal.targets is not None
    return there and bool(METHODS.says(experiment.method.implemented_by, "REVEALS", False))


def fits_batches(method: MethodConfig) -> bool:
    """Whether the method fits its batches to its rows itself, since later rounds reveal other numbers of them (``REVEALS``)."""
    return bool(METHODS.says(method.implemented_by, "REVEALS", False))


def changes_nothing(method: MethodConfig) -> bool:
    """Whether the model stays unchanged (``CHANGES_NOTHING``); False for a method that no longer exists."""
    with suppress(UserError):
        return bool(METHODS.says(method.implemented_by, "CHANGES_NOTHING", False))
    return False


def rows_per_fact(method: MethodConfig) -> int:
    """Training examples per fact to forget: the value of the setting that ``ROWS_PER_FACT`` names, else 1."""
    setting = METHODS.says(method.implemented_by, "ROWS_PER_FACT")
    return 1 if setting is None else method_settings(METHODS.says(method.implemented_by, "SETTINGS", {}), method)[setting]


def check_adapter(experiment: Experiment) -> None:
    """Raise UserError for a method that trains adapters (``NEEDS_ADAPTER``) if no adapter is configured."""
    method = experiment.method
    if METHODS.says(method.implemented_by, "NEEDS_ADAPTER", False) and experiment.adapter.name == "none":
        raise UserError(f"method={method.name} trains adapters", "add adapter=lora, or choose method=task_vector")


@dataclass(frozen=True)
class Looks:
    """What a loss term reads. ``rows``: kinds of examples; ``everywhere``: whether it covers every position of the padded
    batch; ``reference``: kind -> what it needs from the reference model.
    """

    rows: tuple[str, ...]
    everywhere: bool
    reference: Mapping[str, str]


def looks(experiment: Experiment) -> dict[str, Looks]:
    """Role (``forget``, ``retain``) -> what its term reads. A term is imported only if its needs depend on non-default settings."""
    method = completed(experiment).method
    return {role: _looks(term) for role, term in (("forget", method.forget), ("retain", method.retain)) if term.term is not None}


def _looks(config: TermConfig) -> Looks:
    assert config.term is not None
    everywhere = _says(config, "PER", "per", "token") == "position"
    return Looks(_says(config, "ROWS", "kinds", ()), everywhere, _says(config, "REFERENCE", "reference", {}))


def _says(config: TermConfig, constant: str, function: str, default: Any) -> Any:
    assert config.term is not None
    usual = config.settings == TERMS.says(config.term, "SETTINGS", {})
    own = None if usual else TERMS.says(config.term, function)
    return TERMS.says(config.term, constant, default) if own is None else own(config.settings)
