"""Logs of TOFU and closer-look: parity with the numbers of the code that wrote them, and what is wrong with bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from unierase_cli.cli.app import app
from unierase_cli.contracts import Measure, UserError
from unierase_cli.interchange.tofu_log import SETS, read_log
from unierase_cli.interchange.tofu_scores import LogScores, score_log
from unierase_cli.metrics import closer_look

TOLERANCE = 1e-9
TOFU_RUNS = [f"{m}_{s}_wd0.01" for m in ("llama2-7b", "phi") for s in ("full", "retain90", "retain95", "retain99")]
CLOSER_RUNS = ["llama3.1-8b", "llama3.2-1b"]
TITLES = {
    "retain_unseen": "Retain",
    "real_authors": "Real Authors",
    "world_facts": "Real World",
    "forget": "Forget",
}
CLOSER_NAMES = {
    "rouge": "ROUGE",
    "probability": "Probability",
    "truth_ratio": "Truth Ratio",
    "token_entropy": "Token Entropy",
    "cosine_similarity": "Cosine Similarity",
    "entailment_score": "Entailment Score",
}


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, words)], prog_name="unierase")


def one_set(rows: int = 3, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "avg_gt_loss": [0.5 + 0.1 * n for n in range(rows)],
        "avg_paraphrased_loss": [1.0 + 0.2 * n for n in range(rows)],
        "average_perturb_loss": [[1.5, 2.0 + 0.1 * n] for n in range(rows)],
        "rougeL_recall": [1.0, 0.5, 0.25, 0.75][:rows],
        "generated_text": [[f"question {n}", "said", "truth"] for n in range(rows)],
    }
    fields |= changes
    return {name: value for name, value in fields.items() if value is not None}


def log(rows: int = 3, **changes: Any) -> dict[str, Any]:
    """A small whole log; ``changes`` are made to the forget set."""
    return {name: one_set(rows, **(changes if split == "forget" else {})) for split, name in SETS.items()}


def by_index(data: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """The same log as TOFU writes it: every field ``{index: value}``, in this order."""
    return {
        name: {field: {str(n): values[n] for n in order} for field, values in fields.items()}
        for name, fields in data.items()
    }


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


@pytest.fixture
def golden(shared: Path) -> Path:
    return shared / "golden"


def expected(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def near(value: float) -> Any:
    return pytest.approx(value, rel=TOLERANCE, abs=1e-12)


def closer_numbers(scores: LogScores) -> dict[str, float | None]:
    """Our numbers under closer-look's names."""
    found = {
        f"{TITLES[split]} {CLOSER_NAMES[name]}": scores.members[split][name].value
        for split in scores.log.sets
        for name in CLOSER_NAMES
    }
    found["Forget Truth Ratio"] = scores.upside_down.value
    real_world = "real_authors" not in scores.log.sets
    names = {"Model Utility": "model_utility_closer_look_neighbour" if real_world else "model_utility_closer_look"}
    names |= {"Model Utility Retain": "model_utility_closer_look_retain", "Forget Efficacy": "forget_efficacy"}
    return found | {title: scores.aggregates[name].value for title, name in names.items()}


@pytest.mark.parametrize("name", TOFU_RUNS)
def test_golden_model_utility_of_tofus_logs_in_both_definitions(golden: Path, name: str) -> None:
    wanted = expected(golden / "tofu-logs" / "expected.json")
    scores = score_log(read_log(golden / "tofu-logs" / f"{name}.json"))
    assert scores.log.wrote == "TOFU"
    geometric = wanted["aggregate_eval_stat.get_model_utility"][name]
    arithmetic = wanted["utils.get_model_utility"][name]
    assert scores.aggregates["model_utility"].value == near(geometric["Model Utility"])
    assert scores.aggregates["model_utility_arithmetic"].value == near(arithmetic["Model Utility"])
    for split, title in TITLES.items():
        members = scores.members[split]
        assert members["rouge"].value == near(geometric[f"ROUGE {title}"])
        assert members["probability"].value == near(geometric[f"Prob. {title}"])
        assert members["truth_ratio"].value == near(geometric[f"Truth Ratio {title}"])
        assert members["truth_ratio_arithmetic"].value == near(arithmetic[f"{title} Truth Ratio"])
    assert "no token_entropy" in str(scores.aggregates["model_utility_closer_look"].unavailable)


@pytest.mark.parametrize("model", ["llama2-7b", "phi"])
def test_golden_forget_quality_of_tofus_logs(golden: Path, model: str) -> None:
    names = [f"{model}_{split}_wd0.01" for split in ("full", "retain90")]
    wanted = expected(golden / "tofu-logs" / "expected.json")["aggregate_eval_stat.get_forget_quality"][
        " vs ".join(names)
    ]
    found = score_log(*(read_log(golden / "tofu-logs" / f"{name}.json") for name in names)).forget_quality
    assert found.statistic == near(wanted["KS Test Forget"])
    assert found.p == pytest.approx(wanted["Forget Quality"], rel=1e-6)
    assert (found.n, found.n_retain) == (wanted["n_full"], wanted["n_retain"])
    assert 10 ** (found.log10_p or 0) == pytest.approx(wanted["Forget Quality"], rel=1e-6)


def test_golden_logs_of_other_forget_sets_are_refused_with_how_many_rows_differ(golden: Path) -> None:
    full, other = (golden / "tofu-logs" / f"llama2-7b_{split}_wd0.01.json" for split in ("full", "retain99"))
    with pytest.raises(UserError, match="other forget questions .* 260 of 300 differ by index"):
        score_log(read_log(full), read_log(other))


@pytest.mark.parametrize("model", CLOSER_RUNS)
def test_golden_numbers_of_closer_looks_logs(golden: Path, model: str) -> None:
    wanted = expected(golden / "closer-logs" / "expected.json")[model]
    scores = score_log(read_log(golden / "closer-logs" / f"{model}_forget10_UniErase-M.json"))
    assert scores.log.wrote == "closer-look"
    found = closer_numbers(scores)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == near(value), name


@pytest.mark.parametrize("sets", [4, 2])
def test_golden_numbers_of_closer_looks_synthetic_logs(golden: Path, tmp_path: Path, sets: int) -> None:
    data = expected(golden / "metrics" / "closer_aggregate_synthetic.json")
    kept = list(SETS.values()) if sets == 4 else ["eval_log.json", "eval_log_forget.json"]
    scores = score_log(read_log(write(tmp_path / "log.json", {name: data["input"][name] for name in kept})))
    wanted = data["expected_4_sets" if sets == 4 else "expected_2_sets_real_world"]
    found = closer_numbers(scores)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == near(value), name


def test_closer_looks_aggregates_take_numbers_as_well_as_results() -> None:
    members = dict.fromkeys(closer_look.MEMBERS, 0.5)
    assert closer_look.model_utility_retain(members).value == pytest.approx(0.5)
    assert closer_look.model_utility(dict.fromkeys(closer_look.KEPT, members)).n == 18
    # Nothing left: every member 0, and the truth ratio 1, which closer-look turns upside down.
    gone = {**dict.fromkeys(closer_look.MEMBERS, 0.0), "truth_ratio": 1.0}
    assert closer_look.forget_efficacy(gone).value == 1
    assert closer_look.forget_efficacy({**gone, "token_entropy": 1.0}).value == 1


def test_an_aggregate_is_never_made_of_fewer_members() -> None:
    members: dict[str, Measure | float] = {**dict.fromkeys(closer_look.MEMBERS, 0.5)}
    members["entailment_score"] = Measure("entailment_score", None, unavailable="eval.nli is null")
    for found in (closer_look.model_utility_retain(members), closer_look.forget_efficacy(members)):
        assert found.value is None
        assert "entailment_score" in str(found.unavailable)
        assert "eval.nli is null" in str(found.unavailable)
    del members["cosine_similarity"]
    assert "and 1 more of its 5 parts" in str(closer_look.forget_efficacy(members).unavailable)


def test_both_forms_of_values_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    lists = score_log(read_log(write(path, log(4))))
    indexed = score_log(read_log(write(path, by_index(log(4), [0, 1, 2, 3]))))
    assert lists.aggregates == indexed.aggregates
    shuffled = score_log(read_log(write(path, by_index(log(4), [2, 0, 3, 1]))))
    assert shuffled.aggregates["model_utility"].value == pytest.approx(lists.aggregates["model_utility"].value)


def test_rows_in_another_order_are_the_same_rows(tmp_path: Path) -> None:
    unlearned = read_log(write(tmp_path / "a.json", log(4)))
    rows = by_index(log(4), [3, 1, 0, 2])
    for data in (rows, {name: {f: list(v.values()) for f, v in fields.items()} for name, fields in rows.items()}):
        found = score_log(unlearned, read_log(write(tmp_path / "b.json", data))).forget_quality
        assert (found.statistic, found.p, found.n) == (0, 1, 4)


def test_other_questions_are_refused_however_many_there_are(tmp_path: Path) -> None:
    unlearned = write(tmp_path / "a.json", log(3))
    texts = [["question 0", "", ""], ["another", "", ""], ["and another", "", ""]]
    result = run("--tofu-log", unlearned, "--retain-log", write(tmp_path / "b.json", log(3, generated_text=texts)))
    assert result.exit_code == 2
    assert "2 of 3 differ by question" in result.stderr
    fewer = write(tmp_path / "c.json", log(2))
    assert "1 of 3 differ" in run("--tofu-log", unlearned, "--retain-log", fewer).stderr


def test_rows_that_the_logs_do_not_name_are_compared_with_a_remark(tmp_path: Path) -> None:
    read = [read_log(write(tmp_path / name, log(3, generated_text=None))) for name in ("a.json", "b.json")]
    assert any("assumed to be the same" in note for note in score_log(*read).notes)


def test_a_set_of_one_row_has_numbers(tmp_path: Path) -> None:
    read = read_log(write(tmp_path / "a.json", log(1)))
    scores = score_log(read, read)
    assert scores.aggregates["model_utility"].value is not None
    assert scores.forget_quality.p == pytest.approx(1.0)
    assert scores.members["forget"]["rouge"].ci95 is None


def test_what_a_log_cannot_give_says_why(tmp_path: Path) -> None:
    data = log(3)
    del data["eval_real_author_wo_options.json"], data["eval_log_forget.json"]["average_perturb_loss"]
    scores = score_log(read_log(write(tmp_path / "a.json", data)), read_log(write(tmp_path / "b.json", log(3))))
    assert "a.json has no eval_real_author_wo_options.json" in str(scores.aggregates["model_utility"].unavailable)
    assert "no average_perturb_loss" in str(scores.forget_quality.unavailable)
    result = run("--tofu-log", tmp_path / "a.json")
    assert result.exit_code == 0
    assert "n/a: forget quality: no retain log is given" in result.stderr


BAD = {
    "missing": (None, "does not exist"),
    "empty": ("", "is empty"),
    "cut off": (json.dumps(log())[:500], "ends too early"),
    "no JSON": ("avg_gt_loss: 3", "is not complete JSON"),
    "a list": ("[1, 2]", "not an object"),
    "deep": ("[" * 200_000, "JSON"),
    "another file": ({"a": 1}, "is not a log of TOFU, closer-look or open-unlearning"),
    "one set": (one_set(), "is not a log of TOFU, closer-look or open-unlearning"),
    "open-unlearning's": ({"forget_Q_A_Prob": {"agg_value": 0.5}}, "is not a log of TOFU, closer-look or open-unlearning"),
    "a set that is no set": ({**log(), "eval_log_forget.json": 3}, "eval_log_forget.json is 3, not an object"),
    "no field": ({**log(), "eval_log_forget.json": {}}, "has none of avg_gt_loss"),
    "no rows": (log(0), "has no rows"),
    "no rows by index": (by_index(log(), []), "has no rows"),
    "NaN": (log(3, avg_gt_loss=[0.1, float("nan"), 0.2]), "eval_log_forget.json avg_gt_loss 1 is NaN"),
    "infinite": (log(3, avg_paraphrased_loss=[0.1, float("inf"), 0.2]), "avg_paraphrased_loss 1 is +inf"),
    "huge": (log(3, avg_gt_loss=[0.1, 10**400, 0.2]), "nothing to average"),
    "text": (log(3, rougeL_recall=[0.1, "x", 0.2]), 'rougeL_recall 1 is "x", not a number'),
    "null": (log(3, rougeL_recall=[0.1, None, 0.2]), "rougeL_recall 1 is null, not a number"),
    "beyond 1": (log(3, rougeL_recall=[0.1, 97.0, 0.2]), "rougeL_recall 1 is 97, which rougeL_recall cannot be"),
    "negative": (log(3, avg_gt_loss=[0.1, -1.0, 0.2]), "avg_gt_loss 1 is -1"),
    "too short": (log(3, rougeL_recall=[0.1, 0.2]), "rougeL_recall has 2 rows, other fields have 3"),
    "no wrong answers": (log(3, average_perturb_loss=[[1.0], [], [2.0]]), "average_perturb_loss 1 has no wrong answers"),
    "no list": (log(3, avg_gt_loss=0.5), "is neither a list nor an object of rows"),
    "labels": (log(3, entailment_labels=["none", 1, "none"]), "entailment_labels 1 is not a label"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_log_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    data, message = BAD[name]
    path = tmp_path / "log.json"
    if data is not None:
        write(path, data)
    for words in (["--tofu-log", path], ["--tofu-log", write(tmp_path / "good.json", log()), "--retain-log", path]):
        result = run(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 2


def test_a_folder_and_binary_rubbish_are_no_logs(tmp_path: Path) -> None:
    assert "is a folder" in run("--tofu-log", tmp_path).stderr
    (tmp_path / "log.json").write_bytes(b"\xff\xfe\x00\x01")
    assert "is not UTF-8" in run("--tofu-log", tmp_path / "log.json").stderr


def test_the_numbers_go_to_stdout_as_json_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "log.json", log())
    result = run("--tofu-log", path, "--retain-log", path, "--json")
    assert result.stderr == ""
    data = json.loads(result.stdout)
    assert data["format"] == "TOFU"
    assert data["forget_quality"] == {
        "statistic": 0.0, "p": 1.0, "log10_p": 0.0, "n": 3, "n_retain": 3, "unavailable": None,
    }  # fmt: skip
    assert data["aggregates"]["model_utility"]["value"] > 0
    assert data["aggregates"]["forget_efficacy"]["unavailable"]
    assert set(data["members"]) == set(SETS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retain-log", "x"], "--retain-log goes with --tofu-log"),
        (["--tofu-log", "x", "latest"], "latest does not go with --tofu-log"),
        (["--tofu-log", "x", "model=mini"], "model=mini does not go with --tofu-log"),
        (["--tofu-log", "x", "--metrics", "rouge"], "--metrics does not go with --tofu-log"),
        (["--tofu-log", "x", "--dry-run"], "--dry-run does not go with"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.stderr
