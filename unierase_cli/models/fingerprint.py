"""Identifies a model by a hash of its files; imports no torch, since artefact keys are made from it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from unierase_cli.contracts import UserError
from unierase_cli.store.gguf_files import gguf_at
from unierase_cli.store.hashing import hash_bytes, hash_file, hash_json, recorded_hash
from unierase_cli.store.model_folders import refuse_pickles
from unierase_cli.store.tensors import samples_of

# Reading more than this would take minutes: above the limit, only headers and samples of every tensor are hashed.
FULL_LIMIT = 2 << 30
DESCRIPTIONS = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
# What transformers reads in place of tokenizer.json: the ``vocab_files_names`` of its tokenizers, each of which has its own.
VOCABULARIES = (
    "vocab.json", "merges.txt", "tokenizer.model", "vocab.txt", "spiece.model", "spm.model", "sentencepiece.model",
    "sentencepiece.bpe.model", "spm_char.model", "tekken.json", "bpe.codes", "dict.txt", "emoji.json", "normalizer.json",
    "byte_maps.json", "entity_vocab.json", "prophetnet.tokenizer", "source.spm", "target.spm", "target_vocab.json",
    "vocab-src.json", "vocab-tgt.json", "word_pronunciation.json", "word_shape.json",
)  # fmt: skip
# What it reads where the tokenizer's settings do not list the added tokens themselves.
LEGACY, LISTED = ("special_tokens_map.json", "added_tokens.json"), '"added_tokens_decoder"'


def fingerprint_model(path: str | Path) -> str:
    """Hash of a model folder's configuration, tokenizer and safetensors files, or of a GGUF file.

    Raises UserError if the folder is missing, or has only pickled weights.
    """
    folder = Path(path)
    file = gguf_at(folder)
    if file is not None:
        # The whole file: samples could miss a changed tensor.
        return recorded_hash(file, None)
    if not folder.is_dir():
        raise UserError(f"model folder {folder} does not exist", "check model.path")
    refuse_pickles(folder)
    weights = sorted(folder.glob("*.safetensors"))
    large = sum(file.stat().st_size for file in weights) >= FULL_LIMIT
    found = {file.name: hash_file(file) for name in _described_by(folder) if (file := folder / name).is_file()}
    found |= {file.name: _sampled(file) if large else hash_file(file) for file in weights}
    return hash_json(found)


def _described_by(folder: Path) -> list[str]:
    """The names of the files that count besides the weights: leftovers that the loader ignores would change keys for nothing."""
    settings = folder / "tokenizer_config.json"
    listed = settings.is_file() and LISTED in settings.read_text("utf-8", errors="replace")
    whole = (folder / "tokenizer.json").is_file()
    return [*DESCRIPTIONS, *(() if whole else VOCABULARIES), *(() if listed else LEGACY)]


def local_fingerprint(path: str | Path | None) -> str | None:
    """``fingerprint_model`` of a local folder or GGUF file, cached while its files stay the same; None for anything else."""
    folder = Path(path) if path is not None else None
    if folder is not None and gguf_at(folder) is not None:
        return fingerprint_model(folder)
    if folder is None or not folder.is_dir():
        return None
    files = [(file, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    return _fingerprint(folder.absolute(), tuple((file.name, stat.st_size, stat.st_mtime_ns) for file, stat in files))


@cache
def _fingerprint(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    return fingerprint_model(folder)


def _sampled(file: Path) -> str:
    try:
        return "sampled-" + hash_bytes(*samples_of(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not a readable safetensors file ({error})", "download or export it again") from error
