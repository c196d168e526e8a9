"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import pytest
import yaml

from tests.helpers.gradient_steps import erased, loss_on
from tests.helpers.places import ROOT
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.methods.terms import base

README = (ROOT / "README.md").read_text("utf-8")


def block(language: str, after: str) -> str:
    """The first fenced block of a language after some text, its indentation taken away."""
    found = re.search(rf"^( *)```{language}\n(.*?)^ *```", README[README.index(after) :], re.MULTILINE | re.DOTALL)
    assert found is not None
    return "".join(line.removeprefix(found.group(1)) for line in found.group(2).splitlines(keepends=True))


def test_a_loss_of_ones_own_is_the_file_and_the_yaml_that_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    term = ModuleType("bounded")
    exec(block("python", "**A loss**"), term.__dict__)
    monkeypatch.setitem(sys.modules, "bounded", term)
    monkeypatch.setattr("unierase_cli.methods.gradient_terms.load_term", lambda n: term if n == "bounded" else base.load_term(n))
    written = yaml.safe_load(block("yaml", "**A loss**"))
    # An untrained model is less sure than that from the start.
    written["forget"]["settings"] = {"enough": 20.0}
    written |= {role: TermConfig(**written[role]) for role in ("forget", "retain")}
    loaded, _ = erased(MethodConfig(**written))
    assert loss_on(loaded) > loss_on(tiny_llama())


def test_every_command_of_the_readme_exists() -> None:
    from unierase_cli.cli.app import COMMANDS

    named = set(re.findall(r"^unierase ([a-z-]+)", README, re.MULTILINE))
    assert named <= set(COMMANDS)


def test_every_method_of_the_readme_is_shipped() -> None:
    table = README[README.index("| `method=` |") : README.index("`unlearn=default|")]
    names = set(re.findall(r"^\| ((?:`\w+` ?)+)\|", table, re.MULTILINE))
    methods = {name for cell in names for name in re.findall(r"`(\w+)`", cell)}
    conf = ROOT / "conf" / "method"
    assert len(methods) > 15
    assert all((conf / f"{name}.yaml").exists() for name in methods)
