"""Parity with the reference's edit on tiny models (golden/edit: cases a, a_tied, d, e, f, g), by the code that users run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import Fact, SilentReporter, Step
from unierase_cli.editing.corpus import moment_sources
from unierase_cli.editing.keys import look_at_keys
from unierase_cli.editing.moments import FILE, StoredMoments, decompose, second_moments
from unierase_cli.editing.nullspace import choose_preservation
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.spans import make_requests
from unierase_cli.editing.state import EditState
from unierase_cli.editing.templates import Templates
from unierase_cli.editing.values import Values, find_values
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.methods import unierase
from unierase_cli.methods.base import EraseContext
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.models.vocabulary import get_rows
from unierase_cli.store.tensors import save_tensors

# Tolerances of the fixtures' README, relative (Frobenius).
STEP, END_TO_END, LOG_PROB = 2e-5, 1e-4, 1e-4
VALUES = ValueConfig(
    steps=10,
    lr=0.1,
    weight_decay=0.5,
    clamp=0.75,
    kl_factor=0.0625,
    stop_loss=0.05,
    runner_up=0.0,
    lr_kind="absolute",
    stop_kind="total",
)


def difference(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


class Golden:
    """One golden model with its inputs, moments and a fresh copy of the model per case."""

    def __init__(self, folder: Path, model: str, work: Path) -> None:
        self.folder, self.model, self.work = folder, model, work
        self.inputs = json.loads((folder / "inputs.json").read_text())
        self.facts = [Fact(f"s{s['line']}", s["question"], s["answer"], s["subject"]) for s in self.inputs["samples"]]
        self.retain = [Fact(f"r{i}", q, "") for i, q in enumerate(self.inputs["kl_questions"])]
        corpus = work / f"{model}.jsonl"
        corpus.write_text("".join(json.dumps({"text": t}) + "\n" for t in self.inputs["cov_texts"]))
        self.moments = MomentsConfig(corpus=str(corpus), max_tokens=4096)

    def load(self) -> LoadedModel:
        folder = self.folder / "models" / self.model
        return load_model(ModelConfig(path=str(folder), prompt="chat", attention="eager"), RunConfig(device="cpu"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(str(self.folder / f"{name}.safetensors"))

    def record(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{name}.json").read_text())

    def second_moments(self, layers: list[int]) -> dict[int, Tensor]:
        loaded = self.load()
        sources = moment_sources(loaded.prompts, self.moments, [], 0, lambda prompts: [])
        return second_moments(loaded, layers, sources, batch_tokens=4096, reporter=SilentReporter())

    def stored(self, layers: list[int]) -> StoredMoments:
        folder = self.work / self.model
        if not (folder / FILE).exists():
            folder.mkdir(exist_ok=True)
            tensors = {}
            for layer, total in self.second_moments(layers).items():
                moment = decompose(total)
                tensors[f"layer.{layer}.eigenvalues"] = moment.eigenvalues
                tensors[f"layer.{layer}.eigenvectors"] = moment.eigenvectors
            save_tensors(folder / FILE, tensors)
        return StoredMoments(folder, 1)

    def context(self, loaded: LoadedModel, edit: EditConfig, layers: list[int]) -> EraseContext:
        stored, token = self.stored(layers), self.inputs["unlearn_id"]
        rows = TokenRows([self.inputs["unlearn_token"]], [token], *get_rows(loaded, [token]))
        return EraseContext(
            Experiment(edit=edit),
            AppliedPatch(loaded),
            layers,
            "subject_last",
            lambda layer, config: stored.preservation(layer, config, loaded.device),
            SilentReporter(),
            tokens=rows,
        )

    def first_log_probs(self, loaded: LoadedModel, facts: list[Fact]) -> Tensor:
        """Log-probabilities at the first answer position, [n, vocabulary], float64 from float32 logits."""
        rows = []
        for fact in facts:
            ids = torch.tensor([loaded.prompts.prompt(fact.question).ids])
            with torch.no_grad():
                rows.append(loaded.model(input_ids=ids).logits[0, -1].double().log_softmax(-1))
        return torch.stack(rows)


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(shared / "golden" / "edit", "tiny-llama", tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden_tied(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(shared / "golden" / "edit", "tiny-llama-tied", tmp_path_factory.mktemp("golden-tied"))


def edit_config(record: dict[str, Any], **changes: Any) -> EditConfig:
    parameters = record["hparams"]
    return EditConfig(
        name="reference",
        values=VALUES,
        preserve="null_space",
        threshold=parameters["nullspace_threshold"],
        threshold_kind="absolute",
        lambda_=float(parameters["L2"]),
        lambda_kind="absolute",
        **changes,
    )


def erase(golden: Golden, name: str, facts: list[Fact], *, templates: Templates | None = None, **changes: Any) -> tuple:
    """Edit ``facts`` as case ``name`` did; returns the edited model, the unedited one's answers, and the patch."""
    record = golden.record(name)
    loaded = golden.load()
    before = golden.first_log_probs(loaded, golden.facts), golden.first_log_probs(loaded, golden.retain)
    context = golden.context(loaded, edit_config(record, **changes), record["hparams"]["layers"])
    patch, _ = unierase.erase(loaded, Step(0, tuple(facts), ()), EditState(templates=templates), context)
    return loaded, before, patch, record["scalars"]


def check_scalars(golden: Golden, loaded: LoadedModel, before: tuple[Tensor, Tensor], scalars: dict[str, Any]) -> None:
    token = golden.inputs["unlearn_id"]
    forget, retain = golden.first_log_probs(loaded, golden.facts), golden.first_log_probs(loaded, golden.retain)
    for found, wanted in ((before, scalars["before"]), ((forget, retain), scalars["after"])):
        assert found[0][:, token].tolist() == pytest.approx(wanted["logp_unlearn"], abs=LOG_PROB)
        assert float(found[1][:, token].mean()) == pytest.approx(wanted["logp_unlearn_retain_mean"], abs=LOG_PROB)
        ranks = (found[0] > found[0][:, token, None]).sum(1).tolist()
        assert ranks == wanted["rank_unlearn"]
    divergence = (before[1].exp() * (before[1] - retain)).sum(1).mean()
    assert float(divergence) == pytest.approx(scalars["mean_kl_retain"], rel=LOG_PROB)


def total_changes(patch: Patch) -> dict[int, Tensor]:
    return {layer: factor.dense() for layer, factor in patch.factors.items()}


def test_golden_prompts_and_key_positions(golden: Golden) -> None:
    loaded = golden.load()
    targets = {f.id: [golden.inputs["unlearn_id"]] for f in golden.facts}
    for request, sample in zip(
        make_requests(loaded.prompts, golden.facts, targets, [], "subject_last"), golden.inputs["samples"], strict=True
    ):
        assert request.prompts[0].ids == sample["input_ids"]
        assert request.prompts[0].key == sample["lookup_idx"]
        assert request.drift is not None
        assert request.drift.ids == sample["kl_input_ids"][: sample["kl_lookup_idx"] + 1]


@pytest.mark.parametrize("model", ["golden", "golden_tied"])
def test_golden_second_moments_and_projectors(model: str, request: pytest.FixtureRequest) -> None:
    golden: Golden = request.getfixturevalue(model)
    tied = model == "golden_tied"
    reference = golden.tensors("tied_covariance" if tied else "covariance_projection")
    layers = sorted(int(name[-1]) for name in reference if name.startswith("C0"))
    threshold = golden.record("a_tied_alphaedit_batch12" if tied else "a_alphaedit_batch12")["hparams"][
        "nullspace_threshold"
    ]
    config = EditConfig(preserve="null_space", threshold=threshold, threshold_kind="absolute")
    for layer, found in golden.second_moments(layers).items():
        assert difference(found, reference[f"C0.layer{layer}"]) < STEP
        if f"P.layer{layer}" in reference:
            moment = decompose(found)
            preservation = choose_preservation(moment.eigenvalues, lambda a, b, m=moment: m.eigenvectors[a:b], config)
            assert difference(preservation.apply(torch.eye(found.shape[0])), reference[f"P.layer{layer}"]) < STEP


def test_golden_keys_of_the_unedited_model(golden: Golden) -> None:
    loaded, reference = golden.load(), golden.tensors("pre_edit")
    requests = make_requests(loaded.prompts, golden.facts, {f.id: [599] for f in golden.facts}, [], "subject_last")
    seen = look_at_keys(
        loaded.architecture,
        [r.prompts[0] for r in requests],
        keys_of=[2, 3, 4],
        outputs_of=[4],
        pad_id=0,
        batch_tokens=300,
    )
    for layer in (2, 3, 4):
        assert difference(seen.keys[layer].T, reference[f"K.layer{layer}"]) < STEP
    assert difference(seen.outputs[4].T, reference["h_zlayer4"]) < STEP


@pytest.mark.parametrize("case", ["clamp", "default_25_steps", "early_stop"])
def test_golden_g_values_with_clamp_and_early_stop(golden: Golden, case: str) -> None:
    record = golden.record("g_compute_z_branches")[case]
    parameters = record["hparams"]
    config = ValueConfig(
        steps=parameters["v_num_grad_steps"],
        lr=parameters["v_lr"],
        weight_decay=parameters["v_weight_decay"],
        clamp=parameters["clamp_norm_factor"],
        kl_factor=parameters["kl_factor"],
        runner_up=0.0,
        stop_loss=0.05,
        stop_kind="total",
        lr_kind="absolute",
    )
    facts, style = golden.facts, None
    if case == "early_stop":
        facts = [Fact(f.id, f"Tell me about {f.subject}", "", f.subject) for f in golden.facts]
        style = "raw"
    loaded = golden.load()
    requests = make_requests(loaded.prompts, facts, {f.id: [599] for f in facts}, [], "subject_last", style=style)
    found = find_values(
        loaded.architecture, requests, config, 4, pad_id=loaded.prompts.pad_id, reporter=SilentReporter()
    )
    assert difference(found.z.T, golden.tensors("g_compute_z_branches")[f"z_{case}"]) < STEP
    assert found.looks.tolist() == record["iterations_evaluated"]
    assert found.loss.tolist() == pytest.approx(record["last_loss"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["golden", "golden_tied"])
def test_golden_a_joint_edit_of_twelve_facts(
    model: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden: Golden = request.getfixturevalue(model)
    name = "a_alphaedit_batch12" if model == "golden" else "a_tied_alphaedit_batch12"
    seen = watch(monkeypatch)
    loaded, before, patch, scalars = erase(golden, name, golden.facts)
    reference = golden.tensors(name)
    assert difference(seen["z"][0], reference["step00.z"]) < END_TO_END
    for position, (layer, change) in enumerate(total_changes(patch).items()):
        assert difference(seen["keys"][position].T, reference[f"step00.K_used.layer{layer}"]) < END_TO_END
        assert difference(change, reference[f"step00.delta_W.layer{layer}"]) < END_TO_END
        assert float(change.norm()) == pytest.approx(scalars["delta_fro"][position], rel=END_TO_END)
    check_scalars(golden, loaded, before, scalars)


def watch(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor]]:
    """Record every z and every key matrix that an edit works with."""
    from unierase_cli.editing import checkpoints, edit

    seen: dict[str, list[Tensor]] = {"z": [], "keys": []}

    def values(*arguments: Any, **keywords: Any) -> Values:
        found = find_values(*arguments, **keywords)
        seen["z"].append(found.z.T)
        return found

    solve = edit.solve

    def solving(keys: Tensor, *arguments: Any, **keywords: Any) -> Any:
        seen["keys"].append(keys)
        return solve(keys, *arguments, **keywords)

    monkeypatch.setattr(checkpoints, "find_values", values)
    monkeypatch.setattr(edit, "solve", solving)
    return seen


@pytest.mark.slow
def test_golden_d_one_fact_after_another(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch(monkeypatch)
    loaded, before, patch, scalars = erase(golden, "d_alphaedit_sequential_bs1", golden.facts, one_by_one=True)
    reference = golden.tensors("d_alphaedit_sequential_bs1")
    for step, z in enumerate(seen["z"]):
        assert difference(z, reference[f"step{step:02d}.z"]) < END_TO_END
    for position, layer in enumerate((2, 3, 4)):
        factor = patch.factors[layer]
        for step in (0, 11):
            change = factor.left[:, step : step + 1] @ factor.right[:, step : step + 1].T
            assert difference(change, reference[f"step{step:02d}.delta_W.layer{layer}"]) < END_TO_END
            keys = seen["keys"][3 * step + position]
            assert difference(keys.T, reference[f"step{step:02d}.K_used.layer{layer}"]) < END_TO_END
        assert float(factor.dense().norm()) == pytest.approx(scalars["delta_fro"][position], rel=END_TO_END)
        if f"total_delta_W.layer{layer}" in reference:
            assert difference(factor.dense(), reference[f"total_delta_W.layer{layer}"]) < END_TO_END
    check_scalars(golden, loaded, before, scalars)


@pytest.mark.slow
def test_golden_e_context_templates(golden: Golden) -> None:
    name = "e_alphaedit_batch4_context_templates"
    prefixes = tuple(t.removesuffix(". {}") for t in golden.inputs["fixed_context_templates_case_e"][1])
    loaded, before, patch, scalars = erase(golden, name, golden.facts[:4], templates=Templates(prefixes))
    reference = golden.tensors(name)
    for layer, change in total_changes(patch).items():
        assert difference(change, reference[f"step00.delta_W.layer{layer}"]) < END_TO_END
    check_scalars(golden, loaded, before, scalars)


@pytest.mark.slow
def test_golden_f_ten_times_the_ridge(golden: Golden) -> None:
    loaded, before, patch, scalars = erase(golden, "f_alphaedit_batch12_L2_10", golden.facts)
    norms = [float(change.norm()) for change in total_changes(patch).values()]
    assert norms == pytest.approx(scalars["delta_fro"], rel=END_TO_END)
    check_scalars(golden, loaded, before, scalars)
