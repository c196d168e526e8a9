"""Finding benchmarks and the checks that all of them pass."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from tests.helpers.places import ROOT
from unierase_cli.benchmarks.base import (
    BENCHMARKS,
    check_benchmark,
    check_overlap,
    evenly_spaced,
    fingerprint,
    load_benchmark,
    training_facts,
)
from unierase_cli.benchmarks.parts.assemble import assemble, sample
from unierase_cli.benchmarks.parts.neighbours import nearest_groups
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, SilentReporter, UserError, name_of, normalised


def _fact(key: str, question: str | None = None, answer: str = "Yes.", group: str | None = None, **more: str) -> Fact:
    return Fact(key, question or f"What about {key}?", answer, group=group, **more)  # type: ignore[arg-type]


FORGET = (_fact("f0", group="a"), _fact("f1", group="a"))
KEEP = tuple(_fact(f"k{n}", group=f"g{n // 4}") for n in range(24))
PLAIN = Benchmark("test", FORGET, KEEP, {"forget": FORGET}, "")


def test_benchmarks_are_the_modules_of_the_folder() -> None:
    assert {"fictional", "tofu", "jsonl"} <= set(BENCHMARKS.names())
    assert not {"base", "parts"} & set(BENCHMARKS.names())


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="benchmark=ficional is not a choice") as caught:
        load_benchmark(BenchmarkConfig(name="ficional"))
    assert caught.value.hint == "did you mean benchmark=fictional?"
    with pytest.raises(UserError) as caught:
        load_benchmark(BenchmarkConfig(name="zzz"))
    assert "choose one of: analogue, birthdays, fictional" in caught.value.hint


def test_a_benchmark_can_come_from_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "elsewhere"

        def load(self) -> object:
            return lambda config, reporter: PLAIN

    monkeypatch.setattr("unierase_cli.plugins.entry_points", lambda group: [Point()])
    reporter = SilentReporter()
    benchmark = load_benchmark(BenchmarkConfig(name="elsewhere"), reporter)
    assert benchmark.forget == FORGET
    assert len(benchmark.fingerprint) == 64


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (replace(PLAIN, forget=()), "the forget set is empty"),
        (replace(PLAIN, protect=(*KEEP, KEEP[3])), r"1 repeated id\(s\) in protect, the first is 'k3'"),
        (
            replace(PLAIN, forget=(_fact("f0", "Who?", subject="Ada"),)),
            "f0: the subject 'Ada' is not in the question 'Who\\?'",
        ),
        (replace(PLAIN, protect=(_fact("k", "what  about F0"),)), "1 question.s. are in the forget set.*f0 and k"),
        (replace(PLAIN, splits={"retain_unseen": (_fact("k", "What about f1 ?"),)}), "f1 and k"),
        (replace(PLAIN, outside=(_fact("k", "What about f1 ?"),)), "f1 and k"),
    ],
)
def test_data_that_cannot_be_worked_with_is_refused(broken: Benchmark, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        check_benchmark(broken)
    assert caught.value.hint


def test_an_overlap_counts_questions_and_names_the_first() -> None:
    keep = [_fact("k0", "what about f1"), _fact("k1", "What about f0?"), _fact("k2", "What about f0?!")]
    with pytest.raises(UserError, match=r"2 question\(s\).*'What about f0\?' \(f0 and k1\)"):
        check_overlap(FORGET, keep)
    check_overlap(FORGET, KEEP)


def test_the_same_question_in_other_spelling_is_the_same() -> None:
    assert normalised("  Who IS\tAda? ") == normalised("who is ada") == "who is ada"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (unicodedata.normalize("NFD", "Où est née Zoé?"), "où est née zoé"),
        ("ＷＨＯ　ｉｓ Ada？", "Who is Ada?"),
        ("林若水是谁？", "林若水是谁"),
        ("من هي آدا؟", "من هي آدا"),
        ("सीता कौन है।", "सीता कौन है"),
        ("Who\u00a0is Ada?", "who is ada"),
        ("Who is A\u00adda?", "who is ada"),
        ("Straße?", "STRASSE"),
    ],
)
def test_ways_to_encode_a_question_are_one_question_and_an_overlap_is_seen_through_them(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    with pytest.raises(UserError, match="f and k"):
        check_overlap([_fact("f", one)], [_fact("k", other)])


def test_rows_are_cut_at_equal_distances_and_the_cut_is_told() -> None:
    assert [f.id for f in evenly_spaced(KEEP, 4)] == ["k0", "k6", "k12", "k18"]
    assert evenly_spaced(KEEP, 99) == KEEP
    benchmark = load_benchmark(BenchmarkConfig(rows=10))
    assert {len(rows) for rows in benchmark.splits.values()} == {10}
    assert len(benchmark.forget) == 30
    assert "benchmark.rows=10" in benchmark.notes[0]


def test_the_fingerprint_sees_every_role_and_no_note() -> None:
    changed = [
        replace(PLAIN, forget=FORGET[:1]), replace(PLAIN, protect=KEEP[1:]), replace(PLAIN, outside=KEEP[:1]),
        replace(PLAIN, training=FORGET), replace(PLAIN, refused=KEEP[:1]), replace(PLAIN, splits={"forget": FORGET[:1]}),
        replace(PLAIN, forget=(replace(FORGET[0], subject="about"), FORGET[1])),
    ]  # fmt: skip
    assert len({fingerprint(PLAIN), *(fingerprint(b) for b in changed)}) == len(changed) + 1
    assert fingerprint(replace(PLAIN, notes=("note",))) == fingerprint(PLAIN)


def test_samples_are_stable_and_keep_the_order() -> None:
    drawn = sample(KEEP, 6, 0, "purpose")
    assert drawn == sample(tuple(reversed(KEEP)), 6, 0, "purpose")[::-1]
    assert [KEEP.index(f) for f in drawn] == sorted(KEEP.index(f) for f in drawn)
    assert drawn != sample(KEEP, 6, 1, "purpose")
    assert sample(KEEP, 99, 0, "purpose") == list(KEEP)


def test_the_nearest_groups_share_words_but_not_only_a_name() -> None:
    forget = [
        _fact(f"f{n}", f"What does Ada Stone write in year {n}?", "Sea ballads about whales.", "ada") for n in range(3)
    ]
    twin = [_fact(f"t{n}", f"Where is Bo Reef, page {n}?", "Sea ballads about whales.", "bo") for n in range(3)]
    namesake = [
        _fact(f"n{n}", f"How does Ada Stone cook dish {n}?", "With plenty of butter.", "other ada") for n in range(3)
    ]
    other = [_fact(f"o{n}", f"When was Cy Hill seen, day {n}?", "On a rainy Monday.", "cy") for n in range(3)]
    assert nearest_groups(forget, [*other, *namesake, *twin], 1) == ["group:bo"]
    assert len(nearest_groups(forget, [*other, *namesake, *twin], 9)) == 3


def _assembled(**changes: object) -> Benchmark:
    settings = {"forget": FORGET, "retain": KEEP[4:], "unseen": KEEP[:4], "further_splits": {}, "training": ()}
    config = BenchmarkConfig(near_authors=2, protected_scored=5)
    return assemble(config, **{**settings, **changes})  # type: ignore[arg-type]


def test_every_second_question_of_neighbours_is_protected() -> None:
    benchmark = _assembled()
    near = benchmark.splits["retain_near"]
    assert len(near) == 4
    for group in {fact.group for fact in near}:
        rows = [fact for fact in KEEP if fact.group == group]
        assert [fact in near for fact in rows] == [False, True, False, True]
        assert [fact in benchmark.protect for fact in rows] == [True, False, True, False]


def test_rows_of_a_held_out_group_are_never_protected() -> None:
    benchmark = _assembled(unseen=KEEP[:2], retain=KEEP[2:])
    assert not {f.id for f in KEEP[:4]} & {f.id for f in (*benchmark.protect, *benchmark.outside)}


def test_a_retain_row_that_asks_a_scored_question_is_not_protected_and_it_is_told() -> None:
    repeat = replace(KEEP[20], id="again", question="what about K1")
    benchmark = _assembled(retain=(*KEEP[4:], repeat))
    assert "again" not in {fact.id for fact in benchmark.protect}
    assert "1 retain row(s)" in benchmark.notes[0]


def test_facts_without_groups_stand_alone() -> None:
    rows = tuple(replace(fact, group=None) for fact in KEEP)
    benchmark = _assembled(retain=rows[4:], unseen=rows[:4])
    assert len(benchmark.splits["retain_near"]) == 1
    assert len(benchmark.protect) == 19


def test_a_retain_only_model_learns_nothing_of_what_is_forgotten() -> None:
    marked = tuple(_fact(f"ann#{n}") for n in range(3))
    asked, true = (_fact("f0-again"),), (_fact("true"),)
    training = (*FORGET, _fact("f0#1"), *marked, *asked, *true, *KEEP)
    # The true facts of revealed ones are scored and never forgotten themselves.
    benchmark = replace(PLAIN, forget=(*FORGET, *marked), splits={"forget": true, "forget_eval": asked}, training=training)
    assert training_facts(benchmark, BenchmarkConfig(), "retain") == KEEP
    assert training_facts(benchmark, BenchmarkConfig(), "full") == training


def test_a_retained_fact_whose_id_begins_like_a_forgotten_one_is_learned() -> None:
    kept, scored = _fact("f0#1"), _fact("f0#2")
    splits = {"retain_unseen": (scored,)}
    benchmark = replace(PLAIN, forget=FORGET, protect=(kept,), splits=splits, training=(*FORGET, kept, scored))
    assert training_facts(benchmark, BenchmarkConfig(), "retain") == (kept, scored)


def test_a_refusal_names_who_the_question_is_about() -> None:
    cases = (("Ada", "Ada Velour", "Ada"), ("fold 3", "Ada Velour", "Ada Velour"), ("Bo", None, "Bo"), (None, None, None))
    for group, subject, name in cases:
        assert name_of(Fact("x", "Where was Ada Velour born?", "Oslo.", subject, group=group)) == name


def test_config_refuses_impossible_numbers() -> None:
    for change in (
        {"authors": 0},
        {"rows": -1},
        {"unseen_share": 1.5},
        {"protected_scored": -2},
        {"unknown_people": -1},
    ):
        with pytest.raises(UserError, match=f"benchmark.{next(iter(change))}"):
            BenchmarkConfig(**change)  # type: ignore[arg-type]


def test_every_benchmark_has_a_yaml_of_known_keys() -> None:
    from dataclasses import fields

    from omegaconf import OmegaConf

    folder = ROOT / "conf" / "benchmark"
    assert {path.stem for path in folder.glob("*.yaml")} >= {"fictional", "tofu", "jsonl"}
    for path in folder.glob("*.yaml"):
        values = OmegaConf.to_container(OmegaConf.load(path))
        assert set(values) <= {field.name for field in fields(BenchmarkConfig)}  # type: ignore[arg-type]
        config = BenchmarkConfig(**values)
        assert (config.implementation or config.name) in BENCHMARKS.names()  # type: ignore[arg-type]
