"""Help, version and completion are instant: nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from typer.testing import CliRunner

from tests.helpers.places import ROOT
from unierase_cli.cli.app import app

HEAVY = ("torch", "transformers", "hydra", "omegaconf", "numpy", "datasets", "matplotlib")
COMMANDS = ("run", "finetune", "train-token", "moments", "trace", "edit", "erase", "eval", "score", "report")
COMMANDS += ("reveal", "coverage", "check", "attribute")
COMMANDS += ("sweep", "compare", "prepare", "prepare-return", "export", "patch", "chat", "ls", "show", "doctor", "rerun", "new")
BARE = ["-c", "pass"]
RICH = ["-c", "import rich.console, rich.table"]
HELP = ["-m", "unierase_cli", "--help"]


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )


def imported_by(*words: str) -> set[str]:
    """Top-level modules in sys.modules once the command line has run."""
    script = (
        "import sys\n"
        "from unierase_cli.cli.app import app\n"
        f"try:\n    app({list(words)!r}, prog_name='unierase')\n"
        "except SystemExit:\n    pass\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_help_imports_no_torch() -> None:
    assert imported_by("--help") & set(HEAVY) == set()


def test_help_of_a_command_imports_no_torch() -> None:
    assert imported_by("run", "--help") & set(HEAVY) == set()
    assert imported_by("patch", "apply", "--help") & set(HEAVY) == set()
    assert imported_by("chat", "--help") & set(HEAVY) == set()


def test_listing_and_planning_import_no_torch(tmp_path: Path) -> None:
    assert imported_by("ls", "models") & set(HEAVY) == set()
    planned = imported_by("run", "--dry-run", "--json", "--outputs", str(tmp_path))
    assert planned & {"torch", "transformers"} == set()
    assert list(tmp_path.iterdir()) == []


def test_help_lists_commands_and_every_choice_of_the_configuration() -> None:
    from unierase_cli.config import catalog, locate

    text = " ".join(python(*HELP).stdout.split())
    for command in COMMANDS:
        assert f" {command} " in text
    for group, names in catalog.groups([locate.shipped_folder()]).items():
        assert f"{group} {', '.join(names)}" in text


def test_help_takes_at_most_three_bare_pythons_and_the_import_of_rich() -> None:
    best = {name: float("inf") for name in ("bare", "rich", "help")}
    # The fastest of several rounds: other work on the machine only ever adds time.
    for _ in range(15):
        for name, words in (("bare", BARE), ("rich", RICH), ("help", HELP)):
            started = time.perf_counter()
            python(*words)
            best[name] = min(best[name], time.perf_counter() - started)
        allowed = 3 * best["bare"] + (best["rich"] - best["bare"])
        if best["help"] <= allowed:
            return
    # A loaded machine may never give all three a quiet moment: then only a gross slowdown fails.
    assert best["help"] <= 2 * allowed


def test_the_version_is_one_line() -> None:
    assert python("-m", "unierase_cli", "--version").stdout.startswith("unierase 0.")


def test_without_a_word_the_help_is_shown() -> None:
    done = python("-m", "unierase_cli")
    assert done.returncode == 0
    assert "Usage: unierase" in done.stdout


def test_shells_complete_commands_options_and_choices() -> None:
    def completed(words: str) -> list[str]:
        position = str(len(words.split(" ")) - 1)
        environment = {"_UNIERASE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}
        return CliRunner().invoke(app, [], prog_name="unierase", env=environment).stdout.split()

    assert "finetune" in completed("unierase fin")
    assert "--dry-run" in completed("unierase run --dr")
    assert completed("unierase run --benchmark fict") == ["fictional"]
    # bash hands over model=mini as three words.
    assert completed("unierase run benchmark = fict") == ["fictional"]
    assert "demo" in completed("unierase run experiment =")
    assert "edit.values.clamp=" in completed("unierase run edit.values.c")
    # In a sweep a comma begins the next value; what stands already is not offered again.
    assert completed("unierase sweep method = unierase,unie") == ["unierase,unierase_deep"]
    assert "unierase,npo_gd" in completed("unierase sweep method = unierase,npo")
    assert completed("unierase sweep --launcher sl") == ["slurm"]
    script = python("-m", "unierase_cli", _UNIERASE_COMPLETE="source_bash").stdout
    assert "_unierase_completion" in script


def test_an_installed_package_finds_the_conf_inside_it(tmp_path: Path) -> None:
    # As in a wheel: conf/ lies inside the package and no checkout surrounds it.
    shutil.copytree(ROOT / "unierase_cli", tmp_path / "unierase_cli", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", tmp_path / "unierase_cli" / "conf")
    script = "from unierase_cli.config.compose import compose; print(compose(['experiment=demo']).model.name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "mini\n", done.stderr
