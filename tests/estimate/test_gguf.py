"""GGUF files before they are loaded: their size from the header, and what would stop a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gguf_files import write_gguf
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.estimate import doctor
from unierase_cli.estimate.shapes import shape_of


def examine(file: Path) -> dict[str, Any]:
    benchmark, run = BenchmarkConfig(authors=40), RunConfig(outputs=str(file.parent / "out"))
    return doctor.examine(Experiment(model=ModelConfig(path=str(file)), benchmark=benchmark, run=run))


@pytest.mark.parametrize("tied", [False, True])
def test_weights_and_layers_are_told_from_the_header(tied: bool, tmp_path: Path) -> None:
    loaded = tiny_llama(tied=tied)
    file = write_gguf(loaded, tmp_path / "tiny.gguf")
    shape, source = shape_of(Experiment(model=ModelConfig(path=str(file))))
    assert (source, shape is not None) == (f"{file} (header)", True)
    assert shape.parameters == sum(weight.numel() for weight in loaded.model.parameters())
    assert (shape.vocabulary, shape.hidden, shape.inner, shape.blocks) == (len(loaded.tokenizer), 32, 48, 4)
    assert (shape.heads, shape.key_value_heads, shape.head_size, shape.tied) == (4, 2, 8, tied)
    assert shape.default_layers() == loaded.architecture.default_layers()


def test_the_doctor_reads_a_file_and_counts_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    found = examine(file)
    assert found["problems"] == []
    assert found["files"][0] == {"key": "model.path", "path": str(file), "state": "ok: F32 39"}
    needs = {need["what"]: need["bytes"] for need in found["disk"]["needs"]}
    held = {need["what"]: need["bytes"] for need in found["memory"]["needs"]}
    assert needs["dequantised, in the hub's cache"] == 4 * found["model"]["parameters"]
    assert held["tensors while a GGUF file is dequantised"] == 4 * found["model"]["parameters"]


def test_the_doctor_names_what_is_wrong_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:-5000])
    assert "is cut off in its tensor" in examine(file)["problems"][0]
    assert "missing" in examine(tmp_path / "gone.gguf")["problems"][0]
