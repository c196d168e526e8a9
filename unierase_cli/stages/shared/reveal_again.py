"""What a changed model still reveals, for methods that unlearn in rounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Fact, Reporter, stable_hash
from unierase_cli.stages.shared.reveal_inputs import instructions_of, targets_of
from unierase_cli.store.jsonl import write_jsonl

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

Reveal = Callable[[int], tuple[list[Fact], float]]


def reveal_again(loaded: LoadedModel, experiment: Experiment, directory: Path, reporter: Reporter) -> Reveal:
    """A function from a round to the facts that the current model reveals and their mean relevance.

    It uses the shipped instructions and the questions of ``reveal.retain_path``, without a search. The answers of a round are
    recorded in ``directory``.
    """
    # Most runs do not come here, and all of them import this file.
    from unierase_cli.revealing.asking import asker
    from unierase_cli.revealing.reveal import as_facts, mean_relevance, reveal, rows_of

    config, seed = experiment.reveal, experiment.run.seed
    targets = targets_of(config)
    instructions = instructions_of(config, targets, seed)
    ask = asker(loaded, config.temperature, experiment.eval.batch_size)

    def again(number: int) -> tuple[list[Fact], float]:
        file = directory / f"revealed-{number:03d}-answers.jsonl"
        own = stable_hash(seed, "round", number)
        told = reveal(targets, instructions, ask, config, seed=own, reporter=reporter, file=file)
        rows = rows_of(told, config, number)
        write_jsonl(directory / f"revealed-{number:03d}.jsonl", rows)
        return as_facts(rows), mean_relevance(told)

    return again
