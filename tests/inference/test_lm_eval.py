"""EleutherAI's lm-eval: what becomes of its results, of an absent package, and of a model that this tool exported."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.edited_run import edited
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.export import export
from unierase_cli.inference.lm_harness import folder_fingerprint, rows_of, run_task
from unierase_cli.metrics import general_ability
from unierase_cli.metrics.base import Evidence
from unierase_cli.models.load import LoadedModel
from unierase_cli.pipeline.model_states import apply_erasure, load_base

TASK = "made_up_cities"
YAML = """task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def write_task(folder: Path) -> Path:
    """A task of six questions, as a user would write one."""
    folder.mkdir()
    rows = [
        {"question": f"In which city was person {n} born?", "choices": ["Porto", "Bergen"], "answer": n % 2}
        for n in range(6)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{TASK}.yaml").write_text(YAML.format(task=TASK, data=folder / "rows.jsonl"))
    return folder


def asked(loaded: LoadedModel, folder: Path, task: str = TASK) -> list[dict[str, Any]]:
    return run_task(loaded, task, folder=str(folder), shots=0, rows=None, batch_size=2)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'unierase[lm_eval]'")
    pytest.importorskip("accelerate", reason="lm-eval's models need accelerate: pip install 'unierase[lm_eval]'")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return pytest.importorskip("lm_eval.models.huggingface")


def found(task: str = "made_up") -> dict[str, Any]:
    samples = [{"doc_id": n, "filter": "none", "acc": float(n % 2), "f1": (n, 1)} for n in range(4)]
    totals = {"alias": task, "acc,none": 0.5, "acc_stderr,none": 0.1, "f1,none": 0.25, "sample_len": 4}
    return {
        "results": {task: totals},
        "samples": {task: samples},
        "higher_is_better": {task: {"acc": True, "f1": True}},
    }


def test_a_metric_that_is_a_mean_keeps_its_rows_and_another_its_total() -> None:
    rows = rows_of("made_up", found())
    assert [row["value"] for row in rows if row["metric"] == "acc"] == [0.0, 1.0, 0.0, 1.0]
    assert [(row["total"], row["n"]) for row in rows if row["metric"] == "f1"] == [(0.25, 4)]
    assert {row["higher_is_better"] for row in rows} == {True}


def test_a_result_without_a_number_is_told() -> None:
    with pytest.raises(UserError, match="returned no number"):
        rows_of("made_up", {"results": {"made_up": {"alias": "made_up"}}})


def test_its_metrics_are_columns_with_intervals_where_there_are_rows() -> None:
    evidence = Evidence("base", {}, passes={"general.lm_eval.made_up": rows_of("made_up", found())})
    columns = {column.id: column.result for column in general_ability.columns(evidence)}
    assert set(columns) == {"general.lm_eval.made_up.acc", "general.lm_eval.made_up.f1"}
    assert columns["general.lm_eval.made_up.acc"].ci95 is not None
    assert (columns["general.lm_eval.made_up.f1"].value, columns["general.lm_eval.made_up.f1"].ci95) == (0.25, None)


def test_without_the_package_the_column_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    rows = run_task(tiny_llama(), "arc_challenge", folder=None, shots=None, rows=None, batch_size=0)
    (column,) = general_ability.columns(Evidence("base", {}, passes={"general.lm_eval.arc_challenge": rows}))
    assert column.result.value is None
    assert "pip install 'unierase[lm_eval]'" in str(column.result.unavailable)


def test_a_folder_of_tasks_counts_by_its_content(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "tasks")
    before = folder_fingerprint(str(folder))
    (folder / "rows.jsonl").write_text("{}\n")
    assert folder_fingerprint(str(folder)) != before
    assert folder_fingerprint(None) == ""
    with pytest.raises(UserError, match="lm_eval_folder=nowhere is not a folder"):
        folder_fingerprint("nowhere")


@pytest.mark.usefixtures("harness")
def test_an_unknown_task_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="eval.general.lm_eval=no_such_thing is not a task"):
        asked(tiny_llama(), write_task(tmp_path / "tasks"), "no_such_thing")


def test_an_exported_model_gives_lm_eval_the_numbers_that_the_stage_has(harness: Any, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder = write_task(tmp_path / "tasks")
    config, erased = edited(tiny_llama(), tmp_path)
    export(erased, tmp_path / "merged", SilentReporter(), config.run.outputs)
    loaded = load_base(config, {}, SilentReporter())
    apply_erasure(loaded, erased.path)
    rows = asked(loaded, folder)
    assert len(rows) == 6
    exported = harness.HFLM(
        pretrained=str(tmp_path / "merged"), dtype="float32", device="cpu", batch_size=2, add_bos_token=True
    )
    again = simple_evaluate(
        model=exported, tasks=[TASK], num_fewshot=0, task_manager=TaskManager(include_path=str(folder))
    )
    assert again["results"][TASK]["acc,none"] == pytest.approx(sum(row["value"] for row in rows) / 6)
    assert [row["value"] for row in rows] == [sample["acc"] for sample in again["samples"][TASK]]


@pytest.mark.usefixtures("harness")
def test_the_model_and_its_tokenizer_are_left_as_they_were(tmp_path: Path) -> None:
    loaded = tiny_llama()
    before = (loaded.tokenizer.pad_token, loaded.tokenizer.padding_side, loaded.model.config.to_dict())
    assert 0 <= sum(row["value"] for row in asked(loaded, write_task(tmp_path / "tasks"))) <= 6
    assert (loaded.tokenizer.pad_token, loaded.tokenizer.padding_side, loaded.model.config.to_dict()) == before
    save_folder(loaded, tmp_path / "still-whole")
