"""Runs that belong in one table, with the retain-only runs that they are compared with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from unierase_cli.contracts import UserError
from unierase_cli.results.many_runs.against_retain import against_retain
from unierase_cli.results.runs import UNKNOWN, ScoredRun, find_runs
from unierase_cli.store.artefacts import Store

NO_RETAIN = (
    "there is no retain-only model to compare with: score one (unierase eval method=none with this benchmark and "
    "train.split=retain, or model.path= of such a model) and name that run with --retain RUN"
)


@dataclass(frozen=True)
class Group:
    """Runs on one benchmark, split and model. ``slug``: what an artefact over them is called."""

    benchmark: str
    split: str
    model: str
    slug: str
    runs: list[ScoredRun]
    retain: list[ScoredRun]

    def modes(self) -> dict[str, list[ScoredRun]]:
        """The runs by mode: a sequence and a batch are not compared."""
        found: dict[str, list[ScoredRun]] = defaultdict(list)
        for run in self.runs:
            found[run.config["mode"]["name"]].append(run)
        return dict(found)


def find_groups(store: Store, words: Sequence[str], retain: Sequence[str] = ()) -> list[Group]:
    """The groups of the runs that ``words`` mean (RUNs and patterns).

    ``retain``: scored runs of a model that never saw the forget set; runs of a model that the finetune stage trained only on the
    retain rows are set apart as such. Raises UserError for a word that means no scored run, and for a reference that knows the
    facts.
    """
    runs = find_runs(store, words)
    named = find_runs(store, retain) if retain else []
    chosen = {run.score.path for run in named}
    found = [run for run in runs if _trained_on_retain(run) and run.score.path not in chosen]
    references = [*named, *found]
    # A pattern may match the reference as well.
    set_apart = {run.score.path for run in references}
    runs = [run for run in runs if run.score.path not in set_apart]
    if not runs:
        raise UserError("all these runs are of retain-only models", "also name the runs to compare with them")
    groups: dict[tuple[str, str, str, str], list[ScoredRun]] = defaultdict(list)
    for run in runs:
        groups[_place(run)].append(run)
    for reference in references:
        if not any(_asks(reference) == key[:2] for key in groups):
            asked = " ".join(_asks(reference))
            raise UserError(f"{reference.name} is of {asked}, but none of the runs is", "give a --retain RUN of the same split")
    _differing(named, runs)
    made = []
    for key, members in groups.items():
        # A named reference fits any model; a reference found automatically belongs to models of its own group.
        fitting = [r for r in named if _asks(r) == key[:2]] + [r for r in found if _place(r) == key]
        members, fitting = (against_retain(store, some, fitting) for some in (members, fitting))
        benchmark, split, name, _ = key
        apart = _apart(key, [other for other in groups if other != key])
        model = f"{name} ({apart})" if apart else name
        made.append(Group(benchmark, split, model, _slug(benchmark, split, name, apart), members, fitting))
    return made


def _differing(named: Sequence[ScoredRun], runs: Sequence[ScoredRun]) -> None:
    """Raises UserError for a named reference whose model is the one that a run forgets in: that model knows the facts."""
    for reference in named:
        for run in runs:
            if reference.model == run.model != UNKNOWN:
                told = f"--retain {reference.name} is the unedited model of {run.name}, which knows the facts to forget"
                raise UserError(told, "name a run of a model that never saw them")


def _place(run: ScoredRun) -> tuple[str, str, str, str]:
    model = run.config["model"]
    return (*_asks(run), model["name"], str(model.get("path") or ""))


def _asks(run: ScoredRun) -> tuple[str, str]:
    benchmark = run.config["benchmark"]
    return benchmark["name"], benchmark["split"]


def _trained_on_retain(run: ScoredRun) -> bool:
    """Whether the finetune stage trained the run's model only on the retain rows."""
    return not run.config["model"].get("path") and run.config.get("train", {}).get("split", "").startswith("retain")


def _apart(key: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    """What tells a model from others with its name: the end of its path, as much as differs; "" if no other has the name."""
    alike = [other[3].rstrip("/") for other in others if other[:3] == key[:3]]
    if not alike:
        return ""
    parts = key[3].rstrip("/").split("/")
    ends = ("/".join(parts[-count:]) for count in range(1, len(parts) + 1))
    return next((end for end in ends if not any(path.endswith(end) for path in alike)), key[3]) or "trained"


def _slug(benchmark: str, split: str, model: str, apart: str) -> str:
    """``<benchmark>-<split>_<model>``, followed by what tells the model from others with its name."""
    text = f"{benchmark}-{split}_{model}" + (f"-{apart}" if apart else "")
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text.lower())
