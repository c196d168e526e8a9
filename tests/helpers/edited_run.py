"""An edit of a tiny model through the pipeline."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.quick_token import quick_token
from tests.helpers.tiny_models import save_folder
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.models.load import LoadedModel
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefact import Artefact


def edited(source: LoadedModel, tmp_path: Path) -> tuple[Experiment, Artefact]:
    config = Experiment(
        model=ModelConfig(path=str(save_folder(source, tmp_path / "model")), key_position="prompt_last"),
        benchmark=BenchmarkConfig(name="fictional", split="forget10", authors=20, questions=5),
        token=quick_token(tmp_path),
        edit=EditConfig(values=ValueConfig(steps=2), moments=MomentsConfig(samples=20, max_tokens=12)),
        run=RunConfig(outputs=str(tmp_path / "outputs"), device="cpu"),
    )
    return config, Pipeline(config, SilentReporter()).make("erase")
