"""Artefacts: versions, resuming, looking up, hashing."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from unierase_cli.contracts import UserError, pick, stable_hash
from unierase_cli.store import artefact as one_artefact
from unierase_cli.store import artefacts
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.json_text import write_json


def make(store: Store, key: str = "a" * 64, slug: str = "demo", finished: float = 1.0) -> Artefact:
    draft = store.draft("erase", slug, key)
    (draft.path / "payload.txt").write_text("x")
    return draft.complete({"stage": "erase", "key": key, "finished": finished})


def test_a_version_is_visible_only_once_its_manifest_exists(tmp_path: Path) -> None:
    store = Store(tmp_path)
    draft = store.draft("erase", "demo", "k" * 64)
    assert store.list() == []
    assert store.find("erase", "k" * 64) is None
    draft.complete({"stage": "erase", "key": "k" * 64})
    found = store.find("erase", "k" * 64)
    assert found is not None
    assert found.path == draft.path


def test_an_interrupted_version_is_continued_by_the_same_key_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.draft("erase", "demo", "a" * 64)
    (first.path / "half.jsonl").write_text("1\n")
    again = store.draft("erase", "demo", "a" * 64)
    other = store.draft("erase", "demo", "b" * 64)
    assert (again.path, again.resuming) == (first.path, True)
    assert (again.path / "half.jsonl").read_text() == "1\n"
    assert (other.path.name, other.resuming) == ("v002", False)


def test_a_complete_version_is_never_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = make(store)
    second = make(store, finished=2.0)
    assert (first.path.name, second.path.name) == ("v001", "v002")
    found = store.find("erase", "a" * 64)
    assert found is not None
    assert found.path == second.path


def test_a_run_is_named_by_path_slug_key_prefix_or_latest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = make(store, "a" * 64), make(store, "b" * 64, finished=2.0)
    assert store.resolve(str(first.path)).key == first.key
    assert store.resolve("demo@v002").path == second.path
    assert store.resolve("bbbb").path == second.path
    assert store.resolve("latest").path == second.path


def test_an_unknown_or_ambiguous_run_is_refused_with_a_hint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store, "abcd1" + "0" * 59)
    make(store, "abcd2" + "0" * 59)
    with pytest.raises(UserError, match="several"):
        store.resolve("abcd")
    with pytest.raises(UserError, match="did you mean demo@v00"):
        store.resolve("demo@v009")
    with pytest.raises(UserError, match="no finished artefact"):
        Store(tmp_path / "elsewhere").resolve("latest")


def test_a_torn_manifest_counts_as_unfinished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artefact = make(store)
    (artefact.path / "manifest.json").write_text('{"stage": "er')
    assert store.list() == []


def test_a_list_parses_no_manifest_until_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(Store(tmp_path))
    monkeypatch.setattr(one_artefact, "parse_json", lambda text: pytest.fail("the manifest was parsed"))
    (listed,) = Store(tmp_path).overview()
    assert (listed.stage, listed.key, listed.order) == (made.stage, made.key, made.order)
    monkeypatch.undo()
    assert listed == made


def test_a_manifest_that_only_the_strict_reader_takes_or_refuses_is_listed_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)
    path = made.path / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"stage"', '"summary": {"ratio": NaN}, "stage"'), encoding="utf-8-sig")
    assert [found.manifest["key"] for found in store.overview()] == [made.key]
    for damaged in (text.replace('"finished": 1.0', '"finished": "today"'), text.replace('"erase"', '"\\ud800"'), "[" * 9999):
        path.write_text(damaged)
        assert store.overview() == store.list() == []
    path.write_text(text.replace('"stage"', '"seed": 1, "seed": 2, "stage"'))
    with pytest.raises(UserError, match='is damaged: the key "seed" occurs twice'):
        _ = store.overview()[0].manifest
    assert store.find("erase", made.key) is None
    assert store.list() == []


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_hashes_ignore_key_order_and_see_every_value(tmp_path: Path) -> None:
    assert hash_json({"a": 1, "b": [2]}) == hash_json({"b": [2], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 1.5})
    (tmp_path / "f").write_bytes(bytes(range(256)) * 20000)
    assert len(hash_file(tmp_path / "f")) == 64
    assert hash_file(tmp_path / "f", limit=100).startswith("sampled-")


def _hash_in_other_process(queue: multiprocessing.Queue) -> None:
    queue.put((stable_hash(0, "question"), pick(3, "id", ["a", "b", "c"])))


def test_stable_choices_agree_between_processes() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_hash_in_other_process, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == (stable_hash(0, "question"), pick(3, "id", ["a", "b", "c"]))
    process.join()


def test_looking_up_a_key_parses_only_manifests_with_that_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    made = [make(store, letter * 64, finished=number) for number, letter in enumerate("abcd")]
    (made[3].path / "manifest.json").write_text("{" + "c" * 64)
    read: list[Path] = []
    real = artefacts.found_artefact
    monkeypatch.setattr(artefacts, "found_artefact", lambda path: read.append(path) or real(path))
    found = store.find("erase", "c" * 64)
    assert found is not None
    assert (found.path, set(read)) == (made[2].path, {made[2].path, made[3].path})
    assert store.find("erase", "e" * 64) is None


def test_a_store_that_reads_once_shows_the_folder_as_it_was(tmp_path: Path) -> None:
    make(Store(tmp_path))
    once, always = Store(tmp_path, once=True), Store(tmp_path)
    assert [len(store.list("erase")) for store in (once, always)] == [1, 1]
    make(Store(tmp_path), "b" * 64)
    assert [len(store.list()) for store in (once, always)] == [1, 2]
    assert [store.find("erase", "b" * 64) is None for store in (once, always)] == [True, False]
    assert once.list("observe") == []
