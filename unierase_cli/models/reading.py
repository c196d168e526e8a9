"""Reads model files without progress bars and reports errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.utils import logging

from unierase_cli.contracts import UserError

# A folder, or a hub id.
Source = str | Path
UNREACHABLE = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectionError", "ConnectTimeout"}


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Hide progress bars: only the reporter prints."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def one_line(part: str, source: Source) -> Iterator[None]:
    """Turn errors from reading a model's files into one UserError: where, what, what to do."""
    try:
        yield
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{source} does not fit into the device's memory", "choose a smaller model or device"
        ) from error
    except Exception as error:  # loaders raise OSError, ValueError, KeyError, SafetensorError, hub and http errors
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if "trust_remote_code" in str(error):
            what = f"{source} needs code from its own repository, which is never run"
            raise UserError(what, "choose another model") from error
        if isinstance(source, Path):
            # For values of a wrong type, Python's message says little without the error's name.
            named = (
                f"{type(error).__name__}: {first}"
                if isinstance(error, TypeError | AttributeError | LookupError)
                else first
            )
            here = "check the files in this folder" if source.is_dir() else "choose another file"
            raise UserError(f"{source}: the {part} cannot be read: {named}", here) from error
        raise UserError(f"{source}: {_hub_problem(error)}", _hub_hint(error)) from error


def _hub_problem(error: Exception) -> str:
    names = {type(e).__name__ for e in _chain(error)}
    if "GatedRepoError" in names:
        return "the hub requires a login for this model"
    if "RevisionNotFoundError" in names:
        return "the hub has no such revision"
    if names & {"RepositoryNotFoundError", "HFValidationError"}:
        return "no such folder here and no such model on the hub"
    if names & UNREACHABLE or "connect" in str(error) or "offline" in str(error):
        return "no such folder here, not in the local cache, and the hub cannot be reached"
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _hub_hint(error: Exception) -> str:
    names = {type(e).__name__ for e in _chain(error)}
    if "GatedRepoError" in names:
        return "accept its licence on the hub, then `hf auth login`"
    if "RevisionNotFoundError" in names:
        return "check model.revision"
    return "check model.path, or download the model and give its folder"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
