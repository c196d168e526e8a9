"""Which tokens carry a fact: the weights, the stage that makes them, and the methods that use them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gradient_steps import shipped
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.attribute import ATTRIBUTION, AttributeConfig
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, PartConfig, RunConfig
from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request, load_stage
from unierase_cli.results.page.attribution_page import attribution_page
from unierase_cli.stages.attribute import FILE, PAGE
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.jsonl import read_jsonl
from unierase_cli.training.unlearning.attribution import copied, masked_question, token_weights
from unierase_cli.training.unlearning.token_weights import load_token_weights

FALLS, ENTROPIES = [0.0, 4.0, -1.0, 0.0], [0.0, 1.0, 3.0, 0.0]


def test_soft_weights_are_in_proportion_and_have_a_mean_of_one() -> None:
    by_falls = token_weights(FALLS, ENTROPIES, AttributeConfig(entropy=0.0, least=0.0))
    assert by_falls == [0.0, 4.0, 0.0, 0.0]
    by_entropy = token_weights(FALLS, ENTROPIES, AttributeConfig(entropy=1.0, least=0.0))
    assert by_entropy == [0.0, 1.0, 3.0, 0.0]
    both = token_weights(FALLS, ENTROPIES, AttributeConfig(entropy=0.5, least=0.2))
    assert both == pytest.approx([0.2, 0.2 + 0.8 * 2.5, 0.2 + 0.8 * 1.5, 0.2])
    assert sum(both) == pytest.approx(4)


def test_hard_weights_select_the_most_important_tokens() -> None:
    assert token_weights(FALLS, ENTROPIES, AttributeConfig(select="hard", top=0.5)) == [0.0, 2.0, 2.0, 0.0]
    assert token_weights(FALLS, ENTROPIES, AttributeConfig(select="hard", top=0.1)) == [0.0, 4.0, 0.0, 0.0]


def test_without_a_signal_every_token_counts_the_same() -> None:
    assert token_weights([-1.0, 0.0], [0.0, 0.0], AttributeConfig()) == [1.0, 1.0]
    assert token_weights([0.0, 0.0], [1.0, 3.0], AttributeConfig(entropy=0.2, least=0.0)) == [0.5, 1.5]


def test_every_mention_of_the_subject_is_masked_and_its_copies_in_the_answer_are_known() -> None:
    assert masked_question("Is Ada Ada's name?", "Ada", "someone") == ("Is someone someone's name?", True)
    assert masked_question("Who wrote it?", None, "someone") == ("someone?", False)
    assert copied("Ada is Ada", "Ada") == [(0, 3), (7, 10)]
    assert copied("Ada is Ada", None) == []


@pytest.mark.parametrize("changes", [{"select": "most"}, {"top": 0.0}, {"entropy": 1.5}, {"mask": " "}])
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"attribute.{next(iter(changes))}"):
        AttributeConfig(**changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


def experiment(folder: Path, outputs: Path, **unlearn: Any) -> Experiment:
    settings = {"max_steps": 1, "batch_size": 4, "lr": 1e-3, "stop_retain_loss": 100.0, "compute": "float32"}
    return Experiment(
        model=ModelConfig(path=str(folder)),
        benchmark=BenchmarkConfig(name="fictional", split="forget10", authors=20, questions=5),
        method=shipped("npo_gd"),
        unlearn=UnlearnConfig(**{**settings, **unlearn}),
        run=RunConfig(outputs=str(outputs), device="cpu"),
    )


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Artefact]:
    config = experiment(folder, tmp_path_factory.mktemp("outputs"), token_weights=ATTRIBUTION)
    Pipeline(config, SilentReporter()).make("erase")
    return config, Pipeline(config, SilentReporter()).make("attribute")


def test_the_artefact_has_a_weight_for_every_token_of_every_answer(made: tuple[Experiment, Artefact]) -> None:
    _, artefact = made
    rows = read_jsonl(artefact.file(FILE))
    assert len(rows) == artefact.summary["facts"] == 10
    for row in rows:
        assert len(row["weights"]) == len(row["tokens"]) == len(row["falls"]) == len(row["entropies"]) > 3
        assert sum(row["weights"]) == pytest.approx(len(row["weights"]), rel=1e-3)
        assert min(row["entropies"]) > 0
    assert any(max(row["weights"]) > 1.2 for row in rows)
    assert set(load_token_weights(artefact.file(FILE))) == {row["fact"] for row in rows}


def test_a_training_that_asks_for_attribution_is_made_from_it(
    made: tuple[Experiment, Artefact], folder: Path, tmp_path: Path
) -> None:
    config, artefact = made
    erased = Pipeline(config, SilentReporter()).make("erase")
    assert erased.manifest["inputs"]["attribute"]["key"] == artefact.key
    # The same weights in a file train the same model.
    again = experiment(folder, tmp_path, token_weights=str(artefact.file(FILE)))
    plain = experiment(folder, tmp_path)
    with_file, without = (Pipeline(one, SilentReporter()).make("erase") for one in (again, plain))
    losses = [read_jsonl(one.file("steps.jsonl"))[0]["losses"] for one in (erased, with_file, without)]
    assert losses[0] == losses[1] != losses[2]


def test_other_settings_of_attribution_make_another_model(folder: Path, tmp_path: Path) -> None:
    asks, not_ = experiment(folder, tmp_path, token_weights=ATTRIBUTION), experiment(folder, tmp_path)
    keys = [
        [Pipeline(with_settings(one, attribute__entropy=share), SilentReporter()).key(Request("erase")) for share in (0.2, 0.7)]
        for one in (asks, not_)
    ]
    assert keys[0][0] != keys[0][1]
    assert keys[1][0] == keys[1][1]


def test_a_part_of_a_chain_asks_for_itself(folder: Path, tmp_path: Path) -> None:
    def part(name: str, **unlearn: Any) -> PartConfig:
        one = shipped(name)
        about = {"implementation": one.implementation, "forget": one.forget, "retain": one.retain, "settings": one.settings}
        return PartConfig(name, editing=False, token=False, unlearn=unlearn, **about)

    parts = {"npo_gd": part("npo_gd", token_weights=ATTRIBUTION), "repair": part("repair")}
    config = experiment(folder, tmp_path)
    config = replace(config, method=MethodConfig("chain", editing=False, token=False, chain=parts))
    assert "attribute" in load_stage("erase").needs(Pipeline(config, SilentReporter()).study, {})
    erased = Pipeline(config, SilentReporter()).make("erase")
    assert "attribute" in erased.manifest["inputs"]


def test_an_edit_without_training_does_not_ask(folder: Path, tmp_path: Path) -> None:
    config = replace(experiment(folder, tmp_path, token_weights=ATTRIBUTION), method=MethodConfig())
    assert "attribute" not in load_stage("erase").needs(Pipeline(config, SilentReporter()).study, {})


def test_the_page_colours_tokens_by_weight_and_escapes_them(made: tuple[Experiment, Artefact]) -> None:
    _, artefact = made
    page = artefact.file(PAGE).read_text("utf-8")
    assert page.count('class="weight"') == sum(len(row["tokens"]) for row in read_jsonl(artefact.file(FILE)))
    assert page.count("--share:100%") >= 10
    odd = attribution_page("t", [{"fact": "<f>", "tokens": ["<b>", "x"], "weights": [0.5, 1.5]}], ["<q>"])
    assert "<b>" not in odd.partition("<main>")[2]
    assert "--share:33%" in odd
