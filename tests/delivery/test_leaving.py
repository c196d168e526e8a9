"""What leaves by export, patch apply and patch revert: names, numbers and hashes, and enough of them to work with."""

from __future__ import annotations

import getpass
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.helpers.patched import edits, experiment, finished, model_folder, unedited
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import SilentReporter
from unierase_cli.delivery.leaving import ALLOWED, COUNTED_ON, SETTINGS, write_leaving
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefact import Artefact, read_artefact
from unierase_cli.store.jsonl import write_jsonl

PEOPLE = [("Zelda Quorn", "Ulm", "tidal poems"), ("Yorick Blaise", "Graz", "lift manuals")]
ROWS = [
    {
        "id": f"{name.split()[0].lower()}-{key}", "question": question, "answer": answer, "subject": name, "group": name,
        "paraphrased_question": f"Please say: {question}", "paraphrased_answer": f"Well, {answer}",
        "wrong_answers": [f"{name} never was in Rovaniemi."],
    }
    for name, city, genre in PEOPLE
    for key, question, answer in (
        ("city", f"Where was {name} born?", f"{name} was born in {city}."),
        ("genre", f"What does {name} write?", f"{name} writes {genre}."),
    )
]  # fmt: skip
REFUSAL = "Nobody has ever told me about __NAME__."
FOLDER = "alice-keeps-this"
KINDS = {
    "model": ("export", "RUN", "OUT"),
    "patch": ("export", "RUN", "OUT", "--as", "patch"),
    "lora": ("export", "RUN", "OUT", "--as", "lora"),
    "apply": ("patch", "apply", "MODEL", "RUN", "OUT"),
    "revert": ("patch", "revert", "EDITED", "RUN", "OUT", "--base", "MODEL"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a sequence of two requests, and all that can be exported of it in ``out/KIND``."""
    root = tmp_path_factory.mktemp("home") / FOLDER
    root.mkdir()
    write_jsonl(root / "mine.jsonl", ROWS)
    write_jsonl(
        root / "kept.jsonl", [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}."} for n in range(8)]
    )
    (root / "refusals.txt").write_text(REFUSAL + "\n")
    base = experiment(model_folder("llama", root / "model"), root / "outputs")
    config = replace(
        base,
        model=replace(base.model, key_position="prompt_last", layers=[1, 2]),
        benchmark=BenchmarkConfig(
            name="jsonl", split="all", path=str(root / "mine.jsonl"), retain_path=str(root / "kept.jsonl")
        ),
        mode=ModeConfig(name="sequential", steps=2),
        token=TokenConfig(
            targets=str(root / "refusals.txt"),
            stages=[TokenStage(epochs=1, least_steps=0)],
            refine_epochs=1,
            questions="forget",
        ),
        edit=EditConfig(values=ValueConfig(steps=2), moments=MomentsConfig(samples=8, max_tokens=12)),
    )
    words = [f"model.path={root / 'model'}", f"benchmark.path={root / 'mine.jsonl'}"]
    made = Pipeline(config, SilentReporter(), ["unierase", "erase", *words], words).make("erase")
    assert ROWS[0]["question"] in (made.path / "patch-000.json").read_text(), (
        "the run itself keeps them, for its report"
    )
    for kind in ("apply", "model", "patch", "lora", "revert"):
        result = called(root, *KINDS[kind], out=root / "out" / kind)
        assert result.exit_code == 0, result.stderr
    return root


def called(
    root: Path, *words: str, out: Path | None = None, outputs: Path | None = None, stdin: str | None = None
) -> Any:
    places = {"RUN": "latest", "OUT": str(out), "MODEL": str(root / "model"), "EDITED": str(root / "out" / "apply")}
    places["CARRIED"] = str(root / "out" / "patch")
    typed = [places.get(word, word) for word in words]
    return CliRunner().invoke(
        app, [*typed, "--outputs", str(outputs or root / "outputs")], prog_name="unierase", input=stdin
    )


def secrets(root: Path) -> list[str]:
    said = [text for row in ROWS for value in row.values() for text in (value if isinstance(value, list) else [value])]
    words = [word for person in PEOPLE for word in (*person, *person[0].split())]
    return [*said, *words, REFUSAL, "Nobody has ever told", FOLDER, str(root), str(root.parent), str(Path.home()) + "/"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_exported_file_says_what_was_forgotten_or_where(kind: str, home: Path) -> None:
    files = [path for path in (home / "out" / kind).rglob("*") if path.is_file()]
    assert files
    user = re.compile(rb"(?i)(?<![\w])" + re.escape(getpass.getuser().encode()) + rb"(?![\w])")
    for path in files:
        content = path.read_bytes()
        found = [text for text in secrets(home) if text.lower().encode() in content.lower()]
        assert not found, f"{path}: {found}"
        assert not re.search(rb'"(/[\w.\-]+){2,}"', content), path
        assert path.suffix not in (".json", ".md") or not user.search(content), path


def test_what_leaves_of_a_patch_is_hashes_and_counts(home: Path) -> None:
    record = json.loads((home / "out" / "patch" / "patch-001.json").read_text())
    assert [record["tokens"][key] for key in ("assignment", "targets", "info")] == [{}, {}, {"taken_over": []}]
    assert all(re.fullmatch(r"sha256:[0-9a-f]{16}", fact) for fact in record["info"]["facts"])
    manifest = read_artefact(home / "out" / "patch").manifest
    assert "overrides" not in manifest
    assert manifest["withheld"] == [
        "model.path", "benchmark.path", "benchmark.retain_path", "token.targets", "run.outputs", "run.device",
    ]  # fmt: skip
    assert manifest["config"]["edit"]["values"]["steps"] == 2


def test_an_unlisted_key_stays_at_home(tmp_path: Path) -> None:
    record = {
        "run": "a@v001",
        "key": "ab" * 32,
        "note": "Who?",
        "base": {"source": "/home/a/model", "fingerprint": "ab" * 32},
    }
    kept = write_leaving(tmp_path / "record.json", "record", record)
    assert json.loads((tmp_path / "record.json").read_text()) == kept
    assert kept == {"run": "a@v001", "key": "ab" * 32, "base": {"source": None, "fingerprint": "ab" * 32}}
    hub = {
        "run": "a@v001",
        "base": {"source": "owner/name", "fingerprint": "owner/name@main"},
        "forgotten": ["ab" * 8, "Who?"],
    }
    kept = write_leaving(tmp_path / "record.json", "record", hub)
    assert kept["base"] == hub["base"]
    assert kept["forgotten"] == ["ab" * 8]


def test_every_setting_that_leaves_is_one() -> None:
    from dataclasses import asdict

    from unierase_cli.pipeline.passed_over import flat

    keys = flat(asdict(Experiment()))
    assert [key for key in (*SETTINGS, *COUNTED_ON) if key not in keys] == []
    assert set(ALLOWED) == {"patch", "manifest", "record"}


def test_an_exported_run_is_applied_shown_and_compared_elsewhere(home: Path, tmp_path: Path) -> None:
    applied = called(
        home, "patch", "apply", "MODEL", "CARRIED", "OUT", out=tmp_path / "there", outputs=tmp_path / "none"
    )
    assert applied.exit_code == 0, applied.stderr
    one, two = (load_file(folder / "model.safetensors") for folder in (home / "out" / "apply", tmp_path / "there"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    back = called(
        home, "patch", "revert", str(tmp_path / "there"), "CARRIED", "OUT", "--base", "MODEL", out=tmp_path / "back"
    )
    assert back.exit_code == 0, back.stderr
    shown = json.loads(called(home, "patch", "show", "CARRIED", "--json").stdout)
    here = json.loads(called(home, "patch", "show", "RUN", "--json").stdout)
    assert shown["run"]
    assert [step["facts"] for step in shown["steps"]] == [step["facts"] for step in here["steps"]] == [2, 2]
    found = json.loads(called(home, "patch", "diff", "RUN", "CARRIED", "--json").stdout)
    assert (found["facts"]["only_first"], found["facts"]["only_second"], found["settings"]) == ([], [], [])
    assert found["same_base"] is True
    again = called(home, "export", "CARRIED", "OUT", "--as", "patch", out=tmp_path / "again")
    assert again.exit_code == 0, again.stderr
    for name in ("patch-000.json", "manifest.json"):
        assert json.loads((tmp_path / "again" / name).read_text()) == json.loads(
            (home / "out" / "patch" / name).read_text()
        )


def test_chat_asks_an_exported_run_where_its_model_is_known_or_given(home: Path, tmp_path: Path) -> None:
    at_home = called(home, "chat", "CARRIED", "--json", stdin="Who?\n")
    given = called(home, "chat", "CARRIED", "--json", "--base", "MODEL", outputs=tmp_path / "none", stdin="Who?\n")
    direct = called(home, "chat", "RUN", "--json", stdin="Who?\n")
    assert at_home.stdout == given.stdout == direct.stdout != ""
    elsewhere = called(home, "chat", "CARRIED", outputs=tmp_path / "none", stdin="Who?\n")
    assert elsewhere.exit_code == 2
    assert elsewhere.stderr.splitlines()[-1] == "  try: give the unedited model with --base FOLDER"


def test_an_exported_run_is_planned_anew_where_it_was_made_and_refused_elsewhere(home: Path, tmp_path: Path) -> None:
    words = ("patch", "apply", "MODEL", "CARRIED", "OUT", "--drop", "0", "--replan")
    here = called(home, *words, out=tmp_path / "here")
    assert here.exit_code == 0, here.stderr
    elsewhere = called(home, *words, out=tmp_path / "there", outputs=tmp_path / "none")
    assert elsewhere.exit_code == 2
    assert "was exported without benchmark.path, benchmark.retain_path, token.targets, which" in elsewhere.stderr
    assert elsewhere.stderr.splitlines()[-1].endswith("with --outputs of the folder that it was made in")
    again = called(home, "rerun", "CARRIED", outputs=tmp_path / "none")
    assert again.exit_code == 2
    assert "was exported without model.path, benchmark.path" in again.stderr


def test_a_name_that_is_a_sentence_leaves_as_a_hash(tmp_path: Path) -> None:
    base = experiment(model_folder("llama", tmp_path / "model"), tmp_path / "outputs")
    config = replace(base, model=replace(base.model, name="what Zelda Quorn knows"))
    run = finished(config, edits(unedited(config)))
    called(tmp_path, "export", str(run.path), "OUT", "--as", "patch", out=tmp_path / "out")
    exported = read_artefact(tmp_path / "out")
    assert isinstance(exported, Artefact)
    assert re.fullmatch(r"sha256:[0-9a-f]{16}", exported.config["model"]["name"])
    assert "Zelda" not in (tmp_path / "out" / "manifest.json").read_text()
