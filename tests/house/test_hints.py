"""What a hint says to type exists: every key, choice, option and command that any of them names."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from typing import Any

import pytest
import typer.main

from tests.helpers.places import ROOT
from unierase_cli.cli.app import COMMANDS, app
from unierase_cli.config.catalog import groups
from unierase_cli.config.overrides import leaf_type
from unierase_cli.config.schema import Composition
from unierase_cli.config.sweep import SHORT

PACKAGE = ROOT / "unierase_cli"
TELLING = {"UserError", "unavailable", "JudgeAbsent"}
# Constants and variables that hold what is said beside such calls.
WORDS = "hint|mend|again|reference|prompt|absent|another|elsewhere|example|offer|give|token|stored|retain"
HOLDERS = re.compile(rf"(?i)\w*({WORDS})\w*")
SECTIONS = Composition.__dataclass_fields__.keys()
# Settings of a loss term and of a word's form, which are no keys.
OTHERS = {"KEY", "NAME", "vector", "term", "beta"}


def parts(node: ast.AST) -> Iterator[str]:
    """Texts in an expression; what an f-string fills in is an ellipsis."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from parts(child)


@cache
def said() -> tuple[tuple[str, str], ...]:
    """(place, text) of everything that refusals and missing numbers may say."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            spoken: list[ast.AST] = []
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                spoken = [*node.args] if name in TELLING else []
            elif isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and HOLDERS.fullmatch(target.id) for target in node.targets
            ):
                spoken = [node.value]
            found += [(f"{path.relative_to(ROOT)}:{node.lineno}", text) for one in spoken for text in parts(one)]  # type: ignore[attr-defined]
    return tuple(found)


@cache
def options() -> dict[str, set[str]]:
    """Command, or command and sub-command -> its options."""
    found: dict[str, set[str]] = {}

    def note(name: str, command: Any) -> None:
        found[name] = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for inner, further in getattr(command, "commands", {}).items():
            note(f"{name} {inner}", further)

    group: Any = typer.main.get_command(app)
    for name in COMMANDS:
        note(name, group.get_command(None, name))
    return found


def is_key(key: str) -> bool:
    """Whether the schema has it; of a list of sections the name in each of them counts."""
    head, _, last = key.rpartition(".")
    return leaf_type(key) is not None or leaf_type(f"{head}.0.{last}") is not None


def wrong_keys(text: str) -> Iterator[str]:
    plain = re.sub(r"\{[^{}]*\}", "", text)
    for key in re.findall(r"(?<![\w./…@-])([a-z]\w*(?:\.[a-z_]\w*)+)(?![\w(…])", plain):
        if key.split(".")[0] in SECTIONS and not is_key(key):
            yield key


def wrong_choices(text: str) -> Iterator[str]:
    known = groups([ROOT / "conf"])
    for key, value in re.findall(r"(?<![\w./…@{-])([A-Za-z_]\w*)=([\w…./]*)", text):
        if key in known:
            if re.fullmatch(r"[a-z]\w*", value) and value not in known[key]:
                yield f"{key}={value}"
        elif key not in SHORT and key not in OTHERS and key.islower() and not is_dataclass(leaf_type(key)):
            yield f"{key}={value}"


def wrong_options(text: str) -> Iterator[str]:
    # --merge is an option of llama.cpp's tool.
    everywhere = set().union(*options().values(), {"--version", "--merge"})
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
        if option not in everywhere:
            yield option
    for words, option in re.findall(r"unierase ([a-z -]*?)(?: [A-Z…]\S*)* (--[a-z-]+)", text):
        known = next(
            (options()[name] for name in (words, words.split()[0] if words else "") if name in options()), None
        )
        if known is not None and option not in known:
            yield f"unierase {words} {option}"


def wrong_commands(text: str) -> Iterator[str]:
    for told in re.findall(r"`unierase ([^`]*)`|(?:^|: |type |try )unierase ([a-z-]+[^,;]*)", text):
        words = (told[0] or told[1]).split()
        if words and not words[0].startswith(("…", "-")) and words[0] not in COMMANDS:
            yield f"unierase {words[0]}"
        if words[:1] == ["patch"] and len(words) > 1 and " ".join(words[:2]) not in options():
            yield f"unierase {' '.join(words[:2])}"


@pytest.mark.parametrize("wrong", [wrong_keys, wrong_choices, wrong_options, wrong_commands])
def test_everything_that_a_hint_names_exists(wrong: Callable[[str], Iterator[str]]) -> None:
    assert len(said()) > 600
    assert [f"{place}: {name}" for place, text in said() for name in wrong(text)] == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (wrong_keys, "set edit.lamda=0.2"),
        (wrong_keys, "lower protocol.prefix_token"),
        (wrong_choices, "choose method=taskvector"),
        (wrong_choices, "add outputz=here"),
        (wrong_options, "give the model with --bases FOLDER"),
        (wrong_options, "unierase export RUN DIR --drop"),
        (wrong_commands, "run `unierase token` first"),
        (wrong_commands, "`unierase patch undo` takes it back"),
    ],
)
def test_a_name_that_does_not_exist_is_seen(wrong: Callable[[str], Iterator[str]], text: str) -> None:
    assert list(wrong(text)) != []
