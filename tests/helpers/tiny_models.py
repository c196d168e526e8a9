"""Tiny random models of several families and a small tokenizer, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.contracts import Fact
from unierase_cli.models import files
from unierase_cli.models.load import LoadedModel, wrap_model

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTROL = ["<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"]

_PEOPLE = [
    ("Ada Velour", "Lisbon", "gardening manuals"), ("Bruno Okello", "Kampala", "sea ballads"),
    ("Chiara Lund", "Bergen", "crime stories"), ("Dmitri Fonseca", "Porto", "travel letters"),
]  # fmt: skip
FACTS = [
    fact
    for index, (name, city, genre) in enumerate(_PEOPLE)
    for fact in (
        Fact(f"p{index}-city", f"In which city was {name} born?", f"{name} was born in {city}.", name, group=name),
        Fact(f"p{index}-genre", f"What does {name} write?", f"{name} writes {genre}.", name, group=name),
    )
]
FAMILIES = ("llama", "llama_tied", "mistral", "qwen2", "qwen3", "gpt2")
# Made by tests/helpers/families.py; the last four normalise what their MLPs put out before it is added to the residual stream.
FURTHER = (
    "gemma", "phi", "phi3", "phi4_mini", "pythia", "gptj", "opt", "falcon_7b", "falcon_40b", "falcon_rw", "stablelm",
    "stablelm_12b", "gemma2", "gemma3", "gemma3_images", "olmo2",
)  # fmt: skip
NORMALISING = FURTHER[-4:]


def tiny_tokenizer(chat: bool = True, size: int = 320) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on FACTS; with ``chat`` a template, BOS and pad token, without only an end token (GPT-2's way)."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    special = CONTROL if chat else ["<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([f"{f.question} {f.answer}" for f in FACTS], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|end|>",
        model_max_length=256,
        **({"bos_token": "<|begin|>", "pad_token": "<|pad|>"} if chat else {}),
    )
    if chat:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_llama(tied: bool = False, seed: int = 0, **changes: Any) -> LoadedModel:
    """Llama: 4 blocks, hidden 32, inner 48, grouped-query attention."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(**common(tokenizer, tie_word_embeddings=tied, **changes))
    return _finish(LlamaForCausalLM(config), tokenizer, seed)


def tiny_mistral(seed: int = 0, **changes: Any) -> LoadedModel:
    """Mistral with a sliding window longer than the tests' texts."""
    tokenizer = tiny_tokenizer()
    return _finish(MistralForCausalLM(MistralConfig(**common(tokenizer, **{"sliding_window": 128, **changes}))), tokenizer, seed)


def tiny_qwen2(seed: int = 0, **changes: Any) -> LoadedModel:
    """Qwen2: untied, biases in attention, vocabulary padded by 12 rows."""
    tokenizer = tiny_tokenizer()
    settings = {"vocab_size": len(tokenizer) + 12, "tie_word_embeddings": False, **changes}
    return _finish(Qwen2ForCausalLM(Qwen2Config(**common(tokenizer, **settings))), tokenizer, seed)


def tiny_qwen3(seed: int = 0, **changes: Any) -> LoadedModel:
    """Qwen3: tied, biases, vocabulary padded by 12 rows."""
    tokenizer = tiny_tokenizer()
    settings = {"vocab_size": len(tokenizer) + 12, "tie_word_embeddings": True, "attention_bias": True, "head_dim": 8, **changes}
    return _finish(Qwen3ForCausalLM(Qwen3Config(**common(tokenizer, **settings))), tokenizer, seed)


def tiny_gpt2(seed: int = 0, **changes: Any) -> LoadedModel:
    """GPT-2: Conv1D weights, tied, learned positions, no BOS, no pad token, no chat template."""
    tokenizer = tiny_tokenizer(chat=False)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_inner=48, n_layer=4, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **changes,
    )  # fmt: skip
    return _finish(GPT2LMHeadModel(config), tokenizer, seed)


def tiny(family: str, seed: int = 0) -> LoadedModel:
    """A tiny model by family name (see FAMILIES and tests/helpers/families.py)."""
    if family == "llama_tied":
        return tiny_llama(tied=True, seed=seed)
    if family not in FAMILIES:
        from tests.helpers.families import make

        return _finish(*make(family), seed)
    makers = {"llama": tiny_llama, "mistral": tiny_mistral, "qwen2": tiny_qwen2, "qwen3": tiny_qwen3, "gpt2": tiny_gpt2}
    return makers[family](seed=seed)


def save_folder(loaded: LoadedModel, folder: Path) -> Path:
    """Write a Hugging Face folder and return it."""
    files.save_folder(loaded.model, loaded.tokenizer, folder)
    return folder


def common(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> dict[str, Any]:
    """What most families' configurations call alike: 4 blocks, hidden 32, inner 48, 4 heads."""
    return {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        **changes,
    }  # fmt: skip


def _finish(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, seed: int) -> LoadedModel:
    """Replace the random start by one from a generator of its own: equal on every call, biases not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm_weight = parameter.dim() == 1 and bool((parameter == 1).all())
            parameter.copy_(1 + 0.1 * noise if is_norm_weight else 0.15 * noise)
    return wrap_model(model, tokenizer, config=ModelConfig(prompt="auto"))
