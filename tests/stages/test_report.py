"""The report's tables, files and picture, from scored observations of two made-up model states."""

from __future__ import annotations

import ast
import copy
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.helpers.pages import check_text
from tests.helpers.report_rows import REFUSAL, observed
from unierase_cli.audit.findings import Audit
from unierase_cli.cli.tables import console_on, show
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Measure, SilentReporter
from unierase_cli.delivery.adapter_card import adapter_card
from unierase_cli.metrics import refusal_rule
from unierase_cli.metrics.base import NO_TOKEN, Evidence
from unierase_cli.metrics.compare import compare
from unierase_cli.metrics.scores import Scores
from unierase_cli.pipeline.observation_files import Pass, Plan
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.results import pictures
from unierase_cli.results.one_run import tables as result_tables
from unierase_cli.results.pictures import Point, forgetting_against_retention
from unierase_cli.results.table import Table
from unierase_cli.stages import report
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.jsonl import write_jsonl


@pytest.fixture
def scores() -> Scores:
    def evidence(state: str) -> Evidence:
        seen = {(s, "plain"): [observed(state, s, n) for n in range(6)] for s in ("forget", "retain_unseen")}
        if state == "edited":
            seen["forget", "unlearn_forbidden"] = [observed(state, "forget", n, "unlearn_forbidden") for n in range(6)]
        return Evidence(state, seen, refusals=[REFUSAL], special_ids=[9])

    return compare(evidence("base"), evidence("edited"))


def test_the_headline_tells_forgetting_and_retention_before_and_after(scores: Scores) -> None:
    rows = {row[0]: row for row in result_tables.headline_table(scores).rows}
    forget = next(cells for name, cells in rows.items() if name.startswith("forget: ROUGE"))
    retain = next(cells for name, cells in rows.items() if name.startswith("retain, never seen: ROUGE"))
    assert forget[1:4] == ("1.000", "0.000", "-1.000")
    assert retain[1:4] == ("1.000", "1.000", "+0.000")


def test_refusals_by_rule_are_in_the_headline_only_where_they_differ_from_the_listed_ones(scores: Scores) -> None:
    names = [row[0] for row in result_tables.headline_table(scores).rows]
    assert "forget: clean refusals" in names
    assert not any("by rule" in name for name in names)
    column = f"forget.{refusal_rule.NAME}"
    scores.states["edited"][column] = replace(scores.states["edited"][column], value=0.5)
    names = [row[0] for row in result_tables.headline_table(scores).rows]
    assert names[names.index("forget: clean refusals") + 1] == "forget: refusals by rule v2"
    scores.states["edited"][column] = Measure(unavailable="another script")
    assert not any("by rule" in row[0] for row in result_tables.headline_table(scores).rows)


def test_what_comes_back_with_the_token_forbidden_is_told(scores: Scores) -> None:
    rows = result_tables.honesty_table(scores).rows
    forbidden = next(row for row in rows if "[UNL] forbidden" in row[0])
    assert forbidden[1:3] == ("n/a", "1.000")


def test_of_a_method_without_a_token_nothing_is_said_of_it(scores: Scores) -> None:
    without = copy.deepcopy(scores)
    for column in without.columns:
        if "[UNL]" in column.title:
            without.states["edited"][column.id] = Measure(unavailable=NO_TOKEN)
    table = result_tables.honesty_table(without)
    assert not any("[UNL]" in row[0] for row in (*table.rows, *result_tables.headline_table(without).rows))
    assert "hides facts" not in table.caption
    assert "hides facts" in result_tables.honesty_table(scores).caption


def test_cells_are_escaped_in_markdown() -> None:
    table = Table("T", ("a", "b"), (("x|y", "<b>1</b>"),), frozenset({"b"}))
    assert "x\\|y" in table.markdown()
    assert "---:" in table.markdown()


STRANGE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![x](http://example.org/x.png)", "[here](http://example.org)",
    "\\](http://example.org) [a\\", "a | b", "`code` and ``` fence", "**bold** and *thin* and ~~gone~~",
    "two\nlines", "&lt;b&gt; &amp; &#60;",
    "[x]: http://example.org", "<http://example.org>", "\\<b>", "trailing\\",
)  # fmt: skip
READABLE = ("[UNL]", "<unlearn_0>", "[bold]", "Tom & Jerry", "5 > 4", "snake_case", "#1!")


def rendered(markdown: str) -> tuple[str, str]:
    """The page that Markdown becomes, and its text."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    return page, html.unescape(re.sub(r"<[^>]*>", "", page))


@pytest.mark.parametrize("text", [*STRANGE, *READABLE])
def test_a_strange_text_in_a_cell_reads_as_it_is_and_does_nothing(text: str) -> None:
    table = Table("T", ("a", text), ((text, "b"), ("c", text)), strong=frozenset({(1, 1)}))
    page, told = rendered(table.markdown())
    assert set(re.findall("<(/?\\w+)", page)) <= {
        f"{end}{tag}" for tag in ("h3", "table", "thead", "tbody", "tr", "th", "td", "strong") for end in ("", "/")
    }
    assert told.count(" ".join(text.split("\n"))) == 3


@pytest.mark.parametrize("text", STRANGE)
def test_a_strange_text_in_a_title_or_a_remark_brings_in_no_html_no_link_and_no_image(text: str) -> None:
    page, _ = rendered(report._markdown(text, {"model": text}, [Table(text, ("a",), (), caption=text)], [text]))
    assert not re.search("<(script|img|a|b)\\b", page)


def test_a_name_with_quotes_and_line_breaks_stays_within_its_line_of_an_adapters_card() -> None:
    record = {
        "run": "a`b@v001", "base": {"source": 'x"\nlicense: mit\n'}, "resize_to": None, "reserved_tokens": False,
        "rank": 1, "kept": 1.0,
        "rank_of_change": 1, "unlearning_tokens": {"<script>`": 3}, "prompts": 1, "largest_logit_error": 0.0, "largest_logit": 1.0,
        "same_next_token": 1.0,
    }  # fmt: skip
    text = adapter_card(record, 'out"put')
    head = yaml.safe_load(text.split("---")[1])
    assert head == {"library_name": "peft", "base_model": 'x"\nlicense: mit\n'}
    ast.parse(text.partition("```python")[2].partition("```")[0])
    assert "<script>" not in rendered(text)[0]


def test_the_terminal_shows_text_as_it_is_and_control_characters_written_out() -> None:
    stream = io.StringIO()
    show(console_on(stream, interactive=False), Table("[T]", ("a",), (("[bold]x[/bold] :smile: \x1b]0;name\x07",),)))
    assert "[bold]x[/bold] :smile: \\x1b]0;name\\x07" in stream.getvalue()


def made_from(scores: Scores, folder: Path) -> dict[str, Artefact]:
    """A report's inputs: the scores, the edit, and what the two model states answered."""
    found = {}
    for name in ("score", "erase", "base", "edited"):
        path = folder / name / "v001"
        path.mkdir(parents=True)
        found[name] = Artefact(path, {"stage": name, "key": "k" * 64, "wall_seconds": 1.0})
    (found["score"].path / "metrics.json").write_text(json.dumps(scores.to_json()))
    for state in ("base", "edited"):
        rows = [observed(state, "forget", number) for number in range(6)]
        asked = Pass("forget", "plain", [row.fact_id for row in rows], [list(range(6))])
        Plan(state, [], [], [asked]).save(found[state].path)
        write_jsonl(found[state].path / asked.file, [row.to_json() for row in rows])
    return found


def test_a_report_has_its_tables_its_picture_and_nothing_from_outside(scores: Scores, tmp_path: Path) -> None:
    inputs = made_from(scores, tmp_path)
    layer = dict.fromkeys(
        ("layer", "rank", "size", "mean_kbk", "lambda_", "applied", "residual_before", "residual_after", "relative_norm"), 1
    )
    (inputs["erase"].path / "patch-000.json").write_text(json.dumps({"info": {"layers": [layer], "changed_share": 0.0366}}))
    out = tmp_path / "report"
    out.mkdir()
    report.run(StageContext(study_of(Experiment()), out, inputs, SilentReporter()))
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    assert "Answers before and after" in text
    assert "3.66 % of the parameters changed" in text
    assert REFUSAL in page
    check_text(page)
    assert (out / report.PICTURE).read_bytes()[:4] == b"\x89PNG"
    # These rows are of no benchmark: no map, and the report says why.
    assert "no map of collateral damage: the benchmark has none of the scored rows" in text
    assert json.loads((out / report.COLLATERAL).read_text())["groups"] == []


def test_a_report_maps_collateral_damage_where_the_benchmark_has_groups(scores: Scores, tmp_path: Path) -> None:
    unseen = [fact.id for fact in study_of(Experiment()).benchmark.splits["retain_unseen"]]
    scores.facts["retain_unseen.plain"] = unseen
    for number, state in enumerate(("base", "edited")):
        values = tuple(1.0 - number * (index % 5) / 5 for index in range(len(unseen)))
        scores.states[state]["retain_unseen.rouge"] = replace(scores.states[state]["retain_unseen.rouge"], per_sample=values)
    inputs = made_from(scores, tmp_path)
    made = report.run(StageContext(study_of(Experiment()), tmp_path, inputs, SilentReporter()))
    assert {report.COLLATERAL, report.COLLATERAL_PICTURE} < set(made["files"])
    assert all((tmp_path / name).exists() for name in made["files"])
    text, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    assert "Collateral damage by group" in text
    assert f"]({report.COLLATERAL_PICTURE})" in text
    assert page.count("<svg") == 2
    groups = json.loads((tmp_path / report.COLLATERAL).read_text())["groups"]
    assert sum(row["n"] for row in groups) == len(unseen)


def test_numbers_of_a_single_row_are_said_to_have_no_interval(scores: Scores) -> None:
    assert "single row" not in result_tables.headline_table(scores).caption
    scores.states["edited"]["forget.rouge"] = replace(scores.states["edited"]["forget.rouge"], n=1, ci95=None)
    assert result_tables.headline_table(scores).caption == "For a single row there is no interval: forget: ROUGE-L recall."


def test_a_gradient_methods_patch_has_no_table_of_layers() -> None:
    layer = dict.fromkeys(
        ("layer", "rank", "size", "mean_kbk", "lambda_", "applied", "residual_before", "residual_after", "relative_norm"), 1
    )
    infos = [{"step": 0, "changed_share": 1.0}, {"layers": [layer], "changed_share": 0.5}]
    assert [table.caption for table in result_tables.layer_tables(infos)] == ["50.00 % of the parameters changed"]


def test_equal_points_give_an_equal_picture(tmp_path: Path) -> None:
    points = [Point("before", 1.0, 1.0), Point("after", 0.0, 0.9, (0.0, 0.1), (0.8, 1.0))]
    for name in ("a.png", "b.png"):
        forgetting_against_retention(points, tmp_path / name, title="t")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(("retain", "told"), [(1.0, "(higher is better, from 0.80)"), (0.05, "(higher is better)")])
def test_an_axis_that_leaves_out_0_says_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retain: float, told: str
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: seen.append(figure.axes[0].get_ylabel()))
    points = [Point("before", 1.0, 1.0), Point("after", 0.0, min(retain, 0.9))]
    forgetting_against_retention(points, tmp_path / "a.png", title="t")
    assert seen == [f"retain, never seen: ROUGE-L recall {told}"]


def test_a_finished_audit_of_the_same_model_is_shown_and_makes_the_report_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def made(stage: str, key: str, inputs: dict[str, Artefact]) -> Artefact:
        draft = store.draft(stage, key, key, fresh=True)
        if stage == "audit":
            (draft.path / "audit.json").write_text(json.dumps(Audit("a run", "suppressed", "suppressed", []).to_json()), "utf-8")
        sources = {name: {"path": str(a.path), "key": a.key} for name, a in inputs.items()}
        return draft.complete({"stage": stage, "key": key, "finished": float(len(store.list())), "inputs": sources})

    erase, other = made("erase", "mine", {}), made("erase", "other", {})
    assert report.also(store, {"erase": "mine"}) == {}
    attacks = {key: made("attack", f"attack on {key}", {"erase": of}) for key, of in (("mine", erase), ("other", other))}
    first, second = (made("audit", name, {"plain edited": attacks["mine"]}) for name in ("first", "second"))
    made("audit", "third", {"plain edited": attacks["other"]})
    assert report.also(store, {"erase": "mine"})["audit"].path == second.path != first.path


def test_what_a_report_shows_beside_its_inputs_counts_in_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Experiment()
    model = replace(usual.model, path="someone/a-model")
    experiment = replace(usual, model=model, run=replace(usual.run, outputs=str(tmp_path)))
    keys = []
    for shown in ({}, {"audit": Artefact(tmp_path, {"key": "a"})}, {"audit": Artefact(tmp_path, {"key": "b"})}):
        monkeypatch.setattr(report, "also", lambda store, given, shown=shown: shown)
        keys.append(Pipeline(experiment, SilentReporter()).key(Request("report")))
    assert len(set(keys)) == 3
