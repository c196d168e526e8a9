"""Folders that somebody else made: sizes are checked before they are believed, and no name in a file leads out of its folder."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.helpers import strange
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.cli.outcome import as_data, outcome, show_manifest, show_outcome
from unierase_cli.cli.render import emit_json
from unierase_cli.cli.tables import artefact_table, console_on, show
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.moments import StoredMoments
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LayerState, LowRank
from unierase_cli.editing.state import EditState
from unierase_cli.models.bounded import Failed, bounded
from unierase_cli.models.files import save_folder as written
from unierase_cli.models.fingerprint import fingerprint_model
from unierase_cli.models.load import load_model
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.pipeline.observation_files import read_state
from unierase_cli.results.runs import find_runs
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import DESCRIPTION, Finite, decoded, read_json, write_json
from unierase_cli.store.model_folders import ADAPTER, INDEX
from unierase_cli.store.patch_files import stored_shapes
from unierase_cli.store.tensors import load_tensors, save_tensors

given = strange.hypothesis.given


def tensor_file(path: Path, head: Any, *, claimed: int | None = None, content: bytes = b"\0" * 24) -> Path:
    """A safetensors file with this head, which may claim any length."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text) if claimed is None else claimed) + text + content)
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}}


def test_the_head_of_a_sound_file_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "patch-000.safetensors"
    kinds = {"b": torch.bfloat16, "c": torch.int64}
    shapes = {"a": [2, 3], "b": [4], "c": [0, 7]}
    save_tensors(
        path, {name: torch.zeros(shape, dtype=kinds.get(name)) for name, shape in shapes.items()}, {"facts": ["x"]}
    )
    assert stored_shapes(tmp_path, 0) == shapes
    assert {name: list(found.shape) for name, found in load_tensors(path).items()} == shapes


@pytest.mark.parametrize(
    ("head", "claimed"),
    [
        (entry(), 10**12),
        (entry(), 2**64 - 1),
        (entry(), 0),
        (b"{", None),
        (b"[]", None),
        (b"\xff\xfe{}", None),
        (b"[" * 5000, None),
        (b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 24]}}', None),
        (entry(data_offsets=[0, 10**12]), None),
        (entry(data_offsets=[24, 0]), None),
        (entry(data_offsets=[-24, 0]), None),
        (entry(data_offsets=[0]), None),
        (entry(shape=[2, 4]), None),
        (entry(shape=[-2, -3]), None),
        (entry(shape=["2", 3]), None),
        (entry(shape=[10**10, 10**10]), None),
        (entry(dtype="F64"), None),
        (entry(dtype="OBJECT"), None),
        (entry(dtype=3), None),
        ({"a": 3}, None),
        ({"a": {"shape": [2, 3]}}, None),
    ],
)
def test_a_head_that_does_not_describe_its_file_is_refused(tmp_path: Path, head: Any, claimed: int | None) -> None:
    path = tensor_file(tmp_path / "patch-000.safetensors", head, claimed=claimed)
    for read in (lambda: stored_shapes(tmp_path, 0), lambda: load_tensors(path)):
        with pytest.raises(UserError, match="is not a readable safetensors file") as caught:
            read()
        assert str(path) in caught.value.message


def test_a_folder_in_the_place_of_a_tensor_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(UserError, match="x.safetensors is not a readable safetensors file"):
        load_tensors(tmp_path / "x.safetensors")


def test_a_description_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 34)
    with pytest.raises(ValueError, match="17,180 MB, more than the limit of 17 MB"):
        read_json(path, DESCRIPTION)
    assert Store(tmp_path).list() == []


class Inner(msgspec.Struct):
    y: str


class Outer(msgspec.Struct):
    """Of every kind that files are read as."""

    a: int = 0
    b: str | None = None
    c: Finite = 0.0
    d: list[int] = []
    e: dict[str, Inner] = {}
    f: int | list[int] | None = None


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"a": True}, "a: expected int, got bool"),
        ({"a": 1.0}, "a: expected int, got float"),
        ({"b": 1}, "b: expected str | null, got int"),
        ({"c": True}, "c: expected float, got bool"),
        ({"c": float("nan")}, "c: expected float that is finite"),
        ({"c": float("inf")}, "c: expected float that is finite"),
        ({"c": float("-inf")}, "c: expected float that is finite"),
        ({"c": 10**400}, "c: number out of range"),
        ({"d": [1, "2"]}, "d[1]: expected int, got str"),
        ({"e": {"x": {"y": 1}}}, "e[...].y: expected str, got int"),
        ({"e": {"x": {}}}, "e[...]: object missing required field y"),
        ({"f": [1, "2"]}, "f[1]: expected int, got str"),
        ([], "expected object, got array"),
    ],
)
def test_what_is_of_another_type_is_told_with_its_place(value: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(wrong)}$"):
        decoded(value, Outer)


def test_what_is_of_the_right_type_is_taken_and_other_keys_are_free() -> None:
    assert decoded({"a": 10**30, "b": None, "c": 1, "f": None, "other": {}}, Outer) == Outer(a=10**30, c=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model") / "tiny")


def load(folder: Path) -> None:
    load_model(ModelConfig(path=str(folder)), RunConfig(device="cpu"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../other/model.safetensors", "leads out of its folder"),
        ("/etc/model.safetensors", "leads out of its folder"),
        ("a/../../model.safetensors", "leads out of its folder"),
        ("..\\model.safetensors", "leads out of its folder"),
        ("pytorch_model.bin", "never pickles"),
        ("model.pt", "never pickles"),
    ],
)
def test_a_models_index_names_safetensors_of_its_own_folder_only(
    model: Path, tmp_path: Path, name: str, told: str
) -> None:
    folder = copied(model, tmp_path)
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": name}}))
    with pytest.raises(UserError, match=told) as caught:
        load(folder)
    assert repr(name) in caught.value.message


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "{", "[" * 100_000])
def test_a_damaged_index_is_told(model: Path, tmp_path: Path, index: str) -> None:
    folder = copied(model, tmp_path)
    (folder / INDEX).write_text(index)
    with pytest.raises(UserError, match=f"{INDEX} cannot be read"):
        load(folder)


def test_an_adapter_does_not_bring_in_the_base_model_that_it_names(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    (folder / ADAPTER).write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "/somewhere/else"}))
    with pytest.raises(UserError, match="has an adapter_config.json"):
        load(folder)


def test_a_config_of_gigabytes_is_refused_before_it_is_read(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    with (folder / "config.json").open("r+b") as stream:
        stream.truncate(1 << 34)
    with pytest.raises(UserError, match="config.json has 17,180 MB"):
        load(folder)


def test_weights_that_are_not_finite_are_neither_loaded_nor_written(tmp_path: Path) -> None:
    loaded = tiny_llama()
    weights = dict(loaded.model.named_parameters())
    with torch.no_grad():
        weights["model.layers.1.mlp.down_proj.weight"][0, :3] = float("nan")
        weights["model.embed_tokens.weight"][7, 0] = float("inf")
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    told = r"1 of \d+ values of model.embed_tokens.weight are NaN or infinite, and 1 more tensors have such"
    with pytest.raises(UserError, match=f"{tmp_path}: {told}"):
        load(tmp_path)
    with pytest.raises(UserError, match=told):
        written(loaded.model, loaded.tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["rows_in", "rows_out"])
def test_a_token_that_is_not_finite_is_neither_written_nor_read(tmp_path: Path, name: str) -> None:
    rows = TokenRows(["<unlearn_0>"], [320], torch.ones(1, 32), torch.ones(1, 32))
    rows.save(tmp_path)
    getattr(rows, name)[0, 5] = float("nan")
    with pytest.raises(UserError, match=f"the token: 1 of 32 values of {name} are NaN or infinite"):
        rows.save(tmp_path)
    assert rows.rows_out is not None
    save_tensors(tmp_path / "rows.safetensors", {"rows_in": rows.rows_in, "rows_out": rows.rows_out})
    with pytest.raises(UserError, match=f"rows.safetensors: 1 of 32 values of {name} are NaN or infinite"):
        TokenRows.load(tmp_path)


def test_moments_and_the_state_of_an_edit_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = EditState(1, None, {3: LayerState(1.0, torch.full((4, 2), float("inf")))})
    state.save(tmp_path / "state.safetensors")
    with pytest.raises(UserError, match=r"state.safetensors: 8 of 8 values of layer.3 are NaN or infinite"):
        EditState.load(tmp_path / "state.safetensors")
    values, vectors = torch.tensor([1.0, float("nan")], dtype=torch.float64), torch.eye(2)
    save_tensors(tmp_path / "moments.safetensors", {"layer.3.eigenvalues": values, "layer.3.eigenvectors": vectors})
    with pytest.raises(UserError, match=r"1 of 2 values of layer.3.eigenvalues are NaN or infinite - make the moments again"):
        StoredMoments(tmp_path, 9).preservation(3, EditConfig(), torch.device("cpu"))


KINDS = ({"x": 1}, ["x"], [[1]], 7, "x", 10**30, float("inf"))


def changed(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**found, **values}), "utf-8")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "architectures", 7),
        ("config.json", "architectures", [7]),
        ("config.json", "head_dim", ["x"]),
        ("config.json", "num_hidden_layers", 10**9),
        ("config.json", "hidden_size", 10**30),
        ("config.json", "text_config", 7),
        ("config.json", "text_config", {"num_hidden_layers": 10**9}),
        ("generation_config.json", "eos_token_id", [[1]]),
        ("generation_config.json", "eos_token_id", "x"),
    ],
)
def test_a_value_that_no_model_has_is_named_by_its_file_and_key(
    model: Path, tmp_path: Path, name: str, key: str, value: Any
) -> None:
    folder = copied(model, tmp_path)
    changed(folder, name, **{key: value})
    with pytest.raises(UserError) as caught:
        load(folder)
    assert caught.value.message.startswith(f"{folder / name} cannot be read: {key}")
    assert len(caught.value.message) < len(str(folder)) + 120


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("config.json", ("rope_scaling", "rms_norm_eps", "layer_types", "model_type", "quantization_config", "sliding_window")),
        ("generation_config.json", ("eos_token_id", "watermarking_config", "max_length")),
        ("tokenizer_config.json", ("chat_template", "eos_token", "added_tokens_decoder", "tokenizer_class")),
        ("special_tokens_map.json", ("eos_token", "additional_special_tokens")),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_loads_a_model_that_runs_or_is_one_line(
    model: Path, tmp_path: Path, name: str, keys: tuple[str, ...]
) -> None:
    folder = copied(model, tmp_path)
    sound = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
    for key in keys:
        for value in KINDS if strange.LONG else KINDS[len(key) % 2 :: 2]:
            changed(folder, name, **{key: value})
            strange.refusal(lambda: load(folder))
            (folder / name).write_bytes(sound)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes more than"),
        (
            "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "takes more than",
        ),
        ("{{ 'a' * 10**12 }}", "takes more than"),
        ("{{ 'a' * 3000000 }}", "writes more than"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ range(10**9) | length }}", "Range too big"),
    ],
)
def test_a_chat_template_has_limits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, told: str
) -> None:
    monkeypatch.setattr("unierase_cli.models.bounded.SECONDS", 1)
    folder = copied(model, tmp_path)
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    with pytest.raises(UserError, match=told) as caught:
        load(folder)
    assert caught.value.message.startswith("the chat template ")
    assert caught.value.hint == "set model.prompt=plain"
    load_model(ModelConfig(path=str(folder), prompt="plain"), RunConfig(device="cpu"))


def test_what_a_template_writes_comes_back_whole() -> None:
    text = "é🙂\n" * 50_000
    assert bounded(lambda: [text, ""]) == [text, ""]

    def fail() -> list[str]:
        raise ValueError("first\nsecond")

    with pytest.raises(Failed, match="^first$"):
        bounded(fail)


def copied(folder: Path, into: Path) -> Path:
    made = into / "model"
    made.mkdir()
    for path in folder.iterdir():
        (made / path.name).write_bytes(path.read_bytes())
    return made


def a_patch(**changes: Any) -> Patch:
    factor = LowRank(torch.ones(32, 2), torch.ones(48, 2))
    return Patch(None, {1: factor}, {}, {"facts": ["p0-city"]}, **changes)


def test_a_strange_record_of_a_step_is_refused_or_changes_what_the_model_has(tmp_path: Path) -> None:
    a_patch().save(tmp_path, 0)
    path = tmp_path / "patch-000.json"
    sound = json.loads(path.read_text("utf-8"))

    @given(strange.rows_like(sound))
    @strange.settings(100)
    def holds(record: dict[str, Any]) -> None:
        path.write_text(json.dumps(record), "utf-8")
        error = strange.refusal(lambda: Patch.load(tmp_path, 0))
        if error is not None:
            assert error.message.startswith(f"{path} is missing or damaged")
            return
        patch = Patch.load(tmp_path, 0)
        assert set(patch.factors) <= {1}
        assert all(isinstance(value, str) for value in patch.base_hashes.values())

    holds()


@pytest.mark.parametrize(("height", "width"), [(31, 48), (48, 32)])
def test_a_change_of_another_shape_is_told_and_leaves_the_model_as_it_was(height: int, width: int) -> None:
    loaded = tiny_llama()
    before = {name: parameter.clone() for name, parameter in loaded.model.named_parameters()}
    patch = a_patch()
    patch.factors = {1: LowRank(torch.ones(height, 2), torch.ones(width, 2))}
    with pytest.raises(UserError, match="the patch's change of layer 1 is"):
        apply_patches(loaded, [patch])
    assert all(torch.equal(parameter, before[name]) for name, parameter in loaded.model.named_parameters())


def test_a_change_of_a_layer_that_the_model_lacks_is_told() -> None:
    patch = a_patch()
    patch.factors = {99: patch.factors[1]}
    with pytest.raises(UserError, match="layer 99 is out of range"):
        apply_patches(tiny_llama(), [patch])


def test_factors_that_cannot_be_multiplied_are_refused_when_they_are_read(tmp_path: Path) -> None:
    patch = a_patch()
    patch.factors = {1: LowRank(torch.ones(32, 2), torch.ones(48, 3))}
    patch.save(tmp_path, 0)
    with pytest.raises(UserError, match="not a pair of matrices"):
        Patch.load(tmp_path, 0)


@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_a_patch_file_that_is_a_link_out_of_its_folder_is_not_read(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    a_patch().save(folder, 0)
    path = folder / f"patch-000.{ending}"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link out of the folder"):
        Patch.load(folder, 0)


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ({"split": "../../etc", "variant": "plain"}, "the name of a pass is a path"),
        ({"split": "forget", "variant": "/plain"}, "the name of a pass is a path"),
        ({"split": 3, "variant": "plain"}, "passes\\[0\\].split: expected str, got int"),
    ],
)
def test_a_plan_of_observations_does_not_lead_out_of_its_folder(
    tmp_path: Path, entry: dict[str, Any], wrong: str
) -> None:
    passes = [{"facts": [], "batches": [], **entry}]
    write_json(tmp_path / "plan.json", {"state": "base", "special_ids": [], "unlearn_ids": [], "passes": passes})
    with pytest.raises(UserError, match=wrong):
        read_state(tmp_path)


@pytest.mark.parametrize("index", [2, -1, 10**12])
def test_a_plan_names_facts_that_there_are(tmp_path: Path, index: int) -> None:
    entry = {"split": "forget", "variant": "plain", "facts": ["a", "b"], "batches": [[0, 1], [index]]}
    write_json(tmp_path / "plan.json", {"state": "base", "special_ids": [], "unlearn_ids": [], "passes": [entry]})
    with pytest.raises(UserError, match="a batch has a fact that its pass does not have"):
        read_state(tmp_path)


WRONG = (None, 7, "x", [], {}, [7], {"a": 7}, {"a": None}, {"a": {"b": []}}, [["x"]], 1e300, -1, True, ...)
MANIFEST = {
    "stage": "score", "key": "a" * 64, "slug": "demo", "version": "v001", "stage_version": 2, "seed": 0,
    "started": 1.0, "finished": 2.0, "order": 3.0, "wall_seconds": 1.0, "resumed": False, "peak_memory_mib": 1.0,
    "peak_gpu_memory_mib": 1.0, "options": {"state": "base"},
    "config": {"model": {"name": "m"}, "benchmark": {"name": "b", "split": "s"}, "method": {"name": "u"}, "run": {"seed": 0}},
    "inputs": {"base": {"path": "p", "key": "k"}}, "fingerprints": {"model": "f"}, "summary": {"steps": 1},
    "files": {"metrics.json": {"size": 2, "sha256": "s"}}, "environment": {"packages": {"torch": "2"}, "git_commit": "c"},
    "machine": {"device": "cpu", "threads": 1}, "phases": {"score": {"seconds": 1.0, "peak_memory_mib": 1.0}},
    "command": ["unierase"], "overrides": ["a=b"], "warnings": ["w"],
}  # fmt: skip


def spots(value: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key in value if isinstance(value, dict) else ():
        yield (*before, key)
        yield from spots(value[key], (*before, key))


@pytest.mark.parametrize("spot", spots(MANIFEST), ids=".".join)
def test_a_key_of_a_manifest_that_is_of_another_type_stops_no_command(tmp_path: Path, spot: tuple[str, ...]) -> None:
    store = Store(tmp_path)
    finished(store, "score", "b" * 64, finished=9.0)
    folder = store.draft("score", "demo", "a" * 64).path
    for value in WRONG:
        manifest = json.loads(json.dumps(MANIFEST))
        place = manifest
        for name in spot[:-1]:
            place = place[name]
        del place[spot[-1]]
        if value is not ...:
            place[spot[-1]] = value
        write_json(folder / "manifest.json", manifest)
        console = console_on(io.StringIO(), interactive=False)
        artefacts = store.list()
        assert 1 <= len(artefacts) <= 2
        show(console, artefact_table(artefacts))
        emit_json([as_data(artefact) for artefact in artefacts])
        for read in (lambda: store.resolve("latest"), lambda: store.resolve(str(folder))):
            with suppress(UserError):
                artefact = read()
                show_manifest(console, artefact)
                store.inputs_of(artefact)
                outcome(artefact, store)
                show_outcome(console, artefact, store)
        with suppress(UserError):
            find_runs(store, ["score/*"])


def finished(store: Store, stage: str, key: str, **manifest: Any) -> Any:
    return store.draft(stage, "demo", key).complete({"stage": stage, "key": key, **manifest})


def test_a_manifest_does_not_lead_out_of_the_outputs_folder(tmp_path: Path) -> None:
    inside, outside = Store(tmp_path / "outputs"), Store(tmp_path / "elsewhere")
    model = finished(outside, "finetune", "a" * 64)
    score = finished(inside, "score", "b" * 64, inputs={"base": {"path": str(model.path), "key": model.key}})
    assert inside.input_of(score, "base") is None
    link = inside.root / "finetune" / "demo"
    link.parent.mkdir()
    link.symlink_to(model.path.parent)
    led = {"base": {"path": str(link / "v001"), "key": "c" * 64}}
    linked = finished(inside, "score", "d" * 64, inputs=led)
    assert inside.input_of(linked, "base") is None


def test_a_run_whose_numbers_are_not_finite_is_still_a_run(tmp_path: Path) -> None:
    made = finished(Store(tmp_path), "erase", "a" * 64, summary={"steps": 1, "changed_share": float("nan")})
    assert Store(tmp_path).find("erase", made.key) is not None


def test_what_a_run_was_made_from_is_found_where_it_is_and_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    store = Store(tmp_path / "outputs")
    model = finished(store, "finetune", "a" * 64)
    score = finished(store, "score", "b" * 64, inputs={"base": {"path": str(model.path), "key": model.key}})
    assert store.inputs_of(score) == {"base": model}
    # Named by its path, from a place that has other outputs.
    assert Store(tmp_path / "others").input_of(score, "base") == model
    (tmp_path / "outputs").rename(tmp_path / "moved")
    moved = Store(tmp_path / "moved")
    found = moved.input_of(moved.resolve("bbbb"), "base")
    assert found is not None
    assert found.path == tmp_path / "moved" / "finetune" / "demo" / "v001"


def test_a_recorded_configuration_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "told")
    for text in ("${oc.env:SECRET}", "${", "\\${run.seed}", "${run.seed}"):
        with pytest.raises(UserError, match="this version cannot read the recorded configuration"):
            Experiment.from_json({"model": {"path": text}})


def test_a_folder_with_pickles_alone_is_called_one_before_anything_is_made(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    for reading in (load, fingerprint_model):
        with pytest.raises(UserError, match=r"has its weights as a pickle \(pytorch_model.bin\)") as caught:
            reading(folder)
        assert f"from_pretrained('{folder}').save_pretrained('NEW')" in caught.value.hint
