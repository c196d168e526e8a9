"""`unierase check`: the numbers of a run against those recorded for its experiment."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.places import ROOT
from tests.helpers.recorded import given, scored
from unierase_cli.cli.app import app
from unierase_cli.contracts import UserError
from unierase_cli.rerun import recorded as recorded_module
from unierase_cli.rerun.recorded import Expected, recorded, recorded_words, results_folder
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.jsonl import read_asset

EXPERIMENTS = ("demo", "tofu_mini", "smollm2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(folder: Path, words: Sequence[str], away: dict[str, float] | None = None) -> Artefact:
    """A finished run with the recorded numbers of its experiment and seed 0, some of them ``away`` from it."""
    made = scored(Store(folder / "outputs"))
    name = words[0].partition("=")[2]
    states: dict[str, dict[str, dict[str, float]]] = {"base": {}, "edited": {}}
    for number in recorded(name, 0).numbers:
        value = number.value + (away or {}).get(f"{number.metric} {number.state}", 0.0)
        states[number.state][number.metric] = {"value": value, "n": 40}
    made.manifest["overrides"] = list(words)
    packages = {"torch": "3.1.4", "transformers": "9.9.9"}
    made.manifest["environment"] = {"python": "3.13.1", "packages": packages, "git_commit": "abc"}
    made.manifest["machine"] = {"cpu": "Abacus"}
    return given(made, ("metrics.json", json.dumps({"states": states})))


def called(*words: str) -> Result:
    return CliRunner().invoke(app, ["check", *words], prog_name="unierase")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_number_is_a_cell_of_the_recorded_results(name: str) -> None:
    found = recorded(name, 0)
    assert found.numbers
    assert all(0 <= number.value <= 1 for number in found.numbers)
    assert {(n.metric, n.state) for n in found.numbers} >= {("forget.rouge", "base"), ("forget.rouge", "edited")}
    assert all("commit" in about and "torch" in about["versions"] for about in found.origin.values())


def test_what_a_readme_shows_is_what_is_expected() -> None:
    by_name = {(n.metric, n.state): n for n in recorded("demo", 2).numbers}
    forget = by_name["forget.rouge", "edited"]
    assert (forget.value, forget.spread, forget.seeds, forget.source) == (0.028, 0.025, 3, "demo-seeds.csv")
    assert "0.028 ± 0.025" in (ROOT / "scripts" / "README.md").read_text("utf-8")


def test_every_experiment_with_numbers_is_shipped_and_its_files_are_packaged() -> None:
    named = {row["experiment"] for row in read_asset(recorded_module.CELLS)}
    assert named == set(EXPERIMENTS) <= {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    assert results_folder() == ROOT / "scripts" / "results"
    included = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert included["force-include"]["scripts/results"] == "unierase_cli/assets/results"


def test_a_band_is_where_one_more_seed_falls() -> None:
    # t(0.975, 2 degrees of freedom) = 4.3027; times sqrt(4/3).
    width, why = Expected("m", "edited", 0.5, 0.1, 3, "f").width(100)
    assert width == pytest.approx(0.1 * 4.30265 * (4 / 3) ** 0.5, rel=1e-4)
    assert why == "3 seeds"


def test_a_band_has_room_for_a_question_or_two() -> None:
    assert Expected("m", "edited", 1.0, 0.0, 3, "f").width(20) == (0.05, "one question")
    assert Expected("m", "edited", 1.0, 0.0, 3, "f").width(400) == (0.02, "least")
    assert Expected("m", "edited", 1.0, None, 0, "f").width(20) == (0.1, "two questions")
    assert Expected("m", "edited", 1.0, None, 0, "f").width(0) == (0.05, "one seed")


def test_numbers_of_one_seed_are_held_against_that_seed_alone() -> None:
    assert len(recorded("demo", 0).numbers) == len(recorded("demo", 1).numbers) + 2
    assert not recorded("smollm2", 7).numbers


def test_a_run_with_the_recorded_numbers_passes_and_both_sides_versions_are_told(folder: Path) -> None:
    run_of(folder, ["experiment=demo", "run.seed=0"])
    done = called("latest", "experiment=demo")
    assert done.exit_code == 0, done.output
    assert "all 13 numbers are in their bands" in done.output
    assert all(text in done.output for text in ("3.1.4", "2.13.0", "9.9.9", "5.23.0", "3.13.1", "3.11", "Abacus"))


def test_the_metric_that_left_its_band_is_named_and_the_exit_code_says_so(folder: Path) -> None:
    run_of(folder, ["experiment=tofu_mini"], away={"forget.rouge edited": 0.3})
    done = called("latest", "experiment=tofu_mini")
    assert done.exit_code == 1
    assert "1 of 23 numbers left their bands: forget.rouge (edited)" in done.output


def test_as_json_it_is_the_same(folder: Path) -> None:
    run_of(folder, ["experiment=tofu_mini", "edit.values.clamp=9"], away={"forget.rouge edited": 0.3})
    done = called("latest", "experiment=tofu_mini", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1
    assert not found["same"]
    assert [row["metric"] for row in found["numbers"] if not row["within"]] == ["forget.rouge"]
    assert found["words"] == ["edit.values.clamp=9"]
    assert found["now"]["torch"] == "3.1.4"


def test_what_was_given_and_what_was_not_measured_is_told(folder: Path) -> None:
    made = run_of(folder, ["experiment=tofu_mini", "model.path=other", "token.targets=no.txt", "run.threads=2"])
    alone = {"states": {"edited": {"forget.rouge": {"value": recorded("tofu_mini", 0).numbers[5].value, "n": 40}}, "base": {}}}
    given(made, ("metrics.json", json.dumps(alone)))
    done = called("latest", "experiment=tofu_mini")
    assert done.exit_code == 0, done.output
    assert "recorded: model.path=other token.targets=no.txt\n" in done.output
    assert "the number is in its band; 22 of 23 recorded numbers were not measured" in done.output


def test_a_seed_without_numbers_is_refused_before_anything_runs(folder: Path) -> None:
    for words in (["--dry-run"], []):
        done = called("experiment=smollm2", "run.seed=3", "benchmark.data_dir=x", "model.path=x", *words)
        assert done.exit_code == 2
        assert "no numbers are recorded for experiment=smollm2 with seed 3" in done.output
    assert not list(Store(folder / "outputs").list())


def test_a_run_of_something_else_is_refused(folder: Path) -> None:
    run_of(folder, ["experiment=demo"])
    done = called("latest", "experiment=tofu_mini")
    assert done.exit_code == 2
    assert "was not made with experiment=tofu_mini" in done.output
    with pytest.raises(UserError, match="no numbers are recorded for experiment=other"):
        recorded_words("other")


def test_without_a_run_the_experiment_is_planned_as_it_was_measured(folder: Path) -> None:
    done = called("experiment=demo", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert [row["stage"] for row in json.loads(done.stdout)][-1] == "score"
    assert "eval=compare" in recorded_words("tofu_mini")
