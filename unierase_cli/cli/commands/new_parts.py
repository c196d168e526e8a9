"""Plans and writes the files of a new model, method, loss, metric, attack or benchmark: code with one place to fill in,
yaml, and a test.

The test fails until the place is filled in. The templates are in ``unierase_cli/assets/new``. In a checkout of this
project the files go into its rooms. Elsewhere they make a package of the user's own, with entry points and a folder of
yamls for ``--config-dir``.
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
    """A kind of part that ``new`` can create.

    ``room``: folder for the code in the user's own package, "" if the kind is only a yaml; ``group``: folder of conf/,
    "" if the kind has no yaml; ``open``: what is to be filled in; ``try_it``: the command that uses the part; ``home``:
    folder of this package if it differs from ``room``.
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
        """The folder of this package that has the shipped parts of this kind."""
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
    """What ``write`` will write below ``root``.

    ``files``: path -> content, the file to fill in first; ``changed``: existing files with their new content;
    ``added``: what the user must add to their own pyproject.toml, or ""; ``checkout``: whether ``root`` is a checkout
    of this project.
    """

    kind: Kind
    name: str
    root: Path
    checkout: bool
    files: dict[Path, str]
    changed: dict[Path, str] = field(default_factory=dict)
    added: str = ""


def find_checkout(start: Path) -> Path | None:
    """The checkout of this project that contains the folder ``start``, or None."""
    for folder in (start, *start.parents):
        if (folder / "unierase_cli" / "plugins.py").is_file() and (folder / "conf" / "config.yaml").is_file():
            return folder
    return None


def plan(kind_name: str, name: str, here: Path, into: Path | None = None) -> Planned:
    """Plan the files of a new part; writes nothing.

    Raises UserError for an unknown kind, for a name that is not an identifier or is taken, and if there is neither a
    checkout nor a folder to write into.
    """
    kind = KINDS.get(kind_name)
    if kind is None:
        raise UserError(f"unierase new cannot make {kind_name}", f"choose {', '.join(KINDS)}")
    _check_name(kind, name)
    try:
        checkout = find_checkout((into or here).resolve())
    except RuntimeError as error:  # Python raises this for a symbolic link to itself
        raise UserError(f"--into {into} is a symbolic link to itself", "name a folder") from error
    if checkout is not None:
        files = _files(kind, name, checkout, code=f"{kind.shipped}/{name}.py")
        planned = Planned(kind, name, checkout, True, files)
    elif into is None:
        what = f"{here} is not in a checkout of unierase"
        raise UserError(what, f"unierase new {kind.name} {name} --into FOLDER")
    else:
        planned = _own_package(kind, name, into)
    _check_free(planned)
    return planned


def write(planned: Planned) -> None:
    """Write all files or none; raises UserError if a folder is not writable."""
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
    what = f"{name} is not a valid name for a {kind.name}: use small letters, digits and underscores, a letter first"
    raise UserError(what, f"unierase new {kind.name} {mended}")


def _check_free(planned: Planned) -> None:
    """Refuse a name that a file, a yaml or an installed part already has."""
    kind, name = planned.kind, planned.name
    conf = planned.root / "conf"
    yamls = [folder / kind.group / f"{name}.yaml" for folder in (conf, shipped_folder()) if kind.group]
    # Python prefers a package (a folder) to a module of the same name.
    taken = [path for path in (*planned.files, *yamls) if path.exists() or (path.suffix == ".py" and path.with_suffix("").is_dir())]
    if taken or (kind.room and name in Plugins(kind.shipped.replace("/", "."), kind.entry_points, "", kind.name, ()).names()):
        where = f" ({taken[0]})" if taken else ""
        raise UserError(f"there is already a {kind.name} {name}{where}", f"unierase new {kind.name} my_{name}")


def _files(kind: Kind, name: str, root: Path, code: str) -> dict[Path, str]:
    """Path -> content of the code, the yaml and the test, as far as the kind has them."""
    conf = f"conf/{kind.group}/{name}.yaml"
    words = {"name": name, "title": name.replace("_", " "), "file": code if kind.room else conf}
    found = {root / code: _filled(f"{kind.name}.py", words)} if kind.room else {}
    found |= {root / conf: _filled(f"{kind.name}.yaml", words)} if kind.group else {}
    return {**found, root / "tests" / f"test_{kind.name}_{name}.py": _filled(f"{kind.name}_test.py", words)}


def _own_package(kind: Kind, name: str, folder: Path) -> Planned:
    """Plan a folder that pip can install: code, conf/, tests/ and a pyproject.toml with the entry point."""
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
    """The pyproject.toml with one more entry point, or None if ``new`` did not write the file and its owner must edit it."""
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
