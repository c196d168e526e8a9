"""Checks of untrusted model folders: links to files elsewhere, pickles, oversized descriptions, and invalid values in them.

transformers trusts the file names in an index, loads a file whose name does not end in .safetensors with torch.load, and if it
finds an adapter_config.json, loads the base model that this names.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from msgspec import Meta, defstruct

from unierase_cli.contracts import UserError
from unierase_cli.store.json_text import DESCRIPTION, ROWS, decoded, read_json

CONFIG, ADAPTER, INDEX = "config.json", "adapter_config.json", "model.safetensors.index.json"
PICKLED = ("pytorch_model", "model")
CONVERT = "from transformers import AutoModelForCausalLM as Model; Model.from_pretrained('{}').save_pretrained('NEW')"
# A vocabulary of a quarter of a million tokens takes some 30 MB with its merges.
LARGE = ("tokenizer.json", "vocab.json", INDEX)
BLOCKS = ("num_hidden_layers", "n_layer", "num_layers")
WIDTHS = (
    "hidden_size", "n_embd", "intermediate_size", "n_inner", "num_attention_heads", "n_head", "num_key_value_heads",
    "head_dim", "vocab_size", "max_position_embeddings", "n_positions",
)  # fmt: skip
# Limits far above any real model.
Blocks = Annotated[int, Meta(le=10_000)]
Width = Annotated[int, Meta(le=1 << 40)]
TOKENS = [(f"{name}_token_id", int | list[int] | None, None) for name in ("eos", "bos", "pad")]
# Values that are read here, or that determine memory before the weights are read. Some families give one width per block.
TEXT_CONFIG = defstruct(
    "TextConfig",
    [
        ("architectures", list[str] | None, None), ("model_type", str | None, None), ("layer_types", list[str] | None, None),
        ("tie_word_embeddings", bool | None, None), ("sliding_window", int | None, None), *TOKENS,
        *((name, Blocks | list[Blocks] | None, None) for name in BLOCKS),
        *((name, Width | list[Width] | None, None) for name in WIDTHS),
    ],
)  # fmt: skip
KINDS: dict[str, Any] = {
    CONFIG: defstruct("Config", [("text_config", TEXT_CONFIG | None, None)], bases=(TEXT_CONFIG,)),
    "generation_config.json": defstruct("GenerationConfig", TOKENS),
    "tokenizer_config.json": dict[str, Any],
    "special_tokens_map.json": dict[str, Any],
}
INDEX_KIND: Any = defstruct("Index", [("weight_map", dict[str, str])])


def cached_file(name: str, file: str, revision: str | None) -> Path | None:
    """A hub model's file in the local cache, or None; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def check_folder(folder: Path) -> None:
    """Raise UserError for a folder that has weights only as pickles, an oversized or invalid description
    (``check_description``), an adapter, or a bad index (``check_index``).
    """
    refuse_pickles(folder)
    for path in folder.glob("*.json"):
        most = ROWS if path.name in LARGE else DESCRIPTION
        if path.stat().st_size > most:
            size = f"{path.stat().st_size / 1e6:,.0f} MB"
            raise UserError(
                f"{path} has {size}, more than the limit of {most / 1e6:,.0f}", "use the original model's files"
            )
    for name in KINDS:
        if (folder / name).exists():
            check_description(folder / name)
    if (folder / ADAPTER).exists():
        refuse_adapter(folder)
    if (folder / INDEX).exists():
        check_index(folder / INDEX)


def refuse_pickles(folder: Path) -> None:
    """Raise UserError for a folder that has its weights only as pickles."""
    pickles = sorted(path.name for path in folder.glob("*.bin") if path.name.startswith(PICKLED))
    if pickles and not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has its weights as a pickle ({pickles[0]}), which can run code and is never read",
            f"if you trust it, write NEW with the tokenizer's files beside: python -c \"{CONVERT.format(folder)}\"",
        )


def check_description(path: Path) -> dict[str, Any]:
    """The object in a file of KINDS. Raises UserError that names an invalid value."""
    try:
        found = read_json(path)
        decoded(found, KINDS[path.name])
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", "model.path must name a Hugging Face model folder") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "use the original model's file") from error
    return dict(found)


def check_index(path: Path) -> None:
    """Raise UserError unless the index names only safetensors files in its own folder."""
    try:
        index = decoded(read_json(path, ROWS), INDEX_KIND)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "use a complete model folder") from error
    for name in sorted(set(index.weight_map.values())):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name:
            raise UserError(f"{path} names {name!r}, which leads out of its folder", "use the original model's files")
        if place.suffix != ".safetensors":
            raise UserError(
                f"{path} names {name!r}: only safetensors are read, never pickles", "convert the weights first"
            )


def refuse_adapter(source: str | Path) -> None:
    """Raise UserError because this folder or hub model is an adapter."""
    raise UserError(
        f"{source} has an {ADAPTER}: it is an adapter, which would load the base model that it names",
        "merge it into its base model, and give the folder of the result",
    )
