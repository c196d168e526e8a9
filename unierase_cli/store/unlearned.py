"""What a model folder or GGUF file records about earlier unlearning: its unlearning tokens and the hashes of forgotten facts."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from msgspec import defstruct

from unierase_cli.contracts import UNLEARNING_TOKEN, UserError
from unierase_cli.store.gguf_files import gguf_at, read_gguf
from unierase_cli.store.json_text import decoded, read_json

# Written beside exported weights.
RECORD = "unierase.json"
# Hashes of the forgotten facts (``Fact.content_hash``), in a patch's ``info`` and in the record of a folder.
FORGOTTEN = "forgotten"
RECORDED: Any = defstruct("Recorded", [(FORGOTTEN, list[str], [])])
# In the ``info`` of token rows: names of an earlier run's tokens whose rows this run continues to train.
TAKEN_OVER = "taken_over"
TOKENIZER = "tokenizer.json"
# Matches the tokenizer's added tokens, which precede its vocabulary, without parsing tens of MB of JSON.
ADDED = re.compile(rb'"content"\s*:\s*"(' + UNLEARNING_TOKEN.pattern.encode("ascii") + rb')"')


def unlearning_tokens_in(place: Path) -> list[str]:
    """Names of the unlearning tokens in a folder's tokenizer or in a GGUF file."""
    file = gguf_at(place)
    if file is not None:
        return _in_gguf(file)
    path = place / TOKENIZER
    if not path.is_file():
        return []
    return [name.decode("ascii") for name in dict.fromkeys(ADDED.findall(path.read_bytes()))]


def _in_gguf(file: Path) -> list[str]:
    """The unlearning tokens among the texts of a GGUF file's header, each of which follows its length."""
    with file.open("rb") as stream:
        header = stream.read(read_gguf(file).data_start)
    names = re.finditer(UNLEARNING_TOKEN.pattern.encode("ascii"), header)
    whole = (n.group() for n in names if header[: n.start()].endswith(struct.pack("<Q", len(n.group()))))
    return [name.decode("ascii") for name in dict.fromkeys(whole)]


def forgotten_in(folder: Path) -> tuple[str, ...]:
    """Hashes of the facts that the model forgot before it was exported; empty without a record.

    Raises UserError for a damaged record.
    """
    path = folder / RECORD
    if not path.is_file():
        return ()
    try:
        return tuple(decoded(read_json(path), RECORDED).forgotten)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error})", "export the model again") from error
