"""Tensors on disk: safetensors only, written so that a reader never sees half a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.contracts import UserError
from unierase_cli.store.whole import whole

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, object] | None = None) -> None:
    """Write named tensors; ``metadata`` values are stored as JSON text in the header."""
    from safetensors.torch import save_file

    ready: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = tensor.detach().to("cpu").contiguous()
        # safetensors takes neither a part of a larger storage nor one storage twice.
        part = found.untyped_storage().nbytes() != found.numel() * found.element_size()
        twice = found.numel() and found.data_ptr() in {other.data_ptr() for other in ready.values()}
        ready[name] = found.clone() if part or twice else found
    # safetensors writes a file that it cannot read when there are neither tensors nor metadata, unless told None.
    head = {k: json.dumps(v) for k, v in (metadata or {}).items()} or None
    with whole(path) as temporary:
        save_file(ready, str(temporary), metadata=head)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file. Raises UserError when it is missing or not a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing", "the artefact is damaged: make it anew with --force") from error
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})", "make it anew with --force") from error
