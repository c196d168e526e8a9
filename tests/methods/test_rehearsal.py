"""Rehearsal: in a sequence, a gradient method forgets facts of earlier requests again beside those of its own request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.gradient_steps import STEP, UNLEARN, context, loss_on, shipped
from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import Step, UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import release, repselect, scrub
from unierase_cli.methods.base import load_method
from unierase_cli.methods.gradient_checks import check
from unierase_cli.models.load import LoadedModel
from unierase_cli.store.jsonl import read_jsonl

SEQUENCE = ModeConfig("sequential", steps=2)
REHEARSED = replace(UNLEARN, rehearsal=1.0)
FIRST, SECOND = tuple(FACTS[:2]), tuple(FACTS[2:4])
STEPS = [Step(0, FIRST, STEP.retain), Step(1, SECOND, STEP.retain, forgotten_before=FIRST)]


def in_sequence(unlearn: UnlearnConfig, name: str = "ga_gd", folder: Path | None = None) -> tuple[LoadedModel, list[Patch]]:
    loaded = tiny_llama()
    working = context(loaded, shipped(name), replace(unlearn, batch_size=2), directory=folder)
    working = replace(working, experiment=replace(working.experiment, mode=SEQUENCE))
    state, patches = EditState(), []
    for step in STEPS:
        patch, state = load_method("gradient").erase(loaded, step, state, working)
        patches.append(patch)
    return loaded, patches


def test_a_later_request_forgets_the_earlier_ones_again(tmp_path: Path) -> None:
    again, (first, second) = in_sequence(REHEARSED, folder=tmp_path)
    plain, (_, alone) = in_sequence(UNLEARN)
    assert loss_on(again, FIRST) > loss_on(plain, FIRST) + 0.1
    assert "rehearsed" not in first.info
    assert "rehearsed" not in alone.info
    assert second.info["rehearsed"] == len(FIRST)
    assert second.info["facts"] == [fact.id for fact in SECOND]
    # The first request has nothing to rehearse; each batch of the second has two facts of its own and two earlier ones.
    batches = [[[item[0] for item in row["items"]] for row in read_jsonl(tmp_path / f"plan-00{n}.jsonl")] for n in range(2)]
    assert all(sorted(batch) == [0, 1] for batch in batches[0])
    assert all(sorted(batch) == [0, 1, 2, 3] for batch in batches[1])


def test_a_method_with_references_of_refusals_rehearses_too() -> None:
    again, (_, second) = in_sequence(REHEARSED, "dpo_gd")
    plain, _ = in_sequence(UNLEARN, "dpo_gd")
    assert second.info["rehearsed"] == len(FIRST)
    assert loss_on(again, FIRST) != loss_on(plain, FIRST)


def test_rehearsal_without_a_forget_loss_or_in_methods_that_do_not_read_it_is_refused() -> None:
    with pytest.raises(UserError, match="method=repair has no forget term, which unlearn.rehearsal=1 needs"):
        check(Experiment(method=shipped("repair"), unlearn=REHEARSED), [STEP], [])
    for name, method in {"scrub": scrub, "repselect": repselect}.items():
        with pytest.raises(UserError, match=f"method={name} does not read unlearn.rehearsal=1"):
            method.check(Experiment(method=shipped(name), unlearn=REHEARSED), [STEP], [])
    adapted = Experiment(method=shipped("release"), unlearn=REHEARSED, adapter=AdapterConfig("lora"))
    with pytest.raises(UserError, match="method=release does not read unlearn.rehearsal=1"):
        release.check(adapted, [STEP], [])


def test_what_earlier_requests_lack_is_refused_in_a_sequence_alone() -> None:
    altpo = Experiment(method=shipped("altpo"), unlearn=REHEARSED, mode=SEQUENCE)
    check(altpo, STEPS[:1], [], alternates=2)
    with pytest.raises(UserError, match="needs alternative answers of earlier requests"):
        check(altpo, STEPS, [], alternates=2)
    sharded = Experiment(method=shipped("ga_gd"), unlearn=replace(REHEARSED, sharding="fsdp"), mode=SEQUENCE)
    with pytest.raises(UserError, match="rehearsal makes batches of another size"):
        check(sharded, STEPS, [])


def test_a_repair_that_compares_with_the_original_model_cannot_be_sharded() -> None:
    sharded = replace(UNLEARN, sharding="fsdp", lr=1e-3)
    repair_kl = replace(shipped("repair"), retain=TermConfig("kl"))
    with pytest.raises(UserError, match="compares with the original model needs the whole model"):
        check(Experiment(method=repair_kl, unlearn=sharded), [STEP], [], original=True)


def test_a_negative_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"unlearn\.rehearsal=-1 must"):
        replace(UNLEARN, rehearsal=-1)
