"""A leaderboard: ranks that say which differences are real, what is joined from audits, and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.helpers.answered_runs import SKY, finished
from tests.helpers.pages import check_text
from tests.helpers.recorded import given
from tests.helpers.scored_runs import artefact
from unierase_cli.audit.findings import Audit, Finding
from unierase_cli.cli.app import app
from unierase_cli.contracts import Measure, SilentReporter
from unierase_cli.metrics.statistics.aggregate import value_of
from unierase_cli.results.audits.of_run import audit_of
from unierase_cli.results.leaderboard.board import Board
from unierase_cli.results.leaderboard.leaderboard import make_leaderboard, read_leaderboard
from unierase_cli.results.leaderboard.ranks import RowPair, balances, ranks_of
from unierase_cli.results.leaderboard.tables import pairs_table, tables
from unierase_cli.results.many_runs.rows import balance
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

MANY = {f"f{i}": SKY for i in range(30)}
GONE = dict.fromkeys(MANY, "No.")


def but(first: int, text: str = SKY) -> dict[str, str]:
    """All forgotten but the first few."""
    return {fact: text if number < first else "No." for number, fact in enumerate(MANY)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def board(store: Store, *words: str, **options: Any) -> list[Board]:
    return read_leaderboard(make_leaderboard(store, words or ("score/*",), reporter=SilentReporter(), **options)).tables


def ranks(found: Board) -> dict[str, str]:
    return {place.row.label: place.rank for place in found.places}


def test_what_cannot_be_told_apart_shares_its_ranks(store: Store) -> None:
    finished(store, "unierase", forget=GONE, kept=MANY, knowing=True)
    finished(store, "npo_gd", forget=but(14), kept=MANY, knowing=True)
    finished(store, "ga_gd", forget=but(15), kept=MANY, knowing=True)
    (found,) = board(store)
    assert ranks(found) == {"unedited model": "", "unierase": "1", "npo_gd": "2–3", "ga_gd": "2–3"}
    assert [(pair.first, pair.second, pair.holm <= 0.05) for pair in found.pairs] == [(1, 2, True), (1, 3, True), (2, 3, False)]
    best = found.places[1].row.values["balance"]
    assert (best.mean, best.ci95) == (1.0, (1.0, 1.0))


def test_equal_rows_have_no_difference_at_all(store: Store) -> None:
    for method in ("npo_gd", "ga_gd"):
        finished(store, method, forget=but(3), kept=MANY, knowing=True)
    (found,) = board(store)
    assert [(pair.difference, pair.ci95, pair.p) for pair in found.pairs] == [(0.0, (0.0, 0.0), 1.0)]
    assert set(list(ranks(found).values())[1:]) == {"1–2"}


def test_seeds_are_put_together_and_their_questions_tested_together(store: Store) -> None:
    for seed in (0, 1):
        finished(store, "npo_gd", seed, forget=but(2 + seed), kept=MANY, knowing=True)
    finished(store, "ga_gd", 1, forget=but(20), kept=MANY, knowing=True)
    (found,) = board(store)
    shown = {place.row.label: place.row for place in found.places}
    assert shown["npo_gd"].seeds == [0, 1]
    value = shown["npo_gd"].values["balance"]
    assert value.mean == pytest.approx(np.mean([2 * f / (f + 1) for f in (28 / 30, 27 / 30)]))
    assert value.ci95 is not None
    assert value.ci95[0] < value.mean < value.ci95[1]
    (pair,) = found.pairs
    # Seed 1 is the only one that both have.
    assert pair.difference == pytest.approx(2 * (1 / 3) / (4 / 3) - 2 * 0.9 / 1.9)
    assert "compared on seed 1 only, which both have: rows 1 and 2" in found.remarks


def test_a_pair_that_is_the_other_way_round_on_common_seeds_gives_no_ranks_against_the_order(store: Store) -> None:
    finished(store, "npo_gd", 0, forget=GONE, kept=MANY, knowing=True)
    finished(store, "npo_gd", 1, forget=but(15), kept=MANY, knowing=True)
    finished(store, "ga_gd", 1, forget=but(6), kept=MANY, knowing=True)
    finished(store, "ga_gd", 2, forget=but(20), kept=MANY, knowing=True)
    (found,) = board(store)
    assert list(ranks(found).items())[1:] == [("npo_gd", "1–2"), ("ga_gd", "1–2")]
    assert found.pairs == []
    assert any("rows 1 and 2: on seed 1, which both have, the lower row is above" in remark for remark in found.remarks)


def test_the_tested_number_is_the_balance_that_is_shown() -> None:
    generator = np.random.default_rng(0)
    rows = {f"{split}.000000.{n}": generator.random(9).tolist() for split in ("forget", "retain_unseen") for n in (0, 1)}
    means = [float(np.mean(rows[f"{split}.000000.{n}"])) for n in (0, 1) for split in ("forget", "retain_unseen")]
    assert value_of(rows, balances) == pytest.approx(balance(means[:2], means[2:]).value)


def test_ranks_run_from_what_is_surely_above_to_what_is_not_surely_below() -> None:
    def pair(first: int, second: int, p: float) -> RowPair:
        return RowPair(first=first, second=second, difference=-0.1, p=p, holm=p)

    found = ranks_of([1, 2, 3], [pair(1, 2, 0.2), pair(1, 3, 0.01), pair(2, 3, 0.06)])
    assert found == {1: (1, 2), 2: (1, 3), 3: (2, 3)}


def test_splits_and_models_have_tables_of_their_own(store: Store) -> None:
    finished(store, "npo_gd", knowing=True)
    finished(store, "npo_gd", knowing=True, benchmark__split="forget10")
    assert [found.split for found in board(store)] == ["forget05", "forget10"]


def test_rows_with_the_same_ids_and_other_content_are_not_compared(store: Store) -> None:
    finished(store, "npo_gd", forget=GONE, kept=MANY, knowing=True)
    finished(store, "ga_gd", forget=MANY, kept=MANY, knowing=True, edition="2")
    (found,) = board(store)
    assert found.pairs == []
    assert set(list(ranks(found).values())[1:]) == {"1–2"}
    assert any("rows 1 and 2: 60 questions have the same id but different content" in remark for remark in found.remarks)


def finding(attack: str, share: float) -> Finding:
    numbers = {"n": 8, "groups": 4, "recovered": share, "share": share, "share_ci": (share, share)}
    return Finding(attack, "inside", "plain prompt", True, 1, "intact", "partly", **numbers)


def audited(
    store: Store,
    score: Artefact,
    kind: str,
    *findings: Finding,
    plain: str = "plain edited",
    control: str | None = None,
    n: int = 8,
) -> Artefact:
    """An audit of a run, with the attack that leads to what was erased."""
    erase = store.input_of(store.input_of(score, "edited") or score, "erase")
    assert erase is not None
    attack = artefact(store, "attack", "plain", {"erase": erase})
    audit = Audit("a run", kind, f"{kind}: so it is", [replace(finding("plain", 0.1), n=n), *findings])
    made = artefact(store, "audit", score.path.parent.name, {plain: attack}, config={"audit": {"control": control}})
    return given(made, ("audit.json", json.dumps(audit.to_json())))


def add(score: Artefact, **columns: float) -> None:
    """Columns of the edited model that these observations do not give."""
    metrics = json.loads((score.path / "metrics.json").read_text())
    named = {"memorisation": "forget.memorisation_uds", "mia": "forget.mia_uds", "utility": "all.relative_utility_uds"}
    metrics["states"]["edited"] |= {named[name]: Measure(named[name], value).to_json() for name, value in columns.items()}
    given(score, ("metrics.json", json.dumps(metrics)))


def test_privacy_and_overall_take_uds_from_the_audit_and_the_verdict_is_shown(store: Store) -> None:
    score = finished(store, "npo_gd", knowing=True)
    add(score, memorisation=0.5, mia=0.75, utility=0.9)
    audited(store, score, "suppressed", finding("uds", 0.4), finding("prefix", 0.9))
    audited(store, score, "mostly erased")
    (found,) = board(store)
    place = found.places[-1]
    values = {column: place.row.values[column].mean for column in ("forget.uds", "forget.privacy_uds", "all.overall_uds")}
    assert values == pytest.approx({
        "forget.uds": 0.6, "forget.privacy_uds": 2 / (1 / 0.75 + 1 / 0.6), "all.overall_uds": 3 / (2 + 3 / 2 + 1 / 0.9),
    })  # fmt: skip
    assert place.verdict == "suppressed", "the audit with more attacks"
    assert len(place.audits) == 1


def test_without_an_audit_privacy_and_overall_say_what_mends_them(store: Store) -> None:
    score = finished(store, "npo_gd", knowing=True)
    add(score, memorisation=0.5, mia=0.75, utility=0.9)
    (found,) = board(store)
    values = found.places[-1].row.values
    assert values["forget.memorisation_uds"].mean == 0.5
    told = "no audit of it measured UDS; `unierase audit RUN --attacks uds` does"
    assert values["forget.uds"].unavailable == told
    assert values["all.overall_uds"].unavailable == f"its part privacy is missing: its part uds is missing: {told}"
    assert found.places[-1].verdict == ""
    assert any(told in remark for remark in found.remarks)
    assert f"these runs have no UDS yet; measure it with: unierase audit {score.full_name} --attacks standard" in found.remarks


def test_the_audit_of_a_model_as_it_is_belongs_to_the_run_that_erased_nothing(store: Store) -> None:
    score = finished(store, "none", knowing=True)
    finished(store, "npo_gd", knowing=True)
    made = artefact(store, "audit", "as-it-is", {"plain base": artefact(store, "attack", "plain", {})}, config=score.config)
    audit = Audit("a model", "not forgotten", "not forgotten: so it is", [finding("plain", 1.0)])
    given(made, ("audit.json", json.dumps(audit.to_json())))
    (found,) = board(store)
    assert {place.row.label: place.verdict for place in found.places[1:]} == {"none": "not forgotten", "npo_gd": ""}


def test_an_audit_that_leads_to_no_model_belongs_to_no_run(store: Store) -> None:
    finished(store, "npo_gd", knowing=True)
    made = artefact(store, "audit", "lost", {}, config={})
    given(made, ("audit.json", json.dumps(Audit("a run", "hidden", "hidden: so it is", [finding("plain", 0.1)]).to_json())))
    (found,) = board(store)
    assert (found.places[-1].verdict, found.places[-1].audits) == ("", [])


def test_any_attack_of_an_audit_leads_to_its_run(store: Store) -> None:
    score = finished(store, "npo_gd", knowing=True)
    audited(store, score, "hidden", plain="prefix edited")
    assert board(store)[0].places[-1].verdict == "hidden"


def test_report_and_leaderboard_show_the_same_audit_that_with_most_attacks(store: Store) -> None:
    score = finished(store, "npo_gd", knowing=True)
    most = audited(store, score, "suppressed", finding("prefix", 0.9))
    audited(store, score, "mostly erased")
    erase = store.input_of(store.input_of(score, "edited") or score, "erase")
    assert erase is not None
    shown = audit_of(store, erase.key)
    assert shown is not None
    assert shown.full_name == most.full_name
    assert board(store)[0].places[-1].audits == [most.full_name]
    newest = audited(store, score, "fragile", finding("prefix", 0.9))
    assert board(store)[0].places[-1].audits == [newest.full_name], "of equally many attacks the newest"


@pytest.mark.parametrize(
    ("findings", "control", "told"),
    [
        ([("prefix", 8)], "retain", []),
        ([("noise", 8)], "retain", ["differ in attacks"]),
        ([("prefix", 40)], "facts", ["differ in facts and control"]),
    ],
)
def test_audits_that_asked_something_else_are_remarked(
    store: Store, findings: list[tuple[str, int]], control: str, told: list[str]
) -> None:
    audited(store, finished(store, "npo_gd", knowing=True), "hidden", finding("prefix", 0.4), control="retain")
    others = [replace(finding(attack, 0.4), n=n) for attack, n in findings]
    audited(store, finished(store, "ga_gd", knowing=True), "hidden", *others, control=control, n=findings[0][1])
    remarks = [remark for remark in board(store)[0].remarks if "audits of this table" in remark]
    assert len(remarks) == len(told)
    assert all(word in remark for word, remark in zip(told, remarks, strict=True))


def test_seeds_with_other_verdicts_are_counted(store: Store) -> None:
    for seed, kind in enumerate(("hidden", "hidden", "fragile")):
        audited(store, finished(store, "npo_gd", seed, knowing=True), kind)
    assert board(store)[0].places[-1].verdict == "hidden (2 of 3 seeds), fragile (1 of 3 seeds)"


def test_the_files_are_reused_until_an_audit_is_added(store: Store) -> None:
    score = finished(store, "npo_gd", forget=GONE, kept=MANY, knowing=True)
    finished(store, "ga_gd", forget=MANY, kept=MANY, knowing=True)
    made = [make_leaderboard(store, ["score/*"], reporter=SilentReporter()) for _ in range(2)]
    assert made[0].path == made[1].path
    rows = list(csv.DictReader((made[0].path / "table.csv").open()))
    assert [row["rank"] for row in rows] == ["", "1", "2"]
    assert float(rows[1]["balance"]) == float(rows[1]["balance.low"]) == 1
    text = (made[0].path / "table.md").read_text("utf-8")
    assert "| rank | method | seeds |" in text
    assert "Differences in balance" in text
    page = (made[0].path / "leaderboard.html").read_text("utf-8")
    check_text(page)
    assert "npo_gd" in page
    (found,) = read_leaderboard(made[0]).tables
    assert tables([found])[0].rows[1][:4] == ("1", "npo_gd", "1", "1.000 [1.000, 1.000]")
    assert pairs_table(found).rows[0][:3] == ("npo_gd", "ga_gd", "-1.000")
    audited(store, score, "suppressed")
    assert make_leaderboard(store, ["score/*"], reporter=SilentReporter()).path != made[0].path


def run(store: Store, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--outputs", str(store.root)], prog_name="unierase")


def test_the_command_prints_a_table_or_json_and_show_shows_it_again(store: Store) -> None:
    finished(store, "npo_gd", forget=GONE, kept=MANY, knowing=True)
    printed = run(store, "leaderboard", "score/*")
    assert printed.exit_code == 0, printed.output
    assert printed.stdout == ""
    data = json.loads(run(store, "leaderboard", "score/*", "--json").stdout)
    assert data["stage"] == "leaderboard"
    assert data["tables"][0]["places"][1]["rank"] == "1"
    assert "npo_gd" in run(store, "show", data["name"]).stderr
    assert "leaderboard" in run(store, "ls", "leaderboard").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no RUN is named"),
        (["nothing*"], "no run matches nothing*"),
        (["erase/*"], "has no score"),
        (["latest", "benchmark=tofu"], "benchmark=tofu does not apply"),
        (["latest", "--dry-run"], "--dry-run does not go with RUN"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(words: list[str], message: str, store: Store) -> None:
    artefact(store, "erase", "alone", {})
    result = run(store, "leaderboard", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
