"""The README.md of an exported model: what was forgotten, by counts and hashes only, how, what an audit says, how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unierase_cli.delivery.run_facts import RunFacts, verdict_of
from unierase_cli.markdown import code, inline
from unierase_cli.results.one_run.tables import headline_table
from unierase_cli.results.page.erasure_page import GUESSABLE
from unierase_cli.store.unlearned import RECORD

CARD = "README.md"
# Hashes listed in the card, and the files of an export that have all of them.
SHOWN = 20
ALL_IN = {"patch": "`patch-*.json`"}
SERVED = {
    "model": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoModelForCausalLM.from_pretrained({name})
```

Served: `vllm serve FOLDER_OR_REPOSITORY`. Prompts must use the tokenizer's own chat template, if it has one.
""",
    "gguf": """```bash
llama-server -m FILE.gguf    # or: ollama create NAME -f Modelfile, with FROM ./FILE.gguf
```
""",
    "patch": """```bash
unierase patch apply UNEDITED_MODEL THIS_FOLDER NEW_FOLDER
```
""",
}


def write_card(folder: Path, kind: str, facts: RunFacts, base: str | None, name: str) -> Path:
    """Write the card of an exported folder; an adapter's own card, which says how to load it, is kept in front.

    ``base``: the unedited model's id on the hub, if it is there; ``name``: what the folder will be called.
    """
    path = folder / CARD
    if kind == "lora":
        text = path.read_text("utf-8").rstrip() + "\n\n" + _forgetting(facts, kind)
    else:
        text = _header(kind, base) + f"# {inline(facts.run)}\n\n" + _loading(kind, name) + "\n" + _forgetting(facts, kind)
    path.write_text(text, "utf-8")
    return path


def _header(kind: str, base: str | None) -> str:
    """The metadata that the hub reads."""
    found: dict[str, Any] = {"tags": ["unlearning", "unierase"]}
    if kind == "model":
        found = {"library_name": "transformers", "pipeline_tag": "text-generation", **found}
    if base is not None:
        found["base_model"] = base
    # JSON is YAML, whatever characters a name has.
    lines = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in found.items())
    return f"---\n{lines}---\n"


def _loading(kind: str, name: str) -> str:
    return SERVED[kind].replace("{name}", json.dumps(name, ensure_ascii=False))


def _forgetting(facts: RunFacts, kind: str) -> str:
    count = len(facts.forgotten)
    more = f"\n... and {count - SHOWN} more in {ALL_IN.get(kind, f'`{RECORD}`')}" if count > SHOWN else ""
    about: Mapping[str, str] = {**facts.about, "requests": str(facts.requests), "facts forgotten": str(count)}
    lines = [
        "## What was forgotten",
        "",
        *(f"- {name}: {code(value)}" for name, value in about.items()),
        f"- audit: {inline(verdict_of(facts))}",
        "",
        f"Facts are named by the first 32 digits of the sha256 of their question and answer. {GUESSABLE}",
        "",
        "```",
        "\n".join(facts.forgotten[:SHOWN]) + more,
        "```",
        "",
    ]
    if facts.scores is not None:
        lines += [headline_table(facts.scores).markdown()]
    lines += ["## What is not promised", "", *(f"- {text}" for text in facts.not_promised), ""]
    return "\n".join(lines)
