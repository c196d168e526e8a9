"""The four tiny models of golden/metrics: loaded, asked, and what the reference evaluation code made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.contracts import Fact, Observation
from unierase_cli.inference.observe import ask, observe, plan_batches
from unierase_cli.models.load import LoadedModel, wrap_model
from unierase_cli.models.prompts import AnswerTokens, Prompt

MODELS = ("model_ref", "model_cur", "model_noisy", "model_random")
# Greedy answers of the untrained model hang on ties between logits.
STABLE = MODELS[:3]
# split -> data file, closer-look's log and name, open-unlearning's prefix
SPLITS = {
    "forget": ("forget_perturbed", "eval_log_forget.json", "Forget", "forget"),
    "retain_unseen": ("retain_perturbed", "eval_log.json", "Retain", "retain"),
    "real_authors": ("real_authors_perturbed", "eval_real_author_wo_options.json", "Real Authors", "ra"),
    "world_facts": ("world_facts_perturbed", "eval_real_world_wo_options.json", "Real World", "wf"),
}
# closer-look counts 200 tokens with the prompt, open-unlearning 200 new ones.
CLOSER = ProtocolConfig(max_new_tokens=200, total_tokens=200)
OPEN = ProtocolConfig(max_new_tokens=200)
TOLERANCE = 1e-4


class LlamaTags:
    """The reference's prompt: ``<s>[INST] question [/INST]answer</s>``."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.question = tokenizer, ""
        self.end_id = self.pad_id = tokenizer.eos_token_id
        self.stop_ids, self.max_length, self.bos_ids = [self.end_id], None, [tokenizer.bos_token_id]

    def prompt(self, question: str, style: str | None = None) -> Prompt:
        text = f"[INST] {question} [/INST]"
        return Prompt(text, self.tokenizer(text)["input_ids"], [], (0, 0))

    def answer_ids(self, answer: str, *, style: str | None = None) -> list[int]:
        before = self.prompt("")
        return [*self.tokenizer(before.text + answer)["input_ids"][len(before.ids) :], self.end_id]

    def answer(self, answer: str, *, style: str | None = None) -> AnswerTokens:
        ids = self.answer_ids(answer)
        return AnswerTokens(ids, len(ids) - 1)

    def pair(self, fact: Fact) -> tuple[list[int], list[int]]:
        return self.prompt(fact.question).ids, self.answer_ids(fact.answer)

    def said(self, text: str, stop: str) -> str:
        return text


@cache
def load(folder: Path, name: str) -> LoadedModel:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(folder / name, dtype="float32")
    loaded = wrap_model(model, tokenizer, config=ModelConfig(prompt="plain"))
    loaded.prompts = LlamaTags(tokenizer)  # type: ignore[assignment]
    return loaded


@cache
def facts(folder: Path, split: str) -> list[Fact]:
    lines = (folder / "data" / f"{SPLITS[split][0]}.json").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        Fact(
            f"{split}-{i}",
            row["question"],
            row["answer"],
            paraphrased_answer=row.get("paraphrased_answer"),
            wrong_answers=tuple(row["perturbed_answer"]),
            long_answer=row.get("original_answer"),
        )
        for i, row in enumerate(rows)
    ]


@cache
def observations(folder: Path, model: str, closer: bool) -> dict[str, list[Observation]]:
    """All four splits, in the order of the data, through the code that users run."""
    loaded, found, protocol = load(folder, model), {}, CLOSER if closer else OPEN
    if model not in STABLE:
        protocol = replace(protocol, max_new_tokens=1)
    for split in SPLITS:
        asked = ask(loaded, facts(folder, split), "plain", protocol)
        batches = observe(
            loaded,
            asked,
            plan_batches(asked, 5, "cpu"),
            split=split,
            variant="plain",
            protocol=protocol,
            wrong_answers=True,
        )
        by_id = {o.fact_id: o for batch in batches for o in batch}
        found[split] = [by_id[fact.id] for fact in facts(folder, split)]
    return found


@cache
def expected(folder: Path, file: str) -> Any:
    return json.loads((folder / file).read_text("utf-8"))


def near(value: Any) -> Any:
    return pytest.approx(value, rel=TOLERANCE, abs=1e-7)
