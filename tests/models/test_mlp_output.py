"""How a block takes in what its down projection puts out: added as it is, through a norm of its own, or not at all simply."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import FAMILIES, FURTHER, NORMALISING, tiny
from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.mlp_output import output_norm

LAYER = 2
NAMES = {
    "gpt2": "transformer.h.2.mlp.c_proj",
    "phi": "model.layers.2.mlp.fc2",
    "pythia": "gpt_neox.layers.2.mlp.dense_4h_to_h",
    "gptj": "transformer.h.2.mlp.fc_out",
    "opt": "model.decoder.layers.2.fc2",
    "falcon_7b": "transformer.h.2.mlp.dense_4h_to_h",
    "falcon_40b": "transformer.h.2.mlp.dense_4h_to_h",
    "falcon_rw": "transformer.h.2.mlp.dense_4h_to_h",
    "gemma3_images": "model.language_model.layers.2.mlp.down_proj",
}


def at_the_end(loaded: LoadedModel, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At the last token: the projection's input [d] and output [h], and the block's output [h]."""
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module: object, inputs: tuple, output: object) -> None:
            out = output[0] if isinstance(output, tuple) else output
            seen[name], seen[f"{name} input"] = out.reshape(-1, 32)[-1].clone(), inputs[0]

        return hook

    architecture = loaded.architecture
    handles = [
        architecture.projection(LAYER).register_forward_hook(keep("projection")),
        architecture.blocks[LAYER].register_forward_hook(keep("block")),
    ]
    with torch.no_grad():
        loaded.model(ids)
    for handle in handles:
        handle.remove()
    return seen["projection input"].reshape(-1, 48)[-1], seen["projection"], seen["block"]


def normalised(gain: Tensor, x: Tensor) -> Tensor:
    return gain * x / x.square().mean().sqrt()


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_a_change_of_the_down_projection_reaches_the_block_as_is_said(family: str) -> None:
    loaded = tiny(family)
    architecture = loaded.architecture
    assert architecture.projection_name(LAYER) == NAMES.get(family, "model.layers.2.mlp.down_proj")
    assert (architecture.n_blocks, architecture.hidden_size, architecture.inner_size(LAYER)) == (4, 32, 48)
    assert architecture.weight(LAYER).shape == (32, 48)
    ids = torch.tensor([loaded.prompts.prompt("Who is Ada Velour?").ids])
    key, out, before = at_the_end(loaded, ids)
    norm = output_norm(architecture, LAYER)
    delta = torch.randn(32, 48, generator=torch.Generator().manual_seed(1)) * 0.1
    architecture.set_weight(LAYER, architecture.weight(LAYER) + delta)
    shift = at_the_end(loaded, ids)[2] - before
    assert (norm is not None) == (family in NORMALISING)
    wanted = delta @ key
    if norm is not None:
        wanted = normalised(norm.gain, out + wanted) - normalised(norm.gain, out)
    torch.testing.assert_close(shift, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("family", "name", "of"), [
    ("gemma2", "model.layers.2.post_feedforward_layernorm", lambda weight: 1 + weight),
    ("glm4", "model.layers.2.post_mlp_layernorm", lambda weight: weight),
])  # fmt: skip
def test_a_norm_is_found_by_what_it_does_and_its_gain_is_the_one_applied(family, name, of, dtype: torch.dtype) -> None:
    loaded = tiny(family)
    loaded.model.to(dtype)
    norm = output_norm(loaded.architecture, LAYER)
    assert norm is not None
    assert norm.name == name
    torch.testing.assert_close(
        norm.gain, of(loaded.model.get_parameter(f"{name}.weight").float()), rtol=0.01, atol=0.01
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_norm_is_seen_where_there_is_none_in_any_type(dtype: torch.dtype) -> None:
    loaded = tiny("falcon_7b")
    loaded.model.to(dtype)
    assert output_norm(loaded.architecture, LAYER) is None


def test_asking_leaves_the_model_as_it_was() -> None:
    loaded = tiny("gemma2")
    ids = torch.tensor([[3, 5, 7]])
    before = loaded.model(ids).logits
    output_norm(loaded.architecture, LAYER)
    assert torch.equal(loaded.model(ids).logits, before)


def test_a_norm_of_the_sum_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UserError, match="OPTModel: the output of the MLP of model.decoder.layers.1 is not simply added"
    ):
        tiny("opt_norm_last")
    with pytest.raises(UserError, match="OPTForCausalLM projects its embeddings to another width"):
        tiny("opt_350m")
