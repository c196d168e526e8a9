"""How a block adds its down projection's output to the residual stream: directly, or through a norm (spec section 8).

Found by running the block on one position with a changed projection output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unierase_cli.contracts import UserError
from unierase_cli.models.architecture import Architecture
from unierase_cli.models.partial import passing_through

# Tolerated relative error of a change: bfloat16 rounds sums to 1/256 of their larger part.
TOLERANCE = 0.05
# Seed of the test position and of the test change.
SEED = 20240726


@dataclass(frozen=True)
class OutputNorm:
    """An RMS norm between projection and residual stream: ``gain * x / rms(x)``.

    ``gain``: [h] float32, as applied (Gemma's 1 + w).
    """

    name: str
    gain: Tensor


@torch.no_grad()
def output_norm(architecture: Architecture, layer: int) -> OutputNorm | None:
    """The norm that a block applies to its projection's output; None if the output is added directly.

    Raises UserError if neither holds: the edit's actual change would differ from the solved one.
    """
    generator = torch.Generator().manual_seed(SEED)
    hidden = _draw(architecture, generator)
    out, seen, inputs = _run(architecture, layer, hidden, torch.zeros_like(hidden))
    # On the block's own device, if there are several.
    change = _draw(architecture, generator).to(out.device) * (out.float().square().mean().sqrt()).to(hidden.dtype)
    arrived = _run(architecture, layer, hidden, change)[0].float() - out.float()
    if _close(arrived, change.float()):
        return None
    for name, module in architecture.blocks[layer].named_modules():
        if name not in inputs or inputs[name].shape != seen.shape or not torch.equal(inputs[name], seen):
            continue
        gain = module(torch.ones_like(seen)).float()
        if _close(module(change).float(), gain * _unit(change.float())) and _close(
            arrived, gain * (_unit((seen + change).float()) - _unit(seen.float()))
        ):
            return OutputNorm(f"{architecture.blocks_name}.{layer}.{name}", gain.flatten())
    raise UserError(
        f"{type(architecture.backbone).__name__}: the output of the MLP of {architecture.blocks_name}.{layer} is not simply added "
        "to the block's output, so the effect of an edit is unknown",
        "choose another model",
    )


def _run(
    architecture: Architecture, layer: int, hidden: Tensor, change: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Run one block alone on ``hidden`` [1, 1, h], with ``change`` added to its projection's output.

    Returns the block's output, the unchanged projection's output [1, h], and the input of every submodule of the block.
    """
    block, found = architecture.blocks[layer], {}
    inputs: dict[str, Tensor] = {}

    def changed(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        # A copy, since some blocks add to it in place.
        found["projected"] = output.detach().reshape(1, -1).clone()
        return output + change.reshape(output.shape).to(output.device)

    def ended(_module: nn.Module, _arguments: Any, output: Any) -> None:
        found["out"] = (output[0] if isinstance(output, tuple) else output).reshape(1, -1).clone()

    def given(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if arguments and isinstance(arguments[0], Tensor):
                inputs[name] = arguments[0].detach().reshape(1, -1).clone()

        return hook

    handles = [architecture.projection(layer).register_forward_hook(changed), block.register_forward_hook(ended)]
    handles += [m.register_forward_pre_hook(given(name)) for name, m in block.named_modules() if name]
    others = [n for n in range(architecture.n_blocks) if n != layer]
    place = torch.zeros(1, 1, dtype=torch.long, device=hidden.device)
    try:
        with passing_through(architecture, others):
            architecture.backbone(
                inputs_embeds=hidden, attention_mask=torch.ones_like(place), position_ids=place, use_cache=False
            )
    finally:
        for handle in handles:
            handle.remove()
    return found["out"], found["projected"], inputs


def _draw(architecture: Architecture, generator: torch.Generator) -> Tensor:
    weight = architecture.embedding.weight
    return torch.randn(1, 1, architecture.hidden_size, generator=generator).to(weight.device, weight.dtype)


def _unit(x: Tensor) -> Tensor:
    """``x`` [..., h] scaled to root mean square 1."""
    return x / x.square().mean(-1, keepdim=True).sqrt()


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found.flatten() - wanted.flatten()).norm() <= TOLERANCE * wanted.norm())
