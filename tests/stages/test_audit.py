"""Audits from folder to verdict, on models that know, never knew, and hide."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from tests.helpers.audits import FORGET, KEEP, audit_of, audited, empty_model, hide, knowing, save
from tests.helpers.places import PACKAGE, ROOT
from tests.helpers.scaffolds import as_a_new_process
from unierase_cli.audit.attacks import prefix
from unierase_cli.audit.base import ATTACKS
from unierase_cli.audit.findings import Audit
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.audit import VerdictConfig
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Fact, SilentReporter, UserError
from unierase_cli.models import files
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import finetune
from unierase_cli.stages.attack import CASES, read_cases, read_rows
from unierase_cli.stages.shared.audited import chosen, with_control
from unierase_cli.stages.shared.audited_run import as_recorded, find_model
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.jsonl import write_jsonl

QUICK = {"sampling": {"samples": 2}, "few_shot": {"examples": [2]}, "prefix": {"tokens": [2, 1]}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a model that knows all facts, of one that never had those to forget, and of the first with a token over them."""
    root = tmp_path_factory.mktemp("models")
    full = knowing([*FORGET, *KEEP])
    found = {"full": save(full, root / "full"), "retain": save(knowing(KEEP), root / "retain")}
    return {**found, "hidden": save(hide(full), root / "hidden"), "empty": save(empty_model(), root / "empty")}


def read(artefact: Artefact) -> Audit:
    return Audit.from_json(json.loads((artefact.path / "audit.json").read_text("utf-8")))


@pytest.mark.slow
def test_the_unedited_model_has_every_share_one_and_is_not_forgotten(folders: dict[str, str], tmp_path: Path) -> None:
    config = audited(folders["full"], tmp_path, control=folders["retain"], ceiling=folders["full"], settings=QUICK)
    audit = read(audit_of(config))
    assert audit.kind == "not forgotten"
    assert {found.share for found in audit.findings if found.score == "recall"} == {1.0}
    assert {found.share for found in audit.findings if found.score != "recall"} <= {1.0, None}
    scores = {found.score for found in audit.findings if found.attack == "plain"}
    assert scores == {"recall", "entity", "probability"}, "the first decides, the others stand beside it"
    assert {found.score for found in audit.headlines()} == {"recall"}
    assert audit.left_out == {"token_forbidden": "the model has no unlearning token"}


@pytest.mark.slow
def test_the_control_has_every_excess_zero_and_nothing_is_found(folders: dict[str, str], tmp_path: Path) -> None:
    config = audited(folders["retain"], tmp_path, control=folders["retain"], ceiling=folders["full"], settings=QUICK)
    artefact = audit_of(config)
    audit = read(artefact)
    assert audit.kind == "no recovery found"
    assert [(found.excess, found.excess_ci) for found in audit.findings] == [(0.0, (0.0, 0.0))] * len(audit.findings)
    models = {a.manifest["options"]["of"] for a in Store(config.run.outputs).list("attack")}
    assert models == {"base", "ceiling"}, "a control that is the model itself is not asked again"
    text = (artefact.path / "audit.md").read_text("utf-8")
    assert "audited with prompts and weights only: no recovery found" in text
    assert (artefact.path / "audit.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_model_that_hides_behind_a_token_is_suppressed(folders: dict[str, str], tmp_path: Path) -> None:
    config = audited(folders["hidden"], tmp_path, control=folders["retain"], ceiling=folders["full"], settings=QUICK)
    audit = read(audit_of(config))
    assert audit.line.startswith("suppressed: prompts alone bring back 1.00 (")
    assert (audit.retained, audit.retained_before) == (1.0, 1.0)
    forbidden = next(found for found in audit.headlines() if found.attack == "token_forbidden")
    plain = next(found for found in audit.headlines() if found.attack == "plain")
    assert (forbidden.control, forbidden.ceiling) == (plain.control, plain.ceiling), "there is no token there to forbid"
    assert forbidden.examples
    assert forbidden.examples[0].control is not None


@pytest.mark.slow
def test_control_and_ceiling_are_shared_and_an_interrupted_attack_goes_on(folders: dict[str, str], tmp_path: Path) -> None:
    words = {"control": folders["retain"], "ceiling": folders["full"], "settings": QUICK, "attacks": ["prefix"]}
    audit_of(audited(folders["empty"], tmp_path, **words))
    store = Store(tmp_path / "outputs")
    before = {artefact.path for artefact in store.list("attack")}
    config = audited(folders["hidden"], tmp_path, **words)
    asked: list[str] = []

    def failing(stop: str, own: Callable) -> Callable:
        def run(target: object, case: object, settings: object) -> object:
            asked.append(case.name)  # type: ignore[attr-defined]
            if case.name == stop:  # type: ignore[attr-defined]
                raise KeyboardInterrupt
            return own(target, case, settings)

        return run

    own = prefix.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "run", failing("1 given", own))
        with pytest.raises(KeyboardInterrupt):
            audit_of(config)
        patch.setattr(prefix, "run", failing("", own))
        audit_of(config)
    assert asked.count("2 given") == 1, "a case that was whole is not run again"
    made = {artefact.path for artefact in store.list("attack")} - before
    names = [path.parent.name for path in made]
    assert not [n for n in names if "control" in n or "ceiling" in n], "their answers are those of the first audit"
    assert all((path / CASES).is_file() for path in made)


def test_without_a_control_the_audit_ends_well_and_says_what_makes_one(folders: dict[str, str], tmp_path: Path) -> None:
    audited(folders["full"], tmp_path)
    words = ["audit", f"model.path={folders['full']}", "model=hf", "benchmark=jsonl", f"benchmark.path={tmp_path / 'forget.jsonl'}"]
    words += [f"benchmark.retain_path={tmp_path / 'keep.jsonl'}", "protocol.max_new_tokens=12", "run.device=cpu"]
    words += ["--attacks", "paraphrase", "--facts", "4", "--outputs", str(tmp_path / "outputs")]
    done = CliRunner().invoke(app, [*words, "--json"], prog_name="unierase")
    assert done.exit_code == 0, done.output
    audit = json.loads(done.stdout)["audit"]
    assert audit["kind"] == "unavailable"
    assert any("--control MODEL" in remark for remark in audit["remarks"])
    assert audit["attacks"]["paraphrase"]["other words"]["recovered"] == 1.0
    assert audit["attacks"]["plain"]["plain"]["n"] == 4
    # Nobody said what was done to a folder's model.
    page = (Store(tmp_path / "outputs").list("audit")[-1].path / "audit.html").read_text("utf-8")
    assert "The model recalls 1.00 of the answers that are to be forgotten" in page
    assert "Nothing was erased" not in page


@pytest.mark.parametrize(
    ("audit", "told"),
    [
        ({"attacks": ["prefx"]}, "prefix"),
        ({"settings": {"prefix": {"token": 1}}}, "no setting"),
        ({"settings": {"prefx": {"token": 1}}}, "prefix"),
    ],
)
def test_a_slip_is_told_before_a_model_is_asked(tmp_path: Path, audit: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Pipeline(audited("nowhere", tmp_path, **audit), SilentReporter()).check("audit")


def attack_key(tmp_path: Path, name: str, **settings: object) -> str:
    config = audited("nowhere/at-all", tmp_path, settings={name: settings})
    return Pipeline(config, SilentReporter()).plan("attack", attack=name, of="base")[-1].key


def test_a_file_in_the_settings_counts_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for path in (first, second):
        path.write_text("{}\n", "utf-8")
    before = attack_key(tmp_path, "translation", table=str(first))
    assert attack_key(tmp_path, "translation", table=str(second)) == before
    second.write_text("{ }\n", "utf-8")
    assert attack_key(tmp_path, "translation", table=str(second)) != before
    assert attack_key(tmp_path, "translation") != before
    with pytest.raises(UserError, match="translation.table=.* is not a file"):
        attack_key(tmp_path, "translation", table=str(tmp_path))


def test_a_facts_subject_counts(tmp_path: Path) -> None:
    config = audited("nowhere/at-all", tmp_path)

    def key(subject: str) -> str:
        write_jsonl(tmp_path / "forget.jsonl", [{"question": "Where is Ada Lund?", "answer": "At home.", "subject": subject}])
        return Pipeline(config, SilentReporter()).plan("attack", attack="formats", of="base")[-1].key

    assert key("Ada") != key("Ada Lund")


def test_entities_count_by_their_content_for_attacks_that_need_them(tmp_path: Path) -> None:
    def keys(path: Path | None) -> list[str]:
        config = audited("nowhere/at-all", tmp_path, entities=None if path is None else str(path))
        return [Pipeline(config, SilentReporter()).plan("attack", attack=name, of="base")[-1].key for name in ("uds", "prefix")]

    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for path in (first, second):
        path.write_text("{}\n", "utf-8")
    without, with_first = keys(None), keys(first)
    assert keys(second) == with_first
    assert without[0] != with_first[0]
    assert without[1] == with_first[1]
    with pytest.raises(UserError, match="audit.entities=.* is not a file"):
        Pipeline(audited("nowhere/at-all", tmp_path, entities=str(tmp_path)), SilentReporter()).check("audit")


def test_an_attack_that_needs_a_file_is_left_out_without_it(tmp_path: Path) -> None:
    study = Pipeline(audited("nowhere/at-all", tmp_path, attacks=["translation"]), SilentReporter()).study
    assert chosen(study) == ([], {"translation": "audit.settings.translation.table names no file"})


def cached(cache: Path, name: str, folder: str) -> str:
    """Put a folder's files into a hub cache under a hub id."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    return name


def test_the_token_of_a_hub_model_is_seen_in_the_cache(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, made in (("hidden", ["token_forbidden"]), ("full", []), ("absent", ["token_forbidden"])):
        model = cached(tmp_path / "hub", f"me/{name}", folders[name]) if name in folders else f"me/{name}"
        assert chosen(study_of(audited(model, tmp_path, attacks=["token_forbidden"])))[0] == made


@pytest.mark.slow
def test_a_hub_model_that_turns_out_to_have_no_token_says_so(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(files, "hub_reachable", lambda: False)
    monkeypatch.setattr("unierase_cli.stages.shared.audited.cached_file", lambda *_: None)
    model = cached(tmp_path / "hub", "me/full-later", folders["full"])
    audit = read(audit_of(audited(model, tmp_path, attacks=["token_forbidden", "paraphrase"])))
    assert audit.left_out == {"token_forbidden": "the model has no unlearning token"}
    assert {found.attack for found in audit.findings} == {"plain", "paraphrase"}


def test_facts_that_the_model_never_knew_stand_in_for_a_control(folders: dict[str, str], tmp_path: Path) -> None:
    """A prepared folder names them; of the model that hides what it knows they are the control without being asked for."""
    config = audited(folders["hidden"], tmp_path, ceiling=folders["full"], attacks=["paraphrase", "uds"])
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    unknown = [Fact(f"u{n}", f"What is the height of tower {n}?", f"About {n}00 feet.", group=f"tower {n}") for n in range(12)]
    roles = {"forget": FORGET, "protected": KEEP[:4], "neighbours": [], "never_seen": KEEP[4:], "never_known": unknown}
    for name, facts in roles.items():
        rows = [{key: value for key, value in asdict(fact).items() if value} for fact in facts]
        write_jsonl(prepared / f"{name}.jsonl", rows)
    config = replace(config, benchmark=BenchmarkConfig(name="jsonl", data_dir=str(prepared)))
    settled = with_control(config, SilentReporter())
    assert settled.audit.control == "facts"
    audit = read(audit_of(settled))
    assert audit.left_out == {"uds": "no model without these facts"}
    assert "asked 8 other facts that it never knew" in " ".join(audit.remarks)
    plain = next(found for found in audit.headlines() if found.attack == "plain")
    assert plain.control is not None
    assert plain.excess == pytest.approx(plain.recovered - plain.control)
    assert plain.share is not None
    assert plain.share < 0.25
    options = {"attack": "plain", "of": "control_facts"}
    (asked,) = [made for made in Store(config.run.outputs).list("attack") if made.manifest["options"] == options]
    of_facts = {row.fact for row in read_rows(asked, read_cases(asked)["plain"]) if row.split == "forget"}
    assert of_facts <= {fact.id for fact in unknown}
    nothing = replace(settled, benchmark=config.benchmark, audit=replace(settled.audit, ceiling=None))
    (prepared / "never_known.jsonl").unlink()
    assert with_control(replace(nothing, audit=replace(nothing.audit, control=None)), SilentReporter()).audit.control is None
    with pytest.raises(UserError, match="has no facts that the model never knew"):
        Pipeline(nothing, SilentReporter()).check("audit")


def test_relearning_is_made_again_once_peft_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("relearn_part", "relearn_benign", "prefix")
    before = [attack_key(tmp_path, name) for name in names]
    own = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "peft" else own(name, *more))
    after = [attack_key(tmp_path, name) for name in names]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True, False]


def test_settings_that_leave_no_case_are_refused(tmp_path: Path, folders: dict[str, str]) -> None:
    config = audited(folders["full"], tmp_path, settings={"prefix": {"tokens": []}})
    with pytest.raises(UserError, match="leaves prefix no case"):
        Pipeline(config, SilentReporter()).make("attack", attack="prefix", of="base")


def test_facts_that_are_forgotten_one_by_one_leave_no_model(tmp_path: Path, folders: dict[str, str]) -> None:
    config = audited(folders["full"], tmp_path)
    with pytest.raises(UserError, match="leaves no model to attack"):
        Pipeline(replace(config, mode=replace(config.mode, name="precise")), SilentReporter()).check("audit")


def told(tmp_path: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", *words, "--outputs", str(tmp_path / "outputs")], prog_name="unierase")
    return done.exit_code, done.output


@pytest.mark.parametrize("word", ["demo", "erase/demo", "erase/demo@v002"])
def test_a_run_without_a_version_is_its_newest(tmp_path: Path, word: str) -> None:
    store = Store(tmp_path)
    for number in range(1, 3):
        manifest = {"stage": "erase", "key": f"{number}" * 64, "options": {}, "inputs": {}, "finished": float(number)}
        store.draft("erase", "demo", f"{number}" * 64).complete(manifest)
    assert find_model(store, word).full_name == "erase/demo@v002"


def test_a_finished_run_is_audited_as_it_was_made(folders: dict[str, str], tmp_path: Path) -> None:
    config = audited(folders["retain"], tmp_path)
    run = Pipeline(config, SilentReporter()).make("erase")
    words = [run.name, "--attacks", "paraphrase", "--facts", "4", "--control", run.name, "--ceiling", folders["full"]]
    code, output = told(tmp_path, *words)
    assert code == 0, output
    audit = read(Store(config.run.outputs).list("audit")[-1])
    assert audit.kind == "no recovery found", "the model before it was audited is the control itself"
    assert {found.excess for found in audit.findings} == {0.0}
    assert [artefact.path for artefact in Store(config.run.outputs).list("erase")] == [run.path], "nothing is erased again"
    assert told(tmp_path, *words)[0] == 0, "the audit has the name of the run, which is still found"
    assert len(Store(config.run.outputs).list("audit")) == 1


def test_a_control_that_was_trained_here_is_found_by_its_rows_and_not_by_their_files_name(tmp_path: Path) -> None:
    config = audited("nowhere", tmp_path)
    config = replace(config, model=replace(config.model, path=None))
    retain = replace(config, train=replace(config.train, split="retain"))
    store, silent = Store(config.run.outputs), SilentReporter()
    draft = store.draft("finetune", "retain", "key")
    rows = finetune.fingerprints(study_of(retain), {})
    made = draft.complete(
        {"stage": "finetune", "key": "key", "config": json.loads(json.dumps(asdict(retain))), "fingerprints": rows, "inputs": {}}
    )
    assert with_control(config, silent).audit.control == str(made.path / "model")
    manifest = json.loads((made.path / "manifest.json").read_text("utf-8"))
    del manifest["config"]["train"]["lora_rank"]
    (made.path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert with_control(config, silent).audit.control == str(made.path / "model"), "what is not recorded had its default"
    assert with_control(replace(config, train=replace(config.train, lora_rank=8)), silent).audit.control is None
    kept = tmp_path / "keep.jsonl"
    kept.write_text(kept.read_text("utf-8").replace("Accra", "Minsk"), "utf-8")
    assert with_control(config, silent).audit.control is None, "the file has other rows by now"


def test_a_typed_value_counts_even_if_it_is_the_default(tmp_path: Path) -> None:
    recorded = audited("nowhere", tmp_path, facts=3, seed=5, kept=7, settings={"prefix": {"tokens": [2]}},
                       verdict=VerdictConfig(recovered=0.5, resisted=0.2))  # fmt: skip
    found = {"erase": Artefact(tmp_path, {"stage": "erase", "key": "k", "config": json.loads(json.dumps(asdict(recorded)))})}
    typed = Experiment()
    kept = as_recorded(found, typed, [])
    assert (kept.audit.facts, kept.audit.seed, kept.audit.verdict.recovered) == (3, 5, 0.5)
    words = ["audit.facts=0", "++audit.seed=0", "audit.verdict.recovered=0.25"]
    undone = as_recorded(found, typed, words).audit
    assert (undone.facts, undone.seed, undone.kept) == (0, 0, 7)
    assert (undone.verdict.recovered, undone.verdict.resisted) == (0.25, 0.2)
    assert undone.settings == {"prefix": {"tokens": [2]}}


def test_relearning_is_made_again_once_the_code_of_training_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("relearn_part", "relearn_benign", "prefix", "uds")
    before = {name: ATTACKS.code(name) for name in names}
    copy = tmp_path / "training"
    shutil.copytree(PACKAGE / "training", copy)
    monkeypatch.setattr("unierase_cli.training.__path__", [str(copy)])
    for file in ("loop.py", "sophia.py"):  # the second is imported by what trains
        text = (copy / file).read_text("utf-8")
        (copy / file).write_text(text + "\n# changed\n", "utf-8")
        as_a_new_process()
        assert {name for name in names if ATTACKS.code(name) != before[name]} == {"relearn_part", "relearn_benign"}, file
        (copy / file).write_text(text, "utf-8")
    as_a_new_process()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["latest", "method=npo_gd"], "cannot be combined with a finished RUN"),
        (["latest", "--method", "npo_gd"], "cannot be combined with a finished RUN"),
        (["nobody@v001"], "no finished artefact"),
        (["model=hf", "model.path=/nowhere", "--control", "/nowhere/else"], "artefact"),
    ],
)
def test_what_cannot_be_audited_is_told_in_one_line(tmp_path: Path, words: list[str], expected: str) -> None:
    code, output = told(tmp_path, *words)
    assert code == 2
    assert expected in output
    assert "Traceback" not in output


def test_the_control_is_found_beside_the_model(tmp_path: Path) -> None:
    for name in ("full", "retain90", "retain99"):
        (tmp_path / name).mkdir()
    config = audited(str(tmp_path / "full"), tmp_path)
    beside = replace(config, model=replace(config.model, control="{path}/../retain{retained}"))
    tofu = replace(beside, benchmark=replace(beside.benchmark, split="forget01"))
    assert with_control(tofu, SilentReporter()).audit.control == str(tmp_path / "retain99")
    assert with_control(beside, SilentReporter()).audit.control is None, "there is no retain95"
    named = replace(tofu, audit=replace(tofu.audit, control="some/model"))
    assert with_control(named, SilentReporter()).audit.control == "some/model"
    with pytest.raises(UserError, match="no folder"):
        with_control(replace(tofu, audit=replace(tofu.audit, ceiling=str(tmp_path / "nowhere"))), SilentReporter())


@pytest.mark.parametrize(("groups", "said"), [(1, "all facts are of one group"), (2, "the facts are of 2 groups")])
def test_too_few_groups_for_an_interval_are_told(folders: dict[str, str], tmp_path: Path, groups: int, said: str) -> None:
    config = audited(folders["empty"], tmp_path, control=folders["retain"], ceiling=folders["full"], attacks=["paraphrase"])
    rows = [{key: value for key, value in asdict(fact).items() if value} for fact in FORGET[: 2 * groups]]
    write_jsonl(tmp_path / "forget.jsonl", rows)
    made = audit_of(config)
    audit = read(made)
    assert any(remark.startswith(said) for remark in audit.remarks)
    forgotten = (made.path / "audit.html").read_text("utf-8").partition("Recall of what it should keep")[0]
    assert ("95 % interval" in forgotten) == (groups > 1), "the page resamples the groups, too"
    (found,) = [found for found in audit.headlines() if found.attack == "paraphrase"]
    assert (found.groups, found.excess_ci is None) == (groups, groups == 1)
    if groups == 1:
        assert {found.word for found in audit.findings} <= {"undecided", "unavailable"}


KILLED = """
import os, signal, sys
from tests.helpers.audits import audit_of, audited
from unierase_cli.audit.attacks import prefix
from pathlib import Path

own = prefix.run

def run(target, case, settings):
    if case.name == "1 given":
        os.kill(os.getpid(), signal.SIGKILL)
    return own(target, case, settings)

prefix.run = run
audit_of(audited(sys.argv[1], Path(sys.argv[2]), attacks=["prefix"], settings={"prefix": {"tokens": [2, 1]}}))
"""


def test_a_killed_audit_goes_on_at_the_case_where_it_died(folders: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, folders["empty"], str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    words = {"attacks": ["prefix"], "settings": {"prefix": {"tokens": [2, 1]}}}
    (kept,) = (tmp_path / "outputs" / "attack").glob("*prefix*/v001/2-given.jsonl")
    written = kept.stat().st_mtime_ns
    audit = read(audit_of(audited(folders["empty"], tmp_path, **words)))
    assert kept.stat().st_mtime_ns == written, "a case that was whole is not run again"
    recalls = [found for found in audit.findings if found.score == "recall"]
    assert {found.setting for found in recalls if found.attack == "prefix"} == {"2 given", "1 given"}


def test_curves_and_blocks_are_told_and_drawn(folders: dict[str, str], tmp_path: Path) -> None:
    few = {"percent": [25], "least": 2, "lr": [5e-3], "lora_lr": [], "steps": [2, 1], "batch": 2}
    words = {"attacks": ["relearn_part", "uds", "rounding"], "settings": {"relearn_part": few}}
    artefact = audit_of(audited(folders["empty"], tmp_path, control=folders["retain"], ceiling=folders["full"], **words))
    audit = read(artefact)
    (curve,) = audit.curves
    assert [point.at for point in curve.unlearned] == [point.at for point in curve.control] == [0, 1, 2]
    assert curve.level is not None
    uds = [block for block in audit.blocks if block.setting == "plain prompt"]
    assert [block.block for block in uds] == [0, 1]
    assert all(block.lost is not None and block.lost_by_control is not None for block in uds)
    assert {one.setting for one in audit.rounding} == {"int8", "int4", "nf4"}
    assert all(0 <= one.undone <= 1 for one in audit.rounding)
    assert "rounding" not in {finding.attack for finding in audit.findings}, "its rows are about weights"
    assert {"curves.png", "blocks.png"} <= {path.name for path in artefact.path.iterdir()}
    text = (artefact.path / "audit.md").read_text("utf-8")
    assert all(title in text for title in ("How soon it is relearned", "What rounding undoes", "](blocks.png)"))
    probability = next(f for f in audit.findings if (f.attack, f.score) == ("relearn_part", "probability"))
    assert 0 < probability.recovered < 1
    assert not probability.headline
