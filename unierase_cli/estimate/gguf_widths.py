"""The size of a GGUF file's model, read from its header."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.store.gguf_files import GgufHeader, read_gguf

# Tensors in the file that are not weights of the model.
TABLES = ("rope_freqs.weight",)


def gguf_widths(file: Path) -> dict[str, Any]:
    """The fields of a ``Shape`` after dequantisation to float32; raises UserError if the header lacks one."""
    header = read_gguf(file)
    hidden, heads = _number(file, header, "embedding_length"), _number(file, header, "attention.head_count")
    embedding = header.shapes.get("token_embd.weight")
    if embedding is None:
        raise UserError(f"{file} has no token_embd.weight: it is not a language model", "choose a file with a whole model")
    return {
        "vocabulary": embedding[0],
        "hidden": hidden,
        "inner": _number(file, header, "feed_forward_length"),
        "blocks": _number(file, header, "block_count"),
        "heads": heads,
        "key_value_heads": header.number("attention.head_count_kv") or heads,
        "head_size": header.number("attention.key_length") or hidden // max(heads, 1),
        "tied": "output.weight" not in header.shapes,
        "stored": 4,
        "counted": sum(prod(shape) for name, shape in header.shapes.items() if name not in TABLES),
    }


def _number(file: Path, header: GgufHeader, name: str) -> int:
    found = header.number(name)
    if found is None:
        raise UserError(f"{file} has no {header.architecture}.{name}: the model's shape is unknown", "choose another file")
    return found
