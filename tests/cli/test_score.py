"""The command score with RUN words: finished runs scored again, in part, or in another code base's format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.recorded import scored, state
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import score
from unierase_cli.store.artefact import MANIFEST
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import write_json


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run for tests that only read."""
    found = Store(tmp_path_factory.mktemp("read") / "outputs")
    scored(found)
    return found


@pytest.fixture
def own(tmp_path: Path) -> Store:
    """A run for a test that changes its folder."""
    found = Store(tmp_path / "outputs")
    scored(found)
    return found


def run(store: Store, *words: str) -> Result:
    return CliRunner().invoke(app, ["score", *words, "--outputs", str(store.root)], prog_name="unierase")


def folders(store: Store) -> list[str]:
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*"))


@pytest.mark.parametrize(
    "word", ["latest", "run@v001", "score/run@v001", "run", "score/*", "KEY", "PATH", "observe/run_edited@v001"]
)
def test_a_finished_run_has_the_same_scores_as_when_it_was_made(store: Store, word: str) -> None:
    made = store.list("score")[0]
    word = {"KEY": made.key[:12], "PATH": str(made.path)}.get(word, word)
    before = folders(store)
    result = run(store, word, "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)
    assert found["metrics"] == json.loads(json.dumps(made.manifest["summary"]["rows"]))
    assert (found["name"], found["stage"]) == ("run@v001", "score")
    assert folders(store) == before


def test_several_runs_are_scored_one_after_the_other(own: Store) -> None:
    scored(own, "second", edited=state(0.9))
    found = json.loads(run(own, "score/*", "--json").stdout)
    assert [entry["name"] for entry in found] == ["run@v001", "second@v001"]
    shown = run(own, "run", "second")
    assert "score/run@v001" in shown.stderr
    assert "score/second@v001" in shown.stderr
    assert shown.stdout == ""


def test_only_the_metrics_that_are_named_are_computed(store: Store) -> None:
    (found,) = json.loads(run(store, "latest", "--metrics", "rouge, probability", "--json").stdout)
    assert {row["id"].split(".")[1] for row in found["metrics"]} == {"rouge", "probability", "probability_normalised"}
    shown = run(store, "latest", "--metrics", "forget_quality")
    assert "forget quality" in shown.stderr
    assert "ROUGE" not in shown.stderr
    assert "n/a: forget: forget quality (KS p-value): there is no retain reference" in shown.stderr


def test_judges_and_the_reference_may_differ_from_what_was_configured(store: Store) -> None:
    reference = store.resolve("run_base@v001").path
    words = ["latest", "--metrics", "forget_quality", "--json", f"eval.retain_reference={reference}"]
    (found,) = json.loads(run(store, *words).stdout)
    assert found["metrics"][0]["base"] == pytest.approx(1.0)


def test_no_model_and_no_benchmark_is_loaded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from unierase_cli.benchmarks import base
    from unierase_cli.models import load

    for module, name in ((load, "load_model"), (base, "load_benchmark")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("nothing may be loaded"), raising=False)
    assert run(store, "latest").exit_code == 0


def test_observations_that_are_gone_are_told(own: Store) -> None:
    shutil.rmtree(own.root / "observe" / "run_edited")
    result = run(own, "run")
    assert result.exit_code == 2
    assert "the recorded answers of its edited model are gone" in result.stderr
    assert "asks the model again" in result.stderr


def test_damaged_observations_are_told_by_file(own: Store) -> None:
    path = own.resolve("run_edited@v001").path / "forget.plain.jsonl"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-40])
    result = run(own, "run")
    assert result.exit_code == 2
    assert f"forget.plain.jsonl has {size - 40} bytes, not {size}" in " ".join(result.stderr.split())


def test_a_moved_outputs_folder_still_scores(own: Store, tmp_path: Path) -> None:
    shutil.move(own.root, tmp_path / "elsewhere")
    assert run(Store(tmp_path / "elsewhere"), "run").exit_code == 0


def test_files_are_those_that_the_run_was_made_with_and_not_of_the_current_folder(
    own: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, reference = own.list("score")[0], "outputs/observe/run_base/v001"
    other = Store(tmp_path / "other" / "outputs")
    scored(other, base=state(0.0))
    for folder, text in ((tmp_path, state(0.2)["forget"][0].text), (tmp_path / "other", "Something else")):
        (folder / "idk.txt").write_text(text)
    monkeypatch.chdir(tmp_path)
    made.manifest["config"]["run"]["outputs"] = "outputs"
    made.manifest["config"]["eval"]["retain_reference"] = reference
    made.manifest["config"]["token"]["targets"] = "idk.txt"
    files = score.fingerprints(study_of(Experiment.from_json(made.config)), {})
    made.manifest["fingerprints"] = {name: files[name] for name in ("refusals", "retain_reference", "retain_holdout")}
    write_json(made.path / MANIFEST, made.manifest)
    words = [str(made.path), "--metrics", "forget_quality,refusal_rate", "--json"]
    wanted = json.loads(run(own, *words).stdout)[0]["metrics"]
    for folder in (tmp_path / "other", tmp_path / "empty"):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        for store in (own, other):
            assert json.loads(run(store, *words).stdout)[0]["metrics"] == wanted
    monkeypatch.chdir(tmp_path / "other")
    (tmp_path / "idk.txt").write_text("Changed since")
    refused = run(own, *words)
    assert refused.exit_code == 2
    told = " ".join(refused.stderr.split())
    assert "token.targets=idk.txt is another file than score/run@v001 was made with" in told
    assert files["refusals"][:12] in told
    assert "give the file: token.targets=PATH" in told
    assert run(own, str(made.path), "--open-unlearning", "ou").exit_code == 2
    assert run(own, *words, "token.targets=idk.txt").exit_code == 0


def test_open_unlearnings_files_are_written(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "ou"
    result = run(store, "latest", "--open-unlearning", str(folder))
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in folder.iterdir()} == {"TOFU_EVAL.json", "TOFU_SUMMARY.json"}
    assert "left out: forget_quality: there is no retain reference" in result.stderr
    assert "note: privleak is relative to an AUC of 0.5" in result.stderr
    words = ["latest", "--open-unlearning", str(folder), "--state", "base", "--force", "--json"]
    made = json.loads(run(store, *words).stdout)
    assert made["state"] == "base"
    assert made["summary"]["forget_Q_A_Prob"] > 0.4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latest", "--metrics", "roug"], "there is no metric roug"),
        (["latest", "--metrics", ","], "--metrics names no metric"),
        (["--metrics", "rouge"], "--metrics goes with RUN"),
        (["nothing@v001"], "no artefact is called nothing@v001"),
        (["latest", "model=mini"], "model=mini does not go with RUN"),
        (["latest", "eval.splits=[forget]"], "eval.splits=[forget] does not go with RUN"),
        (["latest", "eval.retain_reference=none"], "eval.retain_reference=none does not exist"),
        (["latest", "--force"], "run.force=true does not go with RUN"),
        (["latest", "--dry-run"], "--dry-run does not go with a RUN"),
        (["--open-unlearning", "x"], "--open-unlearning takes one RUN, not 0"),
        (["latest", "run", "--open-unlearning", "x"], "--open-unlearning takes one RUN, not 2"),
        (["latest", "--state", "base"], "--state goes with --open-unlearning"),
        (["latest", "--open-unlearning", "x", "--state", "bas"], "--state bas is not a model state"),
        (["latest", "--open-unlearning", "x", "--metrics", "rouge"], "--metrics does not go with"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(words: list[str], message: str, store: Store) -> None:
    result = run(store, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_pattern_of_several_runs_is_no_run_to_export(own: Store, tmp_path: Path) -> None:
    scored(own, "second")
    result = run(own, "score/*", "--open-unlearning", str(tmp_path / "ou"))
    assert "means several runs: score/run@v001, score/second@v001" in result.stderr
    assert not (tmp_path / "ou").exists()
