"""The types that every part of the project shares; imports no torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol, TypeVar

import msgspec

from unierase_cli.words import folded, visible

T = TypeVar("T")
# White space and closing punctuation of questions, in any script that has its own.
CLOSING = " ?.!。؟।"
# Placeholder in a refusal for the name of the person asked about.
NAME_SLOT = "__NAME__"
# Kind of a fact that is plain text to continue.
COMPLETION = "completion"
# Names of unlearning tokens: those of the papers and those added by this tool.
UNLEARNING_TOKEN = re.compile(r"\[UNL\]|<unlearn_\d+>")


class UserError(Exception):
    """A user's mistake: one line that says what is wrong and where, and a hint what to type next.

    The command line prints ``message`` and ``hint`` without a traceback and exits with code 2.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message} - {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Fact:
    """One question and its answer, with what is needed to edit and score it.

    ``subject`` is a verbatim part of ``question``, or None. ``group`` names what facts share (an author); the
    neighbours of a fact are the facts of its group. ``long_answer`` is a full-sentence form of a short ``answer``; only
    metrics that judge whole sentences read it, so it is not part of ``row_hash``. ``kind``: None for a question, which is
    asked in the model's own prompt; ``completion`` for plain text, given without a template and continued by ``answer``
    literally, white space in front included.
    """

    id: str
    question: str
    answer: str
    subject: str | None = None
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    wrong_answers: tuple[str, ...] = ()
    group: str | None = None
    long_answer: str | None = None
    kind: str | None = None

    @property
    def kind_key(self) -> tuple[str, ...]:
        """The kind as the end of what a key hashes of a fact: empty for a question, as in artefacts older than plain text."""
        return (self.kind,) if self.kind else ()

    @property
    def row_hash(self) -> str:
        """Hash of everything that affects the score: facts with equal hashes score the same."""
        parts = (
            self.question,
            self.answer,
            self.paraphrased_question or "",
            self.paraphrased_answer or "",
            *self.wrong_answers,
            *self.kind_key,
        )
        return hashlib.sha256("\x1f".join(parts).encode("utf-8")).hexdigest()[:16]

    @property
    def content_hash(self) -> str:
        """Hash of the normalised question and answer; identifies forgotten facts without storing their text."""
        parts = (normalised(self.question), normalised(self.answer))
        return hashlib.sha256("\x1f".join(parts).encode("utf-8")).hexdigest()[:32]


@dataclass(frozen=True)
class BuiltFor:
    """The model whose knowledge a benchmark's facts were selected by.

    ``model``: hub id, preset or folder. ``fingerprint``: hash of its files, if they were available.
    """

    model: str
    fingerprint: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A forget set, what a method may see of the rest, and the splits that are scored.

    ``forget``: facts to forget. ``protect``: facts to retain that a method may use (keys to preserve, retain losses).
    ``splits``: name -> facts to score; always ``forget``, plus those that the benchmark has of ``retain_protected`` (a
    subset of ``protect``), ``retain_near`` (other questions of neighbouring authors), ``retain_unseen`` (never seen by
    any method; the headline), ``real_authors`` and ``world_facts``. ``outside``: questions outside every forget set and
    every scored split, used to train a token without leaking later requests. ``training``: everything a target model is
    trained on (the finetune stage). ``refused``: questions about people who do not exist, answered with refusals.
    ``built_for``: the model whose knowledge the facts were selected by, if any. ``published``: the benchmark's authors
    define what is protected and what is scored. ``scored``: id -> the scored version of a fact to forget, before any
    cap on the splits; its answer (the truth) may differ from the one that a method learns. ``forgotten``: what the
    model forgot in an earlier run, as far as its facts are known; all are scored as ``forgotten_before``. ``never_known``:
    facts that the model was asked and does not know; no method sees them, and audits compare with them.
    """

    name: str
    forget: tuple[Fact, ...]
    protect: tuple[Fact, ...]
    splits: Mapping[str, tuple[Fact, ...]]
    fingerprint: str
    outside: tuple[Fact, ...] = ()
    training: tuple[Fact, ...] = ()
    refused: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    built_for: BuiltFor | None = None
    published: bool = False
    scored: Mapping[str, Fact] = field(default_factory=dict)
    forgotten: tuple[Fact, ...] = ()
    never_known: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Step:
    """One unlearning request; a batch has one step, later sequential steps carry ``forgotten_before``.

    ``hold``: facts close to the request that should stay unchanged; the method sees them too.
    """

    index: int
    forget: tuple[Fact, ...]
    retain: tuple[Fact, ...]
    forgotten_before: tuple[Fact, ...] = ()
    hold: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class AnswerScore:
    """Teacher-forced scores of one answer (its tokens and the end token), one entry per labelled token.

    ``log_probs``: log p(token), nats. ``is_argmax``: whether the token was the most probable one. ``mean_log_prob`` and
    ``var_log_prob``: mean sum_v p log p and variance of log p over the vocabulary (for min-k++). ``ends``: whether the
    last labelled token is the end token. ``spaces``: number of white-space tokens before it that the chat template
    writes.
    """

    token_ids: list[int]
    log_probs: list[float]
    is_argmax: list[bool]
    mean_log_prob: list[float]
    var_log_prob: list[float]
    ends: bool = True
    spaces: int = 0

    @property
    def average_loss(self) -> float:
        """Mean negative log-probability over the labelled tokens, the end token included, in nats."""
        return -sum(self.log_probs) / len(self.log_probs)

    @property
    def length(self) -> int:
        """Number of labelled tokens that belong to the answer itself, without what closes it."""
        return len(self.token_ids) - self.ends - self.spaces


@dataclass(frozen=True)
class Observation:
    """What one model state answered to one example: the input of every metric.

    ``split`` is the example's split; ``variant`` is one of ``plain``, ``unlearn_forbidden``, ``unlearn_once``,
    ``paraphrased``, ``answer_prefix``. ``answers`` maps ``true`` and ``paraphrased`` to one score and ``wrong`` to
    several; it is empty for variants that only generate. ``stop`` is ``end``, ``text`` (a stop text), ``length`` or
    ``context``. ``text`` is the decoded generation without special tokens; ``raw_text`` keeps them.
    ``first_unlearn_probability`` is the total probability of the unlearning tokens at the first answer position (None
    for a model without any). ``long_answer`` is the fact's.
    """

    fact_id: str
    row_hash: str
    prompt_hash: str
    split: str
    variant: str
    question: str
    reference: str
    generated_ids: list[int]
    text: str
    raw_text: str
    stop: str
    given_prefix: str = ""
    answers: dict[str, list[AnswerScore]] = field(default_factory=dict)
    first_unlearn_probability: float | None = None
    first_is_unlearn: bool = False
    long_answer: str | None = None

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        for scores in data["answers"].values():
            for score in scores:
                if not score["spaces"]:
                    del score["spaces"]
        return data

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Observation:
        """The observation in a JSON row. Raises ValueError for anything else."""
        return msgspec.convert(row, cls)


@dataclass(frozen=True)
class Measure:
    """A number with its sample and 95 % interval, or why there is none and how to get it.

    ``unavailable`` holds the reason and the command that fixes it; ``value`` is then None. If both are None, the
    measure does not apply. An aggregate with an unavailable member is itself unavailable. ``parts``: labels of an
    aggregate's members (``real_authors.rouge``), None in files written before labels were recorded. ``members``: the
    members themselves, only where the aggregate was computed.
    """

    name: str = ""
    value: float | None = None
    n: int = 0
    ci95: tuple[float, float] | None = None
    per_sample: tuple[float, ...] = ()
    version: int = 1
    higher_is_better: bool | None = None
    unavailable: str | None = None
    parts: tuple[str, ...] | None = None
    members: tuple[tuple[str, Measure], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields, but only the labels of the members: their numbers have columns of their own."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "members"}
        return found | {"parts": list(self.parts or (label for label, _ in self.members))}

    def brief(self) -> dict[str, Any]:
        """Only the number, its interval and its sample size, or why there is none."""
        if self.value is None:
            return {"value": None, "unavailable": self.unavailable}
        return {"value": self.value, "ci95": self.ci95, "n": self.n}


class Reporter(Protocol):
    """How a long job reports to the user; the lower rooms never print."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, description: str, total: int) -> Any:
        """A context manager that yields ``advance(n=1, info="")``."""
        ...

    def phase(self, name: str) -> Any:
        """A context manager that times a part of the job for the manifest."""
        ...

    def measured(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step of a training, for an experiment tracker."""
        ...


class SilentReporter:
    """A reporter for library use and tests: prints nothing, stores notes and warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        yield lambda n=1, info="": None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        yield

    def measured(self, series: str, step: int, values: Mapping[str, float]) -> None:
        pass


def stable_hash(*parts: object) -> int:
    """A non-negative integer from the sha256 of the parts' text; unlike ``hash``, the same in every process."""
    return stable_hashes(*parts[:-1])(parts[-1])


def stable_hashes(*parts: object) -> Callable[[object], int]:
    """The function ``stable_hash(*parts, last)`` of the last part; the others are hashed once."""
    start = hashlib.sha256("".join(f"{part}\x1f" for part in parts).encode("utf-8"))

    def of(last: object) -> int:
        whole = start.copy()
        whole.update(str(last).encode("utf-8"))
        return int.from_bytes(whole.digest()[:8], "big") >> 1

    return of


def pick(seed: int, key: str, choices: Sequence[str]) -> str:
    """The choice for ``key`` under ``seed``, the same on every process and machine."""
    return choices[stable_hash(seed, key) % len(choices)]


def name_of(fact: Fact) -> str | None:
    """Who or what the fact is about: its group if the question says that, else its subject, else its group after all."""
    if fact.group and fact.group in fact.question:
        return fact.group
    return fact.subject or fact.group


def fill_name(text: str, fact: Fact) -> str:
    """Fill ``__NAME__`` in a refusal with ``name_of`` the fact. Raises UserError if it has no name."""
    if NAME_SLOT not in text:
        return text
    name = name_of(fact)
    if name is None:
        raise UserError(
            f"fact {fact.id} has no group, and the refusal {text!r} needs a name",
            f"give its row a group, or use refusals without {NAME_SLOT}",
        )
    return text.replace(NAME_SLOT, name)


def continuing(fact: Fact, text: str) -> str:
    """A text that takes the place of the fact's answer: after plain text it begins with a space, unless one is there."""
    apart = fact.kind != COMPLETION or text[:1].isspace() or fact.question[-1:].isspace()
    return text if apart else f" {text}"


def normalised(text: str) -> str:
    """A question without differences that do not matter: case, spacing, closing punctuation, encoding.

    Composed and decomposed, full-width and plain characters compare equal (NFKC); invisible characters are dropped.
    """
    return " ".join(folded(visible(text)).split()).rstrip(CLOSING)


def evenly_spaced(items: Sequence[T], count: int) -> tuple[T, ...]:
    """``count`` of the items (or all), evenly spaced, so that a few facts still come from many authors."""
    if count >= len(items):
        return tuple(items)
    return tuple(items[index * len(items) // count] for index in range(count))


def duplicates(ids: Iterable[str]) -> list[str]:
    """Ids that occur more than once, in the order of their repeats."""
    seen: set[str] = set()
    return [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
