"""Finds finished runs by RUN words and patterns, with their scores and costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Measure, UserError
from unierase_cli.metrics.judges.kinds import MISSING
from unierase_cli.metrics.scores import Precise, Scores, Trajectory
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import read_as

SCORE, TRAJECTORY = "score", "trajectory"
METRICS, STEPS, PRECISE = "metrics.json", "steps.json", "precise.json"
AGAIN = "unierase eval --force makes it again"
# Whose model nothing says.
UNKNOWN = "unknown"
WILD = frozenset("*?[")
# What scoring reads besides answers, by its fingerprint in the manifest.
SCORED_WITH = {
    "refusals": "listed refusals (token.targets)", "retain_reference": "retain references (eval.retain_reference)",
    "judge_encoder": "encoders (eval.encoder)", "judge_nli": "classifiers (eval.nli)",
    "judge_gibberish": "gibberish detectors (eval.gibberish)", "judge_refusal_encoder": "encoders (eval.refusal_encoder)",
}  # fmt: skip
# Stages whose time counts towards the edit.
PREPARING = ("train_token", "moments")


@dataclass(frozen=True)
class ScoredRun:
    """A score artefact: its scores, its recorded configuration, its costs by column and its unedited model.

    ``model`` identifies the unedited model: the key of the finetune artefact, or the fingerprint of the model's files. ``steps``:
    of a run with several requests whose steps were evaluated.
    """

    score: Artefact
    scores: Scores
    costs: dict[str, Measure]
    model: str
    steps: Trajectory | None = None

    @property
    def config(self) -> dict[str, Any]:
        return self.score.config

    @property
    def seed(self) -> int:
        return self.config["run"]["seed"]

    @property
    def name(self) -> str:
        return self.score.full_name

    @property
    def questions(self) -> int:
        """Number of questions asked, over all splits and variants."""
        return sum(map(len, self.scores.facts.values()))

    def number(self, state: str, column: str) -> Measure:
        """A column of ``metrics.json`` for ``base`` or ``edited``."""
        lacking = Measure(
            unavailable="it was not scored: the benchmark lacks it, eval.splits leaves it out, or an older version made the score "
            "(`unierase eval` with that run's words scores its recorded answers again)"
        )
        return self.scores.states.get(state, {}).get(column, lacking)


def find_runs(store: Store, words: Sequence[str]) -> list[ScoredRun]:
    """The runs that the words mean, each once; raises UserError for a word that means no scored run."""
    store = Store(store.root, once=True)
    everything = store.list()
    found: dict[Path, Artefact] = {}
    for word in words:
        for score in _scores(store, word, everything):
            found.setdefault(score.path.resolve(), score)
    return [read_run(store, score) for score in found.values()]


def read_scores(score: Artefact) -> Scores:
    """Read ``metrics.json`` of a score artefact; raises UserError if it is damaged."""
    return read_as(score.file(METRICS), Scores, "unierase score --force makes it again")


def read_steps(made: Artefact) -> Trajectory:
    """Read ``steps.json`` of a trajectory; raises UserError if it is damaged."""
    return read_as(made.file(STEPS), Trajectory, AGAIN)


def read_precise(made: Artefact) -> Precise:
    """Read ``precise.json`` of facts erased one by one; raises UserError if it is damaged."""
    return read_as(made.file(PRECISE), Precise, AGAIN)


def read_run(store: Store, score: Artefact) -> ScoredRun:
    """A score artefact with everything that a comparison needs; raises UserError if its metrics cannot be read."""
    base = source_of(store, score, "base")
    trained = (base.manifest.get("inputs", {}) if base else {}).get("finetune", {}).get("key")
    prints = (base.manifest.get("fingerprints", {}) if base else {}).items()
    files = ",".join(f"{name}={value}" for name, value in sorted(prints) if name != "rows")
    return ScoredRun(score, read_scores(score), _costs(store, score), trained or files or UNKNOWN, _steps(store, score))


def _steps(store: Store, score: Artefact) -> Trajectory | None:
    """The newest trajectory that ends with these scores."""
    for made in reversed(store.list(TRAJECTORY)):
        if made.manifest.get("inputs", {}).get(SCORE, {}).get("key") == score.key:
            return read_steps(made)
    return None


def _scores(store: Store, word: str, everything: Sequence[Artefact]) -> list[Artefact]:
    if word == "latest":
        scores = [a for a in everything if a.stage == SCORE]
        if not scores:
            raise UserError(f"no run in {store.root} has a score", "`unierase eval` makes one")
        return scores[-1:]
    if (several := _versions(word, everything)) or WILD & set(word):
        return _scored(word, several or _matching(word, everything), store, everything)
    try:
        artefact = store.resolve(word, SCORE)
    except UserError:
        artefact = store.resolve(word)
    return _scored(word, [artefact], store, everything)


def _versions(word: str, everything: Iterable[Artefact]) -> list[Artefact]:
    """All versions of ``slug``, of ``stage/slug``, or of a folder that a shell expanded from a pattern."""
    folder = Path(word).resolve()
    name = word.rstrip("/")
    return [
        a for a in everything
        if name in (a.path.parent.name, f"{a.stage}/{a.path.parent.name}") or a.path.parent.resolve() == folder
    ]  # fmt: skip


def _matching(pattern: str, everything: Iterable[Artefact]) -> list[Artefact]:
    found = []
    for artefact in everything:
        slug = artefact.path.parent.name
        names = (artefact.name, artefact.full_name, "/".join(artefact.path.parts[-3:]), slug, artefact.path.as_posix())
        if any(fnmatchcase(name, pattern) for name in names):
            found.append(artefact)
    if not found:
        raise UserError(f"no run matches {pattern}", "`unierase ls score` lists all scores")
    return found


def _scored(word: str, found: Sequence[Artefact], store: Store, everything: Sequence[Artefact]) -> list[Artefact]:
    """The scores among the found artefacts, else the scores made from them; raises UserError if there are none."""
    if scores := [a for a in found if a.stage == SCORE]:
        return scores
    scores = [score for artefact in found if (score := _score_of(store, artefact, everything)) is not None]
    if scores:
        return scores
    what = found[0].full_name if len(found) == 1 else f"what {word} matches ({len(found)} artefacts)"
    raise UserError(f"{what} has no score", "`unierase eval` with that run's words makes one; `unierase ls score` lists all scores")


def _score_of(store: Store, artefact: Artefact, everything: Sequence[Artefact]) -> Artefact | None:
    """The score that a report shows, or the newest score of an erase or observe artefact's edited model."""
    if artefact.stage in ("report", "trajectory"):
        return source_of(store, artefact, "score")
    for score in reversed([a for a in everything if a.stage == SCORE]):
        observed = source_of(store, score, "edited")
        if observed is None:
            continue
        erased = observed.manifest.get("inputs", {}).get("erase", {})
        sources = {"observe": (observed.key, observed.path), "erase": (erased.get("key"), Path(erased.get("path", "")))}
        key, path = sources.get(artefact.stage, (None, Path()))
        # Compare only the end of the path, because the outputs folder may have been moved.
        if key == artefact.key and path.parts[-2:] == artefact.path.parts[-2:]:
            return score
    return None


def source_of(store: Store, artefact: Artefact, name: str) -> Artefact | None:
    """The artefact's input of that name, or None if it is gone."""
    return store.input_of(artefact, name)


def _costs(store: Store, score: Artefact) -> dict[str, Measure]:
    """Seconds, CPU seconds, peak memory in GiB and changed share in percent, from the manifests.

    Seconds include the token's training and the second moments, which other seeds or splits do not share.
    """
    observed = source_of(store, score, "edited")
    erase = source_of(store, observed, "erase") if observed else None
    if erase is None:
        gone = Measure(unavailable="its erase artefact is gone")
        return dict.fromkeys(("seconds", "cpu", "memory", "changed"), gone)
    made = {name: source_of(store, erase, name) for name in PREPARING if name in erase.manifest.get("inputs", {})}
    if lost := [name for name, artefact in made.items() if artefact is None]:
        seconds = cpu = Measure(unavailable=f"its {lost[0]} artefact is gone")
    else:
        there = [erase, *(artefact for artefact in made.values() if artefact is not None)]
        seconds, cpu = _seconds(there), _cpu(there)
    share = erase.summary.get("changed_share")
    changed = Measure(unavailable="the erase artefact does not record it")
    if isinstance(share, int | float) and not isinstance(share, bool):
        changed = Measure(value=100 * share)
    return {"seconds": seconds, "cpu": cpu, "memory": _memory(erase), "changed": changed}


def _cpu(made: Sequence[Artefact]) -> Measure:
    whole = _seconds(made)
    if whole.value is None:
        return whole
    used = [a.manifest.get("cpu_seconds") for a in made]
    lacking = Measure(unavailable="the version that made the run did not record CPU seconds")
    return lacking if None in used else Measure(value=sum(value for value in used if value is not None))


def _seconds(made: Sequence[Artefact]) -> Measure:
    if any(a.manifest.get("resumed") for a in made):
        return Measure(unavailable="it was interrupted and resumed; only the last part was timed")
    return Measure(value=sum(a.manifest.get("wall_seconds", 0.0) for a in made))


def _memory(erase: Artefact) -> Measure:
    """Peak memory of the accelerator if there was one, else of the process."""
    key = "peak_gpu_memory_mib" if on_accelerator(erase) else "peak_memory_mib"
    recorded = [erase.manifest, *erase.manifest.get("phases", {}).values()]
    peaks = [found[key] for found in recorded if found.get(key) is not None]
    return Measure(value=max(peaks) / 1024) if peaks else Measure(unavailable="the erase artefact does not record it")


def on_accelerator(erase: Artefact) -> bool:
    """Whether the manifest records accelerator memory above 0."""
    return any((p.get("peak_gpu_memory_mib") or 0) > 0 for p in erase.manifest.get("phases", {}).values())


def unlike_scored(runs: Iterable[ScoredRun]) -> list[str]:
    """Remarks on runs that were scored with different lists, references or judges: part of their numbers is not comparable."""
    fingerprints = [run.score.manifest.get("fingerprints", {}) for run in runs]
    found = {word: {one[key] for one in fingerprints if key in one} - {*MISSING} for key, word in SCORED_WITH.items()}
    return [
        f"scored with {len(values)} different {word}: numbers that depend on them are not comparable; `unierase score` computes "
        "them again"
        for word, values in found.items()
        if len(values) > 1
    ]
