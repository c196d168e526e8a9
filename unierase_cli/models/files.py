"""Reads configuration, tokenizer and weights from a folder or the hub; errors become one line."""

from __future__ import annotations

import re
import socket
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.models.architecture import refuse_unsupported
from unierase_cli.models.reading import Source, no_progress_bar, one_line
from unierase_cli.models.unpack import unpacked
from unierase_cli.store.gguf_files import gguf_at
from unierase_cli.store.model_folders import ADAPTER, INDEX, check_folder, check_index, refuse_adapter
from unierase_cli.store.tensors import check_finite


def resolve(path: str | Path | None, reporter: Reporter | None = None) -> Source:
    """A Path for a folder or an unpacked GGUF file, a str for a hub id.

    Raises UserError for a missing folder or file, and for a GGUF file that cannot be loaded.
    """
    if path is None or str(path) == "":
        raise UserError("no model is given", "give model.path=FOLDER_OR_HUB_ID, or choose model=mini train=mini")
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    file = gguf_at(folder)
    if file is not None:
        return unpacked(file, reporter)
    text = str(path)
    if text.lower().endswith(".gguf"):
        raise UserError(f"GGUF file {text} does not exist", "download it, and give its path as model.path")
    if isinstance(path, Path) or folder.exists() or not re.fullmatch(r"[\w][\w.\-]*(/[\w][\w.\-]*)?", text):
        what = "is a file, not a model folder" if folder.exists() else "does not exist"
        raise UserError(f"model folder {text} {what}", "model.path is a model folder, a GGUF file or a hub id")
    return text


def read_config(source: Source, revision: str | None) -> PreTrainedConfig:
    """The model's configuration; mixtures of experts are rejected here, before anything large is read."""
    if isinstance(source, Path):
        if not (source / "config.json").is_file():
            inside = next((path.name for path in sorted(source.glob("*.gguf"))), None)
            hint = "model.path must name a Hugging Face model folder" if inside is None else f"give model.path={source / inside}"
            raise UserError(f"{source} has no config.json", hint)
        check_folder(source)
    with one_line("configuration", source):
        config = AutoConfig.from_pretrained(source, **_options(source, revision))
        refuse_unsupported(config.get_text_config(), (config.architectures or ["the model"])[0])
    return config


def read_tokenizer(source: Source, revision: str | None) -> PreTrainedTokenizerBase:
    """The model's tokenizer."""
    known = ("tokenizer.json", "tokenizer.model", "vocab.json")
    if isinstance(source, Path) and not any((source / name).is_file() for name in known):
        raise UserError(f"{source} has no tokenizer.json", "copy the tokenizer's files of the original model into it")
    with one_line("tokenizer", source):
        return AutoTokenizer.from_pretrained(source, **_options(source, revision))


def read_weights(
    source: Source,
    revision: str | None,
    config: PreTrainedConfig,
    dtype: torch.dtype | str,
    attention: str,
    device_map: Any = None,
) -> PreTrainedModel:
    """The model on the CPU, or placed by ``device_map``; all weights must be in the checkpoint (safetensors only)."""
    with one_line("weights", source), no_progress_bar():
        check_folder(source) if isinstance(source, Path) else _check_hub(source, revision)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            device_map=device_map,
            output_loading_info=True,
            **_options(source, revision),
        )
    model, info = loaded
    absent = sorted(info["missing_keys"])
    if absent:
        lacking = f"the checkpoint lacks {len(absent)} weights, e.g. {absent[0]}"
        raise UserError(f"{source}: {lacking}", "use a complete model folder")
    return model


def save_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights (safetensors), tokenizer and chat template as a Hugging Face folder.

    Raises UserError for weights that are not finite.
    """
    check_finite(model.named_parameters(), "the model to save", "lower the learning rate, or use float32")
    with no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check_hub(name: str, revision: str | None) -> None:
    """Like ``check_folder``, for the hub model's two files that refer to other files; they are downloaded for it."""
    known = {key: value for key, value in _options(name, revision).items() if key != "trust_remote_code"}
    found = [cached_file(name, file, _raise_exceptions_for_missing_entries=False, **known) for file in (ADAPTER, INDEX)]
    if found[0] is not None:
        refuse_adapter(name)
    if found[1] is not None:
        check_index(Path(found[1]))


def _options(source: Source, revision: str | None) -> dict[str, Any]:
    offline = isinstance(source, str) and not hub_reachable()
    return {"revision": revision or "main", "trust_remote_code": False, "local_files_only": offline}


@cache
def hub_reachable() -> bool:
    """Whether the hub can be reached; checked once, since the hub's library retries for half a minute."""
    if getproxies():
        return True  # a direct connection would prove nothing behind a proxy
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True
