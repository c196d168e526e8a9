"""Holds a finished run against the numbers recorded for its experiment: which metric left its band, and on which versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.rerun.recorded import Expected, Recorded, recorded
from unierase_cli.results.runs import ScoredRun
from unierase_cli.results.table import Table
from unierase_cli.store.artefact import Artefact

# Of these metrics n is a number of parts, not of questions.
AGGREGATES = "all."
VERSIONS = ("torch", "transformers")
# Words that say how something is computed, or ask for more numbers, and so leave the numbers as they are.
HARMLESS = ("run.", "eval.", "eval=", "launcher", "experiment=", "seed=")
# Words that say where a model, data or refusals are: other ones would change every number, but nobody knows whether they are.
GIVEN = ("model.path=", "benchmark.data_dir=", "token.targets=")


def check_run(run: ScoredRun, experiment: str, words: Sequence[str] | None = None) -> dict[str, Any]:
    """Every recorded number with its band and the run's; ``words``: what the run was asked with (None: its manifest's).

    Returns ``{"experiment", "run", "same", "numbers", "words", "given", "now", "recorded"}``, JSON-able; ``same``: no number left
    its band.

    ``numbers``: ``{"metric", "state", "recorded", "low", "high", "band", "now", "within", "file"}``, where ``within`` is None for a
    metric that the run lacks. ``words``: settings of the run that are not the experiment's. ``now``, ``recorded``: versions, and
    commit. Raises UserError for a run of another experiment, and for one that has none of the recorded numbers.
    """
    typed = [word.lstrip("+") for word in (run.score.manifest.get("overrides", []) if words is None else words)]
    if f"experiment={experiment}" not in typed:
        hint = f"unierase check experiment={experiment} makes such a run"
        raise UserError(f"{run.name} was not made with experiment={experiment}", hint)
    found = recorded(experiment, run.seed)
    numbers = [_number(run, number) for number in found.numbers]
    if all(number["within"] is None for number in numbers):
        raise UserError(
            f"{run.name} has none of the numbers that are recorded for experiment={experiment} with seed {run.seed}",
            f"make it with {' '.join(found.words)}",
        )
    others = [word for word in typed if word not in found.words and not word.startswith((*HARMLESS, *GIVEN))]
    return {
        "experiment": experiment,
        "run": run.name,
        "same": all(number["within"] is not False for number in numbers),
        "numbers": numbers,
        "words": others,
        "given": [word for word in typed if word not in found.words and word.startswith(GIVEN)],
        "now": versions_of(run.score),
        "recorded": _origin(found),
    }


def versions_of(artefact: Artefact) -> dict[str, str]:
    """Commit, python, torch, transformers and processor of an artefact, as far as its manifest records them."""
    environment, machine = artefact.manifest.get("environment", {}), artefact.manifest.get("machine", {})
    packages = environment.get("packages", {})
    found = {"commit": environment.get("git_commit"), "python": environment.get("python")}
    found |= {name: packages.get(name) for name in VERSIONS} | {"processor": machine.get("cpu"), "threads": machine.get("threads")}
    return {name: str(value) for name, value in found.items() if value is not None}


def check_tables(found: Mapping[str, Any]) -> list[Table]:
    """The numbers, those outside their bands first, and the versions of both sides."""
    order = {False: 0, True: 1, None: 2}
    body, strong = [], set()
    for place, row in enumerate(sorted(found["numbers"], key=lambda row: order[row["within"]])):
        now = "not measured" if row["now"] is None else f"{row['now']:.3f}"
        between = f"{row['low']:.3f} .. {row['high']:.3f}"
        said = {False: "outside", True: "", None: ""}[row["within"]]
        body.append((row["metric"], row["state"], f"{row['recorded']:.3f}", between, row["band"], now, said))
        strong |= {(place, 5), (place, 6)} if said else set()
    columns = ("metric", "model", "recorded", "band", "band from", "now", "")
    numeric, title = frozenset({"recorded", "band", "now"}), f"experiment={found['experiment']}"
    numbers = Table(title, columns, tuple(body), numeric, CAPTION, frozenset(strong))
    now, then = found["now"], found["recorded"]
    sides = tuple((name, then.get(name, "not recorded"), now.get(name, "not recorded")) for name in dict.fromkeys([*now, *then]))
    return [numbers, Table("Versions", ("", "recorded", "now"), sides)]


CAPTION = (
    "band: where one more seed falls (95 %), or of a number of one seed 0.05 or two questions to either side "
    "(unierase_cli/store/README.md)"
)


def sentence(found: Mapping[str, Any]) -> str:
    """What left its band, and how many numbers the run lacks."""
    outside = [f"{row['metric']} ({row['state']})" for row in found["numbers"] if row["within"] is False]
    measured = sum(row["within"] is not None for row in found["numbers"])
    if outside:
        told = f"{len(outside)} of {measured} numbers left their bands: {', '.join(outside)}"
    else:
        told = f"all {measured} numbers are in their bands" if measured > 1 else "the number is in its band"
    lacking = len(found["numbers"]) - measured
    return f"{told}; {lacking} of {len(found['numbers'])} recorded numbers were not measured" if lacking else told


def _number(run: ScoredRun, expected: Expected) -> dict[str, Any]:
    measure = run.number(expected.state, expected.metric)
    questions = 0 if expected.metric.startswith(AGGREGATES) else measure.n
    width, why = expected.width(questions)
    # All of them are shares.
    low, high = max(0.0, expected.value - width), min(1.0, expected.value + width)
    now = measure.value
    # Recorded numbers are rounded to three digits.
    within = None if now is None else bool(low - 5e-4 <= now <= high + 5e-4)
    about = {"metric": expected.metric, "state": expected.state, "recorded": expected.value}
    return {**about, "low": low, "high": high, "band": why, "now": now, "within": within, "file": expected.source}


def _origin(found: Recorded) -> dict[str, str]:
    """Commit and versions that the files name; where they differ, all of them."""
    told: dict[str, Sequence[str]] = {}
    for about in found.origin.values():
        versions = dict(part.split(" ", 1) for part in about.get("versions", "").split(", ") if " " in part)
        for name, value in {"commit": about.get("commit", "not recorded"), **versions}.items():
            told[name] = [*told.get(name, []), value]
    return {name: "; ".join(dict.fromkeys(values)) for name, values in told.items()}
