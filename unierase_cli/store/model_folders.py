"""What a model's folder is not trusted with: leading to files elsewhere, to pickles, or to gigabytes of description, and saying
in its description what no model's says.

transformers takes an index's file names as they are, loads a file that is not called .safetensors with torch.load, and where it
finds an adapter_config.json takes the model that this one names.
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
# A vocabulary of a quarter of a million tokens with its merges has some 30 MB.
LARGE = ("tokenizer.json", "vocab.json", INDEX)
BLOCKS = ("num_hidden_layers", "n_layer", "num_layers")
WIDTHS = (
    "hidden_size", "n_embd", "intermediate_size", "n_inner", "num_attention_heads", "n_head", "num_key_value_heads",
    "head_dim", "vocab_size", "max_position_embeddings", "n_positions",
)  # fmt: skip
# More blocks than any model has, and the largest other number: a model of more is not tried.
Blocks = Annotated[int, Meta(le=10_000)]
Width = Annotated[int, Meta(le=1 << 40)]
TOKENS = [(f"{name}_token_id", int | list[int] | None, None) for name in ("eos", "bos", "pad")]
# What is read here, or decides how much a model takes before its weights are looked at. Some families give a width per block.
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


def check_folder(folder: Path) -> None:
    """Raise UserError for weights as pickles alone, for a description that is too large to be one or has not its form
    (``check_description``), for an adapter, and for a bad index (``check_index``).
    """
    refuse_pickles(folder)
    for path in folder.glob("*.json"):
        most = ROWS if path.name in LARGE else DESCRIPTION
        if path.stat().st_size > most:
            size = f"{path.stat().st_size / 1e6:,.0f} MB"
            raise UserError(
                f"{path} has {size}, and no model's has more than {most / 1e6:,.0f}", "use the original model's files"
            )
    for name in KINDS:
        if (folder / name).exists():
            check_description(folder / name)
    if (folder / ADAPTER).exists():
        refuse_adapter(folder)
    if (folder / INDEX).exists():
        check_index(folder / INDEX)


def refuse_pickles(folder: Path) -> None:
    """Raise UserError for a folder that has its weights as pickles alone."""
    pickles = sorted(path.name for path in folder.glob("*.bin") if path.name.startswith(PICKLED))
    if pickles and not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has its weights as a pickle ({pickles[0]}), which can run code and is never read",
            f"if you trust it, write NEW with the tokenizer's files beside: python -c \"{CONVERT.format(folder)}\"",
        )


def check_description(path: Path) -> dict[str, Any]:
    """The object in a file of KINDS. Raises UserError naming the value that is of another kind than any model's."""
    try:
        found = read_json(path)
        decoded(found, KINDS[path.name])
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", "model.path must name a Hugging Face model folder") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "use the original model's file") from error
    return dict(found)


def check_index(path: Path) -> None:
    """Raise UserError unless the index names safetensors files in its own folder."""
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
    """Raise UserError: the folder or hub model of this name is an adapter."""
    raise UserError(
        f"{source} has an {ADAPTER}: an adapter, whose base model would be taken from the place that it names",
        "merge it into its base model, and give the folder of that",
    )
