"""Who may import whom: every import statement of the package is held against one table."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

from tests.helpers.places import ROOT
from tests.helpers.sources import PACKAGE, modules

MAY_IMPORT = {
    "cli": {"audit", "config", "pipeline", "stages", "results", "estimate", "delivery", "rerun", "launch", "tracking", "store"},
    "rerun": {"delivery", "results", "pipeline", "training", "store"},
    "delivery": {"audit", "results", "metrics", "pipeline", "modes", "inference", "editing", "models", "store"},
    "audit": {"representation", "training", "inference", "editing", "benchmarks", "metrics", "models", "store"},
    "stages": {
        "audit", "results", "estimate", "pipeline", "modes", "methods", "benchmarks", "metrics", "interchange", "probes",
        "revealing", "training", "inference", "editing", "models", "store",
    },
    "results": {"audit", "pipeline", "interchange", "metrics", "benchmarks", "store"},
    "estimate": {"audit", "pipeline", "methods", "training", "models", "store"},
    "pipeline": {"benchmarks", "modes", "training", "editing", "models", "store"},
    "interchange": {"metrics", "store"},
    "revealing": {"inference", "metrics", "models", "store"},
    "probes": {"training", "inference", "models", "store"},
    "representation": {"models", "store"},
    "methods": {"training", "editing", "models"},
    "training": {"models", "store"},
    "inference": {"models", "store"},
    "editing": {"models", "store"},
    "launch": {"store"},
    "tracking": set(),
    "benchmarks": {"store"},
    "modes": {"store"},
    "metrics": {"store"},
    "models": {"store"},
    "store": set(),
    "config": set(),
    "contracts": set(),
    "assets": set(),
    "plugins": {"sources"},
    "sources": set(),
    "words": set(),
    "sizes": set(),
    "temporary": set(),
    "remembered": set(),
    "signals": set(),
    "markdown": set(),
}
# What everybody may import: the shared nouns, the words of a text, what text becomes in Markdown, sizes, and the schema with
# its parts.
SHARED = ("contracts", "plugins", "sources", "words", "sizes", "temporary", "remembered", "signals", "markdown")
SHARED += ("config.schema", "config.sections", "config.checks", "config.counted")
COMPOSING = ("config.compose", "config.catalog", "config.locate", "config.overrides")
# Rooms that are imported before it is known whether torch will be needed.
LIGHT = (
    "contracts", "sizes", "config", "store", "benchmarks", "modes", "metrics", "interchange", "pipeline", "stages", "results",
    "estimate", "delivery", "rerun", "launch", "cli",
)  # fmt: skip
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "hydra")


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything that is imported anywhere in the file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what a file depends on"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> str | None:
    return name.removeprefix("unierase_cli.") if name.startswith("unierase_cli.") else None


def test_rooms_import_only_what_the_table_allows() -> None:
    offences = []
    for module, tree in modules():
        room = module.split(".")[0]
        for name in filter(None, map(ours, imports(tree))):
            target = name.split(".")[0]
            allowed = target == room or target in MAY_IMPORT[room] or name.startswith(SHARED) or target == "__version__"
            if not allowed:
                offences.append(f"{module} imports {name}")
    assert offences == []


def test_only_the_command_line_composes_configurations() -> None:
    offences = [
        f"{module} imports {name}"
        for module, tree in modules()
        for name in filter(None, map(ours, imports(tree)))
        if name.startswith(COMPOSING) and module.split(".")[0] not in ("cli", "config", "launch")
    ]
    assert offences == []


def test_hydra_stays_in_the_configuration_room() -> None:
    users = {module.split(".")[0] for module, tree in modules() for name in imports(tree) if name.startswith("hydra")}
    assert users <= {"config"}


def test_every_room_is_in_the_table() -> None:
    assert {module.split(".")[0] for module, _ in modules()} <= set(MAY_IMPORT)


def test_light_rooms_import_no_torch() -> None:
    names = [f"unierase_cli.{module}" for module, _ in modules() if module.split(".")[0] in LIGHT]
    names = [name for name in names if name not in ("unierase_cli.config.merged", "unierase_cli.config.chosen")]
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    found = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "    assert not found, f'{name} imports {found}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr


def test_no_file_of_the_tests_imports_from_a_test_file() -> None:
    """What several test files need lives in tests/helpers; programs that a test starts from a text count too."""
    offences = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for tree in with_programs(ast.parse(path.read_text("utf-8"))):
            for name in imports(tree):
                if name.startswith("tests.") and any(part.startswith("test_") for part in name.split(".")):
                    offences.append(f"{path.relative_to(ROOT)} imports {name}")
    assert offences == []


def with_programs(tree: ast.Module) -> Iterator[ast.Module]:
    """A file, and every text in it that is a program itself."""
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            with suppress(SyntaxError, ValueError):
                yield ast.parse(node.value)


def test_no_two_files_import_each_other_in_a_circle() -> None:
    trees = dict(modules())
    arrows = {
        module: {
            found
            for name in filter(None, map(ours, imports(tree)))
            for found in (name, name.rpartition(".")[0])
            if found in trees
        }
        for module, tree in trees.items()
    }
    # What imports nothing that is left is taken away, again and again; what remains are circles and who leads into them.
    while ground := [module for module, targets in arrows.items() if not targets & arrows.keys() - {module}]:
        for module in ground:
            del arrows[module]
    assert sorted(arrows) == []


def test_every_room_says_what_lives_there_what_comes_in_and_what_goes_out() -> None:
    for folder in sorted({PACKAGE, *(path.parent for path in PACKAGE.rglob("*.py"))}):
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
        assert said, f"{folder.relative_to(PACKAGE)} has no docstring"
        assert folder == PACKAGE or said.count(".") >= 3, f"{folder.relative_to(PACKAGE)} says too little"
