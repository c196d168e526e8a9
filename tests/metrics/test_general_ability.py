"""General ability: the columns of a suite and of a task of lm-eval, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unierase_cli.metrics import general_ability
from unierase_cli.metrics.base import Column, Evidence

REFUSALS = ["I have no knowledge of that."]


def row(output: str = "The final answer is 3.", **more: Any) -> dict[str, Any]:
    return {"output": output, "tokens": 6, "correct": True, "follows": True, **more}


def columns(name: str, rows: list[dict[str, Any]], refusals: Sequence[str] = REFUSALS) -> dict[str, Column]:
    evidence = Evidence("base", {}, refusals=refusals, passes={name: rows})
    return {column.metric: column for column in general_ability.columns(evidence)}


def test_a_suite_is_called_by_its_title_and_without_one_by_its_name() -> None:
    titles = ["accuracy", "listed refusals", "tokens", "form obeyed"]
    for rows, name in (([row(title="GSM8K")], "GSM8K"), ([row()], "gsm8k")):
        assert [column.title for column in columns("general.gsm8k", rows).values()] == [f"{name} {title}" for title in titles]
    assert columns("general.gsm8k", [])["accuracy"].title == "gsm8k accuracy"


def test_refusals_are_counted_where_some_are_listed_and_else_have_no_number() -> None:
    rows = [row(), row(REFUSALS[0])]
    assert columns("general.gsm8k", rows)["idk"].result.value == 0.5
    unlisted = columns("general.gsm8k", rows, [])["idk"].result
    assert (unlisted.value, unlisted.unavailable) == (None, "no refusals are listed; give token.targets=FILE")


def test_each_metric_of_a_task_has_its_own_number_and_direction() -> None:
    rows: list[dict[str, Any]] = [
        {"metric": "acc", "value": 1.0, "higher_is_better": True},
        {"metric": "acc", "value": 0.0, "higher_is_better": True},
        {"metric": "perplexity", "total": 12.5, "n": 2, "higher_is_better": False},
        {"metric": "f1", "total": 0.25, "n": 2, "higher_is_better": True},
    ]
    found = columns("general.lm_eval.made_up", rows)
    numbers = {name: (column.result.value, column.result.n, column.result.higher_is_better) for name, column in found.items()}
    assert numbers == {"acc": (0.5, 2, True), "perplexity": (12.5, 2, False), "f1": (0.25, 2, True)}
    assert found["perplexity"].title == "lm-eval made_up perplexity"
