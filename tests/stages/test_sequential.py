"""Requests one after another: what a step hands on, going on after an interruption, and the numbers along the way."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.sequences import GRADIENT, experiment, make
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.cli.outcome import outcome, show_outcome
from unierase_cli.cli.tables import console_on
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.delivery.replan import replan
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.nullspace import Preservation
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LayerState, solve
from unierase_cli.editing.state import EditState
from unierase_cli.editing.unedited import unedited
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.methods import unierase
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.pipeline.asked_rows import END, step_requests, step_splits
from unierase_cli.pipeline.evaluation import asked_by_evaluation, last_of_evaluation
from unierase_cli.pipeline.model_states import apply_erasure
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request, slug
from unierase_cli.pipeline.study import study_of
from unierase_cli.results.one_run.trajectory_tables import trajectory_table
from unierase_cli.results.runs import read_steps
from unierase_cli.stages import erase as erase_stage
from unierase_cli.stages import train_token
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import read_json
from unierase_cli.store.jsonl import read_jsonl
from unierase_cli.training.token import stages as token_stages

THREE = ModeConfig("sequential", steps=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Artefact]:
    config = experiment(folder, tmp_path_factory.mktemp("outputs"), THREE)
    return config, make(config, "erase")


def loaded_from(config: Experiment) -> LoadedModel:
    return load_model(config.model, config.run)


def first_probabilities(loaded: LoadedModel, facts: Any) -> list[float]:
    """P([UNL]) as the first answer token of each fact."""
    found = []
    for fact in facts:
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([loaded.prompts.prompt(fact.question).ids])).logits[0, -1]
        found.append(float(logits.float().softmax(-1)[loaded.unlearn_ids].sum()))
    return found


def contents(directory: Path) -> dict[str, bytes]:
    names = [path for pattern in ("patch-*", "state*", "steps*") for path in directory.glob(pattern)]
    return {path.name: path.read_bytes() for path in names}


# The exact form: three solves that know of each other by V alone, against dense ones with the accumulated statistics.


def test_three_requests_on_a_linear_layer_equal_the_dense_solves_with_accumulated_statistics() -> None:
    """Fixed keys, absolute targets, one P and one lambda; residuals are measured anew on the weights edited so far."""
    inner, width, per_step, lambda_ = 30, 8, 4, 0.3

    def random(*shape: int, seed: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    free = torch.linalg.qr(random(inner, 18, seed=0))[0]
    preservation = Preservation(inner, free.T, torch.ones(18, dtype=torch.float64), False, "null_space")
    projector, eye = free @ free.T, torch.eye(inner, dtype=torch.float64)
    start = random(width, inner, seed=1)
    low_rank, dense = start.clone(), start.clone()
    state, past = LayerState(), torch.zeros(inner, inner, dtype=torch.float64)
    for step in range(3):
        keys, targets = random(inner, per_step, seed=10 + step), random(width, per_step, seed=20 + step)
        found, state = solve(
            keys, targets - low_rank @ keys, preservation, state, lambda_=lambda_, lambda_kind="absolute"
        )
        low_rank = low_rank + found.factor.dense()
        gram = keys @ keys.T
        system = projector @ (gram + past) + lambda_ * eye
        dense = dense + torch.linalg.solve(system, projector @ keys @ (targets - dense @ keys).T).T
        past = past + gram
        assert (low_rank - dense).norm() / (dense - start).norm() < 1e-10
    assert state.lambda_ == lambda_
    assert state.edits == 3 * per_step


# UniErase


@pytest.mark.slow
def test_the_token_learns_as_many_earlier_facts_as_the_step_has_of_its_own(made: tuple[Experiment, Artefact]) -> None:
    first, second, third = study_of(made[0]).steps
    assert unierase.refined_on(first) == list(first.forget)
    assert unierase.refined_on(second) == [*first.forget, *second.forget]
    learned = unierase.refined_on(third)
    assert learned[-2:] == list(third.forget)
    assert len(learned) == 4
    assert {f.id for f in learned[:2]} < {f.id for f in third.forgotten_before}


@pytest.mark.slow
def test_a_sequence_is_computed_anew_as_if_a_dropped_step_had_never_been(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    chosen = choose_steps(artefact, drop=[1])
    anew = replan(chosen, SilentReporter(), outputs=config.run.outputs, device="cpu")
    assert anew.steps == (0, 1)
    assert anew.erasure.path != artefact.path
    kept, later = anew.patches()
    first, _, third = choose_steps(artefact).patches()
    assert all(torch.equal(kept.factors[n].left, first.factors[n].left) for n in first.factors)
    assert later.info["facts"] == third.info["facts"]
    assert not any(torch.equal(later.factors[n].left, third.factors[n].left) for n in third.factors)
    # Once more without what is now the second step: of the three of the beginning only the first is left.
    again = replan(choose_steps(anew.erasure, drop=[1]), SilentReporter(), outputs=config.run.outputs, device="cpu")
    assert [patch.info["facts"] for patch in again.patches()] == [first.info["facts"]]
    # Up to a step: the second of the beginning is dropped, and the third is not reached.
    until = replan(choose_steps(artefact, 1, drop=[0]), SilentReporter(), outputs=config.run.outputs, device="cpu")
    assert [patch.info["facts"] for patch in until.patches()] == [list(Patch.load(artefact.path, 1).info["facts"])]


def test_three_steps_lead_every_request_to_the_token(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    steps = study_of(config).steps
    assert [len(step.forget) for step in steps] == [2, 2, 2]
    for last in range(3):
        loaded = loaded_from(config)
        apply_erasure(loaded, artefact.path, upto=last)
        now = first_probabilities(loaded, steps[last].forget)
        before = first_probabilities(loaded, steps[last].forgotten_before)
        assert min(now) > 0.5
        assert min(before, default=1.0) > 0.5, "earlier requests stay met: their keys are in the factor"


def test_the_state_carries_the_ridge_of_the_first_step_and_the_keys_of_all(made: tuple[Experiment, Artefact]) -> None:
    _, artefact = made
    state = EditState.load(artefact.path / erase_stage.STATE)
    assert state.steps == 3
    assert {layer.edits for layer in state.layers.values()} == {6}
    lambdas = [[layer["lambda_"] for layer in Patch.load(artefact.path, n).info["layers"]] for n in range(3)]
    assert lambdas[0] == lambdas[1] == lambdas[2] == [state.layers[n].lambda_ for n in sorted(state.layers)]


def test_one_token_that_has_seen_no_request_serves_all_steps(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    asked = train_token.questions(study_of(config))
    assert asked == study_of(config).benchmark.outside
    assert not {f.question for f in asked} & {f.question for step in study_of(config).steps for f in step.forget}
    rows = [Patch.load(artefact.path, n).tokens for n in range(3)]
    assert all(row is not None and row.names == ["<unlearn_0>"] for row in rows)
    in_batch = replace(config, mode=ModeConfig())
    assert train_token.questions(study_of(in_batch)) == study_of(config).benchmark.forget
    assert train_token.reads(study_of(in_batch), {})["token"]["questions"] == "forget"


@pytest.mark.slow
def test_a_token_for_each_step_is_reserved_before_the_first(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, THREE)
    config = replace(config, token=replace(config.token, per_step=True))
    artefact = make(config, "erase")
    rows = [Patch.load(artefact.path, n).tokens for n in range(3)]
    for step, row in zip(study_of(config).steps, rows, strict=True):
        assert row is not None
        assert row.names == ["<unlearn_0>", "<unlearn_1>", "<unlearn_2>"]
        assert {row.token_of(fact.id) for fact in step.forget} == {row.ids[step.index]}
    with pytest.raises(UserError, match="token.per_step=true sets the groups"):
        replace(config.token, groups=2)


@pytest.mark.parametrize("cut", [{"step_size": 4}, {"steps": 4}, {"steps": 3, "leave_out": [0]}])
def test_a_token_for_each_step_is_trained_on_its_own_facts(
    cut: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(folder, tmp_path, ModeConfig("sequential", **cut))
    config = replace(config, token=replace(config.token, per_step=True, questions="forget"))
    learned: dict[str, int] = {}
    real = token_stages.make_examples

    def watched(prompts: Any, facts: Any, chosen: Any, tokens: dict[str, int], *more: Any) -> Any:
        learned.update({fact.id: tokens[fact.id] for fact in facts})
        return real(prompts, facts, chosen, tokens, *more)

    monkeypatch.setattr(token_stages, "make_examples", watched)
    rows = TokenRows.load(make(config, "train_token").path)
    steps = study_of(config).steps
    assert learned == {fact.id: rows.ids[step.index] for step in steps for fact in step.forget}
    assert len(rows.ids) == len(steps)


def stopping(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, at: int) -> None:
    """The ``at``-th call of ``name`` is a kill."""
    original: Callable[..., Any] = getattr(module, name)
    calls = {"n": 0}

    def stop(*arguments: Any, **keywords: Any) -> Any:
        calls["n"] += 1
        if calls["n"] == at:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, stop)


@pytest.mark.slow
def test_an_interrupted_sequence_leaves_its_patches_alone_and_ends_with_the_same_bytes(
    made: tuple[Experiment, Artefact], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = made
    config = experiment(folder, tmp_path, THREE)
    stopping(monkeypatch, unierase, "erase", 3)
    with pytest.raises(KeyboardInterrupt):
        make(config, "erase")
    monkeypatch.undo()
    half = tmp_path / "erase" / whole.path.parent.name / "v001"
    early = {name: data for name, data in contents(half).items() if name.startswith("patch")}
    assert sorted(early) == ["patch-000.json", "patch-000.safetensors", "patch-001.json", "patch-001.safetensors"]
    continued = make(config, "erase")
    assert continued.path == half
    found = contents(half)
    assert {name: found[name] for name in early} == early
    assert found == contents(whole.path)
    seconds = [json.loads(line) for line in (half / erase_stage.TIMES).read_text().splitlines()]
    assert [row["step"] for row in seconds] == [0, 1, 2]


@pytest.mark.slow
def test_a_sequence_that_is_cut_otherwise_is_another_version_and_the_difference_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(folder, tmp_path, THREE)
    stopping(monkeypatch, unierase, "erase", 2)
    with pytest.raises(KeyboardInterrupt):
        make(config, "erase")
    monkeypatch.undo()
    reporter = SilentReporter()
    other = replace(config, mode=replace(THREE, steps=2))
    artefact = Pipeline(other, reporter).make("erase")
    assert artefact.path.name == "v002"
    assert any("mode.steps was 3, is 2" in note for note in reporter.notes)


def test_the_same_facts_in_other_requests_have_another_key(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, THREE)
    ids = [fact.id for fact in study_of(config).benchmark.forget]
    keys = []
    for cut in (2, 3):
        rows = [{"facts": ids[:cut]}, {"facts": ids[cut:]}]
        (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        mode = ModeConfig("sequential", tasks=str(tmp_path / "tasks.jsonl"))
        keys.append(Pipeline(replace(config, mode=mode), SilentReporter()).key(Request("erase")))
    assert len(set(keys)) == 2


# Gradient methods


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_gradient_method_goes_on_from_the_step_before(adapter: str, folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, ModeConfig("sequential", step_size=5), method=GRADIENT)
    config = replace(config, adapter=AdapterConfig(name=adapter), unlearn=replace(config.unlearn, batch_size=4))
    reporter = SilentReporter()
    artefact = Pipeline(config, reporter).make("erase")
    assert any("step 2: batches of 1" in note for note in reporter.notes), "the last request is smaller than a batch"
    bits = []
    for last in (0, 1):
        loaded = loaded_from(config)
        apply_erasure(loaded, artefact.path, upto=last)
        bits.append({name: p.clone() for name, p in loaded.model.named_parameters()})
    first, second = (Patch.load(artefact.path, n) for n in (0, 1))
    in_order = loaded_from(config)
    apply_patches(in_order, [first, second])
    assert all(torch.equal(p, bits[1][name]) for name, p in in_order.model.named_parameters())
    assert any(not torch.equal(bits[0][name], bits[1][name]) for name in bits[0])
    assert first.base_hashes == second.base_hashes, "both belong to the original model"


def test_every_request_of_a_sequence_draws_retain_partners_of_its_own(folder: Path, tmp_path: Path) -> None:
    drawn: dict[tuple[str, int], list] = {}
    for mode, steps in (("sequential", 3), ("precise", 3), ("batch", 1)):
        limit = {"limit": 3} if mode == "precise" else {"steps": 3} if mode == "sequential" else {}
        config = experiment(folder, tmp_path, ModeConfig(mode, **limit), method=GRADIENT)
        path = make(replace(config, unlearn=replace(config.unlearn, batch_size=1, max_steps=2)), "erase").path
        for step in range(steps):
            drawn[mode, step] = [item for row in read_jsonl(path / f"plan-{step:03d}.jsonl") for item in row["items"]]
    retain = {key: [item[1] for item in items] for key, items in drawn.items()}
    assert retain["sequential", 0] == retain["batch", 0][:2]
    assert retain["sequential", 0] != retain["sequential", 1] != retain["sequential", 2]
    # Each fact of the precise mode starts from the original model, and does not hang on its place in the list.
    assert drawn["precise", 0] == drawn["precise", 1] == drawn["precise", 2]


def test_the_reference_is_the_model_before_the_step_or_the_original_one(folder: Path, tmp_path: Path) -> None:
    """With the weights of the step before as its reference, NPO starts at 2 ln 2 / beta; with the original ones it does not."""
    start = {}
    for reference in ("previous", "original"):
        mode = ModeConfig("sequential", steps=2, reference=reference)
        config = experiment(folder, tmp_path, mode, method=GRADIENT)
        artefact = make(config, "erase")
        lines = (artefact.path / "training-001" / "events.jsonl").read_text().splitlines()
        start[reference] = next(row["forget"] for row in map(json.loads, lines) if "forget" in row)
    assert start["previous"] == pytest.approx(2 * 0.6931 / 0.1, rel=1e-3)
    assert abs(start["original"] - start["previous"]) > 1e-2


@pytest.mark.parametrize("term", ["kl", "kl_all"])
def test_adapters_compare_with_the_original_model_as_a_second_one(term: str, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    mode = ModeConfig("sequential", steps=2, reference="original")
    config = experiment(folder, tmp_path, mode, method=replace(GRADIENT, retain=TermConfig(term)))
    unlearn = replace(config.unlearn, reference="second_model")
    config = replace(config, adapter=AdapterConfig(name="lora", dropout=0.0), unlearn=unlearn)
    artefact = make(config, "erase")
    starts = []
    for step in range(2):
        lines = (artefact.path / f"training-00{step}" / "events.jsonl").read_text().splitlines()
        starts.append(next(row["retain"] for row in map(json.loads, lines) if "retain" in row))
    assert starts[0] == pytest.approx(0.0, abs=1e-6)
    assert starts[1] > 1e-5


def test_the_original_weights_are_put_back_and_taken_away_bit_by_bit() -> None:
    loaded, original = tiny_llama(), tiny_llama()
    weights = AppliedPatch(loaded)
    name = "model.layers.1.mlp.down_proj.weight"
    changed = dict(loaded.model.named_parameters())[name].detach() + 1
    weights.set_dense(name, changed)
    tensor = loaded.model.get_parameter(name).data
    with unedited(weights)():
        for (_, mine), (_, first) in zip(
            loaded.model.named_parameters(), original.model.named_parameters(), strict=True
        ):
            assert torch.equal(mine, first)
    assert loaded.model.get_parameter(name).data is tensor or torch.equal(loaded.model.get_parameter(name), changed)
    assert torch.equal(loaded.model.get_parameter(name), changed)


# Step by step


@pytest.fixture(scope="module")
def trajectory(made: tuple[Experiment, Artefact]) -> tuple[dict[str, Any], Artefact]:
    artefact = make(made[0], "trajectory")
    return json.loads((artefact.path / "steps.json").read_text()), artefact


def test_after_each_step_its_request_the_earlier_ones_and_what_is_kept_are_asked(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    steps = study_of(config).steps
    assert set(step_splits(study_of(config), 0)) == {"forget_now", "retain_unseen", "real_authors"}
    last = step_splits(study_of(config), 2)
    assert [f.id for f in last["forget_now"]] == [f.id for f in steps[2].forget]
    assert [f.id for f in last["forget_before"]] == [f.id for f in steps[2].forgotten_before]
    few = replace(config, eval=replace(config.eval, step_rows=2))
    assert {name: len(rows) for name, rows in step_splits(study_of(few), 2).items()} == dict.fromkeys(last, 2)


def test_a_cap_for_another_benchmark_cuts_no_step(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    capped = replace(config, protocol=replace(config.protocol, rows=1, rows_of=["tofu"]))
    assert step_splits(study_of(capped), 2) == step_splits(study_of(config), 2)
    everywhere = replace(config, protocol=replace(config.protocol, rows=1))
    assert set(map(len, step_splits(study_of(everywhere), 2).values())) == {1}


@pytest.mark.slow
def test_the_way_starts_from_what_is_asked_for_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, ModeConfig("sequential", steps=3, leave_out=[0]))
    found = read_json(make(config, "trajectory").path / "steps.json")
    asked = sum(len(step.forget) for step in study_of(config).steps)
    assert asked == 4
    assert found["before"]["forget_so_far.rouge"]["n"] == asked == found["steps"][-1]["measures"]["forget_so_far.rouge"]["n"]


def test_the_last_step_is_not_asked_twice(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    asked = step_requests(study_of(config))
    assert [request == END for request in asked.values()] == [False, False, True]
    assert slug(config, "observe", asked[0].values).endswith("unierase_sequential_step000_seed0")
    for steps, wanted in (("last", [2]), ("none", [])):
        assert list(step_requests(study_of(replace(config, eval=replace(config.eval, steps=steps))))) == wanted
    # Rows that are cut at the end are not those of the last request.
    cut = replace(config, protocol=replace(config.protocol, rows=4))
    assert END not in step_requests(study_of(cut)).values()


@pytest.mark.slow
def test_the_trajectory_has_the_numbers_of_every_step(
    made: tuple[Experiment, Artefact], trajectory: tuple[dict[str, Any], Artefact]
) -> None:
    config, erased = made
    found, _ = trajectory
    assert [(s["step"], s["facts"], s["forgotten_so_far"]) for s in found["steps"]] == [(1, 2, 2), (2, 2, 4), (3, 2, 6)]
    for step in found["steps"]:
        measures = step["measures"]
        first = Patch.load(erased.path, step["step"] - 1).info["first_token_probability"]
        assert measures["forget_now.first_token_unlearn"]["value"] == sum(p > 0.5 for p in first) / len(first)
        assert step["seconds"] > 0
        assert 0 < step["changed_share"] < 1
        now, before = measures["forget_now.rouge"], measures.get("forget_before.rouge", {"value": 0.0, "n": 0})
        mean = (now["value"] * now["n"] + before["value"] * before["n"]) / (now["n"] + before["n"])
        assert measures["forget_so_far.rouge"]["value"] == pytest.approx(mean)
        assert measures["retain_unseen.rouge"]["n"] == 6
        assert measures["all.model_utility"]["value"] is None, "truth ratio and world facts were not asked for"
    assert "forget_before.rouge" not in found["steps"][0]["measures"]
    scored = json.loads((make(config, "score").path / "metrics.json").read_text())
    for end in ("forget", "retain_unseen"):
        mine = found["steps"][-1]["measures"][f"{'forget_so_far' if end == 'forget' else end}.rouge"]["value"]
        assert mine == pytest.approx(scored["states"]["edited"][f"{end}.rouge"]["value"])
    assert found["before"]["forget_so_far.rouge"]["value"] == scored["states"]["base"]["forget.rouge"]["value"]


def test_with_few_rows_a_step_all_requests_so_far_keep_their_weights(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    few = replace(config, eval=replace(config.eval, step_rows=1))
    found = json.loads((make(few, "trajectory").path / "steps.json").read_text())
    measures = found["steps"][2]["measures"]
    now, before = (measures[f"forget_{part}.probability"]["value"] for part in ("now", "before"))
    assert measures["forget_so_far.probability"]["value"] == pytest.approx((2 * now + 4 * before) / 6)
    assert measures["forget_so_far.probability"]["ci95"] is None
    assert found["before"]["retain_unseen.rouge"]["n"] == measures["retain_unseen.rouge"]["n"] == 1


def test_a_report_shows_the_way_as_a_table_and_a_picture(
    made: tuple[Experiment, Artefact], trajectory: tuple[dict[str, Any], Artefact]
) -> None:
    report = make(made[0], "report")
    text = (report.path / "report.md").read_text()
    assert "### Step by step" in text
    assert "![forgetting and retention after each request](trajectory.png)" in text
    assert (report.path / "trajectory.png").stat().st_size > 5000
    table = trajectory_table(read_steps(trajectory[1]))
    assert [row[0] for row in table.rows] == ["0", "1", "2", "3"]
    assert "model\nutility" not in table.columns, "a column without a number is left out"
    assert text.count("The edit, layer by layer") == 1


def test_a_command_shows_the_steps_and_gives_them_as_data(
    made: tuple[Experiment, Artefact], trajectory: tuple[dict[str, Any], Artefact]
) -> None:
    config, _ = made
    found, artefact = trajectory
    store = Store(config.run.outputs)
    for wanted in (artefact, make(config, "report")):
        assert outcome(wanted, store)["steps"] == found
        text = io.StringIO()
        show_outcome(console_on(text, False), wanted, store)
        assert "Step by step" in text.getvalue()
        assert "Forgetting and retention" in text.getvalue()


def test_an_evaluation_asks_what_its_mode_needs(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made

    def asked(experiment: Experiment) -> list[str]:
        return [str(request) for request in asked_by_evaluation(study_of(experiment))]

    batch = replace(config, mode=ModeConfig())
    assert (asked(batch), last_of_evaluation(study_of(batch))) == (["observe base", "observe edited"], "score")
    assert asked(config) == ["observe base", "observe edited", "score", "observe edited 0", "observe edited 1"]
    assert last_of_evaluation(study_of(config)) == "trajectory"
    single = replace(config, mode=ModeConfig("precise"))
    assert (asked(single), last_of_evaluation(study_of(single))) == (["observe_facts"], "precise")


def test_an_evaluation_without_steps_is_that_of_a_batch(folder: Path, tmp_path: Path, made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    quiet = replace(config, eval=replace(config.eval, steps="none"))
    assert not [row for row in Pipeline(quiet, SilentReporter()).plan("report") if row.stage == "trajectory"]


@pytest.mark.slow
def test_a_sequence_of_one_is_a_batch_with_the_same_token(folder: Path, tmp_path: Path) -> None:
    """The same edit of all facts at once, so that only the order of requests differs between the modes."""
    config = experiment(folder, tmp_path, ModeConfig("sequential", steps=1))
    batch = replace(config, mode=ModeConfig(), token=replace(config.token, questions="outside"))
    first, second = (Patch.load(make(c, "erase").path, 0) for c in (config, batch))
    for layer, factor in first.factors.items():
        assert torch.equal(factor.left, second.factors[layer].left)
        assert torch.equal(factor.right, second.factors[layer].right)
    tokens = [TokenRows.load(make(c, "train_token").path).rows_in for c in (config, batch)]
    assert torch.equal(*tokens)


