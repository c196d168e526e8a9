"""Training examples of an unlearning token: question, [UNL], refusal, end (spec 1.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unierase_cli.contracts import Fact, UserError
from unierase_cli.models.prompts import PromptFormatter


@dataclass(frozen=True)
class TokenExample:
    """One sequence, split at its unlearning token.

    ``prefix``: ids before [UNL], which do not depend on its rows. ``suffix``: [UNL] and what follows, up to the last but one
    token. ``labels``: the target of each suffix position; same length.
    """

    fact_id: str
    prefix: list[int]
    suffix: list[int]
    labels: list[int]

    @property
    def ids(self) -> list[int]:
        """The whole sequence, up to and including the closing token."""
        return [*self.prefix, self.suffix[0], *self.labels]


def assign_groups(facts: Sequence[Fact], groups: int) -> dict[str, int]:
    """Fact id -> group: the facts split into ``groups`` consecutive parts of equal size, to within one.

    Raises UserError if there are fewer facts than groups.
    """
    if groups > len(facts):
        raise UserError(
            f"token.groups={groups} asks for more tokens than there are facts ({len(facts)})", "set token.groups=1"
        )
    return {fact.id: index * groups // len(facts) for index, fact in enumerate(facts)}


def make_examples(
    prompts: PromptFormatter,
    facts: Sequence[Fact],
    targets: Mapping[str, str],
    tokens: Mapping[str, int],
    style: str,
    closing: str,
) -> list[TokenExample]:
    """One example per fact, in the order of the facts.

    ``style``: "raw" (BOS + question, closed by the tokenizer's end token) or "chat" (the model's own prompt, closed by its
    template's end of an answer). ``targets``: fact id -> refusal; ``tokens``: fact id -> id of its [UNL]. ``closing``: "end" or
    "unlearn_end" (a second [UNL] before the closing token). No space surrounds [UNL]; white space that the template puts before
    its end token comes between a refusal and that token.

    Raises UserError that names the fact whose sequence does not fit the model's context; nothing is truncated.
    """
    end = prompts.eos_id if style == "raw" else prompts.end_id
    found = []
    for fact in facts:
        unlearn = tokens[fact.id]
        try:
            prefix = prompts.prompt(fact.question, "raw" if style == "raw" else fact.kind).ids
        except UserError as error:
            raise UserError(f"fact {fact.id}: {error.message}", error.hint) from error
        refusal = prompts.answer_ids(targets[fact.id], end=False, style="raw")
        labels = [*refusal, unlearn, end] if closing == "unlearn_end" else [*refusal, end]
        if style != "raw" and closing == "end":
            labels = prompts.answer_ids(targets[fact.id], style="raw")
        example = TokenExample(fact.id, prefix, [unlearn, *labels[:-1]], labels)
        if prompts.max_length is not None and len(example.ids) > prompts.max_length:
            raise UserError(
                f"fact {fact.id}: question and refusal take {len(example.ids)} tokens, "
                f"the model's context is {prompts.max_length}: {fact.question[:60]!r}...",
                "shorten the question or choose a model with a longer context",
            )
        found.append(example)
    return found
