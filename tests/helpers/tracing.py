"""Facts that are ready to be traced, and causal tracing written out plainly: one row at a time, nothing kept, nothing cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.editing.tracing.effects import window_around
from unierase_cli.editing.tracing.prompts import TraceRequest, draw_noise, embedding_deviation, trace_requests
from unierase_cli.editing.tracing.states import RESIDUAL, module_of
from unierase_cli.models.load import LoadedModel

SAMPLES = 3


def ready(loaded: LoadedModel, count: int = 3, samples: int = SAMPLES) -> tuple[list[TraceRequest], list[Tensor]]:
    """Requests of different lengths and their noise."""
    requests, skipped = trace_requests(loaded.prompts, FACTS[:count])
    assert skipped == {}
    deviation = 3 * embedding_deviation(loaded.architecture, requests)
    size = loaded.architecture.hidden_size
    return requests, [draw_noise(request, samples, size, deviation, seed=0) for request in requests]


@torch.no_grad()
def plainly(
    loaded: LoadedModel, request: TraceRequest, noise: Tensor | None = None, states: dict[Any, Tensor] | None = None, at: int = 0
) -> tuple[Tensor, dict[Any, Tensor]]:
    """[probability of the first token, mean log-probability] of one row, and the states that it went through: module -> [T, h].

    ``noise`` [subject tokens, h]; ``states``: module -> [T, h], put in the place of its own at token ``at``.
    """
    seen: dict[Any, Tensor] = {}

    def hook(module: Any, _arguments: Any, output: Any) -> Any:
        own = output[0] if isinstance(output, tuple) else output
        rows = own.reshape(len(request.inputs), -1).clone()
        if states and module in states:
            rows[at] = states[module][at]
        seen[module] = rows.clone()
        rows = rows.view_as(own)
        return (rows, *output[1:]) if isinstance(output, tuple) else rows

    def corrupt(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
        output = output.clone()
        if noise is not None:
            output[0, list(request.noisy)] += noise
        return output

    architecture = loaded.architecture
    modules = [module_of(architecture, k, n) for k in ("residual", "mlp", "attention") for n in range(architecture.n_blocks)]
    handles = [module.register_forward_hook(hook) for module in modules]
    handles.append(architecture.embedding.register_forward_hook(corrupt))
    try:
        logits = loaded.model(torch.tensor([request.inputs]), use_cache=False).logits[0, request.prompt - 1 :].float()
    finally:
        for handle in handles:
            handle.remove()
    log_probs = torch.log_softmax(logits, -1).gather(1, torch.tensor(request.answer)[:, None])[:, 0]
    return torch.stack([log_probs[0].exp(), log_probs.mean()]), seen


def traced_plainly(
    loaded: LoadedModel, request: TraceRequest, noise: Tensor, kinds: Sequence[str], window: int, at: int
) -> Tensor:
    """Values with the state at token ``at`` restored, for each kind and block: [kinds, L, 2], means over the samples."""
    architecture, count = loaded.architecture, loaded.architecture.n_blocks
    _, clean = plainly(loaded, request)

    def value(kind: str, layer: int) -> Tensor:
        blocks = [layer] if kind == RESIDUAL else list(window_around(layer, window, count))
        states = {module: clean[module] for module in (module_of(architecture, kind, n) for n in blocks)}
        return torch.stack([plainly(loaded, request, one, states, at)[0] for one in noise]).mean(0)

    return torch.stack([torch.stack([value(kind, layer) for layer in range(count)]) for kind in kinds])


@torch.no_grad()
def one_carrier(mlp: int = 1, attention: int = 3) -> tuple[LoadedModel, TraceRequest]:
    """A Llama in which one block's MLP and one block's attention do anything, and a fact with a subject of one token.

    Only that attention, above the MLP, takes something from the subject's token to the prompt's last one.
    """
    loaded = tiny_llama(seed=2)
    architecture = loaded.architecture
    architecture.head.weight.mul_(30)  # a model that is sure of its answer
    for layer in range(architecture.n_blocks):
        architecture.projection(layer).weight.mul_(30.0 if layer == mlp else 0.0)
        architecture.attention_output(layer).weight.mul_(100.0 if layer == attention else 0.0)
    prompt = loaded.prompts.prompt(FACTS[0].question).ids
    answer = int(loaded.model(torch.tensor([prompt])).logits[0, -1].argmax())
    return loaded, TraceRequest("carried", (*prompt, answer), len(prompt), (6,), (6, 7))
