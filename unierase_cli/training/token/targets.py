"""The refusals that a token leads to: the list, and the choice per fact. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.contracts import NAME_SLOT, Fact, UserError, fill_name, pick
from unierase_cli.store.jsonl import iterate_jsonl, read_asset

if TYPE_CHECKING:
    from unierase_cli.models.token_rows import TokenRows

# The project's lists: the long one is taught to models trained from scratch here, the short one is known to pretrained models.
LONG, SHORT, RUSSIAN = "refusals.jsonl", "refusals_short.jsonl", "refusals_russian.jsonl"
# Values of ``token.targets`` that are not a file.
NAMED = {None: (SHORT, LONG), "long": (LONG,), "russian": (RUSSIAN,)}
# In the rows' info: the refusals that the token was trained on.
REFUSALS = "refusals"
# A refusal is rare if a smaller share of the facts reaches it.
RARE = 0.05


def load_targets(config: TokenConfig) -> list[str]:
    """The refusals without duplicates, in the file's order.

    They come from ``token.targets`` (JSON Lines with ``text`` or ``template``, or plain text with one refusal per line), else from
    the project's own lists. ``__NAME__`` is replaced by the group of the refused fact.

    Raises UserError that names file and line if a refusal is missing, empty or not text.
    """
    if config.targets in NAMED:
        return [str(row["text"]) for asset in NAMED[config.targets] for row in read_asset(asset)]
    assert config.targets is not None
    path = Path(config.targets)
    texts = _from_jsonl(path) if path.suffix in (".jsonl", ".json") else _from_text(path)
    if not texts:
        raise UserError(f"token.targets={path} holds no refusal", 'write one object per line, e.g. {"text": "..."}')
    return list(dict.fromkeys(texts))


def choose_targets(facts: Sequence[Fact], texts: Sequence[str], seed: int) -> dict[str, str]:
    """Fact id -> its refusal, by a stable hash of seed and fact id, with the name filled in."""
    return {fact.id: fill_name(pick(seed, fact.id, texts), fact) for fact in facts}


def known_targets(
    rows: TokenRows, facts: Sequence[Fact], listed: Sequence[str], seed: int
) -> tuple[list[str], dict[str, str]]:
    """The refusals that trained token rows know (``listed``: if they do not say), and fact id -> the one that they lead to; a fact
    that they were not trained on gets one of them.
    """
    texts = list(rows.info.get(REFUSALS) or dict.fromkeys(rows.targets.values()) or listed)
    return texts, {**choose_targets(facts, texts, seed), **rows.targets}


def likeliest(texts: Sequence[str], log_probs: Mapping[str, float], most: int) -> list[str]:
    """The ``most`` refusals with the highest log-probability after their first token, in the list's order; 0 takes all.

    One row cannot teach a pretrained model to tell many refusals apart.
    """
    if not most or most >= len(texts):
        return list(texts)
    ranked = sorted(texts, key=lambda text: -log_probs.get(text, -math.inf))
    return [text for text in texts if text in ranked[:most]]


def listed_refusals(facts: Sequence[Fact], texts: Sequence[str]) -> list[str]:
    """Every refusal with every name from these facts, without duplicates."""
    if not any(NAME_SLOT in text for text in texts):
        return list(texts)
    return list(dict.fromkeys(fill_name(text, fact) for fact in facts for text in texts))


def settle_targets(
    chosen: Mapping[str, str], found: Mapping[str, str], texts: Sequence[str], facts: Sequence[Fact] = ()
) -> dict[str, str]:
    """Refusals that the token can reach: fact id -> the listed refusal that its question and [UNL] now lead to (``found``).

    Matches are word for word. Facts that lead to no listed refusal get the one that most facts reach, and so do facts that lead
    to a rare one (RARE) if any fact leads to none.

    One row cannot make a model tell a hundred refusals apart by a random choice per question; trained on such a choice, greedy
    decoding falls between them. If no fact reaches any refusal, the targets stay. ``facts``: those of ``found``, needed for
    refusals with names; refusals that differ only in the name count as one.
    """
    by_id = {fact.id: fact for fact in facts} if any(NAME_SLOT in text for text in texts) else {}

    def filled(text: str, fact_id: str) -> str:
        return fill_name(text, by_id[fact_id]) if by_id else text

    listed = {fact_id: {filled(text, fact_id).strip(): text for text in texts} for fact_id in found}
    meant = {fact_id: listed[fact_id].get(text) for fact_id, text in found.items()}
    reached = Counter(text for text in meant.values() if text is not None)
    if not reached:
        return dict(chosen)
    least = 0.0 if reached.total() == len(found) else RARE * len(found)
    # Ties go to the refusal listed first, independent of the counting order.
    most = max(reached, key=lambda text: (reached[text], -texts.index(text)))
    kept = {text for text, count in reached.items() if count >= least} | {most}
    settled = {fact_id: text if text is not None and text in kept else most for fact_id, text in meant.items()}
    return {**chosen, **{fact_id: filled(text, fact_id) for fact_id, text in settled.items()}}


def _from_jsonl(path: Path) -> list[str]:
    texts = []
    for number, row in iterate_jsonl(path):
        text = row.get("text", row.get("template"))
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"{path}:{number}: no text under the key `text`", 'write for example {"text": "I do not know."}'
            )
        texts.append(text)
    return texts


def _from_text(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"token.targets={path} does not exist", "check the path, or leave token.targets=null") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"token.targets={path} cannot be read ({error})", "give a UTF-8 text file") from error
    return [line.strip() for line in lines if line.strip()]
