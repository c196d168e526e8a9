"""Loading models: dtype and device with reasons, fingerprints, and one clear line for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny_models import save_folder, tiny, tiny_gpt2, tiny_llama
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.models import files, fingerprint
from unierase_cli.models.fingerprint import fingerprint_model
from unierase_cli.models.load import load_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_folder(tiny_llama(), tmp_path / "model")


def load(path: object, **changes: object) -> object:
    return load_model(ModelConfig(path=str(path), **changes), RunConfig(device="cpu"))  # type: ignore[arg-type]


def test_a_folder_loads_frozen_and_says_its_type_and_device(folder: Path) -> None:
    reporter = SilentReporter()
    loaded = load_model(ModelConfig(path=str(folder)), RunConfig(device="cpu"), reporter=reporter)
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert (loaded.model.dtype, loaded.device.type) == (torch.float32, "cpu")
    assert any("float32 on cpu (float32 is the exact and safe choice on a CPU)" in note for note in reporter.notes)
    assert loaded.fingerprint == fingerprint_model(folder)
    assert reporter.warnings == []


def test_a_type_can_be_asked_for(folder: Path) -> None:
    loaded = load_model(ModelConfig(path="elsewhere", dtype="bfloat16"), RunConfig(device="cpu"), path=folder)
    assert loaded.model.dtype == torch.bfloat16


def test_a_fingerprint_follows_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    twin = save_folder(tiny_llama(), tmp_path / "twin")
    other = save_folder(tiny_llama(seed=1), tmp_path / "other")
    assert fingerprint_model(twin) == fingerprint_model(folder) != fingerprint_model(other)
    (twin / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert fingerprint_model(twin) != fingerprint_model(folder)


def test_a_fingerprint_has_the_files_that_the_tokenizer_is_read_from(folder: Path, tmp_path: Path) -> None:
    twin = save_folder(tiny_llama(), tmp_path / "twin")
    for name in ("vocab.json", "merges.txt", "tokenizer.model", "spiece.model"):
        (twin / name).write_text("left over")
    settings = twin / "tokenizer_config.json"
    before = settings.read_text()
    settings.write_text(json.dumps(json.loads(before) | {"added_tokens_decoder": {}}))
    listed = fingerprint_model(twin)
    (twin / "special_tokens_map.json").write_text('{"pad_token": "a"}')
    assert fingerprint_model(twin) == listed, "the settings have the tokens"
    settings.write_text(before)
    assert fingerprint_model(twin) != fingerprint_model(folder), "they do not"
    (twin / "special_tokens_map.json").unlink()
    assert fingerprint_model(twin) == fingerprint_model(folder), "tokenizer.json has the vocabulary"
    (twin / "tokenizer.json").unlink()
    seen = {fingerprint_model(twin)}
    for name in ("vocab.json", "merges.txt", "tokenizer.model", "spiece.model"):
        (twin / name).write_text("another")
        seen.add(fingerprint_model(twin))
    assert len(seen) == 5


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model folder .*nowhere does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no config.json"):
        load(tmp_path)
    with pytest.raises(UserError, match="no model is given"):
        load_model(ModelConfig(), RunConfig())


def test_a_hub_id_without_network_is_one_line_and_warns_about_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "hub_reachable", lambda: False)
    reporter = SilentReporter()
    with pytest.raises(UserError, match="the hub cannot be reached") as caught:
        load_model(ModelConfig(path="nobody/nothing"), RunConfig(device="cpu"), reporter=reporter)
    assert "\n" not in str(caught.value)
    assert "model.revision is not set" in reporter.warnings[0]


def test_a_broken_config_is_one_line(folder: Path) -> None:
    (folder / "config.json").write_text("{ broken")
    with pytest.raises(UserError, match="config.json cannot be read") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    (folder / "config.json").write_text('{"model_type": "not-a-model"}')
    with pytest.raises(UserError, match="configuration cannot be read"):
        load(folder)


def test_missing_parts_are_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "kept")
    with pytest.raises(UserError, match="the weights cannot be read"):
        load(folder)
    (folder / "model.safetensors").write_bytes((folder / "kept").read_bytes()[:1000])
    with pytest.raises(UserError, match="the weights cannot be read"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer.json"):
        load(folder)


def test_weights_that_the_checkpoint_lacks_are_not_made_up(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    with pytest.raises(UserError, match="the checkpoint lacks 9 weights"):
        load(folder)


def test_wishes_that_the_model_cannot_meet_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layer 7 is out of range"):
        load(folder, layers=[2, 7])
    with pytest.raises(UserError, match="no chat template"):
        load(save_folder(tiny_gpt2(), tmp_path / "gpt2"), prompt="chat")
    with pytest.raises(UserError, match="no such device"):
        load_model(ModelConfig(path=str(folder)), RunConfig(device="cuda:99"))
    with pytest.raises(UserError, match="is not a device"):
        load_model(ModelConfig(path=str(folder)), RunConfig(device="toaster"))


def test_a_mixture_of_experts_is_refused_before_its_weights_are_read(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 8}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"MixtralForCausalLM \(mixtral\) is a mixture of 8 experts"):
        load(folder)


def test_code_from_a_repository_is_never_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="needs code from its own repository"):
        load(folder)


def test_attention_that_sdpa_cannot_compute_is_computed_plainly_and_that_is_said(tmp_path: Path) -> None:
    reporter = SilentReporter()
    for family, attention in (("gemma2", "eager"), ("gemma", "sdpa")):
        config = ModelConfig(path=str(save_folder(tiny(family), tmp_path / family)))
        loaded = load_model(config, RunConfig(device="cpu"), reporter=reporter)
        assert loaded.model.config._attn_implementation == attention
    assert "attention eager (sdpa cannot compute this model's)" in reporter.notes[0]
    assert reporter.notes[1].endswith("attention sdpa")


def test_a_large_models_fingerprint_sees_every_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_llama()
    folder = save_folder(loaded, tmp_path / "model")
    whole = fingerprint_model(folder)
    monkeypatch.setattr(fingerprint, "FULL_LIMIT", 1)
    seen = {whole, fingerprint_model(folder)}
    for number, name in enumerate(dict(loaded.model.named_parameters())):
        other = tiny_llama()
        with torch.no_grad():
            dict(other.model.named_parameters())[name] += 1e-3
        seen.add(fingerprint_model(save_folder(other, tmp_path / f"other{number}")))
    assert len(seen) == 2 + len(dict(loaded.model.named_parameters()))
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        fingerprint_model(folder)
