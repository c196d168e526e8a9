"""Tiny models under attack, without an audit around them."""

from __future__ import annotations

from typing import Any

from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.audit.base import Row, Target, attack_settings, load_attack
from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.models.load import LoadedModel


def target(loaded: LoadedModel, facts: int = 4, **more: Any) -> Target:
    """Forgotten: the first ``facts`` facts; kept and material: two of the others each. Control and ceiling: seeds 1 and 0."""
    values: dict[str, Any] = {
        "facts": FACTS[:facts],
        "kept": FACTS[-2:],
        "material": FACTS[-4:-2],
        "forgotten": FACTS[:facts],
        "protocol": ProtocolConfig(max_new_tokens=6),
        "reporter": SilentReporter(),
        "control": lambda: tiny_llama(seed=1),
        "ceiling": lambda: tiny_llama(seed=0),
    }
    return Target(loaded, **values | more)


def attack(name: str, under: Target, case: str | None = None, **settings: Any) -> list[Row]:
    """The rows of one of an attack's cases, by default of the headline."""
    module, values = load_attack(name), attack_settings(name, settings)
    chosen = next(c for c in module.cases(values) if case in (None, c.name))
    return list(module.run(under, chosen, values))
