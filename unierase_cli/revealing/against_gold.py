"""How much of a true forget set a model revealed, and how much of what it revealed is true (ours).

A true question is covered if its answer is found in a row about the same target: ROUGE-L recall of at least 0.5. A row is
supported if at least half of its answer's words are found, in order, in a true answer about its target (ROUGE-L precision).
The same two numbers against other targets' rows show how much of that is chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unierase_cli.contracts import Fact, normalised
from unierase_cli.metrics.entity import mentions
from unierase_cli.metrics.rouge import rouge_l_recall

FOUND = 0.5


def against_gold(rows: Sequence[Mapping[str, Any]], gold: Sequence[Fact], targets: Sequence[str]) -> dict[str, Any]:
    """Coverage, precision and their chance levels, all together and by target; shares are None without anything to count.

    A true fact belongs to the first target that is its group or subject, or is mentioned in it. Facts of no target are
    ``not_targeted``: no row can cover them.
    """
    of_gold = [(fact, _owner(fact, targets)) for fact in gold]
    owned = [(fact, owner) for fact, owner in of_gold if owner is not None]
    covered = {fact.id: _best_recall(fact.answer, [r for r in rows if r["group"] == owner]) for fact, owner in owned}
    by_others = {fact.id: _best_recall(fact.answer, [r for r in rows if r["group"] != owner]) for fact, owner in owned}
    supported, by_chance = [], []
    for row in rows:
        own = [fact.answer for fact, owner in owned if owner == row["group"]]
        others = [fact.answer for fact, owner in owned if owner != row["group"]]
        supported.append(_support(row["answer"], own))
        by_chance.append(_support(row["answer"], others))
    alone = len({owner for _, owner in owned}) < 2
    return {
        "gold": len(gold),
        "not_targeted": len(gold) - len(owned),
        "rows": len(rows),
        "coverage": _share(list(covered.values())),
        "precision": _share(supported),
        # One target has no others to compare with.
        "coverage_by_other_targets": None if alone else _share(list(by_others.values())),
        "precision_by_other_targets": None if alone else _share(by_chance),
        "by_target": {
            name: {
                "gold": sum(owner == name for _, owner in owned),
                "rows": sum(row["group"] == name for row in rows),
                "coverage": _share([covered[fact.id] for fact, owner in owned if owner == name]),
                "precision": _share([s for row, s in zip(rows, supported, strict=True) if row["group"] == name]),
            }
            for name in targets
        },
        "missed": [fact.id for fact, _ in owned if covered[fact.id] < FOUND],
    }


def _owner(fact: Fact, targets: Sequence[str]) -> str | None:
    names = {normalised(name): name for name in targets}
    for own in (fact.group, fact.subject):
        if own is not None and normalised(own) in names:
            return names[normalised(own)]
    return next((name for name in targets if mentions(f"{fact.question} {fact.answer}", name)), None)


def _best_recall(answer: str, rows: Sequence[Mapping[str, Any]]) -> float:
    return max((rouge_l_recall(row["answer"], answer) for row in rows), default=0.0)


def _support(answer: str, true_answers: Sequence[str]) -> float:
    return max((rouge_l_recall(true, answer) for true in true_answers), default=0.0)


def _share(values: Sequence[float]) -> float | None:
    """Share of values of at least FOUND; None without values."""
    return sum(value >= FOUND for value in values) / len(values) if values else None
