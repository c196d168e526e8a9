"""Second moments of down projection inputs: how the texts to keep look to the edited layers (spec 2.6; findings 3).

C = sum over sources of weight * mean of k k' over the source's tokens. Stored as eigenvalues and eigenvectors, so that
any threshold or weighting can be chosen later, and only the needed part is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.editing.nullspace import Preservation, choose_preservation, nothing_protected
from unierase_cli.models.devices import device_of
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences, run_lower
from unierase_cli.sizes import pass_tokens
from unierase_cli.store.refusals import is_out_of_memory
from unierase_cli.store.tensors import check_finite, load_tensors

FILE = "moments.safetensors"
AGAIN = "make the moments again: unierase moments --force"
# The unit of the batch size, as models.room counts it.
PURPOSE = "tokens of the texts to keep"


@dataclass(frozen=True)
class Source:
    """Token sequences with a total ``weight``; with ``last_only``, only each sequence's last token counts."""

    name: str
    weight: float
    sequences: Sequence[list[int]]
    last_only: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens that count: padding does not, the opening BOS does."""
        return len(self.sequences) if self.last_only else sum(len(s) for s in self.sequences)


@dataclass
class Moment:
    """Eigenvalues [d] (float64, ascending) and eigenvectors as rows [d, d] (float32) of one layer's second moment."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def second_moments(
    loaded: LoadedModel, layers: Sequence[int], sources: Sequence[Source], *, batch_tokens: int, reporter: Reporter
) -> dict[int, Tensor]:
    """C per layer, [d, d] float64, from one pass over each source; blocks above the last layer are not run."""
    architecture = loaded.architecture
    most = pass_tokens(loaded.device.type == "cpu", batch_tokens)
    sums = {n: _zeros(architecture.inner_size(n), solving_device(device_of(architecture, n))) for n in layers}
    for source in sources:
        if not source.sequences or source.weight == 0:
            continue
        share = source.weight / source.tokens
        with reporter.progress(f"moments of {source.name}", len(source.sequences)) as advance:
            for rows in length_sorted_batches([len(s) for s in source.sequences], most):
                _add_batch(loaded, source, rows, layers, sums, share)
                advance(len(rows))
    for layer, total in sums.items():
        if not torch.isfinite(total).all():
            raise UserError(
                f"layer {layer}: the second moment is not finite",
                "use model.dtype=float32, or look for NaN in the weights",
            )
    return sums


def _zeros(size: int, device: torch.device) -> Tensor:
    return torch.zeros(size, size, dtype=torch.float64, device=device)


def _add_batch(
    loaded: LoadedModel, source: Source, rows: Sequence[int], layers: Sequence[int], sums: dict[int, Tensor], share: float
) -> None:
    """Add the moments of some of a source's sequences, in smaller batches if memory runs out."""
    lengths = [len(source.sequences[i]) for i in rows]
    tokens = len(rows) * max(lengths)
    missing = list(layers)
    if (fitting := loaded.room.size(PURPOSE, tokens)) == tokens or len(rows) == 1:
        batch = pad_sequences([source.sequences[i] for i in rows], loaded.prompts.pad_id, loaded.device)
        counts = batch.mask.bool()
        if source.last_only:
            counts = torch.zeros_like(counts).scatter(1, batch.mask.sum(1, keepdim=True) - 1, True)
        read_at = batch.mask.sum(1) - 1 if source.last_only else None
        try:
            run_lower(
                loaded.architecture,
                batch,
                inputs_of=layers,
                on_input=_adder(sums, counts, share, missing.remove),
                read_at=read_at,
            )
            return
        except Exception as error:
            if not is_out_of_memory(error) or len(rows) == 1:
                raise
        del batch, counts, read_at
        loaded.room.halve(PURPOSE, tokens)
        fitting = tokens // 2
    # A failed pass may have added some layers' moments of all its rows; the smaller batches add only the missing ones.
    for part in length_sorted_batches(lengths, fitting) if missing else []:
        _add_batch(loaded, source, [rows[i] for i in part], missing, sums, share)


def _adder(
    sums: dict[int, Tensor], counts: Tensor, share: float, done: Callable[[int], None]
) -> Callable[[int, Tensor], None]:
    def add(layer: int, seen: Tensor) -> None:
        # Where the block ran at the tokens that count alone, there are no others.
        keys = (seen[counts.to(seen.device)] if seen.shape[1] == counts.shape[1] else seen[:, 0]).float()
        # A batch's product is in float32, the sum over batches in float64: rounding does not grow with the corpus, and
        # float64 products are slow on CPUs and many times slower on most GPUs.
        sums[layer].add_((keys.T @ keys).to(sums[layer].device, torch.float64), alpha=share)
        done(layer)

    return add


def solving_device(device: torch.device) -> torch.device:
    """Where float64 work is done: the model's device, or the CPU if the device has no float64 (mps)."""
    return torch.device("cpu") if device.type == "mps" else device


def decompose(moment: Tensor) -> Moment:
    """Symmetric eigendecomposition of C [d, d] in float64."""
    values, vectors = torch.linalg.eigh((moment + moment.T) / 2)
    return Moment(values.cpu(), vectors.T.to("cpu", torch.float32).contiguous())


@dataclass
class StoredMoments:
    """The moments of an artefact folder; only what is needed is read."""

    directory: Path
    protected_tokens: int

    def preservation(self, layer: int, config: EditConfig, device: torch.device) -> Preservation:
        """B of one layer. Raises UserError if the artefact lacks the layer or leaves no usable null space."""
        path = self.directory / FILE
        try:
            with safe_open(str(path), framework="pt") as file:
                if f"layer.{layer}.eigenvalues" not in file.keys():  # noqa: SIM118 (not a dict)
                    raise UserError(
                        f"{path} has no moments of layer {layer}", "make them again: unierase moments --force"
                    )
                values = file.get_tensor(f"layer.{layer}.eigenvalues")
                if self.protected_tokens == 0:
                    return nothing_protected(values.numel(), config.preserve).to(device)
                check_finite([(f"layer.{layer}.eigenvalues", values)], path, AGAIN)
                rows = file.get_slice(f"layer.{layer}.eigenvectors")
                size = values.numel()
                load = lambda a, b: rows[a:b] if b > a else torch.zeros(0, size)  # noqa: E731
                found = choose_preservation(values, load, config, layer=layer)
                check_finite([(f"layer.{layer}.eigenvectors", found.vectors)], path, AGAIN)
                return found.to(device)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path} cannot be read ({error})", AGAIN
            ) from error

    def matrix(self, layer: int) -> Tensor:
        """C [d, d] of one layer, float64. Raises UserError if the artefact lacks the layer."""
        path = self.directory / FILE
        tensors = load_tensors(path)
        if f"layer.{layer}.eigenvalues" not in tensors:
            raise UserError(f"{path} has no moments of layer {layer}", "make them again: unierase moments --force")
        vectors = tensors[f"layer.{layer}.eigenvectors"].double()
        return vectors.T @ (tensors[f"layer.{layer}.eigenvalues"].double()[:, None] * vectors)
