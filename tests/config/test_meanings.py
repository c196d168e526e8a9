"""Every key of the configuration has a meaning that can be asked, and that a printed configuration shows."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass

import pytest
import yaml
from typer.testing import CliRunner

from unierase_cli.cli.app import COMMANDS, app
from unierase_cli.config.compose import to_yaml
from unierase_cli.config.meanings import list_keys, with_meanings
from unierase_cli.config.overrides import known_keys, leaf_type
from unierase_cli.config.schema import Composition
from unierase_cli.contracts import UserError

SECTIONS = [field.name for field in fields(Composition)]


def told(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words), prog_name="unierase")
    assert result.exit_code == code, result.stderr
    return result.stdout if "--json" in words or "--help" in words or "--print-config" in words else result.stderr


def meaning(name: str) -> str:
    return next(key.meaning for key in list_keys() if key.name == name)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_every_section_has_a_meaning_in_whole_sentences(section: str) -> None:
    keys = list_keys(section)
    assert keys
    assert [key.name for key in keys if not key.meaning.endswith((".", ".)"))] == []
    assert [key.name for key in keys if "  " in key.meaning or key.meaning != key.meaning.strip()] == []


def test_the_keys_are_those_of_the_schema_and_those_of_a_lists_first_item() -> None:
    named = [key.name for key in list_keys()]
    assert [name for name in named if ".0." not in name] == known_keys()
    assert "token.stages.0.noise" in named
    assert all(leaf_type(name) is not None and not is_dataclass(leaf_type(name)) for name in named)


def test_a_meaning_is_the_text_below_its_own_field() -> None:
    assert meaning("edit.values.clamp") == "Limit of the change: ||delta|| never exceeds clamp * ||h0||."
    assert meaning("run.outputs") == "Folder of all artefacts."
    # Folded in the source, one line here; escapes are as they are typed.
    assert meaning("protocol.stop").startswith(r'Texts that end an answer ("\n" is a new line).')
    assert len({key.meaning for key in list_keys("edit")}) == len(list_keys("edit"))


@pytest.mark.parametrize(
    ("name", "default"),
    [("edit.layers", "null"), ("edit.one_by_one", "false"), ("edit.target", "token"), ("edit.values.lr", "0.1"),
     ("unlearn.betas", "[0.9, 0.999]"), ("launcher.sbatch", "{}"), ("method.note", '""'),
     ("token.stages", "1 of token.stages.N"), ("token.stages.0.formats", '["chat"]')],
)  # fmt: skip
def test_a_default_is_shown_as_it_is_typed(name: str, default: str) -> None:
    assert [key.default for key in list_keys(name) if key.name == name] == [default]


def test_the_keys_of_a_section_below_a_group_and_a_single_key_can_be_asked() -> None:
    assert {key.name.rpartition(".")[0] for key in list_keys("edit.values")} == {"edit.values"}
    assert [key.name for key in list_keys("edit.lambda_")] == ["edit.lambda_"]
    assert {key.name.partition(".")[0] for key in list_keys("eval")} == {"eval"}


@pytest.mark.parametrize(
    ("section", "hint"), [("edti", "did you mean edit?"), ("edit.valeus", "did you mean edit.values"), ("xyzzy", "launcher")]
)
def test_a_section_that_does_not_exist_is_refused_with_what_is_near(section: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"no section {section}") as caught:
        list_keys(section)
    assert hint in caught.value.hint


def test_ls_keys_shows_name_default_and_meaning() -> None:
    assert json.loads(told("ls", "keys", "--json")) == [vars(key) for key in list_keys()]
    table = " ".join(told("ls", "keys", "edit").split())
    assert "edit.values.clamp 0.5 Limit of the change" in table
    assert "unlearn.lr" not in table
    assert told("ls", "keys", "edti", code=2).splitlines() == [
        "error: the configuration has no section edti", "  try: edit"
    ]  # fmt: skip
    assert told("ls", "models", "edit", code=2).splitlines()[1] == "  try: unierase ls models"


def test_a_printed_configuration_has_the_meanings_as_comments_and_the_same_values() -> None:
    words = ["token.stages.0.lr=0.5", "method=npo_gd", "model.system='a: b # c'"]
    printed = told("run", "--print-config", *words)
    assert yaml.safe_load(printed) == yaml.safe_load(to_yaml(words))
    lines = printed.splitlines()
    assert lines[lines.index("    clamp: 0.5") - 1] == f"    # {meaning('edit.values.clamp')}"
    assert lines[lines.index("edit:") - 1] == "# How a closed-form edit is computed."
    assert max(map(len, lines)) <= 120
    assert sum(line.strip() == "# Passes over the questions." for line in lines) == 1, "once for a list of sections"


def test_a_line_inside_a_long_text_is_no_key() -> None:
    text = yaml.dump({"model": {"name": "hf", "system": "a\n\n  path: b\n" * 40, "path": None}}, sort_keys=False)
    assert yaml.safe_load(with_meanings(text)) == yaml.safe_load(text)
    block = "model:\n  system: |\n    path: one\n    dtype: two\n  path: null\n"
    assert yaml.safe_load(with_meanings(block)) == yaml.safe_load(block)


def test_keys_of_no_section_stay_without_a_comment() -> None:
    text = "method:\n  forget:\n    settings:\n      beta: 0.1\n"
    assert "      beta: 0.1" in with_meanings(text).splitlines()
    assert with_meanings("a:\n  b: 1\n") == "a:\n  b: 1\n"


@pytest.mark.parametrize("command", ["run", "eval", "erase", "edit", "sweep", "score", "report", "doctor"])
def test_the_help_of_a_command_with_keys_says_where_they_are_explained(command: str) -> None:
    assert command in COMMANDS
    assert "unierase ls keys" in " ".join(told(command, "--help").split())
