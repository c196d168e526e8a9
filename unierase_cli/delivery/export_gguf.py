"""Writes an edited model as a GGUF file: a copy of the file that the run edited, with the changed tensors and the tokens' rows.

Unchanged tensors keep their quantised bytes, so the file holds the model that the run measured. What changes is stored in
float32: the edited down projections, whose form is the same in every architecture of these files, and the matrices with the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unierase_cli.contracts import UserError
from unierase_cli.store.gguf_files import ALIGNED, INSTALL, gguf_at

if TYPE_CHECKING:
    from torch import nn

    from unierase_cli.editing.weights import AppliedPatch
    from unierase_cli.models.load import LoadedModel

TOKENS, KINDS, SCORES = (f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "scores"))
# llama.cpp's type of a token that no text contains, and the score that it gives to added tokens.
CONTROL, ADDED_SCORE = 3, -1000.0
Arrays = Mapping[str, np.ndarray]


def source_file(source: str) -> Path:
    """The GGUF file that a model was loaded from. Raises UserError for any other model and without the package ``gguf``."""
    file = gguf_at(source)
    if file is None:
        raise UserError(
            f"--as gguf needs a run whose model is a GGUF file, and {source} is not one",
            "--as model, then llama.cpp's convert_hf_to_gguf.py",
        )
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise UserError("the package that writes GGUF files is not installed", INSTALL) from None
    return file


def write_gguf(applied: AppliedPatch, folder: Path) -> None:
    """Write the patched model to ``folder`` under the source file's name.

    Raises UserError if the patches change more than down projections and tokens, or if the file stores a changed tensor in
    another form than the model.
    """
    from gguf import GGUFReader

    source = source_file(applied.loaded.source)
    reader = GGUFReader(source)
    changed = {**_projections(applied, reader), **_ends(applied.loaded, reader)}
    _write(reader, changed, _vocabulary(applied.loaded, reader), folder / f"{source.stem}-unlearned.gguf")


def _projections(applied: AppliedPatch, reader: Any) -> dict[str, np.ndarray]:
    """Name in the file -> edited down projection [h, d], float32."""
    from gguf import dequantize

    architecture = applied.loaded.architecture
    found, others = {}, set(applied.bases)
    for layer in applied.layers:
        name, parameter = f"blk.{layer}.ffn_down.weight", f"{architecture.projection_name(layer)}.weight"
        others.discard(parameter)
        stored = next((tensor for tensor in reader.tensors if tensor.name == name), None)
        base = applied.bases[parameter].float().numpy()
        if stored is None or not _same(dequantize(stored.data, stored.tensor_type), base):
            raise UserError(f"the GGUF file does not store the unedited {parameter} as {name}", "--as model")
        found[name] = architecture.weight(layer).cpu().numpy()
    if others:
        raise UserError(f"--as gguf cannot write the change of {min(others)}", "--as model, then llama.cpp's convert_hf_to_gguf.py")
    return found


def _same(stored: np.ndarray, base: np.ndarray) -> bool:
    """Whether a matrix is the model's, as it is or transposed (GPT-2)."""
    return any(stored.shape == form.shape and np.array_equal(stored, form) for form in (base, base.T))


def _ends(loaded: LoadedModel, reader: Any) -> dict[str, np.ndarray]:
    """Name in the file -> matrix with the rows of all tokens, float32; nothing without unlearning tokens."""
    architecture = loaded.architecture
    if not loaded.unlearn_ids:
        return {}
    ends: dict[str, nn.Embedding | nn.Linear] = {"token_embd.weight": architecture.embedding}
    if any(tensor.name == "output.weight" for tensor in reader.tensors):
        ends["output.weight"] = architecture.head
    elif not architecture.tied:
        raise UserError("the GGUF file has no head of its own, but the model has one", "--as model")
    if architecture.head.bias is not None:
        raise UserError("--as gguf cannot write a head with a bias", "--as model, then llama.cpp's convert_hf_to_gguf.py")
    return {name: module.weight.detach().float().cpu().numpy() for name, module in ends.items()}


def _vocabulary(loaded: LoadedModel, reader: Any) -> dict[str, list[Any]]:
    """The tokenizer's lists with the unlearning tokens in them: the file's own, as long as the embedding has rows."""
    lists = {name: list(reader.fields[name].contents()) for name in (TOKENS, KINDS, SCORES) if name in reader.fields}
    filler = {TOKENS: "", KINDS: CONTROL, SCORES: ADDED_SCORE}
    rows = loaded.architecture.embedding.weight.shape[0]
    for name, values in lists.items():
        values += [filler[name] if name != TOKENS else f"[PAD{n}]" for n in range(len(values), rows)]
    for index in loaded.unlearn_ids:
        lists[TOKENS][index] = str(loaded.tokenizer.convert_ids_to_tokens(index))
        for name in (KINDS, SCORES):
            if name in lists:
                lists[name][index] = filler[name]
    return lists


def _write(reader: Any, changed: Arrays, lists: Mapping[str, list[Any]], path: Path) -> None:
    from gguf import GGUFValueType, GGUFWriter

    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(path, architecture)
    given = {f"{architecture}.vocab_size": len(lists[TOKENS])}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", ALIGNED):
            continue
        kind, inner = field.types[0], field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, lists.get(name, given.get(name, field.contents())), kind, sub_type=inner)
    for tensor in reader.tensors:
        if tensor.name in changed:
            writer.add_tensor(tensor.name, np.ascontiguousarray(changed[tensor.name]))
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
