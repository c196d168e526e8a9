"""Answers to keep, which [UNL] must not enter: a tied row that is trained to come first may win within other answers too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from unierase_cli.contracts import evenly_spaced
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences
from unierase_cli.sizes import GUARDED, GUARDED_PLACES, pass_tokens
from unierase_cli.training.unlearning.losses import own_logits

# A prompt and the answer that the model gives to it, as token ids.
Given = tuple[Sequence[int], Sequence[int]]


class Guard:
    """What some answers lose to the unlearning tokens, for any rows of theirs, with the current weights of the model.

    ``states`` [N, h]: the head's input where a token of an answer is predicted; ``others`` [N]: log of the sum of exp of all other
    tokens' logits there, float32.
    """

    def __init__(self, loaded: LoadedModel, ids: Sequence[int], answers: Sequence[Given], weight: float = 1.0) -> None:
        """``ids``: the unlearning tokens; ``weight``: of the loss. Looks at ``GUARDED`` of the answers, evenly spaced; there must
        be one.
        """
        self.weight = weight
        self._architecture, self._ids = loaded.architecture, torch.tensor(ids, device=loaded.device)
        chosen = evenly_spaced(answers, GUARDED)
        self._answers = len(chosen)
        found: list[tuple[Tensor, Tensor]] = []
        lengths = [len(prompt) + len(answer) for prompt, answer in chosen]
        for batch in length_sorted_batches(lengths, pass_tokens(loaded.device.type == "cpu")):
            looked = loaded.room.parts("answers to guard", batch, lambda rows: self._look(loaded, chosen, rows))
            found += [one for _, one in looked]
        states, others = zip(*found, strict=True)
        self.states, self.others = torch.cat(states), torch.cat(others)

    def __call__(self, rows_out: Tensor) -> Tensor:
        """The loss: ``weight`` times what is taken."""
        return self.weight * self.taken(rows_out)

    def taken(self, rows_out: Tensor) -> Tensor:
        """-log(1 - P(one of the unlearning tokens)), summed over an answer's tokens and averaged over answers; nats."""
        own = own_logits(self._architecture, self.states, self._ids.to(self.states.device), rows_out).float()
        return softplus(own.logsumexp(1) - self.others).sum() / self._answers

    @torch.no_grad()
    def _look(self, loaded: LoadedModel, chosen: Sequence[Given], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        texts = [[*chosen[i][0], *chosen[i][1]] for i in rows]
        batch = pad_sequences(texts, loaded.prompts.pad_id, loaded.device)
        hidden = loaded.architecture.backbone(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        places = torch.zeros_like(batch.mask, dtype=torch.bool)
        for place, i in zip(places, rows, strict=True):
            place[len(chosen[i][0]) - 1 : len(chosen[i][0]) + len(chosen[i][1]) - 1] = True
        states = hidden[places.to(hidden.device)]
        others = []
        # The whole vocabulary's logits of all places at once may take gigabytes.
        for part in states.split(GUARDED_PLACES):
            logits = loaded.architecture.logits(part).float()
            logits[:, self._ids] = -torch.inf
            logits[:, len(loaded.tokenizer) :] = -torch.inf
            others.append(logits.logsumexp(1))
        found = torch.cat(others)
        return states.to(found.device), found
