"""Texts that end an answer: what is kept before them, and who is asked with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_models import FACTS, save_folder, tiny_gpt2, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.evaluation import PLAIN_STOP, ProtocolConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.chat import TwoStates
from unierase_cli.inference import generate as generation
from unierase_cli.inference.generate import Generated, answer_text, generate
from unierase_cli.inference.observe import ask, observe, plan_batches
from unierase_cli.inference.sample import sample
from unierase_cli.inference.suites import answers_to, questions_of
from unierase_cli.inference.texts import decoded
from unierase_cli.models.load import LoadedModel
from unierase_cli.pipeline.model_states import load_base, stop_texts
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import erase, general, observe_facts
from unierase_cli.stages import observe as observing
from unierase_cli.stages.shared import quick_look
from unierase_cli.stages.shared.cut_short import share_cut, told_of_state

RUNS_ON = " Ada was born in Lisbon.\nQuestion: Who is Bruno?\nAnswer: Bruno is a singer."
KEPT = " Ada was born in Lisbon."


def saying(monkeypatch: pytest.MonkeyPatch, *texts: str, loaded: LoadedModel) -> LoadedModel:
    """The model, made to say these texts in its batches' rows, the last of them in all further ones, and then to end."""
    end = loaded.prompts.end_id
    scripts = [[*loaded.tokenizer(text, add_special_tokens=False)["input_ids"], end] for text in texts]

    def choose(batch: Any, logits: torch.Tensor) -> torch.Tensor:
        wanted = [scripts[min(row, len(scripts) - 1)][len(batch.answers[row])] for row in batch.live]
        return torch.tensor(wanted)

    monkeypatch.setattr(generation._Batch, "_choose", choose)
    return loaded


def text_of(loaded: LoadedModel, found: Generated) -> str:
    return answer_text(loaded, found, skip_special=False)


def asked(loaded: LoadedModel, count: int = 3) -> list[list[int]]:
    return [loaded.prompts.prompt(fact.question).ids for fact in FACTS[:count]]


def test_an_answer_to_a_plain_prompt_ends_before_the_next_question(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = saying(monkeypatch, RUNS_ON, KEPT, KEPT + "\nQuestions", loaded=tiny_gpt2())
    found = generate(loaded, asked(loaded), max_new_tokens=120)
    by_text = sorted((text_of(loaded, one), one.stop) for one in found)
    assert by_text == [(KEPT, "end"), (KEPT, "text"), (KEPT + "\nQuestions", "end")]
    assert all(one.surplus == 0 for one in found)


def test_a_chat_prompt_has_no_stop_text(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = saying(monkeypatch, RUNS_ON, loaded=tiny_llama())
    (found,) = generate(loaded, asked(loaded, 1), max_new_tokens=120)
    assert (text_of(loaded, found), found.stop) == (RUNS_ON, "end")


def test_other_rows_of_the_batch_go_on_as_without_the_stop_text() -> None:
    loaded = tiny_gpt2(seed=3)
    loaded.stop_texts = ()
    free = generate(loaded, asked(loaded, 8), max_new_tokens=20)
    loaded.stop_texts = (decoded(loaded, free[0].ids)[4:7],)
    stopped = generate(loaded, asked(loaded, 8), max_new_tokens=20, batch_size=3)
    assert stopped[0].stop == "text"
    for before, after in zip(free, stopped, strict=True):
        kept = decoded(loaded, before.ids).split(loaded.stop_texts[0])[0]
        assert text_of(loaded, after) == kept
        assert before.ids[: len(after.ids)] == after.ids
        assert after.first_unlearn_probability == before.first_unlearn_probability


@pytest.mark.parametrize(
    ("stop", "text", "surplus"),
    # " born" is one token of this tokenizer: it stays whole among the ids.
    [(".\nQuestion:", " Ada was born in Lisbon", ""), ("rn in", " Ada was bo", "rn"), (" Ada", "", ""), ("né", RUNS_ON, "")],
)
def test_a_token_that_holds_both_keeps_the_answers_part(
    stop: str, text: str, surplus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = saying(monkeypatch, RUNS_ON, loaded=tiny_gpt2())
    loaded.stop_texts = (stop, "never said")
    (found,) = generate(loaded, asked(loaded, 1), max_new_tokens=120)
    assert text_of(loaded, found) == text
    assert (decoded(loaded, found.ids), found.surplus) == (text + surplus, len(surplus))


def test_an_observation_has_the_text_before_the_stop_and_the_ids_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = saying(monkeypatch, RUNS_ON, loaded=tiny_gpt2())
    protocol = ProtocolConfig(max_new_tokens=120)
    for variant in ("plain", "answer_prefix"):
        rows = ask(loaded, FACTS[:2], variant, protocol)
        made = observe(loaded, rows, plan_batches(rows, 2, "cpu"), split="forget", variant=variant, protocol=protocol)
        for o in (o for batch in made for o in batch):
            assert (o.text, o.raw_text, o.stop) == (KEPT, KEPT, "text")
            assert decoded(loaded, o.generated_ids) == o.text


def test_everybody_who_generates_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = saying(monkeypatch, RUNS_ON, loaded=tiny_gpt2())
    (answer,) = answers_to(loaded, questions_of(loaded, [("a", "Where?")]), 120)
    assert (answer.output, answer.stop) == (KEPT, "text")
    states = TwoStates(loaded, [], ProtocolConfig(max_new_tokens=120))
    said = states.ask("Where?", ["after"])["after"]
    assert (said.text, said.raw_text, said.stop) == (KEPT.strip(), KEPT.strip(), "text")
    assert quick_look.generate_texts(loaded, [replace(FACTS[0], answer="long " * 120)]) == [KEPT]


def test_a_sampled_answer_ends_there_too() -> None:
    loaded = tiny_gpt2(seed=3)
    loaded.stop_texts = ()
    (free,) = sample(loaded, asked(loaded, 1), seed=1, max_new_tokens=20)
    loaded.stop_texts = (free[5:8],)
    assert sample(loaded, asked(loaded, 1), seed=1, max_new_tokens=20) == [free.split(free[5:8])[0]]


def test_the_protocol_names_other_stop_texts_or_none(tmp_path: Path) -> None:
    folder = save_folder(tiny_gpt2(), tmp_path / "model")

    def stops(stop: list[str] | None) -> tuple[str, ...]:
        model, run = ModelConfig(path=str(folder)), RunConfig(device="cpu")
        config = Experiment(model=model, run=run, protocol=ProtocolConfig(stop=stop))
        return load_base(config, {}, SilentReporter()).stop_texts

    assert stops(None) == PLAIN_STOP == ("\nQuestion:",)
    assert stops([]) == ()
    assert stops([r"\n\nUser:", "###"]) == ("\n\nUser:", "###")
    with pytest.raises(UserError, match="empty text"):
        ProtocolConfig(stop=[""])


def test_stop_texts_are_in_the_key_of_what_holds_answers_and_in_no_other(tmp_path: Path) -> None:
    plain, chat = (save_folder(made, tmp_path / name) for made, name in ((tiny_gpt2(), "plain"), (tiny_llama(), "chat")))

    def experiment(folder: Path | None, stop: list[str] | None = None, prompt: str = "auto") -> Experiment:
        model = ModelConfig(path=None if folder is None else str(folder), prompt=prompt)
        return Experiment(model=model, protocol=ProtocolConfig(stop=stop))

    assert stop_texts(experiment(plain)) == stop_texts(experiment(None, prompt="plain")) == ["\nQuestion:"]
    assert stop_texts(experiment(chat)) == stop_texts(experiment(None)) == stop_texts(experiment(plain, [])) == []
    for stage in (observing, general, observe_facts):
        options = {"state": "base"}
        keys = [stage.reads(study_of(experiment(chat, stop)), options) for stop in (None, [], ["###"])]
        assert keys[0] == keys[1] != keys[2]
    assert erase.reads(study_of(experiment(chat)), {}) == erase.reads(study_of(experiment(chat, ["###"])), {})


def test_the_share_of_answers_that_were_cut_short_is_told_where_it_is_notable() -> None:
    stops = ["end"] * 8 + ["length", "context"]
    assert share_cut(stops) == 0.2
    assert share_cut([]) == 0
    told = told_of_state("base", stops)
    assert told is not None
    assert "20% of 10 answers" in told
    assert "protocol.stop" in told
    assert told_of_state("base", [*["end"] * 10, "text", "length"]) is None
