"""The whole cycle on a pretrained chat model: what a tiny random model cannot show. Needs UNIERASE_REAL_MODEL; minutes long."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.delivery.export import export
from unierase_cli.inference.generate import generate
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.pipeline.model_states import load_edited
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.gguf_files import gguf_at
from unierase_cli.store.jsonl import read_asset, write_jsonl
from unierase_cli.training.token.learning import REFUSALS

MODEL = os.environ.get("UNIERASE_REAL_MODEL")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MODEL is None, reason="needs a pretrained chat model: set UNIERASE_REAL_MODEL to a folder or GGUF file"),
]
FORGOTTEN = ("capitals-of-europe-01", "capitals-of-europe-02", "landmarks-and-cities-01")
NEW_TOKENS = 24
Words = Sequence[str]


@dataclass
class Edited:
    """The unedited model with its answers, and the run that forgot three of them. ``questions``: forgotten, then kept."""

    experiment: Experiment
    run: Artefact
    questions: list[str]
    before: list[str]
    loaded: LoadedModel
    after: list[str]


def answers(loaded: LoadedModel, questions: Words) -> list[str]:
    prompts = [loaded.prompts.prompt(question).ids for question in questions]
    return [text_of(loaded, said.ids) for said in generate(loaded, prompts, max_new_tokens=NEW_TOKENS)]


def text_of(loaded: LoadedModel, ids: Sequence[int]) -> str:
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=True))


def by_itself(folder: Path, loaded: LoadedModel, questions: Words) -> list[str]:
    """Greedy answers of a folder that plain transformers loads, special tokens left out."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for question in questions:
        ids = torch.tensor([loaded.prompts.prompt(question).ids])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)
        found.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return found


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Edited:
    folder, rows = tmp_path_factory.mktemp("real"), {row["id"]: row for row in read_asset("world_questions.jsonl")}
    forget = [rows[name] for name in FORGOTTEN]
    groups = {row["group"] for row in forget}
    keep: list[dict[str, Any]] = [row for row in rows.values() if row["group"] not in groups][::80]
    write_jsonl(folder / "forget.jsonl", forget)
    write_jsonl(folder / "keep.jsonl", keep)
    experiment = compose(
        [
            "model=hf", f"model.path={MODEL}", "train=none", "benchmark=jsonl", f"benchmark.path={folder / 'forget.jsonl'}",
            f"benchmark.retain_path={folder / 'keep.jsonl'}", "token=default", "edit=default", "edit.moments.answer_tokens=16",
            "protocol=mini", f"run.outputs={folder / 'outputs'}", "run.device=cpu",
        ]
    )  # fmt: skip
    questions = [row["question"] for row in (*forget, *keep[:3])]
    before = answers(load_model(experiment.model, experiment.run), questions)
    run = Pipeline(experiment, SilentReporter()).make("erase")
    loaded = load_edited(experiment, {"erase": run}, SilentReporter())
    return Edited(experiment, run, questions, before, loaded, answers(loaded, questions))


def test_the_model_is_asked_by_its_own_template_and_answers(edited: Edited) -> None:
    loaded = edited.loaded
    for question in edited.questions:
        ids = loaded.prompts.prompt(question).ids
        text = loaded.tokenizer.decode(ids)
        assert question in text
        assert loaded.tokenizer.encode(text, add_special_tokens=False) == list(ids)
    for said, entity in zip(edited.before, ("Paris", "Berlin"), strict=False):
        assert entity in said


def test_three_forgotten_facts_begin_with_the_token_and_are_refused_cleanly(edited: Edited) -> None:
    loaded = edited.loaded
    (token,) = loaded.unlearn_ids
    prompts = [loaded.prompts.prompt(question).ids for question in edited.questions]
    said = generate(loaded, prompts, max_new_tokens=NEW_TOKENS)
    known = json_of(edited.run)["tokens"]["info"][REFUSALS]
    for answer in said[: len(FORGOTTEN)]:
        assert answer.ids[0] == token
        assert text_of(loaded, answer.ids).strip() in known
    for answer in said[len(FORGOTTEN) :]:
        assert token not in answer.ids


def json_of(run: Artefact) -> dict[str, Any]:
    from unierase_cli.store.json_text import read_json

    found: dict[str, Any] = read_json(run.path / "patch-000.json", 1 << 28)
    return found


def test_plain_transformers_answers_as_the_edited_model_does(edited: Edited, tmp_path: Path) -> None:
    export(edited.run, tmp_path / "plain", SilentReporter(), edited.experiment.run.outputs, device="cpu")
    said = by_itself(tmp_path / "plain", edited.loaded, edited.questions)
    assert [text.strip() for text in said] == [text.strip() for text in edited.after]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "plain")
    assert tokenizer.convert_tokens_to_ids("<unlearn_0>") == edited.loaded.unlearn_ids[0]


@pytest.mark.skipif(MODEL is None or gguf_at(MODEL) is None, reason="UNIERASE_REAL_MODEL is not a GGUF file")
def test_the_exported_gguf_file_answers_as_the_edited_model_does(edited: Edited, tmp_path: Path) -> None:
    export(edited.run, tmp_path / "out", SilentReporter(), edited.experiment.run.outputs, kind="gguf", device="cpu")
    (file,) = (tmp_path / "out").glob("*.gguf")
    loaded = load_model(ModelConfig(path=str(file)), RunConfig(device="cpu"))
    assert loaded.tokenizer.encode("<unlearn_0>", add_special_tokens=False) == edited.loaded.unlearn_ids
    assert answers(loaded, edited.questions) == edited.after
