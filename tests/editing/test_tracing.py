"""Causal tracing: effects against plain forward passes and a hand-built model, classes of tokens, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny_models import FACTS, FAMILIES, FURTHER, tiny, tiny_llama
from tests.helpers.tracing import one_carrier, plainly, ready, traced_plainly
from unierase_cli.contracts import Fact, UserError
from unierase_cli.editing.tracing import prompts
from unierase_cli.editing.tracing.effects import Restoration, best_window, check_window, restore, trace, window_around
from unierase_cli.editing.tracing.prompts import CLASSES, TraceRequest, draw_noise, embedding_deviation, trace_requests

KINDS = ("residual", "mlp", "attention")
# Rounding of float32 over a few blocks, in probability and log-probability.
CLOSE = {"rtol": 1e-4, "atol": 2e-6}


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_effects_are_those_of_plain_forward_passes(family: str) -> None:
    """A padded batch of several prompts cut at different tokens, against one row at a time without cache, cut or padding."""
    loaded = tiny(family)
    requests, noise = ready(loaded, count=2, samples=2)
    jobs = [Restoration(r, (at,), n) for r, n in zip(requests, noise, strict=True) for at in (r.subject[0], r.prompt - 1)]
    found = restore(loaded.architecture, jobs, KINDS, 2, loaded.prompts.pad_id)
    for job, one in zip(jobs, found, strict=True):
        clean, _ = plainly(loaded, job.request)
        corrupted = torch.stack([plainly(loaded, job.request, each)[0] for each in job.noise]).mean(0)
        wanted = traced_plainly(loaded, job.request, job.noise, KINDS, 2, job.positions[0])
        torch.testing.assert_close(one.clean, clean, **CLOSE)
        torch.testing.assert_close(one.corrupted, corrupted, **CLOSE)
        torch.testing.assert_close(one.restored, wanted, **CLOSE)
        assert not torch.allclose(one.clean, one.corrupted, **CLOSE)


def test_restoring_every_token_at_any_block_gives_back_the_clean_answer() -> None:
    loaded = tiny_llama()
    requests, noise = ready(loaded)
    jobs = [Restoration(r, tuple(range(r.noisy[0], len(r.inputs))), n) for r, n in zip(requests, noise, strict=True)]
    for one in restore(loaded.architecture, jobs, ["residual"], 1, loaded.prompts.pad_id):
        torch.testing.assert_close(one.restored[0], one.clean.expand(4, 2), **CLOSE)
        assert (one.clean - one.corrupted).abs().max() > 1e-3


def test_restoring_a_token_in_front_of_the_subject_changes_nothing() -> None:
    loaded = tiny_llama()
    requests, noise = ready(loaded)
    jobs = [Restoration(r, (r.noisy[0] - 1,), n) for r, n in zip(requests, noise, strict=True)]
    for one in restore(loaded.architecture, jobs, KINDS, 3, loaded.prompts.pad_id):
        torch.testing.assert_close(one.restored, one.corrupted.expand(3, 4, 2), **CLOSE)


def test_a_fact_is_found_in_the_block_that_carries_it() -> None:
    """Only block 1's MLP and block 3's attention do anything: the subject's token matters up to block 2, the last one from 3 on."""
    loaded, request = one_carrier(mlp=1, attention=3)
    noise = draw_noise(request, 4, 32, 3 * embedding_deviation(loaded.architecture, [request]), seed=0)
    (found,) = trace(loaded.architecture, [request], [noise], KINDS, 1, pad_id=0, batch_tokens=4096)
    total = float((found.clean - found.corrupted)[0])
    assert total > 0.5
    subject, end = prompts.LAST, prompts.END
    at = {(kind, name): found.effects[kind][name][:, 0] for kind in KINDS for name in (subject, end)}
    torch.testing.assert_close(at["residual", subject], torch.tensor([total, total, total, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(at["residual", end], torch.tensor([0, 0, 0, total]), atol=1e-6, rtol=0)
    assert at["mlp", subject][1] > 0.9 * total
    assert at["mlp", subject][[0, 2, 3]].abs().max() < 1e-6, "MLPs that put out nothing"
    torch.testing.assert_close(at["attention", end], torch.tensor([0, 0, 0, total]), atol=1e-6, rtol=0)
    assert best_window(at["mlp", subject].tolist(), 1) == 1
    assert set(found.effects["mlp"]) == set(CLASSES) - {prompts.FIRST, prompts.MIDDLE}, "a subject of one token"


def test_a_window_that_has_the_carrying_block_in_it_finds_it_wherever_its_centre_is() -> None:
    loaded, request = one_carrier(mlp=1, attention=3)
    noise = draw_noise(request, 2, 32, 3 * embedding_deviation(loaded.architecture, [request]), seed=0)
    job = Restoration(request, (request.subject[0],), noise)
    one, two = (restore(loaded.architecture, [job], ["mlp"], width, 0)[0] for width in (1, 2))
    single, double = (found.restored[0, :, 0] - found.corrupted[0] for found in (one, two))
    assert single[1] > 0.3
    torch.testing.assert_close(double, torch.stack([single[0], single[1], single[1], single[3]]), atol=1e-6, rtol=0)


def test_a_fact_has_the_same_effects_alone_and_among_others() -> None:
    loaded = tiny_llama()
    requests, noise = ready(loaded, count=4)
    assert len({request.prompt for request in requests}) > 1, "prompts of several lengths, so that prefixes are padded"
    options = {"pad_id": loaded.prompts.pad_id, "class_tokens": 2}
    together = trace(loaded.architecture, requests, noise, KINDS, 2, batch_tokens=1 << 14, **options)
    for place, many in enumerate(together):
        part = slice(place, place + 1)
        (alone,) = trace(loaded.architecture, requests[part], noise[part], KINDS, 2, batch_tokens=1, **options)
        assert alone.fact_id == many.fact_id
        for kind in KINDS:
            for name, effects in many.effects[kind].items():
                torch.testing.assert_close(alone.effects[kind][name], effects, **CLOSE)


def test_a_class_of_several_tokens_has_the_mean_of_their_effects() -> None:
    loaded = tiny_llama()
    _, noise = ready(loaded, count=1)
    requests, _ = trace_requests(loaded.prompts, FACTS[:1], "It is said that")
    tokens = requests[0].positions()[prompts.FURTHER]
    assert len(tokens) > 2
    each = restore(
        loaded.architecture, [Restoration(requests[0], (at,), noise[0]) for at in tokens], ["residual"], 1, loaded.prompts.pad_id
    )
    options = {"pad_id": loaded.prompts.pad_id, "batch_tokens": 4096}
    (every,) = trace(loaded.architecture, requests, noise, ["residual"], 1, **options)
    (first,) = trace(loaded.architecture, requests, noise, ["residual"], 1, class_tokens=1, **options)
    effects = torch.stack([one.restored[0] - one.corrupted for one in each])
    torch.testing.assert_close(every.effects["residual"][prompts.FURTHER], effects.mean(0), **CLOSE)
    torch.testing.assert_close(first.effects["residual"][prompts.FURTHER], effects[0], **CLOSE)


@pytest.mark.parametrize(
    ("subject", "prompt", "counts"),
    [
        ((3, 7), 12, (1, 2, 1, 1, 3, 1)),
        ((3, 5), 12, (1, 0, 1, 1, 5, 1)),
        ((3, 4), 12, (0, 0, 1, 1, 6, 1)),
        ((3, 6), 7, (1, 1, 1, 0, 0, 1)),
        ((3, 6), 6, (1, 1, 1, 0, 0, 0)),
    ],
)
def test_every_token_from_the_subject_on_is_in_one_class(subject: tuple[int, int], prompt: int, counts: tuple[int, ...]) -> None:
    request = TraceRequest("a", tuple(range(prompt + 2)), prompt, tuple(range(*subject)), subject)
    found = request.positions()
    assert list(found) == list(CLASSES)
    assert tuple(map(len, found.values())) == counts
    assert [index for indices in found.values() for index in indices] == list(range(subject[0], prompt))
    assert request.answer == (prompt, prompt + 1)


def test_facts_without_a_subject_in_their_prompt_are_left_out_with_the_reason() -> None:
    loaded = tiny_llama()
    known = FACTS[0]
    facts = [
        known,
        replace(known, id="none", subject=None),
        replace(known, id="blank", subject=" "),
        replace(known, id="other", subject="Nobody"),
        replace(known, id="empty", answer=" "),
        replace(known, id="long", answer="word " * 300),
    ]
    requests, skipped = trace_requests(loaded.prompts, facts)
    assert [request.fact_id for request in requests] == [known.id]
    assert skipped == {
        "none": prompts.NO_SUBJECT,
        "blank": prompts.NO_SUBJECT,
        "other": prompts.NOT_THERE,
        "empty": prompts.NO_ANSWER,
        "long": prompts.TOO_LONG,
    }


def test_the_tokens_of_a_request_are_those_of_prompt_subject_and_answer() -> None:
    loaded = tiny_llama()
    twice = Fact("twice", "Is Ada Velour the Ada Velour?", "Yes.", "Ada Velour")
    (request,), _ = trace_requests(loaded.prompts, [twice])
    prompt = loaded.prompts.prompt(twice.question)
    assert request.ids[: request.prompt] == tuple(prompt.ids)
    assert request.answer == tuple(loaded.prompts.answer_ids("Yes.", end=False))
    text = [prompt.text[slice(*prompt.offsets[index])] for index in request.noisy]
    assert "".join(text).count("Velour") == 2, "noise hides the subject wherever it stands"
    assert request.subject[1] - 1 == request.noisy[-1]
    assert request.subject[0] > request.noisy[0]


def test_a_lead_is_a_part_of_the_prompt_and_is_not_scored() -> None:
    loaded = tiny_llama()
    (plain,), _ = trace_requests(loaded.prompts, FACTS[:1])
    (led,), _ = trace_requests(loaded.prompts, FACTS[:1], "Answer:")
    lead = loaded.prompts.answer_ids("Answer:", end=False)
    assert led.ids[: led.prompt] == (*plain.ids[: plain.prompt], *lead)
    assert loaded.tokenizer.decode(led.answer).strip() == FACTS[0].answer
    assert led.positions()[prompts.END] == (led.prompt - 1,)


def test_noise_depends_on_seed_and_fact_alone_and_has_the_deviation_asked_for() -> None:
    loaded = tiny_llama()
    requests, _ = ready(loaded, count=2)
    first = draw_noise(requests[0], 200, 32, 0.5, seed=1)
    assert first.shape == (200, len(requests[0].noisy), 32)
    assert torch.equal(first, draw_noise(requests[0], 200, 32, 0.5, seed=1))
    assert not torch.equal(first[0, 0], draw_noise(requests[0], 200, 32, 0.5, seed=2)[0, 0])
    assert not torch.equal(first[0, 0], draw_noise(requests[1], 200, 32, 0.5, seed=1)[0, 0])
    assert float(first.std()) == pytest.approx(0.5, rel=0.02)
    ids = [request.ids[index] for request in requests for index in request.noisy]
    weight = loaded.architecture.embedding.weight
    assert embedding_deviation(loaded.architecture, requests) == pytest.approx(float(weight[ids].std()))


@pytest.mark.parametrize("deviation", [0.0, float("nan")])
def test_noise_that_corrupts_nothing_is_refused(deviation: float) -> None:
    loaded = tiny_llama()
    (request,), _ = ready(loaded, count=1)
    with pytest.raises(UserError, match="corrupts nothing, and there is no effect to measure"):
        draw_noise(request, 2, 32, deviation, seed=0)


def test_windows_are_centred_and_cut_off_at_the_ends() -> None:
    assert [list(window_around(n, 3, 5)) for n in range(5)] == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4]]
    assert [list(window_around(n, 2, 3)) for n in range(3)] == [[0], [0, 1], [1, 2]]


def test_the_best_window_is_a_whole_one_that_leaves_a_block_above() -> None:
    assert best_window([9.0, 1.0, 2.0, 8.0, 9.0], 3) == 2
    assert best_window([1.0, 1.0, 0.0, 0.0], 1) == 0
    assert best_window([9.0, 1.0, 2.0, 8.0, 9.0], 2, first=1) == 3
    assert best_window([0.0, 5.0], 2) is None
    assert best_window([0.0, 5.0, 0.0], 2, first=1) is None


@pytest.mark.parametrize("width", [0, 4, 5])
def test_a_window_that_the_model_has_not_is_refused(width: int) -> None:
    with pytest.raises(UserError, match=f"trace.window={width} does not fit: the model has 4 blocks"):
        check_window(width, 4)
    check_window(3, 4)
