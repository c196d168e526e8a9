"""Asks a model many questions and judges its answers in chunks, so that an interrupted run resumes where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.metrics.judged import LABELS as LABELS_OF_A_JUDGE
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent
from unierase_cli.store.jsonl import append_jsonl, read_jsonl

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

CONTRADICTION = "contradiction"
# One row per answer: id of the fact, number of the phrasing, answer, whether it is right.
ANSWERS = "answers.jsonl"
# Rows written at a time.
CHUNK = 128

Item = TypeVar("Item")
# A question or text to continue, and its kind (see Fact).
Wording = tuple[str, str | None]


def asked(loaded: LoadedModel, batch_size: int, max_new_tokens: int) -> Callable[[Sequence[Wording]], list[str]]:
    """A function from questions to greedy answers; a question that exceeds the model's context gets an empty answer."""
    from unierase_cli.inference.generate import answer_text, generate

    def answer(questions: Sequence[Wording]) -> list[str]:
        prompts = {}
        for number, (text, kind) in enumerate(questions):
            with suppress(UserError):
                prompts[number] = loaded.prompts.prompt(text, kind).ids
        found = generate(loaded, list(prompts.values()), max_new_tokens=max_new_tokens, batch_size=batch_size)
        said = {number: answer_text(loaded, one).strip() for number, one in zip(prompts, found, strict=True)}
        return [said.get(number, "") for number in range(len(questions))]

    return answer


def entailment_judge(experiment: Experiment) -> Callable[[Sequence[tuple[str, str]]], list[str]]:
    """The classifier, tried once before hours of asking; raises UserError if it is not available."""
    judges = Judges(nli=experiment.eval.nli, seconds=experiment.eval.judge_seconds)

    def classify(pairs: Sequence[tuple[str, str]]) -> list[str]:
        try:
            labels = judges.classify(pairs)
        except JudgeAbsent as absent:
            raise UserError(
                f"a judge is needed to find out what the model knows: {absent}",
                "name an entailment classifier: eval.nli=sileod/deberta-v3-base-tasksource-nli",
            ) from absent
        if strange := sorted(set(labels) - LABELS_OF_A_JUDGE):
            raise UserError(
                f"eval.nli={experiment.eval.nli} answers {strange[0]!r}, which is not an entailment label",
                "name a classifier of entailment, neutral and contradiction",
            )
        return labels

    classify([("Rome is in Italy.", "Rome is in Italy."), ("Rome is in Italy.", "Rome is in Norway.")])
    return classify


def judged_pair(question: str, answer: str, said: str) -> tuple[str, str]:
    """The pair for an entailment classifier: the question with the true answer, and with the given answer."""
    return f"{question} {answer}", f"{question} {said}"


def each(
    path: Path, items: Mapping[str, Item], work: Callable[[Sequence[Item]], list[str]], reporter: Reporter, title: str
) -> dict[str, str]:
    """Key -> result of ``work``, computed in chunks; results already in the file are reused."""
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
