"""Encodes text to token ids with character offsets; user text never becomes control tokens.

A tokenizer matches its added tokens anywhere in a string, so a question that quotes ``<|eot_id|>`` would end the turn.
Here only the template's own control tokens count; user text without any is encoded as the tokenizer always does.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from unierase_cli.contracts import UNLEARNING_TOKEN, UserError

Span = tuple[int, int]
# A noncharacter code point, which no text contains.
UNWRITTEN = "\ufdd0"


class TextEncoder:
    """Encodes template and user text with one tokenizer, including tokens that are added later."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"the tokenizer ({type(tokenizer).__name__}) cannot give character offsets",
                "use a model folder with a tokenizer.json",
            )
        self.tokenizer = tokenizer
        self._known_size = -1  # vocabulary size that the two below belong to
        self._control = re.compile("(?!)")
        self._plain: Tokenizer | None = None

    @property
    def control(self) -> re.Pattern[str]:
        """Matches control tokens: special tokens, and added tokens in brackets (``<think>``, ``[INST]``)."""
        if len(self.tokenizer) != self._known_size:
            added = self.tokenizer.added_tokens_decoder.values()
            names = [t.content for t in added if t.special or re.fullmatch(r"[<\[].*[>\]]", t.content)]
            longest_first = sorted(names, key=len, reverse=True)
            self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
            self._known_size, self._plain = len(self.tokenizer), None
        return self._control

    def encode(self, text: str, user_spans: Sequence[Span] = ()) -> tuple[list[int], list[Span]]:
        """Ids and offsets (characters of ``text``) without automatic BOS or EOS.

        ``user_spans``: ascending parts of ``text`` that are user text. If they do not produce control tokens, the
        result is the tokenizer's own for the whole string; otherwise each stretch between the template's control tokens
        that contains a forged one is encoded as plain text.
        """
        cuts = self._template_tokens(text, user_spans)
        bounds = [0, *(place for cut in cuts for place in cut), len(text)]
        gaps = list(zip(bounds[::2], bounds[1::2], strict=True))
        forged = [bool(self.control.search(text, *gap)) for gap in gaps]
        if not any(forged):
            return self._by_tokenizer(text, 0)
        ids: list[int] = []
        offsets: list[Span] = []
        begin = 0  # start of the text that is not encoded yet
        for gap, is_forged in zip(gaps, forged, strict=True):
            if is_forged:
                usual = self._by_tokenizer(text[begin : gap[0]], begin)
                plain = self._as_plain_text(text[slice(*gap)], gap[0])
                ids += usual[0] + plain[0]
                offsets += usual[1] + plain[1]
                begin = gap[1]
        rest = self._by_tokenizer(text[begin:], begin)
        return ids + rest[0], offsets + rest[1]

    def token_id(self, name: str) -> int:
        """Id of one token by its name."""
        return token_id(self.tokenizer, name)

    def _template_tokens(self, text: str, user_spans: Sequence[Span]) -> list[Span]:
        """Spans of the control tokens that the template itself wrote."""
        bounds = [0, *(place for span in user_spans for place in span), len(text)]
        pieces = zip(bounds[::2], bounds[1::2], strict=True)
        return [match.span() for piece in pieces for match in self.control.finditer(text, *piece)]

    def _by_tokenizer(self, text: str, shift: int) -> tuple[list[int], list[Span]]:
        if not text:
            return [], []
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(encoded["input_ids"]), [(a + shift, b + shift) for a, b in encoded["offset_mapping"]]

    def _as_plain_text(self, text: str, shift: int) -> tuple[list[int], list[Span]]:
        if self._plain is None:
            description = json.loads(self.tokenizer.backend_tokenizer.to_str())
            kept = [t for t in description["added_tokens"] if not self.control.fullmatch(t["content"])]
            description |= {"added_tokens": kept, "truncation": None, "padding": None}
            _hide(description["model"], self.control)
            self._plain = Tokenizer.from_str(json.dumps(description))
        encoded = self._plain.encode(text, add_special_tokens=False)
        return list(encoded.ids), [(a + shift, b + shift) for a, b in encoded.offsets]


def _hide(model: dict[str, Any], control: re.Pattern[str]) -> None:
    """Hide control tokens from a model that looks up whole words or pieces in its vocabulary (Unigram, WordLevel)."""

    def hidden(name: str) -> str:
        return UNWRITTEN + name if control.fullmatch(name) and name != model.get("unk_token") else name

    if model["type"] == "Unigram":
        model["vocab"] = [[hidden(name), score] for name, score in model["vocab"]]
    elif model["type"] in ("WordLevel", "WordPiece"):
        model["vocab"] = {hidden(name): number for name, number in model["vocab"].items()}


def token_id(tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    """Id of one token by its name. Raises KeyError if the tokenizer has no such token."""
    return int(tokenizer.get_vocab()[name])


def known_unlearning_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the unlearning tokens that earlier runs left in the tokenizer, in order."""
    added = sorted(tokenizer.added_tokens_decoder.items())
    return [index for index, token in added if UNLEARNING_TOKEN.fullmatch(token.content)]


def fresh_names(tokenizer: PreTrainedTokenizerBase, count: int) -> list[str]:
    """Names of ``count`` unlearning tokens that are new to the tokenizer; known ones belong to earlier facts."""
    known = tokenizer.get_vocab()
    free = (name for number in itertools.count() if (name := f"<unlearn_{number}>") not in known)
    return list(itertools.islice(free, count))
