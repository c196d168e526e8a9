"""Nobody but the store opens a file of an artefact by its path: readers ask for it and get it once its hash was checked."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.test_import_table import modules

# What has a ``path`` and is no artefact: settings, choices of the configuration, rows of a plan, what is being written.
OTHERS = {"model", "benchmark", "config", "os", "sys", "draft", "row", "self", "choice", "run", "train", "rows"}
# What a path says without a look at what is there.
NAMING = {"parent", "parents", "name", "parts", "stem", "as_posix", "resolve", "absolute", "is_relative_to", "lower"}


def last_name(node: ast.expr) -> str:
    node = node.value if isinstance(node, ast.Subscript) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def opened(tree: ast.Module) -> Iterator[int]:
    """Lines where an artefact's ``.path`` is used for anything but to say where it is."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and node.attr == "path") or last_name(node.value) in OTHERS:
            continue
        parent = parents[node]
        told = isinstance(parent, ast.FormattedValue | ast.Compare | ast.Tuple | ast.Set | ast.SetComp | ast.Dict)
        told = told or (isinstance(parent, ast.Attribute) and parent.attr in NAMING)
        told = told or (isinstance(parent, ast.Call) and last_name(parent.func) == "str")
        if not told:
            yield node.lineno


def test_nothing_outside_the_store_opens_a_file_of_an_artefact_by_its_path() -> None:
    found = [f"{name}:{line}" for name, tree in modules() if not name.startswith("store.") for line in opened(tree)]
    assert found == []


def test_the_rule_sees_what_it_is_there_for() -> None:
    for text in ("read(artefact.path / 'metrics.json')", "Patch.load(erasure.path, 0)", "list(made.path.glob('*'))"):
        assert list(opened(ast.parse(text))) == [1]
    for text in ("print(f'{made.path}')", "str(artefact.path)", "artefact.path.parent.name", "a.path == b.path"):
        assert list(opened(ast.parse(text))) == []
