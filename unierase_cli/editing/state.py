"""The state passed from one edit to the next: templates, and per layer the ridge and the whitened keys of all earlier edits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
    parts: dict[str, dict[str, Finite | None]] = {}


@dataclass
class EditState:
    """State after ``steps`` steps; the first step sets ``templates`` and each layer's lambda, before that None and empty.

    ``parts``: name of a chain's part -> its own layers, while another part's are in ``layers``.
    """

    steps: int = 0
    templates: Templates | None = None
    layers: dict[int, LayerState] = field(default_factory=dict)
    parts: dict[str, dict[int, LayerState]] = field(default_factory=dict)

    def before_part(self, name: str) -> EditState:
        """The state that a part of a chain sees: its own layers from earlier steps, without those of other parts."""
        return replace(self, layers=dict(self.parts.get(name, {})))

    def after_part(self, name: str) -> EditState:
        """The state after a part, whose layers are set aside for its next step."""
        return replace(self, layers={}, parts={**self.parts, name: self.layers})

    def save(self, path: Path) -> None:
        """Write everything into one safetensors file."""
        tensors: dict[str, Tensor] = {
            f"{prefix}layer.{n}.whitened": layer.whitened
            for prefix, layers in [("", self.layers), *((f"part.{name}.", found) for name, found in self.parts.items())]
            for n, layer in layers.items()
            if layer.whitened is not None
        }
        about = {
            "steps": self.steps,
            "prefixes": None if self.templates is None else list(self.templates.prefixes),
            "lambda": _lambdas(self.layers),
            "parts": {name: _lambdas(layers) for name, layers in self.parts.items()},
        }
        save_tensors(path, tensors, {"state": about})

    @classmethod
    def load(cls, path: Path) -> EditState:
        """Read what ``save`` wrote. Raises UserError if the file is missing or damaged."""
        try:
            with safe_open(str(path), framework="pt") as file:
                about = decoded(parse_json(file.metadata()["state"]), Header)
                names = set(file.keys())

                def stored(prefix: str, lambdas: dict[str, Finite | None]) -> dict[int, LayerState]:
                    keys = {n: f"{prefix}layer.{n}.whitened" for n in lambdas}
                    return {
                        int(n): LayerState(value, file.get_tensor(keys[n]) if keys[n] in names else None)
                        for n, value in lambdas.items()
                    }

                layers = stored("", about.lambdas)
                parts = {name: stored(f"part.{name}.", lambdas) for name, lambdas in about.parts.items()}
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error})", "make the edit again with --force") from error
        every = [item for found in (layers, *parts.values()) for item in found.items()]
        held = ((f"layer.{n}", layer.whitened) for n, layer in every if layer.whitened is not None)
        check_finite(held, path, "make the edit again with --force")
        templates = None if about.prefixes is None else Templates(tuple(about.prefixes))
        return cls(about.steps, templates, layers, parts)


def _lambdas(layers: dict[int, LayerState]) -> dict[str, float | None]:
    return {str(n): layer.lambda_ for n, layer in layers.items()}
