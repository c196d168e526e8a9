"""Which words are axes, what their values are, and in which order the combinations come."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest

from unierase_cli.config.compose import compose
from unierase_cli.config.sweep import expand
from unierase_cli.contracts import UserError


def words_of(*words: str) -> list[tuple[str, ...]]:
    return [combination.words for combination in expand(words)]


def test_every_choice_of_one_value_per_word_is_a_run_and_the_last_word_changes_fastest() -> None:
    assert words_of("method=unierase,npo_gd", "benchmark=tofu", "seed=0,1") == [
        ("method=unierase", "benchmark=tofu", "run.seed=0"),
        ("method=unierase", "benchmark=tofu", "run.seed=1"),
        ("method=npo_gd", "benchmark=tofu", "run.seed=0"),
        ("method=npo_gd", "benchmark=tofu", "run.seed=1"),
    ]


def test_a_label_names_what_differs_as_it_was_typed() -> None:
    labels = [combination.label for combination in expand(["method=none", "seed=0,1", "unlearn.lr=1e-4,1e-5"])]
    assert labels[1] == "seed=0 unlearn.lr=1e-5"
    assert [combination.label for combination in expand(["method=none"])] == ["the only run"]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("seed=range(0,3)", ["0", "1", "2"]),
        ("seed=range(2)", ["0", "1"]),
        ("seed=range(0,3),7, 9", ["0", "1", "2", "7", "9"]),
        ("seed=range(4,0,-2)", ["4", "2"]),
        ("eval.splits=[forget,retain_unseen]", ["[forget,retain_unseen]"]),
        ("eval.splits=[forget],[forget,retain_near]", ["[forget]", "[forget,retain_near]"]),
        ("model.system='Yes, no.','Well, yes.'", ["'Yes, no.'", "'Well, yes.'"]),
        ("model.system='it\\'s, well'", ["'it\\'s, well'"]),
        ("model.system=don't,won't", ["don't", "won't"]),
        ("launcher.sbatch={qos: long, constraint: a}", ["{qos: long, constraint: a}"]),
        ("model.path=/models/a(1,2)", ["/models/a(1,2)"]),
        ("model.system=", [""]),
        ("model.system=a [ bracket", ["a [ bracket"]),
    ],
)
def test_brackets_and_quotes_keep_a_value_together(word: str, values: list[str]) -> None:
    (axis,) = expand([word]).axes
    assert list(axis.values) == values


def test_short_names_are_those_of_the_options_and_prefixes_stay() -> None:
    assert words_of("seed=1", "device=cpu", "outputs=here") == [("run.seed=1", "run.device=cpu", "run.outputs=here")]
    assert words_of("++edit.alpha=1,2", "~experiment") == [("++edit.alpha=1", "~experiment"), ("++edit.alpha=2", "~experiment")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=0,,1"], "seed=0,,1 has an empty value"),
        (["seed=0,"], "has an empty value"),
        (["seed=0,1,0"], "gives 0 twice"),
        (["seed=range(0,3),1"], "gives 1 twice"),
        (["seed=range(3,3)"], "has no values"),
        (["seed=range(0,a)"], "is not a range"),
        (["seed=range()"], "is not a range"),
        (["seed=range(0,1000000000)"], "1000000000 values"),
        (["seed=0,1", "run.seed=2"], "run.seed is given twice: seed=0,1 and run.seed=2"),
        (["run.outputs=a,b"], "run.outputs cannot be swept"),
        (["outputs=a,b"], "outputs cannot be swept"),
        (["launcher=local,slurm"], "launcher cannot be swept"),
        (["launcher.jobs=1,2"], "launcher.jobs cannot be swept"),
        (["eval.splits=[a,b"], "has an unclosed bracket"),
        (["model.system='a,b"], "has an unclosed quote"),
    ],
)
def test_slips_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        expand(words)
    assert message in refused.value.message
    assert refused.value.hint


def test_counting_makes_no_combination() -> None:
    assert len(expand([f"edit.key{n}=range(0,1000)" for n in range(5)])) == 10**15


def test_the_product_is_complete_and_nothing_comes_twice() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies
    atom = strategies.text("abc019._-/ '", min_size=1).map(str.strip).filter(lambda text: text and text[0] != "'")
    listed = strategies.lists(atom, min_size=2, max_size=3).map(lambda items: f"[{','.join(items)}]")
    value = strategies.one_of(atom, listed.filter(lambda text: "'" not in text))
    axes = strategies.lists(strategies.lists(value, min_size=1, max_size=4, unique=True), min_size=1, max_size=4)

    @hypothesis.given(axes)
    @hypothesis.settings(deadline=None)
    def holds(values: list[list[str]]) -> None:
        sweep = expand([f"key{n}={','.join(some)}" for n, some in enumerate(values)])
        assert [list(axis.values) for axis in sweep.axes] == values
        combinations = list(sweep)
        assert len(combinations) == len(sweep) == prod(map(len, values))
        assert len({combination.words for combination in combinations}) == len(combinations)
        for n, some in enumerate(values):
            shares = [sum(f"key{n}={one}" in combination.words for combination in combinations) for one in some]
            assert len(set(shares)) == 1

    holds()


def test_the_path_of_a_file_that_is_there_is_one_value_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine, the second.jsonl"
    path.write_text("")
    word = f"benchmark.path={path}"
    assert words_of(word, "seed=0,1") == [(word, "run.seed=0"), (word, "run.seed=1")]
    assert compose(words_of(word)[0], None).benchmark.path == str(path)
    assert len(expand([f"benchmark.path={tmp_path}/a,{tmp_path}/b"])) == 2
