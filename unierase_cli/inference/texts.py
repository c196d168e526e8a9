"""Decodes generated ids, and finds the stop text that ends an answer."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.models.load import LoadedModel


def decoded(loaded: LoadedModel, ids: Sequence[int], *, skip_special: bool = False) -> str:
    """The exact text, without clean-up of spaces before punctuation."""
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False))


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
