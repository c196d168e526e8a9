"""Asking a model many things and judging what it says, a chunk at a time, so that an interrupted run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent
from unierase_cli.metrics.return_score import LABELS as LABELS_OF_A_JUDGE
from unierase_cli.store.jsonl import append_jsonl, read_jsonl

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

CONTRADICTION = "contradiction"
# A row per answer: id of the fact, number of the phrasing, what the model said, whether it is right.
ANSWERS = "answers.jsonl"
# Rows between two writings.
CHUNK = 128

Item = TypeVar("Item")


def asked(loaded: LoadedModel, batch_size: int, max_new_tokens: int) -> Callable[[Sequence[str]], list[str]]:
    """Questions -> greedy answers; one that does not fit the model's context has none."""
    from unierase_cli.inference.generate import answer_text, generate

    def answer(questions: Sequence[str]) -> list[str]:
        prompts = {}
        for number, question in enumerate(questions):
            with suppress(UserError):
                prompts[number] = loaded.prompts.prompt(question).ids
        found = generate(loaded, list(prompts.values()), max_new_tokens=max_new_tokens, batch_size=batch_size)
        said = {number: answer_text(loaded, one).strip() for number, one in zip(prompts, found, strict=True)}
        return [said.get(number, "") for number in range(len(questions))]

    return answer


def entailment_judge(experiment: Experiment) -> Callable[[Sequence[tuple[str, str]]], list[str]]:
    """The classifier, tried once now: hours of asking are in vain without it. Raises UserError where there is none."""
    judges = Judges(nli=experiment.eval.nli, seconds=experiment.eval.judge_seconds)

    def classify(pairs: Sequence[tuple[str, str]]) -> list[str]:
        try:
            labels = judges.classify(pairs)
        except JudgeAbsent as absent:
            raise UserError(
                f"what the model knows can't be told without a judge: {absent}",
                "name an entailment classifier: eval.nli=sileod/deberta-v3-base-tasksource-nli",
            ) from absent
        if strange := sorted(set(labels) - LABELS_OF_A_JUDGE):
            raise UserError(
                f"eval.nli={experiment.eval.nli} answers {strange[0]!r}: it does not tell a contradiction from the rest",
                "name a classifier of entailment, neutral and contradiction",
            )
        return labels

    classify([("Rome is in Italy.", "Rome is in Italy."), ("Rome is in Italy.", "Rome is in Norway.")])
    return classify


def judged_pair(question: str, answer: str, said: str) -> tuple[str, str]:
    """What an entailment classifier is shown: the question with the true and with the given answer."""
    return f"{question} {answer}", f"{question} {said}"


def each(
    path: Path, items: Mapping[str, Item], work: Callable[[Sequence[Item]], list[str]], reporter: Reporter, title: str
) -> dict[str, str]:
    """Key -> what ``work`` makes of it, a chunk at a time; what the file holds already is not made again."""
    done = {row["key"]: row["text"] for row in read_jsonl(path, torn_tail=True)} if path.exists() else {}
    left = [key for key in items if key not in done]
    with reporter.progress(title, len(left)) as advance:
        for chunk in _chunks(left):
            made = dict(zip(chunk, work([items[key] for key in chunk]), strict=True))
            append_jsonl(path, [{"key": key, "text": text} for key, text in made.items()])
            done |= made
            advance(len(chunk))
    return done


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]
