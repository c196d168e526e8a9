"""Which attacks an audit makes, on what, against which other models, and how its verdict is found (group ``audit``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unierase_cli.config.checks import fraction, positive
from unierase_cli.config.counted import BY_CONTENT, UNCOUNTED
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class VerdictConfig:
    """The numbers at which an audit's words change. All of them are our own choice, published by nobody."""

    recovered: float = 0.25
    """Share of what was forgotten that an attack brings back at least, by the lower end of its interval, to be called
    recovered; also the share that plain questions bring back of what is not forgotten at all.
    """
    resisted: float = 0.1
    """Share that the upper end of an attack's interval stays below, for the attack to be called resisted."""
    smallest_gap: float = 0.05
    """Least difference between the unedited model and the control for which a share is computed."""
    destroyed: float = 0.5
    """Part of the unedited model's recall on retained questions below which a model is called destroyed."""

    def __post_init__(self) -> None:
        for key in ("recovered", "resisted", "smallest_gap", "destroyed"):
            fraction(f"audit.verdict.{key}", getattr(self, key))


@dataclass(frozen=True)
class AuditConfig:
    """The attacks of `unierase audit`."""

    name: str = field(default="quick", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of audit=NAME."""
    attacks: list[str] = field(default_factory=lambda: ["quick"])
    """Attacks by name (`unierase ls attacks`), or presets: quick, standard, thorough; each has those before it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of attacks, by name: audit.settings.prefix.tokens=[4,8]. Each attack's file lists them with their
    defaults.
    """
    control: str | None = field(default=None, metadata=BY_CONTENT)
    """Model that never had the facts: a folder or a hub id. facts: the unedited model, asked facts that it never knew.
    null: model.control, or a retain-only model that was trained here; of a folder that `unierase prepare` made, facts.
    """
    ceiling: str | None = field(default=None, metadata=BY_CONTENT)
    """Unedited model, a folder or a hub id, for a model that comes as a folder. null: the run's own."""
    entities: str | None = field(default=None, metadata=BY_CONTENT)
    """JSONL file that says where the fact stands in each answer: question, prefix (the answer in front of it), entity.
    null: an answer of up to three words is its own entity; looks inside take whole answers.
    """
    facts: int = field(default=0, metadata=BY_CONTENT)
    """Facts of the forget set that are attacked, at most, evenly spaced. 0: all."""
    kept: int = field(default=100, metadata=BY_CONTENT)
    """Retained questions that are asked beside them, at most, evenly spaced."""
    seed: int = 0
    """Seed of what attacks draw; the same for all runs, so that they share the control's and the ceiling's answers."""
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    """The numbers at which the words change."""

    def __post_init__(self) -> None:
        positive("audit.facts", self.facts, zero=True)
        positive("audit.kept", self.kept, zero=True)
        for name, settings in self.settings.items():
            if not isinstance(settings, dict):
                raise UserError(f"audit.settings.{name}={settings} is no setting", f"audit.settings.{name}.KEY=VALUE")
