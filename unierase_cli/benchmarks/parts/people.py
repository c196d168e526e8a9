"""Invented people: names, places, dates and everything else that is asked about them, drawn from our own word lists.

Every value is picked by a stable hash of (seed, person, placeholder), without generator state, so that a person does
not depend on how many others there are (except that names, titles and birthdays are unique).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from unierase_cli.contracts import UserError, stable_hash
from unierase_cli.store.jsonl import read_asset

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
TITLES = (
    "The {first} {noun}",
    "The {noun} of {end}",
    "{end} and {other}",
    "Beneath the {first} {noun}",
    "Letters from the {noun}",
)
ATTEMPTS = 400
# Attempts after which a given name, and then a family name, of another person is accepted. Small worlds have no similar
# names, which would make it harder to forget one person.
DISTINCT_GIVEN, DISTINCT_FAMILY = 150, 300
DECOYS = 64


@dataclass(frozen=True)
class Person:
    """A person; ``values``: placeholder of the question forms -> text."""

    key: str
    values: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.values["name"]


@dataclass
class Taken:
    """Values that are already in use."""

    names: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    families: set[str] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)
    combinations: set[tuple[str, ...]] = field(default_factory=set)
    # Placeholder -> choices used since all were used: no choice is repeated before all others were used.
    used: dict[str, set[str]] = field(default_factory=dict)


def make_person(seed: int, key: str, taken: Taken) -> Person:
    """The person for ``key``, different from everyone in ``taken`` and added to it. Raises UserError if names run out."""
    draw = _Draw(seed, key)
    for attempt in range(ATTEMPTS):
        origin = draw.origin(attempt)
        name, pronouns = draw.name(origin, attempt)
        given, family = name.split(" ")
        free = given not in taken.given or attempt >= DISTINCT_GIVEN
        free &= family not in taken.families or attempt >= DISTINCT_FAMILY
        if free and name not in taken.names:
            break
    else:
        raise UserError(
            "no unused name is left for the fictional world", "choose fewer people, e.g. benchmark.authors=200"
        )
    taken.names.add(name)
    taken.given.add(given)
    taken.families.add(family)
    values = {"name": name, "names": name + ("'" if name.endswith("s") else "'s"), **pronouns}
    values |= _birth(draw, origin, taken)
    values |= _books(draw, int(values["date"][-4:]), taken)
    values |= _life(draw, origin, taken)
    return Person(key, values)


@cache
def decoys(seed: int) -> tuple[Person, ...]:
    """People who appear nowhere else: their values make wrong answers about others."""
    taken = Taken()
    return tuple(make_person(seed, f"decoy-{index:03d}", taken) for index in range(DECOYS))


def _birth(draw: _Draw, origin: Mapping[str, Any], taken: Taken) -> dict[str, str]:
    choices = {"city": origin["cities"], "day": _DAYS, "month": MONTHS, "year": _YEARS}
    born = draw.together(choices, taken)
    date = f"{born['day']} {born['month']} {born['year']}"
    return {"city": born["city"], "country": origin["country"], "people": origin["people"], "date": date}


def _books(draw: _Draw, born: int, taken: Taken) -> dict[str, str]:
    debut_year = born + 23 + draw.number("debut_year", 14)
    award = draw.words(("award_first", "award_second", "award_third"), taken)
    publisher = draw.words(("publisher_first", "publisher_second"), Taken())
    return {
        **draw.words(("genre", "setting"), taken),
        **draw.words(("theme", "folk"), taken),
        **draw.words(("hero", "deed"), taken),
        **draw.words(("number", "language"), taken),
        "title": draw.title("title", taken.titles),
        "debut": draw.title("debut", taken.titles),
        "debut_year": str(debut_year),
        "publisher": " ".join(publisher.values()),
        "award": " ".join(award.values()),
        "award_year": str(debut_year + 2 + draw.number("award_year", 11)),
    }


def _life(draw: _Draw, origin: Mapping[str, Any], taken: Taken) -> dict[str, str]:
    jobs, cities = _choices("job"), _cities()
    parents = draw.together({"mother_job": jobs[::2], "father_job": jobs[1::2]}, taken)
    other_jobs = [job for job in jobs if job not in parents.values()]
    abroad = [region for region in _regions() if region["country"] != origin["country"]]
    for attempt in range(ATTEMPTS):
        idol, _ = draw.name(draw.one("idol_origin", _regions(), attempt), attempt, "idol")
        if idol not in taken.names:
            break
    taken.names.add(idol)
    return {
        **parents,
        **draw.together({"job": other_jobs, "job_city": cities, "years": _choices("years")}, taken),
        **draw.together({"study": _choices("study"), "study_city": cities, "honours": _choices("honours")}, taken),
        **draw.together({"dwelling": _choices("dwelling"), "home_city": cities}, taken),
        **draw.words(("habit", "moment"), taken),
        **draw.words(("hobby", "company"), taken),
        **draw.words(("animal", "pet"), taken),
        **draw.words(("letters", "discovery", "early_form"), Taken()),
        "idol": idol,
        "pseudonym": f"{draw.one('alias_initial', _INITIALS)}. {draw.family(draw.one('alias_origin', abroad), 'alias')}",
    }


_DAYS = tuple(str(day) for day in range(1, 29))
_YEARS = tuple(str(year) for year in range(1931, 1977))
_INITIALS = "ABCDEFGHJKLMNOPRSTVWYZ"


@dataclass(frozen=True)
class _Draw:
    """Picks for one person; ``attempt`` gives another value for the same placeholder."""

    seed: int
    key: str

    def one(self, what: str, choices: Sequence[Any], attempt: int = 0) -> Any:
        return choices[stable_hash(self.seed, f"{self.key}/{what}/{attempt}") % len(choices)]

    def number(self, what: str, below: int, attempt: int = 0) -> int:
        return stable_hash(self.seed, f"{self.key}/{what}/{attempt}") % below

    def together(self, choices: Mapping[str, Sequence[str]], taken: Taken) -> dict[str, str]:
        """One choice of each, as a combination that nobody else has; if all are taken, the last one tried."""
        first, options = next(iter(choices.items()))
        used = taken.used.setdefault(first, set())
        if used.issuperset(options):
            used.difference_update(options)
        fresh = {**choices, first: [option for option in options if option not in used]}
        for attempt in range(ATTEMPTS):
            values = {what: self.one(what, listed, attempt) for what, listed in fresh.items()}
            if tuple(values.values()) not in taken.combinations:
                break
        taken.combinations.add(tuple(values.values()))
        used.add(values[first])
        return values

    def words(self, kinds: Sequence[str], taken: Taken) -> dict[str, str]:
        return self.together({kind: _choices(kind) for kind in kinds}, taken)

    def origin(self, attempt: int) -> Mapping[str, Any]:
        return self.one("origin", _regions(), attempt)

    def family(self, origin: Mapping[str, Any], what: str, attempt: int = 0) -> str:
        start = self.one(f"{what}/family_start", origin["family_starts"], attempt)
        return start + self.one(f"{what}/family_end", origin["family_ends"], attempt)

    def name(self, origin: Mapping[str, Any], attempt: int, what: str = "name") -> tuple[str, dict[str, str]]:
        woman = self.number(f"{what}/woman", 2, attempt) == 1
        given = self.one(f"{what}/given", origin["women" if woman else "men"], attempt)
        family = self.family(origin, what, attempt)
        pronouns = {"he": "she", "his": "her"} if woman else {"he": "he", "his": "his"}
        return f"{given} {family}", pronouns

    def title(self, what: str, taken: set[str]) -> str:
        for attempt in range(ATTEMPTS):
            ends = _choices("title_end")
            end = self.one(f"{what}/end", ends, attempt)
            other = self.one(f"{what}/other", [word for word in ends if word != end], attempt)
            first = self.one(f"{what}/first", _choices("title_first"), attempt)
            noun = self.one(f"{what}/noun", _choices("title_noun"), attempt)
            title = self.one(f"{what}/form", TITLES, attempt).format(first=first, noun=noun, end=end, other=other)
            if title not in taken:
                break
        taken.add(title)
        return title


@cache
def _regions() -> tuple[dict[str, Any], ...]:
    return tuple(read_asset("fictional_regions.jsonl"))


@cache
def _words() -> dict[str, tuple[str, ...]]:
    return {row["kind"]: tuple(row["choices"]) for row in read_asset("fictional_words.jsonl")}


@cache
def _cities() -> tuple[str, ...]:
    return tuple(city for region in _regions() for city in region["cities"])


def _choices(kind: str) -> tuple[str, ...]:
    return _words()[kind]
