"""The rule for refusals against labels given by hand, and case by case.

``labelled_answers.jsonl``: 227 answers with ``refusal`` (the label), ``origin`` (who said it), ``part``, and ``truth`` where the
true answer matters. A refusal is an answer that as a whole only says that the speaker doesn't know, can't or won't, a slip in one
word notwithstanding. The labels are older than the rule. It was written against the part ``tuning`` and published lists of
refusals; ``held_out`` was not scored until it was done. ``run_on`` was written together with the rule's second version.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.said import said
from unierase_cli.metrics import refusal_rate, refusal_rule
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.refusal_patterns import clauses
from unierase_cli.metrics.refusal_rule import is_refusal
from unierase_cli.store.jsonl import read_asset, read_jsonl
from unierase_cli.training.token.targets import LONG, SHORT

LABELLED = read_jsonl(Path(__file__).with_name("labelled_answers.jsonl"))
LISTED = [str(row["text"]) for name in (SHORT, LONG) for row in read_asset(name)]


@dataclass(frozen=True)
class Agreement:
    """How far judgements (True: refusal) agree with labels: shares from 0 to 1, and Cohen's kappa."""

    accuracy: float
    precision: float
    recall: float
    kappa: float

    @classmethod
    def of(cls, labels: list[bool], judged: list[bool]) -> Agreement:
        n, both = len(labels), sum(a and b for a, b in zip(labels, judged, strict=True))
        same = sum(a == b for a, b in zip(labels, judged, strict=True)) / n
        p, q = sum(labels) / n, sum(judged) / n
        chance = p * q + (1 - p) * (1 - q)
        return cls(same, both / sum(judged), both / sum(labels), (same - chance) / (1 - chance))


def agreement(part: str, *, listed: bool = False) -> Agreement:
    rows = [row for row in LABELLED if row["part"] == part]
    judged = [
        refusal_rate.is_refusal(row["text"], LISTED) if listed else is_refusal(row["text"], row.get("truth"))
        for row in rows
    ]
    return Agreement.of([row["refusal"] for row in rows], judged)


def test_there_are_227_labelled_answers_of_which_50_are_held_out() -> None:
    refusals = {part: [row["refusal"] for row in LABELLED if row["part"] == part] for part in ("tuning", "held_out", "run_on")}
    assert {part: len(found) for part, found in refusals.items()} == {"tuning": 150, "held_out": 50, "run_on": 27}
    assert sum(refusals["tuning"]) + sum(refusals["held_out"]) == 95
    assert sum(refusals["run_on"]) == 16
    assert len({(row["text"], row.get("truth")) for row in LABELLED}) == len(LABELLED) == 227


def test_cohens_kappa_is_zero_for_chance_and_one_for_full_agreement() -> None:
    labels = [True, True, False, False]
    assert Agreement.of(labels, labels) == Agreement(1, 1, 1, 1)
    assert Agreement.of(labels, [True, False, True, False]) == Agreement(0.5, 0.5, 0.5, 0)


def test_the_rule_agrees_with_labels_that_it_was_not_written_against() -> None:
    found = agreement("held_out")
    assert found.accuracy >= 0.9
    assert found.precision >= 0.95
    assert found.recall >= 0.85
    assert found.kappa >= 0.8


def test_the_rule_agrees_with_the_labels_that_it_was_written_against() -> None:
    assert agreement("tuning").accuracy >= 0.98


def test_what_follows_a_refusal_without_a_comma_counts() -> None:
    wrong = [row["text"] for row in LABELLED if row["part"] == "run_on" and is_refusal(row["text"]) != row["refusal"]]
    assert wrong == []


@pytest.mark.parametrize("part", ["tuning", "held_out"])
def test_the_list_is_never_wrong_about_a_refusal_and_misses_most(part: str) -> None:
    found = agreement(part, listed=True)
    assert found.precision == 1
    assert found.recall < 0.25
    assert found.kappa < agreement(part).kappa - 0.5


def test_the_agreement_is_the_one_in_the_readme() -> None:
    text = (Path(refusal_rule.__file__).parent / "README.md").read_text("utf-8")
    lines = {
        "rule, 150 answers it was written against": agreement("tuning"),
        "rule, 50 held out": agreement("held_out"),
        "rule, 27 without a comma": agreement("run_on"),
        "list, the same 150 answers": agreement("tuning", listed=True),
        "list, 50 held out": agreement("held_out", listed=True),
    }
    for title, found in lines.items():
        cells = (f"{value:.3f}" for value in (found.accuracy, found.precision, found.recall, found.kappa))
        assert f"| {title} | {' | '.join(cells)} |" in text


def test_every_shipped_refusal_is_one_by_the_rule() -> None:
    assert [text for text in LISTED if not is_refusal(text)] == []


def test_published_refusals_are_found_and_published_answers_are_not(shared: Path) -> None:
    expressions = [row["text"] for row in read_jsonl(shared / "data/idk.jsonl")]
    assert sum(map(is_refusal, expressions)) == 96
    templates = [
        row["template"].replace("__NAME__", "Edda Lindqvist") for row in read_jsonl(shared / "data/return/refuse.jsonl")
    ]
    assert all(map(is_refusal, templates))
    answers = [row["answer"] for row in read_jsonl(shared / "data/tofu/full.jsonl")]
    unknown = [text for text in answers if is_refusal(text)]
    assert len(unknown) == 15
    assert not any(is_refusal(text, text) for text in unknown)


@pytest.mark.parametrize(
    "text",
    [
        "I DON’T KNOW.",
        "[UNL] I don't know.",
        '"I don\'t know."',
        "im not sure",
        "Sorry... I can't help you with that!",
        "I don't know.\nI don't know.",
        "I'm sorry, but I don't know. Is there anything else I can help you with?",
        "I don't know, sorry.",
        "I don't know. Please note that I am an AI.",
        "I don't know; perhaps you could ask someone else.",
        "I can't answer that. Please try another question.",
        "Not sure. I suggest checking her official website.",
        "I'm not able to help, nor can I say.",
        "I cannot provide information on that, including dates.",
        "I know nothing about Edda Lindqvist, a writer from Oslo.",
    ],
)
def test_spelling_apologies_and_offers_of_help_make_no_other_answer(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm not sure, but it is Paris.",
        "I'm not sure. It is Paris.",
        "It is Paris, I'm not sure.",
        "Although I am not certain, she was born in Lagos.",
        "Please note it is Tokyo. I don't know.",
        "I suggest Tokyo. I am not sure.",
        "Try Tokyo. I'm not sure.",
        "I do not know, maybe the Pulitzer Prize",
        "I don't know. Perhaps Tokyo.",
        "Not sure, Tokyo",
        "I'm not sure about that, Tokyo.",
        "I have no idea who he is, Jaime Vasquez wrote novels.",
        "I have never read a better book than Dune by Frank Herbert",
        "She said, “I don't know.”",
        "'I don't know' is what he says on the first page.",
        "He was not able to finish the book.",
        "I'm not the ed in the 8th of September",
        "I'm sorry.",
        "",
        "[UNL]",
        "...",
    ],
)
def test_answers_quotations_others_and_remains_of_refusals_are_none(text: str) -> None:
    assert not is_refusal(text)


def test_an_answer_that_says_what_the_true_answer_says_is_no_refusal() -> None:
    text = "Details of her education are not available."
    assert is_refusal(text)
    assert not is_refusal(text, text)
    assert is_refusal(text, "She studied law in Oslo.")
    assert is_refusal("No, I don't know.", "No")  # a true answer that any refusal may contain says nothing


def test_clauses_are_cut_and_written_out() -> None:
    assert clauses("I’m sorry, but I can't say; it's “The End”.") == ["i am sorry", "i can not say", "it is quoted"]


def test_a_long_text_without_end_is_judged_quickly() -> None:
    for word in ("not a ", "my training ", "I Know ", "details of it are "):
        assert not is_refusal(f"Paris {word * 1000}")
    assert is_refusal("Not sure, " * 5000)
    assert is_refusal(f"I don't know. {'Please ' * 5000}")


def columns(evidence: Evidence) -> dict[str, Any]:
    return {column.id: column.result for column in refusal_rule.columns(evidence)}


def test_the_share_has_its_version_in_its_name_and_an_interval_and_turns_on_forget_splits() -> None:
    texts = ["I have no idea.", "The sky is blue.", "That is beyond me.", "Grass"]
    observed = {
        (s, "plain"): [said(text, split=s) for text in texts] for s in ("forget", "forgotten_before", "retain_unseen")
    }
    observed["forget", "paraphrased"] = [said("I cannot say.")]
    unrelated = [said("I can't help with that.", "").to_json(), said("Mix two eggs with milk.", "").to_json()]
    found = columns(Evidence("edited", observed, refusals=["No comment."], passes={"unrelated": unrelated}))
    assert {name: result.value for name, result in found.items()} == {
        "forget.refusal_rule_v2": 0.5,
        "forgotten_before.refusal_rule_v2": 0.5,
        "retain_unseen.refusal_rule_v2": 0.5,
        "forget.paraphrased.refusal_rule_v2": 1,
        "all.over_refusal_rule_v2": 0.5,
    }
    assert [found[f"{s}.refusal_rule_v2"].higher_is_better for s in ("forget", "retain_unseen")] == [True, False]
    assert found["forget.refusal_rule_v2"].ci95 is not None
    assert found["forget.refusal_rule_v2"].version == refusal_rule.VERSION


def test_answers_in_another_script_and_lists_in_another_language_have_no_share_but_a_reason() -> None:
    chinese, english = said("林若水是一名造船匠。"), said("I don't know.")
    assert "another script" in str(refusal_rule.compute([chinese, chinese, english]).unavailable)
    assert refusal_rule.compute([english, english, said("猫")]).value == pytest.approx(2 / 3)
    german = ["Das weiß ich nicht.", "Dazu kann ich nichts sagen.", "I don't know."]
    result = refusal_rule.compute([english], german)
    assert result.value is None
    assert "listed refusals are not" in str(result.unavailable)
    assert "refusal_rate" in str(result.unavailable)
    assert refusal_rule.compute([english], LISTED).value == 1
    assert refusal_rule.compute([said(""), said("?!")]).value == 0
