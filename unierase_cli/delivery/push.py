"""Sends an exported folder to the Hugging Face hub: a private repository, unless it exists already or shall be public."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError

REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def check_push(repository: str, *, public: bool = False) -> None:
    """Raise UserError before anything is made: for a name that is none, offline, without a login that the hub accepts, or if the
    repository is public already and ``public`` is not asked for (an upload does not make it private).
    """
    if not REPOSITORY.fullmatch(repository):
        raise UserError(f"--push {repository} is not a repository of the hub", "--push OWNER/NAME")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UserError("--push needs the hub, and HF_HUB_OFFLINE is set", "unset it, or export without --push")
    _asked(lambda api: api.whoami(), "the hub does not know you")
    if not public and _asked(lambda api: _is_public(api, repository), f"the hub does not show {repository}"):
        raise UserError(f"{repository} is public already: everybody would see the export", "add --public, or push to a new name")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload the folder and return the address of the repository. Raises UserError if the hub refuses it."""

    def upload(api: Any) -> str:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="An edited model and its card")
        return str(address)

    return str(_asked(upload, f"the hub refused {repository} (the export stays in {folder})"))


def _is_public(api: Any, repository: str) -> bool:
    """Whether the repository exists and is public."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return not api.repo_info(repository).private
    except RepositoryNotFoundError:
        return False


def _asked(ask: Any, told: str) -> Any:
    from huggingface_hub import HfApi

    try:
        return ask(HfApi())
    except Exception as error:  # the hub's own, those of its client, and the system's
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{told}: {first}", LOGIN) from error
