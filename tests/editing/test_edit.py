"""The edit as a whole on tiny models: what it writes, what it leaves alone, and what it hands on to the next edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.closed_form import CONFIG, FORGET, KEPT, LAYERS, ROW, context, first_token, step
from tests.helpers.tiny_models import tiny, tiny_llama
from unierase_cli.config.sections.edit import TemplateConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing import edit
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.edit import Editing, edit_facts
from unierase_cli.editing.keys import look_at_keys
from unierase_cli.editing.nullspace import nothing_protected
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.report import LayerReport, average_reports, changed_share
from unierase_cli.editing.spans import make_requests
from unierase_cli.editing.state import EditState
from unierase_cli.editing.templates import Templates
from unierase_cli.methods import alphaedit, memit, unierase
from unierase_cli.methods.base import METHODS, load_method
from unierase_cli.models.architecture import find_architecture
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows, apply_token


def weights_of(loaded: LoadedModel) -> dict[int, Tensor]:
    return {layer: loaded.architecture.weight(layer) for layer in range(loaded.architecture.n_blocks)}


@pytest.mark.parametrize("family", ["llama", "llama_tied", "qwen2", "gpt2"])
def test_an_edit_raises_the_token_and_touches_only_the_edited_projections(family: str) -> None:
    loaded = tiny(family)
    working = context(loaded)
    untouched = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    before = first_token(loaded, working)
    patch, state = unierase.erase(loaded, step(), EditState(), working)
    edited = {f"{loaded.architecture.projection_name(layer)}.weight" for layer in LAYERS}
    changed = {n for n, tensor in loaded.model.state_dict().items() if not torch.equal(tensor, untouched[n])}
    assert changed == edited
    assert (first_token(loaded, working) > before).all()
    assert patch.info["first_token_probability"] == pytest.approx(first_token(loaded, working).tolist(), rel=1e-3)
    assert state.steps == 1
    assert {layer: s.edits for layer, s in state.layers.items()} == {1: 4, 2: 4}


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_applying_the_saved_patch_gives_the_edited_models_bits(
    one_by_one: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    one, two = tiny_llama(), tiny_llama()
    one.model.to(dtype)
    two.model.to(dtype)
    config = replace(CONFIG, one_by_one=one_by_one)
    patch, _ = unierase.erase(one, step(), EditState(), context(one, config))
    patch.save(tmp_path, 0)
    applied = apply_patches(two, [Patch.load(tmp_path, 0)])
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name]), name
    applied.revert()
    fresh = tiny_llama()
    fresh.model.to(dtype)
    for name, tensor in fresh.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name]), name


@pytest.mark.parametrize("solve_dtype", ["float32", "float64"])
def test_weights_in_bfloat16_are_edited_with_solves_in_the_wanted_type(
    solve_dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[tuple[torch.dtype, ...]] = []
    real = edit.solve

    def watched(keys: Tensor, residuals: Tensor, *rest: Any, **settings: Any) -> Any:
        solution, state = real(keys, residuals, *rest, **settings)
        solved.append((keys.dtype, residuals.dtype, solution.factor.left.dtype, state.whitened.dtype))
        return solution, state

    monkeypatch.setattr(edit, "solve", watched)
    loaded, base = tiny_llama(), tiny_llama()
    loaded.model.to(torch.bfloat16)
    base.model.to(torch.bfloat16)
    config = replace(CONFIG, solve_dtype=solve_dtype)
    patch, _ = unierase.erase(loaded, step(), EditState(), context(loaded, config))
    assert solved == [(getattr(torch, solve_dtype),) * 4] * len(LAYERS)
    for layer in LAYERS:
        factor = patch.factors[layer]
        assert factor.left.dtype == factor.right.dtype == torch.float32
        weight = loaded.architecture.projection(layer).weight
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, (base.architecture.weight(layer) + factor.dense()).to(torch.bfloat16))


def test_solves_in_float32_and_in_float64_make_the_same_edit() -> None:
    changes = []
    for solve_dtype in ("float32", "float64"):
        loaded = tiny_llama()
        loaded.model.to(torch.bfloat16)
        patch, _ = unierase.erase(loaded, step(), EditState(), context(loaded, replace(CONFIG, solve_dtype=solve_dtype)))
        changes.append(patch.factors[LAYERS[0]].dense())
    assert (changes[0] - changes[1]).norm() < 1e-4 * changes[1].norm()


def test_what_an_edit_needs_of_earlier_ones_survives_saving(tmp_path: Path) -> None:
    config = replace(CONFIG, templates=TemplateConfig(starts=["The"], length=6))
    results = []
    for interrupted in (False, True):
        loaded = tiny_llama()
        working = context(loaded, config)
        first, state = unierase.erase(loaded, step(FORGET[:2]), EditState(), working)
        if interrupted:
            first.save(tmp_path, 0)
            state.save(tmp_path / "state.safetensors")
            loaded = tiny_llama()
            working = context(loaded, config)
            first, state = Patch.load(tmp_path, 0), EditState.load(tmp_path / "state.safetensors")
            working.weights.add_patch(first)
        second, state = unierase.erase(loaded, step(FORGET[2:], 1, tuple(FORGET[:2])), state, working)
        results.append((second, state, weights_of(loaded)))
    whole, resumed = results
    assert whole[1].templates == resumed[1].templates
    assert whole[1].templates is not None
    assert len(whole[1].templates.prefixes) == 1
    for layer in LAYERS:
        assert torch.equal(whole[0].factors[layer].dense(), resumed[0].factors[layer].dense())
        assert torch.equal(whole[2][layer], resumed[2][layer])
        assert whole[1].layers[layer].lambda_ == resumed[1].layers[layer].lambda_
        assert resumed[1].layers[layer].edits == 4
    assert whole[0].base_hashes == resumed[0].base_hashes, "patches belong to the model before the first step"


def test_one_by_one_and_joint_differ_and_share_the_ridge_of_the_first_step() -> None:
    states = {}
    for one_by_one in (False, True):
        loaded = tiny_llama()
        patch, states[one_by_one] = unierase.erase(
            loaded, step(), EditState(), context(loaded, replace(CONFIG, one_by_one=one_by_one))
        )
        assert patch.factors[1].left.shape[1] == len(FORGET)
    assert states[True].layers[1].lambda_ == pytest.approx(states[False].layers[1].lambda_, rel=1e-5)


def test_a_hard_cut_leaves_the_kept_questions_outputs_alone() -> None:
    loaded = tiny_llama()
    config = replace(CONFIG, preserve="null_space", threshold=1e-7)
    working = context(loaded, config)
    patch, _ = unierase.erase(loaded, step(), EditState(), working)
    # In the first edited layer the inputs are still the unedited ones: protected keys are cut away.
    seen: list[Tensor] = []
    handle = loaded.architecture.projection(1).register_forward_pre_hook(lambda _m, a: seen.append(a[0][0]))
    for fact in KEPT:
        with torch.no_grad():
            loaded.model(input_ids=torch.tensor([loaded.prompts.prompt(fact.question).ids]))
    handle.remove()
    delta = patch.factors[1].dense()
    kept = torch.cat(seen).T
    assert (delta @ kept).norm() / (delta.norm() * kept.norm()) < 1e-3


@pytest.mark.parametrize("one_by_one", [False, True])
def test_an_edit_moves_the_facts_that_it_holds_less(one_by_one: bool) -> None:
    moved = []
    for hold in ((), tuple(FORGET[1:])):
        loaded = tiny_llama()
        working = context(loaded, replace(CONFIG, one_by_one=one_by_one))
        request = replace(step(FORGET[:1]), hold=hold)
        keys = look_at_keys(
            loaded.architecture,
            [r.prompts[0] for r in make_requests(loaded.prompts, FORGET, {f.id: () for f in FORGET}, (), "subject_last")],
            keys_of=[1],
            pad_id=loaded.prompts.pad_id,
            batch_tokens=500,
        ).keys[1]
        patch, state = unierase.erase(loaded, request, EditState(), working)
        moved.append((patch.factors[1].dense() @ keys).norm(dim=0))
        assert {layer: s.edits for layer, s in state.layers.items()} == dict.fromkeys(LAYERS, 1 + len(hold))
    # lambda is a tenth of the edited key's energy: what is held keeps about that share of its change.
    assert (moved[1][1:] < 0.5 * moved[0][1:]).all()
    assert moved[1][0] > 0.3 * moved[0][0]


def test_every_number_that_is_promised_is_reported() -> None:
    loaded = tiny_llama()
    working = context(loaded)
    facts = [replace(FORGET[0], subject=None), *FORGET[1:]]
    patch, _ = unierase.erase(loaded, step(facts), EditState(), working)
    for row in patch.info["layers"]:
        assert {"rank", "mean_kbk", "lambda_", "applied", "residual_before", "residual_after", "relative_norm"} <= set(
            row
        )
        assert 0 < row["applied"] <= 1.001
        assert 0 < row["relative_norm"] < 1
        assert 0 < row["rank"] < row["size"]
    first, last = patch.info["layers"]
    assert first["residual_after"] == pytest.approx(last["residual_before"])
    assert last["residual_after"] < first["residual_before"]
    assert patch.info["without_subject"] == 1
    notes = " ".join(working.reporter.notes)  # type: ignore[attr-defined]
    assert "1 of 4 facts have no subject" in notes
    assert "layer 1: rank" in notes
    assert "% of the parameters" in notes


def test_the_share_of_changed_parameters_is_counted_from_the_model() -> None:
    loaded = tiny_llama(tied=True)
    total = sum(p.numel() for p in loaded.model.parameters())
    assert changed_share(loaded.architecture, LAYERS) == pytest.approx(2 * 32 * 48 / total)


@pytest.mark.parametrize("reachable", [None, 0.5])
def test_several_edits_of_a_layer_are_reported_as_their_means(reachable: float | None) -> None:
    first = LayerReport(4, "ridge", 10.0, 48, 2.0, 0.1, 0.5, 3.0, 1.0, 0.01, 0.2, reachable)
    second = replace(first, rank=20.0, mean_kbk=4.0, lambda_=0.3, applied=0.7, residual_before=5.0, residual_after=2.0)
    second.reachable = reachable and 0.9
    found = average_reports([first, second])
    assert (found.layer, found.preserve, found.size) == (4, "ridge", 48)
    assert (found.rank, found.mean_kbk, found.lambda_, found.applied) == pytest.approx((15.0, 3.0, 0.2, 0.6))
    assert (found.residual_before, found.residual_after) == (4.0, 1.5)
    assert found.reachable == (None if reachable is None else pytest.approx(0.7))
    assert average_reports([first]) == first


def test_the_share_of_a_change_that_is_written_is_told_in_per_cent_where_it_is_small() -> None:
    working = context(tiny_llama(), replace(CONFIG, lambda_=19.0))
    patch, _ = unierase.erase(working.weights.loaded, step(), EditState(), working)
    warnings = working.reporter.warnings  # type: ignore[attr-defined]
    for row in patch.info["layers"]:
        assert 0.01 < row["applied"] < 0.1
        assert any(f"layer {row['layer']}: only {100 * row['applied']:.1f} % of the change is written" in text for text in warnings)


def test_how_little_a_norm_lets_through_is_told_of_the_last_edited_layer() -> None:
    """It is the last that has to make up for all that is still missing."""
    loaded = tiny("olmo2")
    with torch.no_grad():
        for name, gain in loaded.model.named_parameters():
            if "post_feedforward_layernorm" in name:
                gain.mul_(0.01)
    free = lambda layer, config: nothing_protected(48, "ridge")  # noqa: E731
    working = replace(context(loaded), layers=[1, 2, 3], preservation=free)
    patch, _ = unierase.erase(loaded, step(), EditState(), working)
    shares = [row["reachable"] for row in patch.info["layers"]]
    assert shares[-1] < 0.5
    assert f"{100 * shares[-1]:.0f}" not in [f"{100 * share:.0f}" for share in shares[:-1]]
    (told,) = [text for text in working.reporter.warnings if "normalise" in text]  # type: ignore[attr-defined]
    assert f"the last edited one reaches only {100 * shares[-1]:.0f} %" in told


def test_five_layers_of_an_8b_llama_are_3_66_percent_of_its_parameters() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert f"{100 * changed_share(find_architecture(model), [4, 5, 6, 7, 8]):.2f}" == "3.66"


@pytest.mark.parametrize("method", [alphaedit, memit])
def test_the_ordinary_methods_edit_to_a_refusal_or_a_given_text(method: Any) -> None:
    for config in (CONFIG, replace(CONFIG, target="text", text="No idea.")):
        loaded = tiny_llama()
        patch, _ = method.erase(loaded, step(), EditState(), context(loaded, config, tokens=None))
        assert patch.info["preserve"] == method.PRESERVE
        assert patch.tokens is None
        assert all(p > 0 for p in patch.info["values"]["probability"])


def test_unierase_edits_straight_to_a_refusal_without_a_token() -> None:
    loaded = tiny_llama()
    working = context(loaded, replace(CONFIG, target="refusal"), tokens=None)
    patch, _ = unierase.erase(loaded, step(), EditState(), working)
    assert patch.tokens is None
    loaded = tiny_llama()
    with pytest.raises(UserError, match="needs an unlearning token"):
        unierase.erase(loaded, step(), EditState(), context(loaded, tokens=None))


def test_refined_rows_are_set_on_the_model_and_kept_in_the_patch() -> None:
    loaded = tiny_llama()

    def refine(_loaded: LoadedModel, rows: TokenRows, facts: Any) -> TokenRows:
        assert [f.id for f in facts] == [f.id for f in FORGET]
        return replace(rows, rows_in=rows.rows_in + 1)

    patch, _ = unierase.erase(loaded, step(), EditState(), context(loaded, refine=refine))
    assert patch.tokens is not None
    assert torch.equal(loaded.architecture.embedding.weight[loaded.unlearn_ids], patch.tokens.rows_in)
    assert torch.allclose(patch.tokens.rows_in, ROW + 1)


def test_an_edit_that_rounding_swallows_is_an_error() -> None:
    loaded = tiny_llama()
    loaded.model.to(torch.bfloat16)
    config = replace(CONFIG, lambda_=1e12, lambda_kind="absolute", preserve="null_space", threshold=0.5)
    with pytest.raises(UserError, match="identical to base"):
        unierase.erase(loaded, step(), EditState(), context(loaded, config))


def test_keys_of_the_state_stay_what_they_were_when_an_edit_fails_later() -> None:
    loaded = tiny_llama()
    working = context(loaded)
    requests = make_requests(loaded.prompts, FORGET, {f.id: [5] for f in FORGET}, [], "subject_last")
    editing = Editing(working.weights, CONFIG, LAYERS, working.preservation, SilentReporter())
    state = EditState(templates=Templates())
    edit_facts(editing, requests, state)
    assert state.layers == {}


def test_methods_are_found_by_their_files_and_unknown_ones_get_a_near_match() -> None:
    assert {"unierase", "alphaedit", "memit"} <= set(METHODS.names())
    assert "base" not in METHODS.names()
    assert load_method("memit") is memit
    with pytest.raises(UserError, match="did you mean method=alphaedit"):
        load_method("alphaedt")
    with pytest.raises(UserError, match="is not a method"):
        load_method("../base")


def test_token_rows_are_put_into_the_model_with_the_patch(tmp_path: Path) -> None:
    loaded = tiny_llama()
    patch, _ = unierase.erase(loaded, step(), EditState(), context(loaded))
    patch.save(tmp_path, 0)
    again = Patch.load(tmp_path, 0).tokens
    assert again is not None
    assert patch.tokens is not None
    other = tiny_llama()
    apply_token(other, again)
    assert torch.equal(again.rows_in, patch.tokens.rows_in)
    assert again.token_of("anything") == patch.tokens.ids[0]
