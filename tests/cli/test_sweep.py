"""The command sweep: its plan, its runs each for itself, what they share, one table at the end, and what a second call does."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.helpers import sweep_stub
from tests.helpers.places import ROOT
from unierase_cli.cli.app import app
from unierase_cli.cli.sweep import command as sweep_command
from unierase_cli.cli.sweep.audits import audit_jobs
from unierase_cli.cli.sweep.outcome import Ran, Results
from unierase_cli.cli.sweep.plan import plan_sweep, plan_table
from unierase_cli.config.compose import compose
from unierase_cli.config.sweep import expand
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefacts import Store


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of outputs; the runs of a sweep are tests/helpers/sweep_stub.py."""
    monkeypatch.setattr(pipeline_module, "load_stage", sweep_stub.stage)
    monkeypatch.setattr(sweep_command, "PROGRAM", (sys.executable, "-m", "tests.helpers.sweep_stub"))
    monkeypatch.chdir(ROOT)
    return tmp_path


def sweep(outputs: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *words, f"run.outputs={outputs}"], prog_name="unierase")


def as_data(outputs: Path, *words: str, code: int = 0) -> dict[str, Any]:
    result = sweep(outputs, *words, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def made(outputs: Path) -> Counter[str]:
    return Counter((outputs / "made.txt").read_text().splitlines())


def states(swept: dict[str, Any]) -> list[str]:
    return [run["state"] for run in swept["runs"]]


def test_a_dry_run_shows_what_each_combination_would_make_and_starts_nothing(outputs: Path) -> None:
    shown = sweep(outputs, "method=none,npo_gd", "seed=0,1", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert "method=npo_gd seed=1" in shown.stderr
    assert shown.stderr.count("observe base") == 1
    assert "4 combinations: 0 done, 4 to run; 13 artefacts to make (1 shared, listed at the first combination" in shown.stderr
    assert list(outputs.iterdir()) == []
    plan = json.loads(sweep(outputs, "method=none,npo_gd", "--dry-run", "--json").stdout)
    assert [one["combination"] for one in plan] == [{"method": "none"}, {"method": "npo_gd"}]
    assert plan[0]["plan"][-1]["stage"] == "score"


@pytest.mark.slow
def test_a_failure_and_a_crash_leave_the_other_runs_alone_and_a_second_call_makes_only_what_is_missing(outputs: Path) -> None:
    words = ("method=ga_gd,rmu,none,npo_gd", "--jobs", "2")
    first = as_data(outputs, *words, code=1)
    assert states(first) == ["failed", "failed", "made", "made"]
    assert first["runs"][0]["error"] == "this method cannot work"
    assert "killed by SIGKILL" in first["runs"][1]["error"]
    assert "this method cannot work" in Path(first["runs"][0]["log"]).read_text()
    (comparison,) = first["comparisons"]
    assert sorted(row["label"] for row in comparison["tables"][0]["rows"]) == ["none", "npo_gd", "unedited model"]
    record = json.loads((Path(first["folder"]) / "sweep.json").read_text())
    assert [run["state"] for run in record["runs"]] == states(first)

    before = made(outputs)
    told = sweep(outputs, *words)
    assert told.exit_code == 1
    assert "Failed: 2" in told.stderr
    assert "this method cannot work" in told.stderr
    assert "unedited model" in told.stderr
    assert made(outputs) - before == Counter({"erase ": 2})

    (outputs / sweep_stub.MENDED).touch()
    assert states(as_data(outputs, *words)) == ["made", "made", "done", "done"]


@pytest.mark.slow
def test_what_two_runs_at_a_time_share_is_made_once_though_their_names_differ(outputs: Path) -> None:
    (outputs / sweep_stub.SLOW).touch()
    swept = as_data(outputs, "method=none", "seed=0,1", "--jobs", "2")
    assert states(swept) == ["made", "made"]
    assert made(outputs) == Counter({"observe base": 1, "observe edited": 2, "erase ": 2, "score ": 2})
    logs = [Path(run["log"]).read_text() for run in swept["runs"]]
    assert sum("another process is making" in log for log in logs) == 1
    row = swept["comparisons"][0]["tables"][0]["rows"][1]
    assert row["values"]["forget.rouge"]["mean"] == pytest.approx(0.15)


def test_of_combinations_that_make_the_same_artefact_one_is_run(outputs: Path) -> None:
    swept = as_data(outputs, "method=none", "edit.alpha=1,2")
    assert states(swept) == ["made", "made"]
    assert swept["runs"][0]["path"] == swept["runs"][1]["path"]
    assert made(outputs)["score "] == 1
    assert len(list(Path(swept["folder"]).glob("*.log"))) == 1


@pytest.mark.slow
def test_several_splits_give_several_tables(outputs: Path) -> None:
    swept = as_data(outputs, "method=none", "benchmark.split=forget05,forget10", "--jobs", "2")
    assert [made["tables"][0]["split"] for made in swept["comparisons"]] == ["forget05", "forget10"]


@pytest.mark.slow
def test_other_commands_than_eval_can_be_swept(outputs: Path) -> None:
    erased = sweep(outputs, "method=none,npo_gd", "--stage", "erase")
    assert erased.exit_code == 0, erased.stderr
    assert made(outputs) == Counter({"erase ": 2})
    assert "_npo_gd_batch_seed0@v001" in erased.stderr
    assert "unedited model" not in erased.stderr
    assert as_data(outputs, "method=none", "--stage", "run")["comparisons"]


@pytest.mark.slow
def test_what_is_done_is_shown_and_not_run_again_unless_forced(outputs: Path) -> None:
    as_data(outputs, "method=none")
    before = made(outputs)
    again = sweep(outputs, "method=none")
    assert again.exit_code == 0
    assert "nothing to do: every combination is done" in again.stderr
    assert "unedited model" in again.stderr
    assert made(outputs) == before
    assert states(as_data(outputs, "method=none", "--force")) == ["made"]
    assert made(outputs)["score "] == 2


@pytest.mark.slow
def test_every_run_is_audited_when_all_are_done_and_a_second_call_audits_what_is_missing(outputs: Path) -> None:
    words = ("method=none,npo_gd,dpo_gd", "--audit", "quick", "--jobs", "2")
    first = as_data(outputs, *words, code=1)
    assert states(first) == ["made", "made", "made"]
    assert [run["audit"]["error"] for run in first["runs"]] == [None, None, "this model cannot be attacked"]
    assert sorted(audit["title"] for audit in first["audits"]["audits"]) == ["none on nothing", "npo_gd on nothing"]
    assert made(outputs)["audit "] == 3
    told = sweep(outputs, *words, "--dry-run")
    assert told.stderr.count("to audit") == 1

    (outputs / sweep_stub.MENDED).touch()
    again = as_data(outputs, *words)
    assert states(again) == ["done", "done", "done"]
    assert len(again["audits"]["audits"]) == 3
    assert made(outputs)["audit "] == 4
    shown = sweep(outputs, *words)
    assert "nothing to do: every combination is done" in shown.stderr
    assert "hidden: so it is" in shown.stderr


def test_what_the_audits_of_two_runs_share_is_planned_once(tmp_path: Path) -> None:
    facts = [json.dumps({"question": f"Where was person {n} born?", "answer": f"In town {n}."}) for n in range(10)]
    (tmp_path / "forget.jsonl").write_text("\n".join(facts), "utf-8")
    words = ["model=hf", "model.path=nowhere/at-all", "benchmark=jsonl", f"benchmark.path={tmp_path / 'forget.jsonl'}"]
    words += [f"run.outputs={tmp_path}", "method=npo_gd,ga_gd"]
    planned = plan_sweep(expand(words), "erase", None, SilentReporter(), ["prefix"])
    stages = [{row.stage: row.key for row in one.audit} for one in planned]
    assert {"attack plain edited", "attack plain base", "attack prefix edited", "attack prefix base", "audit"} <= stages[0].keys()
    same = {stage for stage in stages[0] if stages[0][stage] == stages[1][stage]}
    assert {"attack plain base", "attack prefix base"} <= same
    assert "attack prefix edited" not in same
    rows = plan_table(planned).rows
    one = plan_table([replace(planned[0], audit_seconds=5.6)]).caption
    assert one.startswith("1 combination: ")
    assert one.endswith("; audits: about 5.6 s (rough estimate)")
    assert [row[3] for row in rows] == ["erase, audit, 4 attacks", "erase, audit, 2 attacks"]
    assert plan_table(planned[:1]).caption.startswith("1 combination: 0 done, 1 to run; ")


def test_an_audit_has_what_the_sweeps_words_say_of_it(tmp_path: Path) -> None:
    words = ["method=npo_gd", "audit.facts=3", "+audit.settings.prefix.tokens=[2]", f"run.outputs={tmp_path}"]
    (one,) = plan_sweep(expand(words), "erase", None, SilentReporter())
    results = Results("erase", Store(tmp_path), [], [Ran(one, path=tmp_path / "erase")])
    (job,) = audit_jobs(results, ("unierase",), "prefix", tmp_path)
    assert job.command[1:5] == ("audit", str(tmp_path / "erase"), "audit.facts=3", "+audit.settings.prefix.tokens=[2]")
    assert "method=npo_gd" not in job.command


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--audit", "prefx"], "prefix"),
        (["--audit", ","], "--audit names no attack"),
        (["mode=precise", "--audit", "quick"], "leaves no model to attack"),
    ],
)
def test_an_audit_that_cannot_be_made_is_told_before_a_run_starts(outputs: Path, words: list[str], told: str) -> None:
    result = sweep(outputs, "method=npo_gd", *words)
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert list(outputs.iterdir()) == []


def test_a_retain_reference_that_is_still_to_be_trained_is_planned_and_not_made(tmp_path: Path) -> None:
    # With the real stages: a score's key reads the reference's folder.
    shown = sweep(tmp_path, "method=none", "eval.retain_reference=train,null", "--dry-run", "--json")
    assert shown.exit_code == 0, shown.stderr
    with_one, without = json.loads(shown.stdout)
    assert [row["stage"] for row in with_one["plan"]].count("finetune") == 2
    assert [row["stage"] for row in without["plan"]].count("finetune") == 1
    assert (with_one["state"], without["state"]) == ("missing", "missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["batch", "sequential"])
def test_a_finished_run_without_a_reference_is_not_one_with_it(mode: str, tmp_path: Path) -> None:
    words = ["model=mini", "benchmark=fictional", "train=mini", f"mode={mode}", f"run.outputs={tmp_path}"]
    store = Store(tmp_path)
    for row in Pipeline(compose(words), SilentReporter()).plan("score" if mode == "batch" else "trajectory"):
        manifest = {"stage": row.stage.split()[0], "key": row.key, "finished": 1.0, "options": {}}
        store.draft(row.stage.split()[0], row.slug, row.key).complete(manifest)
    (plain,) = plan_sweep(expand(words), "score", None, SilentReporter())
    assert plain.done
    (wanted,) = plan_sweep(expand([*words, "eval.retain_reference=train"]), "score", None, SilentReporter())
    assert not wanted.done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=none,npo_gd", "unlearn.lr=1e-4,-1"], "method=none unlearn.lr=-1: unlearn.lr=-1.0 must be above 0"),
        (["method=npo_gd,unierase_deep", "unlearn.epochs=3"], "method=unierase_deep: unlearn.epochs=3 changes nothing"),
        (["method=none,nop_gd"], "method=nop_gd: method=nop_gd is not a choice"),
        (["seed=0,1", "unlearn.lear=1"], "there is no key unlearn.lear"),
        (["seed=0,x"], "seed=x: run.seed=x must be a whole number"),
        (["seed=0,00"], "seed=0 and seed=00 are the same experiment"),
        (["seed=0,,1"], "has an empty value"),
        (["seed="], "run.seed= must be a whole number"),
        (["seed=range(0,100)", "edit.alpha=range(0,100)"], "these words make 10000 runs"),
        (["seed=0,1", "latest"], "'latest' is not of the form KEY=VALUE"),
        (["seed=0,1", "launcher=nowhere"], "launcher=nowhere is not a choice"),
        (["seed=0,1", "--jobs", "0"], "--jobs"),
        (["seed=0,1", "--stage", "score"], "--stage"),
    ],
)
def test_mistakes_are_one_line_before_anything_starts(words: list[str], message: str, outputs: Path) -> None:
    result = CliRunner().invoke(app, ["sweep", *words, f"outputs={outputs}"], prog_name="unierase")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert list(outputs.iterdir()) == []


def test_a_setting_that_a_method_does_not_use_is_named_once(outputs: Path) -> None:
    shown = sweep(outputs, "method=unierase,npo_gd", "unlearn.lr=1e-4,1e-5", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stderr.count("warning: method=unierase does not use unlearn.lr") == 1
    assert "method=npo_gd does not use" not in shown.stderr


def test_many_combinations_are_run_once_they_are_meant(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_command, "MANY", 1)
    refused = sweep(outputs, "seed=0,1", "--dry-run")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (2, "  try: add --yes to run them all")
    assert sweep(outputs, "seed=0,1", "--dry-run", "--yes").exit_code == 0


def test_a_sweep_is_not_started_by_several_processes(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert "leave out torchrun" in sweep(outputs, "seed=0,1").stderr


@pytest.mark.parametrize(("launcher", "library"), [("slurm", "submitit"), ("ray", "ray")])
def test_without_its_library_a_launcher_says_how_to_install_it(
    launcher: str, library: str, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    refused = sweep(outputs, "method=none", "--launcher", launcher)
    assert refused.exit_code == 2
    assert f'pip install "unierase[{launcher}]"' in refused.stderr
    assert list(outputs.iterdir()) == []
