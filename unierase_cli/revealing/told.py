"""What a model tells about one target: the questions it was asked, its answers, and which of them it seems to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import normalised, stable_hash
from unierase_cli.metrics.degenerate_output import is_degenerate
from unierase_cli.metrics.entity import mentions
from unierase_cli.metrics.rouge import rouge_l_f1, rouge_l_recall
from unierase_cli.revealing.asking import Ask
from unierase_cli.revealing.instructions import OWN, QUESTION, RAW, Instruction
from unierase_cli.revealing.parse import facts_in
from unierase_cli.revealing.score import agreement
from unierase_cli.revealing.targets import Target
from unierase_cli.words import PARTICLES, words

# Nobody's names: an answer that they get too is no knowledge about a target.
MADE_UP = {"person": Target("Arvel Quistgaard", "person"), "topic": Target("the Quistgaard theory", "topic")}
# An answer about a person names them, begins with a pronoun, or is at most this many words long.
PRONOUNS, SHORT = {"he", "she", "they", "his", "her", "their"}, 4
# ROUGE-L F1 from which two texts say the same.
SAME, REPEATED = 0.9, 0.8
# Questions read from one list or text, at most.
PARSED = 20
# Why an answer is no row, in the order in which the reasons are looked for.
FAULTS = (
    "degenerate", "repeats the question", "refused", "about somebody else", "same for a made-up name", "answers differ",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One question. ``refused``: share of its answers that refuse; ``mentioned``: 1 if the answer, and the text that the
    question was read from, are about the target, else 0; ``fault``: why it is no row, empty for one that may be.
    """

    instruction: str
    question: str
    answer: str
    agreement: float
    refused: float
    mentioned: float
    fault: str


@dataclass
class Told:
    """Everything told about a target. ``texts``: instruction -> the list or text that questions were read from.

    ``share``: of the questions that the made-up name was asked too, those without fault; ``chance``: the same share for the
    made-up name. None: nothing to compare.
    """

    target: Target
    asked: list[Asked] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    share: float | None = None
    chance: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Told:
        return cls(**{**row, "target": Target(**row["target"]), "asked": [Asked(**one) for one in row["asked"]]})

    def against(self, control: Told) -> Told:
        """With the shares of the questions that both were asked."""
        both = {one.instruction for one in control.asked}
        own = [one for one in self.asked if one.instruction in both]
        return replace(self, share=_share(own), chance=_share(control.asked)) if own else self

    def rows(self, most: int) -> list[Asked]:
        """Questions without fault, those with the highest agreement first, near repeats once, at most ``most``.

        None if a made-up name has at least the same share of them: the model then answers without knowing.
        """
        if self.share is not None and self.chance is not None and self.share <= self.chance:
            return []
        kept: list[Asked] = []
        for one in sorted((a for a in self.asked if not a.fault), key=lambda a: -a.agreement):
            if len(kept) < most and not any(self._repeats(one, other) for other in kept):
                kept.append(one)
        return kept

    def evidence(self, most: int) -> dict[str, Any]:
        """How many questions there were, what became of them, and the verdict."""
        count = len(self.asked)
        rows = len(self.rows(most))
        faults = Counter(one.fault for one in self.asked if one.fault)
        return {
            "name": self.target.name,
            "kind": self.target.kind,
            "verdict": "revealed" if rows else "nothing to forget",
            "rows": rows,
            "asked": count,
            "agreement": round(sum(a.agreement for a in self.asked) / count, 4) if count else 0.0,
            "refused": round(sum(a.refused for a in self.asked) / count, 4) if count else 0.0,
            "share": self.share,
            "share of a made-up name": self.chance,
            "faults": {name: faults[name] for name in FAULTS if faults[name]},
        }

    def _repeats(self, one: Asked, other: Asked) -> bool:
        first, second = (_without(f"{a.question} {a.answer}", self.target.name) for a in (one, other))
        return rouge_l_f1(first, second) > REPEATED


def in_words(evidence: dict[str, Any]) -> str:
    """The evidence as a sentence."""
    faults = ", ".join(f"{count} {name}" for name, count in evidence["faults"].items())
    rows = f"{evidence['rows']} rows" if evidence["rows"] else evidence["verdict"]
    share, chance = evidence["share"], evidence["share of a made-up name"]
    compared = "" if share is None else f", {share:.2f} without fault ({chance:.2f} for a made-up name)"
    told = f"{rows}: {evidence['asked']} questions, agreement {evidence['agreement']:.2f}{compared}"
    return f"{told}; {faults}" if faults else told


def ask_about(
    target: Target,
    instructions: Sequence[Instruction],
    ask: Ask,
    refuses: Callable[[str], bool],
    config: RevealConfig,
    seed: int,
) -> Told:
    """Follow the instructions for a target, then ask every question alone: once greedily and ``config.samples`` times drawn.

    The answer to forget is the greedy one, in the model's own prompt. A claimed answer (of a list or a text) counts as one
    more drawn answer. The same questions are asked about a made-up name.
    """
    told = Told(target)
    questions: dict[str, tuple[Instruction, str, str | None, float]] = {}
    for one in instructions:
        if one.form == QUESTION:
            questions.setdefault(normalised(one.about(target.name)), (one, one.about(target.name), None, 1.0))
    for prompt in (OWN, RAW):
        listing = [one for one in instructions if one.form != QUESTION and one.prompt == prompt]
        answers = ask([one.about(target.name) for one in listing], prompt=prompt, tokens=config.list_tokens)
        for one, answer in zip(listing, answers, strict=True):
            text = f"{one.about(target.name)} {answer}" if prompt == RAW else answer
            told.texts[one.id] = text
            mentioned = float(mentions(answer, target.name))
            for question, claimed in facts_in(text, target.name)[:PARSED]:
                questions.setdefault(normalised(question), (one, question, claimed, mentioned))
    found = list(questions.values())
    texts = [question for _, question, _, _ in found]
    greedy = ask(texts, prompt=OWN, tokens=config.max_new_tokens)
    strange = MADE_UP[target.kind].name
    # The made-up name itself has nobody to be compared with.
    compared = [] if target.name == strange else texts
    control = ask([text.replace(target.name, strange) for text in compared], prompt=OWN, tokens=config.max_new_tokens)
    seeds = [stable_hash(seed, "reveal", text, n) for text in texts for n in range(config.samples)]
    repeated = [text for text in texts for _ in range(config.samples)]
    drawn = ask(repeated, prompt=OWN, tokens=config.max_new_tokens, draws=seeds)
    for number, (instruction, asked, said, mentioned) in enumerate(found):
        answer = greedy[number]
        others = drawn[number * config.samples : (number + 1) * config.samples]
        agreed = agreement(answer, [*others, *([] if said is None else [said])])
        refused = sum(map(refuses, [answer, *others])) / (1 + len(others))
        same = bool(control) and rouge_l_f1(_without(control[number], strange), _without(answer, target.name)) >= SAME
        about = is_about(answer, target)
        checks = (
            is_degenerate(answer), _echoes(answer, asked), refuses(answer), not about, same, agreed < config.agreement,
        )  # fmt: skip
        fault = next((name for name, failed in zip(FAULTS, checks, strict=True) if failed), "")
        told.asked.append(Asked(instruction.id, asked, answer, round(agreed, 6), refused, mentioned * about, fault))
    return told


def is_about(answer: str, target: Target) -> bool:
    """Whether an answer can be about the target; an answer about a topic need not name it."""
    if target.kind != "person":
        return True
    said, name = words(answer), set(words(target.name))
    # "the" is no sign of Alexander the Great.
    telling = name - PARTICLES or name
    return len(said) <= SHORT or said[0] in PRONOUNS or not telling.isdisjoint(said)


def _share(asked: Sequence[Asked]) -> float:
    return round(sum(not one.fault for one in asked) / len(asked), 4)


def _echoes(answer: str, question: str) -> bool:
    """Whether nearly all words of the answer are the question's, in its order."""
    return rouge_l_recall(question, answer) >= SAME


def _without(text: str, name: str) -> str:
    return text.replace(name, " ")
