"""Reads a GGUF file's metadata and tensor table without loading any weights.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The sizes of quantised blocks come from the ``gguf`` package.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
# Metadata types of fixed size, as struct format characters; the other two types are strings and arrays.
FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
# Dense decoders that transformers reads from GGUF files and whose blocks can be edited.
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "stablelm", "gpt2", "falcon")
# ggml's type numbers of tensors.
KINDS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
}  # fmt: skip
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
INSTALL = 'pip install "unierase[gguf]"'
CHAT_TEMPLATE, ALIGNED = "tokenizer.chat_template", "general.alignment"
AGAIN = "download the file again"


@dataclass(frozen=True)
class GgufHeader:
    """``metadata``: arrays are represented by their length. ``shapes``: rows before columns. ``kinds``: ggml's type number.
    ``offsets``: in bytes from ``data_start``.
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    kinds: dict[str, int]
    offsets: dict[str, int]
    data_start: int
    size: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def quantisation(self) -> str:
        """Tensor types with their counts, the most frequent first: "Q4_1 210, F32 61, Q8_0 1"."""
        return ", ".join(f"{kind_name(kind)} {count}" for kind, count in Counter(self.kinds.values()).most_common())

    def number(self, name: str) -> int | None:
        """An integer from the architecture's own metadata, such as ``block_count``."""
        found = self.metadata.get(f"{self.architecture}.{name}")
        return found if isinstance(found, int) else None


def gguf_at(path: str | Path) -> Path | None:
    """The file if it exists and is a GGUF file by its first bytes or its name, else None."""
    file = Path(path)
    if not file.is_file():
        return None
    if file.suffix.lower() == ".gguf":
        return file
    with file.open("rb") as stream:
        return file if stream.read(len(MAGIC)) == MAGIC else None


def read_gguf(file: Path) -> GgufHeader:
    """The header, cached while the file does not change. Raises UserError for a file that is not GGUF or is truncated."""
    state = file.stat()
    return _read(file, state.st_size, state.st_mtime_ns)


def check_gguf(file: Path) -> GgufHeader:
    """The header of a file that can be loaded.

    Raises UserError if the file is truncated or one of several parts, if its architecture or quantisation is not supported, or if
    the ``gguf`` package is missing.
    """
    _refuse_part(file)
    header = read_gguf(file)
    parts = header.metadata.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise _split(file, parts)
    _check_architecture(file, header)
    sizes = _block_sizes()
    if sizes is None:
        raise UserError(f"{file} is a GGUF file, and the package that reads them is not installed", INSTALL)
    for name, kind in header.kinds.items():
        if kind not in sizes:
            raise UserError(
                f"{file} stores {name} as {kind_name(kind)}, which cannot be dequantised",
                "choose a file with another quantisation, for example Q8_0 or Q4_K_M",
            )
        block, size = sizes[kind]
        if header.data_start + header.offsets[name] + prod(header.shapes[name]) // block * size > header.size:
            raise UserError(f"{file} is cut off in its tensor {name}", AGAIN)
    return header


def kind_name(kind: int) -> str:
    """ggml's name of a tensor type, or its number."""
    return KINDS.get(kind, f"type {kind}")


def _refuse_part(file: Path) -> None:
    found = PART.search(file.name)
    if found and int(found[2]) > 1:
        raise _split(file, int(found[2]))


def _split(file: Path, parts: int) -> UserError:
    return UserError(
        f"{file} is one of {parts} parts of a GGUF file",
        "join them with llama.cpp's `llama-gguf-split --merge FIRST_PART WHOLE.gguf`, and give the whole file",
    )


def _check_architecture(file: Path, header: GgufHeader) -> None:
    known = "known are " + ", ".join(ARCHITECTURES)
    if header.architecture not in ARCHITECTURES:
        raise UserError(f"{file} has the architecture {header.architecture or '(none)'}, which cannot be edited", known)
    if header.number("expert_count"):
        raise UserError(f"{file} is a mixture of experts, which cannot be edited", f"choose a dense model: {known}")
    if "token_embd.weight" not in header.shapes:
        raise UserError(f"{file} has no token_embd.weight: it is not a language model", "choose a file with a whole model")


@lru_cache(maxsize=1)
def _block_sizes() -> dict[int, tuple[int, int]] | None:
    """ggml's type number -> weights and bytes per block, for types that can be dequantised; None without the package."""
    try:
        import gguf
        import numpy as np
    except ImportError:
        return None
    sizes: dict[int, tuple[int, int]] = {}
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        try:
            with np.errstate(all="ignore"):
                gguf.dequantize(np.zeros((1, size), dtype=np.uint8), kind)
        except NotImplementedError:
            continue
        sizes[int(kind)] = (block, size)
    return sizes


@lru_cache(maxsize=16)
def _read(file: Path, size: int, _changed: int) -> GgufHeader:
    try:
        with file.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise UserError(f"{file} is not a GGUF file: it does not begin with {MAGIC.decode()}", "check model.path")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _header(file, content, size)
    except (struct.error, IndexError) as error:
        raise UserError(f"{file} is cut off in its header", AGAIN) from error
    except (UnicodeDecodeError, KeyError, OverflowError) as error:
        raise UserError(f"{file} has a damaged header", AGAIN) from error


def _header(file: Path, content: mmap.mmap, size: int) -> GgufHeader:
    version, tensors, entries = struct.unpack_from("<IQQ", content, len(MAGIC))
    if version not in VERSIONS:
        raise UserError(f"{file} has version {version} of GGUF", "versions 2 and 3, little-endian, can be read")
    place, metadata = len(MAGIC) + struct.calcsize("<IQQ"), dict[str, Any]()
    for _ in range(entries):
        name, place = _text(content, place)
        (kind,) = struct.unpack_from("<I", content, place)
        metadata[name], place = _value(content, place + 4, kind)
    shapes, kinds, offsets = dict[str, tuple[int, ...]](), dict[str, int](), dict[str, int]()
    for _ in range(tensors):
        name, place = _text(content, place)
        (count,) = struct.unpack_from("<I", content, place)
        widths = struct.unpack_from(f"<{min(count, 8)}Q", content, place + 4)
        place += 4 + 8 * len(widths)
        kinds[name], offsets[name] = struct.unpack_from("<IQ", content, place)
        # The file lists the fastest-varying dimension first.
        shapes[name], place = tuple(reversed(widths)), place + 12
    alignment = metadata.get(ALIGNED, ALIGNMENT)
    step = alignment if isinstance(alignment, int) and alignment > 0 else ALIGNMENT
    return GgufHeader(metadata, shapes, kinds, offsets, -(-place // step) * step, size)


def _text(content: mmap.mmap, place: int) -> tuple[str, int]:
    end = _skip_text(content, place)
    return content[place + 8 : end].decode("utf-8"), end


def _skip_text(content: mmap.mmap, place: int) -> int:
    (length,) = struct.unpack_from("<Q", content, place)
    end: int = place + 8 + length
    if end > len(content):
        raise IndexError(end)
    return end


def _value(content: mmap.mmap, place: int, kind: int) -> tuple[Any, int]:
    if kind == TEXT:
        return _text(content, place)
    if kind != LIST:
        form = "<" + FIXED[kind]
        return struct.unpack_from(form, content, place)[0], place + struct.calcsize(form)
    inner, count = struct.unpack_from("<IQ", content, place)
    place += 12
    if inner == TEXT:
        for _ in range(count):
            place = _skip_text(content, place)
    else:
        place += count * struct.calcsize("<" + FIXED[inner])
    return count, place
