"""Which model this is: a hash of what is in its folder. No torch here, since keys are made from it."""

from __future__ import annotations

from pathlib import Path

from unierase_cli.contracts import UserError
from unierase_cli.store.hashing import hash_file, hash_json

# Reading more than this only to name a model would cost minutes: beyond it sizes, ends and samples are hashed.
FULL_LIMIT = 2 << 30
DESCRIPTIONS = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def fingerprint_model(path: str | Path) -> str:
    """Hash of a model folder's configuration, tokenizer and safetensors files. Raises UserError if the folder is missing."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"there is no model folder {folder}", "check model.path")
    weights = sorted(folder.glob("*.safetensors"))
    limit = FULL_LIMIT if sum(file.stat().st_size for file in weights) < FULL_LIMIT else 1 << 20
    named = [folder / name for name in DESCRIPTIONS if (folder / name).is_file()]
    return hash_json({file.name: hash_file(file, limit) for file in [*named, *weights]})
