"""An edit as a LoRA adapter: what plain peft loads says what the patched model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from torch import Tensor
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer

from tests.helpers.patched import edits, experiment, finished, gradient_method, model_folder, unedited
from tests.helpers.patches import dense_patch, named_patch
from tests.helpers.tiny_models import FAMILIES, save_folder, tiny
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.export import export
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.low_rank import inner, norm, shortened
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.reserved import reserved_tokens
from unierase_cli.store.artefact import Artefact

QUESTION = "Who wrote that book?"


def made(tmp_path: Path, family: str = "llama", dtype: str = "float32", steps: int = 1) -> tuple[Experiment, Artefact]:
    config = experiment(model_folder(family, tmp_path / "model"), tmp_path / "outputs", dtype)
    return config, finished(config, edits(unedited(config), steps))


def exported(config: Experiment, run: Artefact, folder: Path, rank: int | None = None) -> dict[str, Any]:
    return export(run, folder, SilentReporter(), config.run.outputs, kind="lora", rank=rank, device="cpu")


def patched(config: Experiment, run: Artefact) -> LoadedModel:
    loaded = unedited(config)
    apply_patches(loaded, choose_steps(run).patches())
    return loaded


def by_itself(folder: Path, base: Path) -> Any:
    """What peft loads where the adapter names its base, as one of a hub model does."""
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(base)}))
    return AutoPeftModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any, ids: list[int]) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float()


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_what_the_patched_model_is(family: str, tmp_path: Path) -> None:
    config, run = made(tmp_path, family, steps=2)
    found = exported(config, run, tmp_path / "adapter")
    loaded = patched(config, run)
    token = loaded.unlearn_ids[0]
    ids = [*loaded.prompts.prompt(QUESTION).ids, token, 7]
    wanted = logits(loaded.model, ids)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    if found["resize_to"] is not None:
        assert found["resize_to"] == len(tokenizer)
        base.resize_token_embeddings(len(tokenizer))
    for model in (
        by_itself(tmp_path / "adapter", tmp_path / "model"),
        PeftModel.from_pretrained(base, tmp_path / "adapter"),
    ):
        assert (logits(model.eval(), ids) - wanted).abs().max() < 1e-5
    assert found["largest_logit_error"] < 1e-5
    assert (found["rank"], found["kept"], found["same_next_token"]) == (6, 1.0, 1.0)
    assert tokenizer.convert_tokens_to_ids("<unlearn_0>") == token
    assert found["unlearning_tokens"] == {"<unlearn_0>": token}
    # Padded vocabularies have rows to spare.
    assert (found["resize_to"] is None) == family.startswith("qwen")


def test_without_the_adapter_the_base_is_what_it_was(tmp_path: Path) -> None:
    config, run = made(tmp_path)
    exported(config, run, tmp_path / "adapter")
    model = by_itself(tmp_path / "adapter", tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    with model.disable_adapter():
        assert torch.equal(logits(model, [1, 7, 9])[:, : base.config.vocab_size], logits(base, [1, 7, 9]))


@pytest.mark.parametrize("tied", [False, True])
def test_a_token_in_reserve_takes_the_place_of_the_unlearning_token(tied: bool, tmp_path: Path) -> None:
    source = tiny("llama_tied" if tied else "llama")
    names = [f"<|reserved_special_token_{number}|>" for number in range(2)]
    source.tokenizer.add_tokens([AddedToken(name, special=True) for name in names], special_tokens=True)
    source.model.resize_token_embeddings(len(source.tokenizer), mean_resizing=False)
    config = experiment(save_folder(source, tmp_path / "model"), tmp_path / "outputs")
    run = finished(config, edits(unedited(config)))
    found = exported(config, run, tmp_path / "adapter")
    reserved = source.tokenizer.convert_tokens_to_ids(names[0])
    assert found["unlearning_tokens"] == {names[0]: reserved}
    assert (found["reserved_tokens"], found["resize_to"]) == (True, None)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    model = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    loaded = patched(config, run)
    own = loaded.unlearn_ids[0]
    prompt = loaded.prompts.prompt(QUESTION).ids
    wanted, got = logits(loaded.model, [*prompt, own]), logits(model, [*prompt, reserved])
    others = [i for i in range(len(source.tokenizer)) if i != reserved]
    assert (wanted[:, others] - got[:, others]).abs().max() < 1e-5
    assert (wanted[:, own] - got[:, reserved]).abs().max() < 1e-5
    assert len(AutoTokenizer.from_pretrained(tmp_path / "adapter")) == len(source.tokenizer)


def test_tokens_in_reserve_are_those_that_nothing_uses() -> None:
    loaded = tiny("llama")
    assert reserved_tokens(loaded, 1) is None
    names = ["<unused0>", "<|placeholder1|>", "<|dummy_2|>", "[control_8]", "<|reserved_special_token_9|>"]
    loaded.tokenizer.add_tokens([AddedToken(name, special=True) for name in names], special_tokens=True)
    assert reserved_tokens(loaded, 1) is None, "they have no rows in the model"
    loaded.model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
    loaded.architecture.refresh_ends(loaded.model)
    ids = loaded.tokenizer.convert_tokens_to_ids(names)
    assert reserved_tokens(loaded, 5) == ids
    loaded.tokenizer.chat_template = f"{loaded.tokenizer.chat_template}<unused0>"
    loaded.unlearn_ids = [ids[1]]
    assert reserved_tokens(loaded, 3) == ids[2:]
    assert reserved_tokens(loaded, 4) is None


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_error_shrinks_as_the_rank_grows_and_is_said(family: str, tmp_path: Path) -> None:
    config, run = made(tmp_path, family, steps=4)
    found = {rank: exported(config, run, tmp_path / f"rank{rank}", rank) for rank in (1, 4, 8, 12, 99)}
    errors = [entry["largest_logit_error"] for entry in found.values()]
    kept = [entry["kept"] for entry in found.values()]
    assert errors[0] > 3 * errors[2] > 3 * errors[3]
    assert errors[3] < 1e-6 * max(50, found[12]["largest_logit"])
    assert kept == sorted(kept)
    assert [entry["rank"] for entry in found.values()] == [1, 4, 8, 12, 12]
    config_file = json.loads((tmp_path / "rank4" / "adapter_config.json").read_text())
    assert (config_file["r"], config_file["lora_alpha"]) == (4, 4)
    card = (tmp_path / "rank4" / "README.md").read_text()
    assert "rank 4 of 12" in card
    assert f"{found[4]['largest_logit_error']:.2e}" in card


def test_more_columns_than_the_matrix_has_are_shortened_without_loss(tmp_path: Path) -> None:
    config, run = made(tmp_path, steps=12)
    found = exported(config, run, tmp_path / "adapter")
    assert (found["rank"], found["rank_of_change"]) == (32, 32)
    assert found["kept"] == pytest.approx(1.0)
    assert found["largest_logit_error"] < 1e-4


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_adapters_of_gradient_methods_are_handed_on(family: str, tmp_path: Path) -> None:
    config = experiment(model_folder(family, tmp_path / "model"), tmp_path / "outputs", method=gradient_method())
    loaded = unedited(config)
    one, two = named_patch(loaded, 1), named_patch(loaded, 2)
    # Ranks that differ between layers.
    name = next(iter(two.named))
    two.named = {name: two.named[name]}
    run = finished(config, [one, two])
    found = exported(config, run, tmp_path / "adapter")
    assert (found["rank"], found["unlearning_tokens"]) == (4, {})
    model = by_itself(tmp_path / "adapter", tmp_path / "model")
    wanted = logits(patched(config, run).model, [1, 7, 9])
    assert (logits(model, [1, 7, 9]) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("hub", [True, False])
def test_the_card_and_the_adapter_name_a_hub_model_and_no_folder(
    hub: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = made(tmp_path)
    loaded = unedited(config)
    if hub:
        loaded.source, loaded.fingerprint = "owner/name", "owner/name@main"
    monkeypatch.setattr("unierase_cli.delivery.export.load_base", lambda *a: loaded)
    exported(config, run, tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text()
    named = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == ("owner/name" if hub else "")
    assert ('base_model: "owner/name"' in card) == ("AutoPeftModelForCausalLM.from_pretrained" in card) == hub
    assert ("FOLDER_OF_THE_BASE_MODEL" in card) == (loaded.fingerprint in card) == (not hub)


def test_in_bfloat16_the_difference_is_that_of_rounding_and_said(tmp_path: Path) -> None:
    config, run = made(tmp_path, dtype="bfloat16")
    reporter = SilentReporter()
    found = export(run, tmp_path / "adapter", reporter, config.run.outputs, kind="lora", device="cpu")
    assert 0 < found["largest_logit_error"] < 0.05 * found["largest_logit"]
    assert any("narrower data type" in text for text in reporter.warnings)


def test_replaced_tensors_are_no_adapter_and_the_dense_export_is_offered(tmp_path: Path) -> None:
    config = experiment(model_folder("llama", tmp_path / "model"), tmp_path / "outputs", method=gradient_method())
    run = finished(config, [dense_patch(unedited(config))])
    with pytest.raises(UserError, match=r"method=npo_gd\) replaced \d+ whole tensors, .* export RUN DIR --as model"):
        exported(config, run, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_what_peft_would_get_wrong_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(model_folder("llama", tmp_path / "model"), tmp_path / "outputs")
    loaded = unedited(config)
    only_rows = edits(loaded)[0]
    run = finished(config, [Patch(only_rows.tokens, {}, {}, {"step": 0})])
    with pytest.raises(UserError, match="only token rows"):
        exported(config, run, tmp_path / "adapter")
    loaded.architecture.head.bias = torch.nn.Parameter(torch.zeros(loaded.architecture.head.weight.shape[0]))
    monkeypatch.setattr("unierase_cli.delivery.export.load_base", lambda *a: loaded)
    with pytest.raises(UserError, match="head has a bias, which peft drops"):
        exported(config, finished(config, edits(loaded), "other"), tmp_path / "adapter")


@pytest.mark.parametrize(("kind", "rank"), [("onnx", None), ("model", 4), ("patch", 4), ("gguf", 4), ("lora", 0)])
def test_wrong_wishes_are_told_before_anything_is_loaded(kind: str, rank: int | None, tmp_path: Path) -> None:
    run = Artefact(tmp_path, {"stage": "erase", "key": "k"})
    with pytest.raises(UserError, match="--as|--rank"):
        export(run, tmp_path / "new", SilentReporter(), kind=kind, rank=rank)


def test_shortening_is_the_truncated_svd_and_measures_match_the_dense_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (LowRank(*(torch.randn(n, 7, generator=generator) for n in (30, 20))) for _ in range(2))
    assert inner(a, b) == pytest.approx(float((a.dense() * b.dense()).sum()), rel=1e-5)
    assert norm(a) == pytest.approx(float(a.dense().norm()))
    u, values, v = torch.linalg.svd(a.dense(), full_matrices=False)
    short, kept = shortened(a, 3)
    assert torch.allclose(short.dense(), u[:, :3] * values[:3] @ v[:3], atol=1e-4)
    assert kept == pytest.approx(float(values[:3].square().sum() / values.square().sum()))
