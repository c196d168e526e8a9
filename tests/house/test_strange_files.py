"""Files that nobody meant: a reader takes one right, or refuses it in one line that names it, and which line is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import strange
from tests.helpers.tiny_models import CONTROL, tiny_tokenizer
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.general.base import load_items
from unierase_cli.benchmarks.parts.construction import read_people
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.corpus import read_corpus
from unierase_cli.interchange.open_unlearning_log import read_retain_log
from unierase_cli.interchange.tofu_log import read_log
from unierase_cli.interchange.tofu_scores import score_log
from unierase_cli.models.encoding import TextEncoder
from unierase_cli.modes.requests import read_tasks
from unierase_cli.store import jsonl
from unierase_cli.store.jsonl import iterate_jsonl, read_jsonl
from unierase_cli.training.token.targets import load_targets
from unierase_cli.training.unlearning.token_weights import load_token_weights

given, st = strange.hypothesis.given, strange.st


@dataclass(frozen=True)
class Reader:
    """How a file of one kind is read. ``sound``: a row of it; ``name``: the file; ``beside``: files that it cannot be without."""

    sound: dict[str, Any]
    read: Callable[[Path], object]
    name: str = "strange.jsonl"
    beside: Mapping[str, list[dict[str, Any]]] | None = None


def benchmark(name: str, **settings: Any) -> Callable[[Path], object]:
    """Load a benchmark from the folder that the file is in."""
    return lambda path: load_benchmark(
        BenchmarkConfig(name=name, data_dir=str(path.parent), unknown_people=0, any_model=True, **settings)
    )


def people(path: Path) -> object:
    return read_people([(f"{path}:{number}", row) for number, row in iterate_jsonl(path)], [])


def asked(question: str, **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": f"What {question} is.", **more}


OWN = {
    "id": 7, "question": "What does Ada Velour grow?", "answer": "Pears.", "subject": "Ada Velour", "group": "Ada",
    "paraphrased_question": "Ada's fruit?", "paraphrased_answer": "Pears it is.", "wrong_answers": ["Plums.", "Figs."],
}  # fmt: skip
TOFU = {
    "full": [asked(f"q{n}") for n in range(8)],
    "forget01_perturbed": [asked("q7", perturbed_answer=["x"])],
    "retain_perturbed": [asked("q0", perturbed_answer=["x"])],
}
RETURN = {
    f"{role}_{part}": [asked(f"Who is {role} {part}?", name=role)]
    for role in ("forget", "retain")
    for part in ("train", "eval")
}
REAL = {
    name: [asked(f"Who is {name.split('_')[0]}?", name=name.split("_")[0], golden_answer="She.")]
    for name in ("forget", "forget_perturbed", "neighbor")
} | {"neighbor_perturbed": [asked("Who else?", name="else", golden_answer="He.")]}
SUITES = {
    "mmlu": {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2},
    "gsm8k": {"question": "How many?", "answer": "Two and two. #### 4"},
    "trivia_qa": {
        "question": "Who?",
        "answers": ["Ada"],
        "answer": {"value": "Ada", "aliases": ["A."]},
        "context": "Ada.",
    },
    "human_eval": {"task_id": "t/0", "prompt": "def f():\n", "test": "def check(candidate): ...", "entry_point": "f"},
}
READERS = {
    "lines": Reader({"a": 1, "b": [1], "c": {"d": 2}}, read_jsonl),
    "own facts": Reader(OWN, lambda path: load_benchmark(BenchmarkConfig(name="jsonl", path=str(path)))),
    "tofu full": Reader(TOFU["full"][3], benchmark("tofu", split="forget01"), "full.jsonl", TOFU),
    "tofu forget": Reader(TOFU["forget01_perturbed"][0], benchmark("tofu", split="forget01"), "forget01_perturbed.jsonl", TOFU),
    "tofu subjects": Reader(
        {"index": 3, "question": "q3", "author": "A.", "subject": "q3"}, benchmark("tofu", split="forget01"),
        "full_subject.jsonl", TOFU
    ),
    "tofu order": Reader(
        {"suite": "forget01", "kind": "forget", "task_id": 1, "full_index": [7]},
        benchmark("tofu", split="forget01", order="closer_look"), "continual_tasks.jsonl", TOFU,
    ),
    "return": Reader(asked("Who?", name="someone"), benchmark("return"), "forget_eval.jsonl", RETURN),
    "return by person": Reader({"name": "someone", "data": [asked("Who?")]}, benchmark("return"), "retain_train.jsonl", RETURN),
    "real world": Reader(REAL["neighbor"][0], benchmark("real_world"), "neighbor.jsonl", REAL),
    "people": Reader({"name": "Ada", "qa_list": [asked("Who?"), asked("When?")]}, people),
    "requests": Reader(
        {"suite": "mine", "kind": "forget", "task_id": 1, "facts": ["full-3"], "full_index": [3]},
        lambda path: read_tasks(ModeConfig(tasks=str(path))),
    ),
    "refusals": Reader({"text": "I do not know."}, lambda path: load_targets(TokenConfig(targets=str(path)))),
    "refusals, plain": Reader({"text": "I do not know."}, lambda path: load_targets(TokenConfig(targets=str(path))),
    "strange.txt"),
    "token weights": Reader({"fact": "full-1", "weights": [0, 0.5, 1]}, load_token_weights),
    "corpus": Reader({"text": "Some text."}, lambda path: read_corpus(str(path), "corpus", 0, (), 0)),
    **{
        name: Reader(
            row, lambda path, name=name: load_items(name, GeneralConfig([name], str(path.parent))), f"{name}.jsonl"
        )
        for name, row in SUITES.items()
    },
}  # fmt: skip
# A thousand files over all readers where there is time.
EXAMPLES = -(-1000 // len(READERS)) if strange.LONG else 15


@pytest.mark.parametrize("kind", READERS)
def test_a_strange_file_is_read_or_refused_with_file_and_line(kind: str, tmp_path: Path) -> None:
    reader = READERS[kind]
    for name, rows in (reader.beside or {}).items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    path = tmp_path / reader.name

    @given(strange.files_like(reader.sound))
    @strange.settings(EXAMPLES, EXAMPLES)
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        error = strange.refusal(lambda: reader.read(path))
        if error is None:
            return
        # What is wrong with one row says which; what is wrong with all of them names the file, its folder or its part.
        line = re.match(re.escape(str(path)) + r":(\d+)\b", error.message)
        if line is not None:
            assert 1 <= int(line[1]) <= len(content.split(b"\n"))
        else:
            assert not re.search("not valid JSON|UTF-8 text|missing|is null|not a string|nested", error.message)

    holds()


def test_what_is_loaded_is_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "meant.jsonl"
    rows = st.lists(st.tuples(strange.contents(), strange.contents()), min_size=1, max_size=4)

    @given(rows, st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf"]), st.sampled_from(["\n", "\r\n", "\n\n \n"]))
    @strange.settings(100)
    def holds(texts: list[tuple[str, str]], ascii_only: bool, mark: bytes, end: str) -> None:
        meant = [{"question": f"Who is {n}? {asked}", "answer": f"{said}."} for n, (asked, said) in enumerate(texts)]
        path.write_bytes(
            mark + "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in meant).encode("utf-8")
        )
        assert read_jsonl(path) == meant
        facts = load_benchmark(BenchmarkConfig(name="jsonl", path=str(path))).forget
        assert [{"question": fact.question, "answer": fact.answer} for fact in facts] == meant

    holds()


def test_control_tokens_in_a_users_text_are_plain_text_and_come_back_as_typed() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<unlearn_0>", "[UNL]"], special_tokens=True)
    control = {tokenizer.convert_tokens_to_ids(name) for name in (*CONTROL, "<unlearn_0>", "[UNL]")}
    encoder = TextEncoder(tokenizer)

    parts = st.one_of(strange.contents(), st.sampled_from([*CONTROL, "<unlearn_0>", "[UNL]"]))

    @given(st.lists(parts, max_size=5).map("".join))
    @strange.settings(200)
    def holds(text: str) -> None:
        ids, offsets = encoder.encode(text, [(0, len(text))])
        assert not control & set(ids)
        assert tokenizer.decode(ids) == text
        assert all(0 <= start <= end <= len(text) for start, end in offsets)

    holds()


LOG = {
    "eval_log_forget.json": {
        "avg_gt_loss": {"0": 1.0, "1": 2.0}, "avg_paraphrased_loss": {"0": 1.0, "1": 2.0},
        "average_perturb_loss": {"0": [1.0, 2.0], "1": [3.0]}, "rougeL_recall": {"0": 1.0, "1": 0.5},
        "generated_text": {"0": ["p", "g", "t"], "1": ["p", "g", "t"]},
    },
    "forget_truth_ratio": {"agg_value": 0.5, "value_by_index": {"0": {"score": 0.5}}},
    "forget_Q_A_Prob": {"agg_value": 0.5, "value_by_index": {"0": {"prob": 0.5, "avg_loss": 0.7}}},
    "mia_min_k": {"auc": 0.4, "agg_value": 0.4},
}  # fmt: skip


def test_a_strange_log_of_another_code_base_is_scored_or_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    parts = {name: st.one_of(strange.rows_like(entry), strange.json_values()) for name, entry in LOG.items()}
    sets = st.fixed_dictionaries({}, optional=parts)
    broken = st.sampled_from(
        [b"", b"[", b"{" * 5000, b'{"a": 1, "a": 2}', b'{"a": ' + b"9" * 5000 + b"}", "{}".encode("utf-16")]
    )
    content = st.one_of(
        sets.map(lambda data: json.dumps(data).encode()), sets.map(lambda data: json.dumps(data).encode()), broken
    )

    @given(content)
    @strange.settings(150)
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        for read in (lambda: score_log(read_log(path)).to_json(), lambda: read_retain_log(path)):
            error = strange.refusal(read)
            assert error is None or error.message.startswith(str(path))

    holds()


@pytest.mark.parametrize("how", ["utf-16", "utf-16-be", "utf-32"])
def test_a_file_of_another_encoding_is_refused_in_its_first_line(how: str, tmp_path: Path) -> None:
    path = tmp_path / "wide.jsonl"
    path.write_bytes('{"question": "a", "answer": "b"}\n'.encode(how))
    with pytest.raises(UserError, match=re.escape(f"{path}:1: not ")):
        read_jsonl(path)


def test_a_key_twice_half_a_character_and_a_number_of_thousands_of_digits_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    told = {
        b'{"answer": "a", "x": {"answer": 1, "answer": 2}}': 'the key "answer" occurs twice',
        b'{"a": "\\ud800"}': "half",
        b'{"a": ' + b"9" * 5000 + b"}": "thousands of digits",
    }
    for line, words in told.items():
        path.write_bytes(b'{"a": 1}\n' + line)
        with pytest.raises(UserError, match=re.escape(f"{path}:2: ")) as caught:
            read_jsonl(path)
        assert words in caught.value.message


def test_a_line_that_would_fill_the_memory_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LONGEST", 1 << 20)
    path = tmp_path / "long.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"a": 1}\n')
        stream.truncate(1 << 34)
    with pytest.raises(UserError, match=re.escape(f"{path}:2: a line of more than 1 MiB")):
        read_jsonl(path)


def test_gigabytes_where_kilobytes_belong_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "TOFU_EVAL.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 34)
    with pytest.raises(UserError, match="17,180 MB"):
        read_log(path)
