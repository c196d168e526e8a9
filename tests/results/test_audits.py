"""Audits as tables, as pictures, and several of them in one place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.pages import check_text
from unierase_cli.audit.findings import Audit, Example, Finding
from unierase_cli.audit.series import Block, Curve, Point, Rounded
from unierase_cli.cli.app import app
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.results.audits.picture import heat_map
from unierase_cli.results.audits.series_pictures import depth_by_block, relearning_curves
from unierase_cli.results.audits.series_tables import rounding_table, speed_table
from unierase_cli.results.audits.tables import (
    attack_table,
    best_table,
    example_table,
    markdown,
    most,
    notes,
    sentences,
    share_table,
)
from unierase_cli.results.audits.together import read_audits, together
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import write_json


def finding(attack: str, kind: str, share: float | None, setting: str = "default", headline: bool = True, **more: Any) -> Finding:
    spread = None if share is None else (share - 0.1, share + 0.1)
    told = {"word": "partly", "n": 40, "groups": 2, "recovered": 0.4, "plain": 0.03, "control": 0.17, **more}
    return Finding(attack, kind, setting, headline, 1, "recall", share=share, share_ci=spread, **told)


AUDIT = Audit(
    "unierase on tofu forget01, tofu_mini, seed 0",
    "suppressed",
    "suppressed: prompts alone bring back 0.97 (prefix); retain recall 0.957 (0.960 before)",
    [
        finding("plain", "prompts", 0.02),
        finding("relearn_part", "relearning", 0.3, trained=0.5),
        finding("paraphrase", "prompts", None, why_no_share="too close", word="unavailable"),
        finding("prefix", "prompts", 0.97, "4 given", recovered=0.985, word="recovered",
                examples=[Example("Where?", "In <b>Rome</b> | there", "In Rome", "In Bonn")]),
        finding("prefix", "prompts", 0.99, "8 given", headline=False, recovered=0.99, control=0.3),
        finding("int4", "weights", 0.4, word="breaks the model", retained=0.2),
    ],
    0.957, 0.96, {"uds": "no unedited model"}, ["the facts are of 2 groups"],
)  # fmt: skip
CURVES = [
    Curve("relearn_part", "10 %", "steps", [Point(0, 0.1, (0.0, 0.2)), Point(10, 0.6, (0.5, 0.7))], [Point(0, 0.1), Point(10, 0.2)],
          [Point(0, 1.0), Point(10, 1.0)], 0.5, {"unlearned": 8.0, "ceiling": 0.0}, 0.32, at_least=True),
    Curve("relearn_groups", "other groups", "epochs", [Point(0, 0.1), Point(6, 0.2)]),
]  # fmt: skip
BLOCKS = [Block("uds", "plain prompt", place, 4, 0.5, 2.0, 1.0) for place in range(3)] + [Block("cka", "plain prompt", 0, 1, 0.5)]
ROUNDED = [Rounded("int8", "blocks.1.down", 0.25, 1.5), Rounded("int4", "blocks.1.down", 0.875, 0.1)]
SERIES = replace(AUDIT, curves=CURVES, blocks=BLOCKS, rounding=ROUNDED)
OTHER = replace(AUDIT, title="npo_gd on tofu forget01, tofu_mini, seed 0", findings=[*AUDIT.findings[:2]], retained=None)


def test_attacks_stand_by_class_then_by_share_plain_questions_first() -> None:
    table = attack_table(AUDIT)
    assert [row[1] for row in table.rows] == ["plain", "prefix", "paraphrase", "int4", "relearn_part"]
    assert table.rows[1][2:] == ("4 given", "0.030", "0.985", "0.170", "n/a", "n/a", "0.97 [0.87, 1.07]", "40", "recovered")
    assert len(attack_table(AUDIT, everything=True).rows) == len(AUDIT.findings)


def test_the_best_of_several_settings_stands_beside_the_controls_best() -> None:
    assert best_table(AUDIT).rows == (("prefix", "2", "8 given", "0.990", "0.300"),)


def test_what_has_to_be_known_is_said() -> None:
    told = notes(AUDIT)
    assert "uds was left out: no unedited model" in told
    assert "under int4: retain recall 0.200 (0.957 without it)" in told
    assert "relearn_part did not learn its own training facts (recall 0.50), so it shows little" in told
    assert {"paraphrase: no share: too close", "the facts are of 2 groups"} <= set(told)


def test_the_most_that_comes_back_is_said_in_words() -> None:
    assert sentences(AUDIT) == [
        "Under prefix (4 given) the model gives back 0.98 of the answers (plain questions: 0.03); "
        "a model that never learned them reaches 0.17."
    ]


def test_what_breaks_the_model_or_is_weak_makes_no_headline() -> None:
    broken = finding("noise", "weights", 1.0, recovered=0.99, word="breaks the model")
    weak = finding("interpolate", "weights", 1.0, recovered=0.99, weak=True)
    assert sentences(replace(AUDIT, findings=[*AUDIT.findings, broken, weak])) == sentences(AUDIT)
    assert sentences(replace(AUDIT, findings=[AUDIT.findings[0], broken, weak])) == []


def test_the_verdicts_own_attack_makes_the_headline() -> None:
    found = most(replace(AUDIT, line="fragile: int8 brings back 0.60; retain recall 0.957", findings=[
        *AUDIT.findings, finding("int8", "weights", 0.6)]))  # fmt: skip
    assert found is not None
    assert found.attack == "int8"


def test_what_did_not_learn_or_has_no_share_comes_after_what_says_something() -> None:
    weak = finding("relearn_groups", "relearning", 0.9, trained=0.5)
    without = finding("paraphrase", "prompts", None, recovered=0.99)
    below = finding("prefix", "prompts", -0.02, recovered=0.05)
    found = most(replace(AUDIT, line="no recovery found by 2 attacks; retain recall 0.957", findings=[weak, without, below]))
    assert found == below


def test_attacks_with_a_score_of_their_own_may_make_the_headline() -> None:
    inside = replace(finding("uds", "inside", 0.6, recovered=0.6, plain=None), score="intact")
    audit = replace(AUDIT, line="readable inside: UDS 0.40; retain recall 0.957", findings=[inside])
    assert sentences(audit) == ["Under uds (default) the model has intact 0.60; a model that never learned them reaches 0.17."]


def test_harmless_training_is_never_too_weak() -> None:
    benign = finding("relearn_benign", "relearning", 0.3, trained=0.5, benign=True)
    assert not [note for note in notes(replace(AUDIT, findings=[benign])) if "did not learn" in note]


def test_the_report_shows_verdict_numbers_and_examples_and_escapes_them() -> None:
    text = markdown(AUDIT, "audit.png")
    assert text.startswith("# Audit: unierase on tofu forget01")
    assert "**suppressed: prompts alone bring back 0.97 (prefix)" in text
    assert "](audit.png)" in text
    assert "<b>" not in text
    assert len(example_table(AUDIT, width=4).rows[0][1]) == 4


def test_the_picture_takes_runs_that_lack_an_attack_or_a_share(tmp_path: Path) -> None:
    for name, audits in {"one": [AUDIT], "two": [AUDIT, OTHER], "bare": [replace(AUDIT, findings=AUDIT.findings[:1])]}.items():
        heat_map(audits, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_how_soon_it_is_relearned_and_what_rounding_undoes_stand_in_tables() -> None:
    assert speed_table(SERIES).rows == (("relearn_part", "10 %", "8 steps", "not in 10 steps", "0 steps", "at least 0.3"),)
    table = rounding_table(SERIES)
    assert table.columns == ("matrix", "int8 undone", "int8 largest", "int4 undone", "int4 largest")
    assert table.rows == (("blocks.1.down", "0.250", "1.50", "0.875", "0.10"),)
    text = markdown(SERIES, "audit.png", {"recall while the models relearn": "curves.png"})
    assert "](curves.png)" in text
    assert "What rounding undoes" in text
    assert "How soon" not in markdown(AUDIT, None)


def test_entities_and_probabilities_are_no_best_setting() -> None:
    entity = replace(finding("prefix", "prompts", 1.0, "4 given, entity", headline=False, recovered=1.0), score="entity")
    assert best_table(replace(AUDIT, findings=[*AUDIT.findings, entity])).rows == best_table(AUDIT).rows


def test_curves_and_blocks_are_drawn_and_read_back(tmp_path: Path) -> None:
    relearning_curves(CURVES, tmp_path / "curves.png")
    depth_by_block(BLOCKS, tmp_path / "blocks.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("curves.png", "blocks.png"))
    assert Audit.from_json(json.loads(json.dumps(SERIES.to_json()))) == SERIES


def test_several_runs_stand_side_by_side() -> None:
    table = share_table([AUDIT, OTHER])
    assert table.columns == ("attack", "1: unierase on tofu forget01", "2: npo_gd on tofu forget01")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["plain"][0] == rows["plain"][1]
    assert rows["prefix"][1] == "n/a"
    assert rows["retain recall"] == ("0.957", "n/a")


def made(store: Store, slug: str, audit: Audit) -> Artefact:
    draft = store.draft("audit", slug, f"key of {slug}", fresh=True)
    write_json(draft.path / "audit.json", audit.to_json())
    (draft.path / "audit.md").write_text(markdown(audit, None), "utf-8")
    return draft.complete({"stage": "audit", "key": f"key of {slug}", "finished": 1.0, "inputs": {}, "config": {}})


def test_audits_together_are_an_artefact_that_is_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts = [made(store, "one", AUDIT), made(store, "two", OTHER)]
    first = together(store, parts, reporter=SilentReporter(), command=["unierase"])
    assert read_audits(first) == [AUDIT, OTHER]
    assert "npo_gd on tofu" in (first.path / "audits.md").read_text("utf-8")
    check_text((first.path / "audits.html").read_text("utf-8"))
    assert together(store, parts, reporter=SilentReporter(), command=["unierase"]).path == first.path
    assert together(store, parts, reporter=SilentReporter(), command=["unierase"], force=True).path != first.path


@pytest.mark.parametrize(
    ("run", "words"), [("one@v001", ["suppressed", "Every setting"]), ("one-and-1@v001", ["npo_gd on", "prefix"])]
)
def test_an_audit_is_shown(tmp_path: Path, run: str, words: list[str]) -> None:
    store = Store(tmp_path)
    together(store, [made(store, "one", AUDIT), made(store, "two", OTHER)], reporter=SilentReporter(), command=[])
    shown = CliRunner().invoke(app, ["show", run, "--outputs", str(tmp_path)], prog_name="unierase")
    assert shown.exit_code == 0, shown.output
    assert all(word in shown.output for word in words)
    told = CliRunner().invoke(app, ["show", run, "--outputs", str(tmp_path), "--json"], prog_name="unierase")
    assert json.loads(told.stdout)[{"one@v001": "audit"}.get(run, "audits")]


def test_a_damaged_audit_is_told_in_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    draft = store.draft("audit", "bad", "some key", fresh=True)
    write_json(draft.path / "audit.json", {"attacks": {"plain": {"plain": {"n": "many"}}}})
    bad = draft.complete({"stage": "audit", "key": "some key", "finished": 1.0, "inputs": {}})
    with pytest.raises(UserError, match="damaged"):
        together(store, [bad], reporter=SilentReporter(), command=[])
