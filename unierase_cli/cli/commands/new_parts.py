"""A new model, method, loss, metric, attack or benchmark as files: its code with one place left open, its yaml, and a test that
fails until the place is filled in. The texts are the templates of ``unierase_cli/assets/new``.

In a checkout of this project the files go into its rooms. Elsewhere they make a package of the user's own, whose entry points this
one looks through, with a folder of yamls for ``--config-dir``.
"""

from __future__ import annotations

import keyword
import re
import tomllib
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from string import Template

from unierase_cli.config.locate import shipped_folder
from unierase_cli.contracts import UserError
from unierase_cli.plugins import Plugins
from unierase_cli.store.whole import write_text

PYPROJECT = "pyproject.toml"
NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Kind:
    """``room``: folder of a package of one's own for its code, "" for a kind that is a yaml alone; ``group``: of conf/, "" for a
    kind without a yaml; ``open``: what is to be filled in; ``try_it``: the command that uses it; ``home``: folder of this package,
    where it is another than ``room``.
    """

    name: str
    room: str
    group: str
    open: str
    try_it: str
    home: str = ""

    @property
    def entry_points(self) -> str:
        return f"unierase.{self.room}"

    @property
    def shipped(self) -> str:
        """The folder in which this package has its own."""
        return f"unierase_cli/{self.home or self.room}"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("model", "", "model", "path", "unierase doctor model={}"),
        Kind("method", "methods", "method", "new_weights()", "unierase run experiment=demo method={}"),
        Kind("loss", "terms", "method", "values()", "unierase run experiment=demo method={}", "methods/terms"),
        Kind("metric", "metrics", "", "of_row()", "unierase score latest --metrics {}"),
        Kind("attack", "attacks", "", "question()", "unierase audit latest --attacks {}", "audit/attacks"),
        Kind("benchmark", "benchmarks", "benchmark", "facts()", "unierase run benchmark={}"),
    )
}


@dataclass(frozen=True)
class Planned:
    """What is to be written below ``root``. ``files``: path -> content, the one to fill in first; ``changed``: files that gain
    something; ``added``: what the user must add by hand to a pyproject.toml of their own, or ""; ``checkout``: whether root is one.
    """

    kind: Kind
    name: str
    root: Path
    checkout: bool
    files: dict[Path, str]
    changed: dict[Path, str] = field(default_factory=dict)
    added: str = ""


def find_checkout(start: Path) -> Path | None:
    """The checkout of this project that a folder is in."""
    for folder in (start, *start.parents):
        if (folder / "unierase_cli" / "plugins.py").is_file() and (folder / "conf" / "config.yaml").is_file():
            return folder
    return None


def plan(kind_name: str, name: str, here: Path, into: Path | None = None) -> Planned:
    """The files of a new part; nothing is written yet.

    Raises UserError for an unknown kind, for a name that is no identifier or is taken, and where there is neither a checkout nor a
    folder to write into.
    """
    kind = KINDS.get(kind_name)
    if kind is None:
        raise UserError(f"{kind_name} is nothing that unierase new can make", f"choose {', '.join(KINDS)}")
    _check_name(kind, name)
    try:
        checkout = find_checkout((into or here).resolve())
    except RuntimeError as error:  # what Python says of a link to itself
        raise UserError(f"--into {into} is a link that leads to itself", "name a folder") from error
    if checkout is not None:
        files = _files(kind, name, checkout, code=f"{kind.shipped}/{name}.py")
        planned = Planned(kind, name, checkout, True, files)
    elif into is None:
        what = f"{here} is in no checkout of unierase"
        raise UserError(what, f"unierase new {kind.name} {name} --into FOLDER")
    else:
        planned = _own_package(kind, name, into)
    _check_free(planned)
    return planned


def write(planned: Planned) -> None:
    """Write the files, all or none. Raises UserError when a folder cannot be written to."""
    made: list[Path] = []
    try:
        for path, content in {**planned.files, **planned.changed}.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, content)
            made += [path] if path in planned.files else []
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise UserError(f"cannot write to {error.filename}: {error.strerror}", "choose another folder with --into") from error


def _check_name(kind: Kind, name: str) -> None:
    if NAME.fullmatch(name) and not keyword.iskeyword(name):
        return
    mended = re.sub(r"\W+", "_", name.lower()).strip("_")
    mended = mended if NAME.fullmatch(mended) and not keyword.iskeyword(mended) else f"my_{mended or kind.name}"
    what = f"{name} is no name for a {kind.name}: small letters, digits and underscores, a letter first"
    raise UserError(what, f"unierase new {kind.name} {mended}")


def _check_free(planned: Planned) -> None:
    """Refuse a name that a file, a yaml or an installed part has already."""
    kind, name = planned.kind, planned.name
    conf = planned.root / "conf"
    yamls = [folder / kind.group / f"{name}.yaml" for folder in (conf, shipped_folder()) if kind.group]
    # Beside a folder of the same name a file of code would never be found.
    taken = [path for path in (*planned.files, *yamls) if path.exists() or (path.suffix == ".py" and path.with_suffix("").is_dir())]
    if taken or (kind.room and name in Plugins(kind.shipped.replace("/", "."), kind.entry_points, "", kind.name, ()).names()):
        where = f" ({taken[0]})" if taken else ""
        raise UserError(f"there is a {kind.name} {name} already{where}", f"unierase new {kind.name} my_{name}")


def _files(kind: Kind, name: str, root: Path, code: str) -> dict[Path, str]:
    """Code, yaml and test of a kind, those that it has."""
    conf = f"conf/{kind.group}/{name}.yaml"
    words = {"name": name, "title": name.replace("_", " "), "file": code if kind.room else conf}
    found = {root / code: _filled(f"{kind.name}.py", words)} if kind.room else {}
    found |= {root / conf: _filled(f"{kind.name}.yaml", words)} if kind.group else {}
    return {**found, root / "tests" / f"test_{kind.name}_{name}.py": _filled(f"{kind.name}_test.py", words)}


def _own_package(kind: Kind, name: str, folder: Path) -> Planned:
    """A folder that pip can install: ``unierase_<folder>/<room>/<name>.py``, conf/, tests/ and a pyproject.toml with the entry
    point.
    """
    package = _package_name(folder)
    planned = Planned(kind, name, folder, False, _files(kind, name, folder, code=f"{package}/{kind.room}/{name}.py"))
    if not kind.room:
        return planned
    for path, about in ((folder / package, "Parts of unierase of our own."), (folder / package / kind.room, "Found by name.")):
        if not (path / "__init__.py").exists():
            planned.files[path / "__init__.py"] = f'"""{about}"""\n'
    project, line = folder / PYPROJECT, f'{name} = "{package}.{kind.room}.{name}"'
    header = f'[project.entry-points."{kind.entry_points}"]'
    if not project.exists():
        words = {"distribution": package.replace("_", "-"), "package": package}
        planned.files[project] = f"{_filled(PYPROJECT, words)}\n{header}\n{line}\n"
    elif (content := _with_entry(project.read_text("utf-8"), package, header, line)) is not None:
        planned.changed[project] = content
    else:
        return replace(planned, added=f"{header}\n{line}")
    return planned


def _package_name(folder: Path) -> str:
    name = re.sub(r"\W+", "_", folder.resolve().name.lower()).strip("_") or "own"
    return name if name.startswith("unierase_") else f"unierase_{name}"


def _with_entry(content: str, package: str, header: str, line: str) -> str | None:
    """A pyproject.toml that ``new`` has written with one entry point more; None for any other, which is left to its owner."""
    if f'packages = ["{package}"]' not in content:
        return None
    if header in content:
        changed = content.replace(header, f"{header}\n{line}", 1)
    else:
        changed = f"{content.rstrip()}\n\n{header}\n{line}\n"
    try:
        tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        return None
    return changed


def _filled(template: str, words: dict[str, str]) -> str:
    text = (resources.files("unierase_cli.assets") / "new" / f"{template}.txt").read_text("utf-8")
    return Template(text).substitute(words)
