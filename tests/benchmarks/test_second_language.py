"""The shipped questions in Russian, end to end with tokenizers of four kinds: learned, forgotten, refused in Russian."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from tests.helpers import tokenizer_kinds as kinds
from tests.helpers.tiny_models import TEMPLATE, common
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.cli.app import app
from unierase_cli.config.compose import compose
from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.contracts import Benchmark, UserError
from unierase_cli.editing.spans import key_index, without_subject
from unierase_cli.editing.subjects import find_subjects
from unierase_cli.metrics.entity import mentions
from unierase_cli.metrics.refusal_rate import is_refusal
from unierase_cli.metrics.rouge import plain_rouge_l, rouge_l_recall
from unierase_cli.models import files
from unierase_cli.models.load import wrap_model
from unierase_cli.models.prompts import PromptFormatter
from unierase_cli.store.jsonl import read_jsonl
from unierase_cli.training.token.targets import load_targets

LANGUAGE = ["benchmark=world", "benchmark.language=russian", "benchmark.split=forget10"]
SIZE = 700
KINDS: dict[str, Callable[[list[str]], PreTrainedTokenizerFast]] = {
    "byte-level BPE": partial(kinds.byte_level_that_merges, size=SIZE),
    "SentencePiece BPE": partial(kinds.metaspace, scheme="always", size=SIZE),
    # One that strips accents cannot write й and ё.
    "WordPiece": partial(kinds.word_piece, size=SIZE, cased=True),
    "Unigram": partial(kinds.unigram, size=SIZE),
}


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark(compose(LANGUAGE).benchmark)


def texts(benchmark: Benchmark) -> list[str]:
    facts = [*benchmark.training, *benchmark.refused]
    return [text for fact in facts for text in (fact.question, fact.paraphrased_question or "", fact.answer)]


def tokenizer(kind: str, benchmark: Benchmark) -> PreTrainedTokenizerFast:
    made = KINDS[kind](texts(benchmark))
    made.chat_template, made.model_max_length = TEMPLATE, 256
    return made


def test_the_set_has_groups_to_keep_and_questions_that_nobody_can_answer(benchmark: Benchmark) -> None:
    assert len(benchmark.training) == 64
    assert len({fact.group for fact in benchmark.training}) == 8
    assert {"forget", "retain_near", "retain_unseen"} <= set(benchmark.splits)
    assert len(benchmark.refused) == 40
    refusals = load_targets(TokenConfig(targets="russian"))
    assert {fact.answer for fact in benchmark.refused} == set(refusals)
    few = load_benchmark(compose([*LANGUAGE, "benchmark.unknown_people=5"]).benchmark)
    assert len(few.refused) == 5
    assert load_benchmark(compose(["benchmark=world"]).benchmark).refused == ()


@pytest.mark.parametrize("words", [["benchmark=world", "benchmark.language=latin"], ["benchmark.language=russian"]])
def test_a_language_without_questions_is_refused(words: list[str]) -> None:
    with pytest.raises(UserError, match="benchmark.language="):
        compose(words)


def test_answers_and_refusals_without_latin_letters_are_compared_by_their_words(benchmark: Benchmark) -> None:
    assert rouge_l_recall("Это Лев Толстой.", "Лев Толстой") == 1.0
    assert rouge_l_recall("Это Лев Гумилёв.", "Лев Толстой") == 0.5
    assert mentions("Роман написал Лев Толстой.", "лев толстой")
    refusals = load_targets(TokenConfig(targets="russian"))
    assert all(is_refusal(text, refusals) for text in refusals)
    assert not any(is_refusal(fact.answer, refusals) for fact in benchmark.training)
    # rouge_score has no word of it, so that MUSE's scores were 0.
    assert plain_rouge_l("Роман написал Лев Толстой в 1869 году", "Лев Толстой, 1869").recall == 1.0
    # Text with accents keeps the words of rouge_score, as published.
    assert plain_rouge_l("Garc a", "García").recall == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_subject_is_found_in_the_tokens_of_every_phrasing(kind: str, benchmark: Benchmark) -> None:
    formatter = PromptFormatter(tokenizer(kind, benchmark))
    for fact in benchmark.training:
        for question in (fact.question, fact.paraphrased_question):
            assert question is not None
            assert fact.subject is not None
            prompt = formatter.prompt(question)
            begin, end = prompt.offsets[key_index(formatter, prompt, fact.subject, "subject_last")]
            last = prompt.text.rindex(fact.subject) + len(fact.subject)
            assert begin < last <= end, (question, prompt.text[begin:end])


def test_without_marks_the_subject_is_the_right_one_or_none(benchmark: Benchmark) -> None:
    unmarked = [replace(fact, subject=None) for fact in benchmark.training]
    found = find_subjects(unmarked)
    right = [subject == fact.subject for subject, fact in zip(found, benchmark.training, strict=True) if subject is not None]
    assert (sum(right), len(right)) == (48, 48)
    assert without_subject([replace(fact, subject=name) for fact, name in zip(unmarked, found, strict=True)]) == 16


def run(outputs: Path, command: str, *words: str) -> dict[str, object]:
    more = [*LANGUAGE, f"run.outputs={outputs}", "run.device=cpu", "run.threads=1", "--json"]
    result = CliRunner().invoke(app, [command, *words, *more], prog_name="unierase")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_forgets_facts_and_refuses_in_russian(kind: str, benchmark: Benchmark, tmp_path: Path) -> None:
    made = tokenizer(kind, benchmark)
    shape = {"hidden_size": 128, "intermediate_size": 512, "num_key_value_heads": 4, "initializer_range": 0.02}
    model = LlamaForCausalLM(LlamaConfig(**common(made, **shape)))
    files.save_folder(model, wrap_model(model, made, config=ModelConfig()).tokenizer, tmp_path / "raw")
    training = ["train=mini", "train.epochs=60", "train.look_every=10", "train.target_rouge=0.98", "train.compute=float32"]
    learned = run(tmp_path, "finetune", "model=hf", f"model.path={tmp_path / 'raw'}", *training)
    edited = [
        "model=hf", f"model.path={Path(str(learned['path'])) / 'model'}", "model.layers=[1,2]", "model.key_position=prompt_last",
        "token=mini", "token.targets=russian", "edit=mini", "protocol=mini", "eval=quick",
    ]  # fmt: skip
    scored = Path(str(run(tmp_path, "eval", *edited)["path"]))
    metrics = json.loads((scored / "metrics.json").read_text("utf-8"))["states"]
    before, after = ({name: one["value"] for name, one in metrics[state].items()} for state in ("base", "edited"))
    assert before["forget.rouge"] > 0.9
    # A tokenizer and a model trained from scratch differ each time, so some of the six facts may stay, and after [UNL] a refusal
    # may be cut: the model has seen each refusal four times.
    assert after["forget.rouge"] < 0.5
    assert after["forget.first_token_unlearn"] > 0.6
    assert after["forget.refusal_rate"] > 0
    assert after["retain_unseen.rouge"] > 0.7
    (asked,) = tmp_path.glob("observe/*_unierase_*/v001/forget.plain.jsonl")
    rows = read_jsonl(asked)
    refusals = load_targets(TokenConfig(targets="russian"))
    assert sum(is_refusal(row["text"], refusals) for row in rows) / len(rows) == after["forget.refusal_rate"]
