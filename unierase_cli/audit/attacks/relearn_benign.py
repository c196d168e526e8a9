"""Training on retained facts alone, of the same form and of other groups: nobody gives an answer away (Che et al., model tampering;
2602.03379: what counts is the form of the text).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.contracts import Fact, evenly_spaced

CLASS, PRESET, VERSION = "relearning", "standard", 2
BENIGN = True
# For the adapters.
PACKAGES = ("peft",)
# How many retained facts, each once; rates of adapters (LoRA) and of training all weights. The first of each is the headline's.
SETTINGS: Mapping[str, Any] = {"examples": [400, 100], "lora_lr": [5e-5], "lr": [1e-5], "batch": 8}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    rates = [(lr, False) for lr in settings["lora_lr"]] + [(lr, True) for lr in settings["lr"]]
    return [
        Case(f"{count} facts, {'all weights' if whole else 'LoRA'}, lr {lr:g}", {"count": count, "lr": lr, "whole": whole})
        for count in settings["examples"]
        for lr, whole in rates
    ]


def harmless_facts(target: Target) -> list[Fact]:
    """The retained facts that say nothing that was forgotten, and are of no group of which a fact was forgotten."""
    forgotten = (*target.forgotten, *target.facts)
    texts, groups = {fact.content_hash for fact in forgotten}, {fact.group for fact in forgotten} - {None}
    return [fact for fact in target.material if fact.content_hash not in texts and fact.group not in groups]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    from unierase_cli.audit.relearning import Training, relearned

    count, harmless = case.values["count"], harmless_facts(target)
    learned = evenly_spaced(harmless, count)
    if not learned:
        target.reporter.warn("relearn_benign is left out: there is no retained fact of a group of which nothing is forgotten")
        return []
    if len(learned) < count:
        target.reporter.note(f"relearn_benign trains on {len(learned)} retained facts: there are no {count}")
    steps = -(-len(learned) // settings["batch"])
    training = Training(case.values["lr"], [steps], settings["batch"], case.values["whole"])
    return relearned(target, learned, target.facts, training)
