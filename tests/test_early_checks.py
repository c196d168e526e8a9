"""What a plan refuses, so that nobody waits for a model before hearing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import save_folder, tiny_llama
from unierase_cli.config.compose import compose
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.stages.pipeline import Pipeline

LAYER = "method.{}.settings.layer=2"


def plan(*words: str) -> None:
    Pipeline(compose(["experiment=demo", *words]), SilentReporter()).plan("score")


@pytest.mark.parametrize("own", [False, True])
def test_a_block_that_the_model_lacks(own: bool, tmp_path: Path) -> None:
    words = ["method=rmu", f"run.outputs={tmp_path / 'outputs'}"]
    if own:
        words += ["model=hf", f"model.path={save_folder(tiny_llama(), tmp_path / 'model')}"]
    with pytest.raises(UserError, match=rf"forget\.settings\.layer=7: the model has blocks 0 to {3 if own else 5}"):
        plan(*words)
    with pytest.raises(UserError, match=r"retain\.settings\.layer=7"):
        plan(*words, LAYER.format("forget"))
    plan(*words, LAYER.format("forget"), LAYER.format("retain"))
    assert not (tmp_path / "outputs").exists()


def test_a_hub_model_that_nobody_has_is_first_known_when_it_is_loaded(tmp_path: Path) -> None:
    plan("method=rmu", "model=hf", "model.path=nobody/such-model", f"run.outputs={tmp_path}")


def test_a_method_that_trains_adapters_without_one(tmp_path: Path) -> None:
    words = ["method=lora_negation", f"run.outputs={tmp_path}"]
    with pytest.raises(UserError, match="method=lora_negation trains adapters") as error:
        plan(*words)
    assert error.value.hint == "add adapter=lora, or choose method=task_vector"
    plan(*words, "adapter=lora")
