"""What the published benchmarks share: groups and subjects, every mode, and one line for bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.benchmark_files import FOLDERS, config, write
from tests.helpers.settings import with_settings
from unierase_cli.benchmarks.base import load_benchmark, training_facts
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.evaluation import SPLITS
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.subjects import find_subjects
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages.shared.fact_rows import fact_rows
from unierase_cli.store.jsonl import write_jsonl

# Facts to forget, and how many of them have no subject.
FORGOTTEN = {"knowundo": (5, 0), "pistol": (4, 0), "birthdays": (4, 0), "lume": (18, 6)}
ONLINE = {"rwku": "jinzhuoran/RWKU", "muse": "muse-bench/MUSE-News", "wmdp": "cais/wmdp"}
# These come without a model to train: texts alone have no subjects.
FURTHER = {"rwku": (2, 2), "muse": (5, 5), "wmdp": (10, 10)}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_subjects_are_found_and_counted_and_a_model_can_be_trained(name: str, tmp_path: Path) -> None:
    chosen = config(name, tmp_path)
    benchmark = load_benchmark(chosen)
    subjects = find_subjects(benchmark.forget)
    assert (len(subjects), subjects.count(None)) == FORGOTTEN[name]
    assert all(fact.group for fact in benchmark.forget)
    full, kept = (training_facts(benchmark, chosen, split) for split in ("full", "retain"))
    assert {fact.id for fact in benchmark.forget} <= {fact.id for fact in full}
    answers = {(fact.subject, fact.answer.strip(" .")) for fact in benchmark.forget if fact.subject}
    assert not answers & {(fact.subject, fact.answer.strip(" .")) for fact in kept}
    assert len(benchmark.refused) == 4


@pytest.mark.parametrize("name", FURTHER)
def test_texts_without_subjects_are_counted(name: str, tmp_path: Path) -> None:
    benchmark = load_benchmark(config(name, tmp_path))
    subjects = find_subjects(benchmark.forget)
    assert (len(subjects), subjects.count(None)) == FURTHER[name]
    assert set(benchmark.splits) <= set(SPLITS), "every split has a name that eval.splits knows"


@pytest.mark.parametrize("name", [*FORGOTTEN, *FURTHER])
@pytest.mark.parametrize("mode", ["sequential", "precise"])
def test_every_mode_plans_all_facts(name: str, mode: str, tmp_path: Path) -> None:
    experiment = Experiment(benchmark=config(name, tmp_path), mode=ModeConfig(name=mode, steps=2))
    study = study_of(with_settings(experiment, model__path="somewhere"))
    assert sum(len(step.forget) for step in study.steps) == {**FORGOTTEN, **FURTHER}[name][0]
    if mode == "precise" and name != "wmdp":
        assert all(rows.far or rows.near for rows in fact_rows(study))


@pytest.mark.parametrize("name", FOLDERS)
def test_bad_folders_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    first = next(iter(FOLDERS[name]()))
    (tmp_path / first).parent.mkdir(exist_ok=True)
    if name not in ONLINE:
        with pytest.raises(UserError, match=f"benchmark={name} needs the folder of its files"):
            load_benchmark(config(name, tmp_path, data_dir=None))
    with pytest.raises(UserError, match="is not a folder"):
        load_benchmark(config(name, tmp_path, data_dir=str(tmp_path / "none")))
    (tmp_path / f"{first}.jsonl").write_text("")
    with pytest.raises(UserError, match=f"{first} has no rows"):
        load_benchmark(BenchmarkConfig(**{**vars(config(name, tmp_path / "new")), "data_dir": str(tmp_path)}))
    write_jsonl(tmp_path / f"{first}.jsonl", [{"unknown": "field"}])
    with pytest.raises(UserError, match=rf'{first}\.jsonl:1: "\w+" is missing'):
        load_benchmark(BenchmarkConfig(**{**vars(config(name, tmp_path / "new")), "data_dir": str(tmp_path)}))
    (write(name, tmp_path) / f"{first}.jsonl").unlink()
    with pytest.raises(UserError, match=rf"{first}\.jsonl does not exist"):
        load_benchmark(BenchmarkConfig(**{**vars(config(name, tmp_path / "new")), "data_dir": str(tmp_path)}))


def test_a_hub_that_is_off_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Off:
        @staticmethod
        def load_dataset(*_: object, **__: object) -> None:
            raise ConnectionError("Couldn't reach it\nmore lines")

    monkeypatch.setitem(__import__("sys").modules, "datasets", Off)
    for name, hub in {"lume": "some/where", **ONLINE}.items():
        with pytest.raises(UserError, match=rf"{hub} \([\w/-]+\) could not be loaded") as caught:
            load_benchmark(config(name, tmp_path, data_dir=None, hub=hub if name == "lume" else None))
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ONLINE)
def test_the_hub_is_asked_for_configurations_and_splits_and_gives_what_a_folder_gives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub:
        @staticmethod
        def load_dataset(hub: str, configuration: str, *, revision: str | None, split: str) -> list[dict[str, object]]:
            assert (hub, revision) == (ONLINE[name], "abc")
            return FOLDERS[name]()[f"{configuration}/{split}"]

    monkeypatch.setitem(__import__("sys").modules, "datasets", Hub)
    online = load_benchmark(config(name, tmp_path, data_dir=None, revision="abc"))
    assert online.fingerprint == load_benchmark(config(name, tmp_path)).fingerprint
