"""Settings in the file of a method, a loss or an optimiser, and what stages learn of a method without importing it."""

from __future__ import annotations

import ast
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gradient_steps import STEP, context, loss_on, shipped
from tests.helpers.sources import modules
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import METHODS, load_method
from unierase_cli.methods.parts import parts_of
from unierase_cli.methods.settings import TERMS, completed
from unierase_cli.methods.terms.base import complete_settings, load_term, reference_of, unit_of
from unierase_cli.methods.traits import Looks, changes_nothing, looks, rows_per_fact, samples
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.training.optimisation import Optimisation, make_optimizer

LORA = AdapterConfig(name="lora", dropout=0.0)
SAYS = ("SETTINGS", "ROWS_PER_FACT", "SAMPLES", "NEEDS_ADAPTER", "CHANGES_NOTHING")


def key(outputs: Path, *words: str) -> str:
    """Of the erase artefact."""
    settings = ("benchmark=fictional", "model=hf", "model.path=nowhere/at-all", f"run.outputs={outputs}")
    return Pipeline(compose([*settings, *words]), SilentReporter()).plan("erase")[-1].key


def refused(*words: str) -> UserError:
    with pytest.raises(UserError) as raised:
        key(Path("nowhere"), *words)
    return raised.value


def test_a_default_may_be_typed_without_a_new_key(tmp_path: Path) -> None:
    given = {
        ("method=gradient", "method.forget.term=npo"): "method.forget.settings.beta",
        ("method=gradient", "method.forget.term=npo", "unlearn.optimizer=sophia"): "unlearn.optimizer_settings.rho",
        ("method=gradient", "method.implementation=altpo", "method.forget.term=altpo"): "method.settings.alternates",
        ("method=gradient", "method.implementation=task_vector"): "method.settings.scale",
    }
    usual = {"beta": "0.1", "rho": "0.04", "alternates": "5", "scale": "1.0"}
    for words, name in given.items():
        plain = key(tmp_path, *words)
        assert key(tmp_path, *words, f"{name}={usual[name.rpartition('.')[2]]}") == plain
        assert key(tmp_path, *words, f"{name}=3") != plain


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("method=altpo method.settings.alternate=3", "method.settings of altpo has no setting 'alternate'", "alternates"),
        ("method=altpo method.settings.alternates=0.5", "method.settings of altpo: alternates=0.5 must be a whole number", "5"),
        ("method=unierase method.settings.scale=2", "method.settings of unierase has no setting 'scale'", "no settings"),
        ("method=npo_gd method.forget.settings.bet=1", "method.forget.settings of term npo has no setting 'bet'", "beta"),
        (
            "method=unierase_deep method.chain.rmu.retain.settings.refusal=1",
            "method.chain.rmu.retain.settings of term embed_diff has no setting 'refusal'",
            "refusals",
        ),
        (
            "method=unierase_deep unlearn.epochs=3",
            "unlearn.epochs=3 changes nothing: rmu has its own value",
            "method.chain.rmu.unlearn.epochs=3",
        ),
        ("method=unierase_deep unlearn={epochs:3,lr:1e-4}", "unlearn.epochs=3 changes nothing", "rmu.unlearn.epochs=3"),
        ("method=unierase_deep ++unlearn.rehearsal=0", "unlearn.rehearsal=0 changes nothing", "rmu.unlearn.rehearsal=0"),
        (
            "method=[npo_gd,unierase] unlearn=soul unlearn.optimizer_settings.rho=3 method.chain.npo_gd.unlearn.optimizer=adamw",
            "unlearn.optimizer_settings.rho=3 changes nothing: npo_gd has its own value",
            "leave it out",
        ),
        ("unlearn.optimizer_settings.rho=1", "unlearn.optimizer_settings of adamw has no setting 'rho'", "no settings"),
        ("unlearn=soul unlearn.optimizer_settings.rho=no", "unlearn.optimizer_settings of sophia: rho=no must be a number", "0.04"),
        ("unlearn.alternates=3", "there is no key unlearn.alternates", "did you mean method.settings.alternates?"),
        ("method.scale=3", "there is no key method.scale", "did you mean method.settings.scale?"),
        ("unlearn.rho=3", "there is no key unlearn.rho", "did you mean unlearn.optimizer_settings.rho?"),
    ],
)
def test_a_setting_that_is_not_there_or_does_not_fit_is_refused_by_the_plan(words: str, message: str, hint: str) -> None:
    error = refused(*words.split())
    assert message in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("words", "warnings"),
    [
        ("method=unierase_deep unlearn.lr=1e-3 unlearn.batch_size=4 unlearn.epochs=15", []),
        ("method=unierase_deep unlearn.epochs=3 method.chain.rmu.unlearn.epochs=4", []),
        ("method=[npo_gd,repair] unlearn.epochs=3 method.chain.npo_gd.unlearn.epochs=4", []),
        ("method=[rmu,unierase] unlearn.epochs=3 edit.layers=[1]", []),
        ("method=npo_gd unlearn.epochs=3 adapter.r=4 adapter=lora", []),
        ("method=unierase edit.layers=[1] unlearn=soul", []),
        ("method=unierase unlearn.lr=1e-3 adapter.r=4", ["unlearn.lr", "adapter.r"]),
        ("method=npo_gd edit.layers=[1]", ["edit.layers"]),
        ("method=[memit,alphaedit] unlearn.lr=1e-3", ["unlearn.lr"]),
    ],
)
def test_words_that_a_method_does_not_use_are_named(words: str, warnings: list[str]) -> None:
    told: list[str] = []
    compose([*words.split(), "model.path=nowhere"], warn=told.append)
    assert [text.rpartition(" does not use ")[2] for text in told] == warnings


def test_a_word_that_some_parts_overrule_names_these(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    defaults = "defaults:\n  - rmu@chain.rmu\n  - repair@chain.repair\n  - _self_\n"
    text = f"{defaults}name: mine\nimplementation: chain\nchain:\n  rmu: {{unlearn: {{epochs: 2}}}}\n"
    (tmp_path / "method" / "mine.yaml").write_text(text)
    told: list[str] = []
    experiment = compose(["method=mine", "unlearn.epochs=3", "model.path=nowhere"], tmp_path, told.append)
    assert [part.unlearn.epochs for part in parts_of(experiment).values()] == [2, 3]
    assert told == ["unlearn.epochs does not reach every part: rmu has its own value"]


def test_a_method_checks_its_own_settings_before_anything_is_made(tmp_path: Path) -> None:
    words = ["experiment=demo", "method=altpo", "method.settings.alternates=0", "unlearn.batch_size=1", f"run.outputs={tmp_path}"]
    method, experiment = load_method("altpo"), compose(words)
    with pytest.raises(UserError, match="method.settings.alternates=0 must be above 0"):
        method.check(experiment, [STEP], ["I do not know."])  # type: ignore[attr-defined]


def test_the_scale_says_how_far_a_method_goes_against_what_was_learned() -> None:
    for name, adapter in (("task_vector", None), ("lora_negation", LORA)):
        losses = []
        for scale in (0.5, 2.0):
            loaded = tiny_llama()
            found = context(loaded, replace(shipped(name), settings={"scale": scale}), adapter=adapter)
            load_method(name).erase(loaded, STEP, EditState(), found)
            losses.append(loss_on(loaded))
        assert losses[0] < losses[1], name


def test_sophia_gets_its_bound() -> None:
    weight = context(tiny_llama(), shipped("ga_gd")).weights.loaded.architecture.embedding.weight
    config = UnlearnConfig(optimizer="sophia", optimizer_settings={"rho": 0.5})
    found = make_optimizer([weight], Optimisation(1e-3, optimizer="sophia", own=config.all_optimizer_settings()))
    assert {group["rho"] for group in found.param_groups} == {0.5}
    assert UnlearnConfig(optimizer="sophia").all_optimizer_settings() == {"rho": 0.04}


def test_a_part_with_another_optimiser_has_that_ones_settings(tmp_path: Path) -> None:
    words = ("method=[npo_gd,repair]", "unlearn=soul")
    other = compose([*words, "model.path=x", "method.chain.repair.unlearn.optimizer=adamw"])
    for experiment in (other, completed(other)):
        assert [part.unlearn.optimizer_settings for part in parts_of(experiment).values()] == [{"rho": 0.04}, {}]
    own = ("method=[npo_gd,repair]", "method.chain.npo_gd.unlearn.optimizer=sophia")
    rho = "method.chain.npo_gd.unlearn.optimizer_settings.rho"
    assert key(tmp_path, *own, f"{rho}=0.04") == key(tmp_path, *own) != key(tmp_path, *own, f"{rho}=3")
    assert key(tmp_path, *words, "unlearn.optimizer_settings.rho=3") != key(tmp_path, *words), "the same one has the run's"


def test_what_a_method_says_of_itself_is_read_as_it_would_be_imported() -> None:
    for name in METHODS.names():
        for what in SAYS:
            assert METHODS.says(name, what) == getattr(load_method(name), what, None), f"{name}: {what}"
    altpo = MethodConfig("altpo", settings={"alternates": 3})
    assert (samples(altpo), rows_per_fact(altpo), changes_nothing(altpo)) == (True, 3, False)
    unierase = MethodConfig("unierase")
    assert (samples(unierase), rows_per_fact(unierase), changes_nothing(unierase)) == (False, 1, False)
    assert changes_nothing(MethodConfig("none"))
    assert not changes_nothing(MethodConfig("uninstalled_since"))


def test_what_a_loss_looks_at_is_read_as_the_training_asks_it() -> None:
    for name in TERMS.names():
        term = load_term(name)
        for settings in ({}, *([{"compat": True}] if "compat" in term.SETTINGS else [])):
            experiment = Experiment(method=MethodConfig("gradient", forget=TermConfig(name, settings=settings)))
            full = complete_settings(term, settings, name)
            wanted = Looks(term.ROWS, unit_of(term, full) == "position", reference_of(term, full))
            assert looks(experiment) == {"forget": wanted}, (name, settings)


def test_an_older_record_is_read_where_the_keys_that_have_moved_had_their_defaults() -> None:
    def recorded(**unlearn: Any) -> dict[str, Any]:
        config = asdict(Experiment())
        config["unlearn"] |= {"rho": 0.04, "alternates": 5, **unlearn}
        config["method"] |= {"scale": 1.0}
        return config

    config = recorded()
    assert Experiment.from_json(config) == Experiment()
    assert config["unlearn"]["rho"] == 0.04, "the record itself is left as it is"
    with pytest.raises(UserError, match="this version cannot read the recorded configuration"):
        Experiment.from_json(recorded(alternates=3))


def test_only_the_methods_know_their_names() -> None:
    names = {*METHODS.names(), *TERMS.names()}
    # "none" is a choice of several keys; the method that is chosen by default is named once; the program is called like it; a list
    # of methods is a chain.
    allowed = {("config.sections.model", "unierase"), ("config.chosen", "unierase"), ("config.overrides", "chain")}
    found = [
        (module, node.value)
        for module, tree in modules()
        if module.split(".")[0] in ("stages", "estimate", "pipeline", "config")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in names - {"none"}
    ]
    assert set(found) <= allowed


def test_blocks_of_a_part_that_are_no_list_are_refused() -> None:
    with pytest.raises(UserError, match=r"unlearn.layers=1 must be a list of blocks"):
        UnlearnConfig(layers=1)  # type: ignore[arg-type]
