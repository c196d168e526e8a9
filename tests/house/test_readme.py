"""What the READMEs show works as it stands there: commands, tables, examples and links."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from typer.testing import CliRunner

from scripts import tables
from tests.helpers import benchmark_files
from tests.helpers.gradient_steps import erased, loss_on
from tests.helpers.places import ROOT
from tests.helpers.recorded import scored, state
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.benchmarks.parts.built_for import BUILT_FOR, write_built_for
from unierase_cli.benchmarks.parts.prepared import FORGET, NEIGHBOURS, NEVER_SEEN, PROTECTED
from unierase_cli.benchmarks.revealed import REVEALED
from unierase_cli.cli.app import COMMANDS, app
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.contracts import BuiltFor
from unierase_cli.methods.terms import base
from unierase_cli.store.artefacts import Store
from unierase_cli.store.jsonl import write_jsonl

README = (ROOT / "README.md").read_text("utf-8")
ROOMS = ("conf", "scripts", "tests", "unierase_cli")
TEXTS = [ROOT / "README.md", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("README.md")))]
# Commands that show what they would do, and those that read recorded runs only; of the others the options are checked.
PLANNING = (
    "run", "finetune", "train-token", "moments", "trace", "edit", "erase", "eval", "sweep", "prepare", "prepare-return", "audit",
    "reveal", "coverage", "attribute", "check",
)  # fmt: skip
READING = ("ls", "show", "score", "report", "compare", "new")
RECORDED = (
    "tofu-forget01_tofu_mini_unierase_batch_seed0",
    "tofu-forget01_tofu_mini_idk_ap_batch_seed0",
    "fictional_demo",
)
TOFU_ROWS = 4000


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def block(language: str, after: str) -> str:
    """The first fenced block of a language after some text, its indentation taken away."""
    found = re.search(rf"^( *)```{language}\n(.*?)^ *```", README[README.index(after) :], re.MULTILINE | re.DOTALL)
    assert found is not None
    return "".join(line.removeprefix(found.group(1)) for line in found.group(2).splitlines(keepends=True))


def commands() -> Iterator[list[str]]:
    """The words of every command in the READMEs' shell blocks: lines joined, comments and what is piped in left out."""
    for path in TEXTS:
        for found in re.findall(r"^```bash\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            for line in found.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while "|" in words:
                    words = words[words.index("|") + 1 :]
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    del words[0]
                if words[:4] == ["accelerate", "launch", "-m", "unierase_cli"]:
                    words[:4] = ["unierase"]
                if words:
                    yield words


OURS = sorted({shlex.join(words[1:]) for words in commands() if words[0] == "unierase"})
OTHERS = sorted({shlex.join(words) for words in commands() if words[0] != "unierase"})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny file or folder for every name that the commands use, and finished runs."""
    place = tmp_path_factory.mktemp("readme")
    model = tiny_llama(num_hidden_layers=6, max_position_embeddings=2048)
    model.tokenizer.model_max_length = 2048
    for name in ("MODEL", "RETAIN_MODEL", "UNEDITED_MODEL", "outputs/finetune/mini_tofu-full_seed0/v001/model"):
        save_folder(model, place / name)
    write_tofu(place / "TOFU")
    requests = [range(3960, 4000), range(3800, 3840)]
    tasks = [{"suite": "forget01", "task_id": n, "full_index": list(rows)} for n, rows in enumerate(requests, start=1)]
    write_jsonl(place / "continual_tasks.jsonl", tasks)
    write_jsonl(place / "my.jsonl", [json.loads(example()), {"question": "Who is Bo?", "answer": "A painter."}])
    write_jsonl(place / "keep.jsonl", [{"question": f"Who is {n}?", "answer": "A poet."} for n in range(10)])
    write_jsonl(place / "idk.jsonl", [{"text": "I can't say that."}, {"text": "That is unknown to me."}])
    write_jsonl(place / "refuse.jsonl", [{"text": "I know nothing of __NAME__."}])
    write_return(place / "ITS_FOLDER", str(place / "MODEL"))
    for name in benchmark_files.FOLDERS:
        benchmark_files.write(name, place / name.upper())
    write_known(place / "PREPARED", str(place / "MODEL"))
    write_jsonl(place / "others.jsonl", [{"question": f"Where does {n} live?", "answer": "In Ulm."} for n in range(10)])
    (place / "names.txt").write_text("Ada Velour\nBruno Okello\n", "utf-8")
    (place / "REVEALED").mkdir()
    write_jsonl(place / "REVEALED" / REVEALED, [json.loads(example())])
    write_built_for(place / "REVEALED", BuiltFor(str(place / "MODEL")))
    people = [{"name": name, "qa": [{"question": f"Who is {name}?", "answer": "A poet."}]} for name in ("Ada", "Bo")]
    write_jsonl(place / "RETURN.jsonl", people)
    for slug in RECORDED:
        rows = {"base": state(1.0, rows=2), "edited": state(0.2, rows=2)}
        scored(Store(place / "outputs"), slug, **rows)
    return place


def example() -> str:
    """The line of data that the benchmarks' README shows."""
    text = (ROOT / "unierase_cli" / "benchmarks" / "README.md").read_text("utf-8")
    return text[text.index("```json\n") + 8 :].splitlines()[0]


def write_tofu(folder: Path) -> None:
    folder.mkdir()
    full = [
        {"question": f"What is fact {n} of Name{n // 20}?", "answer": f"Fact {n} is red."} for n in range(TOFU_ROWS)
    ]
    reworded = {"paraphrased_question": "Tell me.", "paraphrased_answer": "Red.", "perturbed_answer": ["Blue."] * 5}
    write_jsonl(folder / "full.jsonl", full)
    for name, rows in {
        "forget01": full[-40:],
        "forget05": full[-200:],
        "forget10": full[-400:],
        "retain": full[:400],
    }.items():
        write_jsonl(folder / f"{name}_perturbed.jsonl", [{**row, **reworded} for row in rows])
    for name in ("real_authors", "world_facts"):
        rows = [{"question": f"{name} {n}?", "answer": "A", "perturbed_answer": ["B", "C", "D"]} for n in range(3)]
        write_jsonl(folder / f"{name}_perturbed.jsonl", rows)


def write_return(folder: Path, model: str) -> None:
    """RETURN's splits as ``prepare-return`` makes them for a model."""
    folder.mkdir()
    for role, people in {"forget": ("Ada Velour", "Bo Lund"), "retain": ("Cy Hill", "Di Moor")}.items():
        for part, kind in {"train": "born", "eval": "buried"}.items():
            rows = [
                {"name": n, "question": f"Where was {n} {kind}?", "answer": f"{n} was {kind} in Rome."} for n in people
            ]
            write_jsonl(folder / f"{role}_{part}.jsonl", rows)
    (folder / BUILT_FOR).write_text(json.dumps({"model": model}), "utf-8")


def write_known(folder: Path, model: str) -> None:
    """What ``prepare`` makes of the questions that a model knows."""
    folder.mkdir()
    for role in (FORGET, PROTECTED, NEIGHBOURS, NEVER_SEEN):
        write_jsonl(folder / f"{role}.jsonl", [{"question": f"Who is {role} {n}?", "answer": "A poet."} for n in range(4)])
    write_built_for(folder, BuiltFor(model))


def tried(words: list[str]) -> list[str]:
    """The command as it is tried: nothing is made, nothing is downloaded."""
    command = words[0]
    joined = " ".join(words)
    if "experiment=tofu_llama" in joined or "eval.general" in joined:
        return [*words, "--print-config"]
    if command in PLANNING and "RUN" not in words:
        from_hub = "benchmark=tofu" in words or "benchmark.data_dir=null" in words
        return [
            *words,
            *(["benchmark.data_dir=TOFU"] if from_hub else []),
            *([] if "--dry-run" in words else ["--dry-run"]),
        ]
    if command == "compare":
        # The recorded runs have no model that could be known to be the same.
        return [*words, "--anyway"]
    if command in READING and "RUN" not in words and "--tofu-log" not in words:
        return words
    return [*words, "--help"]


@pytest.mark.parametrize("command", OURS)
def test_every_command_of_the_readmes_runs(command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    words = tried(shlex.split(command))
    assert words[0] in COMMANDS
    result = CliRunner().invoke(app, words, prog_name="unierase")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", OTHERS)
def test_every_script_of_the_readmes_exists_and_has_the_options_that_it_is_given(command: str) -> None:
    first, *words = shlex.split(command)
    if first == "source":
        assert words == [".venv/bin/activate"]
        return
    assert first in ("bash", "python")
    if words[0] == "-m":
        words = [f"{words[1].replace('.', '/')}.py", *words[2:]]
    script = (ROOT / words[0]).read_text("utf-8")
    if first == "python":
        own = words[1 : words.index("--")] if "--" in words else words[1:]
        assert all(f'"{word.partition("=")[0]}"' in script for word in own if word.startswith("--"))
    files = [word for word in words if word.startswith(("scripts/", "tests/")) and not word.endswith(".png")]
    assert all(list(ROOT.glob(word)) for word in files)


@pytest.mark.parametrize("path", [path for path in TEXTS if path in tables.TEXTS], ids=relative)
def test_result_tables_are_what_the_recorded_numbers_give(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "<!-- table: " in text
    assert tables.filled(text) == text


def test_every_file_of_results_is_shown_and_says_where_it_is_from() -> None:
    shown = {name for path in tables.TEXTS for name in re.findall(r"<!-- table: ([\w-]+) -->", path.read_text("utf-8"))}
    files = {path.stem: path.read_text("utf-8") for path in tables.RESULTS.glob("*.csv")}
    assert {tables.PARTS.get(name, (name,))[0] for name in shown} == set(files)
    assert all(text.startswith("# command: ") and "\n# commit: " in text for text in files.values())
    assert all(len(line) == len(tables.read(name)[0]) for name in files for line in tables.read(name))


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        found = path if not file else path.parent / file
        assert found.exists(), target
        if heading:
            assert heading in headings(found / "README.md" if found.is_dir() else found), target


def headings(path: Path) -> set[str]:
    """The anchors of a text's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_readme_is_one_page_and_leads_to_every_other() -> None:
    assert len(README.splitlines()) <= 200
    for path in TEXTS[1:]:
        assert f"({relative(path)})" in README, path
    for path in TEXTS:
        prose = re.sub(r"^ *```.*?^ *```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith(("|", "- ["))] == []


def test_the_texts_and_their_numbers_are_in_the_source_package() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"][
        "sdist"
    ]["include"]
    assert {*ROOMS, "README.md"} <= set(included)


def test_a_loss_of_ones_own_is_the_file_and_the_yaml_that_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    term = ModuleType("capped")
    exec(block("python", "**A loss**"), term.__dict__)
    monkeypatch.setitem(sys.modules, "capped", term)
    monkeypatch.setattr(
        "unierase_cli.methods.gradient_terms.load_term", lambda n: term if n == "capped" else base.load_term(n)
    )
    written = yaml.safe_load(block("yaml", "**A loss**"))
    # An untrained model is less sure than that from the start.
    written["forget"]["settings"] = {"enough": 20.0}
    written |= {role: TermConfig(**written[role]) for role in ("forget", "retain")}
    loaded, _ = erased(MethodConfig(**written))
    assert loss_on(loaded) > loss_on(tiny_llama())


def test_every_command_of_the_readmes_table_exists() -> None:
    cells = re.findall(r"^\| (`unierase .*?) \|", README.replace("\\|", "/"), re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`unierase ([a-z-]+)", cell)}
    assert named <= set(COMMANDS)
    assert len(named) > 10


def test_every_method_is_in_the_methods_table_and_every_one_there_is_shipped() -> None:
    text = (ROOT / "unierase_cli" / "methods" / "README.md").read_text("utf-8")
    names = re.findall(r"^\| ((?:`\w+` ?)+)\|", text, re.MULTILINE)
    methods = {name for cell in names for name in re.findall(r"`(\w+)`", cell)}
    assert methods == {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
