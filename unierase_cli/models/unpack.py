"""Converts a GGUF file to a plain model folder, once per file: dequantised by transformers, saved as safetensors.

The folder is in the hub's cache, named by the file's hash: transformers takes a minute to read a GGUF file and a second
to read a folder, and exports, patches and further training need a folder.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from unierase_cli.contracts import Reporter, SilentReporter, UserError
from unierase_cli.models.architecture import refuse_unsupported
from unierase_cli.models.reading import no_progress_bar, one_line
from unierase_cli.store.gguf_files import GgufHeader, check_gguf
from unierase_cli.store.hashing import recorded_hash
from unierase_cli.store.json_text import ROWS, read_json, write_json
from unierase_cli.store.locks import held
from unierase_cli.store.new_folder import new_folder

# Llama 3's RoPE scaling, which transformers does not read from GGUF files.
STRETCHED = "rope_freqs.weight"
ELSEWHERE = "choose another folder with HF_HOME=FOLDER"


def unpacked(file: Path, reporter: Reporter | None = None) -> Path:
    """The folder with the file's weights in float32, its tokenizer, chat template and special tokens.

    Raises UserError as ``check_gguf`` does, for a file that transformers cannot read or that lacks weights, and if the
    folder cannot be written.
    """
    header = check_gguf(file)
    reporter = reporter or SilentReporter()
    if STRETCHED in header.shapes:
        reporter.warn(f"{file}: {STRETCHED} is ignored, so the model's positions differ slightly from the original's")
    folder = unpacked_folder(file)
    if not _whole(folder):
        with _alone(folder, reporter):
            # Another process may have finished it while this one waited for the lock.
            if not _whole(folder):
                reporter.note(f"{file}: {header.quantisation}; dequantised to float32 in {folder}, once per file")
                with reporter.phase("dequantise"), new_folder(folder) as partial:
                    _convert(file, header, partial)
    return folder


@contextmanager
def _alone(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Hold the folder's lock, so that two processes do not dequantise one file at once. Raises UserError if it cannot be made."""
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = folder.with_name(f".{folder.name}.lock")
            waiting = f"another process is making {folder}; waiting for it"
            stack.enter_context(held(lock, lambda: reporter.note(waiting), ELSEWHERE))
        except OSError as error:
            raise UserError(f"cannot write to {folder.parent}: {error.strerror}", ELSEWHERE) from error
        yield


def unpacked_folder(file: Path) -> Path:
    """The folder of a file; it includes the transformers version, since versions may read the file differently."""
    return Path(constants.HF_HOME) / "unierase-gguf" / f"{recorded_hash(file, None)[:32]}-{transformers.__version__}"


def _whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "tokenizer.json")) and any(folder.glob("*.safetensors"))


def _convert(file: Path, header: GgufHeader, folder: Path) -> None:
    with one_line("GGUF file", file), no_progress_bar(), redirect_stderr(io.StringIO()):
        place = file.absolute().parent
        named: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False, "local_files_only": True}
        loaded: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **named)
        tokenizer = AutoTokenizer.from_pretrained(place, **named)
    model, info = loaded
    absent = sorted(info["missing_keys"])
    if absent:
        raise UserError(f"{file} lacks {len(absent)} weights, e.g. {absent[0]}", "use a file with a whole model")
    refuse_unsupported(model.config.get_text_config(), type(model).__name__)
    _forget_origin(model)
    _end_turns(model, header)
    with no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_tokens_of_others(folder / "tokenizer.json", header)


def _forget_origin(model: PreTrainedModel) -> None:
    """Remove the quantisation entry: the weights are plain now, and ``save_pretrained`` would refuse them."""
    for name in ("quantization_config", "_model_name_or_path"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.__dict__.pop("hf_quantizer", None)


def _drop_tokens_of_others(file: Path, header: GgufHeader) -> None:
    """Drop the end token that GPT-2's tokenizer class adds to byte-level vocabularies without one: it has no row."""
    count = header.metadata.get("tokenizer.ggml.tokens")
    described = read_json(file, ROWS)
    own = [token for token in described["added_tokens"] if not isinstance(count, int) or token["id"] < count]
    if len(own) < len(described["added_tokens"]):
        write_json(file, {**described, "added_tokens": own})


def _end_turns(model: PreTrainedModel, header: GgufHeader) -> None:
    """Stop at the token that ends turns: a chat model's may differ from the one that ends texts."""
    turn, settings = header.metadata.get("tokenizer.ggml.eot_token_id"), model.generation_config
    if isinstance(turn, int) and settings is not None:
        found = settings.eos_token_id
        ids = [] if found is None else found if isinstance(found, list) else [found]
        settings.eos_token_id = sorted({*ids, turn})
