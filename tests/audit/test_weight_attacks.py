"""Attacks on weights: what they change while they ask, and that nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.attacked import attack, target
from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from unierase_cli.audit.base import RETAIN, attack_settings, load_attack
from unierase_cli.audit.splits import halves
from unierase_cli.audit.weights import linear_weights
from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.quantise import int4, int8, nf4

NAMES = ("int8", "int4", "nf4", "noise", "prune", "interpolate", "direction")
FEW = {"noise": {"shares": [0.1], "seeds": 2}, "prune": {"shares": [0.5]}, "interpolate": {"amounts": [0.5, -0.5]}}


def bits(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in loaded.model.state_dict().items()}


def while_asking(monkeypatch: pytest.MonkeyPatch, name: str, look: Callable[[LoadedModel], None]) -> None:
    """Call ``look`` with the model whenever the attack asks, and answer nothing."""

    def asked(under: object, *_args: object, **_more: object) -> list[object]:
        look(under.loaded)  # type: ignore[attr-defined]
        return []

    monkeypatch.setattr(f"unierase_cli.audit.attacks.{name}.answers", asked)


@pytest.mark.parametrize("name", NAMES)
def test_after_an_attack_the_model_is_what_it_was_bit_for_bit_in_every_case(name: str) -> None:
    loaded = tiny_llama(seed=2)
    before = bits(loaded)
    settings = FEW.get(name, {})
    for case in load_attack(name).cases(attack_settings(name, settings)):
        rows = attack(name, target(loaded), case.name, **settings)
        assert {row.split for row in rows} == {"forget", RETAIN}
        assert all(torch.equal(value, before[key]) for key, value in loaded.model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_that_fails_half_way_leaves_the_model_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_llama(seed=2)
    before = bits(loaded)

    def fail(_loaded: LoadedModel) -> None:
        raise KeyboardInterrupt

    while_asking(monkeypatch, name, fail)
    with pytest.raises(KeyboardInterrupt):
        attack(name, target(loaded), **FEW.get(name, {}))
    assert all(torch.equal(value, before[key]) for key, value in loaded.model.state_dict().items())


@pytest.mark.parametrize(("name", "quantise"), [("int8", int8), ("int4", int4), ("nf4", nf4)])
def test_quantised_are_the_linear_weights_of_blocks_and_the_head_only_where_asked(
    name: str, quantise: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tiny_llama(seed=2)
    before, module = bits(loaded), load_attack(name)
    linear = {id(weight) for weight in linear_weights(loaded).values()}
    for case in module.cases(attack_settings(name, {})):
        seen: list[dict[str, Tensor]] = []
        while_asking(monkeypatch, name, lambda model, seen=seen: seen.append(bits(model)))  # type: ignore[misc]
        attack(name, target(loaded), case.name)
        for key, parameter in loaded.model.named_parameters():
            whole = id(parameter) in linear or (case.values["head"] and parameter is loaded.architecture.head.weight)
            if not whole:
                assert torch.equal(seen[0][key], before[key])
            elif not case.values.get("symmetric"):
                assert torch.equal(seen[0][key], quantise(before[key]))


def test_the_weights_of_gpt2_are_quantised_along_their_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, seen = tiny("gpt2"), []
    while_asking(monkeypatch, "int8", lambda model: seen.append(model.architecture.weight(1)))
    before = loaded.architecture.weight(1)
    attack("int8", target(loaded))
    assert torch.equal(seen[0], int8(before))


def test_noise_has_its_seeds_as_samples_and_is_the_same_in_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = attack("noise", target(tiny_llama(seed=2)), shares=[0.1], seeds=2)
    assert [row.sample for row in rows if row.split == "forget"] == [0] * 4 + [1] * 4
    noise = []
    for seed in (2, 3):
        loaded, seen = tiny_llama(seed=seed), []
        before = loaded.architecture.weight(0)
        while_asking(monkeypatch, "noise", lambda model, seen=seen: seen.append(model.architecture.weight(0)))  # type: ignore[misc]
        attack("noise", target(loaded), shares=[0.1], seeds=2)
        noise.append([(after - before) / before.std(unbiased=False) for after in seen[::2]])
    assert torch.allclose(noise[0][0], noise[1][0], atol=1e-4)
    assert not torch.allclose(noise[0][0], noise[0][1], atol=1e-2)


def test_pruning_takes_the_share_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, seen = tiny_llama(seed=2), []
    while_asking(monkeypatch, "prune", lambda model: seen.append(bits(model)))
    for case in load_attack("prune").cases(attack_settings("prune", {"shares": [0.5]})):
        seen.clear()
        attack("prune", target(loaded), case.name, shares=[0.5])
        for name, weight in linear_weights(loaded).items():
            gone = seen[0][name] == 0
            assert float(gone.double().mean()) == 0.5
            if "row" in case.name:
                assert bool((gone.double().mean(1) == 0.5).all())
            assert weight.count_nonzero() == weight.numel()


def test_pruning_by_activations_needs_retained_examples() -> None:
    under = target(tiny_llama(), material=())
    assert attack("prune", under, "30 percent of a row by activations") == []
    assert "no retained examples" in under.reporter.warnings[0]  # type: ignore[attr-defined]
    assert attack("prune", under, "30 percent of a row")


def test_all_the_way_to_the_unedited_model_lie_its_answers() -> None:
    full, loaded = tiny_llama(seed=0), tiny_llama(seed=2)
    plain = attack("plain", target(full))
    moved = attack("interpolate", target(loaded), amounts=[1.0])
    assert [(row.fact, row.split, row.text) for row in moved] == [(row.fact, row.split, row.text) for row in plain]
    assert attack("interpolate", target(full), amounts=[0.3]) == plain
    with pytest.raises(UserError, match="unedited model"):
        attack("interpolate", target(loaded, ceiling=None))


def test_a_direction_is_chosen_on_groups_that_are_not_asked() -> None:
    facts = FACTS
    chosen, tested = halves(facts, 0, "direction")
    assert {f.group for f in chosen}.isdisjoint({f.group for f in tested})
    assert len(chosen) + len(tested) == 8
    under = target(tiny_llama(), facts=8)
    rows = attack("direction", under, kl=100.0)
    assert [row.fact for row in rows if row.split == "forget"] == [fact.id for fact in tested]


@pytest.mark.parametrize(("more", "why"), [({"facts": 2}, "a single group"), ({"material": ()}, "no retained examples")])
def test_without_two_groups_or_retained_examples_there_is_no_direction(more: dict[str, Any], why: str) -> None:
    under = target(tiny_llama(), **more)
    assert attack("direction", under) == []
    assert why in under.reporter.warnings[0]  # type: ignore[attr-defined]


def test_a_direction_that_costs_too_much_is_not_taken() -> None:
    under = target(tiny_llama(), facts=4)
    rows = attack("direction", under, kl=0.0)
    assert "none is removed" in under.reporter.notes[0]  # type: ignore[attr-defined]
    plain = {(row.split, row.fact): row.text for row in attack("plain", under)}
    assert all(row.text == plain[row.split, row.fact] for row in rows)


def test_rounding_tells_which_edits_it_takes_back() -> None:
    full, loaded = tiny_llama(seed=0), tiny_llama(seed=0)
    under = target(loaded, ceiling=lambda: full)
    assert attack("rounding", under) == [], "nothing was edited"
    small, large = (loaded.architecture.projection(layer).weight for layer in (0, 1))
    small.data[:, 0] *= 1 + 1e-6
    large.data[:, 0] += 10 * large.data.abs().max()
    rows = {case: attack("rounding", under, case) for case in ("int8", "int4", "nf4")}
    for case, (first, second) in rows.items():
        assert first.fact.endswith(f"{loaded.architecture.projection_name(0)}.weight")
        assert first.scores["undone"] > 0.9, case
        assert first.scores["largest"] < 0.01
        assert second.scores["undone"] < 0.2
        assert second.scores["largest"] > 1
    with pytest.raises(UserError, match="needs the unedited model"):
        attack("rounding", target(loaded, ceiling=None))
