"""Finding the parts of a model by capability, for each family."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from tests.helpers.tiny_models import FAMILIES, FURTHER, tiny, tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.models.architecture import find_architecture, refuse_unsupported


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_backbone_and_logits_make_the_models_own_logits(family: str) -> None:
    loaded = tiny(family)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        hidden = loaded.architecture.backbone(ids).last_hidden_state
        assert torch.allclose(loaded.architecture.logits(hidden), loaded.model(ids).logits, atol=1e-6)


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_without_what_attention_puts_out_no_token_learns_of_another(family: str) -> None:
    loaded = tiny(family)
    architecture = loaded.architecture

    def last_state(first: int) -> torch.Tensor:
        with torch.no_grad():
            return architecture.backbone(torch.tensor([[first, 6, 7]])).last_hidden_state[0, -1]

    assert not torch.equal(last_state(5), last_state(9))
    for layer in range(architecture.n_blocks):
        architecture.attention_output(layer).register_forward_hook(lambda _module, _arguments, output: output * 0)
    assert torch.equal(last_state(5), last_state(9))


@pytest.mark.parametrize("family", FAMILIES)
def test_writing_a_weight_back_keeps_its_bits(family: str) -> None:
    architecture = tiny(family).architecture
    before = architecture.projection(1).weight.clone()
    weight = architecture.weight(1)
    architecture.set_weight(1, weight)
    assert torch.equal(architecture.projection(1).weight, before)
    weight += 1
    assert torch.equal(architecture.projection(1).weight, before)  # a copy, not a view


def test_a_weight_is_rounded_once_to_the_parameters_type() -> None:
    loaded = tiny_llama()
    loaded.model.to(torch.bfloat16)
    architecture = loaded.architecture
    start, delta = architecture.weight(1), torch.full((32, 48), 1e-3)
    architecture.set_weight(1, start + delta)
    assert torch.equal(architecture.projection(1).weight, (start + delta).to(torch.bfloat16))


def test_ties_are_found_by_identity() -> None:
    assert {f for f in (*FAMILIES, *FURTHER) if tiny(f).architecture.tied} == {
        "llama_tied", "qwen3", "gpt2", "gemma", "gemma2", "gemma3", "gemma3_images", "phi4_mini", "opt", "falcon_7b", "falcon_40b",
        "falcon_rw",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("n_blocks", "layers"), [(32, [4, 5, 6, 7, 8]), (28, [3, 4, 5, 6, 7]), (16, [2, 3, 4]), (6, [1, 2, 3]), (4, [1, 2]), (1, [0])]
)
def test_default_layers_follow_the_rule_of_thumb(n_blocks: int, layers: list[int]) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=8, n_head=1, n_layer=n_blocks, n_positions=8))
    assert find_architecture(model).default_layers() == layers


@pytest.mark.parametrize(
    ("layers", "message"), [([9], "layer 9 is out of range: the model has blocks 0..3"), ([-1], "out of range"), ([], "empty")]
)
def test_layers_that_do_not_exist_are_refused(layers: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_llama().architecture.check_layers(layers)


@pytest.mark.parametrize("layers", [[2, 1], [1, 1]])
def test_layers_must_ascend(layers: list[int]) -> None:
    with pytest.raises(UserError, match="ascending"):
        tiny_llama().architecture.check_layers(layers)


def test_a_mixture_of_experts_is_refused_by_name() -> None:
    config = Qwen3MoeConfig(
        vocab_size=32, hidden_size=8, intermediate_size=8, moe_intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, num_experts=2, num_experts_per_tok=1, head_dim=8,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"Qwen3MoeForCausalLM \(qwen3_moe\) is a mixture of 2 experts"):
        find_architecture(Qwen3MoeForCausalLM(config))


@pytest.mark.parametrize(
    "kind", ["Mixtral", "Qwen2Moe", "Olmoe", "Phimoe", "DeepseekV3", "GptOss", "GraniteMoe", "Ernie4_5_Moe", "Llama4", "Jamba"]
)
def test_every_familys_mixture_of_experts_is_refused_from_its_configuration(kind: str) -> None:
    config = getattr(transformers, f"{kind}Config")()
    with pytest.raises(UserError, match=f"{kind} .* is a mixture of [0-9]+ experts"):
        refuse_unsupported(config.get_text_config(), kind)


@pytest.mark.parametrize(("kind", "reason"), [
    ("Mamba", r"blocks of other kinds than attention \(linear_attention\)"), ("RecurrentGemma", "linear_attention"),
    ("FalconH1", "hybrid"), ("Gemma3nText", "share keys and values"), ("Granite", "scales what its MLPs add"),
])  # fmt: skip
def test_what_cannot_go_on_from_the_tokens_before_a_key_is_refused_with_the_reason(kind: str, reason: str) -> None:
    changes = {"residual_multiplier": 0.5} if kind == "Granite" else {}
    config = getattr(transformers, f"{kind}Config")(**changes)
    with pytest.raises(UserError, match=reason):
        refuse_unsupported(config, kind)
