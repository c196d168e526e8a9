"""The commands patch, chat and export --as: what they print where, and how they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from tests.helpers.patched import edits, experiment, finished, gradient_method, model_folder, unedited
from tests.helpers.patches import bits, dense_patch, named_patch, same_bits
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.chat import TwoStates, open_run
from unierase_cli.delivery.patch_diff import compare_patches
from unierase_cli.editing.solve import LowRank
from unierase_cli.inference.generate import generate
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store


@pytest.fixture
def config(tmp_path: Path) -> Experiment:
    return experiment(model_folder("llama", tmp_path / "model", torch.bfloat16), tmp_path / "outputs")


@pytest.fixture
def run(config: Experiment) -> Artefact:
    return finished(config, edits(unedited(config), 3))


def command(config: Experiment, *words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [*words, "--outputs", config.run.outputs], input=stdin, prog_name="unierase")


def test_apply_and_revert_lead_there_and_back(config: Experiment, run: Artefact, tmp_path: Path) -> None:
    model, edited, back = (str(tmp_path / name) for name in ("model", "edited", "back"))
    there = command(config, "patch", "apply", model, "run@v001", edited, "--drop", "1", "--json")
    assert there.exit_code == 0, there.stderr
    found = json.loads(there.stdout)
    assert (found["steps"], found["dropped"], found["unlearning_tokens"]) == ([0, 2], [1], ["<unlearn_0>"])
    again = command(config, "patch", "revert", edited, "run@v001", back, "--base", model, "--json")
    assert again.exit_code == 0, again.stderr
    found = json.loads(again.stdout)
    assert (found["bit_exact"], found["weights"]) == (True, "bfloat16")
    one, two = (load_file(Path(folder) / "model.safetensors") for folder in (model, back))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert found["tensors_checked"] == len(one)


def test_without_json_everything_is_said_on_stderr(config: Experiment, run: Artefact, tmp_path: Path) -> None:
    result = command(
        config, "patch", "apply", str(tmp_path / "model"), "latest", str(tmp_path / "edited"), "--step", "0"
    )
    assert result.stdout == ""
    assert "run@v001 (steps 0) is merged in" in result.stderr
    assert "`unierase patch revert` undoes it, with the original model (--base FOLDER)" in result.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("apply", "MODEL", "run@v001", "OUT", "--step", "9"), "run@v001 has no step 9"),
        (
            ("apply", "MODEL", "run@v001", "OUT", "--drop", "1", "--replan"),
            "mode=batch has no consecutive steps",
        ),
        (("apply", "MODEL", "run@v001", "OUT", "--replan"), "--replan needs a dropped step"),
        (("apply", "MODEL", "run@v001", "MODEL"), "exists and is not empty"),
        (("apply", "OTHER", "run@v001", "OUT"), "its content differs (sha256 "),
        (("apply", "NOWHERE", "run@v001", "OUT"), "nowhere does not exist"),
        (("revert", "MODEL", "run@v001", "OUT"), "has no unierase.json"),
        (("diff", "run@v001", "nothing"), "no artefact is called nothing"),
        (("show", "nothing"), "no artefact is called nothing"),
        (("turn",), "no such command 'turn'"),
        ((), "missing command"),
    ],
)
def test_a_mistake_is_one_line_with_what_to_type_next(
    words: tuple[str, ...], line: str, config: Experiment, run: Artefact, tmp_path: Path
) -> None:
    model_folder("llama", tmp_path / "other", seed=1)
    places = {name.upper(): str(tmp_path / name) for name in ("model", "out", "other", "nowhere")}
    typed = ["patch", *(places.get(word, word) for word in words)]
    result = command(config, *typed) if len(words) > 1 else CliRunner().invoke(app, typed, prog_name="unierase")
    assert result.exit_code == 2
    errors = [text for text in result.stderr.splitlines() if text.startswith(("error:", "  try:"))]
    assert line in errors[0]
    assert errors[1].startswith("  try: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_show_lists_the_steps(config: Experiment, run: Artefact) -> None:
    found = json.loads(command(config, "patch", "show", "run@v001", "--json").stdout)
    assert [(step["step"], step["facts"], step["layers"], step["rank"]) for step in found["steps"]] == [
        (step, 2, [1, 2], [3, 3]) for step in range(3)
    ]
    shown = command(config, "patch", "show", "run@v001").stderr
    assert "layers 1, 2" in shown
    assert "<unlearn_0>" in shown


def test_a_run_does_not_differ_from_itself(config: Experiment, run: Artefact) -> None:
    found = json.loads(command(config, "patch", "diff", "run@v001", "run@v001", "--json").stdout)
    assert found["same_base"] is True
    assert all(row["norm_difference"] < 1e-5 * row["norm_first"] for row in found["changes"])
    assert all(row["cosine"] == pytest.approx(1.0) for row in (*found["changes"], *found["tokens"]))
    assert (found["settings"], found["facts"]["only_first"]) == ([], [])


def test_diff_measures_the_sums_as_the_dense_matrices_have_them(config: Experiment, run: Artefact) -> None:
    other = replace(config, edit=replace(config.edit, lambda_=0.5))
    fewer = edits(unedited(config), 2)
    fewer[1].factors = {2: LowRank(-fewer[1].factors[2].left, fewer[1].factors[2].right)}
    second = finished(other, fewer, "second")
    found = compare_patches(run, second)
    (row,) = [row for row in found["changes"] if row["name"] == "model.layers.2.mlp.down_proj.weight"]
    a = sum((patch.factors[2].dense() for patch in edits(unedited(config), 3)), torch.zeros(()))
    b = sum((patch.factors[2].dense() for patch in fewer), torch.zeros(()))
    assert (row["rank_first"], row["rank_second"]) == (9, 6)
    assert row["norm_first"] == pytest.approx(float(a.norm()), rel=1e-5)
    assert row["norm_second"] == pytest.approx(float(b.norm()), rel=1e-5)
    assert row["norm_difference"] == pytest.approx(float((a - b).norm()), rel=1e-5)
    assert row["cosine"] == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), rel=1e-4)
    assert found["settings"] == [{"key": "edit.lambda_", "first": config.edit.lambda_, "second": 0.5}]
    assert found["facts"]["only_first"] == ["fact-2-0", "fact-2-1"]
    assert found["steps"] == [[0, 1, 2], [0, 1]]
    shown = command(config, "patch", "diff", "run@v001", "second@v001").stderr
    assert "edit.lambda_" in shown
    assert "2 facts only in A" in shown


def test_of_replaced_tensors_diff_says_what_can_be_said(config: Experiment, run: Artefact, tmp_path: Path) -> None:
    trained = replace(config, method=gradient_method())
    loaded = unedited(config)
    dense = [finished(trained, [dense_patch(loaded, seed)], name) for seed, name in ((1, "first"), (2, "second"))]
    row = compare_patches(*dense)["changes"][0]
    a, b = (dense_patch(loaded, seed).dense[row["name"]].double() for seed in (1, 2))
    assert (row["rank_first"], row["norm_first"], row["cosine"]) == ("replaced", None, None)
    assert row["norm_difference"] == pytest.approx(float((a - b).norm()))
    found = compare_patches(run, dense[0])
    assert found["same_base"] is True
    mixed = {row["name"]: row for row in found["changes"]}
    assert mixed["model.layers.2.mlp.down_proj.weight"]["norm_difference"] is None
    adapters = compare_patches(run, finished(trained, [named_patch(loaded)], "third"))
    (both,) = [row for row in adapters["changes"] if row["rank_first"] and row["name"].startswith("model.layers.2.")]
    assert -1 <= both["cosine"] <= 1
    assert {row["row"]: row["norm_second"] for row in adapters["tokens"]} == {"input": None, "output": None}


def test_diff_tells_a_chains_trained_tensors_from_its_edit(config: Experiment) -> None:
    loaded, other = unedited(config), "model.layers.2.self_attn.q_proj.weight"
    named, dense = named_patch(loaded, 0, [other]), dense_patch(loaded, 0, [other])
    edit = edits(loaded)[0]
    weaker = replace(edit, factors={layer: replace(change, left=0.5 * change.left) for layer, change in edit.factors.items()})
    for trained in (named, dense):
        chains = [
            finished(config, [replace(last, before=(replace(trained, part="a"),), part="b")], f"{kind}-{len(trained.dense)}")
            for kind, last in (("whole", edit), ("weaker", weaker))
        ]
        found = {row["name"]: row for row in compare_patches(*chains)["changes"]}
        assert found[other]["norm_difference"] == pytest.approx(0.0, abs=1e-6)
        projection = found["model.layers.2.mlp.down_proj.weight"]
        assert projection["norm_difference"] == pytest.approx(0.5 * projection["norm_first"], rel=1e-5)


def test_runs_on_different_models_are_told_apart(config: Experiment, run: Artefact, tmp_path: Path) -> None:
    other = experiment(model_folder("llama", tmp_path / "other", seed=1), tmp_path / "outputs")
    second = finished(other, edits(unedited(other)), "second")
    assert compare_patches(run, second)["same_base"] is False


def test_export_as_patch_and_as_lora(config: Experiment, run: Artefact, tmp_path: Path) -> None:
    patch = command(config, "export", "run@v001", str(tmp_path / "carried"), "--as", "patch", "--step", "1", "--json")
    assert json.loads(patch.stdout)["steps"] == [0, 1]
    shown = command(config, "patch", "show", str(tmp_path / "carried"), "--json")
    assert [step["step"] for step in json.loads(shown.stdout)["steps"]] == [0, 1]
    lora = command(config, "export", "run@v001", str(tmp_path / "adapter"), "--as", "lora", "--rank", "2")
    assert lora.exit_code == 0, lora.stderr
    assert "LoRA adapter of rank 2 of 9" in lora.stderr
    assert "largest logit error on 20 forget prompts:" in lora.stderr


def test_a_model_that_was_moved_is_named(config: Experiment, run: Artefact, tmp_path: Path) -> None:
    (tmp_path / "model").rename(tmp_path / "moved")
    gone = command(config, "export", "run@v001", str(tmp_path / "merged"))
    assert gone.exit_code == 2
    found = command(config, "export", "run@v001", str(tmp_path / "merged"), "--base", str(tmp_path / "moved"))
    assert found.exit_code == 0, found.stderr


@pytest.mark.parametrize("family", ["llama", "llama_tied", "qwen2", "gpt2"])
def test_chat_answers_as_the_two_models_would_whatever_was_asked_before(family: str, tmp_path: Path) -> None:
    config = experiment(model_folder(family, tmp_path / "model"), tmp_path / "outputs")
    run = finished(config, edits(unedited(config), 2, scale=0.3))
    question = "What does Ada Velour write?"

    def fresh(edited: bool, forbid: bool) -> list[int]:
        loaded = unedited(config)
        if edited:
            from unierase_cli.editing.apply import apply_patches
            from unierase_cli.editing.patch import Patch

            apply_patches(loaded, [Patch.load(run.path, step) for step in range(2)])
        ids = loaded.unlearn_ids if forbid else None
        return generate(loaded, [loaded.prompts.prompt(question).ids], max_new_tokens=6, forbid=ids)[0].ids

    states = open_run(run, Store(config.run.outputs), SilentReporter(), device="cpu")
    before = bits(unedited(config))
    decode = states.loaded.tokenizer.decode
    for forbid in (False, True, False):
        said = states.ask(question, forbid=forbid)
        assert list(said) == ["before", "after"]
        assert said["before"].raw_text == decode(fresh(False, forbid)).strip()
        assert said["after"].raw_text == decode(fresh(True, forbid)).strip()
        assert said["before"].first_unlearn_probability is None
        assert said["after"].first_unlearn_probability is not None
    states.ask(question, ["before"])
    assert same_bits(before, bits(states.loaded))


def test_chat_reads_questions_from_a_pipe(config: Experiment, run: Artefact) -> None:
    result = command(
        config, "chat", "run@v001", "--json", stdin="Who?\n\n/forbid [UNL]\n/after\nWhy?\n/quit\nNever asked\n"
    )
    assert result.exit_code == 0, result.stderr
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["question"], first["forbid"], set(first) - {"question", "forbid"}) == (
        "Who?",
        False,
        {"before", "after"},
    )
    assert (second["question"], second["forbid"], set(second) - {"question", "forbid"}) == ("Why?", True, {"after"})
    assert set(second["after"]) == {"text", "raw_text", "stop", "first_unlearn_probability"}


def test_chat_shows_both_answers_side_by_side(config: Experiment, run: Artefact) -> None:
    result = command(config, "chat", "run@v001", "--step", "0", stdin="Who?\n/help\n/both\n")
    assert result.stdout == ""
    heads = next(line for line in result.stderr.splitlines() if line.strip().startswith("before"))
    assert "after the edit" in heads
    assert "/quit: end" in result.stderr


def test_a_question_that_does_not_fit_does_not_end_the_conversation(config: Experiment, run: Artefact) -> None:
    result = command(config, "chat", "run@v001", "--json", stdin=f"{'long ' * 400}\nWho?\n")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert "does not fit the model's context" in first["error"]
    assert "after" in second


def test_chat_refuses_patches_of_another_model(config: Experiment, run: Artefact, tmp_path: Path) -> None:
    other = model_folder("llama", tmp_path / "other", seed=1)
    result = command(config, "chat", "run@v001", "--base", str(other), stdin="")
    assert result.exit_code == 2
    assert "belongs to another model" in result.stderr


def test_a_run_without_a_token_has_none_to_forbid(config: Experiment) -> None:
    finished(config, edits(unedited(config), token=False))
    result = command(config, "chat", "run@v001", stdin="/forbid\nWho?\n")
    assert "no unlearning token to forbid" in result.stderr
    states = open_run(Store(config.run.outputs).resolve("run@v001"), Store(config.run.outputs), SilentReporter())
    assert isinstance(states, TwoStates)
    with pytest.raises(UserError, match="context"):
        states.ask("long " * 400)
