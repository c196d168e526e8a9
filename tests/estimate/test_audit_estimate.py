"""What an audit will take: answers, seconds and memory, before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.helpers.audits import FORGET, KEEP, TRAINING, audited
from unierase_cli.audit.base import load_attack
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Benchmark, SilentReporter
from unierase_cli.estimate.audit import answers_of, speed_of
from unierase_cli.estimate.need import rows_of
from unierase_cli.estimate.of_plan import plan_needs
from unierase_cli.estimate.shapes import shape_of
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json

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
        # Two cases (one with the token's rows frozen), two looks, what is kept, the sample of what was learned, ten steps of four.
        ("relearn_part", {"lr": [1e-5], "lora_lr": [], "percent": [10], "steps": [10, 5]},
         2 * (2 * len(FORGET) + len(KEEP) + 24 + 40)),
        ("relearn_benign", {"lr": [1e-5], "lora_lr": [], "examples": [100, 10]}, 2 * (len(FORGET) + len(KEEP) + 24) + 110),
        ("relearn_all", {"lr": [1e-5], "lora_lr": []}, len(FORGET) + len(KEEP) + 24 + len(FORGET)),
        # Two cases at one rate and one with frozen rows; of four folds two are asked, after 3 epochs of the other six facts.
        ("relearn_groups", {"lr": [1e-5], "lora_lr": [], "epochs": [3, 1], "folds": 4},
         3 * 2 * (3 * 6 + 2 * 2 + len(KEEP) + 24)),
        # Ten steps and two looks, of each fact's own embeddings and of one set that learns four facts a step.
        ("soft_suffix", {"steps": 10, "every": 5, "batch": 4}, 10 * len(FORGET) + 10 * 4 + 2 * 2 * len(FORGET)),
        ("soft_prompt", {"steps": 10, "batch": 4}, 10 * 4 + len(FORGET)),
        # A true answer and another one of every fact.
        ("targeted_tokens", {"steps": 10, "facts": 3}, 10 * 2 * 3 + 3),
    ],
)
def test_answers_are_counted_over_cases_samples_looks_and_training(
    tmp_path: Path, name: str, settings: dict, expected: int
) -> None:
    given = {name: settings} if settings else {}
    assert answers_of(name, experiment(tmp_path, settings=given), BENCHMARK, blocks=2) == expected


def test_at_most_so_many_facts_are_counted(tmp_path: Path) -> None:
    assert answers_of("plain", experiment(tmp_path, facts=3), BENCHMARK, blocks=2) == 3


def made(config: Experiment, name: str, seconds: dict[str, float], rows: int = 1) -> None:
    """A finished attack in the store."""
    key = hash_json([name, config.model.name, config.benchmark.path])
    manifest = {
        "stage": "attack", "key": key, "options": {"attack": name, "of": "base"}, "inputs": {},
        "config": json.loads(json.dumps(asdict(config))), "summary": {"seconds": seconds, "rows": dict.fromkeys(seconds, rows)},
    }  # fmt: skip
    Store(config.run.outputs).draft("attack", name, key).complete(manifest)


def test_speed_is_that_of_attacks_made_here_else_a_guess(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    shape, rows = shape_of(config)[0], rows_of(BENCHMARK)
    assert shape is not None
    guess = speed_of(config, BENCHMARK, shape, rows, accelerator=False)
    assert not guess.measured
    assert 0 < guess.seconds("prefix", 10) == 10 * guess.usual
    made(experiment(tmp_path, settings={"prefix": {"tokens": [3]}}), "prefix", {"3 given": 4.0}, rows=len(FORGET))
    made(audited("another/model", tmp_path), "int8", {"blocks": 100.0})
    made(replace(config, benchmark=replace(config.benchmark, path="other.jsonl")), "int8", {"blocks": 100.0})
    found = speed_of(config, BENCHMARK, shape, rows, accelerator=False)
    assert found.of_attack == {"prefix": 4.0 / len(FORGET)}, "another model or other facts say nothing"
    assert (found.seconds("prefix", 16), found.seconds("int8", 16)) == (8.0, 8.0)


@pytest.mark.parametrize("name", ["cka", "uds", "relearn_groups", "soft_suffix"])
def test_an_attack_that_was_made_here_takes_as_long_again(tmp_path: Path, name: str) -> None:
    config = experiment(tmp_path)
    shape, rows = shape_of(config)[0], rows_of(BENCHMARK)
    assert shape is not None
    cases = [case.name for case in load_attack(name).cases(load_attack(name).SETTINGS)]
    made(config, name, dict.fromkeys(cases, 10.0))
    speed = speed_of(config, BENCHMARK, shape, rows, accelerator=False)
    answers = answers_of(name, config, BENCHMARK, shape.blocks)
    assert speed.seconds(name, answers) == pytest.approx(10.0 * len(cases))
    fewer = experiment(tmp_path, facts=2)
    assert speed.seconds(name, answers_of(name, fewer, BENCHMARK, shape.blocks)) < 10.0 * len(cases)


def test_what_asks_nothing_says_nothing_about_attacks_that_ask(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    shape, rows = shape_of(config)[0], rows_of(BENCHMARK)
    assert shape is not None
    guess = speed_of(config, BENCHMARK, shape, rows, accelerator=False)
    made(config, "cka", {"plain prompt": 80.0})
    made(config, "rounding", {"int8": 80.0})
    found = speed_of(config, BENCHMARK, shape, rows, accelerator=False)
    assert found.of_attack.keys() == {"cka", "rounding"}
    assert found.usual == guess.usual


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
