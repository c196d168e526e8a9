"""The collateral map: retained groups, how alike they are to the forgotten ones, and what they lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unierase_cli.benchmarks.parts.neighbours import nearest_forgotten
from unierase_cli.contracts import Benchmark, Fact, Measure
from unierase_cli.metrics.scores import Scores
from unierase_cli.results.one_run import collateral
from unierase_cli.results.one_run.collateral import collateral_map, worst_table

TOPICS = {
    "Ada": "harbour ships sea", "Ben": "harbour ships storm", "Cleo": "harbour violin", "Dan": "violin opera", "Eve": "chess",
}  # fmt: skip


def facts(group: str | None, topic: str, split: str, count: int = 2) -> tuple[Fact, ...]:
    return tuple(Fact(f"{split}-{group}-{i}", f"what of {topic} number {i}?", f"{topic}.", group=group) for i in range(count))


def benchmark(groups: bool = True) -> Benchmark:
    def of(name: str, split: str) -> tuple[Fact, ...]:
        return facts(name if groups else None, TOPICS[name], f"{split}{name}")

    forget, near = of("Ada", "forget"), (*of("Ben", "near"), *of("Cleo", "near"))
    unseen = (*of("Dan", "unseen"), *of("Eve", "unseen"))
    protect = of("Ben", "protect")
    splits = {"forget": forget, "retain_near": near, "retain_unseen": unseen, "retain_protected": protect}
    return Benchmark("own", forget, protect, splits, "print")


def metrics(lost: dict[str, float], known: Benchmark) -> Scores:
    """Scores of 1 before the edit; after it ``lost`` is missing, by group."""
    splits = {name: rows for name, rows in known.splits.items() if name != "forget"}
    states = {
        state: {
            f"{name}.rouge": Measure(
                per_sample=tuple(1.0 - (state == "edited") * lost.get(fact.group or "", 0.0) for fact in rows)
            )
            for name, rows in splits.items()
        }
        for state in ("base", "edited")
    }
    return Scores(facts={f"{name}.plain": [fact.id for fact in rows] for name, rows in splits.items()}, states=states)


LOST = {"Ben": 0.5, "Cleo": 0.25, "Dan": 0.125}


def test_groups_are_alike_by_their_words_and_each_names_its_nearest() -> None:
    known = benchmark()
    alike = nearest_forgotten(known.forget, [*known.splits["retain_near"], *known.splits["retain_unseen"]])
    order = sorted(alike, key=lambda key: -alike[key][0])
    assert order[:2] == ["group:Ben", "group:Cleo"]
    assert {nearest for _, nearest in alike.values()} == {"group:Ada"}


def test_groups_are_alike_in_a_script_without_spaces() -> None:
    def about(name: str, text: str) -> list[Fact]:
        return [Fact(f"{name}-{i}", f"{text}{i}？", f"{text}。", group=name) for i in range(2)]

    alike = nearest_forgotten(about("Ada", "港口的船"), [*about("Ben", "海上的船"), *about("Dan", "小提琴家")])
    assert alike["group:Ben"][0] > alike["group:Dan"][0]


def test_every_group_of_every_split_has_a_row_and_the_worst_come_first() -> None:
    found = collateral_map(metrics(LOST, benchmark()), benchmark())
    assert [(row["group"], row["split"], row["change"]) for row in found["groups"][:4]] == [
        ("Ben", "retain_near", -0.5), ("Ben", "retain_protected", -0.5), ("Cleo", "retain_near", -0.25),
        ("Dan", "retain_unseen", -0.125),
    ]  # fmt: skip
    assert (found["groups"][0]["n"], found["groups"][0]["before"], found["groups"][0]["nearest"]) == (2, 1.0, "Ada")
    assert found["groups"][0]["ci95"] == (-0.5, -0.5)
    assert len(found["groups"]) == 5
    json.dumps(found, allow_nan=False)


def test_the_correlation_counts_a_group_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = benchmark()
    likeness = {"Ben": 0.9, "Cleo": 0.5, "Dan": 0.2, "Eve": 0.1}
    alike = {f"group:{name}": (value, "group:Ada") for name, value in likeness.items()}
    monkeypatch.setattr(collateral, "nearest_forgotten", lambda forgotten, kept: alike)
    found = collateral_map(metrics(LOST, known), known)
    correlation = found["correlation"]
    assert (correlation["rho"], correlation["n"], correlation["p"]) == (pytest.approx(-1), 4, pytest.approx(2 / 24))
    assert "Spearman correlation of change and similarity -1.00 (p = 0.083, n = 4 groups)" in worst_table(found).caption


def test_nothing_lost_is_an_empty_table_and_no_correlation() -> None:
    found = collateral_map(metrics({}, benchmark()), benchmark())
    table = worst_table(found)
    assert table.rows == ()
    assert "0 of 5 retained groups lost" in table.caption
    assert "no correlation with similarity: one side has the same value everywhere" in table.caption


def test_a_benchmark_without_groups_has_no_map_and_says_so() -> None:
    known = benchmark(groups=False)
    found = collateral_map(metrics(LOST, known), known)
    assert found["unavailable"] == "the facts of own have no groups (such as authors)"
    assert found["groups"] == []


def test_a_fact_without_a_group_is_its_own_and_has_no_interval() -> None:
    known = benchmark()
    single = Fact("lone", "what of harbour ships?", "sea.")
    known.splits["retain_unseen"] = (*known.splits["retain_unseen"], single)  # type: ignore[index]
    scores = metrics(LOST, known)
    after = scores.states["edited"]
    after["retain_unseen.rouge"] = Measure(per_sample=(*after["retain_unseen.rouge"].per_sample[:-1], 0.0))
    found = collateral_map(scores, known)
    assert (found["groups"][0]["group"], found["groups"][0]["ci95"], found["groups"][0]["change"]) == ("lone", None, -1.0)
    assert "For a single question there is no interval." in worst_table(found).caption


def test_rows_that_the_benchmark_does_not_have_are_counted() -> None:
    known, scores = benchmark(), metrics(LOST, benchmark())
    scores.facts["retain_near.plain"][0] = "gone"
    assert collateral_map(scores, known)["unknown"] == 1
    scores.facts = {name: ["gone", *(f"gone{i}" for i in range(len(ids) - 1))] for name, ids in scores.facts.items()}
    assert collateral_map(scores, known)["unavailable"] == "the benchmark has none of the scored rows"
    assert "no retained split was scored" in collateral_map(Scores(states={}), known)["unavailable"]


def test_equal_maps_give_an_equal_picture(tmp_path: Path) -> None:
    found = collateral_map(metrics(LOST, benchmark()), benchmark())
    for name in ("a.png", "b.png"):
        collateral.draw(found, tmp_path / name, title="t")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
