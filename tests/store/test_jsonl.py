"""The strict JSON Lines reader, and writers that survive being killed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from unierase_cli.contracts import UserError
from unierase_cli.store.jsonl import append_jsonl, drop_torn_tail, iterate_jsonl, read_asset, read_jsonl, write_jsonl


def test_rows_come_back_as_written_with_unicode_and_line_separators(tmp_path: Path) -> None:
    rows = [{"text": "Zürich, 東京"}, {"text": "a\u2028b\u0085c\nd"}, {"n": 1.5}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read_jsonl(tmp_path / "a.jsonl") == rows
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_blank_lines_are_skipped_and_line_numbers_stay_true(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\r\n\n   \n{"a": 2}')
    assert list(iterate_jsonl(tmp_path / "a.jsonl")) == [(1, {"a": 1}), (4, {"a": 2})]


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert read_jsonl(tmp_path / "a.jsonl") == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"a": 1}\n{"a": 1,}\n', "not valid JSON"),
        (b'{"a": 1}\n[1, 2]\n', "a JSON list, not an object"),
        (b'{"a": 1}\n"text"\n', "a JSON string, not an object"),
        (b'{"a": 1}\n{"a": "\xe9"}\n', "not UTF-8"),
        (b'{"a": 1}\n{"a": 1} {"b": 2}\n', "not valid JSON"),
        (b'{"a": 1}\n' + b"[" * 200_000 + b"\n", "nested too deeply"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.jsonl:2: ") as caught:
        read_jsonl(tmp_path / "bad.jsonl")
    assert complaint in caught.value.message
    assert caught.value.hint


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="is a folder"):
        read_jsonl(tmp_path)


def test_a_torn_last_line_is_left_out_on_request_and_cut_off_before_appending(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2')
    assert read_jsonl(path, torn_tail=True) == [{"a": 1}]
    append_jsonl(path, [{"a": 3}])
    assert read_jsonl(path) == [{"a": 1}, {"a": 3}]


def test_appending_makes_the_file_and_keeps_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_jsonl(path, [{"a": 1}])
    append_jsonl(path, [{"a": 2}, {"a": 3}])
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.parametrize("tail", [1, 65535, 65536, 70000])
def test_a_torn_tail_of_any_length_is_cut_off(tmp_path: Path, tail: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * tail)
    drop_torn_tail(path)
    assert path.read_bytes() == b'{"a": 1}\n'
    path.write_bytes(b"x" * tail)
    drop_torn_tail(path)
    assert path.read_bytes() == b""


def test_the_refusals_are_found_in_the_package() -> None:
    texts = [row["text"] for row in read_asset("refusals.jsonl")]
    assert len(texts) == len(set(texts)) >= 60


@pytest.mark.parametrize("content", ['[{"a": 1}, {"a": 2}]', '[\n  {"a": 1},\n  {"a": 2}\n]\n', ' [ {"a":\n1}]'])
def test_an_array_is_called_one_and_the_command_that_is_offered_makes_lines_of_it(content: str, tmp_path: Path) -> None:
    path = tmp_path / "array.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"array\.json is a JSON array, not JSON Lines") as caught:
        read_jsonl(path)
    program = shlex.split(caught.value.hint.partition(" < ")[0])
    made = subprocess.run([sys.executable, *program[1:]], input=content, capture_output=True, text=True, check=True)
    (tmp_path / "NEW.jsonl").write_text(made.stdout)
    assert caught.value.hint.endswith(f"< {path} > NEW.jsonl")
    assert read_jsonl(tmp_path / "NEW.jsonl") == json.loads(content)
