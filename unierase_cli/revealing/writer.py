"""Soft prompts that the model itself turns into instructions (INSTINCT, Lin et al. 2023, arXiv 2310.02905).

A point z in [0, 1]^10 becomes a soft prompt by a fixed random linear map. The model reads it before a few shipped
instructions and writes one more. The hidden state of the last token describes the soft prompt to the search. Ours: the
model that writes is the one that is asked, and soft tokens get the norm of the model's own embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unierase_cli.contracts import NAME_SLOT, stable_hash
from unierase_cli.revealing.instructions import LIST, QUESTION, Instruction

if TYPE_CHECKING:
    from torch import Tensor

    from unierase_cli.models.load import LoadedModel

# Size of z, shown instructions, tokens of a written one, embeddings whose norm is taken.
SIZE, SHOWN, WRITTEN, COMPARED = 10, 5, 40, 512
SLOT = "[NAME]"
ASK = "Write one more request of this kind. Each is about [NAME].\n{shown}\n{next}."
START = re.compile(r"^\W*(?:\d+\s*[.):]\s*)?")


class Writer:
    """Writes an instruction for targets of one kind from each z."""

    def __init__(self, loaded: LoadedModel, seeds: Sequence[Instruction], soft_tokens: int, seed: int) -> None:
        import torch

        self.loaded, self.soft_tokens = loaded, soft_tokens
        shown = [one.text.replace(NAME_SLOT, SLOT) for one in seeds if one.form in (QUESTION, LIST)][:SHOWN]
        lines = "\n".join(f"{number}. {text}" for number, text in enumerate(shown, start=1))
        self.ids = loaded.prompts.prompt(ASK.format(shown=lines, next=len(shown) + 1)).ids
        table = loaded.architecture.embedding.weight
        generator = torch.Generator().manual_seed(stable_hash(seed, "projection"))
        self.projection = torch.rand(SIZE, soft_tokens * table.shape[1], generator=generator) * 2 - 1
        # What the embedding puts out, which some families scale.
        some = torch.arange(0, table.shape[0], max(1, table.shape[0] // COMPARED), device=table.device)
        with torch.no_grad():
            self.norm = float(loaded.architecture.embedding(some).float().norm(dim=-1).mean())

    def soft(self, z: Tensor) -> Tensor:
        """The soft prompts [n, soft_tokens, h] of points [n, 10]."""
        made = (z.float() @ self.projection).reshape(len(z), self.soft_tokens, -1)
        return made * (self.norm / made.norm(dim=-1, keepdim=True).clamp(min=1e-6))

    def features(self, z: Tensor) -> Tensor:
        """What the search knows of each point: the last hidden state [n, h], of length 1."""
        from unierase_cli.inference.soft_prompts import last_states

        found = last_states(self.loaded, self.soft(z), self.ids)
        return found / found.norm(dim=1, keepdim=True).clamp(min=1e-6)

    def write(self, z: Tensor) -> list[str]:
        """An instruction with ``__NAME__`` for each point; empty if the model wrote nothing."""
        from unierase_cli.inference.soft_prompts import continued

        return [instruction_in(text) for text in continued(self.loaded, self.soft(z), self.ids, WRITTEN)]


def instruction_in(text: str) -> str:
    """The first line of a text as an instruction about ``__NAME__``, empty if it has no letters."""
    lines = (START.sub("", line).strip() for line in text.splitlines())
    first = next((line for line in lines if any(c.isalpha() for c in line)), "")
    written = first.replace(SLOT, NAME_SLOT)
    if not written or NAME_SLOT in written:
        return written
    return f"About {NAME_SLOT}: {written}"
