"""What an attack is, what it works with, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, cast

from unierase_cli.config.checks import complete, positive
from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.contracts import Fact, Reporter, SilentReporter, UserError
from unierase_cli.plugins import Plugins

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.representation.entities import Line

# Code outside an attack's file that decides what its rows say.
SHARED = (
    "unierase_cli.audit",
    "unierase_cli.representation",
    "unierase_cli.models.direction",
    "unierase_cli.models.input_norms",
    "unierase_cli.models.interpolation",
    "unierase_cli.models.quantise",
    "unierase_cli.models.weight_changes",
    "unierase_cli.training",
)
ATTACKS = Plugins("unierase_cli.audit.attacks", "unierase.attacks", "--attacks ", "attack", shared=SHARED)
# No attack: the question as it is, which every attack is compared with. It is always asked.
PLAIN = "plain"
# What an attacker needs, in rising order, and the letter that the specification gives it.
CLASSES = {"prompts": "A", "weights": "B", "relearning": "C", "embeddings": "D", "inside": "E"}
# Each holds the attacks of those before it.
PRESETS = ("quick", "standard", "thorough")
# In place of a preset: an attack that is made only when it is named.
BY_NAME = "by name"
# What ``NEEDS`` may name.
TOKEN, PARAPHRASES, CONTROL, CEILING = "token", "paraphrases", "control", "ceiling"
# Scores in [0, 1] that rows may bring: whether an answer is right by the attack's own rule; what guessing gives of that; how
# probable the true answer is.
RIGHT, CHANCE, PROBABILITY = "right", "chance", "probability"
# Settings with these names are above 0 in every attack: counts, then rates.
COUNTS = frozenset(
    {
        "batch", "batch_tokens", "epochs", "every", "examples", "least", "new_tokens", "others", "samples", "seeds", "sequences",
        "steps", "tokens", "lr", "lora_lr", "rate",
    }
)  # fmt: skip
# Least and largest value of others, and one to type.
LIMITS: Mapping[str, tuple[float, float, float]] = {
    "facts": (0, inf, 100), "tested": (0, inf, 2), "warmup": (0, inf, 24), "folds": (2, inf, 5), "percent": (0, 100, 10),
    "shares": (0, 1, 0.1),
}  # fmt: skip
# Texts that are not empty.
TEXTS = frozenset({"start"})
FORGET, RETAIN, TRAINED = "forget", "retain", "trained"


@dataclass(frozen=True)
class Case:
    """One setting of an attack: its name and values. ``token``: it means something for a model with an unlearning token alone.

    ``without_token``: the case (or PLAIN) whose rows a model without a token would give; there it is not run.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    token: bool = False
    without_token: str = PLAIN


@dataclass(frozen=True)
class Row:
    """What came of one question. ``fact``: its id; ``split``: FORGET, RETAIN where an attack says what it did to the rest, or
    TRAINED of what it trained on itself.

    ``reference``: the true answer, or what of it was not ``given``. ``sample``: its number where a question is asked several times.
    ``at``: when, in an attack that looks several times ("after 50 steps"); each is a setting of its own, the first row's the
    case's headline. ``scores``: those that need the model, in [0, 1] but for losses; what a text is worth is computed later.
    """

    fact: str
    question: str
    reference: str
    text: str
    given: str = ""
    sample: int = 0
    split: str = FORGET
    at: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A model under attack. ``facts``: what it is asked; ``kept``: questions whose answers say what an attack did to the rest.

    ``material``: what an attacker may use, facts of retained groups, none of them among ``kept`` where there are others.
    ``forgotten``: the whole forget set. ``control``, ``ceiling``: load the model that never had the facts, and the unedited one,
    where ``NEEDS`` names them. ``entities``: the lines of ``audit.entities``. ``never_trained``: facts that no model has seen.
    """

    loaded: LoadedModel
    facts: Sequence[Fact]
    kept: Sequence[Fact]
    material: Sequence[Fact]
    forgotten: Sequence[Fact]
    protocol: ProtocolConfig
    seed: int = 0
    batch_size: int = 0
    reporter: Reporter = field(default_factory=SilentReporter)
    control: Callable[[], LoadedModel] | None = None
    ceiling: Callable[[], LoadedModel] | None = None
    entities: Sequence[Line] = ()
    never_trained: Sequence[Fact] = ()

    @property
    def token_ids(self) -> list[int]:
        """The model's unlearning tokens; none of a model without."""
        return list(self.loaded.unlearn_ids)


class Attack(Protocol):
    """A module of ``attacks``, or an object behind an entry point of the group ``unierase.attacks``.

    ``CLASS``: one of CLASSES. ``PRESET``: the first of PRESETS that it belongs to, or BY_NAME. ``VERSION``. ``SETTINGS``: what
    ``audit.settings.NAME.KEY=VALUE`` can set, with defaults. ``cases(settings)``: its settings, the first of them the headline,
    which is fixed before anything is known; ``run(target, case, settings)``: the rows of one.

    Optional: ``NEEDS``: of TOKEN, PARAPHRASES, CONTROL, CEILING and of its FILES, without which it is left out. ``FILES``: settings
    that name a file, of which the content counts and not the path; "" is no file. ``ENTITIES = True``: its rows depend on
    ``audit.entities``. ``PACKAGES``: Python packages without which some of its
    cases give no rows; once one is installed the attack is made again. ``SCORE``: the score that its
    headline is of, where that is not the recall of a text; rows bring it in ``scores``. ``RELATIVE = True``: that score says by
    itself how much is left (0: as in the control, 1: as in the unedited model), so only the unlearned model is looked at.
    ``BEST_OF``: numbers of samples whose best counts too. ``BENIGN = True``: nobody gives an answer away. ``WEAK = True``: what it
    brings back is weak evidence. ``ASKS = False``: its rows are about something other than facts, so that no number of an audit is
    made of them; they have a table of their own.
    """

    CLASS: str
    PRESET: str
    VERSION: int
    SETTINGS: Mapping[str, Any]

    def cases(self, settings: Mapping[str, Any]) -> Sequence[Case]: ...

    def run(self, target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]: ...


def load_attack(name: str) -> Attack:
    """The attack of that name. Raises UserError with near matches when there is none."""
    return cast(Attack, ATTACKS.load(name))


def attack_names() -> list[str]:
    """Every attack that can be found, by name."""
    return [name for name in ATTACKS.names() if name != PLAIN]


def chosen_attacks(words: Sequence[str]) -> list[str]:
    """The attacks that presets and names mean, each once: by class, then by name. Raises UserError for a word that means none."""
    found: set[str] = set()
    for word in words:
        if word in PRESETS:
            reach = PRESETS[: PRESETS.index(word) + 1]
            found |= {name for name in attack_names() if ATTACKS.says(name, "PRESET", PRESETS[-1]) in reach}
        elif word == PLAIN:
            raise UserError(f"{PLAIN} is no attack: it is asked in every audit", f"choose one of: {', '.join(PRESETS)}")
        else:
            ATTACKS.says(word, "CLASS")
            found.add(word)
    if not found:
        raise UserError("no attack is named", f"--attacks {PRESETS[0]}, or a name that `unierase ls attacks` lists")
    order = list(CLASSES)
    return sorted(found, key=lambda name: (order.index(ATTACKS.says(name, "CLASS", order[0])), name))


def attack_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """An attack's settings: its defaults with what is given in their place. Raises UserError for an unknown or unfit one."""
    where = f"audit.settings.{name}"
    found = complete(ATTACKS.says(name, "SETTINGS", {}), given, where)
    for key, setting in found.items():
        for value in setting if isinstance(setting, list | tuple) else [setting]:
            _check(key, f"{where}.{key}", value, listed=isinstance(setting, list | tuple))
    return found


def _check(key: str, where: str, value: Any, *, listed: bool) -> None:
    """Refuse a value that no attack's setting of this name can have."""
    if key in COUNTS and isinstance(value, int | float):
        positive(where, value)
    elif key in LIMITS and isinstance(value, int | float):
        least, largest, example = LIMITS[key]
        if not least <= value <= largest:
            told = f"at least {least:g}" if largest == inf else f"from {least:g} to {largest:g}"
            shown = f"[{example:g}]" if listed else f"{example:g}"
            raise UserError(f"{where}={value} must be {told}", f"type for example {where}={shown}")
    elif key in TEXTS and isinstance(value, str) and not value.strip():
        raise UserError(f"{where} is empty", "name a text, or leave the setting out for its default")


def asks(name: str) -> bool:
    """Whether an attack's rows are about facts (``ASKS``)."""
    return bool(ATTACKS.says(name, "ASKS", True))


def lacking(name: str, available: Collection[str]) -> list[str]:
    """What an attack needs (``NEEDS``) and what there is not."""
    return [need for need in ATTACKS.says(name, "NEEDS", ()) if need not in available]


def group_of(fact: Fact) -> str:
    """What facts share that give each other away: their group (an author), of a fact without one itself."""
    return fact.group or fact.id
