"""`unierase new`: what it writes is found, fails its test by saying what to fill in, and passes once that is done."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.scaffolds import FILLED, HOMES, NAMES, ROOMS, fill_in, forget_modules, install, new
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.audit.base import attack_names
from unierase_cli.benchmarks.base import BENCHMARKS
from unierase_cli.cli.commands.new_parts import KINDS
from unierase_cli.methods.base import METHODS, load_method
from unierase_cli.methods.terms.base import term_names
from unierase_cli.metrics.catalog import all_metrics


def run_tests(path: Path, tmp_path: Path) -> None:
    """Call every test of a generated file, as pytest would."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert tests
    for number, function in enumerate(tests):
        folder = tmp_path / f"{path.stem}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        function(*(folder for _ in inspect.signature(function).parameters))


def check_with_ruff(*paths: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", "check", *map(str, paths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def is_found(kind: str, name: str) -> bool:
    names: dict[str, Callable[[], list[str]]] = {
        "method": METHODS.names, "loss": term_names, "benchmark": BENCHMARKS.names,
        "metric": lambda: [metric.NAME for metric in all_metrics()], "attack": attack_names,
    }  # fmt: skip
    return name in names[kind]()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of this checkout in which one stands; what is new in its rooms is found by this process too."""
    folder = tmp_path / "checkout"
    for name in ("conf", "unierase_cli"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    for room in HOMES.values():
        package = importlib.import_module(f"unierase_cli.{room}".replace("/", "."))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder / "unierase_cli" / room)])
    monkeypatch.chdir(folder)
    yield folder
    forget_modules()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's own, on the path as `pip install -e` would put it there."""
    folder = tmp_path / "my-parts"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    forget_modules()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ROOMS)
def test_a_part_in_a_checkout_fails_until_its_one_place_is_filled_in(kind: str, checkout: Path, tmp_path: Path) -> None:
    made = new(kind, "mine", "--json")
    assert made.exit_code == 0, made.stderr
    told = json.loads(made.stdout)
    code, test = (checkout / told["files"][place] for place in (0, -1))
    assert (code, test) == (
        checkout / "unierase_cli" / HOMES[kind] / "mine.py",
        checkout / "tests" / f"test_{kind}_mine.py",
    )
    assert is_found(kind, "mine")
    check_with_ruff(code, test)
    with pytest.raises(
        NotImplementedError, match=f"fill in {KINDS[kind].open[:-2]}.* in unierase_cli/{HOMES[kind]}/mine.py"
    ):
        run_tests(test, tmp_path)
    fill_in(code, kind)
    forget_modules()
    run_tests(test, tmp_path)
    check_with_ruff(code, test)


def test_a_model_is_a_yaml_whose_test_fails_until_its_path_is_filled_in(checkout: Path, tmp_path: Path) -> None:
    told = json.loads(new("model", "mine", "--json").stdout)
    assert told["files"] == ["conf/model/mine.yaml", "tests/test_model_mine.py"]
    test = checkout / "tests" / "test_model_mine.py"
    with pytest.raises(AssertionError, match=r"fill in path in conf/model/mine.yaml: a folder or a hub id"):
        run_tests(test, tmp_path)
    fill_in(checkout / "conf" / "model" / "mine.yaml", "model", save_folder(tiny_llama(), tmp_path / "weights"))
    run_tests(test, tmp_path)
    check_with_ruff(test)


@pytest.mark.slow
def test_parts_of_ones_own_are_found_by_their_entry_points(own: Path, tmp_path: Path) -> None:
    for kind, name in NAMES.items():
        made = new(kind, name, "--into", str(own))
        assert made.exit_code == 0, made.stderr
        assert "next: pip install -e my-parts" in made.stderr
    assert not is_found("method", "mine"), "nothing is installed yet"
    install(own)
    found = {point.value for name in ("mine", "mine_too") for point in entry_points(name=name)}
    assert found == {f"unierase_my_parts.{ROOMS[kind]}.{name}" for kind, name in NAMES.items()}
    assert load_method("mine").__name__ == "unierase_my_parts.methods.mine"  # type: ignore[attr-defined]
    check_with_ruff(own)
    tests = {kind: own / "tests" / f"test_{kind}_{NAMES[kind]}.py" for kind in FILLED}
    for kind, test in tests.items():
        with pytest.raises(NotImplementedError, match=f" in unierase_my_parts/{ROOMS[kind]}/{NAMES[kind]}.py"):
            run_tests(test, tmp_path)
        fill_in(own / "unierase_my_parts" / ROOMS[kind] / f"{NAMES[kind]}.py", kind)
    forget_modules()
    for test in tests.values():
        run_tests(test, tmp_path)
    check_with_ruff(own)


def test_the_paths_and_the_next_commands_are_printed(own: Path) -> None:
    told = new("method", "mine", "--into", str(own)).stderr.splitlines()
    assert told[0] == "wrote my-parts/unierase_my_parts/methods/mine.py   <- fill in new_weights()"
    assert told[-3:] == [
        "next: pip install -e my-parts",
        "next: python -m pytest my-parts/tests/test_method_mine.py",
        "next: unierase run experiment=demo method=mine --config-dir my-parts/conf",
    ]


def test_a_project_of_ones_own_is_left_alone_and_told_what_to_add(own: Path) -> None:
    own.mkdir()
    (own / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    told = new("metric", "mine", "--into", str(own)).stderr
    assert '[project.entry-points."unierase.metrics"]\nmine = "unierase_my_parts.metrics.mine"' in told
    assert (own / "pyproject.toml").read_text() == '[project]\nname = "theirs"\n'


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("method", "npo_gd"), "there is already a method npo_gd", "unierase new method my_npo_gd"),
        (("method", "closed_form"), "there is already a method closed_form", "unierase new method my_closed_form"),
        (("metric", "rouge"), "there is already a metric rouge", "unierase new metric my_rouge"),
        (("benchmark", "tofu"), "there is already a benchmark tofu", "unierase new benchmark my_tofu"),
        (("model", "hf"), "there is already a model hf", "unierase new model my_hf"),
        (("method", "Qwen2.5-7B"), "Qwen2.5-7B is not a valid name for a method", "unierase new method qwen2_5_7b"),
        (("metric", "class"), "class is not a valid name for a metric", "unierase new metric my_class"),
        (
            ("probe", "mine"),
            "unierase new cannot make probe",
            "choose model, method, loss, metric, attack, benchmark",
        ),
    ],
)
def test_a_name_that_is_taken_or_no_name_is_refused_in_one_line(
    words: tuple[str, str], message: str, hint: str, own: Path
) -> None:
    refused = new(*words, "--into", str(own))
    first, last = refused.stderr.splitlines()
    assert refused.exit_code == 2
    assert first.startswith(f"error: {message}")
    assert last == f"  try: {hint}"
    assert not own.exists()


def test_a_folder_of_the_same_name_is_no_place_for_a_file(checkout: Path) -> None:
    (checkout / "unierase_cli" / "benchmarks" / "mine").mkdir()
    assert "there is already a benchmark mine" in new("benchmark", "mine").stderr


def test_nothing_is_ever_overwritten(checkout: Path) -> None:
    assert new("method", "mine").exit_code == 0
    before = {path: path.read_bytes() for path in checkout.rglob("*mine*") if path.is_file()}
    assert new("method", "mine").exit_code == 2
    assert {path: path.read_bytes() for path in before} == before


def test_outside_a_checkout_a_folder_must_be_named(own: Path) -> None:
    refused = new("method", "mine")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == "  try: unierase new method mine --into FOLDER"
    assert not own.exists()


def test_a_link_to_itself_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    result = new("method", "mine", "--into", str(tmp_path / "link"))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
