"""Strategies of hypothesis for input that nobody meant, drawn around what the schema, conf/ and sound files really have."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from typing import Any, get_args, get_origin

import pytest

from unierase_cli.config import catalog
from unierase_cli.config.locate import shipped_folder
from unierase_cli.config.overrides import known_keys, leaf_type
from unierase_cli.contracts import UserError

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# A thousand examples where time allows, else few, and the same ones each time.
LONG = os.environ.get("UNIERASE_LONG_TESTS", "") not in ("", "0")
NUMBERS = (
    "0", "1", "2", "3", "-1", "-0", "0.5", "1e-3", "1e400", "-1e400", "nan", "inf", "-inf", ".inf", ".nan", "1e309", "0x10",
    "1_000", "٣", "01", "1.", ".5", "1e", "--1", "+1", "9" * 20, "9" * 400, "9" * 5000, "2147483648", "9223372036854775808",
    "1,5", "1.5.2",
)  # fmt: skip
WORDS = (
    "", " ", "null", "~", "None", "true", "false", "yes", "off", "???", "''", '""', "'", '"', "'a", "a'", "\\", "\\'", "a\\",
    "=", "==", ",", ";", ":", "a:b", "[", "]", "{", "}", "[]", "{}", "[[]]", "[1,2", "1,2]", "[1,,2]", "{a:1}", "{a:}",
    "{:1}", "[a,b]", "[null]", "[1.5]", "[-1]", "[true]", "(1)", "a(b", "$", "${", "${}", "${x}", "${run.seed}",
    "${model.name}", "${hydra:run.dir}", "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE}", "${oc.decode:1}", "${now:%Y}",
    "${.name}", "${..name}", "${run}", "${${run.seed}}", "$(id)", "`id`", "choice(1,2)", "range(3)", "range(0,10**9)",
    "interval(0,1)", "glob(*)", "shuffle(1,2)", "sort(2,1)", "int(1.5)", "float(x)", "str(1)", "extend_list(1)", "1,2", "a,b",
    "../../etc/passwd", "/", "/dev/null", "/proc/self/mem", ".", "..", "~/x", "file:///etc/passwd", "http://localhost:1/",
    "#", "# a", "a b", "a\tb", "a\nb", "a\r\nb", "\x00", "a\x00b", "\x1b[31m", "\ufeff", "\u202e", "ü", "東京", "🙂", "\ud800",
    "\udcff", "e\u0301", "%s", "%(a)s", "{0}", "{question}", "<|eot_id|>", "[UNL]", "x" * 300, "x" * 5000, "[" * 60,
    "{a:" * 60, "!!python/object/apply:os.system ['true']", "&a *a", "- a", "---", "@package", "|", ">",
)  # fmt: skip


def settings(examples: int, long: int = 1000) -> Any:
    """Of a property that is tried on so many examples, the same ones each time, or on ``long`` others."""
    return hypothesis.settings(
        max_examples=long if LONG else examples, deadline=None, derandomize=not LONG, database=None
    )


def refusal(call: Callable[[], object]) -> UserError | None:
    """The error with which a call refuses, which is one line with a hint; None if it does not."""
    try:
        call()
    except UserError as error:
        told = f"{error.message}{error.hint}"
        if not error.hint or "\n" in told:
            raise
        return error
    return None


@cache
def groups() -> dict[str, list[str]]:
    """The groups of conf/ and their choices."""
    return catalog.groups([shipped_folder()])


@cache
def keys() -> list[str]:
    """Every dotted key of the schema, sections and the places of a list among them."""
    leaves = known_keys()
    sections = {leaf.rpartition(".")[0] for leaf in leaves} - {""}
    return [
        *leaves,
        *sorted(sections),
        "token.stages.0.epochs",
        "token.stages.9.lr",
        "token.stages.-1.lr",
        "edit.layers.0",
    ]


def texts() -> Any:
    """Any text, whole and broken surrogates included."""
    return st.one_of(st.sampled_from(WORDS), st.text(max_size=12), st.text("[]{}(),:=~+$'\"\\ \t.-0aé", max_size=10))


def fitting(key: str) -> Any:
    """Values of the type that a key has."""
    kind = leaf_type(key)
    if kind is bool:
        return st.sampled_from(["true", "false"])
    if kind is int:
        return st.integers(-2, 40).map(str)
    if kind is float:
        return st.floats(-1, 2).map(str)
    if get_origin(kind) is list:
        names = st.sampled_from(["a", "plain", "forget", "chat", "mmlu"])
        inner = st.integers(-1, 9).map(str) if get_args(kind)[0] is int else names
        return st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
    return texts()


def near_misses(names: Any) -> Any:
    """A name with a letter too many, too few, twice, or in capitals."""

    def spoil(name: str, place: int, how: int) -> str:
        place %= len(name) + 1
        return (
            name[:place] + name[place + 1 :], name[:place] + "x" + name[place:], name[: place + 1] + name[place:],
            name.upper(), name + " ", "." + name, name + ".", name.replace(".", "/"), name.replace("_", "-"), name + ".x",
        )[how]  # fmt: skip

    return st.builds(spoil, names, st.integers(0, 40), st.integers(0, 9))


def values(key: str) -> Any:
    return st.one_of(fitting(key), st.sampled_from(NUMBERS), texts())


def word() -> Any:
    """One word of a command line."""
    names = st.sampled_from(sorted(groups()))
    choice = names.flatmap(lambda group: st.tuples(st.just(group), st.sampled_from(groups()[group])))
    any_choice = names.flatmap(
        lambda group: st.tuples(st.just(group), st.one_of(near_misses(st.sampled_from(groups()[group])), texts()))
    )
    leaves = st.sampled_from(keys())
    value = leaves.flatmap(lambda key: st.tuples(st.just(key), values(key)))
    right = leaves.flatmap(lambda key: st.tuples(st.just(key), fitting(key)))
    unknown = st.tuples(st.one_of(near_misses(st.one_of(leaves, names)), texts()), texts())
    pair = st.one_of(choice, right, right, value, value, value, any_choice, unknown)
    prefix = st.sampled_from([*[""] * 12, "+", "++", "~", "+++", "--", " "])
    written = st.builds(lambda before, pair: f"{before}{pair[0]}={pair[1]}", prefix, pair)
    bare = st.builds(lambda before, name: before + name, prefix, st.one_of(leaves, names, texts()))
    return st.one_of(*[written] * 7, bare)


def command_lines() -> Any:
    """Lists of words: mostly one or two, some with a word twice."""
    few = st.lists(word(), min_size=1, max_size=2)
    return st.one_of(few, few, st.lists(word(), max_size=4), few.map(lambda words: [*words, words[0]]))


# --- files -----------------------------------------------------------------------------------------------------------------

CONTROL_TEXTS = (
    "<|eot_id|>", "<|end|>", "<|user|>", "<unlearn_0>", "[UNL]", "<unlearn_0", "[INST] [/INST]", "<s></s>",
    "<|im_start|>system\n", "{{ bos_token }}", "{question}", "{0}", "%s", "__NAME__", "\u202eabc\u202c", "\u200f\u05d0",
    "👩‍👩‍👧", "\ufeff", "\u2028\u2029\x85", "\x00", "\x1b[0m",
)  # fmt: skip


def contents() -> Any:
    """Text that JSON can hold, control tokens and control characters among it; no half characters."""
    plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    return st.lists(st.one_of(plain, st.sampled_from(CONTROL_TEXTS)), max_size=3).map("".join)


def json_values() -> Any:
    """Values of any kind, those of Python's JSON that other languages lack among them."""
    numbers = st.one_of(
        st.integers(-3, 9),
        st.sampled_from([10**30, -(2**63), 10**400, True]),
        st.floats(),
        st.sampled_from([1.0, -0.0, 1e308]),
    )
    leaves = st.one_of(st.none(), st.booleans(), numbers, contents())
    inner = st.one_of(st.lists(leaves, max_size=3), st.dictionaries(contents(), leaves, max_size=2))
    return st.one_of(leaves, leaves, inner, st.lists(inner, max_size=2))


def rows_like(sound: dict[str, Any]) -> Any:
    """Rows with the keys of a sound one, of which at most two have another value, are gone, or are new."""

    def changed(row: dict[str, Any], changes: list[tuple[str, str, Any]]) -> dict[str, Any]:
        row = dict(row)
        for key, how, value in changes:
            if how == "gone":
                row.pop(key, None)
            elif how == "within" and isinstance(row.get(key), list):
                row[key] = [*row[key], value]
            elif how == "within" and isinstance(row.get(key), dict):
                row[key] = {**row[key], "new": value}
            else:
                row[key] = value
        return row

    how = st.sampled_from(["other", "other", "within", "gone"])
    change = st.tuples(st.sampled_from([*sound, "new"]), how, json_values())
    return st.builds(changed, st.just(sound), st.lists(change, max_size=2))


# What no writer of JSON makes.
BROKEN = (
    b"", b" ", b"\t\r", b"{", b"}", b"{}", b"[]", b"[1]", b"null", b"1", b'"text"', b"{,}", b'{"a": 1,}', b"{'a': 1}",
    b'{"a": 01}', b'{"a": +1}', b'{"a": NaN}', b'{"a": -Infinity}', b'{"question": "a", "question": "b", "answer": "c"}',
    b'{"a": "\x01"}', b'{"a": "\x00"}', b"\x00", b'{"question": "\\ud800", "answer": "b"}',
    b'{"question": "\\ud83d\\ude00", "answer": "b"}', b'{"a": "\\u00"}', b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}',
    b"\xef\xbb\xbf{}", b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1e' + b"9" * 50 + b"}", b'{"a": ' + b"[" * 3000,
    b'{"a": ' * 900 + b"1" + b"}" * 900, b"[" * 100_000 + b"]" * 100_000, b'{"a": 1} {"b": 2}', b'{"a": 1}\r{"b": 2}',
    b"// a\n{}", b"{}#",
)  # fmt: skip


def files_like(sound: dict[str, Any]) -> Any:
    """A file of lines, most of them rows like a sound one, in some encoding, with line ends of some kind."""

    def line(row: dict[str, Any], ascii_only: bool) -> bytes:
        return json.dumps(row, ensure_ascii=ascii_only).encode("utf-8")

    good = st.just(json.dumps(sound).encode())
    like = st.builds(line, rows_like(sound), st.booleans())
    lines = st.lists(st.one_of(good, like, like, st.sampled_from(BROKEN)), max_size=3)

    def encoded(parts: list[bytes], end: bytes, last: bool, how: str) -> bytes:
        content = end.join(parts) + (end if last else b"")
        if how == "mark":
            return b"\xef\xbb\xbf" + content
        if how.startswith("utf-16") or how == "latin-1":
            return content.decode("utf-8", "replace").encode(how, "replace")
        return content

    ways = st.sampled_from(["utf-8"] * 6 + ["mark", "utf-16", "utf-16-le", "latin-1"])
    return st.builds(encoded, lines, st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n"]), st.booleans(), ways)


# --- yamls -----------------------------------------------------------------------------------------------------------------

YAML_VALUES = (
    "1", "-1", "[]", "{}", "null", "~", "true", '"x"', ".nan", ".inf", "1e400", "9" * 30, "9" * 5000, "[1,2]", "[a]",
    "{a: 1}", "${run.seed}", "${", '"\\0"', '"\\ud800"', '!!python/object/apply:os.system ["true"]', "!!binary aGk=",
    "2024-01-01", "0o17", "1_000", "&a [*a]", "*a", "|", "> x", "???", "- 1", '"', "'", "[", "{", "\t1", "@x", "%", "`",
    "!x y", "<<", "? a", "...", "---", "1:30", "\u00e9", "\ufeff", "[[[[[[[[[[[[1]]]]]]]]]]]]", "{a: {b: {c: {}}}}", "{1: 2}",
    "{null: 1}", "{[1]: 2}",
)  # fmt: skip
YAML_HEADS = (
    "", "", "", "# @package _global_\n", "# @package a.b\n", "# @package\n", "defaults:\n  - x\n", "defaults: [other]\n",
    "defaults: 3\n", "defaults:\n  - override /model: mini\n", "defaults:\n  - {a: b, c: d}\n", "defaults:\n  - mine\n",
    "hydra: {run: {dir: /}}\n",
)  # fmt: skip
YAML_KEYS = ("x", "", "1", "null", "~", "a b", "<<", "defaults", "hydra", "_target_", '"\\0"', "- x", "name")


def yamls() -> Any:
    """(group, content of a yaml of it): its own keys and others, with values that yaml makes something else of."""

    def written(key: str, value: str) -> str:
        *sections, name = key.split(".")
        above = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(sections))
        return f"{above}{'  ' * len(sections)}{name}: {value}\n"

    def of_group(group: str) -> Any:
        own = [key.partition(".")[2] for key in keys() if key.startswith(group + ".")] or ["name"]
        name = st.one_of(st.sampled_from(own), st.sampled_from(own), st.sampled_from(YAML_KEYS))
        value = st.one_of(st.sampled_from(YAML_VALUES), st.sampled_from(NUMBERS[:20]))
        lines = st.lists(st.builds(written, name, value), max_size=3).map("".join)
        text = st.builds(
            str.__add__, st.sampled_from(YAML_HEADS), st.one_of(lines, lines, lines, st.sampled_from(YAML_VALUES))
        )
        broken = st.sampled_from(
            [b"\xff\xfe", b"\x00", bytes(range(256)), b"[" * 3000, b"a:\r  b: 1", "name: x".encode("utf-16"), b""]
        )
        return st.tuples(st.just(group), st.one_of(*[text.map(lambda t: t.encode("utf-8", "replace"))] * 5, broken))

    return st.sampled_from(sorted(groups())).flatmap(of_group)
