"""Tensors on disk: safetensors only, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from unierase_cli.contracts import UserError
from unierase_cli.store.json_text import decoded, parse_json
from unierase_cli.store.whole import whole

if TYPE_CHECKING:
    from torch import Tensor

# Bytes read at each of three places of a tensor, for a fingerprint without reading the whole file.
SAMPLE = 1 << 14
# Limit of the format.
LONGEST_HEAD = 100_000_000
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1}
BYTES |= {f"{sign}{bits}": bits // 8 for sign in "IU" for bits in (64, 32, 16, 8)}


class Entry(msgspec.Struct):
    """A tensor's entry in a file's header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, object] | None = None) -> None:
    """Write named tensors; ``metadata`` values are stored as JSON text in the header."""
    from safetensors.torch import save_file

    ready: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = tensor.detach().to("cpu").contiguous()
        # safetensors accepts neither views of a larger storage nor shared storages.
        part = found.untyped_storage().nbytes() != found.numel() * found.element_size()
        twice = found.numel() and found.data_ptr() in {other.data_ptr() for other in ready.values()}
        ready[name] = found.clone() if part or twice else found
    # With neither tensors nor metadata, safetensors writes a file that it cannot read, unless metadata is None.
    head = {k: json.dumps(v) for k, v in (metadata or {}).items()} or None
    with whole(path) as temporary:
        save_file(ready, str(temporary), metadata=head)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file. Raises UserError if it is missing or not a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing", "the artefact is damaged: make it again with --force") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})", "make it again with --force") from error


def check_finite(tensors: Iterable[tuple[str, Tensor]], what: object, hint: str) -> None:
    """Raise UserError with the count if a tensor of ``what`` has NaN or infinite values; reads each once, without a copy.

    Skips meta tensors and types that torch cannot compare (float8).
    """
    import torch

    wrong: list[tuple[str, Tensor]] = []
    for name, tensor in tensors:
        if tensor.is_meta or not tensor.numel() or not tensor.is_floating_point() or tensor.element_size() < 2:
            continue
        # NaN propagates to min and max, which also reveal infinities. ``isfinite`` of the whole would allocate as much again.
        if not all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor.detach())):
            wrong.append((name, tensor))
    if wrong:
        name, tensor = wrong[0]
        count = int((~torch.isfinite(tensor.detach())).sum())
        more = f", and {len(wrong) - 1} more tensors have such" if len(wrong) > 1 else ""
        raise UserError(f"{what}: {count} of {tensor.numel()} values of {name} are NaN or infinite{more}", hint)


def shapes_in(path: Path) -> dict[str, list[int]]:
    """Name -> shape of the tensors in a file, from its header, which is checked against the file's size.

    Raises OSError, or ValueError for a header that does not describe this file: too long, not JSON, tensors beyond the end, or
    sizes that do not match type and shape.
    """
    return {name: entry.shape for name, entry in _entries(path)[0].items()}


def samples_of(path: Path) -> Iterator[bytes]:
    """The file's header, then the first, middle and last bytes of every tensor. Raises as ``shapes_in`` does."""
    entries, start = _entries(path)
    with path.open("rb") as stream:
        yield stream.read(start)
        for entry in entries.values():
            first, end = (start + offset for offset in entry.data_offsets)
            size = min(SAMPLE, end - first)
            for place in (first, (first + end - size) // 2, end - size):
                stream.seek(place)
                yield stream.read(size)


def _entries(path: Path) -> tuple[dict[str, Entry], int]:
    """The header's entries, checked, and the offset of the tensor data."""
    with path.open("rb") as stream:
        left = path.stat().st_size - 8
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(left, LONGEST_HEAD):
            raise ValueError(f"its header claims {length:,} bytes, and the file has {left:,}")
        head = decoded(parse_json(stream.read(length).decode("utf-8")), dict[str, dict[str, Any]])
    entries = {name: decoded(entry, Entry, name) for name, entry in head.items() if name != "__metadata__"}
    for name, entry in entries.items():
        start, end = entry.data_offsets
        size = prod(entry.shape) * BYTES.get(entry.dtype, -1)
        if min(entry.shape, default=0) < 0 or not 0 <= start <= end <= left - length or end - start != size:
            raise ValueError(f"the offsets of {name} do not match its type and shape")
    return entries, 8 + length
