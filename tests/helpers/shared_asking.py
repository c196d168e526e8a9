"""What test_same_bits does in one process and starts as several: a model is asked in every way that several processes share.

    python -m tests.helpers.shared_asking MODEL_FOLDER SUITES_FOLDER OUTPUTS

Each process writes the batches that it asked itself to ``OUTPUTS/asked-<rank>.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.helpers.sequences import experiment, make
from unierase_cli.config.sections.evaluation import EvalConfig
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig
from unierase_cli.inference import observe as asking
from unierase_cli.pipeline import several_processes as together
from unierase_cli.training import processes

NOTHING = MethodConfig("none", editing=False, token=False)


def ask_everything(model: Path, suites: Path, outputs: Path) -> None:
    """Observations, general suites, and the rows of facts that are forgotten one by one, all in small batches."""
    config = experiment(model, outputs, ModeConfig(), method=NOTHING)
    general = GeneralConfig(suites=["gsm8k", "mmlu"], data_dir=str(suites), share=1.0, max_new_tokens=4)
    evaluation = EvalConfig(batch_size=2, splits=["forget", "retain_unseen"], forget_variants=["paraphrased"], general=general)
    config = replace(config, eval=evaluation)
    make(config, "observe", state="base")
    make(config, "general", state="base")
    make(replace(config, mode=ModeConfig("precise")), "observe_facts")


@contextmanager
def counted() -> Iterator[list[str]]:
    """The batches that this process asks, as it asks them."""
    found: list[str] = []

    def observe(loaded: Any, asked: Any, batches: list[list[int]], *, split: str, variant: str, **more: Any) -> Iterator[Any]:
        found.extend(f"{split} {variant} {batch}" for batch in batches)
        return original(loaded, asked, batches, split=split, variant=variant, **more)

    original = asking.observe
    with patch.object(asking, "observe", observe):
        yield found


def main() -> None:
    model, suites, outputs = map(Path, sys.argv[1:])
    with counted() as found:
        if together.is_follower():
            together.follow()
        else:
            ask_everything(model, suites, outputs)
    (outputs / f"asked-{processes.rank()}.json").write_text(json.dumps(found))
    if not together.is_follower():
        together.dismiss()


if __name__ == "__main__":
    main()
