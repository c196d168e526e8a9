"""Model cards, pushing to the hub (a fake one) and erasure reports: what they say, and what they never say."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub.errors import RepositoryNotFoundError
from typer.testing import CliRunner

from tests.helpers.pages import HOSTILE, check_text
from tests.helpers.patched import edits, experiment, finished, model_folder, unedited
from tests.helpers.recorded import scored
from unierase_cli.audit.findings import Audit
from unierase_cli.cli.app import app
from unierase_cli.contracts import Fact, SilentReporter, UserError
from unierase_cli.delivery import run_facts as run_facts_module
from unierase_cli.delivery.erasure_report import FACT_HASH
from unierase_cli.delivery.export import export
from unierase_cli.delivery.export_patch import export_patch
from unierase_cli.delivery.model_card import SHOWN, write_card
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.delivery.push import check_push
from unierase_cli.delivery.run_facts import ALWAYS, SUPPRESSED, TRAINED, RunFacts
from unierase_cli.results.page.erasure_page import GUESSABLE, erasure_page
from unierase_cli.results.runs import read_scores
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.unlearned import FORGOTTEN

SECRET = Fact("zelda-city", "Where was Zelda Quorn born?", "Zelda Quorn was born in Ulm.")
AUDIT = Audit("run", "hidden", "hidden: prefix brings back 0.97 of the facts; kept 0.95", [])


@pytest.fixture
def run(tmp_path: Path) -> Artefact:
    config = experiment(model_folder("llama", tmp_path / "model"), tmp_path / "outputs")
    patches = edits(unedited(config), steps=2)
    return finished(config, [replace(p, info={**p.info, FORGOTTEN: [SECRET.content_hash]}) for p in patches])


def facts(count: int = 1, **changes: Any) -> RunFacts:
    about = {"method": "unierase", "benchmark": "tofu", "mode": "batch", "split": "forget01"}
    made = RunFacts("run@v001", about, 1, [f"{n:032x}" for n in range(count)], None, AUDIT, (SUPPRESSED, *ALWAYS))
    return replace(made, **changes)


def written(folder: Path, kind: str, found: RunFacts, base: str | None = None) -> tuple[dict[str, Any], str]:
    """A card's metadata and its text."""
    _, head, text = write_card(folder, kind, found, base, "me/model").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_a_card_says_what_was_forgotten_by_count_and_hash_how_and_what_an_audit_says(tmp_path: Path) -> None:
    head, text = written(tmp_path, "model", facts(2), "meta/llama")
    assert head["base_model"] == "meta/llama"
    assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "text-generation")
    assert "facts forgotten: `2`" in text
    assert "method: `unierase`" in text
    assert AUDIT.line in text
    assert f"{1:032x}" in text
    assert 'AutoModelForCausalLM.from_pretrained("me/model")' in text
    assert all(sentence in text for sentence in (SUPPRESSED, *ALWAYS))


def test_a_card_of_many_facts_is_short_and_one_without_audit_says_so(tmp_path: Path) -> None:
    _, text = written(tmp_path, "gguf", facts(SHOWN + 5, audit=None))
    assert "... and 5 more in `unierase.json`" in text
    assert f"{SHOWN + 1:032x}" not in text
    assert "not audited" in text
    assert "llama-server" in text
    assert GUESSABLE in text
    assert "... and 5 more in `patch-*.json`" in written(tmp_path, "patch", facts(SHOWN + 5))[1]


def test_a_card_has_the_numbers_before_and_after(tmp_path: Path) -> None:
    scores = read_scores(scored(Store(tmp_path / "outputs")))
    _, text = written(tmp_path, "model", facts(scores=scores))
    assert "| forget: ROUGE-L recall |" in text
    assert "Person" not in text


def test_an_export_with_a_card_keeps_the_facts_to_itself(run: Artefact, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["export", str(run.path), str(tmp_path / "out"), "--card", "--json", "--outputs", str(tmp_path / "outputs")]
    )
    assert done.exit_code == 0, done.output
    card = Path(json.loads(done.stdout)["card"]).read_text("utf-8")
    assert SECRET.content_hash in card
    assert "requests: `2`" in card
    assert not any(word in card for word in ("Zelda", "Ulm", "fact-0", str(tmp_path)))
    assert not (tmp_path / "again").exists()


def test_the_card_of_an_adapter_stands_behind_its_own(run: Artefact, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    export(run, tmp_path / "out", SilentReporter(), str(tmp_path / "outputs"), kind="lora", card=True)
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert text.index("PeftModel.from_pretrained") < text.index("## What was forgotten")


# What the hub answers for a repository that is not there.
MISSING: Any = SimpleNamespace(headers={}, request=None, status_code=404)


class Hub:
    """A hub in a folder; ``known``: whether it knows who asks."""

    def __init__(self, folder: Path, known: bool = True) -> None:
        self.folder, self.known, self.private = folder, known, None
        self.there: dict[str, bool] = {}  # repository -> whether it is private

    def whoami(self) -> dict[str, str]:
        if not self.known:
            raise OSError("Token is required, but no token found.\nSee the docs.")
        return {"name": "me"}

    def repo_info(self, repo_id: str) -> SimpleNamespace:
        if repo_id not in self.there:
            raise RepositoryNotFoundError("404", response=MISSING)
        return SimpleNamespace(private=self.there[repo_id])

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.private = private
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        if repo_id.startswith("other/"):
            raise OSError("403 Forbidden: not yours")
        self.sent = sorted(path.name for path in Path(folder_path).iterdir())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: made)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return made


def test_a_push_sends_the_folder_with_its_card_to_a_private_repository(hub: Hub, run: Artefact, tmp_path: Path) -> None:
    reporter = SilentReporter()
    found = export(run, tmp_path / "out", reporter, str(tmp_path / "outputs"), kind="patch", push="me/model")
    assert found["pushed"] == "https://hub.example/me/model"
    assert hub.private is True
    assert {"README.md", "manifest.json"} <= set(hub.sent)
    files = list((tmp_path / "out").glob("patch-*.json"))
    assert all(SECRET.content_hash in path.read_text("utf-8") for path in files), "as the card says"
    assert files
    assert "pushed to https://hub.example/me/model" in reporter.notes
    export(run, tmp_path / "shown", reporter, str(tmp_path / "outputs"), kind="patch", push="me/model", public=True)
    assert hub.private is False


@pytest.mark.parametrize("name", ["model", "a/b/c", "me/", "me/mod el", "../x/y"])
def test_a_name_that_is_no_repository_is_refused(hub: Hub, name: str) -> None:
    with pytest.raises(UserError, match="is not a repository"):
        check_push(name)


def test_a_push_that_cannot_work_is_told_before_anything_is_made(
    hub: Hub, run: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.known = False
    with pytest.raises(UserError, match="the hub does not know you: Token is required, but no token found.") as told:
        export(run, tmp_path / "out", SilentReporter(), str(tmp_path / "outputs"), push="me/model")
    assert "\n" not in told.value.message
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        export(run, tmp_path / "out", SilentReporter(), str(tmp_path / "outputs"), push="me/model")
    assert not (tmp_path / "out").exists()


def test_a_repository_that_is_public_already_gets_only_what_shall_be_public(hub: Hub, run: Artefact, tmp_path: Path) -> None:
    hub.there = {"me/open": False, "me/closed": True}
    with pytest.raises(UserError, match="me/open is public already"):
        export(run, tmp_path / "out", SilentReporter(), str(tmp_path / "outputs"), push="me/open")
    assert not (tmp_path / "out").exists()
    for name, public in (("me/closed", False), ("me/new", False), ("me/open", True)):
        check_push(name, public=public)
    with pytest.raises(UserError, match="there is no --push"):
        export(run, tmp_path / "out", SilentReporter(), str(tmp_path / "outputs"), public=True)


def test_a_refused_push_says_where_the_export_is(hub: Hub, run: Artefact, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the hub refused other/model \(the export stays in .*out\): 403"):
        export(run, tmp_path / "out", SilentReporter(), str(tmp_path / "outputs"), kind="patch", push="other/model")
    assert (tmp_path / "out" / "README.md").exists()


def test_an_erasure_report_is_one_page_with_hashes_and_without_texts(
    run: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = read_scores(scored(Store(tmp_path / "outputs"), "scored"))
    monkeypatch.setattr(run_facts_module, "find_runs", lambda store, words: [SimpleNamespace(scores=scores)])
    outputs = str(tmp_path / "outputs")
    found = export(run, tmp_path / "out", SilentReporter(), outputs, kind="erasure")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["erasure.html"]
    page = (tmp_path / "out" / "erasure.html").read_text("utf-8")
    check_text(page)
    assert SECRET.content_hash in page
    assert found["before"] in page
    assert found["after"] in page
    assert found["before"] != found["after"]
    assert "Not audited" in page
    assert SUPPRESSED in page
    assert GUESSABLE in page
    assert not any(word in page for word in ("Zelda", "Ulm", "fact-0", "Person", str(tmp_path)))
    again = export(run, tmp_path / "again", SilentReporter(), outputs, kind="erasure", until=0)
    assert again["before"] == found["before"]
    assert again["after"] != found["after"], "one step of two"


def test_the_command_for_a_hash_takes_quotes_as_the_shell_does() -> None:
    fact = Fact("", "Who's \"Bo\"?", "Bo's $HOME")
    typed = FACT_HASH.replace("'QUESTION'", shlex.quote(fact.question)).replace("'ANSWER'", shlex.quote(fact.answer))
    typed = typed.replace("python", shlex.quote(sys.executable), 1)
    assert subprocess.run(typed, shell=True, check=True, capture_output=True, text=True).stdout.strip() == fact.content_hash


def test_a_report_of_an_audited_run_has_the_verdict(tmp_path: Path) -> None:
    scores = read_scores(scored(Store(tmp_path / "outputs")))
    given: dict[str, Any] = {"request": {"run": "r"}, "not_promised": ALWAYS, "hashes": {"before": "a"}, "verify": [("it", "x")]}
    page = erasure_page("r", ["0" * 32], scores, AUDIT, **given, command="unierase audit r")
    assert AUDIT.line in page
    assert "Not audited" not in page
    given["request"] = {HOSTILE: HOSTILE}
    check_text(erasure_page(HOSTILE, [HOSTILE], None, None, **given, command=HOSTILE))


def test_methods_that_train_promise_something_else_and_no_method_promises_deletion(run: Artefact, tmp_path: Path) -> None:
    store = Store(tmp_path / "outputs")
    chosen = run_facts_module.Chosen(run, (0, 1))
    assert run_facts_module.run_facts(chosen, store).not_promised[0] == SUPPRESSED
    chain = {"rmu": {"editing": False}, "unierase": {"editing": True}}
    run.manifest["config"]["method"]["chain"] = chain
    assert run_facts_module.run_facts(chosen, store).not_promised[0] == TRAINED, "a part trains the facts out"
    without = replace(chosen, parts_dropped=("rmu",))
    assert run_facts_module.run_facts(without, store).not_promised[0] == SUPPRESSED
    run.manifest["config"]["method"] |= {"token": False, "chain": {}}
    assert run_facts_module.run_facts(chosen, store).not_promised == (TRAINED, *ALWAYS)


def test_a_part_of_a_run_is_not_told_by_the_audit_and_the_scores_of_all_of_it(
    run: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(run_facts_module, "audit_of", lambda store, key: asked.append(key))
    store = Store(tmp_path / "outputs")

    def told(one: Artefact, until: int | None = None) -> bool:
        asked.clear()
        run_facts_module.run_facts(choose_steps(one, until), store)
        return bool(asked)

    for name, until in (("whole", None), ("part", 0)):
        export_patch(choose_steps(run, until), tmp_path / name, SilentReporter())
    part = store.resolve(str(tmp_path / "part"))
    assert [told(run), told(store.resolve(str(tmp_path / "whole"))), told(run, 0), told(part)] == [True, True, False, False]
    export_patch(choose_steps(part), tmp_path / "again", SilentReporter())
    assert not told(store.resolve(str(tmp_path / "again"))), "an export of an exported part"
    older = {key: value for key, value in part.summary.items() if key != "run_steps"}
    part.manifest["summary"] = older
    assert told(part), "an older export does not say that it is a part"


def test_a_report_is_not_pushed(tmp_path: Path) -> None:
    run = Artefact(tmp_path, {"stage": "erase", "key": "k" * 64})
    with pytest.raises(UserError, match="an erasure report is a page"):
        export(run, tmp_path / "out", SilentReporter(), kind="erasure", card=True)
