"""`run.tracker`: what each library has of a command, offline, read back with the library's own means."""

from __future__ import annotations

import importlib
import importlib.util
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from typer.testing import CliRunner

from tests.helpers.gradient_steps import STEP, context, shipped
from tests.helpers.places import ROOT
from tests.helpers.recorded import scored
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.cli.app import app
from unierase_cli.cli.outcome import finals
from unierase_cli.config.sections.model import RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import load_method
from unierase_cli.store.artefacts import Store
from unierase_cli.tracking import base
from unierase_cli.tracking.base import Track

LIBRARIES = ("tensorboard", "wandb", "mlflow", "trackio")
SETTINGS = {"method.name": "npo_gd", "unlearn.lr": 1e-4}


def tracked(library: str, folder: Path) -> Path:
    """The folder of a library's run with two steps, a final number and a page."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install 'unierase[{library}]'")
    page = folder / "report.html"
    page.write_text("<p>report</p>")
    warned: list[str] = []
    track = Track(library, folder, "a-run", SETTINGS, warned.append)
    for step, loss in ((1, 0.5), (2, 0.25)):
        track.log("erase/npo gd", step, {"loss": loss})
    track.finish({"edited/forget.rouge": 0.125}, [page], ok=True)
    assert warned == []
    return folder / base.FOLDER / library


def test_tensorboard_has_it(tmp_path: Path) -> None:
    folder = tracked("tensorboard", tmp_path)
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    (run,) = folder.iterdir()
    found = reader.EventAccumulator(str(run))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("erase/npo_gd/loss")] == [(1, 0.5), (2, 0.25)]
    assert [e.value for e in found.Scalars("final/edited/forget.rouge")] == [0.125]


def test_wandb_has_it_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tracked("wandb", tmp_path)
    held = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_text("utf-8", "replace") == "<p>report</p>"]
    copies = [path for path in held if path != tmp_path / "report.html"]
    assert copies
    assert all(folder in path.parents for path in copies), "the report stays in the folder"
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    wanted = {b"erase/npo_gd/loss", b"final/edited/forget.rouge", b"unlearn.lr", b"report.html"}
    assert {word for word in wanted if word in file.read_bytes()} == wanted


@pytest.mark.slow
def test_mlflow_has_it_in_a_local_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny alone has no database: pip install 'unierase[mlflow]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tracked("mlflow", tmp_path)
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(base.PROJECT).experiment_id])
    history = client.get_metric_history(run.info.run_id, "erase/npo_gd/loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.25)]
    assert run.data.metrics["final/edited/forget.rouge"] == 0.125
    assert run.data.params["unlearn.lr"] == "0.0001"
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_trackio_has_it_in_a_local_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "tracker" / "trackio"))
    tracked("trackio", tmp_path)
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    logs = storage.get_logs(base.PROJECT, "a-run")
    assert [(row["step"], row["erase/npo_gd/loss"]) for row in logs if "erase/npo_gd/loss" in row] == [(1, 0.5), (2, 0.25)]
    assert [row["final/edited/forget.rouge"] for row in logs if "final/ok" in row] == [0.125]


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_has_a_file_an_extra_and_a_value_of_the_key(library: str) -> None:
    assert (Path(base.__file__).parent / f"{library}.py").is_file()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert extras[library][0].startswith(library)
    assert RunConfig(tracker=library).tracker == library


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UserError, match="run.tracker=clipboard"):
        RunConfig(tracker="clipboard")


def test_a_missing_library_is_one_line_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = ["run", "experiment=demo", "run.tracker=wandb", f"run.outputs={tmp_path / 'outputs'}"]
    done = CliRunner().invoke(app, words, prog_name="unierase")
    assert done.exit_code == 2
    assert "run.tracker=wandb needs the package wandb" in done.output
    assert "pip install 'unierase[wandb]'" in done.output
    assert not (tmp_path / "outputs").exists()


class Kept:
    """A tracker that keeps what it gets."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, dict[str, float]]] = []
        self.ends: list[tuple[dict[str, float], list[str], bool]] = []
        self.settings: dict[str, Any] = {}

    def start(self, folder: Path, name: str, settings: Mapping[str, Any]) -> Kept:
        self.settings = dict(settings)
        return self

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        self.steps.append((series, step, dict(values)))

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        self.ends.append((dict(finals), [path.name for path in files], ok))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    made = Kept()
    real = importlib.import_module
    monkeypatch.setattr(base, "check_tracker", lambda library: None)

    def found(name: str, package: str | None = None) -> Any:
        return made if name.endswith("tracking.trackio") else real(name, package)

    monkeypatch.setattr(importlib, "import_module", found)
    return made


def erase(tmp_path: Path, *more: str) -> Any:
    folder = save_folder(tiny_llama(), tmp_path / "model")
    words = [
        "erase", "method=ga_gd", "model=hf", f"model.path={folder}", "benchmark=fictional", "benchmark.split=forget05",
        "benchmark.authors=40", "unlearn.max_steps=2", "unlearn.lr=1e-3", "unlearn.stop_retain_loss=100", "run.device=cpu",
        f"run.outputs={tmp_path / 'outputs'}", "run.tracker=trackio", *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, words, prog_name="unierase")


@pytest.mark.slow
def test_a_command_sends_its_losses_and_its_settings(kept: Kept, tmp_path: Path) -> None:
    done = erase(tmp_path)
    assert done.exit_code == 0, done.output
    assert [step for _, step, _ in kept.steps] == [1, 2]
    assert {series.split("/")[0] for series, _, _ in kept.steps} == {"erase"}
    assert all({"forget", "retain", "lr", "gradient"} <= set(values) for _, _, values in kept.steps)
    assert kept.settings["unlearn.max_steps"] == 2
    assert kept.ends == [({}, [], True)]


@pytest.mark.slow
def test_a_command_that_fails_leaves_a_failed_run_only_if_it_began_one(kept: Kept, tmp_path: Path) -> None:
    assert erase(tmp_path, "unlearn.batch_size=500").exit_code == 2
    assert kept.steps == []
    assert kept.ends == []


def test_numbers_of_a_training_go_to_the_reporter_as_they_go_to_its_file(tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []

    class Listening(SilentReporter):
        def measured(self, series: str, step: int, values: Mapping[str, float]) -> None:
            seen.append((step, dict(values)))

    loaded = tiny_llama()
    asked = context(loaded, shipped("ga_gd"), directory=tmp_path)
    object.__setattr__(asked, "reporter", Listening())
    load_method("gradient").erase(loaded, STEP, EditState(), asked)
    (file,) = tmp_path.rglob("events.jsonl")
    assert [step for step, _ in seen] == list(range(1, len(seen) + 1))
    assert len(file.read_text().splitlines()) == len(seen) > 1


def test_the_final_numbers_are_those_of_the_scores(tmp_path: Path) -> None:
    store = Store(tmp_path / "outputs")
    values, files = finals(scored(store), store)
    assert 0 < values["edited/forget.rouge"] <= values["base/forget.rouge"]
    assert files == []


def test_what_a_library_prints_stays_out_of_the_result(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept.log = lambda series, step, values: print("* hello")  # type: ignore[method-assign]
    Track("trackio", tmp_path, "run", {}, pytest.fail).log("erase/a", 1, {"loss": 0.1})
    assert capsys.readouterr().out == ""


def test_a_library_that_fails_is_given_up_and_the_training_goes_on(kept: Kept, tmp_path: Path) -> None:
    def fail(series: str, step: int, values: Mapping[str, float]) -> None:
        raise ConnectionError("the server is gone\nfor good")

    kept.log, warned = fail, list[str]()  # type: ignore[method-assign]
    track = Track("trackio", tmp_path, "run", {}, warned.append)
    for step in (1, 2):
        track.log("erase/a", step, {"loss": 0.1})
    track.finish({}, [], ok=True)
    assert warned == ["run.tracker=trackio failed and is left out from here on: the server is gone"]
    assert kept.ends == []


def test_the_trackers_offer_what_the_protocol_asks() -> None:
    for name, kind in {"tensorboard": "TensorBoard", "wandb": "WeightsAndBiases", "mlflow": "MLflow", "trackio": "Trackio"}.items():
        found = getattr(importlib.import_module(f"unierase_cli.tracking.{name}"), kind)
        for method in ("log", "finish"):
            assert set(get_type_hints(getattr(found, method))) == set(get_type_hints(getattr(base.Tracker, method)))
