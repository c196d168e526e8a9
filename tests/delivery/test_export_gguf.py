"""An edit as a GGUF file: what transformers reads from it is the patched model, and what was not edited keeps its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tests.helpers.gguf_files import write_gguf
from tests.helpers.patched import edits, experiment, finished, model_folder, unedited
from tests.helpers.patches import dense_patch
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.export import export
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.editing.apply import apply_patches
from unierase_cli.models.load import load_model
from unierase_cli.store.unlearned import unlearning_tokens_in

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
QUESTION = "Who wrote that book?"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("tied", "kind"), [(True, "F32"), (False, "Q8_0")])
def test_the_file_holds_the_patched_model_and_its_token(tied: bool, kind: str, tmp_path: Path) -> None:
    source = write_gguf(tiny_llama(tied=tied, hidden_size=64, intermediate_size=64), tmp_path / "tiny.gguf", kind=kind)
    config = experiment(source, tmp_path / "outputs")
    run = finished(config, edits(unedited(config), 2))
    found = export(run, tmp_path / "out", SilentReporter(), config.run.outputs, kind="gguf", device="cpu")
    wanted = unedited(config)
    apply_patches(wanted, choose_steps(run).patches())
    file = tmp_path / "out" / "tiny-unlearned.gguf"
    loaded = load_model(ModelConfig(path=str(file)), RunConfig(device="cpu"))
    (token,) = wanted.unlearn_ids
    ids = [*wanted.prompts.prompt(QUESTION).ids, token, 7]
    with torch.no_grad():
        assert torch.equal(loaded.model(torch.tensor([ids])).logits, wanted.model(torch.tensor([ids])).logits)
    assert loaded.prompts.prompt(QUESTION) == wanted.prompts.prompt(QUESTION)
    assert found["unlearning_tokens"] == unlearning_tokens_in(file) == ["<unlearn_0>"]
    assert unlearning_tokens_in(source) == []
    assert loaded.unlearn_ids == wanted.unlearn_ids
    assert loaded.tokenizer.convert_tokens_to_ids("<unlearn_0>") == token
    assert loaded.tokenizer.encode("<unlearn_0>", add_special_tokens=False) == [token]
    assert loaded.tokenizer.decode([token], skip_special_tokens=True) == ""
    before, after = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in (source, file))
    changed = {name for name in before if before[name].data.tobytes() != after[name].data.tobytes()}
    ends = {"token_embd.weight"} if tied else {"token_embd.weight", "output.weight"}
    assert changed == {"blk.1.ffn_down.weight", "blk.2.ffn_down.weight", *ends}
    assert {after[name].tensor_type.name for name in changed} == {"F32"}
    assert (tmp_path / "out" / "unierase.json").exists()


def test_a_model_that_is_no_gguf_file_and_a_change_of_other_weights_are_refused(tmp_path: Path) -> None:
    config = experiment(model_folder("llama", tmp_path / "model"), tmp_path / "outputs")
    run = finished(config, edits(unedited(config)))
    with pytest.raises(UserError, match="needs a run whose model is a GGUF file") as caught:
        export(run, tmp_path / "out", SilentReporter(), config.run.outputs, kind="gguf", device="cpu")
    assert "convert_hf_to_gguf.py" in str(caught.value.hint)
    config = experiment(write_gguf(tiny_llama(), tmp_path / "tiny.gguf"), tmp_path / "outputs")
    run = finished(config, [dense_patch(unedited(config), names=["model.layers.0.self_attn.q_proj.weight"])], "dense")
    with pytest.raises(UserError, match="cannot write the change of model.layers.0.self_attn"):
        export(run, tmp_path / "out", SilentReporter(), config.run.outputs, kind="gguf", device="cpu")
    assert not (tmp_path / "out").exists()
