"""Decodes ids, finds the stop text that ends a generated answer, and where a true one may be cut to give its start away."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.models.load import LoadedModel
from unierase_cli.models.prompts import AnswerTokens
from unierase_cli.words import UNFINISHED


def decoded(loaded: LoadedModel, ids: Sequence[int], *, skip_special: bool = False) -> str:
    """The exact text, without clean-up of spaces before punctuation."""
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False))


def start_of(loaded: LoadedModel, answer: AnswerTokens, count: int) -> list[int]:
    """The answer's first ``count`` tokens, at least one left over.

    Tokens may be parts of a character (byte-level BPE), and half a character has no text. A cut inside one moves back to the
    character's beginning, or on to the next end of one where nothing would be given. Empty for an answer of a single character.
    """
    own = answer.ids[: answer.own]
    whole = decoded(loaded, own, skip_special=True)

    def text_of(cut: int) -> str | None:
        """The text before a cut; None inside a character."""
        text = decoded(loaded, own[:cut], skip_special=True)
        return None if text.endswith(UNFINISHED) and not whole.startswith(text) else text

    wanted = max(0, min(count, answer.own - 1))
    if text_of(wanted) is not None:
        return own[:wanted]
    earlier = (cut for cut in range(wanted - 1, 0, -1) if (text_of(cut) or "").strip())
    later = (cut for cut in range(wanted + 1, answer.own) if text_of(cut) is not None)
    return own[: next(earlier, next(later, 0))]


def before_stop(loaded: LoadedModel, ids: Sequence[int]) -> tuple[list[int], int] | None:
    """The ids before the first stop text, and the number of characters at their end that belong to the stop text.

    A token may hold the end of an answer and the start of a stop text (".\\n"). None without a stop text; it is only
    looked for at the end of ``ids``.
    """
    stops = loaded.stop_texts
    if not stops:
        return None
    # A token is at least one byte. The first token of a window may lose its space, hence one more.
    window = max(len(stop.encode("utf-8")) for stop in stops) + 1
    if not any(stop in decoded(loaded, ids[-window:]) for stop in stops):
        return None
    kept = cut(decoded(loaded, ids), stops)
    count = len(ids)
    while count and decoded(loaded, ids[: count - 1]).startswith(kept):
        count -= 1
    return list(ids[:count]), len(decoded(loaded, ids[:count])) - len(kept)


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop text."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
