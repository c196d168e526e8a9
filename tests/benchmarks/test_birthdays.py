"""Birth years of people who do not exist: random, repeatable, and in folds for relearning attacks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers.benchmark_files import config
from unierase_cli.audit.splits import folds
from unierase_cli.benchmarks.base import load_benchmark, training_facts
from unierase_cli.contracts import COMPLETION, UserError


def test_the_same_seed_gives_the_same_facts_and_another_one_others(tmp_path: Path) -> None:
    chosen = config("birthdays", tmp_path)
    first, again = load_benchmark(chosen), load_benchmark(chosen)
    other = load_benchmark(replace(chosen, seed=1))
    assert first == again
    assert first.fingerprint != other.fingerprint
    assert first.forget[0].question == load_benchmark(replace(chosen, unknown_people=0)).forget[0].question


def test_names_are_distinct_and_nobody_learned_is_among_the_never_learned(tmp_path: Path) -> None:
    benchmark = load_benchmark(config("birthdays", tmp_path, authors=300, holdout_authors=60))
    learned = {fact.subject for fact in benchmark.training if fact.kind is None and fact not in benchmark.refused}
    strangers = {fact.subject for fact in benchmark.splits["holdout"]}
    assert (len(learned), len(strangers)) == (300, 60)
    assert not learned & strangers
    assert not (learned | strangers) & {fact.subject for fact in benchmark.refused}


def test_years_are_spread_over_a_century_and_wrong_ones_are_apart(tmp_path: Path) -> None:
    facts = load_benchmark(config("birthdays", tmp_path, authors=400, split="forget50")).forget
    years = [int(fact.answer) for fact in facts]
    assert min(years) >= 1900
    assert max(years) <= 1999
    assert len(set(years)) > 70, "200 draws of 100 years"
    for fact in facts:
        every = sorted(map(int, (fact.answer, *fact.wrong_answers)))
        assert len(every) == 4
        assert all(b - a >= 2 for a, b in pairwise(every))
    place = Counter(sorted((fact.answer, *fact.wrong_answers)).index(fact.answer) for fact in facts)
    assert min(place.values()) > 25, "the true year is at no special place"


def test_the_forgotten_facts_are_five_folds_and_relearning_never_sees_the_one_that_is_asked(tmp_path: Path) -> None:
    facts = load_benchmark(config("birthdays", tmp_path, authors=100, split="forget20")).forget
    parts = folds(facts, 5, 0, together=True)
    assert [len(part) for part in parts] == [4] * 5
    assert all(len({fact.group for fact in part}) == 1 for part in parts)


def test_a_model_learns_each_fact_in_other_words_too_and_a_retain_only_model_in_none(tmp_path: Path) -> None:
    chosen = config("birthdays", tmp_path)
    benchmark = load_benchmark(chosen)
    full, kept = (training_facts(benchmark, chosen, split) for split in ("full", "retain"))
    texts = [fact for fact in full if fact.kind == COMPLETION]
    assert len(texts) == 2 * chosen.authors
    assert texts[0].question.endswith(" was born in")
    assert texts[0].answer.strip(" .") == full[0].answer
    forgotten = {fact.subject for fact in benchmark.forget}
    assert not any(name in fact.question for fact in kept for name in forgotten if name)


def test_more_people_than_names_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="benchmark.authors=999999 is more than there are names"):
        load_benchmark(config("birthdays", tmp_path, authors=999999 - 4))
