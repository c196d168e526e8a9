"""Adds instructions that the model writes to those that stage ``reveal`` has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import Reporter
from unierase_cli.revealing.asking import Ask
from unierase_cli.revealing.instructions import Instruction, seeds
from unierase_cli.revealing.reveal import instruction_scores, refuses
from unierase_cli.revealing.search import chosen, form_of, search
from unierase_cli.revealing.targets import Target
from unierase_cli.revealing.told import ask_about
from unierase_cli.revealing.writer import Writer

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel


def searched(
    loaded: LoadedModel,
    targets: Sequence[Target],
    instructions: Mapping[str, Sequence[Instruction]],
    ask: Ask,
    config: RevealConfig,
    seed: int,
    reporter: Reporter,
    file: Path,
) -> dict[str, list[Instruction]]:
    """The instructions of every kind with the best of a search, each scored on the first ``config.search_targets``."""
    is_refusal = refuses()
    found: dict[str, list[Instruction]] = {}
    for kind, known in instructions.items():
        some = [target for target in targets if target.kind == kind][: config.search_targets]

        def evaluate(text: str, kind: str = kind, some: Sequence[Target] = some) -> float:
            one = Instruction("candidate", text, kind, form_of(text))
            told = [ask_about(target, [one], ask, is_refusal, config, seed) for target in some]
            return float(instruction_scores(told, [one], config.diversity)[0]["score"])

        shown = seeds(kind, ["own"])
        writer = Writer(loaded, shown, config.soft_tokens, seed)
        tried = search(kind, writer, evaluate, config, seed=seed, reporter=reporter, file=file)
        added = chosen(tried, known, config)
        best = f"the best scores {max(one.score for one in tried):.3f}"
        reporter.note(f"{len(added)} instructions found for targets of kind {kind}; {best}")
        if not added:
            reporter.warn(f"the search found no new instruction for targets of kind {kind}: only the seeds are used")
        found[kind] = [*known, *added]
    return found
