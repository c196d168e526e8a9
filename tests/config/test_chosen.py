"""What is remembered of composed yamls: the choices, never the values that were set on them, and only while no file changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from unierase_cli.config import chosen, locate
from unierase_cli.config.compose import compose
from unierase_cli.contracts import UserError


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setattr(locate, "shipped_folder", lambda: tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "config.yaml").write_text("defaults:\n  - _self_\n  - model: mini\nrun: {seed: 1}\n")
    (tmp_path / "model" / "mini.yaml").write_text("name: mini\nlayers: [1, 2]\n")
    return tmp_path


def test_the_same_choices_are_composed_once(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = chosen.hydra_compose
    monkeypatch.setattr(chosen, "hydra_compose", lambda *a, **k: calls.append(1) or real(*a, **k))
    seeds = [compose(["model=mini", f"run.seed={seed}"]).run.seed for seed in range(3)]
    assert (seeds, len(calls)) == ([0, 1, 2], 1)


def test_a_value_that_was_set_is_gone_the_next_time(conf: Path) -> None:
    assert compose(["run.seed=7", "model.layers=[5]"]).model.layers == [5]
    assert (compose().run.seed, compose().model.layers) == (1, [1, 2])
    compose().model.layers.append(9)
    assert compose().model.layers == [1, 2]


def test_a_file_that_was_changed_or_added_is_read_again(conf: Path) -> None:
    assert compose().model.layers == [1, 2]
    (conf / "model" / "mini.yaml").write_text("name: mini\nlayers: [3, 4]\n")
    assert compose().model.layers == [3, 4]
    (conf / "model" / "other.yaml").write_text("name: other\n")
    assert compose(["model=other"]).model.name == "other"


def test_words_that_take_away_or_sweep_are_hydras_own(conf: Path) -> None:
    assert compose(["~run.seed"]).run.seed == 0
    with pytest.raises(UserError, match="one experiment cannot have several values for a key"):
        compose(["run.seed=1,2"])


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("token.stages.1.lr=0.1", "token.stages has 1 item; there is no token.stages.1.lr"),
        ("edit.templates.starts.0=The", "edit.templates.starts has 0 items"),
    ],
)
def test_an_item_that_a_list_does_not_have_is_refused_in_one_line(word: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        compose([word])
    assert "give the whole list" in caught.value.hint


def test_taking_away_what_no_yaml_has_leaves_the_default() -> None:
    assert compose(["~token.choose", "~run.seed"]) == compose(["token.stages.0.lr=0.15"])


def test_a_home_folder_in_a_models_path_is_written_out() -> None:
    assert compose(["model=hf", "model.path=~/m"]).model.path == str(Path.home() / "m")
