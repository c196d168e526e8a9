"""What a model's folder is not trusted with: leading to files elsewhere, to pickles, or to gigabytes of description.

transformers takes an index's file names as they are, loads a file that is not called .safetensors with torch.load, and where it
finds an adapter_config.json takes the model that this one names.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from unierase_cli.contracts import UserError
from unierase_cli.store.forms import misfit
from unierase_cli.store.json_text import DESCRIPTION, ROWS, read_json

ADAPTER, INDEX = "adapter_config.json", "model.safetensors.index.json"
PICKLED = ("pytorch_model", "model")
CONVERT = "from transformers import AutoModelForCausalLM as Model; Model.from_pretrained('{}').save_pretrained('NEW')"
# A vocabulary of a quarter of a million tokens with its merges has some 30 MB.
LARGE = ("tokenizer.json", "vocab.json", INDEX)


def check_folder(folder: Path) -> None:
    """Raise UserError for weights as pickles alone, for a description that is too large to be one, for an adapter, and for a
    bad index (``check_index``).
    """
    refuse_pickles(folder)
    for path in folder.glob("*.json"):
        most = ROWS if path.name in LARGE else DESCRIPTION
        if path.stat().st_size > most:
            size = f"{path.stat().st_size / 1e6:,.0f} MB"
            raise UserError(
                f"{path} has {size}, and no model's has more than {most / 1e6:,.0f}", "use the original model's files"
            )
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


def check_index(path: Path) -> None:
    """Raise UserError unless the index names safetensors files in its own folder."""
    try:
        index = read_json(path, ROWS)
        if wrong := misfit(index, {"weight_map": {str: str}}):
            raise ValueError(wrong)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "use a complete model folder") from error
    for name in sorted(set(index["weight_map"].values())):
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
