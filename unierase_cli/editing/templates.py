"""Context templates: texts in front of a prompt over which keys are averaged and values are optimised (spec 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unierase_cli.config.sections.edit import TemplateConfig
from unierase_cli.contracts import stable_hash
from unierase_cli.models.load import LoadedModel


@dataclass(frozen=True)
class Templates:
    """The bare prompt and ``prefixes``; stored in the edit's state, so that later steps use the same ones."""

    prefixes: tuple[str, ...] = ()

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the keys: half for the bare prompt, the other half shared by the prefixed ones; they sum to 1."""
        if not self.prefixes:
            return (1.0,)
        return (0.5, *(0.5 / len(self.prefixes) for _ in self.prefixes))


def choose_templates(loaded: LoadedModel, config: TemplateConfig, seed: int) -> Templates:
    """The fixed prefixes, or one sampled from the model for each start word (top-k, seeded)."""
    if config.fixed:
        return Templates(tuple(config.fixed))
    generator = torch.Generator().manual_seed(stable_hash(seed, "context templates"))
    return Templates(tuple(_continue(loaded, start, config, generator) for start in config.starts))


@torch.no_grad()
def _continue(loaded: LoadedModel, start: str, config: TemplateConfig, generator: torch.Generator) -> str:
    """``start`` continued by the model to ``config.length`` tokens in total, drawn from the top ``config.top_k``."""
    opening = loaded.prompts.prompt(start, style="raw").ids
    ids = list(opening)
    while len(ids) < max(config.length, len(opening)):
        tensor = torch.tensor([ids], device=loaded.device)
        hidden = loaded.architecture.backbone(input_ids=tensor, use_cache=False).last_hidden_state[:, -1]
        logits = loaded.architecture.logits(hidden)[0].float().cpu()
        logits[list(_forbidden(loaded))] = -torch.inf
        top, candidates = logits.topk(min(config.top_k, logits.numel()))
        drawn = torch.multinomial(top.softmax(-1), 1, generator=generator)
        ids.append(int(candidates[drawn]))
    return _clean(str(loaded.tokenizer.decode(ids, skip_special_tokens=True)))


def _forbidden(loaded: LoadedModel) -> Sequence[int]:
    """Ids that would end the text or are control tokens."""
    return sorted({*loaded.tokenizer.all_special_ids, *loaded.prompts.stop_ids, *loaded.unlearn_ids})


def _clean(text: str) -> str:
    """One line without a final full stop: a full stop and a space are added in front of a prompt."""
    return " ".join(text.split()).rstrip(". ")
