"""From generated ids to text, and where a stop text ends an answer."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.models.load import LoadedModel


def decoded(loaded: LoadedModel, ids: Sequence[int], *, skip_special: bool = False) -> str:
    """Faithful text: no tidying of spaces before punctuation."""
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False))


def before_stop(loaded: LoadedModel, ids: Sequence[int]) -> tuple[list[int], int] | None:
    """The ids of what stands before the first stop text, and how many characters of it their last one brings along; None where
    there is no stop text, which is looked for at the end of ``ids`` alone.

    A token may hold the end of an answer and the start of a stop text (".\\n").
    """
    stops = loaded.stop_texts
    if not stops:
        return None
    # A token is a byte at least. The first one of a window may lose its space, so there is one more.
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
