"""ZeroUnlearn through the pipeline: alone, as the first part of a chain, and with too many facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.sequences import experiment, make
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, PartConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.zero_unlearn import check_size
from unierase_cli.models.load import load_model
from unierase_cli.pipeline.model_states import apply_erasure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


def test_the_facts_alone_are_edited_at_low_rank_and_everything_at_full(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, ModeConfig(), method=MethodConfig("zero_unlearn", token=False))
    low = Patch.load(make(config, "erase").path, 0)
    whole = replace(config, method=replace(config.method, settings={"project": "all"}))
    full = Patch.load(make(whole, "erase").path, 0)
    assert {factor.left.shape[1] for factor in low.factors.values()} == {6}, "six facts"
    assert {factor.left.shape[1] for factor in full.factors.values()} == {32}
    loaded = load_model(config.model, config.run)
    before = loaded.model.get_submodule("model.layers.1.mlp.down_proj").weight.detach().clone()
    apply_erasure(loaded, make(config, "erase").path)
    assert not torch.equal(before, loaded.model.get_submodule("model.layers.1.mlp.down_proj").weight)


def test_it_can_come_before_an_edit_with_a_token(folder: Path, tmp_path: Path) -> None:
    parts = {"zero_unlearn": PartConfig("zero_unlearn", token=False), "unierase": PartConfig("unierase")}
    config = experiment(folder, tmp_path, ModeConfig(), method=MethodConfig("two", "chain", chain=parts))
    first, second = Patch.load(make(config, "erase").path, 0).parts
    assert first.factors.keys() == second.factors.keys()
    assert second.tokens
    assert first.base_hashes == second.base_hashes


def test_as_many_facts_as_hidden_dimensions_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(folder, tmp_path, ModeConfig(), method=MethodConfig("zero_unlearn", token=False))
    monkeypatch.setattr("unierase_cli.methods.zero_unlearn.check_size", lambda h, n: check_size(n, n))
    with pytest.raises(UserError, match="would be left"):
        make(config, "erase")
