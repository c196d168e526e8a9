"""The retain reference is found among what was made, made on request, or asked for by name."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.stages.shared.choose_reference import planned_reference, with_reference
from unierase_cli.stages.shared.retain_reference import OBSERVED
from unierase_cli.store.artefact import MANIFEST, Artefact
from unierase_cli.store.artefacts import Store


def experiment(tmp_path: Path, **changes: Any) -> Experiment:
    config = Experiment(**changes)
    return replace(config, run=replace(config.run, outputs=str(tmp_path)))


def observed(store: Store, config: Experiment, key: str = "k" * 16) -> Path:
    """A base observation of ``config``, as the pipeline records it."""
    draft = store.draft("observe", "twin", key)
    if not config.eval.splits or "forget" in config.eval.splits:
        (draft.path / OBSERVED).write_text("", "utf-8")
    return draft.complete(
        {
            "stage": "observe",
            "options": {"state": "base"},
            "key": key,
            "config": asdict(config),
            "finished": 1.0,
        }
    ).path


def never(_: Experiment) -> Any:
    raise AssertionError("nothing is to be made")


def test_a_twin_trained_on_the_retain_rows_is_found(tmp_path: Path) -> None:
    config, store = experiment(tmp_path), Store(tmp_path)
    assert with_reference(config, SilentReporter(), never).eval.retain_reference is None
    observed(store, config)  # the model itself is no reference
    assert with_reference(config, SilentReporter(), never).eval.retain_reference is None
    path = observed(store, replace(config, train=replace(config.train, split="retain95")), "t" * 16)
    reporter = SilentReporter()
    assert with_reference(config, reporter, never).eval.retain_reference == str(path)
    assert "forget quality compares with" in reporter.notes[0]
    other = replace(config, benchmark=replace(config.benchmark, split="forget10"))
    assert with_reference(other, SilentReporter(), never).eval.retain_reference is None


@pytest.mark.parametrize(
    "unlike",
    [
        {"train": {"epochs": 1}},
        {"train": {"hidden_size": 64}},
        {"benchmark": {"seed": 7}},
        {"benchmark": {"rows": 5}},
        {"mode": {"tasks": "requests.jsonl"}},
        {"eval": {"truth_ratio": False}},
        {"eval": {"splits": ["retain_unseen"]}},
    ],
)
def test_a_newer_twin_that_does_not_fit_is_passed_over(unlike: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    config, store = experiment(tmp_path), Store(tmp_path)
    twin = replace(config, train=replace(config.train, split="retain"))
    fits = observed(store, twin, "f" * 16)
    observed(store, replace(twin, **{k: replace(getattr(twin, k), **v) for k, v in unlike.items()}), "u" * 16)
    assert with_reference(config, SilentReporter(), never).eval.retain_reference == str(fits)


@pytest.mark.parametrize(("section", "key", "other"), [("benchmark", "retain_authors", 20), ("train", "lora_rank", 8)])
def test_a_setting_that_a_record_lacks_had_its_default(section: str, key: str, other: int, tmp_path: Path) -> None:
    config, store = experiment(tmp_path), Store(tmp_path)
    path = observed(store, replace(config, train=replace(config.train, split="retain")))
    manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    del manifest["config"][section][key]
    (path / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    changed = replace(config, **{section: replace(getattr(config, section), **{key: other})})
    assert with_reference(changed, SilentReporter(), never).eval.retain_reference is None
    assert with_reference(config, SilentReporter(), never).eval.retain_reference == str(path)


def test_train_makes_the_twin_and_observes_it(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    config = replace(config, eval=replace(config.eval, retain_reference="train"))
    asked: list[Experiment] = []

    class Making:
        def make(self, stage: str, **options: str) -> Artefact:
            assert (stage, options) == ("observe", {"state": "base"})
            return Artefact(tmp_path / "made", {})

    def pipeline(other: Experiment) -> Any:
        asked.append(other)
        return Making()

    settled = with_reference(config, SilentReporter(), pipeline)
    assert settled.eval.retain_reference == str(tmp_path / "made")
    assert asked[0].train.split == "retain"
    assert asked[0].eval.retain_reference is None


def test_a_named_folder_is_left_alone_and_train_refuses_a_given_model(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    named = replace(config, eval=replace(config.eval, retain_reference="folder"))
    assert with_reference(named, SilentReporter(), never) == named
    given = replace(
        config,
        model=replace(config.model, path="somewhere"),
        eval=replace(config.eval, retain_reference="train"),
    )
    for settle in (with_reference, planned_reference):  # a plan must not promise what the run refuses
        with pytest.raises(UserError, match=r"comes from model\.path") as caught:
            settle(given, SilentReporter(), never)
        assert "method=none" in caught.value.hint
