"""Keys count the code of parts: how it is read without importing it, and that an edited part is run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.places import PACKAGE
from tests.helpers.scaffolds import NAMES, ROOMS, as_a_new_process, fill_in, forget_modules, install, new
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.benchmarks.base import BENCHMARKS
from unierase_cli.benchmarks.general.base import SUITES
from unierase_cli.config.compose import compose
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.methods.base import METHODS
from unierase_cli.methods.settings import TERMS
from unierase_cli.methods.terms.base import load_term
from unierase_cli.modes.base import MODES
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.probes.base import PASSES
from unierase_cli.sources import Unread, code_hash, constant
from unierase_cli.store.artefact import Artefact

ROOM = "unierase_cli.methods"
DOT = "."
FILES = {
    "parts_of_mine/__init__.py": "FACTOR = 2\n",
    "parts_of_mine/mine.py": f"raise RuntimeError('never imported')\n\nfrom {DOT}steps import step\nSETTINGS = {{'rate': 0.5}}\n",
    "parts_of_mine/steps.py": "import other_of_mine\nfrom parts_of_mine import FACTOR, unused\n",
    "parts_of_mine/unused.py": "",
    "parts_of_mine/beside.py": "",
    "other_of_mine.py": "",
    "folder_of_mine/__init__.py": "",
    "folder_of_mine/inner/table.py": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of the user's own, on the path."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    as_a_new_process()
    yield tmp_path
    as_a_new_process()


@pytest.mark.parametrize(
    ("module", "file", "counts"),
    [
        ("parts_of_mine.mine", "parts_of_mine/mine.py", True),
        ("parts_of_mine.mine", "parts_of_mine/steps.py", True),  # imported by a relative name
        ("parts_of_mine.mine", "parts_of_mine/__init__.py", True),  # FACTOR
        ("parts_of_mine.mine", "parts_of_mine/unused.py", True),
        ("parts_of_mine.mine", "parts_of_mine/beside.py", False),
        ("parts_of_mine.mine", "other_of_mine.py", False),
        ("folder_of_mine", "folder_of_mine/inner/table.py", True),
    ],
)
def test_a_part_counts_with_what_it_imports_of_its_own_package(
    module: str, file: str, counts: bool, package: Path
) -> None:
    before = code_hash(module, ROOM)
    assert code_hash(module, ROOM) == before
    with (package / file).open("a", encoding="utf-8") as stream:
        stream.write("\n# changed\n")
    assert code_hash(module, ROOM) == before, "within a process Python imports a file once"
    as_a_new_process()
    assert (code_hash(module, ROOM) != before) == counts


def test_a_file_that_is_no_python_counts_too(package: Path) -> None:
    (package / "parts_of_mine" / "mine.py").write_text("def broken(:\n", "utf-8")
    first = code_hash("parts_of_mine.mine", ROOM)
    (package / "parts_of_mine" / "mine.py").write_text("def broken(::\n", "utf-8")
    as_a_new_process()
    assert None not in (first, code_hash("parts_of_mine.mine", ROOM))
    assert first != code_hash("parts_of_mine.mine", ROOM)
    assert code_hash("parts_of_mine.nowhere", ROOM) is None


def test_a_shipped_part_counts_with_what_it_imports_of_its_room(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = package / "room"
    copy.mkdir()
    for path in (PACKAGE / "methods").glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("unierase_cli.methods.__path__", [str(copy)])
    names = ("altpo", "unierase", "none")
    as_a_new_process()
    before = {name: METHODS.code(name) for name in names}
    for file, changed in (("gradient_rows.py", {"altpo"}), ("closed_form.py", {"unierase"}), ("base.py", set(names))):
        text = (copy / file).read_text("utf-8")
        (copy / file).write_text(text + "\n# changed\n", "utf-8")
        as_a_new_process()
        assert {name for name in names if METHODS.code(name) != before[name]} == changed, file
        (copy / file).write_text(text, "utf-8")


def test_every_shipped_part_has_code_of_its_own() -> None:
    for parts in (METHODS, TERMS, MODES, BENCHMARKS, PASSES, SUITES):
        found = {name: parts.code(name) for name in parts.names()}
        assert all(len(code) == 64 for code in found.values())
        assert len(set(found.values())) == len(found)
    with pytest.raises(UserError, match="method=unierasee is not a method") as caught:
        METHODS.code("unierasee")
    assert caught.value.hint == "did you mean method=unierase?"


def test_constants_are_read_as_they_would_be_imported(package: Path) -> None:
    for name in TERMS.names():
        term = load_term(name)
        for what in ("ROWS", "PER", "SETTINGS", "REFERENCE"):
            assert TERMS.says(name, what) == getattr(term, what), f"{name}: {what}"
    assert constant("parts_of_mine.mine", "SETTINGS") == {"rate": 0.5}, "its file raises when it is imported"
    assert constant("parts_of_mine.steps", "FACTOR") == 2
    assert constant("parts_of_mine.steps", "NOTHING", "default") == "default"
    with pytest.raises(Unread):
        constant("parts_of_mine.steps", "unused")
    (package / "parts_of_mine" / "beside.py").write_text(
        "RATE = 1.5\nSETTINGS = {'rate': 2 * RATE}\nPAIR = (RATE, -1)\n", "utf-8"
    )
    assert constant("parts_of_mine.beside", "PAIR") == (1.5, -1)
    with pytest.raises(Unread):
        constant("parts_of_mine.beside", "SETTINGS")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SETTINGS = {'a': 1}", {"a": 1}),
        ("ROWS, SETTINGS = ('forget',), {'a': -1.5}", {"a": -1.5}),
        ("A = 2\nSETTINGS: dict = {'a': A}", {"a": 2}),
        ("from parts_of_mine import FACTOR as SETTINGS", 2),
        ("SETTINGS = 1\nSETTINGS = 2", 2),
        ("OTHER = 1", "absent"),
        ("def f():\n    return 1", "absent"),
        ("SETTINGS = dict(a=1)", Unread),
        ("SETTINGS = {", Unread),
        ("def f():\n    SETTINGS = 1", "absent"),
        ("SETTINGS = 1\nOTHER = (SETTINGS, f())", 1),
        ("SETTINGS = {}\nSETTINGS['a'] = 1", Unread),
        ("SETTINGS = {}\nSETTINGS.update(a=1)", Unread),
        ("SETTINGS = 1\nSETTINGS += 1", Unread),
        ("if True:\n    SETTINGS = 1", Unread),
        ("try:\n    from other_of_mine import SETTINGS\nexcept ImportError:\n    SETTINGS = {}", Unread),
        ("from other_of_mine import SETTINGS", Unread),
        ("def SETTINGS():\n    return 1", Unread),
        ("A, SETTINGS = values()", Unread),
        ("for SETTINGS in ():\n    pass", Unread),
    ],
)
def test_a_constant_is_read_or_left_to_the_import(text: str, value: object, package: Path) -> None:
    (package / "parts_of_mine" / "beside.py").write_text(text, "utf-8")
    if value is Unread:
        with pytest.raises(Unread):
            constant("parts_of_mine.beside", "SETTINGS", "absent")
    else:
        assert constant("parts_of_mine.beside", "SETTINGS", "absent") == value


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A method, a loss, a metric and a benchmark as `unierase new` makes them, filled in and installed."""
    folder = tmp_path / "my-parts"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    for kind, name in NAMES.items():
        assert new(kind, name, "--into", str(folder)).exit_code == 0
        fill_in(part(folder, kind), kind)
    install(folder)
    save_folder(tiny_llama(), tmp_path / "model")
    as_a_new_process()
    yield folder
    forget_modules()
    as_a_new_process()


def part(folder: Path, kind: str) -> Path:
    return folder / "unierase_my_parts" / ROOMS[kind] / f"{NAMES[kind]}.py"


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")


def run(folder: Path, stage: str, *words: str) -> tuple[Artefact, list[str]]:
    """What a command makes in a process of its own, and what it tells."""
    as_a_new_process()
    words = ("model=hf", f"model.path={folder.parent / 'model'}", "benchmark=mine", "eval=quick", *words)
    settings = (f"run.outputs={folder.parent / 'outputs'}", "run.device=cpu", "protocol.max_new_tokens=3")
    reporter = SilentReporter()
    return Pipeline(compose([*words, *settings], folder / "conf"), reporter).make(stage), reporter.notes


def not_reused(notes: list[str]) -> list[str]:
    return [note.partition(": ")[2] for note in notes if note.startswith("not reusing ")]


def made(notes: list[str]) -> list[str]:
    return [note.partition(": making ")[0] for note in notes if ": making " in note]


def value(score: Artefact) -> float:
    return {row["id"]: row["edited"] for row in score.manifest["summary"]["rows"]}["forget.mine"]


def content(artefact: Artefact) -> dict[str, str]:
    return {
        name: record["sha256"] for name, record in artefact.manifest["files"].items() if name.endswith(".safetensors")
    }


@pytest.mark.slow
def test_an_edited_metric_method_and_benchmark_take_effect_in_the_next_run_and_untouched_ones_are_reused(
    own: Path,
) -> None:
    first, told = run(own, "score", "method=mine")
    assert not_reused(told) == []
    again, told = run(own, "score", "method=mine")
    assert (again.path, not_reused(told)) == (first.path, [])
    change(part(own, "metric"), "float(observation.text == observation.reference)", "0.25")
    edited, told = run(own, "score", "method=mine")
    assert (value(first), value(edited)) == (0.0, 0.25)
    assert not_reused(told) == ["the code of metric mine has changed"]
    assert made(told) == ["score"]
    before, _ = run(own, "erase", "method=mine")
    change(part(own, "method"), "0.5 * ", "0.25 * ")
    after, told = run(own, "erase", "method=mine")
    assert not_reused(told) == ["the code of method mine has changed"]
    assert content(before) != content(after)
    change(part(own, "benchmark"), "In town {n}.", "In the town {n}.")
    learned, told = run(own, "erase", "method=mine")
    assert made(told) == ["erase"]
    assert learned.manifest["fingerprints"]["benchmark"] != after.manifest["fingerprints"]["benchmark"]
    change(part(own, "benchmark"), "def facts(", "\n# A comment counts.\ndef facts(")
    _, told = run(own, "erase", "method=mine")
    assert not_reused(told) == ["the code of benchmark mine has changed"]


@pytest.mark.slow
def test_an_edited_loss_takes_effect_in_the_next_run_and_is_not_mixed_with_an_interrupted_one(own: Path) -> None:
    words = ("method=mine_too", "unlearn.batch_size=3", "unlearn.epochs=1", "unlearn.lr=0.01")
    first, _ = run(own, "erase", *words)
    change(part(own, "loss"), "clamp(max=5.0)", "clamp(max=5.0) * 0.5 + rows[FORGET].nll.square()")
    edited, told = run(own, "erase", *words)
    assert not_reused(told) == ["the code of loss mine_too has changed"]
    assert content(first) != content(edited)
    text = part(own, "loss").read_text("utf-8")
    change(part(own, "loss"), "    return ", "    raise KeyboardInterrupt\n    return ")
    with pytest.raises(KeyboardInterrupt):
        run(own, "erase", *words, "run.seed=1")
    part(own, "loss").write_text(text, "utf-8")
    _, told = run(own, "erase", *words, "run.seed=1")
    (told_of,) = [note for note in told if note.startswith("not resuming ")]
    assert told_of.endswith("which was interrupted with other settings: the code of loss mine_too has changed")
