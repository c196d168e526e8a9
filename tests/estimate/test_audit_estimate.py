"""What an audit will take: answers, seconds and memory, before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.helpers.audits import FORGET, KEEP, TRAINING, audited
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Benchmark, SilentReporter
from unierase_cli.estimate.audit import answers_of, speed_of
from unierase_cli.estimate.need import rows_of
from unierase_cli.estimate.of_plan import plan_needs
from unierase_cli.estimate.shapes import shape_of
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefacts import Store

BENCHMARK = Benchmark("own", tuple(FORGET), tuple(KEEP), {"forget": tuple(FORGET)}, "print")


def experiment(folder: Path, **audit: object) -> Experiment:
    """Of the model that finetune makes, so that its shape is known."""
    found = audited("nowhere", folder, **audit)
    return replace(found, model=replace(found.model, name="mini", path=None), train=TRAINING)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("plain", {}, len(FORGET)),
        ("prefix", {"tokens": [4, 2]}, 4 * len(FORGET)),
        ("sampling", {"samples": 3, "facts": 2}, 2 * 3 * 2),
        ("int8", {}, 2 * (len(FORGET) + len(KEEP))),
        # One case, two looks, what is kept, the sample of what was learned, ten steps of four examples.
        ("relearn_part", {"lr": [1e-5], "lora_lr": [], "percent": [10], "steps": [10, 5]}, 2 * len(FORGET) + len(KEEP) + 24 + 40),
    ],
)
def test_answers_are_counted_over_cases_samples_looks_and_training(
    tmp_path: Path, name: str, settings: dict, expected: int
) -> None:
    given = {name: settings} if settings else {}
    assert answers_of(name, experiment(tmp_path, settings=given), BENCHMARK, blocks=2) == expected


def test_at_most_so_many_facts_are_counted(tmp_path: Path) -> None:
    assert answers_of("plain", experiment(tmp_path, facts=3), BENCHMARK, blocks=2) == 3


def test_speed_is_that_of_attacks_made_here_else_a_guess(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    shape, rows = shape_of(config)[0], rows_of(BENCHMARK)
    assert shape is not None
    guess = speed_of(config, shape, rows, accelerator=False)
    assert not guess.measured
    assert 0 < guess.seconds("prefix", 10) == 10 * guess.usual
    for number, (name, other) in enumerate({"prefix": config, "int8": audited("another/model", tmp_path)}.items()):
        manifest = {
            "stage": "attack", "key": f"k{number}", "options": {"attack": name, "of": "base"}, "inputs": {},
            "config": json.loads(json.dumps(asdict(other))), "summary": {"seconds": {"a": 3.0, "b": 1.0}, "rows": {"a": 6, "b": 2}},
        }  # fmt: skip
        Store(config.run.outputs).draft("attack", name, f"k{number}").complete(manifest)
    found = speed_of(config, shape, rows, accelerator=False)
    assert found.of_attack == {"prefix": 0.5}, "the other model is another one"
    assert (found.seconds("prefix", 10), found.seconds("int8", 10)) == (5.0, 5.0)


def test_a_plan_says_seconds_and_memory_of_every_attack_and_training_takes_most(tmp_path: Path) -> None:
    names = ["prefix", "int8", "relearn_part", "uds"]
    config = experiment(tmp_path, attacks=names, control="nowhere/control", ceiling="nowhere/ceiling")
    pipeline = Pipeline(config, SilentReporter())
    needs = plan_needs(pipeline.study, pipeline.plan("audit"))
    memory = {name: needs.memory[f"attack {name} base"] for name in ["plain", *names]}
    assert memory["plain"] == memory["prefix"] < memory["int8"] < memory["relearn_part"]
    assert memory["uds"] > memory["plain"], "three models at once"
    assert {stage.split()[1] for stage in needs.seconds} == {"plain", *names}
    assert not needs.measured
    row = next(row for row in pipeline.plan("audit") if row.stage == "attack prefix base")
    assert needs.to_json(row)["seconds"] == needs.seconds[row.stage]
