"""The card that is written beside an adapter: what it is, and the lines that load it."""

from __future__ import annotations

from typing import Any


def adapter_card(record: dict[str, Any], name: str) -> str:
    """Markdown, from the record of ``export_adapter``; ``name``: of the adapter's folder."""
    size, source = record["resize_to"], record["base"]["source"]
    resize = "" if size is None else f"base.resize_token_embeddings({size})  # a row for the unlearning token\n"
    tokens = ", ".join(f"`{token}` (id {index})" for token, index in record["unlearning_tokens"].items()) or "none"
    where = (
        "a token that the tokenizer held in reserve"
        if record["reserved_tokens"]
        else "added to the tokenizer in this folder"
    )
    about = f"{tokens}: {where}" if record["unlearning_tokens"] else "none"
    rank = f"{record['rank']}" if record["kept"] == 1.0 else f"{record['rank']} of {record['rank_of_change']}"
    base_model = "" if source is None else f"base_model: {source}\n"
    by_itself = f'model = AutoPeftModelForCausalLM.from_pretrained("{name}")  # finds the base model by itself; or:\n'
    imported = "AutoPeftModelForCausalLM, PeftModel"
    if source is None:
        by_itself, imported = f"# The base model has the fingerprint {record['base']['fingerprint']}.\n", "PeftModel"
    return f"""---
library_name: peft
{base_model}---
# Unlearning edit of `{record["run"]}` as a LoRA adapter

```python
from peft import {imported}
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
{by_itself}base = AutoModelForCausalLM.from_pretrained("{source or "FOLDER_OF_THE_BASE_MODEL"}")
{resize}model = PeftModel.from_pretrained(base, "{name}")
```

* rank {rank}, {100 * record["kept"]:.2f} % of the squared norm of the change
* unlearning token: {about}
* logits against the edited model on {record["prompts"]} prompts of the forget set: largest difference
  {record["largest_logit_error"]:.2e} (largest logit {record["largest_logit"]:.3g}), same next token at
  {100 * record["same_next_token"]:.1f} % of the positions
* without the adapter the base model answers as before: nothing of the knowledge is gone from its weights
"""
