"""Judges from the hub or from a folder: safetensors and JSON only; no code of theirs is ever run.

A judge that was downloaded once is read from the cache, also offline. Judges run in float32, so that their results do not depend
on a device's rounding, and on the GPU if there is one, because scoring needs no other model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.metrics.judges.kinds import (
    ENCODERS,
    KINDS,
    NLI,
    NO_FOLDER,
    NO_PACKAGE,
    NOT_DOWNLOADED,
    Classify,
    Encode,
    Judge,
    JudgeAbsent,
)
from unierase_cli.store.hashing import file_records, hash_json
from unierase_cli.store.model_folders import check_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BATCH = 32
# Texts that an encoder processes between two progress messages; whole batches.
MANY = 16 * BATCH
# Open-unlearning's detector reads this many tokens; the probability of its first class is the score.
GIBBERISH_TOKENS = 32
ENTAILMENT, CLEAN = "entailment", "clean"
# Neither pickled weights nor the other formats in which repositories hold copies of small models.
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
WEIGHTS = "*.safetensors"


def find_judge(kind: str, name: str) -> Path:
    """The judge's folder, downloaded if needed. Raises JudgeAbsent for a missing package, folder or model, or no network."""
    local = _local_folder(kind, name)
    if kind in ENCODERS and find_spec("sentence_transformers") is None:
        raise JudgeAbsent("the package sentence-transformers is not installed; pip install 'unierase[judges]'")
    return local or _from_hub(kind, name)


def open_judge(
    kind: str, name: str, folder: Path, alive: Callable[[], None] = lambda: None
) -> Encode | Classify | Judge:
    """The judge from its folder; ``alive`` is called after every batch. Raises JudgeAbsent if it is unreadable."""
    with _one_line(kind, name):
        check_folder(folder)
        if kind in ENCODERS:
            return _encoder(folder, alive)
        return _entailment(folder, alive) if kind == NLI else _gibberish(folder, alive)


def fingerprint(kind: str, name: str) -> str:
    """Content of a folder, revision of a downloaded judge, or what is missing; imports nothing heavy."""
    if kind in ENCODERS and find_spec("sentence_transformers") is None:
        return NO_PACKAGE
    try:
        folder = _local_folder(kind, name)
    except JudgeAbsent:
        return NO_FOLDER
    if folder is not None:
        return hash_json(file_records(folder, 1 << 20))
    cached = _cached(name)
    return cached.name if cached else NOT_DOWNLOADED


def _encoder(folder: Path, alive: Callable[[], None]) -> Encode:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(folder),
        device=_device(),
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    )

    def encode(texts: Sequence[str]) -> NDArray[Any]:
        # Longest first, as within the library, which reports no progress during a call.
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        found: list[Any] = [None] * len(texts)
        for part in (order[start : start + MANY] for start in range(0, len(order), MANY)):
            vectors = model.encode([texts[i] for i in part], batch_size=BATCH, show_progress_bar=False)
            for index, vector in zip(part, vectors, strict=True):
                found[index] = vector
            alive()
        return np.stack(found)

    return encode


def _entailment(folder: Path, alive: Callable[[], None]) -> Classify:
    probabilities, names = _classifier(folder, alive)
    if ENTAILMENT not in names:
        raise JudgeAbsent(
            f"{folder} has no class {ENTAILMENT}, only {', '.join(names)}; give another model: eval.nli=NAME"
        )
    return lambda pairs: [names[int(row.argmax())] for row in probabilities(pairs)]


def _gibberish(folder: Path, alive: Callable[[], None]) -> Judge:
    probabilities, names = _classifier(folder, alive, GIBBERISH_TOKENS)
    clean = names.index(CLEAN) if CLEAN in names else 0
    return lambda texts: [float(row[clean]) for row in probabilities(texts)]


def _classifier(
    folder: Path, alive: Callable[[], None], tokens: int = 0
) -> tuple[Callable[[Sequence[Any]], list[Tensor]], list[str]]:
    """(texts or pairs -> class probabilities, class names). ``tokens``: maximum length; 0: the model's."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    options = {"trust_remote_code": False, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype="float32", use_safetensors=True, output_loading_info=True, **options
    )
    if absent := sorted(loaded[1]["missing_keys"]):
        # Missing weights would be random.
        raise JudgeAbsent(f"{folder} is not a classifier: it lacks {absent[0]}; give a model that was trained to classify")
    model = loaded[0].eval().to(_device())
    room = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 0) or 512)
    names = [str(model.config.id2label[index]).lower() for index in range(model.config.num_labels)]

    @torch.no_grad()
    def probabilities(items: Sequence[Any]) -> list[Tensor]:
        found: list[Any] = [None] * len(items)
        # Batches of similar length need little padding.
        order = sorted(range(len(items)), key=lambda i: -len("".join(items[i])))
        for batch in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            encoded = tokenizer(
                *_columns([items[i] for i in batch]),
                truncation=True,
                max_length=tokens or room,
                padding=True,
                return_tensors="pt",
            )
            rows = model(**encoded.to(model.device)).logits.softmax(-1).cpu()
            for index, row in zip(batch, rows, strict=True):
                found[index] = row
            alive()
        return found

    return probabilities, names


def _columns(items: Sequence[Any]) -> list[list[str]]:
    """Arguments for a tokenizer: all texts, or all premises and all hypotheses."""
    return [list(column) for column in zip(*items, strict=True)] if isinstance(items[0], tuple) else [list(items)]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _local_folder(kind: str, name: str) -> Path | None:
    """The folder ``name``, or None if it may be a hub id."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        what = "is a file, not a model's folder" if folder.exists() else "does not exist"
        raise JudgeAbsent(f"the {KINDS[kind][0]}'s folder {name} {what}; check eval.{kind}")
    return None


def _cached(name: str) -> Path | None:
    """Local folder of the hub's model, or None if it is not cached with its weights."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=FILES, local_files_only=True))
    except Exception:  # not cached; an invalid name is reported when it is downloaded
        return None
    return folder if any(folder.rglob(WEIGHTS)) else None


def _from_hub(kind: str, name: str) -> Path:
    """The hub's model in the local cache, downloaded if needed."""
    from huggingface_hub import snapshot_download

    cached = _cached(name)
    if cached is not None:
        return cached
    what = KINDS[kind][0]
    try:
        folder = Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # the hub's library raises its own errors, and HTTP, OS and value errors
        names = {base.__name__ for base in type(error).__mro__}
        if "GatedRepoError" in names:
            text = f"the hub asks for a login to the {what} {name}; accept its licence there, then run `hf auth login`"
        elif names & {"RepositoryNotFoundError", "HFValidationError"}:
            text = f"the {what} {name} is neither a local folder nor a model on the hub; check eval.{kind}"
        else:
            why = (
                "HF_HUB_OFFLINE is set"
                if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
                else type(error).__name__
            )
            text = (
                f"the {what} {name} is neither a local folder nor in the cache, and the hub cannot be reached ({why}); "
                f"run `hf download {name}` where there is a network and give the folder: eval.{kind}=FOLDER"
            )
        raise JudgeAbsent(text) from error
    if not any(folder.rglob(WEIGHTS)):
        raise JudgeAbsent(
            f"the {what} {name} has no safetensors, and pickled weights are never read; choose another: eval.{kind}"
        )
    return folder


@contextmanager
def _one_line(kind: str, name: str) -> Iterator[None]:
    """Turn any error of a loader into JudgeAbsent, and hide progress bars: only the reporter writes to the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except JudgeAbsent:
        raise
    except Exception as error:  # OSError, ValueError, KeyError, ImportError of a tokenizer's library, SafetensorError
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise JudgeAbsent(f"the {KINDS[kind][0]} {name} cannot be read: {first[:200]}; check its files") from error
    finally:
        if shown:
            logging.enable_progress_bar()
