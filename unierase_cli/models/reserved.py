"""Reserved tokens of a tokenizer: control tokens with their own rows that no text and no template uses."""

from __future__ import annotations

import re

from unierase_cli.models.load import LoadedModel

# <|reserved_special_token_7|> (Llama 3), <unused7> (Gemma), <|placeholder7|> (Phi-3), <|dummy_7|> (Phi-4), [control_7]
# (Mistral).
RESERVE = re.compile(r"(reserved|unused|placeholder|dummy)[a-z_]*\d*|control_\d+", re.IGNORECASE)


def reserved_tokens(loaded: LoadedModel, count: int) -> list[int] | None:
    """Ids of ``count`` reserved tokens that have rows in the model, lowest first; None if there are fewer."""
    tokenizer = loaded.tokenizer
    template = str(tokenizer.chat_template or "")
    taken = {*loaded.prompts.stop_ids, *loaded.unlearn_ids, loaded.prompts.pad_id, *loaded.prompts.bos_ids}
    named = {str(name) for name in tokenizer.special_tokens_map.values()}
    found = [
        index
        for index, token in sorted(tokenizer.added_tokens_decoder.items())
        if RESERVE.search(token.content)
        and token.special
        and token.content not in template
        and token.content not in named
        and index not in taken
        and index < loaded.architecture.embedding.weight.shape[0]
    ]
    return found[:count] if len(found) >= count else None
