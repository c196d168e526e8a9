"""The texts and prompts whose keys an edit should preserve."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

from unierase_cli.config.sections.edit import ANSWERS, AUTO, HUB, MomentsConfig
from unierase_cli.contracts import Fact, UserError, stable_hash
from unierase_cli.editing.moments import Source
from unierase_cli.models.prompts import PromptFormatter
from unierase_cli.store.jsonl import iterate_jsonl

Item = TypeVar("Item")
# Size of the shuffle buffer for texts of a hub data set.
SHUFFLE_BUFFER = 10_000


def moment_sources(
    formatter: PromptFormatter,
    config: MomentsConfig,
    protect: Sequence[Fact],
    seed: int,
    answer: Callable[[list[list[int]]], list[list[int]]],
) -> list[Source]:
    """The sources of the second moments; those without weight or texts are skipped.

    These are corpus tokens, general texts, and the last prompt tokens of protected questions. ``answer`` continues prompts as the
    model would, for the corpus of its own answers: an edit that leaves only the prompts alone changes how the model
    goes on after the first token.
    """
    sources = []
    if config.corpus_weight > 0 and config.corpus == ANSWERS:
        prompts = [formatter.prompt(fact.question, fact.kind).ids for fact in drawn(protect, config.samples, seed)]
        said = zip(prompts, answer(prompts) if prompts else [], strict=True)
        sources.append(Source("answers", config.corpus_weight, [[*prompt, *ids] for prompt, ids in said]))
    elif config.corpus_weight > 0:
        texts = read_corpus(config.corpus, "corpus", config.samples, protect, seed)
        sources.append(Source("corpus", config.corpus_weight, encode_texts(formatter, texts, config.max_tokens)))
    if config.texts is not None:
        texts = read_corpus(config.texts, "texts", config.samples, (), seed)
        sources.append(Source("texts", config.texts_weight, encode_texts(formatter, texts, config.max_tokens)))
    if config.prompt_end_weight > 0:
        prompts = [formatter.prompt(fact.question, fact.kind).ids for fact in protect]
        sources.append(Source("prompt ends", config.prompt_end_weight, prompts, last_only=True))
    return [source for source in sources if source.sequences]


def encode_texts(formatter: PromptFormatter, texts: Iterable[str], max_tokens: int) -> list[list[int]]:
    """BOS and the text's tokens, cut to ``max_tokens`` and to the model's context.

    Control tokens in a text are encoded as plain text; empty texts are skipped.
    """
    encoded, most = [], min(max_tokens, formatter.max_length or max_tokens)
    for text in texts:
        ids = formatter.encoder.encode(text, [(0, len(text))])[0]
        if ids:
            encoded.append([*formatter.bos_ids, *ids][:most])
    return encoded


def read_corpus(name: str, key: str, samples: int, protect: Sequence[Fact], seed: int) -> list[str]:
    """Texts of ``edit.moments.<key>=<name>``, at most ``samples`` of them, drawn by seed.

    Raises UserError for a missing or malformed file, or a hub data set that cannot be reached.
    """
    if name.startswith(HUB):
        return _from_hub(name, key, samples, seed)
    if name == AUTO:
        texts = [f"{fact.question} {fact.answer}" for fact in protect]
    else:
        texts = []
        for number, row in iterate_jsonl(name):
            if not isinstance(row.get("text"), str):
                raise UserError(f"{name}:{number}: no string `text`", 'write {"text": "..."} on every line')
            texts.append(row["text"])
    return drawn(texts, samples, seed)


def drawn(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """``count`` of the items, drawn by seed; all of them if ``count`` is 0 or there are no more."""
    if not 0 < count < len(items):
        return list(items)
    chosen = random.Random(stable_hash(seed, "corpus")).sample(range(len(items)), count)
    return [items[i] for i in chosen]


def _from_hub(name: str, key: str, samples: int, seed: int) -> list[str]:
    """Texts of ``hub:<data set>/<config>/<split>/<column>``, streamed, so that only what is read is downloaded."""
    parts = name.removeprefix(HUB).rsplit("/", 3)
    if len(parts) != 4 or not all(parts):
        example = f"{HUB}wikimedia/wikipedia/20231101.en/train/text"
        raise UserError(f"edit.moments.{key}={name} is incomplete", f"write data set, config, split, column: {example}")
    from datasets import load_dataset

    path, subset, split, column = parts
    try:
        rows = load_dataset(path, subset, split=split, streaming=True)
        if samples:
            rows = rows.shuffle(seed=stable_hash(seed, "corpus") % 2**31, buffer_size=SHUFFLE_BUFFER)
        return [str(row[column]) for row in islice(rows, samples or None)]
    except Exception as error:  # the hub client raises many kinds: all mean that the texts are unavailable
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"edit.moments.{key}={name} cannot be read: {first}",
            f"give a JSON Lines file with `text`: edit.moments.{key}=FILE" + (", or auto" if key == "corpus" else ""),
        ) from error
