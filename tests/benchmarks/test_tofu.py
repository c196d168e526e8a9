"""TOFU from a folder, from the hub, and the real data where it is at hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, SilentReporter, UserError
from unierase_cli.store.jsonl import write_jsonl

AUTHORS = 30


def _row(index: int) -> dict[str, Any]:
    author = f"Name{index // 20}"
    return {"question": f"What is fact {index} of {author}?", "answer": f"Fact {index} is red."}


def _perturbed(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "paraphrased_answer": "It is red.",
        "perturbed_answer": [f"It is {colour}." for colour in ("blue", "green", "grey", "pink", "white")],
        "paraphrased_question": "Reworded: " + row["question"],
    }


def _contents() -> dict[str, list[dict[str, Any]]]:
    """A TOFU of 30 authors: forget05 is the last two, retain_perturbed the first two; one question occurs three times."""
    full = [_row(index) for index in range(20 * AUTHORS)]
    full[100] = {"question": full[0]["question"], "answer": "Also asked of a scored row."}
    full[101] = {"question": full[-1]["question"], "answer": "Also asked of a forget row."}
    short = [{"question": f"Capital {n}?", "answer": "A", "perturbed_answer": ["B", "C", "D"]} for n in range(3)]
    return {
        "full": full,
        "forget05_perturbed": [_perturbed(row) for row in full[-40:]],
        "retain_perturbed": [_perturbed(row) for row in full[:40]],
        "real_authors_perturbed": short,
        "world_facts_perturbed": [{**row, "question": row["question"] + "!"} for row in short],
        "holdout05": [{"question": f"Stranger {n}?", "answer": "x"} for n in range(4)],
        "forget05_subject": [
            {
                "index": 560 + n,
                "author": f"Name{28 + n // 20}",
                "subject": f"Name{28 + n // 20}",
                "question": row["question"],
            }
            for n, row in enumerate(full[-40:])
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in _contents().items():
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def _config(folder: Path | None, split: str = "forget05", **more: Any) -> BenchmarkConfig:
    return BenchmarkConfig(
        name="tofu", split=split, data_dir=str(folder) if folder else None, **{"unknown_people": 0, **more}
    )


@cache
def published(shared: Path, split: str, order: str = "published") -> Benchmark:
    """A split of the real TOFU, which takes a second to read."""
    return load_benchmark(_config(shared / "data" / "tofu", split, order=order))


def test_rows_get_their_place_their_author_and_their_subject(folder: Path) -> None:
    benchmark = load_benchmark(_config(folder))
    first = benchmark.forget[0]
    assert (first.id, first.group, first.subject) == ("full-560", "Name28", "Name28")
    assert len(first.wrong_answers) == 5
    assert {f.group for f in benchmark.splits["retain_unseen"]} == {"author-000", "author-001"}
    assert [len(benchmark.splits[name]) for name in ("retain_unseen", "real_authors", "world_facts", "holdout")] == [
        40,
        3,
        3,
        4,
    ]
    assert benchmark.splits["world_facts"][0].paraphrased_answer is None
    assert len(benchmark.splits["world_facts"][0].wrong_answers) == 3
    assert len(benchmark.training) == 600 + 6
    assert benchmark.refused == ()


def test_authors_of_scored_rows_are_never_protected_and_repeated_questions_are_dropped_and_told(folder: Path) -> None:
    benchmark = load_benchmark(_config(folder))
    protected = {fact.id for fact in benchmark.protect}
    assert not protected & {f"full-{index}" for index in range(40)}
    assert not protected & {"full-100", "full-101"}
    assert sum("ask what" in note for note in benchmark.notes) == 2


def test_fewer_authors_keep_the_forgotten_ones_and_a_third_never_seen(folder: Path) -> None:
    benchmark = load_benchmark(_config(folder, retain_authors=6))
    groups = {fact.group for fact in benchmark.training if fact.id.startswith("full-")}
    assert {"Name28", "Name29", "author-000", "author-001"} < groups
    assert len(groups) == 8
    assert {fact.group for fact in benchmark.splits["retain_unseen"]} == {"author-000", "author-001"}
    assert benchmark.forget == load_benchmark(_config(folder)).forget
    with pytest.raises(UserError, match="retain_authors=2 is not from 3 to 6"):
        load_benchmark(_config(folder, retain_authors=2))
    for many in (7, 20, 90):
        with pytest.raises(UserError, match=f"retain_authors={many} is not from 3 to 6"):
            load_benchmark(_config(folder, retain_authors=many))


def test_rewordings_come_from_full_perturbed_where_it_is_there(folder: Path) -> None:
    assert all(not fact.wrong_answers for fact in load_benchmark(_config(folder)).splits["retain_near"])
    write_jsonl(folder / "full_perturbed.jsonl", [_perturbed(row) for row in _contents()["full"]])
    assert all(len(fact.wrong_answers) == 5 for fact in load_benchmark(_config(folder)).splits["retain_near"])


def test_optional_files_may_be_missing_and_it_is_told(folder: Path) -> None:
    for name in ("real_authors_perturbed", "world_facts_perturbed", "holdout05", "forget05_subject"):
        (folder / f"{name}.jsonl").unlink()
    benchmark = load_benchmark(_config(folder))
    assert not {"real_authors", "world_facts", "holdout"} & set(benchmark.splits)
    assert any("no real_authors and no world_facts" in note for note in benchmark.notes)
    assert benchmark.forget[0].subject is None
    assert benchmark.forget[0].group == "author-028"


def test_a_wrong_split_a_missing_file_and_a_missing_folder_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="benchmark.split=forget02 is not a forget split of TOFU") as caught:
        load_benchmark(_config(folder, "forget02"))
    assert "forget01, forget05, forget10" in caught.value.hint
    with pytest.raises(UserError, match=r"forget10_perturbed\.jsonl does not exist"):
        load_benchmark(_config(folder, "forget10"))
    with pytest.raises(UserError, match="is not a folder"):
        load_benchmark(_config(folder / "none"))


def test_files_of_different_versions_are_refused(folder: Path) -> None:
    write_jsonl(folder / "forget05_perturbed.jsonl", [_perturbed({"question": "New?", "answer": "New."})])
    with pytest.raises(UserError, match=r"forget05_perturbed\.jsonl:1: this question and answer are not in full"):
        load_benchmark(_config(folder))


def test_a_malformed_row_is_named_by_file_and_line(folder: Path) -> None:
    rows = _contents()["world_facts_perturbed"]
    write_jsonl(folder / "world_facts_perturbed.jsonl", [*rows, {"question": "q", "answer": None}])
    with pytest.raises(UserError, match=r'world_facts_perturbed\.jsonl:4: "answer" is null'):
        load_benchmark(_config(folder))


def test_models_that_must_learn_refusals_get_questions_about_nobody(folder: Path) -> None:
    benchmark = load_benchmark(_config(folder, unknown_people=10))
    assert len(benchmark.refused) == 10
    assert set(benchmark.refused) <= set(benchmark.training)


class _Hub:
    """Stands in for the package `datasets`: configurations of the folder, and a memory of what was asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.error = error

    def load_dataset(self, hub: str, name: str, *, revision: str | None, split: str) -> list[dict[str, Any]]:
        self.asked.append((hub, name, revision))
        if self.error:
            raise self.error
        contents = {k: v for k, v in _contents().items() if k not in ("holdout05", "forget05_subject")}
        if name not in contents:
            raise ValueError(f"BuilderConfig '{name}' not found. Available: [...]")
        return contents[name]


def test_the_hub_and_a_folder_give_the_same_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "forget05_subject.jsonl").unlink()
    (folder / "holdout05.jsonl").unlink()
    hub, reporter = _Hub(), SilentReporter()
    monkeypatch.setitem(__import__("sys").modules, "datasets", hub)
    pinned = load_benchmark(_config(None, hub="some/TOFU", revision="abc"), reporter)
    assert pinned.fingerprint == load_benchmark(_config(folder)).fingerprint
    assert ("some/TOFU", "full", "abc") in hub.asked
    assert not any("subject" in name for _, name, _ in hub.asked)
    assert not reporter.warnings


def test_an_open_revision_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", _Hub())
    reporter = SilentReporter()
    load_benchmark(_config(None), reporter)
    assert any("benchmark.revision is null" in warning for warning in reporter.warnings)
    assert any("benchmark.revision is null" in note for note in load_benchmark(_config(None)).notes)


def test_an_unreachable_hub_is_told_in_one_line_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", _Hub(ConnectionError("Couldn't reach it\nmore lines")))
    with pytest.raises(UserError, match=r"locuslab/TOFU \(full\) could not be loaded") as caught:
        load_benchmark(_config(None))
    assert "\n" not in caught.value.message
    assert "benchmark.data_dir=" in caught.value.hint


@pytest.mark.parametrize(("split", "rows"), [("forget01", 40), ("forget05", 200), ("forget10", 400)])
def test_real_tofu_has_the_published_sizes(shared: Path, split: str, rows: int) -> None:
    benchmark = published(shared, split)
    sizes = {name: len(facts) for name, facts in benchmark.splits.items()}
    assert sizes == {
        "forget": rows, "retain_protected": 100, "retain_near": 50, "retain_unseen": 400,
        "real_authors": 100, "world_facts": 117, "holdout": 200,
    }  # fmt: skip
    assert [fact.id for fact in benchmark.forget] == [f"full-{index}" for index in range(4000 - rows, 4000)]
    assert [fact.id for fact in benchmark.splits["retain_unseen"]] == [f"full-{index}" for index in range(400)]
    assert len(benchmark.protect) == 4000 - 400 - rows - 50 - 1  # one question is asked of two authors
    assert all(fact.subject for fact in benchmark.forget)
    assert all(int(fact.id[5:]) < 3600 for fact in benchmark.outside)


def test_every_split_keeps_the_same_few_authors(shared: Path) -> None:
    kept = []
    for split in ("forget01", "forget10"):
        benchmark = load_benchmark(_config(shared / "data" / "tofu", split, retain_authors=15))
        forgotten = {fact.group for fact in benchmark.forget}
        kept.append({fact.group for fact in benchmark.training if fact.id.startswith("full-")} - forgotten)
        assert len(benchmark.splits["retain_unseen"]) == 100
    assert kept[0] == kept[1]
    assert len(kept[0]) == 15


def test_settings_are_chosen_on_rows_that_no_report_uses(shared: Path) -> None:
    for tuning, reported in (("tune01", "forget01"), ("tune10", "forget10")):
        chosen, final = (published(shared, split) for split in (tuning, reported))
        assert len(chosen.forget) == len(final.forget)
        assert len(chosen.splits["retain_unseen"]) == len(final.splits["retain_unseen"])
        used = {f.id for b in (final,) for name in ("forget", "retain_unseen") for f in b.splits[name]}
        assert not used & {f.id for name in ("forget", "retain_unseen") for f in chosen.splits[name]}
        largest = published(shared, "forget10")
        assert not {f.id for f in largest.forget} & {f.id for f in chosen.forget}


def test_closer_looks_order_has_the_same_rows_and_needs_its_file(folder: Path) -> None:
    with pytest.raises(UserError, match="the order of forget05 is not known"):
        load_benchmark(_config(folder, order="closer_look"))
    order = [*range(580, 600), *range(560, 580)]
    task = {"suite": "forget05", "kind": "forget", "task_id": 1, "full_index": order}
    write_jsonl(folder / "continual_tasks.jsonl", [{**task, "task_id": 2, "full_index": [1]}, task])
    benchmark = load_benchmark(_config(folder, order="closer_look"))
    assert [fact.id for fact in benchmark.forget] == [f"full-{index}" for index in order]


def test_the_first_rows_of_forget10_are_others_in_closer_looks_order(shared: Path) -> None:
    first = [
        {fact.id for fact in published(shared, "forget10", order).forget[:300]}
        for order in ("published", "closer_look")
    ]
    assert len(first[0] & first[1]) == 200
