"""The state passed from one edit to the next: templates, and per layer the ridge and the whitened keys of all earlier edits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.editing.solve import LayerState
from unierase_cli.editing.templates import Templates
from unierase_cli.store.json_text import Finite, decoded, parse_json
from unierase_cli.store.tensors import check_finite, save_tensors


class Header(msgspec.Struct):
    """The file's metadata beside its tensors."""

    steps: int
    prefixes: list[str] | None
    lambdas: dict[str, Finite | None] = msgspec.field(name="lambda")


@dataclass
class EditState:
    """State after ``steps`` steps; the first step sets ``templates`` and each layer's lambda, before that None and empty."""

    steps: int = 0
    templates: Templates | None = None
    layers: dict[int, LayerState] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write everything into one safetensors file."""
        tensors: dict[str, Tensor] = {
            f"layer.{n}.whitened": s.whitened for n, s in self.layers.items() if s.whitened is not None
        }
        about = {
            "steps": self.steps,
            "prefixes": None if self.templates is None else list(self.templates.prefixes),
            "lambda": {str(n): s.lambda_ for n, s in self.layers.items()},
        }
        save_tensors(path, tensors, {"state": about})

    @classmethod
    def load(cls, path: Path) -> EditState:
        """Read what ``save`` wrote. Raises UserError if the file is missing or damaged."""
        try:
            with safe_open(str(path), framework="pt") as file:
                about = decoded(parse_json(file.metadata()["state"]), Header)
                names = set(file.keys())
                layers = {
                    int(n): LayerState(value, file.get_tensor(key) if (key := f"layer.{n}.whitened") in names else None)
                    for n, value in about.lambdas.items()
                }
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error})", "make the edit again with --force") from error
        held = ((f"layer.{n}", layer.whitened) for n, layer in layers.items() if layer.whitened is not None)
        check_finite(held, path, "make the edit again with --force")
        templates = None if about.prefixes is None else Templates(tuple(about.prefixes))
        return cls(about.steps, templates, layers)
