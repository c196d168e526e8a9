"""The sentence beside a short answer: from the data to the observation, without touching what was made before there was one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.benchmarks.base import fingerprint
from unierase_cli.benchmarks.parts.rows import fact_from_row, unknown_keys
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.contracts import Benchmark, Fact, Observation
from unierase_cli.inference.observe import ask, observe
from unierase_cli.pipeline.study import Study
from unierase_cli.stages import observe as observe_stage

SHORT = Fact("a", "Where is the Eiffel Tower?", "Paris")
LONG = replace(SHORT, long_answer="It is in Paris.")


@pytest.mark.parametrize("key", ["long_answer", "original_answer"])
def test_a_row_may_have_its_answer_as_a_sentence(key: str) -> None:
    row = {"question": SHORT.question, "answer": SHORT.answer, key: "It is in Paris."}
    assert fact_from_row(row, "x:1", "a") == LONG
    assert unknown_keys([row]) == []


def test_neither_a_rows_hash_nor_the_benchmarks_depends_on_it() -> None:
    assert LONG.row_hash == SHORT.row_hash
    benchmarks = [Benchmark("b", (fact,), (), {"forget": (fact,)}, "") for fact in (SHORT, LONG)]
    assert len({fingerprint(benchmark) for benchmark in benchmarks}) == 1


def test_only_rows_that_gain_one_are_observed_anew() -> None:
    def asked(fact: Fact) -> str:
        benchmark = Benchmark("b", (fact,), (), {"forget": (fact,)}, "")
        return observe_stage.fingerprints(Study(Experiment(), lambda: benchmark), {"state": "base"})["rows"]

    assert asked(SHORT) == asked(replace(SHORT)) != asked(LONG)


def test_an_observation_keeps_it_and_files_from_before_still_load() -> None:
    loaded, protocol = tiny_llama(), ProtocolConfig(max_new_tokens=2)
    asked = ask(loaded, [FACTS[0], replace(FACTS[1], long_answer="A sentence.")], "plain", protocol)
    (batch,) = observe(loaded, asked, [[0, 1]], split="forget", variant="plain", protocol=protocol)
    assert [o.long_answer for o in batch] == [None, "A sentence."]
    stored = batch[1].to_json()
    assert Observation.from_json(stored) == batch[1]
    del stored["long_answer"]
    assert Observation.from_json(stored) == replace(batch[1], long_answer=None)
