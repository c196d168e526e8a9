"""Gradient methods from the step to the patch: what is trained, what is handed on, what goes wrong in one line."""

from __future__ import annotations

import builtins
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.gradient_steps import CONF, REFUSALS, STEP, UNLEARN, context, erased, loss_on, shipped
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from unierase_cli.config.schema import Experiment, what_counts
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import Step, UserError
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.inference.sample import sample
from unierase_cli.methods import gradient_checks, repselect, scrub
from unierase_cli.methods.base import METHODS, load_method
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.terms import gd
from unierase_cli.models.load import LoadedModel
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages.shared.erase_context import for_step
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.unlearning.plan import Item
from unierase_cli.training.unlearning.rows import collate
from unierase_cli.training.unlearning.token_weights import load_token_weights

GRADIENT = sorted(name for name in (p.stem for p in CONF.glob("*.yaml")) if shipped(name).forget.term)


def pair(forget: str | None, retain: str | None, **settings: Any) -> MethodConfig:
    return MethodConfig("pair", "gradient", False, False, TermConfig(forget, 1.0, settings), TermConfig(retain))


def bits(loaded: LoadedModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in loaded.model.parameters()]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_every_method_of_the_field_is_shipped() -> None:
    eight = {"ga_gd", "ga_kl", "npo_gd", "npo_kl", "me_gd", "dpo_gd", "dpo_kl", "idk_ap"}
    newer = {"simnpo", "rmu", "undial", "altpo", "wga", "satimp", "ceu", "pdu", "task_vector", "lora_negation"}
    assert eight | newer <= set(GRADIENT)
    assert {"gradient", "altpo", "task_vector", "lora_negation"} <= set(METHODS.names())


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("name", GRADIENT)
def test_every_method_changes_the_model_and_its_patch_rebuilds_the_same_bits(name: str, adapter: str, tmp_path: Path) -> None:
    if adapter == "none" and METHODS.says(shipped(name).implemented_by, "NEEDS_ADAPTER", False):
        pytest.skip("trains adapters only")
    before = loss_on(tiny_llama())
    loaded, patch = erased(shipped(name), UNLEARN, AdapterConfig(name=adapter), directory=tmp_path)
    after = loss_on(loaded)
    assert math.isfinite(after)
    assert after != before
    patch.save(tmp_path, 0)
    fresh = tiny_llama()
    applied = apply_patches(fresh, [Patch.load(tmp_path, 0)])
    assert equal(bits(fresh), bits(loaded))
    applied.revert()
    assert equal(bits(fresh), bits(tiny_llama()))
    assert bool(patch.dense) == (adapter == "none")
    assert bool(patch.named) == (adapter == "lora")
    assert 0 < patch.info["changed_share"] <= 1
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not loaded.model.training


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("alpha", [4, 12])
def test_an_adapters_change_is_the_one_that_the_model_runs_with_its_scale_included(family: str, alpha: int) -> None:
    loaded, plain = tiny(family), tiny(family)
    adapter = Adapter(loaded, AdapterConfig(name="lora", r=4, alpha=alpha, dropout=0.0), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        ids = torch.tensor([loaded.prompts.prompt("Who wrote that book?").ids])
        wanted, before = loaded.model(ids).logits, plain.model(ids).logits
        for name, (left, right) in adapter.changes().items():
            plain.model.get_parameter(name).add_(left @ right.T)
        found = plain.model(ids).logits
    assert float((wanted - before).abs().max()) > 0.1
    assert torch.allclose(found, wanted, atol=1e-4)


def test_gradient_ascent_forgets_and_descent_keeps() -> None:
    base = tiny_llama()
    loaded, _ = erased(shipped("ga_gd"))
    assert loss_on(loaded) > loss_on(base) + 0.1
    assert loss_on(loaded, STEP.retain) < loss_on(base, STEP.retain)


def test_task_vectors_go_the_other_way_than_learning() -> None:
    base = loss_on(tiny_llama())
    assert loss_on(erased(pair("learn", None))[0]) < base
    assert loss_on(erased(shipped("task_vector"))[0]) > base
    assert loss_on(erased(shipped("lora_negation"), UNLEARN, AdapterConfig(name="lora", dropout=0.0))[0]) > base


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("name", ["ga_gd", "task_vector"])
def test_a_share_of_the_learned_change_is_kept(name: str, adapter: str) -> None:
    before = dict(tiny_llama().model.named_parameters())
    found = [erased(shipped(name), replace(UNLEARN, scale=scale), AdapterConfig(name=adapter))[0] for scale in (1.0, 0.25)]
    whole, part = ({key: p - before[key] for key, p in one.model.named_parameters()} for one in found)
    assert any(change.abs().max() > 1e-3 for change in whole.values())
    for key, change in whole.items():
        torch.testing.assert_close(part[key], 0.25 * change, atol=1e-6, rtol=1e-3)


def test_a_share_of_the_change_is_refused_where_nothing_reads_it() -> None:
    scaled = replace(UNLEARN, scale=0.5)
    for name, method in {"scrub": scrub, "repselect": repselect}.items():
        with pytest.raises(UserError, match=f"method={name} does not read unlearn.scale=0.5"):
            method.check(Experiment(method=shipped(name), unlearn=scaled), [STEP], [])
    with pytest.raises(UserError, match=r"unlearn\.scale=0 must"):
        replace(UNLEARN, scale=0)


@pytest.mark.parametrize("name", ["ga_gd", "npo_kl", "dpo_gd", "idk_ap", "rmu", "undial"])
def test_micro_batches_change_nothing_but_rounding(name: str) -> None:
    method = shipped(name)
    whole = erased(method)[1].info["losses"]
    cut = erased(method, replace(UNLEARN, micro_batch=1))[1].info["losses"]
    assert whole[0] == pytest.approx(cut[0], rel=1e-5, abs=1e-6)
    # Adam's first steps are signs: where a gradient is next to nothing, rounding decides.
    for a, b in zip(whole[1:], cut[1:], strict=True):
        assert a == pytest.approx(b, rel=5e-2, abs=1e-3)


def test_the_references_mean_of_micro_batch_means_is_another_number() -> None:
    method = shipped("ga_gd")
    ours = erased(method, replace(UNLEARN, max_steps=1, micro_batch=1))[1].info["losses"][0]
    theirs = erased(method, replace(UNLEARN, max_steps=1, micro_batch=1, weighting="micro_batches"))[1].info["losses"][0]
    whole = erased(method, replace(UNLEARN, max_steps=1, weighting="micro_batches"))[1].info["losses"][0]
    assert whole["forget"] == pytest.approx(ours["forget"], rel=1e-5)
    assert theirs["forget"] != pytest.approx(ours["forget"], rel=1e-4)


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("name", ["ga_kl", "undial", "rmu"])
def test_stored_references_equal_a_second_model(name: str, adapter: str) -> None:
    config = AdapterConfig(name=adapter, dropout=0.0)
    stored = erased(shipped(name), replace(UNLEARN, reference="stored"), config)[1].info["losses"]
    other = "second_model" if adapter == "none" else "auto"
    second = erased(shipped(name), replace(UNLEARN, reference=other), config)[1].info["losses"]
    for a, b in zip(stored, second, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)


def test_losses_that_compare_start_at_their_known_values() -> None:
    for adapter in ("none", "lora"):
        config = AdapterConfig(name=adapter, dropout=0.0)
        first = erased(shipped("npo_kl"), replace(UNLEARN, max_steps=1), config)[1].info["losses"][0]
        assert first["forget"] == pytest.approx(2 * math.log(2) / 0.1, rel=1e-5)
        assert first["retain"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "rehearsal", "previous"),
    [("previous", 0.0, True), ("original", 0.0, False), ("previous", 1.0, False)],
)
def test_a_later_step_compares_with_the_weights_that_are_wished_for(reference: str, rehearsal: float, previous: bool) -> None:
    loaded = tiny_llama()
    working = context(loaded, shipped("npo_kl"), replace(UNLEARN, rehearsal=rehearsal))
    mode = ModeConfig("sequential", steps=2, reference=reference)
    working = replace(working, experiment=replace(working.experiment, mode=mode))
    first, state = load_method("gradient").erase(loaded, STEP, EditState(), working)
    # What the first step is compared with is the original model either way.
    assert first.info["losses"][0]["forget"] == pytest.approx(2 * math.log(2) / 0.1, rel=1e-5)
    later = replace(STEP, index=1, forgotten_before=STEP.forget)
    second, _ = load_method("gradient").erase(loaded, later, state, working)
    unmoved = second.info["losses"][0]["forget"] == pytest.approx(2 * math.log(2) / 0.1, rel=1e-3)
    assert unmoved == previous


def test_kl_over_every_position_asks_for_a_reference_model() -> None:
    method = pair("ga", "kl_all")
    with pytest.raises(UserError, match="unlearn.reference=second_model"):
        erased(method)
    layout = replace(UNLEARN, layout="closer_look", max_length=64, reference="second_model", max_steps=1)
    assert erased(method, layout)[1].info["losses"][0]["retain"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("method", ["ga_kl", "undial", "rmu"])
def test_a_reference_that_does_not_fit_is_refused_with_its_size(method: str) -> None:
    with pytest.raises(UserError, match=r"need 0.0 GiB of the reference model on \d+ rows \(unlearn.reference_gib=1e-09\)"):
        erased(shipped(method), replace(UNLEARN, reference_gib=1e-9))


def test_closer_looks_rows_are_filled_with_end_tokens() -> None:
    loaded = tiny_llama()
    assert loaded.prompts.eos_id != loaded.prompts.pad_id
    for name, fills in (("closer_look", loaded.prompts.eos_id), ("own", loaded.prompts.pad_id)):
        rows = Rows(loaded, STEP, context(loaded, shipped("me_gd"), replace(UNLEARN, layout=name, max_length=64)), {})
        some = [rows("forget", Item(index, 0, 0)) for index in range(2)]
        batch = collate(some, loaded.prompts.pad_id, "cpu", rows.layout("forget"))
        rest = [ids[len(row.ids) :].tolist() for ids, row in zip(batch.ids, some, strict=True)]
        assert any(rest)
        assert {token for tokens in rest for token in tokens} == {fills}


@pytest.mark.parametrize(("layout", "hidden"), [("own", False), ("closer_look", True), ("open_unlearning", True)])
def test_the_references_layouts_hide_the_end_token_and_the_own_shows_it(layout: str, hidden: bool) -> None:
    loaded = tiny_llama()
    rows = Rows(loaded, STEP, context(loaded, shipped("ga_gd"), replace(UNLEARN, layout=layout, max_length=64)), {})
    assert [rows.layout(kind).hide_end for kind in ("forget", "retain")] == [hidden, hidden]


def test_labels_on_the_prompt_too_make_another_loss() -> None:
    layout = replace(UNLEARN, layout="closer_look", max_length=64, max_steps=1)
    masked = erased(shipped("me_gd"), layout)[1].info["losses"][0]
    everywhere = erased(shipped("me_gd"), replace(layout, forget_labels="all"))[1].info["losses"][0]
    assert masked["retain"] == pytest.approx(everywhere["retain"], rel=1e-6)
    assert masked["forget"] != pytest.approx(everywhere["forget"], rel=1e-3)
    with pytest.raises(UserError, match="there is no fixed reference"):
        erased(shipped("npo_gd"), replace(UNLEARN, forget_labels="all"))


def test_the_dual_variable_of_pdu_moves_once_warm() -> None:
    method = shipped("pdu")
    settings = {"eps": 0.1, "step": 2.0, "warmup_epochs": 1}
    method = replace(method, forget=replace(method.forget, settings=settings), retain=replace(method.retain, weight=1.0))
    patch = erased(method)[1]
    losses = patch.info["losses"]
    totals = [part["loss"] - part["forget"] for part in losses]
    factors = [total / part["retain"] for total, part in zip(totals, losses, strict=True)]
    assert factors[0] == pytest.approx(1.0, rel=1e-3)
    assert factors[2] > factors[0]


def test_bfloat16_arithmetic_gives_back_a_float32_patch() -> None:
    loaded, patch = erased(shipped("ga_gd"), replace(UNLEARN, compute="bfloat16"))
    assert {t.dtype for t in patch.dense.values()} == {torch.float32}
    assert loss_on(loaded) > loss_on(tiny_llama())


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("family", ["gpt2", "llama_tied", "qwen2", "qwen3"])
def test_families_are_trained_alike(family: str, adapter: str, tmp_path: Path) -> None:
    loaded, patch = erased(shipped("npo_gd"), UNLEARN, AdapterConfig(name=adapter), loaded=tiny(family))
    patch.save(tmp_path, 0)
    fresh = tiny(family)
    apply_patches(fresh, [Patch.load(tmp_path, 0)])
    assert equal(bits(fresh), bits(loaded))


def test_checkpointed_activations_give_the_same_losses() -> None:
    plain = erased(shipped("ga_gd"))[1].info["losses"]
    saved = erased(shipped("ga_gd"), replace(UNLEARN, gradient_checkpointing=True))[1].info["losses"]
    for a, b in zip(plain, saved, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize(("adapter", "hardened"), [("lora", {}), ("none", {"adversary_rank": 4, "adversary_lr": 1.0})])
def test_a_killed_training_goes_on_and_gives_the_same_patch(
    adapter: str, hardened: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, adapters = replace(UNLEARN, epochs=6, checkpoint_every=2, **hardened), AdapterConfig(name=adapter)
    whole, _ = erased(shipped("npo_gd"), config, adapters)
    calls = 0

    def values(rows: Any, settings: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return rows["retain"].nll

    loaded = tiny_llama()
    with monkeypatch.context() as patched:
        patched.setattr(gd, "values", values)
        with pytest.raises(KeyboardInterrupt):
            erased(shipped("npo_gd"), config, adapters, directory=tmp_path, loaded=loaded)
    assert equal(bits(loaded), bits(tiny_llama())), "an interrupted model is what it was"
    resumed, patch = erased(shipped("npo_gd"), config, adapters, directory=tmp_path)
    assert equal(bits(whole), bits(resumed))
    assert len(patch.info["losses"]) == 6


def test_training_stops_when_the_retain_loss_explodes() -> None:
    loaded = tiny_llama()
    found = context(loaded, shipped("ga_gd"), replace(UNLEARN, lr=3e-2, stop_retain_loss=6.0, epochs=30))
    patch, _ = load_method("gradient").erase(loaded, STEP, EditState(), found)
    assert patch.info["steps"] < patch.info["planned_steps"] == 30
    assert "the retain loss is" in found.reporter.warnings[0]  # type: ignore[attr-defined]


def test_without_a_limit_of_its_own_training_stops_where_the_model_is_worse_than_guessing() -> None:
    loaded = tiny_llama()
    guessing = math.log(loaded.architecture.head.weight.shape[0])
    found = context(loaded, shipped("ga_gd"), replace(UNLEARN, lr=3e-2, stop_retain_loss=0.0, epochs=30))
    patch, _ = load_method("gradient").erase(loaded, STEP, EditState(), found)
    assert patch.info["stopped"].endswith(f"nats per token, worse than {guessing:.2f}")
    *before, last = [part["retain_nll"] for part in patch.info["losses"]]
    assert max(before, default=0.0) <= guessing < last


def test_quick_looks_are_kept() -> None:
    patch = erased(shipped("ga_gd"), replace(UNLEARN, evaluate_every=2))[1]
    assert patch.info["looks"] == [{"step": 2, "forget": 0.5}, {"step": 3, "forget": 0.5}]


def mistake(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_mistakes_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lora = AdapterConfig(name="lora")
    mistake(lambda: erased(pair("gaa", "gd")), "did you mean term=ga?")
    mistake(lambda: erased(pair("npo", "gd", betta=1)), "has no setting 'betta' - did you mean beta?")
    mistake(lambda: erased(pair(None, None)), "no loss term")
    mistake(lambda: erased(pair("ga", "gd"), replace(UNLEARN, batch_size=5)), "batch_size=5 is larger than the forget set")
    mistake(lambda: erased(pair("rmu", "embed_diff", layer=9)), "the model has blocks 0 to 3")
    mistake(lambda: erased(shipped("lora_negation")), "add adapter=lora")
    mistake(lambda: erased(pair("altpo", "gd")), "choose method=altpo")
    mistake(lambda: erased(shipped("ga_gd"), UNLEARN, AdapterConfig(name="lora", targets=["query"])), "choose among: ")
    mistake(lambda: erased(shipped("ga_gd"), replace(UNLEARN, lr=1e30)), "became (nan|inf)")
    mistake(lambda: UnlearnConfig(lr=0.0), "unlearn.lr")
    mistake(lambda: UnlearnConfig(layout="closer_look"), "add unlearn.max_length=500")
    real = builtins.__import__

    def without_peft(name: str, *args: Any, **more: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    mistake(lambda: erased(shipped("ga_gd"), UNLEARN, lora), "LoRA adapters need the package peft")


@pytest.mark.parametrize("optimizer", ["adamw", "sophia", "paged_adamw_8bit"])
def test_only_the_paged_optimiser_asks_for_a_gpu_and_bitsandbytes(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment(method=shipped("ga_gd"), unlearn=replace(UNLEARN, optimizer=optimizer))
    for device, needed in (("cpu", "needs an NVIDIA GPU"), ("cuda", "needs bitsandbytes")):
        monkeypatch.setattr(gradient_checks, "choose_device", lambda wanted, device=device: torch.device(device))
        monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
        if optimizer == "paged_adamw_8bit":
            mistake(lambda: gradient_checks.check(experiment, [STEP], REFUSALS), needed)
        else:
            gradient_checks.check(experiment, [STEP], REFUSALS)


def test_running_out_of_memory_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def values(rows: Any, settings: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(gd, "values", values)
    mistake(lambda: erased(shipped("ga_gd")), "out of memory with 1 row a pass on cpu.*unlearn.masters=false.*adapter=lora")
    # Means over micro-batches depend on their size, so the user decides.
    mistake(
        lambda: erased(shipped("ga_gd"), replace(UNLEARN, weighting="micro_batches")),
        "out of memory with 4 rows a pass on cpu.*unlearn.micro_batch=2.*adapter=lora",
    )


def test_the_method_none_leaves_the_model_alone(tmp_path: Path) -> None:
    loaded, patch = erased(MethodConfig("none", None, False, False))
    patch.save(tmp_path, 0)
    apply_patches(loaded, [Patch.load(tmp_path, 0)])
    assert equal(bits(loaded), bits(tiny_llama()))
    assert patch.info["changed_share"] == 0


def test_weights_of_tokens_come_from_a_file(tmp_path: Path) -> None:
    loaded = tiny_llama()
    lengths = {f.id: len(loaded.prompts.answer_ids(f.answer)) for f in STEP.forget}
    file = tmp_path / "weights.jsonl"

    def first_loss(weights: dict[str, list[float]]) -> float:
        file.write_text("".join(json.dumps({"fact": k, "weights": w}) + "\n" for k, w in weights.items()))
        model = tiny_llama()
        found = context(model, pair("ga", None), replace(UNLEARN, max_steps=1))
        found.token_weights = load_token_weights(file)
        patch, _ = load_method("gradient").erase(model, STEP, EditState(), found)
        return patch.info["losses"][0]["forget"]

    plain = first_loss({})
    assert first_loss({name: [1.0] * n for name, n in lengths.items()}) == pytest.approx(plain, rel=1e-6)
    assert first_loss({name: [0.25] * n for name, n in lengths.items()}) == pytest.approx(plain, rel=1e-6)
    only_ends = first_loss({name: [0.0] * (n - 1) + [1.0] for name, n in lengths.items()})
    assert only_ends != pytest.approx(plain, rel=1e-3)
    mistake(lambda: first_loss({STEP.forget[0].id: [1.0]}), "has 1 weights for .* whose answer has")
    file.write_text('{"fact": 3}\n')
    mistake(lambda: load_token_weights(file), "weights.jsonl:1: not a fact with weights")


def test_no_row_is_longer_than_the_models_context() -> None:
    loaded = tiny_llama()
    longest = max(len(loaded.prompts.prompt(f.question).ids) + len(loaded.prompts.answer_ids(f.answer)) for f in FACTS)
    loaded.prompts.max_length = longest - 1
    for unlearn in (UNLEARN, replace(UNLEARN, max_length=longest)):
        found = context(loaded, shipped("ga_gd"), unlearn)
        rows = Rows(loaded, STEP, found, {})
        made = [rows.of_fact(fact) for fact in FACTS]
        assert max(len(row.ids) for row in made) == longest - 1
    load_method("gradient").erase(loaded, STEP, EditState(), found)
    assert f"are truncated to the model's context of {longest - 1} tokens" in found.reporter.warnings[0]  # type: ignore[attr-defined]


def test_altpo_fills_its_batches_with_all_answers_of_a_small_request() -> None:
    found = context(tiny_llama(), replace(shipped("altpo"), settings={"alternates": 3}), replace(UNLEARN, batch_size=8))
    found = replace(found, experiment=replace(found.experiment, mode=ModeConfig("sequential", steps=2)))
    assert for_step(study_of(found.experiment), found, STEP).experiment.unlearn.batch_size == min(8, 3 * len(STEP.forget))
    one = replace(STEP, forget=STEP.forget[:1])
    assert for_step(study_of(found.experiment), found, one).experiment.unlearn.batch_size == 3


def test_answers_are_drawn_plainly_whatever_the_checkpoint_wants_of_generation() -> None:
    loaded = tiny_llama()
    prompts = [loaded.prompts.prompt(fact.question).ids for fact in FACTS]
    plain = sample(loaded, prompts, seed=3, max_new_tokens=12)
    own = loaded.model.generation_config
    own.repetition_penalty, own.min_p, own.no_repeat_ngram_size = 3.0, 0.2, 1
    assert sample(loaded, prompts, seed=3, max_new_tokens=12) == plain
    assert loaded.model.generation_config is own
    assert own.repetition_penalty == 3.0


def test_rows_that_are_cut_are_told_and_rows_without_an_answer_refused() -> None:
    loaded = tiny_llama()
    longest = max(len(loaded.prompts.prompt(f.question).ids) + len(loaded.prompts.answer_ids(f.answer)) for f in FACTS)
    found = context(loaded, shipped("ga_gd"), replace(UNLEARN, max_length=longest - 1))
    load_method("gradient").erase(loaded, STEP, EditState(), found)
    assert "are truncated to unlearn.max_length" in found.reporter.warnings[0]  # type: ignore[attr-defined]
    mistake(lambda: erased(shipped("ga_gd"), replace(UNLEARN, max_length=5)), "leaves no room for an answer")


def test_a_gradient_that_is_not_a_number_is_never_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("nan")

    monkeypatch.setattr(gd, "values", lambda rows, settings: Spoiled.apply(rows["retain"].nll))
    loaded = tiny_llama()
    mistake(lambda: erased(shipped("ga_gd"), loaded=loaded), "the gradient's norm became nan")
    assert equal(bits(loaded), bits(tiny_llama()))


def test_weights_without_master_copies_are_updated_themselves() -> None:
    loaded, patch = erased(shipped("ga_gd"), replace(UNLEARN, compute="bfloat16", masters=False))
    assert loss_on(loaded) > loss_on(tiny_llama())
    assert {t.dtype for t in patch.dense.values()} == {torch.float32}


def test_the_reference_has_no_dropout_whichever_way_it_is_had() -> None:
    lora = AdapterConfig(name="lora", dropout=0.0)
    for reference in ("auto", "stored"):
        loaded = tiny("gpt2")
        for module in loaded.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        config = replace(UNLEARN, max_steps=1, reference=reference)
        first = erased(shipped("ga_kl"), config, lora, loaded=loaded)[1].info["losses"][0]
        assert first["retain"] > 0.01, "the trained model has dropout, its reference none"


def test_what_only_watches_a_training_changes_no_key() -> None:
    plain = Experiment(method=shipped("ga_gd"))
    unlearn = replace(plain.unlearn, evaluate_every=3, checkpoint_every=5, name="other")
    watched = replace(plain, unlearn=unlearn)
    assert what_counts(plain) == what_counts(watched)
    assert what_counts(plain) != what_counts(with_settings(watched, unlearn__lr=3e-4))


def test_nothing_to_retain_is_told() -> None:
    loaded = tiny_llama()
    step = Step(0, STEP.forget, ())
    with pytest.raises(UserError, match="needs questions to retain"):
        load_method("gradient").erase(loaded, step, EditState(), context(loaded, shipped("ga_gd")))
    only, _ = load_method("gradient").erase(loaded, step, EditState(), context(loaded, pair("ga", None)))
    assert only.dense


@pytest.mark.parametrize("changes", [{}, {"compute": "bfloat16"}, {"masters": False}])
def test_how_all_weights_are_trained_is_nothing_to_say_of_an_adapter(changes: dict[str, Any]) -> None:
    unlearn = replace(UNLEARN, **{"compute": "auto", **changes})
    lora = Experiment(method=shipped("ga_gd"), unlearn=unlearn, adapter=AdapterConfig(name="lora"))
    if changes:
        mistake(lambda: gradient_checks.check(lora, [STEP], REFUSALS), "adapters are float32 on the model as loaded")
    else:
        gradient_checks.check(lora, [STEP], REFUSALS)
