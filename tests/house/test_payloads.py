"""Nobody but the store opens a file of an artefact by its path: readers ask for it and get it once its hash was checked."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.patched import edits, experiment, finished, model_folder, unedited
from tests.helpers.recorded import scored, state
from tests.helpers.sources import modules
from unierase_cli.cli.app import app
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.pipeline.model_states import load_base
from unierase_cli.store import hashing
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

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


def command(outputs: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--outputs", str(outputs)], prog_name="unierase")


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def says_damaged(result: Result, path: Path) -> None:
    assert result.exit_code == 2, (result.exception, result.stderr)
    told = " ".join(result.stderr.split())
    assert f"is damaged: {path} has changed since it was written" in told
    assert "Traceback" not in told


READERS = {
    "show": ("score", "metrics.json", ["show", "score/run@v001"]),
    "show --json": ("score", "metrics.json", ["show", "score/run@v001", "--json"]),
    "report RUN RUN": ("score", "metrics.json", ["report", "score/run@v001", "score/other@v001"]),
    "compare, scores": ("score", "metrics.json", ["compare", "score/run@v001", "score/other@v001"]),
    "compare, answers": (
        "observe",
        "forget.plain.jsonl",
        ["compare", "score/run@v001", "score/other@v001", "--anyway"],
    ),
    "score RUN": ("observe", "forget.plain.jsonl", ["score", "score/run@v001"]),
    "score RUN, the plan": ("observe", "plan.json", ["score", "score/run@v001"]),
    "a retain reference": (
        "reference",
        "forget.plain.jsonl",
        ["score", "score/run@v001", "eval.retain_reference=REFERENCE"],
    ),
    "rerun": ("observe", "forget.plain.jsonl", ["rerun", "score/run@v001"]),
}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("scores") / "outputs"
    for name, text in (("run", None), ("other", "Nobody knows.")):
        scored(Store(outputs), name, edited=state(0.2, text=text))
    return outputs


@pytest.mark.parametrize(("stage", "file", "words"), READERS.values(), ids=READERS.keys())
def test_a_command_that_reads_results_refuses_an_altered_file(
    scores: Path, tmp_path: Path, stage: str, file: str, words: list[str]
) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(scores, outputs)
    places = {"score": "score/run", "observe": "observe/run_edited", "reference": "observe/other_base"}
    folders = {name: outputs / place / "v001" for name, place in places.items()}
    words = [word.replace("REFERENCE", str(folders["reference"])) for word in words]
    flip(folders[stage] / file)
    says_damaged(command(outputs, *words), folders[stage] / file)


EDITS = {
    "export": ["export", "RUN", "OUT", "--device", "cpu"],
    "export --as patch": ["export", "RUN", "OUT", "--as", "patch"],
    "export --as lora": ["export", "RUN", "OUT", "--as", "lora"],
    "chat": ["chat", "RUN", "--device", "cpu"],
    "patch show": ["patch", "show", "RUN"],
    "patch diff": ["patch", "diff", "RUN", "RUN"],
    "patch apply": ["patch", "apply", "MODEL", "RUN", "OUT", "--device", "cpu"],
    "patch revert": ["patch", "revert", "EDITED", "RUN", "OUT", "--base", "MODEL", "--device", "cpu"],
}


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a run on it, and a folder that the run was put on."""
    root = tmp_path_factory.mktemp("edits")
    config = experiment(model_folder("llama", root / "model"), root / "outputs")
    run = finished(config, edits(unedited(config)))
    done = command(
        root / "outputs", "patch", "apply", str(root / "model"), str(run.path), str(root / "edited"), "--device", "cpu"
    )
    assert done.exit_code == 0, done.stderr
    return root


@pytest.mark.parametrize("words", EDITS.values(), ids=EDITS.keys())
def test_a_command_that_reads_patches_refuses_an_altered_one(edited: Path, tmp_path: Path, words: list[str]) -> None:
    shutil.copytree(edited / "outputs", tmp_path / "outputs")
    run = tmp_path / "outputs" / "erase" / "run" / "v001"
    flip(run / "patch-000.safetensors")
    places = {"RUN": run, "OUT": tmp_path / "out", "MODEL": edited / "model", "EDITED": edited / "edited"}
    says_damaged(
        command(tmp_path / "outputs", *(str(places.get(word, word)) for word in words)), run / "patch-000.safetensors"
    )
    assert not (tmp_path / "out").exists()


def test_an_altered_model_is_not_loaded(tmp_path: Path) -> None:
    draft = Store(tmp_path).draft("finetune", "mini", "f" * 64)
    (draft.path / "model").mkdir()
    (draft.path / "model" / "model.safetensors").write_bytes(b"weights")
    made = draft.complete({"stage": "finetune", "key": "f" * 64})
    flip(made.path / "model" / "model.safetensors")
    config = experiment(tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"finetune/mini@v001 is damaged: .*model.safetensors has changed since"):
        load_base(config, {"finetune": made}, SilentReporter())


def test_a_file_that_was_put_in_later_is_no_part_of_an_artefact(tmp_path: Path) -> None:
    made = Store(tmp_path).draft("erase", "demo", "e" * 64).complete({"stage": "erase", "key": "e" * 64})
    (made.path / "remark.txt").write_text("mine")
    assert made.whole == made.path
    (made.path / "patch-000.json").write_text("{}")
    for read in (lambda: made.whole, lambda: made.file("patch-000.json"), lambda: made.files("*.json")):
        with pytest.raises(UserError, match=r"patch-000.json was not there when it was made - rm .*patch-000.json"):
            read()


def test_a_file_is_hashed_once_per_process_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    original = hashing.hash_file

    def counted(path: Path, limit: int | None = None) -> str:
        made.append(path)
        return original(path, limit)

    monkeypatch.setattr(hashing, "hash_file", counted)
    path = tmp_path / "metrics.json"
    path.write_text("{}")
    artefact = Artefact(
        tmp_path, {"stage": "score", "key": "k", "files": {path.name: {"size": 2, "sha256": original(path)}}}
    )
    for _ in range(3):
        assert artefact.file(path.name) == path
    assert made == [path]
    path.write_text("[]")
    with pytest.raises(UserError, match="has changed since"):
        artefact.file(path.name)
