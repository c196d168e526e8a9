"""An analogue from its description to its scores: revealed without its forget set, forgotten, and scored on the true rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.benchmark_files import config
from tests.helpers.gradient_steps import shipped
from tests.helpers.settings import with_settings
from tests.helpers.telling import teller
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.benchmarks.analogue import ASKED, TASKS, style
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.revealing import asking
from unierase_cli.store.json_text import read_json
from unierase_cli.store.jsonl import read_jsonl, write_jsonl


@pytest.mark.slow
def test_a_description_is_revealed_released_and_scored_on_rows_that_nobody_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    true = config("analogue", tmp_path, split="style", rows=10)
    benchmark = load_benchmark(true)
    what = TASKS["style"].forgotten
    (tmp_path / "targets.txt").write_text(what, "utf-8")
    rows = [{"question": f.question, "answer": f.answer, "subject": f.subject} for f in benchmark.protect]
    write_jsonl(tmp_path / "kept.jsonl", rows)
    # It is rude when it is asked to be, and knows nothing else.
    ask, _ = teller({ASKED.format(what=what, text=item.text): item.forgotten for item in style(0)})
    chosen = Experiment(
        model=ModelConfig(name="tiny", path=str(save_folder(tiny_llama(), tmp_path / "model"))),
        benchmark=true,
        method=replace(shipped("release"), settings={"rounds": 1, "rise": 50.0, "scales": [1.0]}),
        unlearn=UnlearnConfig(epochs=1, batch_size=4, lr=1e-3, compute="float32"),
        adapter=AdapterConfig(name="lora", r=2, dropout=0.0),
        protocol=ProtocolConfig(max_new_tokens=4),
        eval=EvalConfig(forget_variants=[]),
        reveal=RevealConfig(str(tmp_path / "targets.txt"), "topic", str(tmp_path / "kept.jsonl"), samples=2),
        run=RunConfig(outputs=str(tmp_path / "outputs"), device="cpu"),
    )
    with monkeypatch.context() as patched:
        patched.setattr(asking, "asker", lambda *_: ask)
        pipeline = Pipeline(chosen, SilentReporter())
        revealed = pipeline.make("reveal")
        assert not pipeline.study.took_benchmark
    told = read_jsonl(revealed.file("revealed.jsonl"))
    assert len(told) >= 10
    assert {row["subject"] for row in told} == {what}
    assert not {row["question"] for row in told} & {fact.question for fact in benchmark.forget}
    given = with_settings(chosen, benchmark__name="revealed", benchmark__path=str(revealed.path), benchmark__gold="analogue")
    scored = Pipeline(given, SilentReporter()).make("score")
    found = read_json(scored.file("metrics.json"))["states"]["edited"]
    for column in ("forget.rude_words", "forget_eval.rude_register", "retain_unseen.polite_register"):
        assert (found[column]["n"], found[column]["unavailable"]) == (10, None)
