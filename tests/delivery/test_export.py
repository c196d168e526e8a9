"""Exporting: a merged Hugging Face folder that needs nothing of this project."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.edited_run import edited
from tests.helpers.tiny_models import save_folder, tiny_gpt2, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.export import export
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.pipeline.model_states import apply_erasure, load_base
from unierase_cli.store.artefact import Artefact


@pytest.mark.parametrize("family", [tiny_llama, tiny_gpt2])
def test_an_exported_model_gives_equal_logits_in_plain_transformers(family, tmp_path: Path) -> None:
    config, run = edited(family(), tmp_path)
    found = export(run, tmp_path / "merged", SilentReporter(), config.run.outputs)
    loaded = load_base(config, {}, SilentReporter())
    apply_erasure(loaded, run.path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    ids = torch.tensor([loaded.prompts.prompt("Who wrote that book?").ids + loaded.unlearn_ids])
    assert found["unlearning_tokens"] == ["<unlearn_0>"]
    assert tokenizer.convert_tokens_to_ids("<unlearn_0>") == loaded.unlearn_ids[0]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, loaded.model(ids).logits)


@pytest.mark.parametrize("family", [tiny_llama, tiny_gpt2])
def test_trained_tensors_and_adapters_are_merged_too(family, tmp_path: Path) -> None:
    source = family()
    config = Experiment(
        model=ModelConfig(path=str(save_folder(source, tmp_path / "model"))), run=RunConfig(outputs=str(tmp_path))
    )
    norm = next(name for name, p in source.model.named_parameters() if p.dim() == 1)
    matrix = f"{source.architecture.projection_name(1)}.weight"
    weights, generator = AppliedPatch(source), torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 2, generator=generator) for n in source.model.get_parameter(matrix).shape)
    dense = {norm: source.model.get_parameter(norm).detach() + 0.1}
    steps = [
        Patch(None, {}, weights.hashes_of(dense), dense=dense),
        Patch(None, {}, weights.hashes_of([matrix]), named={matrix: LowRank(left, right)}),
    ]
    run = Artefact(tmp_path / "run" / "v001", {"stage": "erase", "key": "k", "config": asdict(config), "inputs": {}})
    run.path.mkdir(parents=True)
    for index, patch in enumerate(steps):
        patch.save(run.path, index)
        weights.add_patch(patch)
    export(run, tmp_path / "merged", SilentReporter(), config.run.outputs)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert all(torch.equal(p, model.get_parameter(name)) for name, p in source.model.named_parameters())


def test_export_never_writes_into_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("x")
    run = Artefact(tmp_path, {"stage": "erase", "key": "k" * 64})
    with pytest.raises(UserError, match="not empty"):
        export(run, tmp_path / "taken", SilentReporter())


def test_a_run_without_an_edit_cannot_be_exported(tmp_path: Path) -> None:
    run = Artefact(tmp_path, {"stage": "finetune", "key": "k" * 64, "inputs": {}})
    with pytest.raises(UserError, match="not made from an edit"):
        export(run, tmp_path / "new", SilentReporter(), str(tmp_path))
