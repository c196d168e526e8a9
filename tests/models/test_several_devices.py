"""A model on several devices: the same edit and the same answers as on one, and no operation that takes tensors of two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.fake_devices import FakeDevices
from tests.helpers.tiny_models import FACTS, save_folder, tiny
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import SilentReporter, Step, UserError
from unierase_cli.editing import edit as edit_module
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.moments import Source, decompose, second_moments
from unierase_cli.editing.nullspace import choose_preservation
from unierase_cli.editing.state import EditState
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.inference.generate import generate
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.closed_form import erase_closed_form
from unierase_cli.models.devices import device_of, is_spread, placement
from unierase_cli.models.load import LoadedModel, load_model, wrap_model
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.training.token.learning import refine_token, train_token

LAYERS = [1, 2]
REFUSALS = ["I cannot say.", "No idea."]


def spread(family: str) -> LoadedModel:
    """The tiny model on three devices: the edited blocks 1 and 2 on the first and the second, the head on the third or, where it
    is tied, with the embedding on the first.
    """
    from accelerate import dispatch_model

    loaded = tiny(family)
    model, blocks = loaded.model, loaded.architecture.blocks_name
    parent = blocks.rpartition(".")[0]
    # What stands beside the blocks: embeddings and rotary frequencies in front of them, the final norm behind them.
    ends = [
        f"{parent}.{name}" for name, _ in model.get_submodule(parent).named_children() if f"{parent}.{name}" != blocks
    ]
    where = {name: "cpu:3" if "norm" in name or "ln_f" in name else "cpu:1" for name in ends}
    where |= {f"{blocks}.{n}": f"cpu:{max(1, n)}" for n in range(loaded.architecture.n_blocks)}
    where["lm_head"] = "cpu:1" if loaded.architecture.tied else "cpu:3"
    dispatch_model(model, where, main_device="cpu:1", force_hooks=True)
    return wrap_model(model, loaded.tokenizer, config=ModelConfig(prompt="auto"))


def edit(loaded: LoadedModel) -> tuple[list[torch.Tensor], list[Any], Any]:
    """Token rows, then moments, search, solves and patch; then what the edited model says. All as plain CPU numbers."""
    stages = [TokenStage(["chat"], epochs=1, least_steps=2, lr=1e-2, noise=0.2)]
    token = TokenConfig(lr_unit="absolute", stages=stages, improbable=-99.0)
    config = EditConfig(layers=LAYERS, key_position="prompt_last")
    prompts = [loaded.prompts.prompt(fact.question).ids for fact in FACTS]
    sums = second_moments(loaded, LAYERS, [Source("prompts", 1.0, prompts)], batch_tokens=64, reporter=SilentReporter())
    moments = {layer: decompose(total) for layer, total in sums.items()}

    def preservation(layer: int, config: EditConfig) -> Any:
        vectors = moments[layer].eigenvectors
        found = choose_preservation(moments[layer].eigenvalues, lambda a, b: vectors[a:b], config)
        return found.to(device_of(loaded.architecture, layer))

    rows = train_token(loaded, FACTS[:3], token, layers=LAYERS, seed=0, reporter=SilentReporter())
    experiment = Experiment(edit=config)
    context = EraseContext(
        experiment,
        AppliedPatch(loaded),
        LAYERS,
        "prompt_last",
        preservation,
        SilentReporter(),
        refusals=REFUSALS,
        tokens=rows,
    )
    step = Step(0, tuple(FACTS[:3]), tuple(FACTS[3:]), ())
    targets = {fact.id: [rows.token_of(fact.id)] for fact in step.forget}
    patch, _ = erase_closed_form(loaded, step, EditState(), context, config=config, targets=targets, runner_up=True)
    # Prompts of several lengths stop at one total, so that rows leave a batch one after the other.
    said = generate(loaded, prompts, max_new_tokens=20, total_tokens=max(map(len, prompts)) + 4, batch_size=3)
    items = [(ids, loaded.prompts.answer_ids(fact.answer)) for ids, fact in zip(prompts, FACTS, strict=True)]
    scores = score_answers(loaded, items, batch_size=3)
    factors = [t for n in LAYERS for t in (patch.factors[n].left, patch.factors[n].right)]
    again = replace(token, refine_epochs=1, refine_lr=1e-2, refine_rounds=0)
    refined = refine_token(
        loaded, rows, FACTS[:3], again, layers=LAYERS, seed=0, reporter=SilentReporter(), protected=FACTS[3:]
    )
    return [rows.rows_in, refined.rows_in, *factors], [(g.ids, g.stop) for g in said], (patch, [s.log_probs for s in scores])


def test_a_layers_moments_and_solves_are_made_where_the_layer_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []
    solve, decomposed = edit_module.solve, decompose

    def watched_solve(keys: torch.Tensor, *rest: Any, **settings: Any) -> Any:
        solution, state = solve(keys, *rest, **settings)
        made.append(("solve", str(solution.factor.left.device)))
        return solution, state

    def watched_decompose(moment: torch.Tensor) -> Any:
        made.append(("moment", str(moment.device)))
        return decomposed(moment)

    monkeypatch.setattr(edit_module, "solve", watched_solve)
    monkeypatch.setitem(globals(), "decompose", watched_decompose)
    with FakeDevices():
        edit(spread("llama"))
    assert made == [("moment", "cpu:1"), ("moment", "cpu:2"), ("solve", "cpu:1"), ("solve", "cpu:2")]


@pytest.mark.parametrize("family", ["llama", "llama_tied", "qwen2", "gpt2"])
def test_an_edit_on_several_devices_is_the_edit_on_one(family: str) -> None:
    expected, answers, (_, scores) = edit(tiny(family))
    with FakeDevices() as devices:
        loaded = spread(family)
        assert is_spread(loaded.model)
        assert [str(device_of(loaded.architecture, n)) for n in LAYERS] == ["cpu:1", "cpu:2"]
        found, said, (patch, scored) = edit(loaded)
        assert devices.moves > 0
        fresh = spread(family)
        apply_patches(fresh, [patch]).revert()
        same = all(
            torch.equal(a.to("cpu"), b)
            for a, b in zip(fresh.model.parameters(), tiny(family).model.parameters(), strict=True)
        )
    assert same
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert said == answers
    assert scored == scores


def test_the_fake_devices_catch_what_two_gpus_would() -> None:
    with FakeDevices() as devices:
        one, two = torch.ones(3, device="cpu:1"), torch.ones(3, device="cpu:2")
        assert str((one * 2)[:2].device) == "cpu:1"
        assert str((one + two.to(one.device)).device) == "cpu:1"
        assert devices.moves == 1
        assert torch.equal(one * two.sum(), 3 * one)  # no dimensions
        assert one[torch.tensor([0, 2])].shape == (2,)  # indices on the plain CPU
        weight = torch.nn.Parameter(two)
        (weight * 2).sum().backward()
        assert weight.grad is not None
        assert (str(weight.device), str(weight.grad.device)) == ("cpu:2", "cpu:2")
        for mixed in (
            lambda: one + two, lambda: torch.cat([one, two]), lambda: one[two.long()], lambda: one.gather(0, two.long()),
            lambda: one + torch.ones(3), lambda: torch.where(two > 0, one, 0),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match="cpu"):
                mixed()


def test_a_device_map_is_loaded_by_accelerate_and_gives_the_same_model(tmp_path: Path) -> None:
    folder = save_folder(tiny("llama"), tmp_path / "model")
    plain = load_model(ModelConfig(path=str(folder)), RunConfig(device="cpu"))
    mapped = load_model(ModelConfig(path=str(folder), device_map={"": "cpu"}), RunConfig(device="cpu"))
    automatic = load_model(ModelConfig(path=str(folder), device_map="auto"), RunConfig(device="cpu"))
    assert placement(plain.model) == "cpu (100 %)"
    for other in (mapped, automatic):
        if other.device.type == "cpu":
            assert all(
                torch.equal(a, b) for a, b in zip(plain.model.parameters(), other.model.parameters(), strict=True)
            )


def test_weights_that_no_device_has_room_for_are_refused(tmp_path: Path) -> None:
    folder = save_folder(tiny("llama"), tmp_path / "model")
    ends = dict.fromkeys(["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"], "cpu")
    everywhere = {**ends, "model.layers": "disk"}
    with pytest.raises(UserError, match="do not fit the devices"):
        load_model(ModelConfig(path=str(folder), device_map=everywhere), RunConfig(device="cpu"))


def test_where_a_model_lies_enters_no_key(tmp_path: Path) -> None:
    def keys(*words: str) -> list[str]:
        experiment = compose(["experiment=demo", f"run.outputs={tmp_path}", *words], None)
        return [row.key for row in Pipeline(experiment, SilentReporter()).plan("report")]

    assert keys() == keys("model.device_map=auto") == keys("model.device_map={model.layers: 0, lm_head: 1}")


def test_a_device_map_is_auto_or_a_mapping() -> None:
    with pytest.raises(UserError, match="neither auto nor a mapping"):
        ModelConfig(device_map="balanced")
