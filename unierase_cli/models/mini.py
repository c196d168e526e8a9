"""A small Llama with its own tokenizer, built from scratch for the texts it should memorise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.contracts import UserError, stable_hash

PAD, BEGIN, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 512


def build_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most ``size`` tokens, trained on ``texts``, with a chat template.

    The template writes BOS and the tokenizer adds none, so that any tool can encode rendered text without a second BOS.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    special = [PAD, BEGIN, END, USER, ASSISTANT, SYSTEM]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if size < len(special) + len(alphabet):
        raise UserError(f"train.vocabulary={size} is too small", f"set it to {len(special) + len(alphabet)} or more")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, config: TrainConfig, seed: int) -> LlamaForCausalLM:
    """A Llama with an untied head and random float32 weights, determined by the seed."""
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        initializer_range=0.02,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # transformers initialises weights from torch's global generator: seed it for this draw only.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash(seed, "mini model"))
        return LlamaForCausalLM(settings)
