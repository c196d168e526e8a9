"""The README.md of an exported adapter: what it is, and the code that loads it."""

from __future__ import annotations

import json
from typing import Any

from unierase_cli.markdown import code


def adapter_card(record: dict[str, Any], name: str) -> str:
    """Markdown from the record of ``export_adapter``; ``name``: name of the adapter's folder."""
    size, source = record["resize_to"], record["base"]["source"]
    # Quoted as Python and YAML read it, whatever characters the names have.
    folder, base = (json.dumps(text, ensure_ascii=False) for text in (name, source or "FOLDER_OF_THE_BASE_MODEL"))
    resize = "" if size is None else f"base.resize_token_embeddings({size})  # a row for the unlearning token\n"
    tokens = ", ".join(f"{code(token)} (id {index})" for token, index in record["unlearning_tokens"].items()) or "none"
    where = (
        "a reserved token of the tokenizer"
        if record["reserved_tokens"]
        else "added to the tokenizer in this folder"
    )
    about = f"{tokens}: {where}" if record["unlearning_tokens"] else "none"
    rank = f"{record['rank']}" if record["kept"] == 1.0 else f"{record['rank']} of {record['rank_of_change']}"
    base_model = "" if source is None else f"base_model: {base}\n"
    by_itself = f"model = AutoPeftModelForCausalLM.from_pretrained({folder})  # loads the base model as well; or:\n"
    imported = "AutoPeftModelForCausalLM, PeftModel"
    if source is None:
        by_itself, imported = f"# The base model has the fingerprint {record['base']['fingerprint']}.\n", "PeftModel"
    return f"""---
library_name: peft
{base_model}---
# Unlearning edit of {code(record["run"])} as a LoRA adapter

```python
from peft import {imported}
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
{by_itself}base = AutoModelForCausalLM.from_pretrained({base})
{resize}model = PeftModel.from_pretrained(base, {folder})
```

* rank {rank}, {100 * record["kept"]:.2f} % of the squared norm of the change
* unlearning token: {about}
* logits against the edited model on {record["prompts"]} prompts of the forget set: largest difference
  {record["largest_logit_error"]:.2e} (largest logit {record["largest_logit"]:.3g}), same next token at
  {100 * record["same_next_token"]:.1f} % of the positions
* without the adapter the base model answers as before: none of the knowledge is removed from its weights
"""
