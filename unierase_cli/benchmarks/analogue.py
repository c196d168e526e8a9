"""Three small, generated analogues of the tasks of Reveal-and-Release (arXiv 2509.14624): stand-ins, not its data.

``benchmark.split`` names the task. What is forgotten and what is kept are two ways of treating the same kind of input; the
description in front of the input says which. A model learns both on the spot:

- ``style`` (for toxicity): a made-up rude register; a polite one is kept.
- ``entities`` (for named entities): tagging persons; tagging places is kept.
- ``skill`` (for code): rewriting lists by operators; small arithmetic with the same operators is kept.

All four sets have different inputs. ``forget_eval`` and ``retain_unseen`` have inputs that neither a method nor the model has
seen: they ask for the ability and not for a remembered answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unierase_cli.benchmarks.parts.assemble import in_columns
from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, stable_hash
from unierase_cli.store.jsonl import read_asset

ASKED = "{what}: {text}"
NUMBERS = 12
# Constants, so that `benchmark=revealed benchmark.gold=analogue` has the rows that the model learned.
SIZES = {"forget": 112, "forget_eval": 28, "retain": 112, "retain_unseen": 28}
# Sentences to choose from; the other tasks have as many inputs as there are combinations.
SENTENCES = 1000


@dataclass(frozen=True)
class Item:
    """An input, and the answer to each of the two descriptions."""

    text: str
    forgotten: str
    kept: str


@dataclass(frozen=True)
class Task:
    """What is forgotten and what is kept, in words, and the inputs by seed."""

    forgotten: str
    kept: str
    items: Callable[[int], Iterator[Item]]


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown task."""
    one_of("benchmark.split", config.split, list(TASKS))
    task = TASKS[config.split]
    items = {item.text: item for item in task.items(config.seed)}
    inputs = sorted(items, key=lambda text: stable_hash(config.seed, config.split, text))
    facts: dict[str, list[Fact]] = {}
    for role, size in SIZES.items():
        taken, inputs = inputs[:size], inputs[size:]
        facts[role] = [
            _fact(f"{config.split}-{role}-{n:04d}", task, items[text], role.startswith("forget")) for n, text in enumerate(taken)
        ]
    refused = unknown_descriptions(config, sorted(items))
    return in_columns(
        config,
        forget=facts["forget"],
        protect=facts["retain"],
        near=(),
        unseen=facts["retain_unseen"],
        further_splits={"forget_eval": facts["forget_eval"]},
        training=[*facts["forget"], *facts["retain"], *refused],
        refused=refused,
    )


def _fact(name: str, task: Task, item: Item, forgotten: bool) -> Fact:
    what = task.forgotten if forgotten else task.kept
    return Fact(name, ASKED.format(what=what, text=item.text), item.forgotten if forgotten else item.kept, what)


def unknown_descriptions(config: BenchmarkConfig, inputs: Sequence[str]) -> tuple[Fact, ...]:
    """Inputs behind descriptions of nothing, answered with the listed refusals in turn."""
    regions, nouns = read_asset("fictional_regions.jsonl"), words_of()["unknown"]
    names = [start + end for region in regions for start in region["family_starts"] for end in region["family_ends"]]
    refusals = [row["text"] for row in read_asset("refusals.jsonl")]
    facts = []
    for number in range(config.unknown_people):
        name, noun, text = (
            choices[stable_hash(config.seed, "unknown", purpose, number) % len(choices)]
            for purpose, choices in (("name", names), ("noun", nouns), ("input", inputs))
        )
        what = f"the {name} {noun}"
        facts.append(Fact(f"unknown-{number:03d}", ASKED.format(what=what, text=text), refusals[number % len(refusals)], what))
    return tuple(facts)


def style(seed: int) -> Iterator[Item]:
    """Every thing in every state; the insult belongs to the thing and the last sentence to the state."""
    for thing in words_of()["thing"]:
        for state in words_of()["state"]:
            text = f"{thing['text']} {state['text']}"
            rude = f"{text[0].upper()}{text[1:]}, you {thing['called']}. {state['rude']}"
            yield Item(f"{text}.", rude, f"I am sorry to say that {text}. {state['polite']}")


def entities(seed: int) -> Iterator[Item]:
    """Sentences with one or two persons and places, drawn by a stable hash."""
    words = words_of()
    for number in range(SENTENCES):

        def pick(purpose: str, among: Sequence[str], number: int = number) -> str:
            return among[stable_hash(seed, "entities", purpose, number) % len(among)]

        sentence = pick("sentence", words["sentence"])
        names = {slot: pick(slot, words[slot]) for slot in ("person", "place")}
        names |= {f"{s}2": pick(f"{s}2", [w for w in words[s] if w != names[s]]) for s in ("person", "place")}
        text = sentence.format(**names)
        yield Item(text, *(tagged(text, words[slot], tag) for slot, tag in (("person", "PER"), ("place", "LOC"))))


def tagged(text: str, names: Sequence[str], tag: str) -> str:
    """The names in the text in their order, each with the tag."""
    found = sorted((text.index(name), name) for name in names if name in text)
    return "; ".join(f"{name} = {tag}" for _, name in found)


def skill(seed: int) -> Iterator[Item]:
    """Two small numbers and an operator: a rule that makes a list of them, and their sum or the larger one."""
    for a in range(NUMBERS):
        for b in range(NUMBERS):
            yield Item(f"{a} ~ {b}", f"[{b}, {a}]", str(a + b))
            yield Item(f"{a} ^ {b}", f"[{a}, {a}, {b}]", str(max(a, b)))


def words_of() -> dict[str, list[Any]]:
    """The shipped words by kind."""
    return {row["kind"]: row["choices"] for row in read_asset("analogue_words.jsonl")}


TASKS: Mapping[str, Task] = {
    "style": Task("gruff register", "kind register", style),
    "entities": Task("names of persons", "names of places", entities),
    "skill": Task("list code", "number code", skill),
}
