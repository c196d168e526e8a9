"""Finding attacks, and their settings."""

from __future__ import annotations

import pytest

from unierase_cli.audit.base import (
    ATTACKS,
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
    assert set(quick) < set(standard) < set(thorough) == set(attack_names())
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


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_says_what_it_is(name: str) -> None:
    attack = load_attack(name)
    assert attack.__doc__
    assert attack.CLASS in CLASSES
    assert attack.PRESET in PRESETS
    for constant in ("CLASS", "PRESET", "VERSION", "SETTINGS", "NEEDS", "SCORE", "RELATIVE", "BEST_OF", "BENIGN", "WEAK"):
        assert ATTACKS.says(name, constant) == getattr(attack, constant, None), "it is read without being imported"
    cases = attack.cases(attack.SETTINGS)
    names = [case.name for case in cases]
    assert len(set(names)) == len(set(map(file_of, names))) == len(names) > 0
    assert all(case.without_token in (*names, "plain") for case in cases)
