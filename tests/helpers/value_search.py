"""Requests and settings for the search of z on a tiny model."""

from __future__ import annotations

from tests.helpers.tiny_models import FACTS
from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.editing.spans import EditRequest, make_requests
from unierase_cli.models.load import LoadedModel

LAYER = 2
TARGET = 40
CONFIG = ValueConfig(steps=6, lr=0.1, lr_kind="absolute", clamp=0.75, runner_up=0.0, stop_loss=0.05, stop_kind="total")


def requests(
    loaded: LoadedModel,
    key_position: str = "subject_last",
    prefixes: tuple[str, ...] = (),
    target: tuple[int, ...] = (TARGET,),
) -> list[EditRequest]:
    return make_requests(loaded.prompts, FACTS[:5], {f.id: target for f in FACTS}, prefixes, key_position)
