"""Memory that runs out: batches are halved, which is said once, and what comes out is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.finetuning import CONFIG as TRAIN
from tests.helpers.finetuning import examples_of
from tests.helpers.gradient_steps import UNLEARN, erased, shipped
from tests.helpers.tiny_models import FACTS, tiny_llama
from tests.helpers.value_search import CONFIG as VALUES
from tests.helpers.value_search import LAYER, requests
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing.checkpoints import search_values
from unierase_cli.editing.keys import look_at_keys
from unierase_cli.editing.moments import Source, second_moments
from unierase_cli.inference.generate import generate
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.room import Room, is_out_of_memory
from unierase_cli.training.supervised import train
from unierase_cli.training.token.learning import train_token

LINUX = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


@contextmanager
def short_of_memory(
    loaded: LoadedModel, rows: int, error: Callable[[], BaseException] = torch.OutOfMemoryError, module: Any = None
) -> Iterator[list[str]]:
    """Passes of more than ``rows`` rows fail on the way through ``module`` (the last block). Yields what is said about it."""
    said: list[str] = []
    loaded.room.tell = said.append

    def refuse(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[0] > rows:
            raise error()

    handle = (module or loaded.architecture.projection(loaded.architecture.n_blocks - 1)).register_forward_pre_hook(
        refuse
    )
    try:
        yield said
    finally:
        handle.remove()


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-6) -> bool:
    return bool((a - b).norm() <= tolerance * b.norm())


def test_what_allocators_say_is_recognised() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(10**15)
    assert is_out_of_memory(failed.value)
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("tensors on two devices"))
    assert not is_out_of_memory(None)


def test_a_size_is_halved_until_it_fits_and_remembered() -> None:
    said: list[str] = []
    tried: list[int] = []

    def call(rows: Any) -> int:
        tried.append(len(rows))
        if len(rows) > 3:
            raise RuntimeError(LINUX)
        return sum(rows)

    room = Room(said.append)
    assert list(room.parts("rows", range(10), call)) == [
        (range(2), 1),
        (range(2, 4), 5),
        (range(4, 6), 9),
        (range(6, 8), 13),
        (range(8, 10), 17),
    ]
    assert tried == [10, 5, 2, 2, 2, 2, 2]
    assert [total for _, total in room.parts("rows", range(3), call)] == [1, 2]
    assert said == ["out of memory with 10 rows at a time: continuing with fewer; results do not change"]


def test_other_errors_and_a_single_row_that_does_not_fit_are_raised() -> None:
    def broken(size: int) -> int:
        raise ValueError("no")

    def never(size: int) -> int:
        raise MemoryError

    with pytest.raises(ValueError, match="no"):
        Room().attempt("rows", 8, broken)
    with pytest.raises(MemoryError):
        Room().attempt("rows", 8, never)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, lambda: RuntimeError(LINUX)])
def test_answers_are_the_same_in_smaller_batches(error: Callable[[], BaseException]) -> None:
    loaded = tiny_llama()
    prompts = [loaded.prompts.prompt(fact.question).ids for fact in FACTS]
    expected = generate(loaded, prompts, max_new_tokens=5)
    with short_of_memory(loaded, 3, error) as said:
        assert generate(loaded, prompts, max_new_tokens=5) == expected
        generate(loaded, prompts, max_new_tokens=5)
    assert said == ["out of memory with 8 answers to generate at a time: continuing with fewer; results do not change"]


@pytest.mark.parametrize("rows", [1, 2])
def test_scores_of_answers_are_the_same_in_smaller_batches(rows: int) -> None:
    """Where one row is all that fits, fewer prompts are held as well."""
    loaded = tiny_llama()
    items = [
        (loaded.prompts.prompt(fact.question).ids, loaded.prompts.answer_ids(text))
        for fact in FACTS
        for text in (fact.answer, "No idea.")
    ]
    expected = score_answers(loaded, items)
    with short_of_memory(loaded, rows) as said:
        found = score_answers(loaded, items)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.token_ids == theirs.token_ids
        assert ours.log_probs == pytest.approx(theirs.log_probs, abs=1e-5)
    assert len(said) == 2


@pytest.mark.parametrize("fails_at", [1, 2])
def test_moments_are_the_same_wherever_a_pass_fails(fails_at: int) -> None:
    """Also where the first layer's moment was already added when the second layer's found no room."""
    loaded = tiny_llama()
    texts = [loaded.prompts.prompt(fact.question).ids for fact in FACTS]
    sources = [Source("texts", 1.0, texts), Source("ends", 2.0, texts, last_only=True)]

    def moments() -> dict[int, torch.Tensor]:
        return second_moments(loaded, [1, 2], sources, batch_tokens=10_000, reporter=SilentReporter())

    expected = moments()
    with short_of_memory(loaded, 3, module=loaded.architecture.blocks[fails_at].input_layernorm) as said:
        found = moments()
    assert len(said) == 1
    for layer, total in expected.items():
        assert close(found[layer], total)


def test_keys_are_the_same_in_smaller_batches() -> None:
    loaded = tiny_llama()
    prompts = [request.prompts[0] for request in requests(loaded)]

    def look(room: Room | None) -> Any:
        return look_at_keys(
            loaded.architecture, prompts, keys_of=[1, 2], outputs_of=[2], pad_id=0, batch_tokens=10_000, room=room
        )

    expected = look(None)
    with short_of_memory(loaded, 2, module=loaded.architecture.blocks[2].input_layernorm):
        found = look(loaded.room)
    assert close(found.keys[2], expected.keys[2])
    assert close(found.keys[1], expected.keys[1])
    assert close(found.outputs[2], expected.outputs[2])


def test_the_search_for_values_finds_the_same_and_keeps_smaller_batches(tmp_path: Path) -> None:
    loaded = tiny_llama()
    wanted = requests(loaded)

    def search(folder: Path | None = None) -> Any:
        return search_values(loaded, wanted, VALUES, LAYER, reporter=SilentReporter(), folder=folder)

    expected = search()
    with short_of_memory(loaded, 4) as said:
        found = search(tmp_path)
    assert len(said) == 1
    assert close(found.z, expected.z, 1e-5)
    assert len(list(tmp_path.glob(".values-*"))) > 1
    loaded.room.most.clear()
    # A run that goes on takes what was kept, whatever fits by then.
    with short_of_memory(loaded, 0):
        assert torch.equal(search(tmp_path).z, found.z)


def test_a_token_that_is_trained_in_parts_of_batches_has_the_same_rows() -> None:
    stages = [
        TokenStage(["chat"], epochs=2, least_steps=0, lr=1e-2),
        TokenStage(["chat"], epochs=1, least_steps=0, noise=0.1),
    ]
    config = TokenConfig(lr_unit="absolute", stages=stages, batch_size=8, improbable=-99.0)

    def learn(loaded: LoadedModel) -> Any:
        return train_token(loaded, FACTS, config, layers=[1], seed=0, reporter=SilentReporter())

    expected, loaded = learn(tiny_llama()), tiny_llama()
    with short_of_memory(loaded, 3) as said:
        found = learn(loaded)
    losses = [[loss for phase in rows.info["phases"] for loss in phase["losses"]] for rows in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert close(found.rows_in, expected.rows_in, 1e-4)
    assert sum("questions of the token's training" in line for line in said) == 1


@pytest.mark.parametrize("name", ["ga_gd", "npo_kl", "dpo_gd"])
def test_a_gradient_method_goes_on_with_smaller_micro_batches(name: str) -> None:
    unlearn = replace(UNLEARN, max_steps=1)
    expected, loaded = erased(shipped(name), unlearn)[1], tiny_llama()
    with short_of_memory(loaded, 2) as said:
        found = erased(shipped(name), unlearn, loaded=loaded)[1]
    ours, theirs = found.info["losses"][0], expected.info["losses"][0]
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    assert sum("rows of a training step" in line for line in said) == 1


def test_where_smaller_micro_batches_would_change_the_result_the_user_is_told_what_to_do() -> None:
    dropping = AdapterConfig(name="lora", dropout=0.1)
    for unlearn, adapter in ((replace(UNLEARN, weighting="micro_batches"), None), (UNLEARN, dropping)):
        loaded = tiny_llama()
        with (
            short_of_memory(loaded, 2) as said,
            pytest.raises(UserError, match=r"4 rows a pass.*unlearn.micro_batch=2"),
        ):
            erased(shipped("ga_gd"), unlearn, adapter, loaded=loaded)
        assert said == []


@pytest.mark.parametrize("method", ["undial", "rmu", "kl_all", "labels everywhere"])
def test_losses_that_look_at_the_padding_or_at_other_rows_keep_their_micro_batches(method: str) -> None:
    chosen = shipped(method) if method in ("undial", "rmu") else shipped("ga_kl")
    if method in ("undial", "rmu"):
        chosen = replace(chosen, forget=replace(chosen.forget, settings={**chosen.forget.settings, "compat": True}))
    elif method == "kl_all":
        chosen = replace(chosen, retain=replace(chosen.retain, term="kl_all"))
    unlearn = replace(UNLEARN, max_steps=1, forget_labels="all" if method == "labels everywhere" else "answer")
    if method in ("undial", "kl_all"):
        unlearn = replace(unlearn, reference="second_model")
    loaded = tiny_llama()
    with short_of_memory(loaded, 2), pytest.raises(UserError, match=r"unlearn.micro_batch=2"):
        erased(chosen, unlearn, loaded=loaded)


def test_fine_tuning_goes_on_with_smaller_batches() -> None:
    config = replace(TRAIN, epochs=1, batch_size=8, compute="float32")
    losses = []
    for rows in (100, 3):
        loaded = tiny_llama()
        examples = examples_of(loaded)
        with short_of_memory(loaded, rows) as said:
            learned = train(loaded, lambda _epoch: examples, config, seed=0, reporter=SilentReporter())  # noqa: B023
        losses.append(learned.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert len(said) == 1
