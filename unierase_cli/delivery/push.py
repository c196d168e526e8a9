"""Sends an exported folder to the Hugging Face hub: a private repository, unless it exists already or shall be public."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError

REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def check_push(repository: str) -> None:
    """Raise UserError before anything is made: for a name that is none, offline, or without a login that the hub accepts."""
    if not REPOSITORY.fullmatch(repository):
        raise UserError(f"--push {repository} is not a repository of the hub", "--push OWNER/NAME")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UserError("--push needs the hub, and HF_HUB_OFFLINE is set", "unset it, or export without --push")
    _asked(lambda api: api.whoami(), "the hub does not know you")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload the folder and return the address of the repository. Raises UserError if the hub refuses it."""

    def upload(api: Any) -> str:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="An edited model and its card")
        return str(address)

    return str(_asked(upload, f"the hub refused {repository} (the export stays in {folder})"))


def _asked(ask: Any, told: str) -> Any:
    from huggingface_hub import HfApi

    try:
        return ask(HfApi())
    except Exception as error:  # the hub's own, those of its client, and the system's
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{told}: {first}", LOGIN) from error
