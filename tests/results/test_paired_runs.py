"""Two finished runs against each other: which rows are paired, what is told, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.answered_runs import RIGHT, SKY, finished
from tests.helpers.recorded import given
from unierase_cli.cli.app import app
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.metrics import rouge
from unierase_cli.metrics.compare import compare
from unierase_cli.results.many_runs.comparison import compare_runs
from unierase_cli.results.two_runs.compared import ColumnTest, Comparison
from unierase_cli.results.two_runs.pair import compare_pair
from unierase_cli.results.two_runs.tables import tables
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store


def column(compared: Comparison, name: str = "forget.rouge") -> ColumnTest:
    return next(row for row in compared.columns if row.column.id == name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_rows_are_matched_by_their_ids_and_not_by_their_place(store: Store) -> None:
    a = finished(store, "npo_gd", forget={"f0": SKY, "f1": "No.", "f2": SKY})
    b = finished(store, "ga_gd", forget={"f2": "No.", "f1": "No.", "f0": SKY, "f9": SKY})
    compared = compare_pair(store, [a.full_name, b.full_name])
    found = column(compared)
    assert (found.test.n, found.only_first, found.only_second) == (3, 0, 1)
    assert (found.test.first, found.test.second) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (found.test.higher_first, found.test.higher_second, found.test.ties) == (1, 0, 2)
    assert any("0 rows that only A has and 1 that only B has" in remark for remark in compared.remarks)


def test_the_test_is_exact_corrected_and_signed(store: Store) -> None:
    a = finished(store, "npo_gd")
    b = finished(store, "ga_gd", forget=dict.fromkeys(RIGHT, "I do not know."))
    compared = compare_pair(store, [a.full_name, b.full_name], metrics=["forget.rouge", "forget.refusal_rate"])
    rouge, refusals = column(compared), column(compared, "forget.refusal_rate")
    assert (rouge.test.difference, rouge.test.p, rouge.test.exact) == (-1, 2 / 2**8, True)
    assert (rouge.test.mcnemar, refusals.test.mcnemar) == (None, 2 / 2**8)
    assert rouge.holm == 2 * rouge.test.p
    (tests, *_) = tables(compared)
    # Lower is better on the forget set, more refusals are: B is the better side of both rows.
    assert {(tests.rows[row][0], tests.columns[place]) for row, place in tests.strong} == {
        ("forget ROUGE-L", "B"), ("clean refusals", "B"),
    }  # fmt: skip


def test_seeds_that_both_have_are_paired_and_averaged(store: Store) -> None:
    for seed in (0, 1, 2):
        finished(store, "npo_gd", seed, forget={**RIGHT, "f0": "No." if seed == 1 else SKY})
    for seed in (1, 0):
        finished(store, "ga_gd", seed)
    slugs = [f"fictional-forget05_mini_{method}_batch" for method in ("npo_gd", "ga_gd")]
    compared = compare_pair(store, slugs)
    assert compared.seeds == [(0, 0), (1, 1)]
    assert column(compared).test.first == pytest.approx((7 + 0.5) / 8)
    told = " ".join(compared.remarks)
    assert "the mean over 2 seeds (0, 1)" in told
    assert f"left out, because the other run has no such seed: {slugs[0]} seed 2" in told


def test_single_runs_of_unlike_seeds_are_compared_and_several_are_not(store: Store) -> None:
    a, b = finished(store, "npo_gd", 0), finished(store, "ga_gd", 1)
    with pytest.raises(UserError, match="unedited models differ"):
        compare_pair(store, [a.full_name, b.full_name])
    remarks = compare_pair(store, [a.full_name, b.full_name], anyway=True).remarks
    assert "the runs have different seeds: 0 and 1" in remarks
    assert any("unedited models differ" in remark for remark in remarks)
    finished(store, "ga_gd", 2)
    with pytest.raises(UserError, match="no seed is common to both"):
        compare_pair(store, [a.full_name, "*ga_gd*"])


def test_the_questions_that_changed_most_come_with_both_answers(store: Store) -> None:
    a = finished(store, "npo_gd", kept={**RIGHT, "f3": "Blue."})
    b = finished(store, "ga_gd", forget={**RIGHT, "f1": "The sky is red.", "f2": "No."})
    compared = compare_pair(store, [a.full_name, b.full_name], top=1)
    assert [(q.split, q.fact_id, q.first, q.second) for q in compared.questions] == [
        ("forget", "f2", SKY, "No."),
        ("retain_unseen", "f3", "Blue.", SKY),
    ]
    assert compared.questions[0].difference == -1
    assert compare_pair(store, [a.full_name, b.full_name], top=0).questions == []
    # What was said may be gone; the scores are not.
    for name in ("forget.plain.jsonl", "retain_unseen.plain.jsonl"):
        for score in (a, b):
            (Path(score.manifest["inputs"]["edited"]["path"]) / name).unlink()
    assert compare_pair(store, [a.full_name, b.full_name], top=1).questions[0].first is None


def test_an_aggregate_is_tested_over_the_rows_of_its_parts(store: Store) -> None:
    from tests.helpers.states import state

    whole = state("edited", False, True, ("forget", "retain_unseen", "real_authors", "world_facts"))
    worse = dict(whole.observations)
    worse["world_facts", "plain"] = [replace(o, text="The sky.") for o in worse["world_facts", "plain"]]
    scores = [finished(store, method) for method in ("npo_gd", "ga_gd")]
    for score, seen in zip(scores, (whole, replace(whole, observations=worse, _results={})), strict=True):
        given(score, ("metrics.json", json.dumps(compare(seen, seen).to_json())))
    compared = compare_pair(store, [score.full_name for score in scores], metrics=["model_utility"])
    found = column(compared, "all.model_utility")
    assert found.test.difference < 0
    assert found.test.ci95 == pytest.approx((found.test.difference,) * 2)
    assert (found.test.n, found.only_first, found.test.ties) == (18, 0, None)
    assert 0 < found.test.p < 0.1


def test_what_cannot_be_paired_is_told_with_its_reason(store: Store) -> None:
    a, b = finished(store, "npo_gd"), finished(store, "ga_gd")
    remarks = compare_pair(store, [a.full_name, b.full_name]).remarks
    assert any(remark.startswith("not compared: forget quality: A: there is no retain reference") for remark in remarks)
    metrics = json.loads((b.path / "metrics.json").read_text())
    for described in metrics["columns"]:
        described["version"] += described["id"] == "forget.rouge"
    given(b, ("metrics.json", json.dumps(metrics)))
    compared = compare_pair(store, [a.full_name, b.full_name])
    told = f"versions {rouge.VERSION}, {rouge.VERSION + 1}; `unierase score` recomputes it"
    assert any(told in remark for remark in compared.remarks)


def test_a_set_of_one_row_has_no_interval_and_says_so(store: Store) -> None:
    a, b = finished(store, "npo_gd", forget={"f0": SKY}), finished(store, "ga_gd", forget={"f0": "No."})
    compared = compare_pair(store, [a.full_name, b.full_name], metrics=["forget.rouge"])
    assert column(compared).test.ci95 is None
    assert "for a single row there is no interval and no test: forget ROUGE-L" in compared.remarks
    assert tables(compared)[0].rows[0][4] == ""


def test_the_same_ids_of_another_edition_are_refused(store: Store) -> None:
    a, b = finished(store, "npo_gd"), finished(store, "ga_gd", edition="2")
    with pytest.raises(UserError, match="8 rows of forget have the same id but different content, such as f0"):
        compare_pair(store, [a.full_name, b.full_name])


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words], prog_name="unierase")


def test_the_command_prints_tables_or_json(store: Store) -> None:
    finished(store, "npo_gd")
    finished(store, "ga_gd", forget={**RIGHT, "f1": "No [b]idea[/b]."})
    words = ["*npo_gd*", "latest", "--outputs", str(store.root)]
    printed = run(*words)
    assert printed.exit_code == 0, printed.stderr
    assert printed.stdout == ""
    for text in ("forget ROUGE-L", "McNemar", "No [b]idea[/b].", "Changed most: forget", "sign-flip"):
        assert text in printed.stderr
    data = json.loads(run(*words, "--metrics", "rouge", "--json").stdout)
    assert [row["id"] for row in data["columns"]] == ["forget.rouge", "retain_unseen.rouge"]
    assert (data["first"]["label"], data["second"]["label"]) == ("npo_gd", "ga_gd")
    assert list(data) == ["format", "first", "second", "seeds", "columns", "questions", "remarks"]
    assert {*data["columns"][0]} == {
        "id", "name", "higher_is_better", "n", "first", "second", "difference", "ci95", "p", "exact", "higher_first",
        "higher_second", "ties", "mcnemar", "only_first", "only_second", "yes_no", "holm",
    }  # fmt: skip
    assert data["seeds"] == [[0, 0]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "0 RUNs given, but a paired comparison takes two"),
        (["latest"], "1 RUN given, but a paired comparison takes two"),
        (["*npo_gd*", "*ga_gd*", "latest"], "try: unierase report RUN RUN"),
        (["latest", "latest"], "both words mean score/fictional-forget05_mini_dpo_gd_batch_seed0@v001"),
        (["*npo_gd*", "run.outputs=x"], "run.outputs=x does not apply to a comparison"),
        (["*npo_gd*", "nothing@v001"], "no artefact is called nothing@v001"),
        (["*forget10*", "*npo_gd*"], "benchmark.split is forget10 and forget05"),
        (["*rmu*", "*npo_gd*"], "protocol.max_new_tokens is 7 and 200"),
        (["*_batch_seed0", "*npo_gd*"], "*_batch_seed0 means runs of 5 configurations"),
        (["*npo_gd*", "*ga_gd*", "--metrics", "forget.roug"], "try: forget.rouge"),
        (["*npo_gd*", "*ga_gd*", "--metrics", ","], "--metrics names nothing"),
        (["*npo_gd*", "*dpo_gd*", "--metrics", "rouge"], "nothing can be compared: forget ROUGE-L: no row is common to both"),
        (["*npo_gd*", "*ga_gd*", "--top", "-1"], "--top"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(words: list[str], message: str, store: Store) -> None:
    finished(store, "npo_gd")
    finished(store, "ga_gd")
    finished(store, "undial", benchmark__split="forget10")
    finished(store, "rmu", protocol__max_new_tokens=7)
    finished(store, "dpo_gd", forget={"g": SKY, "h": SKY}, kept={"g": SKY, "h": SKY})
    result = run(*words, "--outputs", str(store.root))
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr.replace("\n  try: ", " try: ")
    assert "Traceback" not in result.stderr


def test_other_splits_are_compared_if_one_insists_on_the_rows_they_share(store: Store) -> None:
    a = finished(store, "npo_gd")
    b = finished(store, "ga_gd", benchmark__split="forget10")
    compared = compare_pair(store, [a.full_name, b.full_name], anyway=True)
    assert "benchmark.split is forget05 and forget10" in compared.remarks


def test_different_judges_references_and_lists_are_told(store: Store) -> None:
    a, b = finished(store, "npo_gd"), finished(store, "ga_gd")
    scored_with(a, judge_encoder="one", judge_nli="not downloaded", refusals="same")
    scored_with(b, judge_encoder="other", judge_nli="there", refusals="same", retain_reference="there")
    (told,) = [remark for remark in compare_pair(store, [a.full_name, b.full_name]).remarks if "scored with" in remark]
    assert told.startswith("scored with 2 different encoders (eval.encoder)")
    (made,) = compare_runs(store, ["score/*"], reporter=SilentReporter())
    assert told in json.loads((made.path / "comparison.json").read_text())["tables"][0]["remarks"]


def scored_with(score: Artefact, **fingerprints: str) -> None:
    path = score.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprints": fingerprints}))
