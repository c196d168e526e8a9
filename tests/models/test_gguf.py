"""GGUF files: the same model as the folder that they were made from, told apart by content, and one line for each mistake."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tests.helpers.gguf_files import write_gguf
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.models import unpack
from unierase_cli.models.fingerprint import local_fingerprint
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.models.unpack import unpacked, unpacked_folder
from unierase_cli.pipeline.model_states import model_fingerprints, stop_texts
from unierase_cli.store import gguf_files
from unierase_cli.store.gguf_files import check_gguf, gguf_at, read_gguf

QUESTION = "In which city was Ada Velour born?"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))


def load(path: Path, reporter: SilentReporter | None = None) -> LoadedModel:
    return load_model(ModelConfig(path=str(path)), RunConfig(device="cpu"), reporter=reporter)


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(torch.tensor([loaded.prompts.prompt(QUESTION).ids])).logits


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_of_float32_tensors_gives_the_logits_of_the_model_that_it_was_made_from(tied: bool, tmp_path: Path) -> None:
    source = tiny_llama(tied=tied)
    loaded = load(write_gguf(source, tmp_path / "tiny.gguf"))
    assert torch.equal(logits(loaded), logits(source))
    assert loaded.architecture.tied == tied


def test_prompt_template_and_special_tokens_come_out_of_the_file(tmp_path: Path) -> None:
    source = tiny_llama()
    loaded = load(write_gguf(source, tmp_path / "tiny.gguf"))
    assert loaded.tokenizer.chat_template == source.tokenizer.chat_template
    assert loaded.tokenizer.special_tokens_map == source.tokenizer.special_tokens_map
    assert loaded.prompts.prompt(QUESTION) == source.prompts.prompt(QUESTION)
    assert (loaded.prompts.end_id, loaded.prompts.bos_ids) == (source.prompts.end_id, source.prompts.bos_ids)


def test_the_token_that_ends_a_turn_ends_answers(tmp_path: Path) -> None:
    source = tiny_llama()
    turn = source.tokenizer.convert_tokens_to_ids("<|user|>")
    assert turn not in source.prompts.stop_ids
    loaded = load(write_gguf(source, tmp_path / "tiny.gguf", further={"tokenizer.ggml.eot_token_id": turn}))
    assert {turn, source.tokenizer.eos_token_id} <= set(loaded.prompts.stop_ids)


def test_quantised_weights_are_dequantised_and_can_be_saved(tmp_path: Path) -> None:
    source = tiny_llama(hidden_size=64, intermediate_size=64)
    reporter = SilentReporter()
    file = write_gguf(source, tmp_path / "tiny.gguf", kind="Q8_0")
    loaded = load(file, reporter)
    assert 0 < (logits(loaded) - logits(source)).abs().max() < 0.5
    assert "Q8_0 30, F32 9" in reporter.notes[0]
    assert not hasattr(loaded.model.config, "quantization_config")
    again = AutoModelForCausalLM.from_pretrained(save_folder(loaded, tmp_path / "saved"))
    for name, weight in again.named_parameters():
        assert torch.equal(weight, loaded.model.get_parameter(name))


def test_a_file_is_dequantised_once_and_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    first, reporter = load(file), SilentReporter()
    twin = tmp_path / "twin.gguf"
    twin.write_bytes(file.read_bytes())
    monkeypatch.setattr("unierase_cli.models.unpack._convert", lambda *_: pytest.fail("made again"))
    second = load(twin, reporter)
    assert torch.equal(logits(first), logits(second))
    assert not any("once per file" in note for note in reporter.notes)
    assert (first.source, second.source) == (str(file), str(twin))


def test_a_second_process_waits_for_the_first_and_takes_what_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    folder, converted, first, second = unpacked_folder(tmp_path / "tiny.gguf"), [], SilentReporter(), SilentReporter()
    own, inside, told = unpack._convert, threading.Event(), threading.Event()

    def slow(*given: Any) -> None:
        converted.append(given)
        inside.set()
        assert told.wait(60), "nobody waits"
        own(*given)

    monkeypatch.setattr(unpack, "_convert", slow)
    monkeypatch.setattr(second, "note", lambda text: (second.notes.append(text), told.set()))
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(unpacked, tmp_path / "tiny.gguf", first)
        assert inside.wait(60)
        taken = pool.submit(unpacked, tmp_path / "tiny.gguf", second)
        assert made.result() == taken.result() == folder
    assert len(converted) == 1
    assert second.notes == [f"another process is making {folder}; waiting for it"]


def test_keys_follow_the_files_content_and_name_its_quantisation(tmp_path: Path) -> None:
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    other = write_gguf(tiny_llama(seed=1), tmp_path / "other.gguf")
    found, told = (model_fingerprints(Experiment(model=ModelConfig(path=str(path)))) for path in (file, other))
    assert found["quantisation"] == told["quantisation"] == "F32 39"
    assert found["model"] != told["model"]
    assert found["model"] == load(file).fingerprint
    assert local_fingerprint(file) == found["model"]
    file.rename(tmp_path / "renamed.gguf")
    assert model_fingerprints(Experiment(model=ModelConfig(path=str(tmp_path / "renamed.gguf")))) == found


def test_a_file_without_a_template_is_asked_plainly(tmp_path: Path) -> None:
    source = tiny_llama()
    asked = Experiment(model=ModelConfig(path=str(write_gguf(source, tmp_path / "chat.gguf"))))
    assert stop_texts(asked) == []
    source.tokenizer.chat_template = None
    asked = Experiment(model=ModelConfig(path=str(write_gguf(source, tmp_path / "plain.gguf"))))
    assert stop_texts(asked)
    assert load(tmp_path / "plain.gguf").prompts.style == "plain"


def test_llama_3s_positions_are_warned_about(tmp_path: Path) -> None:
    header = read_gguf(write_gguf(tiny_llama(), tmp_path / "tiny.gguf"))
    assert "rope_freqs.weight" not in header.shapes
    reporter = SilentReporter()
    header.shapes["rope_freqs.weight"] = (4,)
    header.kinds["rope_freqs.weight"] = header.offsets["rope_freqs.weight"] = 0
    unpacked(tmp_path / "tiny.gguf", reporter)
    assert "rope_freqs.weight is ignored" in reporter.warnings[0]


def test_a_file_that_cannot_be_loaded_is_refused_in_one_line(tmp_path: Path) -> None:
    source = tiny_llama()
    whole = write_gguf(source, tmp_path / "whole.gguf").read_bytes()

    def refused(content: bytes | Path, what: str, name: str = "bad.gguf") -> None:
        file = content if isinstance(content, Path) else tmp_path / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        with pytest.raises(UserError, match=what) as caught:
            load(file)
        assert "\n" not in str(caught.value)
        assert caught.value.hint

    refused(whole[:-5000], "is cut off in its tensor")
    for length in (3, 10, 100, 5000):
        refused(whole[:length], "is cut off in its header|is not a GGUF file")
    refused(b"GGML" + whole[4:], "is not a GGUF file")
    refused(b"", "is not a GGUF file")
    refused(whole[:4] + b"\x00\x00\x00\x03" + whole[8:], "has version 50331648 of GGUF")
    refused(whole, "is one of 3 parts", "tiny-00001-of-00003.gguf")
    refused(write_gguf(source, tmp_path / "split.gguf", further={"split.count": 2}), "is one of 2 parts")
    refused(write_gguf(source, tmp_path / "bert.gguf", architecture="bert"), "has the architecture bert, which cannot be edited")
    experts = write_gguf(source, tmp_path / "experts.gguf", further={"llama.expert_count": 8})
    refused(experts, "is a mixture of experts")
    refused(write_gguf(source, tmp_path / "less.gguf", without="blk.2.ffn_down.weight"), "lacks 1 weights, e.g. .*2.mlp.down_proj")
    refused(write_gguf(source, tmp_path / "headless.gguf", without="token_embd.weight"), "has no token_embd.weight")
    assert {path.suffix for path in (tmp_path / "cache" / "unierase-gguf").glob("*")} <= {".lock"}


def test_a_quantisation_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    read_gguf(file).kinds["blk.0.ffn_down.weight"] = 15
    with pytest.raises(UserError, match=r"stores blk.0.ffn_down.weight as Q8_K, which cannot be dequantised"):
        check_gguf(file)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    gguf_files._block_sizes.cache_clear()
    try:
        with pytest.raises(UserError, match="not installed") as caught:
            load(file)
        assert caught.value.hint == 'pip install "unierase[gguf]"'
    finally:
        gguf_files._block_sizes.cache_clear()


def test_a_file_where_a_folder_is_meant_and_a_folder_where_a_file_is_meant_are_told(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"weights")
    with pytest.raises(UserError, match="is a file, not a model folder"):
        load(tmp_path / "weights.bin")
    with pytest.raises(UserError, match=r"GGUF file .*gone.gguf does not exist"):
        load_model(ModelConfig(path="models/gone.gguf"), RunConfig(device="cpu"))
    write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    with pytest.raises(UserError, match="has no config.json") as caught:
        load(tmp_path)
    assert caught.value.hint == f"give model.path={tmp_path / 'tiny.gguf'}"


def test_a_file_is_known_by_its_first_bytes_whatever_its_name(tmp_path: Path) -> None:
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    assert gguf_at(file.rename(tmp_path / "blob")) == tmp_path / "blob"
    assert gguf_at(tmp_path) is None
    assert torch.equal(logits(load(tmp_path / "blob")), logits(tiny_llama()))


def test_a_bad_file_ends_a_run_before_anything_is_made(tmp_path: Path) -> None:
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:-5000])
    words = ["run", "experiment=demo", "train=none", "model=hf", f"model.path={file}", "--outputs", str(tmp_path / "outputs")]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 2
    assert "is cut off in its tensor" in outcome.stderr
    assert not (tmp_path / "outputs").exists()
    assert not unpacked_folder(file).exists()
