"""Facts forgotten one by one: each from the original model, each scored alone, nothing left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.helpers.sequences import GRADIENT, experiment, make
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.inference import observe as asking
from unierase_cli.methods.base import load_method
from unierase_cli.metrics.scores import Precise
from unierase_cli.models.load import load_model
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request
from unierase_cli.pipeline.study import study_of
from unierase_cli.results.one_run.precise_tables import fact_table, precise_table
from unierase_cli.results.runs import read_precise
from unierase_cli.stages import observe_facts, precise
from unierase_cli.stages.shared.fact_rows import fact_rows
from unierase_cli.store.artefact import Artefact

pytestmark = pytest.mark.slow

# Authors have three questions each: beside the fact, one is held and one is asked.
MODE = ModeConfig("precise", limit=3, near=2, far=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["unierase", "npo_gd"])
def made(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Experiment, Artefact]:
    """An edit in closed form and a gradient method, whose patches hold whole tensors."""
    changes = {"method": GRADIENT} if request.param == "npo_gd" else {}
    config = experiment(folder, tmp_path_factory.mktemp("outputs"), MODE, **changes)
    return config, make(config, "observe_facts")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_patch_starts_from_the_original_model(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    erased = make(config, "erase")
    alone = replace(config, mode=replace(MODE, limit=0, facts=[study_of(config).benchmark.forget[2].id]))
    third, single = Patch.load(erased.path, 2), Patch.load(make(alone, "erase").path, 0)
    for layer, factor in single.factors.items():
        assert torch.equal(factor.left, third.factors[layer].left)
        assert torch.equal(factor.right, third.factors[layer].right)
    assert single.dense.keys() == third.dense.keys()
    assert all(torch.equal(single.dense[name], third.dense[name]) for name in single.dense)


def test_what_a_mode_without_a_last_model_has_no_use_for_is_told(folder: Path, tmp_path: Path) -> None:
    def run(*words: str) -> Result:
        fixed = ["experiment=demo", "--mode", "precise", f"run.outputs={tmp_path}", "--dry-run"]
        return CliRunner().invoke(app, [*words[:1], *fixed, *words[1:]])

    told = run("eval", "eval.passes=[perplexity]", "eval.retain_reference=train")
    assert told.exit_code == 0
    assert "does not use eval.passes, eval.retain_reference" in told.output
    assert "does not use" not in run("eval").output
    refused = run("score")
    assert refused.exit_code == 2
    assert "mode=precise leaves no model to score" in refused.output


def test_a_fact_is_asked_with_its_neighbours_and_with_far_facts(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    rows = lines(artefact.path / observe_facts.EDITED)
    for found in fact_rows(study_of(config)):
        assert [len(found.near), len(found.far)] == [1, 3]
        assert {fact.group for fact in found.near} == {found.fact.group}
        assert found.fact.group not in {fact.group for fact in found.far}
        mine = [(row["role"], row["observation"]["fact_id"]) for row in rows if row["edited"] == found.fact.id]
        wanted = [("fact", found.fact.id), *(("near", f.id) for f in found.near), *(("far", f.id) for f in found.far)]
        assert mine == [*wanted, ("paraphrase", found.fact.id)]


def test_neighbours_that_a_method_is_told_to_hold_are_never_asked(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    benchmark = study_of(config).benchmark
    for hold, held, asked in ((12, 1, 1), (1, 1, 1), (0, 0, 2)):
        changed = replace(config, mode=replace(MODE, hold=hold))
        for step, rows in zip(study_of(changed).steps, fact_rows(study_of(changed)), strict=True):
            assert (len(step.hold), len(rows.near)) == (held, asked)
            assert not {f.id for f in step.hold} & {f.id for f in (*rows.near, rows.fact)}
            assert {f.group for f in step.hold} <= {rows.fact.group}
            if held:
                assert set(step.retain) - set(step.hold) <= set(benchmark.protect)
                assert len(step.retain) == 2 * held
            else:
                assert step.retain == benchmark.protect


def test_holding_other_neighbours_is_another_edit(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    keys = [
        Pipeline(replace(config, mode=replace(MODE, hold=hold)), SilentReporter()).key(Request("erase")) for hold in (12, 1, 0)
    ]
    assert keys[0] == keys[1], "the same neighbour either way"
    assert keys[0] != keys[2]


def test_each_fact_is_scored_with_its_patch_alone(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    erased = make(config, "erase")
    rows = lines(artefact.path / observe_facts.EDITED)
    for found in fact_rows(study_of(config)):
        loaded = load_model(config.model, config.run)
        apply_patches(loaded, [Patch.load(erased.path, found.step)])
        asked = asking.ask(loaded, [found.fact], "plain", config.protocol)
        ((said,),) = asking.observe(loaded, asked, [[0]], split="fact", variant="plain", protocol=config.protocol)
        told = next(r["observation"] for r in rows if r["edited"] == found.fact.id and r["role"] == "fact")
        assert said.generated_ids == told["generated_ids"]
        assert said.answers["true"][0].log_probs == pytest.approx(told["answers"]["true"][0]["log_probs"], abs=1e-4)


def test_after_all_facts_the_model_has_its_bits_again(
    made: tuple[Experiment, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = made
    erased, seen = make(config, "erase"), []
    loaded = load_model(config.model, config.run)
    monkeypatch.setattr(observe_facts, "load_base", lambda *_: seen.append(loaded) or loaded)
    reverted = []
    revert = AppliedPatch.revert
    monkeypatch.setattr(AppliedPatch, "revert", lambda self: (reverted.append(1), revert(self))[1])
    context = observe_facts.StageContext(study_of(config), tmp_path, {"erase": erased}, SilentReporter())
    observe_facts.run(context)
    assert len(seen) == 1, "one model for all facts"
    assert len(reverted) == 3
    fresh = load_model(config.model, config.run)
    for (name, mine), (_, first) in zip(loaded.model.named_parameters(), fresh.model.named_parameters(), strict=True):
        assert torch.equal(mine, first), name
    assert loaded.unlearn_ids == []


def test_an_interrupted_pass_goes_on_after_its_last_whole_fact(
    made: tuple[Experiment, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = made
    erased = make(config, "erase")
    context = observe_facts.StageContext(study_of(config), tmp_path, {"erase": erased}, SilentReporter())
    full = (whole.path / observe_facts.EDITED).read_text()
    (tmp_path / observe_facts.BASE).write_bytes((whole.path / observe_facts.BASE).read_bytes())
    # One fact and a half, and a line that was being written.
    (tmp_path / observe_facts.EDITED).write_text("".join(full.splitlines(keepends=True)[:9]) + '{"edited": "a')
    steps = []
    load = Patch.load
    monkeypatch.setattr(Patch, "load", lambda path, step: steps.append(step) or load(path, step))
    observe_facts.run(context)
    assert steps == [1, 2]
    assert (tmp_path / observe_facts.EDITED).read_text() == full


def test_the_measures_are_means_over_facts(made: tuple[Experiment, Artefact]) -> None:
    config, observed = made
    artefact = make(config, "precise")
    found, rows = json.loads((artefact.path / precise.FILE).read_text()), lines(artefact.path / precise.FACTS)
    measures = {measure["id"]: measure for measure in found["measures"]}
    assert found["facts"] == len(rows) == 3
    assert measures["forgotten"]["after"] == sum(row["fact_rouge"]["after"] <= 0.15 for row in rows) / 3
    for name in ("near_probability", "far_probability"):
        assert measures[name]["after"] == pytest.approx(sum(row[name]["after"] for row in rows) / 3)
        assert measures[name]["change"] == pytest.approx(measures[name]["after"] - measures[name]["before"])
        assert measures[name]["ci95"] is not None
    assert measures["forgotten"]["before"] == sum(row["fact_rouge"]["before"] <= 0.15 for row in rows) / 3
    if config.method.token:
        assert measures["fact_first_unlearn"]["after"] == 1.0
    else:
        assert measures["fact_first_unlearn"]["after"] is None
        assert ("fact: first token is [UNL]", "", "n/a") in [row[:3] for row in precise_table(read_precise(artefact)).rows]
    base, edited = observe_facts.read_facts(observed)
    row = precise.one_fact(rows[0]["fact"], base, edited[rows[0]["fact"]], rows[0]["seconds"])
    assert json.loads(json.dumps(row)) == rows[0]
    assert len(fact_table(rows).rows) == 3


def test_a_true_answer_without_a_word_makes_the_measures_of_words_unavailable(made: tuple[Experiment, Artefact]) -> None:
    _, artefact = made
    base, edited = observe_facts.read_facts(artefact)
    wordless = replace(next(iter(base.values())), reference="🙂")
    base |= {key: replace(o, reference="🙂") for key, o in base.items() if o.fact_id == wordless.fact_id}
    said = {
        fact: [(role, replace(o, reference="🙂") if o.fact_id == wordless.fact_id else o) for role, o in rows]
        for fact, rows in edited.items()
    }
    rows = [precise.one_fact(fact, base, found, None) for fact, found in said.items()]
    measures = {told.id: told for told in precise.measures(rows)}
    for name in ("forgotten", "fact_rouge"):
        assert measures[name].after is None
        assert "true answers of 1 of 3 facts have no word" in str(measures[name].unavailable)
    assert measures["fact_probability"].after is not None
    assert any("n/a" in row for row in fact_table(rows).rows)
    assert precise_table(Precise(facts=3, measures=list(measures.values()))).rows


def test_a_report_of_single_facts_has_no_model_after_them_all(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    report = make(config, "report")
    text = (report.path / "report.md").read_text()
    assert "### One fact at a time" in text
    assert "### Fact by fact" in text
    assert {row.stage for row in Pipeline(config, SilentReporter()).plan("report")} >= {"observe_facts", "precise"}
    assert not [row for row in Pipeline(config, SilentReporter()).plan("report") if row.stage == "score"]
    with pytest.raises(UserError, match="3 edits that each start from the original model"):
        make(config, "observe", state="edited")


def test_more_neighbours_ask_anew_but_edit_nothing_anew(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    other = replace(config, mode=replace(MODE, near=0))
    first, second = (Pipeline(c, SilentReporter()) for c in (config, other))
    for stage, same in (("erase", True), ("observe_facts", False)):
        assert (first.key(Request(stage)) == second.key(Request(stage))) is same


def test_an_interrupted_edit_goes_on_at_the_next_fact(
    made: tuple[Experiment, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = made
    whole = make(config, "erase")
    other = replace(config, run=replace(config.run, outputs=str(tmp_path)))
    module = load_method(config.method.implementation or config.method.name)
    erase, done = module.erase, []

    def stopping(loaded: Any, step: Any, state: Any, context: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(step.index)
        return erase(loaded, step, state, context)

    monkeypatch.setattr(module, "erase", stopping)
    with pytest.raises(KeyboardInterrupt):
        make(other, "erase")
    monkeypatch.setattr(module, "erase", erase)
    continued = make(other, "erase")
    assert continued.manifest["resumed"]
    for step in range(3):
        name = f"patch-{step:03d}.safetensors"
        assert (continued.path / name).read_bytes() == (whole.path / name).read_bytes()
