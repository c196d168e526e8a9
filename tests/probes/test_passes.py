"""Further passes over a model: what each of them measures, and that they stand beside the observations."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.golden_metrics import facts, load
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import FACTS, tiny_gpt2, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.contracts import Benchmark, SilentReporter, UserError
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.metrics import output_kl as output_kl_metric
from unierase_cli.metrics import over_refusal
from unierase_cli.metrics import perplexity as perplexity_metric
from unierase_cli.metrics.base import Evidence
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import add_unlearning_tokens
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.probes import gradient_norm, output_kl, perplexity, reference_loss, unrelated
from unierase_cli.probes.base import Asking, load_pass, training_row
from unierase_cli.stages import observe, probe, score
from unierase_cli.store.artefact import Artefact

PROTOCOL = ProtocolConfig(max_new_tokens=4)
SPLITS = {"forget": FACTS[:3], "retain_unseen": FACTS[3:6], "holdout": FACTS[6:8]}
TEXTS = ("Ada was born in Lisbon.", "The sky is blue above the sea.", "x")


def asking(**changes: Any) -> Asking:
    values: dict[str, Any] = {
        "facts": SPLITS,
        "texts": TEXTS,
        "protocol": PROTOCOL,
        "batch_size": 2,
        "reference": lambda: tiny_llama(seed=9),
    }
    return Asking(**{**values, **changes})


def changed(loaded: LoadedModel) -> None:
    """A new token and another down projection, as an edit leaves them."""
    add_unlearning_tokens(loaded, ["<unlearn_0>"], torch.Generator().manual_seed(1))
    loaded.architecture.set_weight(1, loaded.architecture.weight(1) + 0.01)


def test_gradient_norms_are_those_of_autograd_and_leave_the_model_frozen() -> None:
    loaded = tiny_llama(seed=2)
    rows = {row["fact_id"]: row for row in gradient_norm.rows(loaded, asking(), None)}
    assert list(rows) == [fact.id for split in ("forget", "holdout") for fact in SPLITS[split]]
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    fact = SPLITS["forget"][0]
    prompt, answer = loaded.prompts.prompt(fact.question).ids, loaded.prompts.answer_ids(fact.answer)
    loaded.model.requires_grad_(True)
    logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    # All but the end token.
    torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(answer[:-1])).backward()
    norms = [float(parameter.grad.norm()) for parameter in loaded.model.parameters() if parameter.grad is not None]
    assert rows[fact.id]["value"] == pytest.approx(sum(norms) / len(norms), rel=1e-5)


@pytest.mark.parametrize("model", ["model_ref", "model_cur", "model_noisy"])
def test_golden_gradient_norms_and_reference_losses_match_open_unlearning(shared: Path, model: str) -> None:
    folder = shared / "golden" / "metrics"
    log = json.loads((folder / "ou_eval.json").read_text("utf-8"))[model]
    about = asking(
        facts={"forget": facts(folder, "forget"), "holdout": facts(folder, "retain_unseen")},
        reference=lambda: load(folder, "model_ref"),
    )
    for split in ("forget", "holdout"):
        found = [row for row in gradient_norm.rows(load(folder, model), about, None) if row["split"] == split]
        wanted = log["mia_gradnorm"][split]["value_by_index"]
        assert [row["value"] for row in found] == pytest.approx([wanted[str(i)]["score"] for i in range(8)], rel=1e-4)
    losses = {row["fact_id"]: row["value"] for row in reference_loss.rows(load(folder, model), about, None)}
    own = load(folder, model)
    for split in ("forget", "holdout"):
        rows = about.facts[split]
        items = [(own.prompts.prompt(f.question).ids, own.prompts.answer_ids(f.answer)) for f in rows]
        scores = [s.average_loss - losses[f.id] for f, s in zip(rows, score_answers(own, items), strict=True)]
        wanted = log["mia_reference(ref=model_ref)"][split]["value_by_index"]
        assert scores == pytest.approx([wanted[str(i)]["score"] for i in range(8)], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_output_kl_is_zero_without_a_change_and_the_kl_of_the_two_models_with_one(make: Any) -> None:
    loaded = make(seed=3)
    remembered = output_kl.remember(loaded, asking())
    still = list(output_kl.rows(loaded, asking(), remembered))
    assert max(row["value"] for row in still) == pytest.approx(0, abs=1e-6)
    assert {row["split"] for row in still} == {"forget", "retain_unseen"}
    changed(loaded)
    rows = {row["fact_id"]: row["value"] for row in output_kl.rows(loaded, asking(), remembered)}
    fact, before = SPLITS["retain_unseen"][1], make(seed=3)
    prompt, answer = before.prompts.prompt(fact.question).ids, before.prompts.answer_ids(fact.answer)
    ids, wanted = torch.tensor([[*prompt, *answer]]), slice(len(prompt) - 1, -1)
    with torch.no_grad():
        old = torch.log_softmax(before.model(ids).logits[0, wanted], dim=-1)
        new = torch.log_softmax(loaded.model(ids).logits[0, wanted], dim=-1)[:, : old.shape[1]]
    assert rows[fact.id] == pytest.approx(float((old.exp() * (old - new)).sum(-1).mean()), rel=1e-4)
    assert rows[fact.id] > 0
    assert list(output_kl.rows(before, asking(), None)) == []


def test_perplexity_is_exp_of_the_loss_per_token_over_all_texts() -> None:
    loaded = tiny_llama(seed=5)
    rows = list(perplexity.rows(loaded, asking(), None))
    assert sorted(row["id"] for row in rows) == ["text-0", "text-1", "text-2"]
    total, tokens = 0.0, 0
    for text in TEXTS:
        ids = [*loaded.prompts.bos_ids, *loaded.tokenizer(text, add_special_tokens=False)["input_ids"]]
        ids = ids if len(ids) > 1 else [*ids, loaded.prompts.end_id]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([ids])).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
        tokens += len(ids) - 1
    result = perplexity_metric.compute((), rows)
    assert result.value == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert result.ci95 is not None
    assert result.ci95[0] <= result.value <= result.ci95[1]
    assert perplexity_metric.compute((), rows[:1]).ci95 is None
    assert perplexity_metric.compute((), [{"tokens": 3, "loss": math.inf}]).value is None


def test_refused_unrelated_requests_are_counted() -> None:
    rows = list(unrelated.rows(tiny_llama(seed=6), asking(), None))
    assert len(rows) == unrelated.count(asking()) == 40
    said = [{**row, "text": "I do not know." if i < 10 else "Rain falls."} for i, row in enumerate(rows)]
    columns = over_refusal.columns(Evidence("edited", {}, refusals=["I do not know."], passes={"unrelated": said}))
    assert [(c.id, c.result.value) for c in columns] == [("all.over_refusal", 0.25)]


@pytest.fixture
def rows_of_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Benchmark("test", FACTS[:3], (), SPLITS, "x")
    monkeypatch.setattr("unierase_cli.pipeline.study.load_benchmark", lambda *_, **__: benchmark)
    monkeypatch.setattr(probe, "load_base", lambda *_: tiny_llama(seed=4))
    monkeypatch.setattr(probe, "apply_erasure", lambda loaded, path: changed(loaded))
    monkeypatch.setattr(observe, "load_base", lambda *_: tiny_llama(seed=4))
    edited = tiny_llama(seed=4)
    changed(edited)
    monkeypatch.setattr(observe, "load_edited", lambda *_: edited)


def experiment(**evaluation: Any) -> Experiment:
    return with_settings(Experiment(protocol=PROTOCOL, eval=EvalConfig(**evaluation)), model__path="somewhere")


def run(folder: Path, state: str, config: Experiment) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    inputs = {"erase": Artefact(folder, {})}
    return probe.run(StageContext(study_of(config), folder, inputs, SilentReporter(), {"state": state}))


@pytest.mark.usefixtures("rows_of_a_benchmark")
def test_passes_reach_the_table_and_are_run_only_when_asked_for(tmp_path: Path) -> None:
    config = experiment(passes=["output_kl", "perplexity", "unrelated", "gradient_norm"], batch_size=2)
    assert set(score.needs(study_of(config), {})) == {"base", "edited", "probe_base", "probe_edited"}
    assert set(score.needs(study_of(experiment()), {})) == {"base", "edited"}
    inputs = {}
    for state in ("base", "edited"):
        folder = tmp_path / state
        folder.mkdir()
        observe.run(StageContext(study_of(config), folder, {}, SilentReporter(), {"state": state}))
        summary = run(tmp_path / f"probe_{state}", state, config)
        inputs |= {name: Artefact(tmp_path / name, {}) for name in (state, f"probe_{state}")}
    assert summary["rows"] == {"output_kl": 6, "perplexity": 12, "unrelated": 40, "gradient_norm": 5}
    (tmp_path / "score").mkdir()
    found = score.run(StageContext(study_of(config), tmp_path / "score", inputs, SilentReporter()))
    rows = {row["id"]: row for row in found["rows"]}
    assert rows["retain_unseen.output_kl"]["edited"] > 0
    assert rows["all.perplexity"]["base"] > 1
    assert rows["all.perplexity"]["base"] != rows["all.perplexity"]["edited"]
    assert rows["all.over_refusal"]["n"] == 40
    assert rows["forget.output_kl"]["group"] == "detail"


@pytest.mark.usefixtures("rows_of_a_benchmark")
def test_a_finished_pass_is_not_run_again_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(passes=["perplexity", "gradient_norm"])
    with monkeypatch.context() as dying:
        dying.setattr(gradient_norm, "rows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, "edited", config)
    before = (tmp_path / "perplexity.jsonl").read_text()
    monkeypatch.setattr(perplexity, "rows", lambda *_: 1 / 0)
    assert run(tmp_path, "edited", config)["rows"] == {"perplexity": 12, "gradient_norm": 5}
    assert (tmp_path / "perplexity.jsonl").read_text() == before


@pytest.mark.usefixtures("rows_of_a_benchmark")
def test_mistakes_about_passes_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="eval.passes=perplexty is not a pass") as caught:
        load_pass("perplexty")
    assert caught.value.hint == "did you mean eval.passes=perplexity?"
    with pytest.raises(UserError, match="needs a model that never saw the forget set"):
        probe.fingerprints(study_of(experiment(passes=["reference_loss"])), {})
    with pytest.raises(UserError, match="eval.texts=nowhere.jsonl does not exist"):
        probe.fingerprints(study_of(experiment(texts="nowhere.jsonl")), {})
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n{"words": 2}\n', "utf-8")
    with pytest.raises(UserError, match=r"texts.jsonl:2: no string `text`"):
        run(tmp_path / "probe", "base", experiment(texts=str(tmp_path / "texts.jsonl"), passes=["perplexity"]))


def test_kl_that_overflowed_is_unavailable_and_says_why() -> None:
    rows = [{"split": "retain_unseen", "fact_id": "a", "value": math.nan}]
    assert "no finite value" in (output_kl_metric.compute((), rows).unavailable or "")


def test_what_passes_cost_in_keys_depends_on_what_they_read() -> None:
    plain = experiment(passes=["perplexity"])
    other = replace(plain, eval=replace(plain.eval, batch_size=7))
    assert probe.reads(study_of(plain), {"state": "base"}) == probe.reads(study_of(other), {"state": "base"})
    more = experiment(passes=["perplexity", "output_kl"])
    assert probe.reads(study_of(plain), {"state": "base"}) != probe.reads(study_of(more), {"state": "base"})


def test_answers_are_cut_where_the_scored_ones_are() -> None:
    loaded, fact = tiny_llama(), SPLITS["forget"][0]
    prompt, answer = loaded.prompts.prompt(fact.question).ids, loaded.prompts.answer_ids(fact.answer)
    tight = replace(PROTOCOL, total_tokens=len(prompt) + 2)
    assert training_row(loaded, fact, tight).ids == (*prompt, *answer[:2])
    assert training_row(loaded, fact, replace(PROTOCOL, total_tokens=3)).ids == (*prompt, answer[0])
    assert training_row(loaded, fact, PROTOCOL).ids == (*prompt, *answer)
    rows = {row["fact_id"]: row["value"] for row in reference_loss.rows(loaded, asking(protocol=tight), None)}
    other = tiny_llama(seed=9)
    (wanted,) = score_answers(other, [(other.prompts.prompt(fact.question).ids, answer)], total_tokens=len(prompt) + 2)
    assert rows[fact.id] == pytest.approx(wanted.average_loss, rel=1e-5)
