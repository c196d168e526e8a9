"""The table of stages: it has every stage, names commands that exist, and names artefacts as people read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import unierase_cli.stages
from unierase_cli.cli.app import COMMANDS
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig
from unierase_cli.pipeline.stage import load_stage, slug
from unierase_cli.pipeline.stage_table import STAGES, stage_of


def test_every_stage_is_in_the_table_under_its_own_name() -> None:
    (room,) = unierase_cli.stages.__path__
    assert set(STAGES) == {path.stem for path in Path(room).glob("*.py")} - {"__init__"}
    assert [load_stage(name).NAME for name in STAGES] == list(STAGES)


def test_every_command_of_the_table_exists_and_ends_in_one_stage() -> None:
    ends = [command for entry in STAGES.values() for command in entry.commands]
    assert len(ends) == len(set(ends))
    assert {*ends, *(entry.command for entry in STAGES.values())} <= set(COMMANDS)
    assert {command for command, (module, _) in COMMANDS.items() if module == "commands.stage"} <= set(ends)
    assert (stage_of("run"), stage_of("edit"), stage_of("eval")) == ("report", "erase", "score")


@pytest.mark.parametrize(
    ("stage", "options", "name"),
    [
        ("prepare", {}, "fictional_hf_seed0"),
        ("finetune", {}, "hf_fictional-full_seed0"),
        ("train_token", {}, "fictional-forget05_hf_token-default_seed0"),
        ("moments", {}, "fictional-forget05_hf_moments_seed0"),
        ("attribute", {}, "fictional-forget05_hf_attribute_seed0"),
        ("trace", {}, "fictional-forget05_hf_trace_seed0"),
        ("reveal", {}, "hf_none_seed0"),
        ("erase", {}, "fictional-forget05_hf_unierase_batch_seed0"),
        ("observe", {"state": "base"}, "fictional-forget05_hf_base_seed0"),
        ("probe", {"state": "edited"}, "fictional-forget05_hf_unierase_batch_seed0"),
        ("observe", {"state": "edited", "step": "2"}, "fictional-forget05_hf_unierase_batch_step002_seed0"),
        ("attack", {"attack": "prefix", "of": "edited"}, "fictional-forget05_hf_unierase_batch_prefix_seed0"),
        ("attack", {"attack": "prefix", "of": "control"}, "fictional-forget05_hf_control_prefix_seed0"),
        ("report", {}, "fictional-forget05_hf_unierase_batch_seed0"),
    ],
)
def test_artefacts_are_named_by_what_their_stage_depends_on(stage: str, options: dict[str, str], name: str) -> None:
    assert slug(Experiment(), stage, options) == name


def test_the_processes_of_a_launcher_share_an_erasure_only_where_gradients_train() -> None:
    editing = Experiment()
    training = replace(editing, method=MethodConfig(name="ga_gd", editing=False, token=False))
    assert [STAGES["erase"].joint(experiment) for experiment in (editing, training)] == [False, True]
    assert [name for name, entry in STAGES.items() if entry.joint(editing)] == ["finetune", "observe", "observe_facts", "general"]
