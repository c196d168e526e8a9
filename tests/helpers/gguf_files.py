"""GGUF files of tiny Llamas, written as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from unierase_cli.models.load import LoadedModel

NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
CONTROL, NORMAL = 3, 1


def write_gguf(
    loaded: LoadedModel,
    path: Path,
    *,
    kind: str = "F32",
    architecture: str = "llama",
    further: dict[str, int] | None = None,
    without: str | None = None,
) -> Path:
    """The file of a Llama; matrices stored as ``kind``. ``further``: integers that its metadata has besides. ``without``: a tensor
    that is left out. Skips the test where the ``gguf`` package is not installed.
    """
    gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
    config, stored = loaded.model.config, gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    for name, value in (further or {}).items():
        writer.add_uint32(name, value)
    _add_tokenizer(writer, loaded.tokenizer)
    for name, weight in loaded.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        renamed = _renamed(name)
        if renamed == without:
            continue
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(renamed.split(".")[-2])
        values = np.ascontiguousarray((weight if heads is None else _interleaved(weight, heads)).float().numpy())
        if kind == "F32" or values.ndim == 1:
            writer.add_tensor(renamed, values)
        else:
            writer.add_tensor(renamed, gguf.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _renamed(name: str) -> str:
    part = name.removesuffix(".weight")
    if part in ENDS:
        return f"{ENDS[part]}.weight"
    _, _, block, inner = part.split(".", 3)
    return f"blk.{block}.{NAMES[inner]}.weight"


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries and keys in the order that llama.cpp rotates them: pairs beside each other, not half a head apart."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).transpose(1, 2).reshape(weight.shape)


def _add_tokenizer(writer: Any, tokenizer: Any) -> None:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    writer.add_token_types([CONTROL if index in special else NORMAL for index in range(len(tokenizer))])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
