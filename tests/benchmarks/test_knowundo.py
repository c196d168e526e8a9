"""KnowUnDo: private and public questions about the same people."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.benchmark_files import PEOPLE, config
from unierase_cli.benchmarks.base import load_benchmark, training_facts
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import normalised


def test_what_is_kept_is_about_the_people_whose_private_data_is_forgotten(tmp_path: Path) -> None:
    benchmark = load_benchmark(config("knowundo", tmp_path))
    for split in ("forget", "forget_eval", "same_subject"):
        assert tuple(fact.subject for fact in benchmark.splits[split]) == PEOPLE
    assert {fact.subject for fact in benchmark.splits["retain_protected"]} < set(PEOPLE), "three are scored"
    assert "retain_unseen" not in benchmark.splits, "nobody else is asked about"
    assert {fact.group for fact in benchmark.protect} == set(PEOPLE)
    assert not {fact.id for fact in benchmark.protect} & {fact.id for fact in benchmark.splits["same_subject"]}


def test_the_real_files_have_their_sizes_and_no_question_twice(shared: Path) -> None:
    folder = str(shared / "data" / "knowundo_privacy")
    benchmark = load_benchmark(BenchmarkConfig(name="knowundo", split="all", data_dir=folder, unknown_people=0))
    assert [len(benchmark.forget), len(benchmark.protect), len(benchmark.training)] == [400, 441, 1059]
    assert [len(benchmark.splits[name]) for name in ("forget_eval", "same_subject")] == [110, 108]
    assert len({normalised(fact.question) for fact in benchmark.training}) == 1059
    assert sum(fact.subject is None for fact in benchmark.training) <= 1
    retained = training_facts(benchmark, BenchmarkConfig(name="knowundo", split="all"), "retain")
    assert len(retained) == 1059 - 400 - 110, "no private data is left for the retain-only model"
