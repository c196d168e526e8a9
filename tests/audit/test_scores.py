"""From rows to one number per fact."""

from __future__ import annotations

from itertools import combinations

import pytest

from unierase_cli.audit.base import Row
from unierase_cli.audit.scores import best, by_fact


def row(fact: str, text: str, reference: str = "She was born in Lisbon", sample: int = 0, **scores: float) -> Row:
    return Row(fact, "Where?", reference, text, sample=sample, scores=scores)


def test_the_recall_of_a_fact_is_the_mean_over_its_samples() -> None:
    rows = [row("a", "born in Lisbon"), row("a", "nothing", sample=1), row("b", "She was born in Lisbon.")]
    assert by_fact(rows) == {"a": pytest.approx(0.3), "b": 1.0}


def test_a_row_of_whose_answer_no_word_is_left_is_left_out() -> None:
    assert by_fact([row("a", "Lisbon", reference="."), row("b", "Lisbon", reference="Lisbon.")]) == {"b": 1.0}


def test_a_score_that_rows_bring_along_is_taken_as_it_is() -> None:
    assert by_fact([row("a", "", intact=0.25), row("a", "", sample=1, intact=0.75)], "intact") == {"a": 0.5}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_best_of_n_is_the_mean_over_all_draws_of_n_samples(count: int) -> None:
    values = [0.1, 0.9, 0.4, 0.4, 0.0]
    drawn = [max(draw) for draw in combinations(values, count)]
    assert best(values, count) == pytest.approx(sum(drawn) / len(drawn))


def test_for_hits_the_best_of_n_is_the_chance_of_one() -> None:
    # 1 - C(5 - 2, 3) / C(5, 3)
    assert best([1.0, 0.0, 1.0, 0.0, 0.0], 3) == pytest.approx(0.9)


def test_a_fact_with_too_few_samples_has_no_best_of_n() -> None:
    assert by_fact([row("a", "Lisbon"), row("a", "Lisbon", sample=1)], best_of=4) == {}
