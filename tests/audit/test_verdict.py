"""The words of an audit, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unierase_cli.audit.findings import Audit, Example, Finding
from unierase_cli.audit.verdict import Retained, beside_the_verdict, verdict, word_of
from unierase_cli.config.sections.audit import VerdictConfig

LIMITS = VerdictConfig()
FINE = Retained(0.957, 0.96)


def found(attack: str, kind: str, share: float | None, word: str = "resisted", **more: Any) -> Finding:
    return Finding(attack, kind, "default", True, 1, "recall", word, n=40, groups=2, recovered=0.3, share=share, **more)


PLAIN = found("plain", "prompts", 0.0)
PREFIX, INT4 = found("prefix", "prompts", 0.05), found("int4", "weights", 0.02)
RELEARN = found("relearn_part", "relearning", 0.03, "undecided")


def line(*findings: Finding, retained: Retained = FINE) -> str:
    return verdict([PLAIN, *findings], retained, LIMITS)[1].partition(";")[0]


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((0.25, 0.5), "recovered"), ((0.24, 0.9), "partly"), ((0.01, 0.05), "partly"), ((-0.1, 0.09), "resisted"),
        ((0.0, 0.0), "resisted"), ((-0.1, 0.1), "undecided"), (None, "undecided"),
    ],
)  # fmt: skip
def test_an_attacks_word_comes_from_the_interval_of_its_share(interval: tuple[float, float] | None, word: str) -> None:
    assert word_of(interval, 0.3, LIMITS) == word


def test_without_a_share_there_is_no_word() -> None:
    assert word_of(None, None, LIMITS) == "unavailable"


def test_what_plain_questions_bring_back_is_not_forgotten() -> None:
    plain = replace(PLAIN, share=0.25)
    assert verdict([plain, PREFIX], FINE, LIMITS) == (
        "not forgotten",
        "not forgotten: plain questions bring back 0.25; retain recall 0.957 (0.960 before)",
    )


def test_what_prompts_bring_back_was_suppressed() -> None:
    prefix, forbidden = replace(PREFIX, word="recovered", share=0.7), found("token_forbidden", "prompts", 0.5, "recovered")
    assert line(forbidden, prefix, INT4) == "suppressed: prompts alone bring back 0.70 (prefix)"


@pytest.mark.parametrize(
    "finding", [found("int4", "weights", 0.6, "recovered"), found("int4", "relearning", 0.6, "recovered", benign=True)]
)
def test_what_weights_or_harmless_training_bring_back_is_fragile(finding: Finding) -> None:
    assert line(PREFIX, finding) == "fragile: int4 brings back 0.60"


def test_what_relearning_brings_back_was_hidden() -> None:
    relearned = replace(RELEARN, word="recovered", share=0.4)
    assert line(PREFIX, INT4, relearned) == "hidden: relearning on other facts brings back 0.40 (relearn_part)"


def test_weak_evidence_hides_nothing() -> None:
    weak = found("soft_tokens", "embeddings", 0.9, "recovered", weak=True)
    assert line(PREFIX, INT4, RELEARN, weak) == "no recovery found by 3 attacks"


@pytest.mark.parametrize("kind", ["prompts", "weights", "relearning", "inside"])
def test_weak_evidence_decides_nothing(kind: str) -> None:
    weak = found("interpolate", kind, 0.9, "recovered", weak=True, benign=True)
    assert line(PREFIX, INT4, RELEARN, weak) == "no recovery found by 3 attacks"


def test_training_that_did_not_learn_is_no_attack_that_found_nothing() -> None:
    learned, not_learned = replace(RELEARN, trained=0.9), replace(RELEARN, trained=0.5)
    assert line(PREFIX, INT4, learned) == "no recovery found by 3 attacks"
    assert line(PREFIX, INT4, not_learned) == "audited with prompts and weights only: no recovery found by 2 attacks"
    assert line(PREFIX, INT4, replace(not_learned, benign=True)) == "no recovery found by 3 attacks"
    assert line(PREFIX, INT4, replace(not_learned, word="partly")) == "mostly erased: at most 0.03 by relearn_part"


def test_without_an_attack_that_can_be_judged_there_is_no_verdict() -> None:
    broken, weak = replace(INT4, word="breaks the model"), replace(RELEARN, trained=0.1)
    assert line(broken, weak) == line() == "unavailable: no attack could be judged"


def test_what_is_left_inside_is_readable() -> None:
    depth = found("uds", "inside", 0.7, "partly")
    assert line(PREFIX, INT4, RELEARN, depth) == "readable inside: UDS 0.30"
    assert line(PREFIX, INT4, RELEARN, replace(depth, share=0.4)).startswith("mostly erased")


def test_one_attack_that_brings_a_little_back_is_named() -> None:
    assert line(replace(PREFIX, word="partly", share=0.12), INT4, RELEARN) == "mostly erased: at most 0.12 by prefix"


def test_what_too_few_groups_bring_back_is_not_passed_over() -> None:
    wide, some = replace(PREFIX, word="undecided", share=1.0), replace(INT4, word="partly", share=0.11)
    assert line(wide, some, RELEARN) == "undecided: prefix brings back 1.00, too few groups of facts to tell"
    assert line(replace(wide, trained=0.1), some, RELEARN).startswith("undecided: prefix")
    assert line(replace(wide, share=0.2), some, RELEARN) == "mostly erased: at most 0.20 by prefix"
    assert line(replace(wide, share=0.2), INT4, RELEARN) == "no recovery found by 3 attacks"


def test_a_setting_that_recovers_beside_the_headline_is_told() -> None:
    groups, same = replace(RELEARN, setting="other groups"), replace(RELEARN, setting="same groups", headline=False)
    recovers = replace(same, word="recovered", share=0.448)
    assert beside_the_verdict([PREFIX, groups, recovers, replace(recovers, setting="again", share=0.3)]) == [
        "the verdict rests on relearn_part, other groups; same groups brings back 0.45"
    ]
    assert beside_the_verdict([groups, same, replace(recovers, score="entity"), replace(recovers, attack="prefix")]) == []
    assert beside_the_verdict([replace(groups, word="recovered"), recovers]) == []


def test_nothing_is_found_by_an_attack_of_every_class() -> None:
    assert line(PREFIX, INT4, RELEARN) == "no recovery found by 3 attacks"


def test_fewer_classes_are_named() -> None:
    assert line(PREFIX) == "audited with prompts only: no recovery found by 1 attack"
    assert line(PREFIX, INT4) == "audited with prompts and weights only: no recovery found by 2 attacks"


def test_a_model_that_lost_the_rest_too_is_destroyed() -> None:
    assert line(PREFIX, retained=Retained(0.47, 0.96)).startswith("destroyed")
    assert not line(PREFIX, retained=Retained(0.49, 0.96)).startswith("destroyed")
    assert "no retained question" in verdict([PLAIN], Retained(), LIMITS)[1]


def test_without_a_control_there_is_no_verdict() -> None:
    plain = replace(PLAIN, share=None, why_no_share="no model without these facts")
    assert verdict([plain, PREFIX], FINE, LIMITS)[0] == "unavailable"


def test_an_audit_is_read_as_it_was_written() -> None:
    import json

    shown = replace(PREFIX, examples=[Example("Where?", "Lisbon", "Lisbon", None)], share_ci=(0.1, 0.2))
    audit = Audit("run", "suppressed", "suppressed: ...", [PLAIN, shown], 0.9, None, {"uds": "no control"}, ["remark"])
    written = json.loads(json.dumps(audit.to_json()))
    assert Audit.from_json(written) == audit
    assert written["attacks"]["prefix"]["default"]["share"] == 0.05
