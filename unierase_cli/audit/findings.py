"""What an audit found: one entry per attack and setting, and what its report shows of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unierase_cli.audit.numbers import Numbers
from unierase_cli.audit.series import Block, Curve, Rounded

# Lists of dataclasses beside the findings.
SERIES = ("curves", "blocks", "rounding")


@dataclass(frozen=True)
class Example:
    """What came back for one question, beside what a model that never knew the answer said."""

    question: str
    answer: str
    text: str
    control: str | None = None


@dataclass(frozen=True)
class Finding(Numbers):
    """One attack in one setting, with its numbers. ``kind``: the attack's class; ``headline``: its first setting.

    ``retained``: recall on retained questions under the attack; ``trained``: on the facts that it trained on. ``benign``: nobody
    gave an answer away; ``weak``: weak evidence. ``seconds``: of the unlearned model.
    """

    attack: str
    kind: str
    setting: str
    headline: bool
    version: int
    score: str
    word: str
    retained: float | None = None
    trained: float | None = None
    benign: bool = False
    weak: bool = False
    seconds: float = 0.0
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class Audit:
    """A run's audit. ``left_out``: attack -> why it was not made; ``remarks``: what has to be known to read the numbers.

    ``kind`` and ``line``: the verdict. ``retained``, ``retained_before``: recall on retained questions. ``curves``: of relearning;
    ``blocks``: depth by block; ``rounding``: what rounding makes of the edit.
    """

    title: str
    kind: str
    line: str
    findings: list[Finding]
    retained: float | None = None
    retained_before: float | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    rounding: list[Rounded] = field(default_factory=list)

    def headlines(self) -> list[Finding]:
        """The one setting of each attack that was chosen before anything was known."""
        return [found for found in self.findings if found.headline]

    def to_json(self) -> dict[str, Any]:
        """For machines: attack -> setting -> numbers, beside the verdict."""
        attacks: dict[str, dict[str, Any]] = {}
        for found in self.findings:
            told = {f.name: getattr(found, f.name) for f in fields(found) if f.name not in ("attack", "setting", "examples")}
            told["gain"] = found.gain
            told["examples"] = [vars(example) for example in found.examples]
            attacks.setdefault(found.attack, {})[found.setting] = told
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("findings", *SERIES)}
        rest |= {name: [asdict(one) for one in getattr(self, name)] for name in SERIES}
        return {**rest, "attacks": attacks}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Audit:
        """What ``to_json`` wrote. Raises ValueError or TypeError for anything else."""
        import msgspec

        found = [
            {**told, "attack": attack, "setting": setting}
            for attack, settings in data["attacks"].items()
            for setting, told in settings.items()
        ]
        return msgspec.convert({**{k: v for k, v in data.items() if k != "attacks"}, "findings": found}, cls)
