"""No pickle, no code from files, no shell: every call of the package and of the scripts is held against one list.

The exceptions are few, each with its reason. What a library could do unasked (load a pickle, run a repository's code) must be
switched off where the library is called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.helpers.places import ROOT

# Modules that run what they read, or whose format does.
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "dbm",
    "imp",
    "telnetlib",
    "xmlrpc",
}
# Functions by their names as they are called; a star stands for any module.
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnl", "tempfile.mktemp",
    "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "np.load", "numpy.load", "np.save", "yaml.load",
    "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "runpy.run_path", "runpy.run_module",
    "importlib.util.spec_from_file_location", "code.interact", "subprocess.getoutput", "subprocess.getstatusoutput",
    "hydra.utils.instantiate", "instantiate", "OmegaConf.register_new_resolver", "tarfile.open", "zipfile.ZipFile",
    "shutil.unpack_archive",
}  # fmt: skip
# Keyword -> the values that are refused, where a call has it; None: any but a literal False.
KEYWORDS = {"shell": None, "trust_remote_code": None, "allow_pickle": None, "weights_only": None}
# File below the root -> what it may call, and why.
ALLOWED = {
    # human_eval asks for programs and tries them: in processes of their own, cut off from files, network and the runner by the
    # kernel where it can and by an audit hook everywhere. These two files are what runs inside.
    "unierase_cli/inference/sandbox/roles.py": {"exec", "compile"},
    # What starts inside gets its own source by the pipe, since it can read no file any more.
    "unierase_cli/inference/sandbox/boot.py": {"exec", "compile"},
    # The process takes the interpreter's place once the kernel's walls stand, by a list of words.
    "unierase_cli/inference/sandbox/confine.py": {"os.execv"},
    # The run of a Ray worker takes this process's place once the kernel is told to end it with the worker, by a list of words.
    "unierase_cli/launch/tied.py": {"os.execvp"},
}
# Files that may start other programs: always a list of words, never a line for a shell.
STARTS = {
    "unierase_cli/inference/sandbox/sandbox.py": "the sandbox's processes",
    "unierase_cli/metrics/judges/process.py": "a judge, which may hang or take all memory",
    "unierase_cli/launch/jobs.py": "the runs of a sweep",
    "unierase_cli/launch/local.py": "waits for them",
    "unierase_cli/store/manifest.py": "asks git for the commit",
    "scripts/analogues.py": "runs unierase",
    "scripts/bench_growth.py": "runs stages",
    "scripts/bench_memory.py": "runs stages",
    "scripts/compare.py": "runs unierase",
    "scripts/kill_test.py": "runs unierase",
    "scripts/tradeoff.py": "runs unierase",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """(path below the root, syntax tree) of every Python file that is shipped or run by hand."""
    for folder in ("unierase_cli", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def name_of(node: ast.expr) -> str:
    """``os.path.join`` of the expression, as it is written; the last part alone where a call stands before it."""
    if isinstance(node, ast.Attribute):
        before = name_of(node.value)
        return f"{before}.{node.attr}" if before else f"?.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield name_of(node.func), node


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(path: str, tree: ast.AST) -> list[str]:
    """What a file does that nothing here may, with its line."""
    found = [f"{path} imports {name}" for name in imported(tree) if name.split(".")[0] in MODULES or name in CALLS]
    for name, call in calls(tree):
        if name in CALLS - ALLOWED.get(path, set()):
            found.append(f"{path}:{call.lineno} calls {name}")
        for keyword in call.keywords:
            literal = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if (
                keyword.arg in KEYWORDS
                and not literal
                and not (keyword.arg == "weights_only" and _is_true(keyword.value))
            ):
                found.append(f"{path}:{call.lineno} sets {keyword.arg}")
    return found


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def test_nothing_unpickles_evaluates_or_asks_a_shell() -> None:
    assert [offence for path, tree in sources() for offence in offences(path, tree)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from torch import load as f\nimport marshal", "import torch\ntorch.load('x')", "eval('1')", "exec(x)",
        "compile(x, 'a', 'exec')", "import os\nos.system('ls')", "subprocess.run('ls', shell=True)", "subprocess.run(x, shell=y)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)", "np.load(x, allow_pickle=True)", "yaml.load(x)",
        "tempfile.mktemp()",
        "from hydra.utils import instantiate", "from tempfile import mktemp\nx = tarfile.open(y)",
        "torch.load(x, weights_only=False)",
    ],
)  # fmt: skip
def test_each_of_them_would_be_found(code: str) -> None:
    assert offences("unierase_cli/some.py", ast.parse(code))


def test_what_is_allowed_is_there_and_only_the_sandbox_runs_text_as_code() -> None:
    trees = dict(sources())
    for path, names in ALLOWED.items():
        assert path.startswith("unierase_cli/inference/sandbox/") or names == {"os.execvp"}
        assert names == {name for name, _ in calls(trees[path]) if name in CALLS}


def test_other_programs_are_started_from_few_places_by_a_list_of_words() -> None:
    starting = {}
    for path, tree in sources():
        found = [
            call
            for name, call in calls(tree)
            if name.startswith("subprocess.") and name.split(".")[1] in ("run", "Popen")
        ]
        if found or "subprocess" in set(imported(tree)):
            starting[path] = found
    assert set(starting) <= set(STARTS)
    for path, found in starting.items():
        for call in found:
            literal = isinstance(call.args[0], ast.Constant | ast.JoinedStr) if call.args else True
            assert not literal, f"{path}:{call.lineno}: a text, not a list of words"


def test_yamls_are_read_by_the_safe_loader() -> None:
    used = {f"{path}: {name}" for path, tree in sources() for name, _ in calls(tree) if name.startswith("yaml.")}
    assert used
    # Events (yaml.parse) and nodes (yaml.compose) make no object.
    safe = ("yaml.safe_load", "yaml.safe_dump", "yaml.SafeLoader", "yaml.parse", "yaml.compose")
    assert all(name.endswith(safe) for name in used), used


def test_models_are_read_from_safetensors_and_run_no_code_of_their_repository() -> None:
    """Every from_pretrained says so by its keywords, or by the options of its file that say so."""
    found = []
    for path, tree in sources():
        if path == "unierase_cli/delivery/adapter_card.py":  # a text that is shown, not run
            continue
        for name, call in calls(tree):
            if not name.endswith(".from_pretrained"):
                continue
            given = {keyword.arg for keyword in call.keywords}
            source = (ROOT / path).read_text("utf-8")
            if (
                name == "PeftModel.from_pretrained"
            ):  # of the folder that was just written, whose weights are safetensors
                assert path == "unierase_cli/editing/adapter.py"
                continue
            safe = "trust_remote_code" in given or (None in given and '"trust_remote_code": False' in source)
            # A GGUF file holds numbers and texts alone.
            gguf = path == "unierase_cli/models/unpack.py" and '"gguf_file": file.name' in source
            weights = "Model" not in name or "use_safetensors" in given or gguf
            found.append((path, name, safe, weights))
    assert found
    assert [entry for entry in found if not (entry[2] and entry[3])] == []


def test_no_configuration_names_a_class_to_be_made() -> None:
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        text = path.read_text("utf-8")
        assert "_target_" not in text, path
        assert "!!python" not in text, path
