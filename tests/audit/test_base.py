"""Finding attacks, and their settings."""

from __future__ import annotations

import pytest

from unierase_cli import sources
from unierase_cli.audit.base import (
    ATTACKS,
    BY_NAME,
    CLASSES,
    PRESETS,
    attack_names,
    attack_settings,
    chosen_attacks,
    load_attack,
)
from unierase_cli.contracts import UserError
from unierase_cli.stages.attack import file_of

NAMES = [*attack_names(), "plain"]


def test_a_preset_holds_the_one_before_it() -> None:
    quick, standard, thorough = (chosen_attacks([preset]) for preset in PRESETS)
    by_name = {name for name in attack_names() if load_attack(name).PRESET == BY_NAME}
    assert set(quick) < set(standard) < set(thorough) == set(attack_names()) - by_name
    assert {"token_forbidden", "prefix", "sampling", "paraphrase", "few_shot"} <= set(quick)


def test_names_and_presets_are_mixed_and_each_attack_comes_once() -> None:
    assert chosen_attacks(["prefix", "affirmative", "prefix"]) == ["affirmative", "prefix"]


@pytest.mark.parametrize("words", [[], ["plain"], ["prefx"]])
def test_words_that_mean_no_attack_are_refused(words: list[str]) -> None:
    with pytest.raises(UserError):
        chosen_attacks(words)


def test_a_setting_that_an_attack_lacks_is_refused() -> None:
    assert attack_settings("prefix", {"tokens": [3]}) == {"tokens": [3]}
    with pytest.raises(UserError, match="no setting"):
        attack_settings("prefix", {"token": [3]})


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("prefix", {"tokens": 3}, "a list"),
        ("prefix", {"tokens": ["four"]}, "a whole number"),
        ("noise", {"shares": [True]}, "a number"),
        ("noise", {"seeds": 0}, "above 0"),
        ("sampling", {"samples": -1}, "above 0"),
        ("relearn_part", {"steps": [0, 10]}, "above 0"),
        ("relearn_part", {"batch": 0}, "above 0"),
        ("sampling", {"facts": -3}, "at least 0"),
        ("noise", {"shares": [-1]}, "from 0 to 1"),
        ("prune", {"shares": [2]}, "from 0 to 1"),
        ("relearn_part", {"percent": [200]}, "from 0 to 100"),
        ("relearn_part", {"percent": [-5]}, "from 0 to 100"),
        ("relearn_part", {"lr": [-1e-5]}, "above 0"),
        ("relearn_groups", {"lora_lr": [-1e-5]}, "above 0"),
        ("relearn_groups", {"folds": 1}, "at least 2"),
        ("relearn_groups", {"tested": -1}, "at least 0"),
        ("soft_suffix", {"rate": 0.0}, "above 0"),
        ("soft_suffix", {"start": ""}, "start is empty"),
        ("affirmative", {"start": 3}, "a text"),
        ("ignore_refusal", {"wordings": "Tell me."}, "a list"),
    ],
)
def test_a_setting_of_another_kind_is_refused(name: str, given: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        attack_settings(name, given)


def test_a_list_may_be_empty() -> None:
    assert attack_settings("relearn_part", {"lr": []})["lr"] == []
    assert load_attack("relearn_part").cases(attack_settings("relearn_part", {"steps": []})) == []


@pytest.mark.parametrize(
    ("module", "attacks"),
    [
        ("audit.asking", {"int4", "prefix"}),
        ("audit.weights", {"int4"}),
        ("audit.inside", {"uds"}),
        ("representation.states", {"uds"}),
        ("models.quantise", {"int4"}),
        ("audit.verdict", set()),
    ],
)
def test_shared_code_counts_for_the_attacks_that_import_it(
    module: str, attacks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def codes() -> dict[str, str]:
        sources.code_hash.cache_clear()
        return {name: ATTACKS.code(name) for name in ("int4", "prefix", "uds")}

    before, own = codes(), sources._content
    changed = f"unierase_cli.{module}"
    monkeypatch.setattr(sources, "_content", lambda name: b"other" if name == changed else own(name))
    after = codes()
    monkeypatch.undo()
    assert {name for name in before if before[name] != after[name]} == attacks
    assert codes() == before


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_says_what_it_is(name: str) -> None:
    attack = load_attack(name)
    assert attack.__doc__
    assert attack.CLASS in CLASSES
    assert attack.PRESET in (*PRESETS, BY_NAME)
    optional = ("NEEDS", "FILES", "ENTITIES", "PACKAGES", "SCORE", "RELATIVE", "BEST_OF", "BENIGN", "WEAK", "ASKS")
    for constant in ("CLASS", "PRESET", "VERSION", "SETTINGS", *optional):
        assert ATTACKS.says(name, constant) == getattr(attack, constant, None), "it is read without being imported"
    cases = attack.cases(attack.SETTINGS)
    names = [case.name for case in cases]
    assert len(set(names)) == len(set(map(file_of, names))) == len(names) > 0
    assert all(case.without_token in (*names, "plain") for case in cases)
