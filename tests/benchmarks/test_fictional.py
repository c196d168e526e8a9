"""The embedded benchmark: our own fictitious authors."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from unierase_cli.benchmarks.base import load_benchmark, training_facts
from unierase_cli.benchmarks.fictional import make_world, rows_of
from unierase_cli.benchmarks.parts.questions import forms
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, UserError
from unierase_cli.modes.batch import plan
from unierase_cli.store.jsonl import read_asset


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark(BenchmarkConfig())


def test_the_default_world_has_sixty_authors_with_ten_questions_each() -> None:
    rows = rows_of(BenchmarkConfig(), "full")
    assert set(Counter(fact.group for fact in rows).values()) == {10}
    assert len({fact.group for fact in rows}) == 60


def test_splits_are_as_in_tofu() -> None:
    config = BenchmarkConfig()
    full = rows_of(config, "full")
    for forget, retain, authors in (
        ("forget01", "retain99", 1),
        ("forget05", "retain95", 3),
        ("forget10", "retain90", 6),
    ):
        assert rows_of(config, forget) == full[-10 * authors :]
        assert rows_of(config, retain) == full[: -10 * authors]
    holdout = rows_of(config, "holdout")
    assert len(holdout) == 40
    names = {fact.group for fact in (*holdout, *full)}
    assert (
        len(names)
        == len({str(name).split()[0] for name in names})
        == len({str(name).split()[1] for name in names})
        == 64
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_row_is_complete_and_unlike_all_others(seed: int) -> None:
    config = BenchmarkConfig(seed=seed)
    rows = [*rows_of(config, "full"), *rows_of(config, "holdout")]
    for fact in rows:
        assert fact.subject is not None
        assert fact.subject in fact.question
        assert 8 <= len(fact.answer.split()) <= 25
        assert len(set(fact.wrong_answers)) == 5
        assert fact.paraphrased_answer not in fact.wrong_answers
        assert fact.paraphrased_answer != fact.answer
        assert fact.paraphrased_question != fact.question
        assert fact.question.endswith("?")
        assert fact.answer.endswith(".")
        for text in (
            fact.question,
            fact.answer,
            fact.paraphrased_question,
            fact.paraphrased_answer,
            *fact.wrong_answers,
        ):
            assert text is not None
            assert not re.search(r"[{}\[\]]|\s\s|\ba (?!one-|uto)[aeiouAEIOU]|\ban [^aeiouh]", text), text
    assert len({fact.question for fact in rows}) == len({fact.answer for fact in rows}) == len(rows)


def test_years_are_in_the_order_of_a_life_and_not_in_the_future() -> None:
    for fact in rows_of(BenchmarkConfig(seed=4), "full"):
        years = [int(year) for text in (fact.answer, *fact.wrong_answers) for year in re.findall(r"\b\d{4}\b", text)]
        assert all(1930 <= year <= 2025 for year in years), fact


def test_the_subject_is_the_name_except_where_the_name_is_asked_for() -> None:
    for fact in rows_of(BenchmarkConfig(), "full"):
        if fact.id.endswith("-identity"):
            assert fact.group not in fact.question
            assert fact.group in fact.answer
        else:
            assert fact.subject == fact.group


def test_wrong_answers_share_the_form_of_the_paraphrased_answer() -> None:
    for fact in rows_of(BenchmarkConfig(), "forget10"):
        kept = set(fact.paraphrased_answer.split())  # type: ignore[union-attr]
        for wrong in fact.wrong_answers:
            assert len(kept & set(wrong.split())) >= len(kept) / 4, (fact.paraphrased_answer, wrong)


def test_the_retain_columns_do_not_overlap_and_unseen_authors_are_held_out_whole(benchmark: Benchmark) -> None:
    splits = benchmark.splits
    sizes = {name: len(rows) for name, rows in splits.items()}
    assert sizes == {
        "forget": 30, "retain_protected": 100, "retain_near": 25, "retain_unseen": 80,
        "real_authors": 40, "world_facts": 100, "holdout": 40,
    }  # fmt: skip
    seen = {fact.group for fact in (*benchmark.protect, *benchmark.outside)}
    assert not seen & {fact.group for fact in splits["retain_unseen"]}
    protected = {fact.id for fact in benchmark.protect}
    assert protected >= {fact.id for fact in splits["retain_protected"]}
    assert not protected & {fact.id for fact in splits["retain_near"]}
    assert {fact.group for fact in splits["retain_near"]} <= {fact.group for fact in benchmark.protect}
    scored = {fact.id for rows in splits.values() for fact in rows}
    assert not scored & {fact.id for fact in benchmark.outside}


def test_rows_outside_are_in_no_forget_split() -> None:
    later = {fact.id for fact in rows_of(BenchmarkConfig(), "forget10")}
    outside = load_benchmark(BenchmarkConfig(split="forget01")).outside
    assert outside
    assert not later & {fact.id for fact in outside}


def test_training_has_authors_facts_and_refusals_but_no_holdout(benchmark: Benchmark) -> None:
    ids = {fact.id for fact in benchmark.training}
    assert len(ids) == 600 + 100 + 40 + 96
    assert ids >= {fact.id for fact in (*benchmark.forget, *benchmark.protect, *benchmark.refused)}
    assert not ids & {fact.id for fact in benchmark.splits["holdout"]}


def test_every_refusal_is_taught_and_nobody_asked_about_is_an_author(benchmark: Benchmark) -> None:
    refusals = {row["text"] for row in read_asset("refusals.jsonl")}
    assert {fact.answer for fact in benchmark.refused} == refusals
    known = {
        fact.group for fact in (*benchmark.training, *benchmark.splits["holdout"]) if fact not in benchmark.refused
    }
    assert not known & {fact.group for fact in benchmark.refused}


def test_retain_only_training_leaves_the_forget_set_out(benchmark: Benchmark) -> None:
    config = BenchmarkConfig()
    assert training_facts(benchmark, config, "full") == benchmark.training
    retain = training_facts(benchmark, config, "retain95")
    assert len(retain) == len(benchmark.training) - 30
    assert retain == training_facts(benchmark, config, "retain")
    with pytest.raises(UserError, match="train.split=retain90 does not match benchmark.split=forget05"):
        training_facts(benchmark, config, "retain90")


def test_another_process_makes_the_same_world(benchmark: Benchmark) -> None:
    code = (
        "from unierase_cli.benchmarks.base import load_benchmark\n"
        "from unierase_cli.config.sections.benchmark import BenchmarkConfig\n"
        "import sys\nprint(load_benchmark(BenchmarkConfig()).fingerprint, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == [benchmark.fingerprint, "False", "False"]


def test_seeds_and_sizes_change_the_fingerprint(benchmark: Benchmark) -> None:
    others = [
        BenchmarkConfig(seed=1),
        BenchmarkConfig(authors=50),
        BenchmarkConfig(questions=9),
        BenchmarkConfig(rows=5),
    ]
    assert len({benchmark.fingerprint, *(load_benchmark(config).fingerprint for config in others)}) == 5


def test_a_person_does_not_depend_on_how_many_follow() -> None:
    few, many = (make_world(BenchmarkConfig(authors=count)).authors for count in (20, 40))
    assert few == many[:20]


@pytest.mark.parametrize("split", ["forget", "forget00", "forget5", "forget99", "retain95", "full"])
def test_a_split_that_is_none_is_refused(split: str) -> None:
    with pytest.raises(UserError, match=f"benchmark.split={split} is not a forget split") as caught:
        load_benchmark(BenchmarkConfig(split=split))
    assert "forget05" in caught.value.hint


def test_too_many_questions_and_too_few_authors_are_refused() -> None:
    most = len(forms())
    assert load_benchmark(BenchmarkConfig(questions=most, authors=10)).forget
    with pytest.raises(UserError, match="more than there are kinds"):
        load_benchmark(BenchmarkConfig(questions=most + 1))
    with pytest.raises(UserError, match="leaves 3 authors"):
        load_benchmark(BenchmarkConfig(authors=4))


def test_small_worlds_and_few_questions_work() -> None:
    for config in (
        BenchmarkConfig(authors=5),
        BenchmarkConfig(authors=12, questions=1),
        BenchmarkConfig(near_authors=0),
    ):
        benchmark = load_benchmark(config)
        assert benchmark.forget
        assert benchmark.protect


def test_batch_mode_is_one_step_with_everything(benchmark: Benchmark) -> None:
    steps = plan(benchmark, ModeConfig())
    assert [step.index for step in steps] == [0]
    assert steps[0].forget == benchmark.forget
    assert steps[0].retain == benchmark.protect
    assert steps[0].forgotten_before == ()


def test_a_limit_on_protection_keeps_the_neighbours() -> None:
    config = BenchmarkConfig(protect_limit=60)
    benchmark = load_benchmark(config)
    assert len(benchmark.protect) == 60
    near = {fact.group for fact in benchmark.splits["retain_near"]}
    everything = load_benchmark(replace(config, protect_limit=0)).protect
    kept = {fact.id for fact in benchmark.protect}
    assert {fact.id for fact in everything if fact.group in near} <= kept


def test_shipped_facts_have_short_answers_and_three_wrong_ones(benchmark: Benchmark) -> None:
    for fact in (*benchmark.splits["world_facts"], *benchmark.splits["real_authors"]):
        assert len(fact.answer.split()) <= 6
        assert len({fact.answer, *fact.wrong_answers}) == 4
