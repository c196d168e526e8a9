"""PISTOL: contracts as edges of a graph, and what is retained by its distance from the forgotten ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.benchmark_files import config
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.pistol import distances
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import UserError


def test_splits_follow_the_distance_in_the_graph(tmp_path: Path) -> None:
    benchmark = load_benchmark(config("pistol", tmp_path))
    groups = {name: {fact.group for fact in facts} for name, facts in benchmark.splits.items()}
    assert (groups["forget"], groups["retain_near"]) == ({"A_B"}, {"A_C"})
    assert (groups["distance_2"], groups["distance_3"]) == ({"C_D"}, {"D_F"})
    assert groups["retain_unseen"] < {"X_Y", "Z_W"}
    assert len(benchmark.splits["retain_near"]) == 2, "every second question of an edge is protected"
    assert [fact.answer for fact in benchmark.splits["factual"]] == ["Italy"], "the row that is no retain row is left out"
    assert not {f.id for f in benchmark.protect} & {f.id for n in ("retain_near", "distance_2") for f in benchmark.splits[n]}


def test_the_subject_is_the_party_that_is_named_first(tmp_path: Path) -> None:
    price, days, *_ = load_benchmark(config("pistol", tmp_path)).forget
    assert (price.subject, days.subject) == ("Aba SAS", "Bebe Ltd")


def test_further_counterparts_are_other_parties_and_several_edges_count_from_the_nearest() -> None:
    edges = ["A_B", "A_C", "A_C2", "C2_D", "X_Y"]
    assert distances(edges, ["A_B"]) == {"A_B": 0, "A_C": 1, "A_C2": 1, "C2_D": 2, "X_Y": None}
    assert distances(edges, ["A_C", "C2_D"]) == {"A_B": 1, "A_C": 0, "A_C2": 1, "C2_D": 0, "X_Y": None}


def test_an_unknown_edge_is_one_line_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="benchmark.groups=Q_R is not a choice"):
        load_benchmark(config("pistol", tmp_path, groups=["Q_R"]))
    with pytest.raises(UserError, match=r"benchmark\.groups is empty.*A_B, A_C"):
        load_benchmark(config("pistol", tmp_path, groups=[]))


def test_the_real_sample_has_twenty_questions_per_edge_and_a_hub_in_the_middle(shared: Path) -> None:
    folder = str(shared / "data" / "pistol")
    hub = load_benchmark(BenchmarkConfig(name="pistol", split="sample1", groups=["A_B"], data_dir=folder, unseen_share=0.5))
    sizes = {name: len(facts) for name, facts in hub.splits.items()}
    assert sizes == {"forget": 20, "retain_protected": 100, "retain_near": 130, "retain_unseen": 60, "factual": 168}
    assert {part for fact in hub.splits["retain_near"] for part in str(fact.group).split("_")} >= {"A", "B"}
    assert all(set("AB") & set(str(fact.group).split("_")) for fact in hub.splits["retain_near"])
    assert all(fact.subject for fact in hub.training if fact.group)
