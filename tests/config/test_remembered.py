"""What is remembered on disk between commands: compositions, as long as no yaml, code or library changes; and never blindly."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from unierase_cli.config import catalog, locate, merged
from unierase_cli.config.compose import compose
from unierase_cli.config.rebuilt import Unlike, rebuilt
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError
from unierase_cli.metrics.catalog import metric_versions
from unierase_cli.remembered import MOST, VARIABLE, recall, remember
from unierase_cli.sources import code_hash, room_hash


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with every composition by Hydra."""
    made: list[object] = []
    real = merged.merge
    monkeypatch.setattr(merged, "merge", lambda words, folders: made.append(words) or real(words, folders))
    return made


@pytest.mark.parametrize("words", [["experiment=demo"], ["method=unierase_deep"], ["model=hf", "model.path=~/m", "seed=3"]])
def test_a_remembered_experiment_is_the_composed_one(cache: Path, merges: list[object], words: list[str]) -> None:
    words = [word.replace("seed=", "run.seed=") for word in words]
    first = compose(words)
    again = compose(words)
    assert (again, len(merges)) == (first, 1)
    assert json.dumps(asdict(again)) == json.dumps(asdict(first)), "also 1 and 1.0 are told apart"


def test_other_words_and_changed_yamls_are_composed_anew(
    cache: Path, merges: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("{name: mine, layers: [1]}")
    monkeypatch.setenv(locate.VARIABLE, str(own.parent))
    assert [compose(["model=mine", f"run.seed={seed}"]).run.seed for seed in (1, 2, 1)] == [1, 2, 1]
    assert len(merges) == 2
    (own / "mine.yaml").write_text("{name: mine, layers: [2]}")
    assert compose(["model=mine", "run.seed=1"]).model.layers == [2]


def test_a_mistake_is_refused_every_time(cache: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="run.seed"):
            compose(["run.seed=x"])
        with pytest.raises(UserError, match="model.path"):
            compose(["model=hf"])
    assert not (cache / "composed").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"model": {}}'])
def test_damaged_entries_are_composed_anew(cache: Path, damage: str) -> None:
    first = compose(["experiment=demo"])
    (entry,) = (cache / "composed").iterdir()
    entry.write_text(damage)
    assert compose(["experiment=demo"]) == first
    assert json.loads(entry.read_text())["model"]["name"] == "mini"


@pytest.mark.parametrize("damage", ["[]", "3", "{}", '{"rouge": 1}', '"text"'])
def test_damaged_versions_of_metrics_are_found_anew(cache: Path, damage: str) -> None:
    first = metric_versions()
    (entry,) = (cache / "metrics").iterdir()
    entry.write_text(damage)
    assert metric_versions() == first != {}


def test_a_damaged_hash_of_code_is_computed_anew(cache: Path) -> None:
    code_hash.cache_clear()
    first = code_hash("unierase_cli.metrics.rouge")
    for entry in (cache / "code").iterdir():
        entry.write_text("[1]")
    code_hash.cache_clear()
    assert code_hash("unierase_cli.metrics.rouge") == first


def test_links_to_nowhere_and_folders_called_like_code_are_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "some_room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    room_hash.cache_clear()
    first = room_hash("some_room")
    (room / ".#a.py").symlink_to("nobody@host.123")
    (room / "folder.py").mkdir()
    room_hash.cache_clear()
    assert room_hash("some_room") == first
    (room / "b.py").write_text("1")
    room_hash.cache_clear()
    assert room_hash("some_room") != first


def test_a_user_without_a_home_has_nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    remember("kind", "key", 1)
    assert recall("kind", "key") is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    assert compose(["experiment=demo"]).model.name == "mini"


def test_only_what_json_gives_back_is_remembered(cache: Path) -> None:
    for value in ((1, 2), {1: "a"}, {1, 2}, float("nan")):
        remember("kind", "key", value)
        assert recall("kind", "key") is None
    remember("kind", "key", {"a": [1, 2.0, None]})
    assert recall("kind", "key") == {"a": [1, 2.0, None]}
    assert recall("kind", "other") is None


def test_old_entries_make_room(cache: Path) -> None:
    for number in range(MOST + 1):
        remember("kind", number, number)
    left = [number for number in range(MOST + 1) if recall("kind", number) is not None]
    assert len(left) == MOST + 1 - MOST // 2


def test_plain_data_of_other_types_is_left_to_omegaconf() -> None:
    data = asdict(compose(["experiment=demo"]))
    assert rebuilt(Experiment, data) == Experiment.from_json(data)
    for key, value in (("seed", "1"), ("seed", True), ("seed", None), ("chain", 1)):
        with pytest.raises(Unlike):
            rebuilt(Experiment, {**data, "run": {**data["run"], key: value}})
    with pytest.raises(Unlike):
        rebuilt(Experiment, {name: section for name, section in data.items() if name != "token"})
    assert Experiment.from_json({**data, "run": {**data["run"], "seed": "1"}}).run.seed == 1


def test_every_shipped_experiment_and_method_is_rebuilt_from_its_own_data() -> None:
    folders = [locate.shipped_folder()]
    for group in ("method", "token", "edit", "benchmark"):
        for choice in catalog.choices(folders, group):
            try:
                made = compose([f"{group}={choice.name}"])
            except UserError:  # needs a value that only a user can give
                continue
            assert rebuilt(Experiment, asdict(made)) == made
