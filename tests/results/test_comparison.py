"""One table over many finished runs: what is pooled, what is left out and said, what is best, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.recorded import given
from tests.helpers.scored_runs import artefact, scored
from tests.helpers.settings import with_settings
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig
from unierase_cli.contracts import AnswerScore, Benchmark, Fact, Observation, SilentReporter, UserError
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.catalog import all_columns
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.pipeline.observation_files import Pass, Plan
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request
from unierase_cli.results.many_runs.comparison import compare_runs
from unierase_cli.results.many_runs.labels import configuration, labelled
from unierase_cli.results.many_runs.rows import COLUMNS, COST, Compared, balance
from unierase_cli.results.many_runs.tables import tables
from unierase_cli.results.table import Table
from unierase_cli.store.artefact import Artefact, read_artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import decoded
from unierase_cli.store.jsonl import dump_line


def compared(store: Store, *words: str, **options: Any) -> dict[str, Any]:
    (made,) = compare_runs(store, words or ("score/*",), reporter=SilentReporter(), **options)
    return json.loads((made.path / "comparison.json").read_text())["tables"][0]


def labels(table: dict[str, Any]) -> list[str]:
    return [row["label"] for row in table["rows"]]


def values(table: dict[str, Any], label: str) -> dict[str, Any]:
    return next(row["values"] for row in table["rows"] if row["label"] == label)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_seeds_are_pooled_into_mean_and_sample_deviation(store: Store) -> None:
    for seed, forget in enumerate((0.1, 0.2, 0.6)):
        scored(store, seed=seed, forget=forget)
    found = values(compared(store), "npo_gd")
    assert found["forget.rouge"]["mean"] == pytest.approx(0.3)
    assert found["forget.rouge"]["sd"] == pytest.approx(0.2645751)
    assert found["forget.rouge"]["n"] == 3
    assert found["retain_unseen.rouge"]["sd"] == 0


def test_a_single_seed_has_no_deviation(store: Store) -> None:
    scored(store)
    found = values(compared(store), "npo_gd")["forget.rouge"]
    assert found == {"mean": 0.5, "sd": None, "n": 1, "unavailable": None, "ci95": None}


def test_the_unedited_model_comes_first_and_methods_follow_by_balance(store: Store) -> None:
    scored(store, "ga_gd", forget=0.0, kept=0.2)
    scored(store, "unierase", forget=0.1, kept=1.0)
    scored(store, "npo_gd", forget=0.5, kept=1.0)
    table = compared(store)
    assert labels(table) == ["unedited model", "unierase", "npo_gd", "ga_gd"]
    assert values(table, "unierase")["balance"]["mean"] == pytest.approx(2 * 0.9 / 1.9)
    assert values(table, "unedited model")["balance"]["mean"] == 0


def test_the_balance_is_clipped_and_needs_something_to_forget() -> None:
    assert balance((0.8, 0.5), (0.9, 0.6)).value == 0
    assert balance((0.8, 0.5), (0.0, 0.6)).value == 1
    assert balance((0.8, 0.5), (0.4, 0.25)).value == pytest.approx(0.5)
    assert "nothing to forget" in str(balance((0.0, 0.5), (0.0, 0.5)).unavailable)
    assert balance((None, 0.5), (0.0, 0.5)).value is None


def test_a_number_that_one_seed_lacks_is_not_averaged_over_the_others(store: Store) -> None:
    scored(store, seed=0, more={"all.model_utility": 0.9})
    scored(store, seed=1, more={"all.model_utility": None})
    table = compared(store)
    utility = values(table, "npo_gd")["all.model_utility"]
    assert (utility["mean"], utility["n"]) == (None, 1)
    assert any("1 of 2 seeds lack it (seed 1): nobody asked" in remark for remark in table["remarks"])


def test_rows_of_one_method_are_told_apart_by_what_differs(store: Store) -> None:
    scored(store, unlearn__lr=1e-4, forget=0.1)
    scored(store, unlearn__lr=2e-5, forget=0.2)
    # Where and when a run was made, and keys that this method does not read, make no new row.
    scored(store, unlearn__lr=2e-5, forget=0.2, seed=1, run__threads=4, edit__alpha=9.0)
    assert labels(compared(store)) == ["unedited model", "npo_gd lr=1e-4", "npo_gd lr=2e-5"]


def test_labels_stay_short_and_say_what_they_leave_out() -> None:
    rows = [{f"edit.k{key}": str((row * key) % 3) for key in (1, 2, 4, 5, 7)} for row in range(3)]
    found, differences, remarks = labelled("m", rows)
    assert len(set(found)) == 3
    assert max(map(len, found)) < 12
    assert len(differences[0]) == 5
    assert "also differ in" in remarks[0]


def test_long_values_become_letters_that_the_remarks_explain() -> None:
    rows = [{"a.list": json.dumps(["one word", text, "three words"])} for text in ("x", "y")]
    found, _, remarks = labelled("m", rows)
    assert found == ["m list=A", "m list=B"]
    assert 'B is ["one word", "y", "three words"]' in remarks[0]


def test_keys_with_one_name_are_told_apart() -> None:
    found, _, _ = labelled("m", [{"a.lr": "1", "b.lr": "0.5"}, {"a.lr": "2", "b.lr": "0.25"}])
    assert found == ["m a.lr=1 b.lr=0.5", "m a.lr=2 b.lr=0.25"]


def test_what_a_method_does_not_read_is_no_part_of_its_configuration() -> None:
    editing = configuration(asdict(Experiment()))
    training = configuration(asdict(Experiment(method=MethodConfig(name="npo_gd", editing=False, token=False))))
    assert "edit.lambda_" in editing
    assert "unlearn.lr" not in editing
    assert "unlearn.lr" in training
    assert not [key for key in training if key.startswith(("edit.", "token.stages", "run.", "eval."))]


def test_of_two_runs_alike_one_counts_and_the_other_is_named(store: Store) -> None:
    scored(store, forget=0.4, more={"all.model_utility": 0.9})
    scored(store, forget=0.3)
    table = compared(store)
    assert values(table, "npo_gd")["forget.rouge"]["mean"] == 0.4
    assert any("left out (same configuration)" in remark and "@v002" in remark for remark in table["remarks"])


def test_costs_come_from_the_manifests_with_the_tokens_training(store: Store) -> None:
    scored(store, "unierase")
    scored(store, "npo_gd", phases={"train": {"peak_memory_mib": 9000.0, "peak_gpu_memory_mib": 2048.0}})
    table = compared(store)
    found = values(table, "unierase")
    assert [found[name]["mean"] for name in ("seconds", "memory", "changed")] == [70.0, 0.5, 25.0]
    assert [values(table, "npo_gd")[name]["mean"] for name in ("seconds", "memory")] == [60.0, 2.0]
    assert values(table, "unedited model")["seconds"]["unavailable"] == ""


def test_a_run_that_was_interrupted_has_no_time(store: Store) -> None:
    scored(store, resumed=True)
    table = compared(store)
    assert values(table, "npo_gd")["seconds"]["mean"] is None
    assert any("only the last part was timed" in remark for remark in table["remarks"])


def test_the_retain_only_model_is_a_row_or_a_remark_says_how_to_get_it(store: Store) -> None:
    run = scored(store)
    assert any("--retain RUN" in remark for remark in compared(store)["remarks"])
    reference = scored(store, "unierase", base={"forget.rouge": 0.3}, train__split="retain95")
    table = compared(store, run.full_name, retain=[reference.full_name])
    assert labels(table) == ["unedited model", "retain-only model", "npo_gd"]
    assert values(table, "retain-only model")["forget.rouge"]["mean"] == 0.3
    assert not any("--retain RUN" in remark for remark in table["remarks"])
    # Named among the runs, too, as a pattern does, it is still only the reference.
    again = compared(store, run.full_name, reference.full_name, retain=[reference.full_name])
    assert labels(again) == labels(table)
    # Trained on the retain rows by the finetune stage, it is known for what it is without the option, too.
    assert compared(store, run.full_name, reference.full_name) == table


def test_a_retain_only_model_that_was_found_by_itself_belongs_to_models_like_it(store: Store) -> None:
    scored(store)
    scored(store, model__name="llama", model__path="somewhere", base={"forget.rouge": 0.8})
    twin = scored(store, "none", base={"forget.rouge": 0.3}, train__split="retain")
    found = compare_runs(store, ["score/*"], reporter=SilentReporter())
    shown = {
        table["model"]: labels(table)
        for made in found
        for table in json.loads((made.path / "comparison.json").read_text())["tables"]
    }
    assert shown == {"mini": ["unedited model", "retain-only model", "npo_gd"], "llama": ["unedited model", "npo_gd"]}
    # Whoever names it knows what it is good for.
    (named,) = compare_runs(store, ["score/*llama*"], retain=[twin.full_name], reporter=SilentReporter())
    assert "retain-only model" in labels(json.loads((named.path / "comparison.json").read_text())["tables"][0])


def test_models_that_were_trained_otherwise_are_not_pooled_into_one(store: Store) -> None:
    scored(store, base={"forget.rouge": 0.9})
    scored(store, seed=1, base={"forget.rouge": 0.7})
    scored(store, seed=2, base={"forget.rouge": 0.2}, train__epochs=1, train__hidden_size=64)
    table = compared(store)
    few = values(table, "unedited model")["forget.rouge"]
    assert (few["n"], few["mean"]) in ((2, pytest.approx(0.8)), (1, pytest.approx(0.2)))
    assert any("trained differently; not in its row" in remark for remark in table["remarks"])


def test_the_unedited_model_has_one_value_per_model_and_the_fullest_run_counts(store: Store) -> None:
    full = scored(store, base={"forget.rouge": 0.8})
    metrics = json.loads((full.path / "metrics.json").read_text())
    metrics["facts"]["forget.plain"] += ["f2"]
    given(full, ("metrics.json", json.dumps(metrics)))
    scored(store, "ga_gd", base={"forget.rouge": 0.9})
    scored(store, "ga_gd", seed=1, base={"forget.rouge": 0.6})
    table = compared(store)
    assert values(table, "unedited model")["forget.rouge"] == {
        "mean": pytest.approx(0.7), "sd": pytest.approx(0.1414214), "n": 2, "unavailable": None, "ci95": None,
    }  # fmt: skip
    assert any("forget ROUGE-L of the unedited model differs among its runs" in remark for remark in table["remarks"])
    assert any("not all runs were asked the same forget rows (2 and 3" in remark for remark in table["remarks"])


def observations_of(store: Store, run: Artefact, state: str, wrong: float) -> None:
    """Forget rows in the folder of what ``run`` was made from, whose wrong answers have about that probability."""
    source = read_artefact(Path(run.manifest["inputs"][state]["path"]))
    answer = AnswerScore([1], [math.log(0.5)], [True], [0.0], [0.0])
    rows = [
        Observation(
            f"f{n}", f"h{n}", "", "forget", "plain", "?", "!", [], "", "", "end",
            answers={"true": [answer], "wrong": [replace(answer, log_probs=[math.log(wrong + n / 1000)])]},
        )
        for n in range(20)
    ]  # fmt: skip
    Plan(state, [], [], [Pass("forget", "plain", [o.fact_id for o in rows], [list(range(20))])]).save(source.path)
    given(source, ("forget.plain.jsonl", "".join(dump_line(o.to_json()) for o in rows)))


def test_forget_quality_is_taken_against_the_retain_only_run_of_the_comparison(store: Store) -> None:
    run, twin = scored(store), scored(store, "none", train__split="retain95")
    observations_of(store, run, "edited", wrong=0.4)
    observations_of(store, twin, "base", wrong=0.4)
    table = compared(store, run.full_name, retain=[twin.full_name])
    assert values(table, "npo_gd")["forget.forget_quality"]["mean"] == pytest.approx(1)
    observations_of(store, run, "edited", wrong=0.01)
    table = compared(store, run.full_name, retain=[twin.full_name], force=True)
    assert values(table, "npo_gd")["forget.forget_quality"]["mean"] < 1e-9
    alone = values(compared(store, run.full_name), "npo_gd")["forget.forget_quality"]
    assert alone["mean"] is None


def test_a_retain_only_model_of_another_split_is_refused(store: Store) -> None:
    run, other = scored(store), scored(store, benchmark__split="forget10")
    with pytest.raises(UserError, match="fictional forget10, but none of the runs is"):
        compared(store, run.full_name, retain=[other.full_name])


def test_the_unedited_model_of_a_run_is_no_retain_only_model(store: Store) -> None:
    run, same = scored(store), scored(store, "none")
    with pytest.raises(UserError, match="is the unedited model of .*, which knows the facts to forget"):
        compared(store, run.full_name, retain=[same.full_name])


def test_there_is_a_folder_per_split_and_a_table_per_mode(store: Store) -> None:
    scored(store)
    scored(store, mode__name="sequential")
    scored(store, benchmark__split="forget10")
    made = compare_runs(store, ["score/*"], reporter=SilentReporter())
    assert [a.path.parent.name for a in made] == ["fictional-forget05_mini", "fictional-forget10_mini"]
    held = json.loads((made[0].path / "comparison.json").read_text())
    assert [table["mode"] for table in held["tables"]] == ["batch", "sequential"]


def test_models_of_one_name_are_told_apart_by_their_folder(store: Store) -> None:
    for path in ("/models/one/full", "/models/two/full"):
        scored(store, model__path=path)
    scored(store, benchmark__split="forget10")
    made = compare_runs(store, ["score/*"], reporter=SilentReporter())
    held = [json.loads((a.path / "comparison.json").read_text())["tables"][0]["model"] for a in made]
    assert held == ["mini (one/full)", "mini (two/full)", "mini"]
    slugs = [a.path.parent.name for a in made]
    assert slugs == ["fictional-forget05_mini-one-full", "fictional-forget05_mini-two-full", "fictional-forget10_mini"]


def test_a_trajectory_that_came_later_makes_another_comparison(store: Store) -> None:
    score = scored(store, mode__name="sequential")
    (first,) = compare_runs(store, ["score/*"], reporter=SilentReporter())
    made = artefact(store, "trajectory", score.path.parent.name, {"score": score})
    given(made, ("steps.json", json.dumps({"before": {}, "steps": []})))
    (second,) = compare_runs(store, ["score/*"], reporter=SilentReporter())
    assert first.path != second.path
    assert compare_runs(store, ["score/*"], reporter=SilentReporter())[0].path == second.path


def test_a_single_seed_has_the_interval_over_its_rows(store: Store) -> None:
    run = scored(store)
    metrics = json.loads((run.path / "metrics.json").read_text())
    metrics["states"]["edited"]["forget.rouge"]["ci95"] = [0.4, 0.6]
    given(run, ("metrics.json", json.dumps(metrics)))
    (made,) = compare_runs(store, ["score/*"], reporter=SilentReporter())
    (row,) = [row for row in csv.DictReader((made.path / "comparison.csv").open()) if row["method"] == "npo_gd"]
    assert (row["forget.rouge.sd"], row["forget.rouge.low"], row["forget.rouge.high"]) == ("", "0.4", "0.6")


def test_a_comparison_holds_its_files_and_is_reused(store: Store) -> None:
    for seed in (0, 1):
        scored(store, seed=seed, forget=0.1 * (seed + 1))
    scored(store, "ga_gd", forget=0.9)
    (made,) = compare_runs(store, ["score/*"], reporter=SilentReporter())
    names = {"comparison.html", "comparison.md", "comparison.csv", "comparison.json", "forgetting-retention.png"}
    assert names == set(made.manifest["files"]) == set(made.manifest["summary"]["files"])
    assert (made.path / "forgetting-retention.png").read_bytes()[:4] == b"\x89PNG"
    text = (made.path / "comparison.md").read_text()
    assert "**0.150 ± 0.071**" in text
    assert "harmonic mean" in text
    rows = list(csv.DictReader((made.path / "comparison.csv").open()))
    pooled = next(row for row in rows if row["method"] == "npo_gd")
    assert (pooled["seeds"], float(pooled["forget.rouge"])) == ("0 1", pytest.approx(0.15))
    assert pooled["forget.probability"] == pooled["forget.rouge.low"] == ""
    assert compare_runs(store, ["score/*"], reporter=SilentReporter())[0].path == made.path
    assert compare_runs(store, ["score/*"], reporter=SilentReporter(), force=True)[0].path.name == "v002"


def test_runs_are_named_by_path_pattern_key_and_by_what_was_made_from_them(store: Store) -> None:
    first, second = scored(store), scored(store, "ga_gd")
    erase = store.list("erase")[1]
    slug = first.path.parent.name
    for word in (str(first.path), first.full_name, first.key[:12], slug, f"score/{slug}", str(first.path.parent), "*npo*"):
        assert labels(compared(store, word)) == ["unedited model", "npo_gd"], word
    assert labels(compared(store, f"erase/{erase.name}")) == ["unedited model", "ga_gd"]
    assert labels(compared(store, "latest")) == ["unedited model", "ga_gd"]
    assert len(compared(store, first.full_name, "score/*", second.key)["rows"]) == 3


def test_the_best_of_the_edited_models_is_bold_by_each_columns_direction(store: Store) -> None:
    scored(store, "a", forget=0.1, kept=0.5, seconds=5.0)
    scored(store, "b", forget=0.3, kept=0.9, seconds=9.0)
    (table,) = tables(decoded(compared(store), Compared), width=400)
    bold = {(table.rows[row][0], table.columns[column].replace("\n", " ")) for row, column in table.strong}
    assert ("2 a" if table.rows[1][0] == "1 b" else "1 a", "forget ROUGE") in bold
    assert {column for label, column in bold if label.endswith("b")} == {"never seen", "bal- ance"}
    assert not any(label == "unedited model" for label, _ in bold)
    assert Table("t", ("x", "y"), (("1", "2"),), strong=frozenset({(0, 1)})).markdown().endswith("| 1 | **2** |\n")


def test_directions_are_those_of_the_metrics() -> None:
    from tests.helpers.report_rows import observed

    variants = ("plain", "paraphrased", "answer_prefix", "unlearn_forbidden")
    seen = {("forget", v): [observed("edited", "forget", n, v) for n in range(3)] for v in variants}
    seen |= {(s, "plain"): [observed("edited", s, n) for n in range(3)] for s in ("retain_unseen", "retain_near")}
    known = {column.id: column.result.higher_is_better for column in all_columns(Evidence("edited", seen))}
    for column in COLUMNS:
        if column.id in known and column.part != COST:
            assert known[column.id] == column.higher_is_better, column.id
    assert len(known.keys() & {column.id for column in COLUMNS}) >= 12


def test_narrow_terminals_get_two_tables_and_long_labels_a_table_of_rows(store: Store) -> None:
    for seed in (0, 1):
        scored(store, seed=seed, unlearn__lr=1e-4, unlearn__epochs=3, unlearn__warmup=0.25)
    scored(store, unlearn__lr=1e-5)
    table = decoded(compared(store), Compared)
    assert [len(tables(table, width=width)) for width in (400, 140, 100)] == [1, 2, 3]
    for width in (140, 100):
        for part in tables(table, width=width)[-2:]:
            assert part.width() - max(0, max(len(row[0]) for row in part.rows) - 32) <= width
    assert tables(table, width=100)[1].rows[1][0] == "1 npo_gd"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), prog_name="unierase")


def test_the_command_prints_the_table_and_show_and_ls_know_it(store: Store) -> None:
    scored(store)
    printed = run("report", "score/*", f"run.outputs={store.root}")
    assert printed.exit_code == 0, printed.stderr
    assert printed.stdout == ""
    assert "unedited model" in printed.stderr
    assert "comparison.html" in printed.stderr
    data = json.loads(run("report", "latest", "--outputs", str(store.root), "--json").stdout)
    assert data[0]["tables"][0]["rows"][1]["method"] == "npo_gd"
    assert "unedited model" in run("show", "fictional-forget05_mini@v001", "--outputs", str(store.root)).stderr
    assert "fictional-forget05_mini@v001" in run("ls", "comparison", "--outputs", str(store.root)).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fictional-forget05_mini_npo_gd_batch_seed0@v007"], "try: fictional-forget05_mini_npo_gd_batch_seed0@v00"),
        (["score/nothing*"], "no run matches score/nothing*"),
        (["finetune/*"], "has no score"),
        (["latest", "benchmark=tofu"], "benchmark=tofu does not apply to a comparison"),
        (["latest", "--dry-run"], "--dry-run does not go with RUN"),
        (["--retain", "latest"], "--retain needs runs"),
        (["latest", "run.outptus=x"], "run.outputs"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(words: list[str], message: str, store: Store) -> None:
    scored(store)
    result = run("report", *words, "--outputs", str(store.root))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_benchmarks_notes_are_told_once_and_kept_by_every_stage_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = (Fact("f", "Who?", "Ada."),)
    benchmark = Benchmark("own", facts, (), {"forget": facts}, "print", notes=("nothing is protected",))

    def stage(name: str) -> Any:
        needs = {"score": "observe", "observe": "erase"}
        return SimpleNamespace(
            NAME=name, VERSION=1, reads=lambda study, o: {}, run=lambda context: {},
            fingerprints=lambda study, o: {} if name == "score" else {"benchmark": study.benchmark.fingerprint},
            needs=lambda study, o: {"input": Request(needs[name])} if name in needs else {},
        )  # fmt: skip

    monkeypatch.setattr(pipeline_module, "load_stage", stage)
    monkeypatch.setattr("unierase_cli.pipeline.study.load_benchmark", lambda *_, **__: benchmark)
    config = with_settings(Experiment(), run__outputs=str(tmp_path))
    for _ in range(2):  # the second command reuses everything and tells it, too
        reporter = SilentReporter()
        Pipeline(config, reporter).make("score")
        assert reporter.warnings == ["benchmark own: nothing is protected"]
    kept = {a.stage: a.manifest["warnings"] for a in Store(tmp_path).list()}
    told = ["benchmark own: nothing is protected"]
    assert kept == {"erase": told, "observe": told, "score": []}


def test_a_setting_that_is_null_is_one_that_an_older_version_did_not_have(store: Store) -> None:
    first = scored(store, seed=0)
    scored(store, seed=1)
    manifest = json.loads((first.path / "manifest.json").read_text())
    del manifest["config"]["unlearn"]["token_weights"]
    (first.path / "manifest.json").write_text(json.dumps(manifest))
    assert [row["seeds"] for row in compared(store)["rows"] if row["kind"] == "edited"] == [[0, 1]]


def test_how_a_training_was_watched_and_an_adapter_that_is_not_there_split_no_seeds(store: Store) -> None:
    scored(store, seed=0, method="npo_gd", unlearn__reference_gib=1.0, adapter__r=16)
    scored(store, seed=1, method="npo_gd", unlearn__checkpoint_every=3)
    assert [row["seeds"] for row in compared(store)["rows"] if row["kind"] == "edited"] == [[0, 1]]


def test_an_edits_time_is_unknown_where_its_moments_are_gone(store: Store) -> None:
    scored(store, method="unierase")
    (moments,) = store.list("moments")
    shutil.rmtree(moments.path)
    (row,) = [row for row in compared(store)["rows"] if row["kind"] == "edited"]
    assert row["values"]["seconds"]["unavailable"] == "its moments artefact is gone"
