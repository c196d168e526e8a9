"""Loss terms on tiny random models, each against its formula written out slowly, and the contract that all of them keep."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.helpers.slow_terms import (
    LENGTH,
    SETTINGS,
    SLOW,
    Slow,
    assert_same,
    cross_entropy,
    gradient,
    loss,
    make_rows,
    models,
    near,
    settings_of,
    slow_distance,
    slow_rows,
    uneven,
    views,
)  # fmt: skip
from unierase_cli.config.sections.model import TermConfig
from unierase_cli.contracts import UserError
from unierase_cli.methods.gradient_terms import bind_terms, kinds_of, reference_needs, with_blocks
from unierase_cli.methods.terms import pdu, rmu
from unierase_cli.methods.terms.base import (
    FORGET,
    KINDS,
    RETAIN,
    UNLEARNED,
    complete_settings,
    load_term,
    reference_of,
    rows_of,
    term_loss,
    term_names,
    unit_of,
    unit_weights,
)
from unierase_cli.training.unlearning.rows import Row
from unierase_cli.training.unlearning.views import FrozenView, Reference, View

TERMS = [
    "altpo", "ap", "bounded", "ceu", "dpo", "embed_diff", "ga", "gd", "idk", "jensun", "js", "kl", "kl_all", "learn", "me", "npo",
    "pdu", "rmu", "satimp", "simnpo", "undial", "wga",
]  # fmt: skip


def test_every_term_of_the_folder_is_tested_here() -> None:
    assert [name for name in term_names() if load_term(name).__name__.startswith("unierase_cli.")] == TERMS  # type: ignore[attr-defined]


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", SLOW)
def test_value_is_the_formula_summed_token_by_token(name: str, weighted: bool) -> None:
    rows = make_rows(uneven if weighted else None)
    with torch.no_grad():
        found = loss(name, views(rows)).item()
    assert found == near(SLOW[name]({kind: slow_rows(own) for kind, own in rows.items()}, **SETTINGS.get(name, {})))


def test_kl_all_is_the_mean_over_every_position_of_the_padded_batch() -> None:
    seen = views(make_rows())
    batch = seen[RETAIN].batch
    with torch.no_grad():
        now, before = (m.model(batch.ids, attention_mask=batch.mask).logits.log_softmax(-1).double() for m in models())
        found = loss("kl_all", seen).item()
    total = 0.0
    for row in range(len(batch)):
        for t in range(LENGTH):
            total += sum((before[row, t].exp() * (before[row, t] - now[row, t])).tolist())
    assert found == near(total / (len(batch) * LENGTH))


def test_all_weights_one_are_no_weights() -> None:
    for name in TERMS:
        plain, ones = loss(name, views(make_rows())), loss(name, views(make_rows(lambda n: [1.0] * n)))
        assert plain.item() == ones.item(), name
        assert torch.equal(gradient(plain), gradient(ones)), name


# The units of kl_all are positions: token weights do not reach them.
@pytest.mark.parametrize("name", [name for name in TERMS if name != "kl_all"])
def test_a_token_of_weight_zero_is_as_if_it_were_not_there(name: str) -> None:
    def without_last(n: int) -> list[float]:
        return [*uneven(n)[:-1], 0.0]

    weighted = make_rows(without_last)
    shorter = {
        kind: [Row(r.ids[:-1], r.answer_start, r.ends, (r.weights or ())[:-1]) for r in own]
        for kind, own in weighted.items()
    }
    zero, gone = loss(name, views(weighted)), loss(name, views(shorter))
    assert zero.item() == near(gone.item())
    assert_same(gradient(zero), gradient(gone))


@pytest.mark.parametrize("name", [name for name in TERMS if name != "kl_all"])
def test_a_row_without_any_weight_leaves_no_gradient(name: str) -> None:
    rows = make_rows(lambda n: [0.0] * n)
    total = gradient(loss(name, views(rows), total=3.0))
    assert torch.equal(total, torch.zeros_like(total))


@pytest.mark.parametrize("name", TERMS)
def test_micro_batches_with_the_steps_total_add_up_to_the_batch(name: str) -> None:
    rows = make_rows(uneven, count=4)
    whole = views(rows)
    term = load_term(name)
    total = unit_weights(term, whole[term.ROWS[0]].batch, settings_of(name)).sum().item()
    parts = [views({kind: own[a:b] for kind, own in rows.items()}) for a, b in ((0, 1), (1, 4))]
    one, summed = loss(name, whole), sum((loss(name, part, total) for part in parts), start=torch.zeros(()))
    assert summed.item() == near(one.item())
    assert_same(gradient(summed), gradient(one))


class Declared:
    """A reference that has only what a term declares."""

    def __init__(self, reference: Reference, allowed: str) -> None:
        self._reference, self._allowed = reference, allowed

    def __getattr__(self, name: str) -> Any:
        assert {"block_output": "blocks"}.get(name, name) == self._allowed, f"{name} was not declared"
        return getattr(self._reference, name)


@pytest.mark.parametrize(
    ("name", "compat"),
    [*((name, False) for name in TERMS), *((name, True) for name in ("embed_diff", "pdu", "rmu", "undial"))],
)
def test_a_term_reads_only_the_rows_blocks_and_references_that_it_declares(name: str, compat: bool) -> None:
    term = load_term(name)
    settings = settings_of(name, **({"compat": True} if compat else {}))
    needs = reference_of(term, settings)
    blocks = term.blocks(settings) if hasattr(term, "blocks") else ()
    seen = {}
    for kind, view in views(make_rows()).items():
        reference = Declared(view.reference, needs[kind]) if kind in needs else None
        if kind in rows_of(term, settings):
            seen[kind] = View(view.loaded, view.batch, reference, captured=blocks)  # type: ignore[arg-type]
    values = term.values(seen, settings)
    batch = seen[term.ROWS[0]].batch
    assert (
        len(values)
        == {"token": len(batch.targets), "row": len(batch), "position": batch.ids.numel()}[unit_of(term, settings)]
    )
    assert values.shape == unit_weights(term, batch, settings).shape
    assert values.dtype == torch.float32
    assert set(needs) <= set(rows_of(term, settings)) <= set(KINDS)


def test_two_ln_two_over_beta_is_where_preference_losses_start() -> None:
    current, _ = models()
    seen = views(make_rows())
    same = {kind: View(current, view.batch, FrozenView(current, view.batch)) for kind, view in seen.items()}
    for name in ("npo", "dpo", "altpo"):
        value = term_loss(load_term(name), same, complete_settings(load_term(name), {}, name))
        assert value.item() == near(2 * math.log(2) / 0.1)


def test_factors_of_wga_and_satimp_carry_no_gradient() -> None:
    rows = make_rows()
    for name, factor in (("wga", lambda p: p**2), ("satimp", lambda p: p**2 * (1 - p) ** 0.5)):
        nll = views(rows)[FORGET].nll
        expected = -(factor(torch.exp(-nll.detach())) * nll).mean()
        assert_same(gradient(loss(name, views(rows))), gradient(expected))


def test_undials_compat_form_penalises_entry_v_minus_100_where_there_is_no_label() -> None:
    seen = views(make_rows())
    batch, beta = seen[FORGET].batch, 3.0
    with torch.no_grad():
        now, before = (m.model(batch.ids, attention_mask=batch.mask).logits for m in models())
        found = loss("undial", seen, compat=True).item()
    values = []
    for row in range(len(batch)):
        for t in range(LENGTH - 1):
            lowered = before[row, t].clone()
            lowered[int(batch.labels[row, t + 1])] -= beta
            values.append(cross_entropy(lowered.softmax(-1).tolist(), now[row, t]))
    assert found == near(sum(values) / len(values))


def test_pdus_compat_form_looks_at_the_labels_own_positions() -> None:
    rows = make_rows()
    with torch.no_grad():
        found = loss("pdu", views(rows), compat=True).item()
        values = []
        for row in rows[FORGET]:
            logits = models()[0].model(torch.tensor([row.ids])).logits[0, row.answer_start :]
            values += [(max(z) - sum(z) / len(z)) ** 2 for z in logits.tolist()]
    assert found == near(sum(values) / len(values))


def test_rmus_compat_form_multiplies_by_the_batchs_mean_of_inverse_lengths() -> None:
    rows = make_rows()
    slow = slow_rows(rows[FORGET])
    vector = rmu.control_vector(32, settings_of("rmu"))
    sums = [(s.hidden - vector).square().mean(-1).sum().item() for s in slow]
    with torch.no_grad():
        found = loss("rmu", views(rows), compat=True).item()
    assert found == near(sum(sums) / len(sums) * sum(1 / len(s.targets) for s in slow) / len(slow))


def test_rmus_adaptive_target_is_as_long_as_a_share_of_the_state_before_unlearning() -> None:
    rows = make_rows(uneven)
    unit = rmu.control_vector(32, settings_of("rmu")) / 3

    def target(row: Slow, n: int) -> list[float]:
        return (0.5 * row.hidden_before[n].norm() * unit).tolist()

    with torch.no_grad():
        found = loss("rmu", views(rows), adaptive=0.5).item()
        given = loss("rmu", views(rows), adaptive=0.5, vector=(7 * unit).tolist()).item()
    assert found == near(slow_distance(slow_rows(rows[FORGET]), target))
    assert given == near(found)
    assert reference_of(rmu, settings_of("rmu", adaptive=0.5)) == {FORGET: "blocks"}  # type: ignore[arg-type]
    assert reference_of(rmu, settings_of("rmu")) == {}  # type: ignore[arg-type]


def test_rmus_vector_is_drawn_from_its_own_seed_and_can_be_given() -> None:
    state = torch.get_rng_state()
    first, again, other = (rmu.control_vector(32, settings_of("rmu", seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.norm().item() == near(3.0)
    assert (first >= 0).all()
    assert rmu.control_vector(2, settings_of("rmu", vector=[1.0, -2.0])).tolist() == [1.0, -2.0]
    with pytest.raises(UserError, match="vector has 2 numbers, the model's hidden size is 32"):
        loss("rmu", views(make_rows()), vector=[1.0, -2.0])


def test_pdus_retain_weight_follows_the_retain_loss_after_its_warmup() -> None:
    settings = complete_settings(pdu, {"eps": 0.5, "step": 2.0, "warmup_epochs": 2}, "pdu")  # type: ignore[arg-type]
    state = {"forget": 1.0, "retain": 1.0}
    assert pdu.after_step(state, {"retain": 0.9}, 1, settings) == state
    assert pdu.after_step(state, {"retain": 0.9}, 2, settings) == near({"forget": 1.0, "retain": 1.8})
    assert pdu.after_step(state, {"retain": 0.1}, 3, settings) == near({"forget": 1.0, "retain": 0.2})
    assert pdu.after_step({"forget": 1.0, "retain": 0.2}, {"retain": 0.1}, 3, settings)["retain"] == 0.0
    assert pdu.after_step(state, {"forget": 0.1}, 3, settings) == state


def test_ceu_leaves_out_the_first_tokens_of_each_answer() -> None:
    batch = views(make_rows())[FORGET].batch
    for skip in (0, 1, 3):
        kept = unit_weights(load_term("ceu"), batch, {"skip": skip})
        expected = [max(0, len(row.ids) - row.answer_start - skip) for row in make_rows()[FORGET]]
        assert torch.zeros(3).index_add(0, batch.places[0], kept).tolist() == expected


def test_unknown_terms_and_settings_are_named_with_what_comes_near() -> None:
    with pytest.raises(UserError, match="term=undail is not a loss term") as caught:
        load_term("undail")
    assert caught.value.hint == "did you mean term=undial?"
    with pytest.raises(UserError, match="term=base is not a loss term"):
        load_term("base")
    with pytest.raises(UserError, match="npo has no setting 'betta'") as caught:
        complete_settings(load_term("npo"), {"betta": 1}, "npo")
    assert caught.value.hint == "did you mean beta?"
    with pytest.raises(UserError, match="gd has no setting 'beta'") as caught:
        complete_settings(load_term("gd"), {"beta": 1}, "gd")
    assert caught.value.hint == "gd has no settings"


def test_refusals_are_kept_only_if_they_have_a_weight() -> None:
    for weight, kinds in ((0.0, {RETAIN}), (0.5, {RETAIN, UNLEARNED})):
        terms = bind_terms(TermConfig(), TermConfig("embed_diff", settings={"layer": 1, "refusals": weight}), 0)
        assert kinds_of(terms) == kinds
        assert reference_needs(terms) == {kind: {"blocks"} for kind in kinds}


@pytest.mark.parametrize(("blocks", "steered"), [(32, 7), (30, 7), (16, 4), (8, 2), (2, 0)])
def test_rmu_steers_a_block_as_deep_as_the_papers(blocks: int, steered: int) -> None:
    terms = bind_terms(TermConfig("rmu"), TermConfig("embed_diff"), 0)
    assert [settings["layer"] for _, settings in with_blocks(terms, blocks).values()] == [steered, steered]
    given = bind_terms(TermConfig("rmu", settings={"layer": 1}), TermConfig("embed_diff"), 0)
    assert with_blocks(given, blocks)["forget"][1]["layer"] == 1


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("npo", "beta", 0), ("npo", "beta", "much"), ("npo", "beta", True), ("dpo", "beta", -1), ("altpo", "beta", 0),
        ("ap", "beta", 0), ("simnpo", "beta", 0), ("ceu", "skip", -1), ("ceu", "skip", 0.5), ("rmu", "layer", -1),
        ("rmu", "layer", 1.5), ("embed_diff", "layer", -1), ("embed_diff", "refusals", -1), ("rmu", "compat", 1),
        ("pdu", "eps", -0.1), ("pdu", "step", -1), ("pdu", "warmup_epochs", -1), ("wga", "beta", -2), ("undial", "beta", -1),
        ("satimp", "beta1", -1), ("satimp", "beta2", -1),
        ("jensun", "tokens", 5), ("jensun", "tokens", [-1]), ("jensun", "tokens", ["x"]),
        ("rmu", "vector", 3), ("rmu", "steering_coefficient", -1), ("rmu", "adaptive", -1),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(name: str, setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=setting):
        complete_settings(load_term(name), {setting: value}, name)
