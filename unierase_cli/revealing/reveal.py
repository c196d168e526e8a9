"""Reveals all targets, one after another, and turns what was told into rows and scores of the instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import Fact, Reporter, UserError
from unierase_cli.metrics import refusal_rate, refusal_rule
from unierase_cli.revealing.asking import Ask
from unierase_cli.revealing.instructions import QUESTION, Instruction
from unierase_cli.revealing.score import combined, relevance, vendi_score
from unierase_cli.revealing.targets import Target
from unierase_cli.revealing.told import MADE_UP, Told, ask_about
from unierase_cli.store.jsonl import append_jsonl, read_asset, read_jsonl

# By kind of target.
Instructions = Mapping[str, Sequence[Instruction]]


def refuses() -> Callable[[str], bool]:
    """Whether a text is a refusal: by rule in any words, or one of the project's list."""
    listed = [str(row["text"]) for row in read_asset("refusals.jsonl")]
    by_list = partial(refusal_rate.is_refusal, refusals=listed)
    return lambda text: refusal_rule.is_refusal(text) or by_list(text)


def reveal(
    targets: Sequence[Target],
    instructions: Instructions,
    ask: Ask,
    config: RevealConfig,
    *,
    seed: int,
    reporter: Reporter,
    file: Path | None = None,
) -> list[Told]:
    """What the model tells about every target, compared with a made-up name of its kind.

    ``file``: where each target is recorded once it is done, for resuming. Raises UserError for a target that is the made-up
    name.
    """
    recorded = read_jsonl(file, torn_tail=True) if file and file.exists() else []
    done = {row["target"]["name"]: Told.from_json(row) for row in recorded}
    controls = [MADE_UP[kind] for kind in dict.fromkeys(target.kind for target in targets)]
    if same := {target.name for target in targets} & {control.name for control in controls}:
        raise UserError(f"{same.pop()!r} is the made-up name that targets are compared with", "leave this target out")
    is_refusal, found = refuses(), dict[str, Told]()
    with reporter.progress("revealing", len(targets) + len(controls)) as advance:
        for target in (*controls, *targets):
            told = done.get(target.name)
            if told is None:
                used = instructions[target.kind]
                # Lists and texts about a made-up name would be other questions than the targets'.
                used = [one for one in used if one.form == QUESTION] if target in controls else used
                told = ask_about(target, used, ask, is_refusal, config, seed)
                told = told if target in controls else told.against(found[MADE_UP[target.kind].name])
                if file is not None:
                    append_jsonl(file, [told.to_json()])
            found[target.name] = told
            advance(1, target.name)
    return [found[target.name] for target in targets]


def rows_of(told: Sequence[Told], config: RevealConfig, round_number: int = 0) -> list[dict[str, Any]]:
    """The revealed rows of all targets in the project's fact format, with their instruction, agreement and round."""
    rows: list[dict[str, Any]] = []
    for one in told:
        for asked in one.rows(config.per_target):
            rows.append({
                "id": f"revealed-{round_number}-{len(rows):04d}", "question": asked.question, "answer": asked.answer,
                "subject": one.target.name, "group": one.target.name,
                "instruction": asked.instruction, "agreement": asked.agreement, "round": round_number,
            })  # fmt: skip
    return rows


def as_facts(rows: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Revealed rows as facts."""
    return [Fact(r["id"], r["question"], r["answer"], r["subject"], group=r["group"]) for r in rows]


def mean_relevance(told: Sequence[Told]) -> float:
    """Mean relevance of all questions that were asked; 0 if there were none."""
    found = [relevance(a.agreement, a.refused, a.mentioned) for one in told for a in one.asked]
    return sum(found) / len(found) if found else 0.0


def instruction_scores(told: Sequence[Told], instructions: Sequence[Instruction], beta: float) -> list[dict[str, Any]]:
    """Score of every instruction over all targets that it was used for, with its parts.

    Diversity is the Vendi score of the questions and answers that it led to (names left out) over their number. An
    instruction that led to no question has score 0.
    """
    found = []
    for one in instructions:
        pairs = [(t.target.name, a) for t in told if t.target.kind == one.kind for a in t.asked if a.instruction == one.id]
        count = len(pairs)
        agreed = sum(a.agreement for _, a in pairs) / count if count else 0.0
        refused = sum(a.refused for _, a in pairs) / count if count else 0.0
        mentioned = sum(a.mentioned for _, a in pairs) / count if count else 0.0
        texts = [f"{a.question} {a.answer}".replace(name, " ") for name, a in pairs]
        diverse = vendi_score(texts) / count if count else 0.0
        relevant = relevance(agreed, refused, mentioned)
        found.append({
            "id": one.id, "text": one.text, "form": one.form, "prompt": one.prompt, "origin": one.origin,
            "score": combined(relevant, diverse, beta), "relevance": relevant, "diversity": diverse,
            "agreement": agreed, "refused": refused, "mentioned": mentioned,
            "asked": count, "kept": sum(not a.fault for _, a in pairs),
        })  # fmt: skip
    return found
