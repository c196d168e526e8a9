"""Parity of batches, pairing, losses and gradients with closer-look's and open-unlearning's trainers on tiny models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.methods.terms.base import (
    FORGET,
    FORGET_REFUSAL,
    RETAIN,
    RETAIN_REFUSAL,
    complete_settings,
    load_term,
    term_loss,
)
from unierase_cli.models.load import LoadedModel, wrap_model
from unierase_cli.training.unlearning.pairing import closer_look_pair
from unierase_cli.training.unlearning.rows import IGNORED, Layout, Row, RowBatch, collate, make_row
from unierase_cli.training.unlearning.views import FrozenView, View

NAMES = {FORGET: "forget", RETAIN: "retain", FORGET_REFUSAL: "forget_idk", RETAIN_REFUSAL: "retain_idk"}
CLOSER = Layout(pad_to=200, hide_end=True)
OPEN = Layout(hide_end=True)
BLOCKS = {"cur_vs_ref": "model_cur", "ref_vs_ref": "model_ref", "random_vs_ref": "model_random"}
# Names in closer-look's loss types.
FORGET_TERMS = {"GA": "ga", "NPO": "npo", "DPO": "dpo", "ME": "me", "IDK": "idk"}
RETAIN_TERMS = {"GD": "gd", "KL": "kl_all", "AP": "ap"}


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "golden" / "metrics"


@cache
def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@cache
def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@cache
def load(folder: Path, name: str, attention: str = "eager") -> LoadedModel:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(folder / name, dtype="float32", attn_implementation=attention)
    return wrap_model(model, tokenizer, config=ModelConfig(prompt="plain"))


def encode(folder: Path, question: str, answer: str, max_length: int = 0) -> Row:
    """A row in the reference's template, ``<s>[INST] question [/INST]answer</s>``."""
    tokenizer = load(folder, "model_ref").tokenizer
    prompt = tokenizer(f"[INST] {question} [/INST]")["input_ids"]
    whole = tokenizer(f"[INST] {question} [/INST]{answer}")["input_ids"]
    assert whole[: len(prompt)] == prompt
    return make_row(prompt, [*whole[len(prompt) :], tokenizer.eos_token_id], max_length)


@cache
def rows(folder: Path) -> dict[str, list[Row]]:
    """The four kinds of rows of forget facts 0 to 3, partners by the reference's rule."""
    forget, retain = lines(folder / "data" / "forget.json"), lines(folder / "data" / "retain.json")
    refusals = [row["text"] for row in lines(folder.parents[1] / "data" / "idk.jsonl")]
    found: dict[str, list[Row]] = {kind: [] for kind in NAMES}
    for index in range(4):
        r, k = closer_look_pair(index, len(retain), len(refusals))
        for kind, fact, answer in (
            (FORGET, forget[index], forget[index]["answer"]),
            (RETAIN, retain[r], retain[r]["answer"]),
            (FORGET_REFUSAL, forget[index], refusals[k]),
            (RETAIN_REFUSAL, retain[r], refusals[k]),
        ):
            found[kind].append(encode(folder, fact["question"], answer))
    return found


@dataclass
class Bench:
    """A model and the reference on one batch of every kind."""

    loaded: LoadedModel
    before: LoadedModel
    batches: Mapping[str, RowBatch]
    blocks: tuple[int, ...] = ()
    references: dict[str, FrozenView] = field(default_factory=dict)

    def views(self) -> dict[str, View]:
        """New views each time: a graph serves one backward pass."""
        for kind, batch in self.batches.items():
            if kind not in self.references:
                self.references[kind] = FrozenView(self.before, batch, captured=self.blocks)
        return {kind: View(self.loaded, b, self.references[kind], self.blocks) for kind, b in self.batches.items()}

    def loss(self, views: Mapping[str, View], name: str, **settings: Any) -> Tensor:
        term = load_term(name)
        return term_loss(term, views, complete_settings(term, settings, name))

    def value(self, name: str, **settings: Any) -> float:
        with torch.no_grad():
            return self.loss(self.views(), name, **settings).item()

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        names, parameters = zip(*self.loaded.model.named_parameters(), strict=True)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return {name: g for name, g in zip(names, found, strict=True) if g is not None}


@cache
def bench(folder: Path, block: str, layout: Layout, everywhere: bool = False, attention: str = "eager") -> Bench:
    """``everywhere``: every position of the forget rows is labelled (the reference's mask=false)."""
    loaded = load(folder, BLOCKS[block], attention)
    loaded.model.requires_grad_(True)
    pad = loaded.prompts.pad_id
    batches = {}
    for kind, found in rows(folder).items():
        own = Layout(layout.pad_to, layout.hide_end, label_all=everywhere and kind == FORGET)
        batches[kind] = collate(found, pad, "cpu", own)
    return Bench(loaded, load(folder, "model_ref", attention), batches, blocks=(2,))


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-4, abs=1e-6)


def norm(gradients: Mapping[str, Tensor]) -> float:
    return torch.stack([g.double().square().sum() for g in gradients.values()]).sum().sqrt().item()


def test_golden_pairing_is_a_fixed_function_of_the_index(folder: Path) -> None:
    table = read(folder / "closer_pairing.json")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for size, expected in table["by_n_retain"].items():
        assert [[i, *closer_look_pair(i, int(size), table["n_idk_lines"])] for i, _, _ in expected] == expected
    assert torch.equal(torch.get_rng_state(), before)


def test_golden_closer_look_batches(folder: Path) -> None:
    for kind, name in NAMES.items():
        batch = collate(rows(folder)[kind], 2, "cpu", CLOSER)
        for number, item in enumerate(read(folder / "closer_batch.json")["masked"][name]):
            size, length = item["n_real"], item["padded_to"]
            assert batch.ids[number].tolist() == item["input_ids"] + [2] * (length - size)
            assert batch.labels[number].tolist() == item["labels"] + [IGNORED] * (length - size - 1)
            assert batch.mask[number].tolist() == [1] * size + [0] * (length - size)


def test_golden_closer_look_forget_rows_without_mask_label_every_position(folder: Path) -> None:
    masked = collate(rows(folder)[FORGET], 2, "cpu", CLOSER)
    batch = collate(rows(folder)[FORGET], 2, "cpu", Layout(200, hide_end=True, label_all=True))
    assert torch.equal(batch.labels, batch.ids)
    assert torch.equal(batch.ids, masked.ids)
    assert torch.equal(batch.mask, masked.mask)


def test_golden_closer_look_rows_that_are_cut_off_have_no_end_label(folder: Path) -> None:
    (expected,) = read(folder / "closer_truncation.json").values()
    fact = lines(folder / "data" / "forget.json")[0]
    batch = collate([encode(folder, fact["question"], fact["answer"], 96)], 2, "cpu", Layout(96, hide_end=True))
    assert batch.ids.tolist() == expected["input_ids"]
    assert batch.labels.tolist() == expected["labels"]
    assert batch.mask.tolist() == expected["attention_mask"]


def test_golden_open_unlearning_batches(folder: Path) -> None:
    for kind in (FORGET, RETAIN, FORGET_REFUSAL):
        expected = read(folder / "ou_batch.json")[NAMES[kind]]
        batch = collate(rows(folder)[kind], 2, "cpu", OPEN)
        assert batch.ids.tolist() == expected["input_ids"]
        assert batch.labels.tolist() == expected["labels"]
        assert batch.mask.tolist() == expected["attention_mask"]


@pytest.mark.parametrize("block", BLOCKS)
def test_golden_row_sums_match_closer_look(folder: Path, block: str) -> None:
    found = bench(folder, block, CLOSER)
    for kind, name in NAMES.items():
        expected = read(folder / "closer_losses.json")[block]["components"][name]
        with torch.no_grad():
            view = found.views()[kind]
            assert view.row_sums.tolist() == near(expected["sum_nll"])
        assert view.reference.row_sums.tolist() == near(expected["ref_sum_nll"])
        assert torch.bincount(view.batch.places[0]).tolist() == expected["n_label_tokens"]
        assert view.nll.mean().item() == near(expected["model_loss_mean_over_batch_tokens"])


@pytest.mark.parametrize("variant", ["masked", "unmasked_forget"])
@pytest.mark.parametrize("block", BLOCKS)
def test_golden_losses_and_gradients_match_closer_look(folder: Path, block: str, variant: str) -> None:
    found = bench(folder, block, CLOSER, everywhere=variant == "unmasked_forget")
    for expected in read(folder / "closer_losses.json")[block][variant]:
        forget, retain = expected["loss_type"].split("+")
        beta = {"beta": expected["beta"]}
        views = found.views()
        forget_loss = found.loss(views, FORGET_TERMS[forget], **(beta if forget in ("NPO", "DPO") else {}))
        retain_loss = found.loss(views, RETAIN_TERMS[retain], **(beta if retain == "AP" else {}))
        total = expected["forget_coeff"] * forget_loss + expected["regularization_coeff"] * retain_loss
        gradients = found.gradients(total)
        entries = gradients["model.layers.1.mlp.down_proj.weight"][0, :4].tolist()
        assert forget_loss.item() == near(expected["forget_loss"]), expected["loss_type"]
        assert retain_loss.item() == near(expected["regularization_loss"]), expected["loss_type"]
        assert total.item() == near(expected["total"]), expected["loss_type"]
        assert norm(gradients) == near(expected["grad_l2_norm"]), expected["loss_type"]
        # Single entries are differences of large terms: to 1e-4 of the gradient's own scale.
        scale = gradients["model.layers.1.mlp.down_proj.weight"].abs().max().item()
        wanted = expected["grad_layers.1.mlp.down_proj.weight[0,0:4]"]
        assert entries == pytest.approx(wanted, rel=1e-4, abs=1e-4 * scale), expected["loss_type"]


@pytest.mark.parametrize("length", [200, 256, 500])
@pytest.mark.parametrize("block", BLOCKS)
def test_golden_losses_over_every_position_depend_on_the_padded_length(folder: Path, block: str, length: int) -> None:
    layout = Layout(length, hide_end=True)
    masked, everywhere = bench(folder, block, layout), bench(folder, block, layout, everywhere=True)
    assert read(folder / "closer_losses.json")[block]["padding_dependence"][str(length)] == near(
        {
            "kl_retain": masked.value("kl_all"),
            "me_masked": masked.value("me"),
            "me_unmasked": everywhere.value("me"),
            "ga_masked": masked.value("ga"),
            "ga_unmasked": everywhere.value("ga"),
        }
    )


@pytest.mark.parametrize("block", BLOCKS)
def test_golden_losses_with_sdpa_match_closer_look(folder: Path, block: str) -> None:
    found = bench(folder, block, CLOSER, attention="sdpa")
    for name, expected in read(folder / "closer_losses.json")[block]["sdpa_check"].items():
        forget, retain = name.split("+")
        assert [found.value(FORGET_TERMS[forget]), found.value(RETAIN_TERMS[retain])] == near(expected), name


# open-unlearning's name -> (factor, term, settings) of every summand
SUMMANDS: dict[str, list[tuple[float, str, dict[str, Any]]]] = {
    "forget_only/GradAscent": [(1, "ga", {})],
    "forget_only/NPO_beta0.1": [(1, "npo", {"beta": 0.1})],
    "forget_only/DPO_beta0.1": [(1, "dpo", {"beta": 0.1})],
    "forget_only/WGA_beta1": [(1, "wga", {"beta": 1})],
    "forget_only/WGA_beta5": [(1, "wga", {"beta": 5})],
    "forget_only/SatImp_5_1": [(1, "satimp", {"beta1": 5, "beta2": 1})],
    "forget_only/SatImp_6_1": [(1, "satimp", {"beta1": 6, "beta2": 1})],
    "forget_only/CEU_ignore0": [(1, "ceu", {"skip": 0})],
    "forget_only/CEU_ignore1": [(1, "ceu", {"skip": 1})],
    "retain/NLL": [(1, "gd", {})],
    "retain/KL": [(1, "kl_all", {})],
    "GradDiff_NLL": [(1, "ga", {}), (1, "gd", {})],
    "GradDiff_KL": [(1, "ga", {}), (1, "kl_all", {})],
    "NPO_NLL": [(1, "npo", {}), (1, "gd", {})],
    "NPO_KL": [(1, "npo", {}), (1, "kl_all", {})],
    "DPO_NLL": [(1, "dpo", {}), (1, "gd", {})],
    "DPO_KL": [(1, "dpo", {}), (1, "kl_all", {})],
    "SimNPO_default(beta4.5,delta0,gamma0.125,alpha1)": [(0.125, "simnpo", {}), (1, "gd", {})],
    "SimNPO(beta2.5,delta1,gamma1,alpha1)": [(1, "simnpo", {"beta": 2.5, "delta": 1}), (1, "gd", {})],
    "WGA_default": [(1, "wga", {}), (1, "gd", {})],
    "SatImp_default(beta1 5,beta2 1,gamma0.1,alpha1)": [(0.1, "satimp", {}), (1, "gd", {})],
    "forget_only/UNDIAL_beta3": [(1, "undial", {"beta": 3, "compat": True})],
    "forget_only/UNDIAL_beta10": [(1, "undial", {"beta": 10, "compat": True})],
    "forget_only/UNDIAL_beta30": [(1, "undial", {"beta": 30, "compat": True})],
    "RMU_layer2_EMBED_DIFF": [
        (1, "rmu", {"layer": 2, "compat": True}),
        (1, "embed_diff", {"layer": 2, "compat": True}),
    ],
    "RMU_layer2_NLL": [(1, "rmu", {"layer": 2, "compat": True}), (1, "gd", {})],
}


@pytest.mark.parametrize("name", SUMMANDS)
@pytest.mark.parametrize("block", ["cur_vs_ref", "ref_vs_ref"])
def test_golden_losses_and_gradients_match_open_unlearning(folder: Path, block: str, name: str) -> None:
    expected, found = read(folder / "ou_losses.json")[block][name], bench(folder, block, OPEN)
    vector = read(folder / "ou_rmu_control_vector.json")["control_vector"]
    views, total = found.views(), torch.zeros(())
    for factor, term, settings in SUMMANDS[name]:
        total = total + factor * found.loss(views, term, **settings, **({"vector": vector} if term == "rmu" else {}))
    assert total.item() == near(expected["loss"])
    assert norm(found.gradients(total)) == near(expected["grad_l2_norm"])


@pytest.mark.parametrize("block", ["cur_vs_ref", "ref_vs_ref"])
def test_golden_primal_dual_loss_and_its_dual_step_match_open_unlearning(folder: Path, block: str) -> None:
    expected, found = read(folder / "ou_losses.json")[block], bench(folder, block, OPEN)
    views = found.views()
    forget, retain = found.loss(views, "pdu", compat=True), found.loss(views, "gd")
    log = expected["PDU_log"][1]
    assert [forget.item(), retain.item()] == near([log["forget_loss"], log["retain_loss"]])
    # The reference subtracts the bound before it weighs, which leaves the gradient as it is.
    total = forget + retain - 0.3
    assert total.item() == near(expected["PDU_eps0.3_step0"]["loss"])
    assert norm(found.gradients(total)) == near(expected["PDU_eps0.3_step0"]["grad_l2_norm"])
    term = load_term("pdu")
    settings = complete_settings(term, {"eps": 0.3, "step": 1.0, "warmup_epochs": 0}, "pdu")
    state = term.after_step({"forget": 1.0, "retain": 1.0}, {"retain": retain.item()}, 0, settings)  # type: ignore[attr-defined]
    assert [state["forget"], state["retain"]] == near(expected["PDU_preferences_after"])


def test_golden_rmu_without_the_references_broadcast_is_the_mean_of_row_means(folder: Path) -> None:
    found = bench(folder, "cur_vs_ref", OPEN)
    vector = read(folder / "ou_rmu_control_vector.json")["control_vector"]
    assert found.value("rmu", layer=2, vector=vector) + found.value("embed_diff", layer=2) == pytest.approx(
        9.000, abs=5e-4
    )
