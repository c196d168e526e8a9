"""The four tiny models of golden/depth, their rows, and what the reference code made of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.models.load import LoadedModel, wrap_model
from unierase_cli.representation.entities import Entity
from unierase_cli.representation.rows import EntityRow, Tokenisation, entity_rows
from unierase_cli.representation.states import LastBlock, States, read_states

MODELS = ("full", "retain", "mix", "shallow")
# An entity that is not in its answer.
MISSING = Entity("9999", "Who is Ada?", "Ada is a sailor.", "Ada is a", "pilot")


@cache
def model(folder: Path, name: str) -> LoadedModel:
    """One of ``MODELS`` with the shared tokenizer, float32, eager attention as in the reference run."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    loaded = AutoModelForCausalLM.from_pretrained(folder / "uds" / name, dtype="float32", attn_implementation="eager")
    return wrap_model(loaded, tokenizer, config=ModelConfig(prompt="plain"))


@cache
def entities(folder: Path) -> tuple[Entity, ...]:
    return tuple(
        Entity(str(row["idx"]), row["question"], row["answer"], row["prefix"], row["entity"])
        for row in read(folder, "uds/rows.json")
    )


@cache
def rows(folder: Path, tokenisation: Tokenisation = "apart") -> tuple[EntityRow, ...]:
    return tuple(entity_rows(model(folder, "full").prompts, entities(folder), tokenisation=tokenisation).rows)


@cache
def states(folder: Path, name: str, last_block: LastBlock = "raw") -> States:
    return read_states(model(folder, name), rows(folder), last_block=last_block)


@cache
def read(folder: Path, file: str) -> Any:
    return json.loads((folder / file).read_text("utf-8"))
