"""What is traced of a fact: the tokens of its prompt and answer, the subject's among them, and the noise on these.

A chat model that answers in a sentence does not begin with the fact. ``lead`` begins the answer for it ("Answer:"); what follows
is scored, and the prompt ends with the lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.contracts import Fact, UserError, stable_hash
from unierase_cli.models.architecture import Architecture
from unierase_cli.models.prompts import PromptFormatter

# Classes of the tokens of a prompt, from the subject on, as in figure 1 of the paper.
FIRST, MIDDLE, LAST = "first subject token", "middle subject tokens", "last subject token"
AFTER, FURTHER, END = "first token after", "further tokens", "last prompt token"
CLASSES = (FIRST, MIDDLE, LAST, AFTER, FURTHER, END)
# Why facts are not traced, as said of them: "3 without a subject".
NO_SUBJECT, NOT_THERE = "without a subject", "with a subject that is not in the question"
NO_ANSWER, MERGED = "with an empty answer", "with an answer that shares a token with trace.lead"
TOO_LONG = "longer than the model's context"


@dataclass(frozen=True)
class TraceRequest:
    """One fact, ready to be traced. ``ids``: its prompt of ``prompt`` tokens, lead included, then the answer's own tokens.

    ``noisy``: indices of the subject's tokens, wherever the question names it. ``subject``: half-open range of the last occurrence.
    """

    fact_id: str
    ids: tuple[int, ...]
    prompt: int
    noisy: tuple[int, ...]
    subject: tuple[int, int]

    @property
    def answer(self) -> tuple[int, ...]:
        return self.ids[self.prompt :]

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: everything but the answer's last token."""
        return self.ids[:-1]

    def positions(self) -> dict[str, tuple[int, ...]]:
        """The token indices of each class. A subject of one token has only a last one, and a class may be empty."""
        begin, end = self.subject
        last = self.prompt - 1
        return {
            FIRST: tuple(range(begin, min(begin + 1, end - 1))),
            MIDDLE: tuple(range(begin + 1, end - 1)),
            LAST: (end - 1,),
            AFTER: tuple(range(end, min(end + 1, last))),
            FURTHER: tuple(range(end + 1, last)),
            END: tuple(range(max(end, last), last + 1)),
        }


def trace_requests(
    formatter: PromptFormatter, facts: Sequence[Fact], lead: str = ""
) -> tuple[list[TraceRequest], dict[str, str]]:
    """Requests for the facts whose subject is in their prompt, and the reason for each other fact by its id."""
    requests, skipped = [], {}
    for fact in facts:
        found = _request(formatter, fact, lead.strip())
        if isinstance(found, str):
            skipped[fact.id] = found
        else:
            requests.append(found)
    return requests, skipped


def _request(formatter: PromptFormatter, fact: Fact, lead: str) -> TraceRequest | str:
    subject = (fact.subject or "").strip()
    if not subject:
        return NO_SUBJECT
    try:
        prompt = formatter.prompt(fact.question, fact.kind)
    except UserError:
        return TOO_LONG
    spans = []
    place, stop = prompt.question_span
    while (place := prompt.text.find(subject, place, stop)) >= 0:
        spans.append(formatter.token_span(prompt, place, place + len(subject)))
        place += len(subject)
    if not spans:
        return NOT_THERE
    if not fact.answer.strip():
        return NO_ANSWER
    answer = formatter.answer(f"{lead} {fact.answer.strip()}" if lead else fact.answer, style=fact.kind)
    own = answer.ids[: answer.own]
    before = formatter.answer_ids(lead, end=False, style=fact.kind) if lead else []
    if own[: len(before)] != before:
        return MERGED
    ids = (*prompt.ids, *own)
    if formatter.max_length is not None and len(ids) > formatter.max_length:
        return TOO_LONG
    noisy = sorted({index for span in spans for index in range(*span)})
    return TraceRequest(fact.id, ids, len(prompt.ids) + len(before), tuple(noisy), spans[-1])


@torch.no_grad()
def embedding_deviation(architecture: Architecture, requests: Sequence[TraceRequest]) -> float:
    """Standard deviation of the elements of the subjects' token embeddings, as the embedding module puts them out."""
    ids = [request.ids[index] for request in requests for index in request.noisy]
    device = architecture.embedding.weight.device
    return float(architecture.embedding(torch.tensor(ids, device=device)).float().std())


def draw_noise(request: TraceRequest, samples: int, size: int, deviation: float, seed: int) -> Tensor:
    """Gaussian noise [samples, subject tokens, size], float32; it depends on the seed and the fact alone.

    Raises UserError for a deviation of 0: an effect is what comes back of what the noise took away.
    """
    if not deviation > 0:
        raise UserError(
            f"noise of standard deviation {deviation:g} corrupts nothing, and there is no effect to measure",
            "type for example trace.noise=3",
        )
    generator = torch.Generator().manual_seed(stable_hash(seed, "trace", request.fact_id))
    return torch.randn(samples, len(request.noisy), size, generator=generator) * deviation
