"""Of a hazardous benchmark reports show ids and scores, and no texts."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.answered_runs import RIGHT, SKY, finished
from tests.helpers.recorded import scored, state
from unierase_cli.benchmarks.parts.shown import hides_texts, texts_fingerprint
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.results.page.answers import answers_html
from unierase_cli.results.page.run_answers import answers_of
from unierase_cli.results.runs import read_scores
from unierase_cli.results.two_runs.pair import compare_pair
from unierase_cli.results.two_runs.tables import tables
from unierase_cli.store.artefacts import Store


def test_a_benchmarks_own_file_says_it() -> None:
    assert hides_texts(BenchmarkConfig(name="wmdp"))
    assert hides_texts({"name": "mine", "implementation": "wmdp"})
    assert hides_texts(BenchmarkConfig(name="revealed", gold="wmdp"))
    assert not hides_texts(BenchmarkConfig())
    assert not hides_texts({"name": "of a package that is gone"})
    assert (texts_fingerprint(BenchmarkConfig(name="wmdp")), texts_fingerprint(BenchmarkConfig())) == ({"texts": "hidden"}, {})


def test_scores_have_no_examples(tmp_path: Path) -> None:
    run = scored(Store(tmp_path), benchmark="wmdp")
    found = read_scores(run)
    assert found.examples == []
    assert "lives in the town" not in run.file("metrics.json").read_text("utf-8")
    assert found.measure("edited", "forget.rouge").n == 8
    assert read_scores(scored(Store(tmp_path), "shown")).examples


def test_a_page_shows_ids_and_recall(tmp_path: Path) -> None:
    scores = read_scores(scored(Store(tmp_path)))
    before, after = ({(split, "plain"): rows for split, rows in state(learned).items()} for learned in (1.0, 0.2))
    page = answers_html(answers_of(scores, before, after, hidden=True))
    assert "forget-3" in page
    assert "recall" in page
    assert "lives in the town" not in page
    assert "Where does" not in page


def test_a_comparison_names_the_ids_that_changed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    a = finished(store, "npo_gd", benchmark__name="wmdp")
    b = finished(store, "ga_gd", forget=dict.fromkeys(RIGHT, "I do not know."), benchmark__name="wmdp")
    compared = compare_pair(store, [a.full_name, b.full_name])
    assert compared.questions[0].difference == -1
    text = "".join(table.markdown() for table in tables(compared))
    assert "| f0 |" in text
    assert SKY not in text
    assert "I do not know" not in text
