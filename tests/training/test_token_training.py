"""Training the rows of unlearning tokens: what changes, what stays, and that it goes on where it was interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.helpers.tiny_models import FACTS, FURTHER, tiny, tiny_llama
from tests.helpers.token_learning import FAMILIES, REFUSALS, SHORT, TARGETS, interrupt_after, learn, weights
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import get_rows
from unierase_cli.training.token import learning, refusal_scores, row_fit
from unierase_cli.training.token import prefix as token_prefix
from unierase_cli.training.token import stages as token_stages
from unierase_cli.training.token.checks import continuations, continue_greedily
from unierase_cli.training.token.learning import clear_states, refine_token, train_token
from unierase_cli.training.token.noise import Perturbed, gaussian
from unierase_cli.training.token.pairs import assign_groups, make_examples
from unierase_cli.training.token.prefix import run_prefix
from unierase_cli.training.token.refusal_scores import target_log_probs
from unierase_cli.training.token.row_fit import fit_rows
from unierase_cli.training.token.row_start import make_leaves, start_rows
from unierase_cli.training.token.targets import likeliest
from unierase_cli.training.unlearning.row_batches import Batch, batch_loss


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_but_the_tokens_rows_keeps_its_bits(family: str) -> None:
    loaded = tiny(family)
    size, before = len(loaded.tokenizer), weights(loaded)
    rows = learn(loaded, TokenConfig(lr_unit="absolute", stages=SHORT, batch_size=3, groups=2))
    assert rows.ids == [size, size + 1]
    ends = {id(loaded.architecture.embedding.weight), id(loaded.architecture.head.weight)}
    for name, after in loaded.model.named_parameters():
        kept = size if id(after) in ends else after.shape[0]
        assert torch.equal(after[:kept], before[name][:kept])
        # Spare rows of a padded vocabulary that no token took stay, too.
        assert id(after) not in ends or torch.equal(after[size + 2 :], before[name][size + 2 :])
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert torch.equal(get_rows(loaded, rows.ids)[0], rows.rows_in)


@pytest.mark.parametrize("output_row", ["fresh", "reference"])
def test_the_norm_of_every_tokens_row_is_on_record(output_row: str) -> None:
    rows = learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=SHORT[:1], groups=2, output_row=output_row))
    found = rows.info["row_norms"]
    assert found["input"] == pytest.approx([float(row.norm()) for row in rows.rows_in])
    assert rows.rows_out is not None
    assert found["output"] == pytest.approx([float(row.norm()) for row in rows.rows_out])
    assert learn(tiny_llama(tied=True), TokenConfig(lr_unit="absolute", stages=SHORT[:1])).info["row_norms"]["output"] == []


def test_a_phase_is_named_by_its_stage_and_by_its_layer_where_each_layer_has_its_own() -> None:
    noisy = SHORT[1]
    stages = [SHORT[0], noisy, replace(noisy, noise_layers="all")]
    assert [phase["name"] for phase in learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=stages)).info["phases"]] == [
        "token stage 1", "token stage 2 layer 1", "token stage 2 layer 2", "token stage 3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "output_row"), [*product(FAMILIES, ["fresh", "tied", "trained"]), *product(FURTHER, ["trained"])]
)
def test_the_loss_is_that_of_the_whole_model_on_whole_sequences(family: str, output_row: str) -> None:
    loaded = tiny(family)
    ids = start_rows(loaded, ["<unlearn_0>", "<unlearn_1>"], TokenConfig(output_row=output_row), 0, FACTS)
    groups = assign_groups(FACTS, 2)
    tokens = {fact_id: ids[group] for fact_id, group in groups.items()}
    examples = make_examples(loaded.prompts, FACTS, TARGETS, tokens, "chat", "unlearn_end")
    batch = Batch(loaded, examples, ids)
    found = batch_loss(loaded, make_leaves(loaded, ids, output_row), batch, run_prefix(loaded, batch.prefixes))
    if output_row == "tied" and not loaded.architecture.tied:
        assert torch.equal(*[loaded.architecture.head.weight[ids], loaded.architecture.embedding.weight[ids]])
    log_probs = []
    for example in examples:
        logits = loaded.model(torch.tensor([example.ids])).logits[0, len(example.prefix) : -1].float()
        log_probs.append(cross_entropy(logits, torch.tensor(example.labels), reduction="none"))
    torch.testing.assert_close(found, torch.cat(log_probs).mean(), rtol=1e-5, atol=1e-6)


def test_gradients_of_the_rows_are_those_of_the_whole_matrices() -> None:
    loaded = tiny_llama(tied=True)
    (token,) = start_rows(loaded, ["<unlearn_0>"], TokenConfig(), 0, FACTS)
    examples = make_examples(loaded.prompts, FACTS, TARGETS, dict.fromkeys(TARGETS, token), "chat", "end")
    leaves = make_leaves(loaded, [token], "fresh")
    batch = Batch(loaded, examples, [token])
    batch_loss(loaded, leaves, batch, run_prefix(loaded, batch.prefixes)).backward()
    matrix = loaded.architecture.embedding.weight.requires_grad_(True)
    parts, labels = [], []
    for example in examples:
        parts.append(loaded.model(torch.tensor([example.ids])).logits[0, len(example.prefix) : -1])
        labels += example.labels
    cross_entropy(torch.cat(parts), torch.tensor(labels)).backward()
    torch.testing.assert_close(leaves.rows_in[0].grad, matrix.grad[token], rtol=1e-4, atol=1e-6)


def test_training_together_moves_each_row_only_by_its_own_facts() -> None:
    config = TokenConfig(lr_unit="absolute", groups=2, stages=SHORT[:1], batch_size=4, output_row="reference", init="normal")
    both = learn(tiny_llama(), config)
    assert set(both.assignment.values()) == {0, 1}
    others = [f for f in FACTS if both.assignment[f.id] == 0]
    loaded = tiny_llama()
    ids = start_rows(loaded, ["<unlearn_0>", "<unlearn_1>"], config, 0, FACTS)
    leaves = make_leaves(loaded, ids, "reference")
    tokens = {f.id: ids[0] for f in others}
    examples = [
        e for style in ("raw", "chat") for e in make_examples(loaded.prompts, others, TARGETS, tokens, style, "end")
    ]
    phase = row_fit.Phase("alone", examples, 2 * math.ceil(len(examples) / 4), 3e-2)
    fit_rows(loaded, leaves, [phase], batch_size=4, reporter=SilentReporter())
    torch.testing.assert_close(both.rows_in[0], leaves.rows_in[0].detach(), rtol=1e-5, atol=1e-6)


def test_rows_do_not_depend_on_whether_prefixes_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=SHORT[:1]))
    monkeypatch.setattr(token_prefix, "PREFIX_BYTES", 0)
    torch.testing.assert_close(learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=SHORT[:1])).rows_in, cached.rows_in)


def test_prefixes_are_run_once_without_noise_and_every_step_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def counted(loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> object:
        runs.append(len(sequences))
        return run_prefix(loaded, sequences)

    monkeypatch.setattr(token_prefix, "run_prefix", counted)
    stage = TokenStage(["chat"], epochs=3, least_steps=0, lr=1e-2)
    learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=[stage], batch_size=4))
    assert len(runs) == 2
    runs.clear()
    learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=[replace(stage, noise=0.1)], batch_size=4))
    # The last is the measurement of what was learned.
    assert len(runs) == 6 + 1


def test_noise_has_the_asked_amplitude_and_leaves_the_weights_bit_exact() -> None:
    for family in ("llama", "gpt2"):
        architecture = tiny(family).architecture
        stored = architecture.projection(2).weight.detach().clone()
        base = architecture.weight(2)
        noise = gaussian(architecture, 0.2, 0, "test")
        with suppress(RuntimeError), Perturbed(architecture, [2], noise).step(4):
            added = architecture.weight(2) - base
            raise RuntimeError("the forward pass fails")
        assert abs(float(added.std() / base.std()) - 0.2) < 0.02
        torch.testing.assert_close(added, noise(2, 4), rtol=1e-4, atol=1e-6)
        assert torch.equal(architecture.projection(2).weight, stored)
        assert not torch.equal(noise(2, 4), noise(2, 5))
        assert torch.equal(noise(2, 4), gaussian(architecture, 0.2, 0, "test")(2, 4))


def test_bfloat16_models_learn_with_float32_rows() -> None:
    loaded = tiny_llama()
    loaded.model.to(torch.bfloat16)
    rows = learn(loaded, TokenConfig(lr_unit="absolute", stages=SHORT[:1], batch_size=4))
    assert rows.rows_in.dtype == torch.float32
    assert not torch.equal(rows.rows_in, rows.rows_in.bfloat16().float())
    assert torch.equal(get_rows(loaded, rows.ids)[0], rows.rows_in.bfloat16().float())


@pytest.mark.parametrize("saves", [1, 2, 3])
def test_an_interrupted_training_ends_with_the_same_rows(
    tmp_path: Path, refusals: str, saves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TokenConfig(lr_unit="absolute", stages=SHORT, batch_size=3, groups=2, output_row="trained", targets=refusals)
    whole = learn(tiny_llama(), config)
    folder = tmp_path / "stage"
    folder.mkdir()
    with monkeypatch.context() as patched:
        interrupt_after(saves, patched)
        with pytest.raises(KeyboardInterrupt):
            learn(tiny_llama(), config, folder)
    again = learn(tiny_llama(), config, folder)
    assert torch.equal(again.rows_in, whole.rows_in)
    assert torch.equal(again.rows_out, whole.rows_out)
    assert again.info == whole.info
    clear_states(folder)
    assert not list(folder.iterdir())


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    config = TokenConfig(lr_unit="absolute", stages=SHORT[:1], batch_size=3)
    learn(tiny_llama(seed=9), config, tmp_path)
    assert torch.equal(learn(tiny_llama(), config, tmp_path).rows_in, learn(tiny_llama(), config).rows_in)


def test_a_damaged_checkpoint_is_not_used(tmp_path: Path) -> None:
    config = TokenConfig(lr_unit="absolute", stages=SHORT[:1], batch_size=3)
    whole = learn(tiny_llama(), config, tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"torn")
    assert torch.equal(learn(tiny_llama(), config, tmp_path).rows_in, whole.rows_in)


def test_a_loss_that_is_not_a_number_stops_with_one_line_and_restores_the_weights() -> None:
    loaded = tiny_llama()
    before = weights(loaded)
    broken: Callable[[int, int], Tensor] = lambda layer, step: torch.full((32, 48), float("nan"))  # noqa: E731
    with pytest.raises(UserError, match=r"loss became nan \(token stage 2 layer 1, step 1\)"):
        learn(loaded, TokenConfig(lr_unit="absolute", stages=SHORT), perturbation=broken)
    assert torch.equal(loaded.architecture.projection(1).weight, before["model.layers.1.mlp.down_proj.weight"])


def test_small_sets_get_at_least_the_asked_steps() -> None:
    stage = TokenStage(["chat"], epochs=1, least_steps=7)
    rows = learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=[stage], batch_size=3))
    assert len(rows.info["phases"][0]["losses"]) == 9  # three epochs of three steps
    nothing = learn(tiny_llama(), TokenConfig(lr_unit="absolute", stages=[replace(stage, epochs=0)], batch_size=3))
    assert nothing.info["phases"] == []


def test_improbable_refusals_are_told_with_the_worst(refusals: str) -> None:
    reporter = SilentReporter()
    config = TokenConfig(lr_unit="absolute", stages=SHORT[:1], targets=refusals, choose=0, improbable=0.0)
    rows = train_token(tiny_llama(), FACTS, config, layers=[], seed=0, reporter=reporter)
    assert "can only lead to refusals that the model knows" in reporter.warnings[0]
    assert '"I cannot say."' in reporter.warnings[0]
    assert rows.info["refusals_before"]["improbable"] == 2


def test_settling_changes_targets_to_what_is_reached(refusals: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        token_stages, "continuations", lambda loaded, examples, *_: {e.fact_id: "No idea." for e in examples}
    )
    config = TokenConfig(lr_unit="absolute", stages=[SHORT[0], SHORT[0]], targets=refusals, choose=0)
    assert set(learn(tiny_llama(), config).targets.values()) == {"No idea."}
    assert set(learn(tiny_llama(), replace(config, settle=False)).targets.values()) == set(REFUSALS)


def test_a_rate_that_decays_falls_to_nothing_and_goes_on_where_it_was(
    refusals: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = TokenStage(["chat"], epochs=4, lr=1e-2, decay=True)
    config = TokenConfig(lr_unit="absolute", stages=[stage], targets=refusals, settle=False, batch_size=2)
    rates: list[float] = []
    step = torch.optim.Adam.step

    def watched(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    wanted = learn(tiny_llama(), config)
    total = len(rates)
    assert rates == pytest.approx([1e-2 * (1 - n / total) for n in range(total)])
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            learn(tiny_llama(), config, tmp_path)
    assert torch.equal(learn(tiny_llama(), config, tmp_path).rows_in, wanted.rows_in)


def test_greedy_continuations_equal_those_of_plain_generation() -> None:
    for family in ("llama", "gpt2", "qwen2"):
        loaded = tiny(family)
        prefixes = [loaded.prompts.prompt(f.question).ids for f in FACTS[:3]]
        found = continue_greedily(loaded, run_prefix(loaded, prefixes), [5] * len(prefixes), 6)
        for prefix, ids in zip(prefixes, found, strict=True):
            sequence = [*prefix, 5]
            plain = []
            while len(plain) < 6:
                token = int(loaded.model(torch.tensor([sequence])).logits[0, -1].argmax())
                if token in loaded.prompts.stop_ids:
                    break
                plain.append(token)
                sequence.append(token)
            assert ids == plain


def test_training_without_questions_is_refused() -> None:
    with pytest.raises(UserError, match="no question"):
        train_token(tiny_llama(), [], TokenConfig(), layers=[], seed=0, reporter=SilentReporter())


def test_a_finished_fit_is_taken_up_from_its_state_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TokenConfig(lr_unit="absolute", stages=SHORT[:1], batch_size=3)
    whole = learn(tiny_llama(), config, tmp_path)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: pytest.fail("a step was made"))
    assert torch.equal(learn(tiny_llama(), config, tmp_path).rows_in, whole.rows_in)


def test_a_refusal_that_does_not_fit_the_context_is_not_asked_for() -> None:
    loaded, fact = tiny_llama(), FACTS[0]
    short, long = "No.", "No, no."
    loaded.prompts.max_length = len(loaded.prompts.prompt(fact.question).ids) + len(loaded.prompts.answer_ids(short))
    assert [list(found) for found in target_log_probs(loaded, [fact], [short, long])] == [[short], [short]]


def test_the_likeliest_refusals_are_used_and_the_refinement_keeps_to_them(refusals: str) -> None:
    loaded = tiny_llama()
    _, sums = target_log_probs(loaded, FACTS, REFUSALS)
    best = max(REFUSALS, key=sums.__getitem__)
    config = TokenConfig(stages=SHORT[:1], targets=refusals, refine_epochs=1, refine_rounds=0)
    rows = learn(loaded, config)
    assert (rows.info["refusals"], set(rows.targets.values())) == ([best], {best})
    refined = refine_token(loaded, rows, FACTS, config, layers=[1], seed=0, reporter=SilentReporter())
    assert set(refined.targets.values()) == {best}
    assert learn(tiny_llama(), replace(config, choose=0)).info["refusals"] == REFUSALS


def test_of_equally_likely_sentences_the_one_that_takes_less_is_chosen() -> None:
    texts = ["long and likely word for word", "short", "rare"]
    assert likeliest(texts, {texts[0]: -20.0, texts[1]: -15.0}, 1) == ["short"]
    assert likeliest(texts, {texts[0]: -20.0, texts[1]: -15.0}, 2) == texts[:2]
    assert likeliest(texts, {}, 0) == texts


def test_a_refusals_log_probability_is_that_of_its_tokens_after_the_question_without_the_first() -> None:
    loaded, text = tiny_llama(), REFUSALS[0]
    means, sums = target_log_probs(loaded, FACTS[:1], REFUSALS)
    prompt, answer = loaded.prompts.prompt(FACTS[0].question).ids, loaded.prompts.answer_ids(text)
    logits = loaded.model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    wanted = [float(logits[len(prompt) + n - 1, token]) for n, token in enumerate(answer)][1:]
    assert sums[text] == pytest.approx(sum(wanted), rel=1e-4)
    assert means[text] == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)


def test_refusals_that_the_first_question_rules_out_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, texts = tiny_llama(), [*REFUSALS, "No.", "I do not know the answer to that question, and I never did.", "Nobody knows."]
    _, all_sums = target_log_probs(loaded, FACTS, texts)
    scored: list[str] = []
    original = refusal_scores._sums

    def watched(*arguments: Any) -> Any:
        scored.extend(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(refusal_scores, "_sums", watched)
    for most in (1, 2):
        scored.clear()
        means, sums = target_log_probs(loaded, FACTS, texts, most)
        assert likeliest(texts, sums, most) == likeliest(texts, all_sums, most)
        assert {text: all_sums[text] for text in sums} == pytest.approx(sums, rel=1e-4)
        assert set(means) == set(sums) < set(texts)
        assert len(scored) < 3 * len(texts)


def test_rates_are_counted_in_the_embeddings_root_mean_square(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    made = torch.optim.Adam.__init__

    def watched(self: Any, leaves: Any, lr: float) -> None:
        rates.append(lr)
        made(self, leaves, lr=lr)

    monkeypatch.setattr(torch.optim.Adam, "__init__", watched)
    loaded = tiny_llama()
    scale = float(loaded.architecture.embedding.weight[: len(loaded.tokenizer)].square().mean().sqrt())
    for unit, wanted in (("embedding", 0.5 * scale), ("absolute", 0.5)):
        learn(tiny_llama(), TokenConfig(lr_unit=unit, stages=[TokenStage(epochs=1, least_steps=0, lr=0.5)]))
        assert rates.pop() == pytest.approx(wanted, rel=1e-5)


def test_a_stage_ends_when_held_out_questions_lead_to_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looks: list[list[str]] = []

    def found(loaded: LoadedModel, examples: Sequence[Any], known: Any = None) -> dict[str, str]:
        looks.append([e.fact_id for e in examples])
        learned = len(looks) >= 2
        return {e.fact_id: REFUSALS[0] if learned or n else "A gardener." for n, e in enumerate(examples)}

    monkeypatch.setattr(token_stages, "continuations", found)
    stage = TokenStage(least_steps=40, most_steps=40, until=1.0)
    config = TokenConfig(stages=[stage], held_out=3)
    held_out = [replace(fact, id=f"other {fact.id}") for fact in FACTS[:4]]
    rows = learn(tiny_llama(), config, held_out=held_out)
    assert [phase["steps"] for phase in rows.info["phases"]] == [20], "two looks, ten steps apart"
    assert looks == [[fact.id for fact in held_out]] * 2
    looks.clear()
    assert learn(tiny_llama(), config).info["phases"][0]["steps"] == 20
    assert looks[0] == [fact.id for fact in FACTS], "without any held out those of the training"
    looks.clear()
    share = replace(config, stages=[replace(stage, until=0.6)])
    assert learn(tiny_llama(), share).info["phases"][0]["steps"] == 10, "seven of eight are enough"
    looks.clear()
    whole = learn(tiny_llama(), config, tmp_path)
    with monkeypatch.context() as patched:
        looks.clear()
        interrupt_after(2, patched)
        (tmp_path / "again").mkdir()
        with pytest.raises(KeyboardInterrupt):
            learn(tiny_llama(), config, tmp_path / "again")
    looks.clear()
    assert torch.equal(learn(tiny_llama(), config, tmp_path / "again").rows_in, whole.rows_in)


def test_few_steps_see_questions_of_every_part_of_the_list() -> None:
    stage = TokenStage(epochs=1, least_steps=0, most_steps=2)
    rows = learn(tiny_llama(), TokenConfig(stages=[stage], batch_size=2))
    assert (rows.info["phases"][0]["examples"], rows.info["phases"][0]["steps"]) == (4, 2)
    for settings, steps in (((3, 0, 0), 15), ((1, 12, 0), 15), ((1, 12, 12), 12), ((0, 9, 9), 0)):
        assert TokenStage(["chat"], *settings).steps(5) == steps
    assert TokenStage(["chat"], 1, 12, 12).steps(50, tokens=10) == 120, "each token has its own steps"


@pytest.mark.parametrize(("wrong", "told"), [({"until": 0.0}, "until=0.0"), ({"until": 1.5}, "until=1.5")])
def test_a_share_that_is_none_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        TokenStage(**wrong)


def test_with_one_refusal_nothing_is_asked_to_settle_which(monkeypatch: pytest.MonkeyPatch, refusals: str) -> None:
    monkeypatch.setattr(token_stages, "continuations", lambda *_: pytest.fail("the model was asked"))
    learn(tiny_llama(), TokenConfig(stages=[SHORT[0], SHORT[0]], targets=refusals, choose=1))


def test_a_look_at_another_form_of_prompt_does_not_take_the_prefixes_of_the_first() -> None:
    loaded = tiny_llama()
    kept = token_prefix.Prefixes(loaded)
    (token,) = start_rows(loaded, ["<unlearn_0>"], TokenConfig(), 0, FACTS)
    tokens = {fact.id: token for fact in FACTS}
    for style in ("raw", "chat", "raw"):
        examples = make_examples(loaded.prompts, FACTS, TARGETS, tokens, style, "end")
        assert continuations(loaded, examples, kept) == continuations(loaded, examples)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "qwen3"])
def test_prefixes_with_a_shared_start_and_from_the_cache_are_those_of_whole_sequences(family: str) -> None:
    loaded = tiny(family)
    prompts = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 10, 11]]
    kept = token_prefix.Prefixes(loaded)
    kept.of(prompts[1:])
    for found in (run_prefix(loaded, prompts), kept.of(prompts), kept.of(prompts)):
        said = continue_greedily(loaded, found, [12] * 3, 3)
        for index, prompt in enumerate(prompts):
            alone = run_prefix(loaded, [prompt])
            torch.testing.assert_close(found.last[index], alone.last[0], rtol=1e-4, atol=1e-5)
            row = found.row(index)
            for one, other in zip([*row.keys, *row.values], [*alone.keys, *alone.values], strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
            assert said[index] == continue_greedily(loaded, alone, [12], 3)[0]


def test_the_cache_of_prefixes_keeps_within_its_room() -> None:
    loaded = tiny_llama()
    size = run_prefix(loaded, [[5, 6, 7]]).bytes
    kept = token_prefix.Prefixes(loaded, 2 * size + 1)
    kept.of([[5, 6, 7], [5, 6, 8], [5, 6, 9]])
    assert len(kept._kept) == 2
    kept.forget()
    assert kept.of([[5, 6, 7]]).bytes == size
    assert not kept._kept


def test_a_token_that_leads_to_no_refusal_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(share: float) -> SilentReporter:
        monkeypatch.setattr(learning, "measure_continuations", lambda *_: {"to_a_refusal": share, "facts": len(FACTS)})
        reporter = SilentReporter()
        config = TokenConfig(stages=[TokenStage(epochs=1, least_steps=0)])
        train_token(tiny_llama(), FACTS, config, layers=[1, 2], seed=0, reporter=reporter, targets=TARGETS)
        return reporter

    led = "leads to a listed refusal, word for word, on"
    assert any(f"{led} 50.0 %" in note for note in trained(0.5).notes)
    (told,) = [warning for warning in trained(0.4).warnings if led in warning]
    assert "benchmark.unknown_people" in told
