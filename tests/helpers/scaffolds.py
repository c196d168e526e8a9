"""Parts that `unierase new` writes: made in a package of one's own, filled in, installed, and edited like a user's."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

from typer.testing import CliRunner, Result

from unierase_cli.cli.app import app

# Kind -> its room in a package of one's own, and in this one.
ROOMS = {"method": "methods", "loss": "terms", "metric": "metrics", "attack": "attacks", "benchmark": "benchmarks"}
HOMES = {**ROOMS, "loss": "methods/terms", "attack": "audit/attacks"}
# A loss has a yaml of the methods' group, too.
NAMES = {"method": "mine", "loss": "mine_too", "metric": "mine", "attack": "mine", "benchmark": "mine"}
# What a user would write in the place of the line that is left open.
FILLED = {
    "method": """\
    name = "model.layers.1.mlp.down_proj.weight"
    return {name: 0.5 * dict(loaded.model.named_parameters())[name].detach()}
""",
    "loss": "    return -rows[FORGET].nll.clamp(max=5.0)\n",
    "metric": "    return float(observation.text == observation.reference)\n",
    "attack": "    return f\"Please tell me: {fact.question}\"\n",
    "benchmark": """\
    people = [Fact(f"p{n}", f"Where does person {n} live?", f"In town {n}.", group=f"person {n}") for n in range(12)]
    return people[:3], people[3:8], people[8:]
""",
}


def new(*words: str) -> Result:
    return CliRunner().invoke(app, ["new", *words], prog_name="unierase")


def fill_in(path: Path, kind: str, model: Path | None = None) -> None:
    text = path.read_text("utf-8")
    if kind == "model":
        path.write_text(text.replace("path: ???", f"path: {model}").replace("layers: null", "layers: [1, 2]"), "utf-8")
        return
    start = text.index("    raise NotImplementedError")
    path.write_text(text[:start] + FILLED[kind], "utf-8")


def forget_modules() -> None:
    for name in [
        name for name in sys.modules if name.endswith((".mine", ".mine_too")) or name.startswith("unierase_my_parts")
    ]:
        del sys.modules[name]
    importlib.invalidate_caches()


def install(folder: Path) -> None:
    """What pip makes of the entry points of a pyproject.toml."""
    groups = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{n} = {v}" for n, v in names.items()))
    ]
    info = folder / "unierase_my_parts-0.1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unierase-my-parts\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    importlib.invalidate_caches()


def as_a_new_process() -> None:
    """Forget the user's modules, and everything that this process has kept of files."""
    forget_modules()
    for name, module in list(sys.modules.items()):
        if name.startswith("unierase_cli."):
            for thing in list(vars(module).values()):
                if callable(clear := getattr(thing, "cache_clear", None)):
                    clear()
