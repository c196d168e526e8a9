"""Tokenizers of the kinds that models have, trained on a few texts on the spot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.helpers.tiny_models import CONTROL

# SPACE: what Metaspace writes for white space.
UNKNOWN, SPACE = "<|unk|>", "▁"
SPECIAL = {"eos_token": "<|end|>", "bos_token": "<|begin|>", "pad_token": "<|pad|>", "unk_token": UNKNOWN}


def byte_level_that_merges(texts: Sequence[str], size: int = 420) -> PreTrainedTokenizerFast:
    """As Llama 3 and Qwen: a full stop and the line breaks behind it are one token."""
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+|\p{L}+|\p{N}"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[*CONTROL, UNKNOWN], initial_alphabet=alphabet)
    return _trained(backend, trainer, texts)


def metaspace(texts: Sequence[str], scheme: str, size: int = 600) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE, with or without a space in front of every text."""
    backend = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=scheme == "always")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
    special = [*CONTROL, UNKNOWN, *(f"<0x{byte:02X}>" for byte in range(256))]
    return _trained(backend, trainers.BpeTrainer(vocab_size=size, special_tokens=special), texts)


def unigram(texts: Sequence[str], size: int = 200) -> PreTrainedTokenizerFast:
    """T5's: white space is one kind, and none is left at a text's end.

    Its pieces are the most frequent words and all characters, as likely as they are frequent: the library's trainer chooses others
    each time.
    """
    words = Counter(f"{SPACE}{word}" for text in texts for word in text.split())
    letters = Counter(letter for word, count in words.items() for letter in word * count)
    common = [word for word, _ in sorted(words.items(), key=lambda one: (-one[1], one[0]))[: max(0, size - len(letters))]]
    counts = {letter: letters[letter] for letter in sorted(letters)} | {word: words[word] for word in common}
    total = sum(counts.values())
    pieces = [(UNKNOWN, 0.0), *((piece, log(count / total)) for piece, count in counts.items())]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(False, True)])
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens([*CONTROL, UNKNOWN])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


def word_piece(texts: Sequence[str], size: int = 300, *, cased: bool = False) -> PreTrainedTokenizerFast:
    """BERT's, which lowers case and takes accents away (``cased``: which does neither)."""
    backend = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    backend.normalizer = normalizers.BertNormalizer(lowercase=not cased, strip_accents=not cased)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return _trained(backend, trainers.WordPieceTrainer(vocab_size=size, special_tokens=[*CONTROL, UNKNOWN]), texts)


def word_level(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token for every word."""
    backend = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _trained(backend, trainers.WordLevelTrainer(vocab_size=300, special_tokens=[*CONTROL, UNKNOWN]), texts)


def _trained(backend: Tokenizer, trainer: object, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)
