"""Tiny random models of further families, each with what sets the family apart; made by ``tests.helpers.tiny_models.tiny``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.helpers.tiny_models import common, tiny_tokenizer

# Sliding windows are shorter than the tests' prompts, which have some 20 tokens and more.
WINDOW = 8


def gemma(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Gemma 1: scaled embeddings, tied, norms with 1 + w."""
    return transformers.GemmaForCausalLM(transformers.GemmaConfig(**common(tokenizer), head_dim=8))


def gemma2(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Gemma 2: norms after attention and MLP, capped logits, a window in every second block."""
    caps = {"final_logit_softcapping": 20.0, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 8}
    config = transformers.Gemma2Config(**common(tokenizer), **caps, head_dim=8, sliding_window=WINDOW)
    config._attn_implementation = "eager"
    return transformers.Gemma2ForCausalLM(config)


def gemma3(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Gemma 3: norms after attention and MLP, norms of queries and keys, other positions in blocks with a window."""
    kinds = ["sliding_attention", "full_attention"] * 2
    config = transformers.Gemma3TextConfig(
        **common(tokenizer), head_dim=8, query_pre_attn_scalar=8, sliding_window=WINDOW, layer_types=kinds
    )
    return transformers.Gemma3ForCausalLM(config)


def gemma3_images(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Gemma 3 of 4B and more: the language model stands beside one for images, of as many blocks here."""
    text = transformers.Gemma3TextConfig(
        **common(tokenizer), head_dim=8, query_pre_attn_scalar=8, sliding_window=WINDOW
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    vision = transformers.SiglipVisionConfig(**sizes, image_size=8, patch_size=4)
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_id=3)
    return transformers.Gemma3ForConditionalGeneration(config)


def phi(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Phi-1.5 and 2: attention and MLP side by side, biases everywhere, in the head too, spare rows."""
    sizes = common(tokenizer, vocab_size=len(tokenizer) + 12, num_key_value_heads=4)
    return transformers.PhiForCausalLM(transformers.PhiConfig(**sizes))


def phi3(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Phi-3: queries, keys and values in one matrix, gate and up projection in another."""
    return transformers.Phi3ForCausalLM(transformers.Phi3Config(**common(tokenizer)))


def phi4_mini(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Phi-4-mini: as Phi-3, tied, with positions in three quarters of a head."""
    config = transformers.Phi3Config(**common(tokenizer, tie_word_embeddings=True), partial_rotary_factor=0.75)
    return transformers.Phi3ForCausalLM(config)


def pythia(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """GPT-NeoX: attention and MLP side by side, biases, spare rows, no template."""
    sizes = common(tokenizer, vocab_size=len(tokenizer) + 12)
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**_without(sizes, "num_key_value_heads")))


def gptj(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """GPT-J: attention and MLP side by side, a head with a bias that grows with the vocabulary, no template."""
    config = transformers.GPTJConfig(
        vocab_size=len(tokenizer), n_embd=32, n_inner=48, n_layer=4, n_head=4, n_positions=256, rotary_dim=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **_ids(tokenizer),
    )  # fmt: skip
    return transformers.GPTJForCausalLM(config)


def opt(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """OPT: learned positions, biases, tied, all sequences of a batch as one in the MLP, no template."""
    return transformers.OPTForCausalLM(_opt(tokenizer, word_embed_proj_dim=32))


def opt_350m(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """OPT-350M: embeddings of another width, norms behind the sum."""
    return transformers.OPTForCausalLM(_opt(tokenizer, word_embed_proj_dim=16, do_layer_norm_before=False))


def opt_norm_last(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """OPT with norms behind the sum of the residual stream and what the MLP puts out."""
    return transformers.OPTForCausalLM(_opt(tokenizer, word_embed_proj_dim=32, do_layer_norm_before=False))


def olmo2(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """OLMo 2: norms after attention and MLP alone, norms of queries and keys."""
    return transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**common(tokenizer)))


def glm4(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """GLM-4: a norm after the MLP by another name."""
    return transformers.Glm4ForCausalLM(transformers.Glm4Config(**common(tokenizer), head_dim=8))


def falcon_7b(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Falcon-7B: one norm before attention and MLP side by side, all heads share keys and values, tied."""
    return _falcon(tokenizer, multi_query=True, parallel_attn=True, new_decoder_architecture=False)


def falcon_40b(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Falcon-40B: attention and MLP side by side with a norm each, groups of heads share keys and values."""
    return _falcon(tokenizer, num_kv_heads=2, new_decoder_architecture=True)


def falcon_rw(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Falcon-RW: MLP behind attention, distances instead of positions (ALiBi), biases."""
    return _falcon(
        tokenizer, multi_query=False, parallel_attn=False, new_decoder_architecture=False, alibi=True, bias=True
    )


def stablelm(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """StableLM 2 1.6B: biases in attention, positions in a quarter of a head."""
    return transformers.StableLmForCausalLM(transformers.StableLmConfig(**common(tokenizer), use_qkv_bias=True))


def stablelm_12b(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """StableLM 2 12B: attention and MLP side by side, norms of queries and keys."""
    config = transformers.StableLmConfig(**common(tokenizer), use_parallel_residual=True, qk_layernorm=True)
    return transformers.StableLmForCausalLM(config)


def bloom(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """BLOOM: its MLP adds the residual itself; distances count columns (ALiBi)."""
    sizes = {"hidden_size": 32, "n_layer": 4, "n_head": 4, "hidden_dropout": 0.0, "attention_dropout": 0.0}
    return transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=len(tokenizer), **sizes, **_ids(tokenizer)))


def gpt_neo(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """GPT-Neo: a window in every second block, by another name."""
    config = transformers.GPTNeoConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_layers=4, num_heads=4, intermediate_size=48, window_size=WINDOW,
        attention_types=[[["global", "local"], 2]], max_position_embeddings=256, **_ids(tokenizer),
    )  # fmt: skip
    return transformers.GPTNeoForCausalLM(config)


MAKERS: dict[str, Callable[[PreTrainedTokenizerFast], PreTrainedModel]] = {
    maker.__name__: maker
    for maker in (
        gemma, gemma2, gemma3, gemma3_images, phi, phi3, phi4_mini, pythia, gptj, opt, opt_350m, opt_norm_last, olmo2, glm4,
        falcon_7b, falcon_40b, falcon_rw, stablelm, stablelm_12b, bloom, gpt_neo,
    )
}  # fmt: skip
# Families whose tokenizers have no chat template, BOS or padding.
PLAIN = ("pythia", "gptj", "opt", "opt_350m", "opt_norm_last", "falcon_rw", "bloom", "gpt_neo")


def make(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model, with a random start of its own, and its tokenizer."""
    tokenizer = tiny_tokenizer(chat=family not in PLAIN)
    return MAKERS[family](tokenizer), tokenizer


def _falcon(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> PreTrainedModel:
    sizes = _without(common(tokenizer), "num_key_value_heads", "intermediate_size")
    return transformers.FalconForCausalLM(transformers.FalconConfig(**sizes, **{"ffn_hidden_size": 48, **changes}))


def _opt(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> transformers.OPTConfig:
    sizes = _without(common(tokenizer), "num_key_value_heads", "intermediate_size")
    return transformers.OPTConfig(**{**sizes, "ffn_dim": 48, "dropout": 0.0, "init_std": 0.1, **changes})


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {name: value for name, value in common(tokenizer).items() if name.endswith("_token_id")}


def _without(sizes: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in sizes.items() if name not in names}
