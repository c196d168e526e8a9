"""Arguments of every command that nobody meant: a result or one clear line, never a traceback, and no model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers import strange
from unierase_cli.cli.app import COMMANDS, app
from unierase_cli.cli.failures import TRACEBACK

given, st = strange.hypothesis.given, strange.st
runner = CliRunner()
NAMED = {"model": {"name": "m"}, "benchmark": {"name": "b", "split": "s"}, "method": {"name": "x"}, "run": {"seed": 1}}
# Manifests that no version wrote; each lies in outputs/ and in a folder of its own.
MANIFESTS = (
    "[]", "{}", "[" * 100_000, "9" * 5000, '{"stage": 1, "key": 2}', '{"stage": "erase", "key": "abcdef", "stage": "score"}',
    '{"stage": "score", "key": "abcd"}', '{"stage": "erase", "key": "abcdef", "config": {}}',
    '{"stage": "erase", "key": "abcdef", "config": {"mode": 3}, "inputs": [1], "summary": {"steps": "x"}}',
    '{"stage": "score", "key": "abcdef", "config": {"mode": {"name": "../x"}}, "inputs": {"edited": {"path": "/etc", "key": "k"}}}',
    '{"stage": "report", "key": "zz", "finished": 1e400, "wall_seconds": "a", "options": [1], "inputs": {"score": {}}}',
    '{"stage": "score", "key": "x", "version": 1, "summary": {"rows": [{}]}, "files": {"../../etc/passwd": {}}}',
    '{"stage": "erase", "key": "k", "config": {"model": {"name": "m"}, "run": {"seed": "one"}}}',
    json.dumps({"stage": "erase", "key": "k", "config": NAMED}), '{"stage": "score", "key": "\\ud800"}',
    '{"stage": "nosuch", "key": "abcdefg", "warnings": {}}',
)  # fmt: skip
RUNS = (
    "nope", "", ".", "..", "/", "../..", "/etc", "folder", "binary", "empty", "list.json", "latest", "@", "x@v001", "v001",
    "abcd", "abcdef", "x" * 300, "x" * 5000, "*", "[", "[a", "?", "score/*", "a b", "\u00fc", "\udcff", "-", "--", "~", "=",
    "a=b", "~a", "latest=1", "/dev/null", "/proc/self", "m0@v001", *(f"alone/m{n}" for n in range(len(MANIFESTS))),
    *(f"outputs/score/m{n}/v001" for n in range(len(MANIFESTS))),
)  # fmt: skip
FILES = (
    "nope", "", ".", "folder", "binary", "empty", "list.json", "object.json", "deep.json", "wide.json", "nan.json",
    "x" * 5000, "/dev/null", "../..", "link",
)  # fmt: skip
NUMBERS = ("0", "-1", "x", "", "9" * 30, "1.5", "nan", "9" * 5000)
RUN, FILE, NUMBER = object(), object(), object()
LINES: tuple[tuple[Any, ...], ...] = (
    ("show", RUN), ("show", RUN, "--json"), ("score", RUN), ("score", RUN, RUN), ("score", RUN, "--metrics", FILE),
    ("score", "--tofu-log", FILE), ("score", "--tofu-log", FILE, "--retain-log", FILE),
    ("score", RUN, "--open-unlearning", FILE), ("score", RUN, "--open-unlearning", FILE, "--state", FILE),
    ("compare", RUN, RUN), ("compare", RUN, RUN, "--top", NUMBER), ("compare", RUN), ("report", RUN, RUN),
    ("report", RUN, "--retain", RUN), ("report", "--retain", RUN), ("patch", RUN, RUN), ("patch", "show", RUN),
    ("leaderboard", RUN), ("leaderboard", RUN, "--retain", RUN),
    ("patch", "diff", RUN, RUN, "--step", NUMBER), ("patch", "apply", FILE, RUN, FILE),
    ("patch", "apply", FILE, RUN, "out", "--drop", NUMBER), ("patch", "revert", FILE, RUN, FILE, "--base", FILE),
    ("export", RUN, FILE), ("export", RUN, "out", "--as", FILE), ("export", RUN, "out", "--as", "patch"),
    ("export", RUN, "out", "--as", "lora", "--rank", NUMBER), ("rerun", RUN), ("rerun", RUN, "--from", FILE),
    ("check", "experiment=tofu_mini", RUN), ("check", RUN), ("attribute", "--dry-run", RUN),
    ("rerun", RUN, "--tolerance", NUMBER), ("new", RUN, RUN), ("new", "method", FILE, "--into", FILE),
    ("chat", RUN), ("chat", RUN, "--base", FILE, "--step", NUMBER),
    ("ls", RUN), ("ls", "--outputs", FILE), ("ls", "models", "--config-dir", FILE), ("ls",), ("ls", "score", "--json"),
    ("sweep", RUN, "--dry-run"), ("sweep", "--seed", NUMBER, "--dry-run"), ("sweep", "--jobs", NUMBER, "--dry-run"),
    ("sweep", "--stage", FILE, "--dry-run"), ("sweep", "--launcher", FILE, "--dry-run"), ("doctor", "--device", FILE),
    ("doctor", "--outputs", FILE), ("run", "--dry-run", "--seed", NUMBER), ("run", "--dry-run", "--outputs", FILE),
    ("run", "--dry-run", "--config-dir", FILE), ("eval", "--print-config", RUN), (RUN,), (RUN, RUN),
    *((command, "--dry-run", RUN) for command in ("run", "finetune", "train-token", "moments", "trace", "edit", "erase")),
    ("reveal", "--dry-run", RUN), ("coverage", "--dry-run", RUN),
    ("prepare", "--dry-run", RUN), ("prepare-return", "--dry-run", RUN), ("audit", RUN, "--dry-run"),
    ("audit", RUN, RUN, "--dry-run"), ("audit", RUN, "--attacks", FILE, "--dry-run"),
    ("audit", RUN, "--facts", NUMBER, "--dry-run"),
    ("audit", RUN, "--control", RUN, "--dry-run"), ("audit", RUN, "--ceiling", FILE, "--dry-run"),
)  # fmt: skip
KEYED = (
    ("eval.retain_reference=",), ("token.targets=",), ("mode=sequential", "mode.tasks="),
    ("method=ga_gd", "unlearn.token_weights="), ("benchmark=tofu", "benchmark.data_dir="),
    ("benchmark=jsonl", "benchmark.path="), ("model=hf", "model.path="),
    ("eval.general.suites=[mmlu]", "eval.general.data_dir="), ("eval.passes=[perplexity]", "eval.texts="), ("eval.nli=",),
    ("eval.passes=[reference_loss]", "eval.reference_model="), ("edit.moments.corpus=",), ("edit.moments.texts=",),
    ("benchmark=real_world", "benchmark.data_dir="), ("benchmark=world", "benchmark.data_dir="),
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of every wrong kind and artefacts whose manifests are none."""
    folder = tmp_path_factory.mktemp("strange")
    contents = {
        "binary": bytes(range(256)) * 20, "empty": b"", "list.json": b"[]", "object.json": b"{}", "deep.json": b"[" * 100_000,
        "wide.json": "{}".encode("utf-16"), "nan.json": b'{"model_utility": NaN}',
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("link")
    for number, manifest in enumerate(MANIFESTS):
        for parent in (folder / "outputs" / "score" / f"m{number}" / "v001", folder / "alone" / f"m{number}"):
            parent.mkdir(parents=True)
            (parent / "manifest.json").write_text(manifest)
    return folder


def command_lines() -> Any:
    slots = {RUN: st.sampled_from(RUNS), FILE: st.sampled_from(FILES), NUMBER: st.sampled_from(NUMBERS)}
    line = st.sampled_from(LINES).flatmap(lambda words: st.tuples(*(slots.get(word, st.just(word)) for word in words)))
    commands = st.sampled_from(
        [("run", "--dry-run"), ("eval", "--dry-run"), ("prepare", "--dry-run"), ("prepare-return", "--dry-run"), ("doctor",)]
    )
    keyed = st.builds(
        lambda command, words, file: (*command, *words[:-1], words[-1] + file),
        commands, st.sampled_from(KEYED), st.sampled_from(FILES),
    )  # fmt: skip
    return st.one_of(line, line, line, keyed)


def test_strange_arguments_give_a_result_or_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv(TRACEBACK, "1")

    def there() -> set[str]:
        return {path.as_posix() for path in place.rglob("*")}

    before = there()
    # A new part makes files where it is asked to, which may be here.
    made: set[str] = set()

    def load_nothing(*given: object, **named: object) -> None:
        raise AssertionError("a model would be loaded")

    monkeypatch.setattr("unierase_cli.models.load.load_model", load_nothing)

    @given(command_lines())
    @strange.settings(150)
    def holds(words: tuple[str, ...]) -> None:
        result = runner.invoke(app, list(words), prog_name="unierase", input="")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if words[0] == "new":
            made.update(there() - before)
        told = result.stderr.splitlines()
        if result.exit_code == 2:
            assert sum(line.startswith("error: ") for line in told) == 1
            assert max(map(len, told)) < 2000
        elif result.exit_code == 1:
            assert words[0] == "doctor"
            assert any(line.startswith("problem: ") for line in told)
        else:
            assert result.exit_code == 0
            assert "--json" not in words or json.loads(result.stdout) is not None

    holds()
    assert there() - made == before


def test_every_command_is_tried() -> None:
    tried = {words[0] for words in LINES if isinstance(words[0], str)} | {"eval", "doctor", "prepare", "prepare-return"}
    assert tried == set(COMMANDS)


def test_a_damaged_manifest_is_named_when_its_folder_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = runner.invoke(app, ["show", "alone/m4"], prog_name="unierase")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "error: alone/m4/manifest.json is damaged: stage: expected str, got int"


def test_damaged_manifests_do_not_hide_the_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    listed = runner.invoke(app, ["ls", "--json"], prog_name="unierase")
    keys = {found["key"] for found in json.loads(listed.stdout)}
    assert {"abcd", "abcdef"} <= keys
    assert not {1, 2, "zz"} & keys
