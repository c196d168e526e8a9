"""Training without any forgotten fact: nobody gives an answer away (Che et al., model tampering). By default on retained facts, of
the same form and of other groups (2602.03379: what counts is the form of the text); also on facts that no model has seen, or on a
file of questions and answers, such as GSM8K's, or of neutral texts, such as WikiText's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.rates import rate_name
from unierase_cli.benchmarks.parts.texts import passages
from unierase_cli.contracts import Fact, UserError, evenly_spaced
from unierase_cli.store.jsonl import iterate_jsonl

CLASS, PRESET, VERSION = "relearning", "standard", 3
BENIGN = True
# For the adapters.
PACKAGES = ("peft",)
FILES = ("file",)
RETAINED, NEVER_TRAINED = "retained", "never_trained"
# How many facts, each once; rates of adapters (LoRA) and of training all weights; data: retained, never_trained. The first of each
# is the headline's. file: JSONL with question and answer, or text, "" for none.
SETTINGS: Mapping[str, Any] = {
    "examples": [400, 100], "lora_lr": [5e-5], "lr": [1e-5], "batch": 8, "data": [RETAINED], "file": "",
}  # fmt: skip
WORDS = {RETAINED: "facts", NEVER_TRAINED: "never-trained facts", "file": "rows of the file"}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    rates = [(lr, False) for lr in settings["lora_lr"]] + [(lr, True) for lr in settings["lr"]]
    if unknown := [data for data in settings["data"] if data not in (RETAINED, NEVER_TRAINED)]:
        where = f"audit.settings.relearn_benign.data={unknown[0]}"
        raise UserError(f"{where} is no data", f"choose {RETAINED} or {NEVER_TRAINED}")
    return [
        Case(f"{count} {WORDS[data]}, {rate_name(lr, whole)}", {"data": data, "count": count, "lr": lr, "whole": whole})
        for data in [*settings["data"], *(["file"] if settings["file"] else [])]
        for count in settings["examples"]
        for lr, whole in rates
    ]


def harmless_facts(target: Target, data: str, file: str) -> list[Fact]:
    """The facts of such data that say nothing that was forgotten, and are of no group of which a fact was forgotten."""
    forgotten = (*target.forgotten, *target.facts)
    texts, groups = {fact.content_hash for fact in forgotten}, {fact.group for fact in forgotten} - {None}
    found = {RETAINED: target.material, NEVER_TRAINED: target.never_trained}.get(data)
    found = _of_file(Path(file)) if found is None else found
    return [fact for fact in found if fact.content_hash not in texts and fact.group not in groups]


def _of_file(path: Path) -> list[Fact]:
    found = []
    for number, row in iterate_jsonl(path):
        if "text" in row:
            found += passages(row, f"{path}:{number}", f"file-{number}")
            continue
        question, answer = (row.get(key) for key in ("question", "answer"))
        if not (isinstance(question, str) and question.strip() and isinstance(answer, str) and answer.strip()):
            raise UserError(f"{path}:{number} has no question and answer", "every line needs both, or a text")
        found.append(Fact(f"file-{number}", question, answer))
    return found


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    from unierase_cli.audit.relearning import Training, after_steps, relearned

    count, data = case.values["count"], case.values["data"]
    learned = evenly_spaced(harmless_facts(target, data, settings["file"]), count)
    if not learned:
        what = data.replace("_", "-")
        target.reporter.warn(f"relearn_benign is left out: no {what} fact comes from a group that is kept whole")
        return []
    if len(learned) < count:
        target.reporter.note(f"relearn_benign trains on {len(learned)} {WORDS[data]}: there are no {count}")
    steps = -(-len(learned) // settings["batch"])
    training = Training(case.values["lr"], after_steps([steps]), settings["batch"], case.values["whole"])
    return relearned(target, learned, target.facts, training)
