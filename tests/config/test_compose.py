"""Words become an Experiment, and every mistake is one line that says what to type next."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from unierase_cli.config import locate
from unierase_cli.config.compose import compose, to_json, to_yaml
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError

FILES = {
    "config.yaml": """
defaults:
  - _self_
  - model: mini
  - token: default
  - edit: default
  - experiment: null
run:
  seed: 0
""",
    "model/mini.yaml": "name: mini\nlayers: [1, 2]\n",
    "model/other.yaml": "name: other\npath: some/where\n",
    "token/default.yaml": "name: default\nstages:\n  - {epochs: 2}\n  - {epochs: 3, formats: [raw, chat]}\n",
    "edit/default.yaml": "name: default\nvalues: {steps: 3}\n",
    "experiment/small.yaml": "# @package _global_\ndefaults:\n  - override /model: other\nedit: {values: {clamp: 0.25}}\n",
    "experiment/needy.yaml": "# @package _global_\nmodel:\n  path: ???\nbenchmark:\n  data_dir: ???\n",
}


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conf")
    write(folder, FILES)
    return folder


@pytest.fixture(autouse=True)
def _no_other_conf(monkeypatch: pytest.MonkeyPatch, conf: Path) -> None:
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setattr(locate, "shipped_folder", lambda: conf)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def test_defaults_compose_into_plain_dataclasses(conf: Path) -> None:
    experiment = compose()
    assert type(experiment) is Experiment
    assert experiment.model.layers == [1, 2]
    assert type(experiment.model.layers) is list
    assert experiment.edit.values.steps == 3
    assert experiment.edit.values.clamp == 0.5


def test_an_experiment_is_frozen_down_to_its_sections() -> None:
    words = ["run.seed=3", "edit.values.clamp=0.5", "token.refine_lr=0.5"]
    composed = compose([*words, "protocol.stop=['\\n\\n']", "token.stages=[{lr: '${token.refine_lr}'}]"])
    for experiment in (composed, Experiment.from_json(asdict(composed))):
        assert (experiment.run.seed, experiment.edit.values.clamp, experiment.protocol.stop) == (3, 0.5, ["\n\n"])
        assert experiment.token.stages[0].lr == experiment.token.refine_lr == 0.5
        for section, name in ((experiment, "run"), (experiment.edit.values, "clamp"), (experiment.token.stages[0], "lr")):
            with pytest.raises(FrozenInstanceError):
                setattr(section, name, getattr(section, name))


def test_a_list_of_sections_keeps_the_schema_defaults_of_each(conf: Path) -> None:
    first, second = compose().token.stages
    assert (first.epochs, first.formats, first.lr) == (2, ["chat"], 0.15)
    assert (second.epochs, second.formats) == (3, ["raw", "chat"])


def test_an_experiment_chooses_groups_and_words_overrule_it(conf: Path) -> None:
    assert compose(["experiment=small"]).model.name == "other"
    assert compose(["experiment=small"]).edit.values.clamp == 0.25
    overruled = compose(["experiment=small", "model=mini", "edit.values.clamp=0.5"])
    assert (overruled.model.name, overruled.edit.values.clamp) == ("mini", 0.5)
    assert compose(["experiment=null"]).model.name == "mini"


@pytest.mark.parametrize(
    ("word", "read", "expected"),
    [
        ("run.seed=3", lambda e: e.run.seed, 3),
        ("edit.lambda_=1e-2", lambda e: e.edit.lambda_, 0.01),
        ("edit.layers=[4,5]", lambda e: e.edit.layers, [4, 5]),
        ("model.layers=null", lambda e: e.model.layers, None),
        ("token.stages=[{epochs: 9}]", lambda e: [s.epochs for s in e.token.stages], [9]),
        ("token.stages.1.epochs=7", lambda e: [s.epochs for s in e.token.stages], [2, 7]),
        ("edit.values={clamp: 0.5}", lambda e: (e.edit.values.clamp, e.edit.values.steps), (0.5, 3)),
        ("+edit.values.lr=0.1", lambda e: e.edit.values.lr, 0.1),
        ("~edit.values.steps", lambda e: e.edit.values.steps, 40),
        ("run.force=true", lambda e: e.run.force, True),
        # Text is text whatever it looks like: paths with spaces and quotes, digits, commas and braces.
        ("model.path=/a b/it's (1)=x,y", lambda e: e.model.path, "/a b/it's (1)=x,y"),
        ("model.path=C:\\models\\", lambda e: e.model.path, "C:\\models\\"),
        ("model.path='quoted'", lambda e: e.model.path, "quoted"),
        ("model.path=null", lambda e: e.model.path, None),
        ("model.revision=0123", lambda e: e.model.revision, "0123"),
        ("edit.text=I, {well} don't know: really", lambda e: e.edit.text, "I, {well} don't know: really"),
    ],
)
def test_values_arrive_as_typed(word: str, read, expected) -> None:
    assert read(compose([word])) == expected


def test_of_two_values_for_one_key_the_later_counts() -> None:
    assert compose(["run.seed=1", "run.seed=2"]).run.seed == 2


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["edit.valuess.clamp=3"], "there is no key edit.valuess.clamp", "edit.values.clamp"),
        (["edit.values.clmp=3"], "there is no key edit.values.clmp", "edit.values.clamp"),
        (["clamp=3"], "there is no key clamp", "edit.values.clamp"),
        (["modle=mini"], "there is no key modle", "model=mini"),
        (["hydra.run.dir=x"], "there is no key hydra.run.dir", "unierase ls keys"),
        (["token.stages.0.epocs=7"], "there is no key token.stages.0.epocs", "token.stages.0.epochs"),
        (["token.stages=[{epocs: 9}]"], "token.stages=[{epocs: 9}]: there is no key", "token.stages.0.epochs"),
        (["edit.values={clmp: 0.5}"], "edit.values={clmp: 0.5}: there is no key", "edit.values.clamp"),
        (["model=mni"], "model=mni is not a choice", "model=mini"),
        (["model="], "model= is not a choice", "choose one of: mini, other"),
        (["model=/models/llama"], "model=/models/llama is not a choice", "model=hf model.path=/models/llama"),
        (["model=mini", "model=other"], "model is chosen twice", "keep one"),
        (["~model"], "the group model cannot be left out", "choose one of"),
        (["small"], "'small' is not of the form KEY=VALUE", "experiment=small"),
        (["edit.values={clamp:", "0.5}"], "edit.values={clamp: is cut off at a space", "'edit.values={clamp: 0.5}"),
        (["--x"], "'--x' is not of the form KEY=VALUE", "run.seed=1"),
        (["run=3"], "run is a section", "run.seed"),
        (["run.seed=abc"], "run.seed=abc must be a whole number", "run.seed=1"),
        (["run.seed=1.5"], "run.seed=1.5 must be a whole number", "run.seed=1"),
        (["run.seed="], "run.seed= must be a whole number", "run.seed=1"),
        (["run.force=maybe"], "run.force=maybe must be true or false", "run.force=true"),
        (["edit.alpha=much"], "edit.alpha=much must be a number", "edit.alpha=0.5"),
        (["model.layers=4"], "model.layers=4 must be a list of whole numbers", "model.layers=[1,2]"),
        (["model.layers=[a]"], "model.layers=['a'] must be a list of whole numbers", "model.layers=[1,2]"),
        (["run.seed=1,2"], "one experiment cannot have several values", "one command per value"),
        (["run.seed=range(3)"], "one experiment cannot have several values", "one command per value"),
        (["edit.values.clamp=[1"], "edit.values.clamp=[1 cannot be read: it must be a number", "edit.values.clamp=0.5"),
        (["edit.preserve=rige"], "edit.preserve=rige is not a choice", "edit.preserve=ridge"),
        (["edit.alpha=-1"], "edit.alpha=-1.0 must be at least 0", "edit.alpha=1"),
        (["edit.alpha=nan"], "edit.alpha=nan must be at least 0", "edit.alpha=1"),
        (["token.stages=[]"], "token.stages is empty", "token.stages="),
        (["experiment=needy"], "experiment=needy needs benchmark.data_dir and model.path", "model.path=..."),
    ],
)
def test_a_mistake_is_one_line_with_what_to_type_next(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UserError) as raised:
        compose(words)
    assert raised.value.message.startswith(message)
    assert hint in raised.value.hint
    assert "\n" not in raised.value.message + raised.value.hint


def test_values_still_to_be_given_are_shown_not_refused_when_the_configuration_is_printed() -> None:
    assert to_json(["experiment=needy"])["model"]["path"] == "???"
    assert to_json(["experiment=needy", "model.path=x"])["model"]["path"] == "x"
    assert "clamp: 0.5" in to_yaml()


def test_a_folder_of_ones_own_comes_before_the_shipped_one(tmp_path: Path) -> None:
    own = tmp_path / "with space, comma's"
    write(own, {"model/mine.yaml": "name: mine\n", "edit/default.yaml": "name: mine\nalpha: 7\n"})
    experiment = compose(["model=mine"], own)
    assert (experiment.model.name, experiment.edit.alpha, experiment.edit.values.steps) == ("mine", 7, 40)
    assert len(experiment.token.stages) == 2


def test_the_environment_names_a_folder_and_the_option_overrules_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", {"model/mini.yaml": "name: a\n"})
    write(tmp_path / "b", {"model/mini.yaml": "name: b\n"})
    monkeypatch.setenv(locate.VARIABLE, str(tmp_path / "a"))
    assert compose().model.name == "a"
    assert compose([], tmp_path / "b").model.name == "b"
    with pytest.raises(UserError, match="--config-dir names .*absent, which is not a folder"):
        compose([], tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mini\nlayrs: [1]\n", "mini.yaml: there is no key model.layrs"),
        ("name: [unclosed\n", "mini.yaml, line "),
        ("name: mini\nname: again\n", "mini.yaml, line 2: found duplicate key"),
        ("name: mini\nlayers: yes\n", "model.layers=True must be a list of whole numbers"),
        ("name: mini\nkey_position: here\n", "model.key_position=here is not a choice"),
    ],
)
def test_a_broken_yaml_is_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, {"model/mini.yaml": text})
    with pytest.raises(UserError) as raised:
        compose([], tmp_path)
    assert message in raised.value.message
    assert "\n" not in raised.value.message


def bomb(merged: bool = False) -> str:
    """Ten lines that stand for 9^10 values; ``merged``: which the reader itself writes out."""
    first, around = ("{k: 1}", "{{<<: [{}]}}") if merged else ("[x, x]", "[{}]")
    lines = [f"a0: &a0 {first}", *(f"a{n}: &a{n} {around.format(','.join([f'*a{n - 1}'] * 9))}" for n in range(1, 10))]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model/mini.yaml": bomb()}, "mini.yaml cannot be read: more than 20,000 values"),
        ({"model/mini.yaml": bomb(merged=True)}, "mini.yaml cannot be read: more than 20,000 values"),
        ({"beside.yaml": bomb()}, "beside.yaml cannot be read: more than 20,000 values"),
        ({"model/mini.yaml": "- 1\n" * 30_000}, "mini.yaml cannot be read: more than 20,000 values"),
        ({"model/mini.yaml": "a: &a [*a]\n"}, "mini.yaml cannot be read: a value that contains itself (line 1)"),
        ({"model/mini.yaml": "a: " + "[" * 100_000}, "mini.yaml cannot be read: nested too deeply (line 1)"),
        ({"model/mini.yaml": "a: 1" + ":1" * 2_000}, "mini.yaml cannot be read: a number of thousands of digits"),
        ({"model/mini.yaml": "a: " + "x" * 300_000}, "mini.yaml is too large"),
        ({"model/mini.yaml": "a: !!python/object/apply:os.system [true]"}, "could not determine a constructor"),
        ({"model/mini.yaml": "defaults: [../../elsewhere]\n"}, "mini.yaml: its defaults point outside the folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_yaml_that_is_made_to_exhaust_its_reader_is_refused(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    write(tmp_path, files)
    with pytest.raises(UserError) as raised:
        compose([], tmp_path)
    assert message in raised.value.message
    assert "\n" not in raised.value.message


def test_an_alias_of_a_yaml_is_what_it_stands_for(tmp_path: Path) -> None:
    write(tmp_path, {"model/mini.yaml": "name: &name mini\nnote: *name\nlayers: [1]\n"})
    assert compose([], tmp_path).model.note == "mini"


def test_a_yaml_behind_a_link_is_looked_at_too(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"mini.yaml": bomb()})
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "model").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path)
    with pytest.raises(UserError, match="more than 20,000 values"):
        compose([], tmp_path / "conf")


CALLS = (
    "${oc.env:SECRET}", "${oc.env:SECRET,x}", "${oc.decode:1}", "${oc.create:1}", "${oc.deprecated:run.seed}",
    "${oc.select:run.seed}", "${now:%Y}", "${hydra:run.dir}", "${python_version:}", "\\${oc.env:SECRET}",
)  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_no_function_gives_a_configuration_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setenv("SECRET", "told")
    write(tmp_path, {"model/mini.yaml": f"name: mini\npath: '{call}'\n"})
    for words, folder in (([], tmp_path), ([f"model.path={call}"], None)):
        with pytest.raises(UserError, match="which is not allowed|cannot be composed|cannot be read") as raised:
            compose(words, folder)
        assert "told" not in raised.value.message


def test_no_function_is_made_of_two_values_or_chooses_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "mini")
    write(tmp_path, {"model/mini.yaml": "name: '$'\nnote: '${model.name}{oc.env:SECRET}'\n"})
    with pytest.raises(UserError, match=r"\$\{oc.env:...\} would take its value from elsewhere"):
        compose([], tmp_path)
    write(
        tmp_path, {"experiment/small.yaml": "# @package _global_\ndefaults:\n  - override /model: ${oc.env:SECRET}\n"}
    )
    with pytest.raises(UserError, match="cannot be composed"):
        compose(["experiment=small"], tmp_path)


def test_a_chain_is_no_part_of_a_chain() -> None:
    with pytest.raises(UserError, match="unierase_deep is a chain itself"):
        compose(["method=[me_gd,unierase_deep]"], ROOT / "conf")


def test_one_key_may_take_anothers_value() -> None:
    assert compose(["run.seed=3", "model.path=m-${run.seed}"]).model.path == "m-3"


def test_a_recorded_key_that_was_removed_is_passed_over() -> None:
    recorded = asdict(compose([]))
    recorded["edit"]["moments"]["subject_end_weight"] = 1000.0
    recorded["model"]["verified"] = False
    assert Experiment.from_json(recorded) == compose([])
    recorded["edit"]["moments"]["no_such_key"] = 1
    with pytest.raises(UserError, match="no_such_key"):
        Experiment.from_json(recorded)
