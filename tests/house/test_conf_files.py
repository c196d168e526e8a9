"""Every yaml in conf/ is composed and validated, and names things that exist."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
import yaml

from tests.helpers.places import ROOT
from unierase_cli.config import catalog, locate
from unierase_cli.config.compose import compose, compose_launcher
from unierase_cli.config.schema import Composition, Experiment
from unierase_cli.contracts import UserError

CONF = locate.shipped_folder()
CHOICES = [(group, name) for group, names in catalog.groups([CONF]).items() for name in names]
# What a yaml may leave to the user, as ???.
LEFT_OPEN = {"model.path": "/models/a", "benchmark.data_dir": "/data/a", "benchmark.path": "/data/a.jsonl"}
# Settings as somebody published them, stated in full: another default of ours must not change them.
PUBLISHED = {
    "adapter/lora", "edit/reference", "edit/memit_reference", "token/reference", "train/tofu",
    "unlearn/closer_look", "unlearn/open_unlearning", "unlearn/soul", "unlearn/unierase_runner",
    "protocol/closer_look", "protocol/lume", "protocol/muse", "protocol/open_unlearning", "protocol/return", "protocol/rwku",
    "protocol/tofu", "protocol/unierase", "protocol/wmdp",
}  # fmt: skip
DEFAULTS = asdict(Composition())


@pytest.fixture(autouse=True)
def _no_other_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(locate.VARIABLE, raising=False)


def test_the_checkout_uses_its_own_conf() -> None:
    assert ROOT / "conf" == CONF


def composed(*words: str) -> Experiment:
    """The experiment, with a value for every key that the yamls leave open."""
    try:
        return compose(words)
    except UserError as error:
        open_keys = [key for key in LEFT_OPEN if key in error.message]
        return compose([*words, *(f"{key}={LEFT_OPEN[key]}" for key in open_keys)])


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_every_choice_composes(group: str, name: str) -> None:
    experiment = composed(f"{group}={name}")
    assert isinstance(experiment, Experiment)
    if group not in ("experiment", "launcher"):
        assert getattr(experiment, group).name == name


@pytest.mark.parametrize("name", catalog.groups([CONF])["launcher"])
def test_every_launcher_composes_and_is_no_part_of_the_experiment(name: str) -> None:
    assert compose_launcher([f"launcher={name}"]).name == name
    assert compose([f"launcher={name}"]) == compose()


def test_what_an_experiment_leaves_open_is_asked_for_by_name() -> None:
    with pytest.raises(UserError, match="experiment=tofu_mini needs benchmark.data_dir and model.path"):
        compose(["experiment=tofu_mini"])
    with pytest.raises(UserError, match="model=hf needs model.path"):
        compose(["model=hf"])


def test_what_an_experiment_asks_for_its_own_choice_is_not_asked_for_another() -> None:
    asked = ["experiment=tofu_mini", "benchmark=jsonl", "benchmark.path=x"]
    with pytest.raises(UserError, match="experiment=tofu_mini needs model.path -"):
        compose(asked)
    assert compose([*asked, "model.path=x"]).benchmark.data_dir is None
    assert compose(["experiment=tofu_mini", "model=smollm2_135m_instruct", "benchmark.data_dir=x"]).model.path
    for experiment in (["experiment=tofu_mini", "benchmark.data_dir=x"], ["experiment=demo"]):
        with pytest.raises(UserError, match=f"{experiment[0]} model=hf needs model.path -"):
            compose([*experiment, "model=hf"])
    with pytest.raises(UserError, match="experiment=tofu_mini benchmark=tofu needs benchmark.data_dir -"):
        compose(["experiment=tofu_mini", "benchmark=tofu", "model.path=x"])


def test_every_file_says_what_it_is() -> None:
    for group in catalog.groups([CONF]):
        for choice in catalog.choices([CONF], group):
            assert choice.about, f"{choice.path} has neither a note nor a comment at its top"


def test_names_belong_to_files_of_the_package() -> None:
    for group, folder in (("method", "methods"), ("mode", "modes"), ("benchmark", "benchmarks")):
        for choice in catalog.groups([CONF])[group]:
            written = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text("utf-8"))
            name = written.get("implementation") or choice
            assert importlib.util.find_spec(f"unierase_cli.{folder}.{name}"), f"{group}={name} has no file in {folder}/"


def test_the_demo_is_the_embedded_benchmark_on_the_model_that_is_made_here() -> None:
    experiment = compose(["experiment=demo"])
    assert (experiment.model.name, experiment.model.path, experiment.train.name) == ("mini", None, "mini")
    assert (experiment.benchmark.name, experiment.mode.name, experiment.method.name) == (
        "fictional",
        "batch",
        "unierase",
    )
    assert experiment.protocol.max_new_tokens == 48


def test_tofu_experiments_choose_their_splits() -> None:
    assert composed("experiment=tofu_mini").benchmark.split == "forget01"
    assert compose(["experiment=tofu_llama_3_1_8b"]).benchmark.split == "forget10"


def test_the_gentle_edit_is_the_default_at_half_its_strength() -> None:
    gentle, mini = compose(["edit=gentle"]).edit, compose(["edit=mini"]).edit
    assert gentle.values.clamp == mini.values.clamp / 2
    assert replace(gentle, name="mini", values=replace(gentle.values, clamp=mini.values.clamp)) == mini
    assert composed("experiment=demo").edit == mini
    assert composed("experiment=tofu_mini").edit == gentle
    assert composed("experiment=tofu_mini", "edit=reference").edit == compose(["edit=reference"]).edit
    assert compose(["edit=reference"]).edit.values.stop_kind == "total", "it stops by the whole loss, drift and decay included"


def test_protocols_ask_as_their_authors_do() -> None:
    names = ("full", "closer_look", "unierase", "open_unlearning")
    ours, closer, unierase, theirs = (compose([f"protocol={name}"]) for name in names)
    for experiment in (closer, unierase):
        budget = experiment.protocol
        assert (budget.rows, budget.max_new_tokens, budget.total_tokens) == (300, 200, 200)
        assert (experiment.model.prompt, experiment.model.system) == ("bare", None)
    assert (theirs.protocol.rows, theirs.protocol.max_new_tokens, theirs.protocol.total_tokens) == (0, 200, 0)
    assert (theirs.model.system, theirs.model.date) == ("You are a helpful assistant.", "10 Apr 2025")
    assert (ours.model.system, ours.model.instruction, ours.model.date) == (None, None, "26 Jul 2024")
    assert compose(["protocol=open_unlearning", "model.system=null"]).model.system is None


def test_the_name_typed_finds_returns_file() -> None:
    assert compose(["benchmark=return"]).benchmark.implementation == "return_qa"


def written(group: str, name: str) -> dict[str, Any]:
    """The values that a yaml states, without those that Hydra reads; of a whole experiment's, by section."""
    stated = yaml.safe_load((CONF / group / f"{name}.yaml").read_text("utf-8"))
    return {key: value for key, value in stated.items() if key not in ("defaults", "name")}


def repeated(stated: dict[str, Any], default: dict[str, Any]) -> Iterator[str]:
    """Keys that are stated with the value that they have anyway."""
    for key, value in stated.items():
        usual = default.get(key)
        if isinstance(value, dict) and isinstance(usual, dict):
            yield from (f"{key}.{inner}" for inner in repeated(value, usual))
        # PyYAML reads 1e-5 as a text.
        elif value == usual or (isinstance(usual, float) and isinstance(value, str) and float(value) == usual):
            yield key


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_a_yaml_states_only_what_differs_from_the_schema(group: str, name: str) -> None:
    if f"{group}/{name}" in PUBLISHED:
        assert written(group, name)
    elif group == "experiment":
        assert not [
            f"{section}.{key}" for section, keys in written(group, name).items() for key in repeated(keys, DEFAULTS[section])
        ]
    else:
        assert not list(repeated(written(group, name), DEFAULTS[group]))


def test_what_a_default_choice_gives_is_what_the_schema_gives() -> None:
    composed_by_default, plain = compose(), Experiment()
    for section in ("mode", "method", "token", "edit", "unlearn", "adapter", "protocol", "eval", "run"):
        found = getattr(composed_by_default, section)
        if section == "method":
            found = replace(found, note="")
        assert found == getattr(plain, section), section
