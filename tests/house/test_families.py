"""Each family through its whole life: a token is trained, facts are edited, taken back, exported and loaded again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.closed_form import CONFIG, FORGET, LAYERS, context, first_token, step
from tests.helpers.patched import experiment, finished
from tests.helpers.tiny_models import FACTS, FURTHER, NORMALISING, save_folder, tiny
from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.export import export
from unierase_cli.delivery.patch_revert import revert
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.methods import unierase
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.training.token.learning import train_token

# Llama is there as a yardstick.
LIVES = ("llama", *FURTHER)
HEAD_BIAS = ("phi", "gptj")
SPARE_ROWS = ("phi", "pythia")
TARGETS = {fact.id: "No idea." for fact in FACTS}
EDIT = replace(
    CONFIG, values=ValueConfig(steps=12, lr=0.2, clamp=1.0, runner_up=0.0, stop_loss=0.2, kl_factor=0.0), lambda_=0.05
)


@dataclass
class Life:
    """Parameters by name: ``base`` of the unedited model, ``trained`` of the one that the token was trained on. ``before``,
    ``foreseen``, ``after``: P([UNL]) of each forgotten fact before the edit, with z, and after the edit.
    """

    base: dict[str, Tensor]
    trained: dict[str, Tensor]
    rows: TokenRows
    edited: LoadedModel
    patch: Patch
    before: Tensor
    foreseen: Tensor
    after: Tensor


@cache
def life(family: str) -> Life:
    learning = tiny(family)
    base = parameters(learning)
    stages = [TokenStage(["raw", "chat"], epochs=2, least_steps=0, lr=3e-2)]
    token = TokenConfig(lr_unit="absolute", stages=stages, batch_size=4, settle=False)
    rows = train_token(learning, FACTS, token, layers=LAYERS, seed=0, reporter=SilentReporter(), targets=TARGETS)
    loaded = tiny(family)
    working = replace(context(loaded, EDIT, tokens=rows), key_position="prompt_last")
    before = first_token(loaded, working)
    patch, _ = unierase.erase(loaded, step(), EditState(), working)
    foreseen = torch.tensor(patch.info["values"]["probability"])
    return Life(base, parameters(learning), rows, loaded, patch, before, foreseen, first_token(loaded, working))


def parameters(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in loaded.model.named_parameters()}


def ends(loaded: LoadedModel) -> set[str]:
    """Names of the parameters that have a row or an entry for each token."""
    architecture = loaded.architecture
    own = (architecture.embedding.weight, architecture.head.weight, architecture.head.bias)
    return {name for name, p in loaded.model.named_parameters() if any(p is end for end in own)}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stored(family: str, tmp_path: Path) -> tuple[Any, Any]:
    """The unedited model's folder and the finished edit as the store keeps them."""
    config = experiment(save_folder(tiny(family), tmp_path / "model"), tmp_path / "outputs")
    return config, finished(config, [life(family).patch])


def logits(model: Any, ids: list[int]) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits


@pytest.mark.parametrize("family", LIVES)
def test_training_the_token_touches_its_own_rows_alone(family: str) -> None:
    found = life(family)
    (token,) = found.rows.ids
    tables = ends(found.edited)
    for name, before in found.base.items():
        after = found.trained[name]
        if name in tables:
            assert after.shape[0] == max(before.shape[0], token + 1)
            others = [i for i in range(before.shape[0]) if i != token]
            assert torch.equal(after[others], before[others]), name
        else:
            assert torch.equal(after, before), name
    losses = found.rows.info["phases"][0]["losses"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("family", LIVES)
def test_the_edit_makes_the_token_as_likely_as_was_foreseen_and_touches_nothing_else(family: str) -> None:
    found = life(family)
    foreseen, risen = (x.logit() - found.before.logit() for x in (found.foreseen, found.after))
    assert (foreseen > 1).all()
    assert (risen > (0.5 if family in NORMALISING else 0.9) * foreseen).all(), (
        found.before,
        found.foreseen,
        found.after,
    )
    projections = {f"{found.edited.architecture.projection_name(layer)}.weight" for layer in LAYERS}
    now = parameters(found.edited)
    changed = {
        name for name, p in found.base.items() if name not in ends(found.edited) and not torch.equal(p, now[name])
    }
    assert changed == projections
    for name in ends(found.edited):
        others = [i for i in range(found.base[name].shape[0]) if i not in found.rows.ids]
        assert torch.equal(now[name][others], found.base[name][others]), name


@pytest.mark.parametrize("family", LIVES)
def test_what_a_norm_lets_through_is_reported(family: str) -> None:
    shares = [row["reachable"] for row in life(family).patch.info["layers"]]
    if family in NORMALISING:
        assert all(0.2 < share <= 1 for share in shares)
    else:
        assert shares == [None, None]


@pytest.mark.parametrize("family", LIVES)
def test_taking_the_edit_back_gives_every_bit_back(family: str) -> None:
    found, again = life(family), tiny(family)
    applied = apply_patches(again, [found.patch])
    assert same_bits(parameters(again), parameters(found.edited))
    applied.revert()
    assert same_bits(parameters(again), found.base)


@pytest.mark.parametrize("family", LIVES)
def test_an_exported_model_is_the_edited_one_and_comes_back_bit_for_bit(family: str, tmp_path: Path) -> None:
    found = life(family)
    config, run = stored(family, tmp_path)
    export(run, tmp_path / "merged", SilentReporter(), config.run.outputs, device="cpu")
    kind = found.edited.model.config._attn_implementation
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32, attn_implementation=kind)
    ids = found.edited.prompts.prompt(FORGET[0].question).ids + found.rows.ids
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").convert_tokens_to_ids("<unlearn_0>") == found.rows.ids[0]
    assert torch.equal(logits(model.eval(), ids), logits(found.edited.model, ids))
    base = str(tmp_path / "model")
    revert(tmp_path / "merged", run, tmp_path / "back", SilentReporter(), base=base, device="cpu")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32)
    assert same_bits(dict(back.named_parameters()), found.base)


@pytest.mark.parametrize("family", LIVES)
def test_as_an_adapter_it_says_what_the_edited_model_says(family: str, tmp_path: Path) -> None:
    found = life(family)
    config, run = stored(family, tmp_path)

    def exported() -> dict[str, Any]:
        return export(run, tmp_path / "adapter", SilentReporter(), config.run.outputs, kind="lora", device="cpu")

    if family in HEAD_BIAS:
        with pytest.raises(UserError, match="head has a bias, which peft drops"):
            exported()
        return
    record = exported()
    assert record["largest_logit_error"] < 1e-4
    assert (record["resize_to"] is None) == (family in SPARE_ROWS)
    base = AutoModelForCausalLM.from_pretrained(config.model.path)
    if record["resize_to"] is not None:
        base.resize_token_embeddings(record["resize_to"])
    model = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = found.edited.prompts.prompt(FORGET[0].question).ids + found.rows.ids
    assert (logits(model, ids) - logits(found.edited.model, ids)).abs().max() < 1e-4


@pytest.mark.parametrize("family", HEAD_BIAS)
def test_the_heads_bias_of_a_new_token_is_that_of_an_average_one(family: str) -> None:
    found = life(family)
    bias = found.base["lm_head.bias"]
    words = len(tiny(family).tokenizer)
    assert found.edited.model.lm_head.bias[found.rows.ids[0]] == bias[:words].double().mean().float()
    assert found.edited.model.lm_head.bias.shape[0] == max(bias.shape[0], words + 1)


@pytest.mark.parametrize("family", HEAD_BIAS)
def test_a_token_that_was_taken_off_gets_its_bias_back_with_its_rows(family: str) -> None:
    loaded, rows = tiny(family), life(family).rows
    with torch.no_grad():
        loaded.model.lm_head.bias[len(loaded.tokenizer) :] = -8.0  # spare entries, as training leaves them
    before = parameters(loaded)
    weights = AppliedPatch(loaded)
    weights.set_tokens(rows)
    first = parameters(loaded)
    weights.revert()
    assert same_bits(parameters(loaded), before)
    weights.set_tokens(rows)
    assert same_bits(parameters(loaded), first)
