"""Finds or makes artefacts: their inputs, their reuse, and their manifests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.models.heap import give_back
from unierase_cli.pipeline.machine import machine
from unierase_cli.pipeline.model_states import check_prompt
from unierase_cli.pipeline.passed_over import flat, passed_over, with_other_code
from unierase_cli.pipeline.recorder import Recorder, Track
from unierase_cli.pipeline.several_processes import announced
from unierase_cli.pipeline.stage import Request, StageContext, load_stage, slug
from unierase_cli.pipeline.stage_table import STAGES
from unierase_cli.pipeline.study import Study, study_of
from unierase_cli.plugins import CODE
from unierase_cli.store.artefact import LOG, Artefact
from unierase_cli.store.artefacts import Draft, Store
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.manifest import environment
from unierase_cli.store.refusals import as_user_error


@dataclass(frozen=True)
class PlanRow:
    """One artefact that a command would use or make; ``state``: done, missing or interrupted."""

    stage: str
    slug: str
    key: str
    state: str
    path: str | None


class Pipeline:
    """Finds or makes the artefacts of one experiment."""

    def __init__(
        self,
        experiment: Experiment,
        reporter: Reporter,
        command: Sequence[str] = (),
        overrides: Sequence[str] = (),
        like: Study | None = None,
        track: Track | None = None,
    ) -> None:
        """``like``: a study whose benchmark is reused if this experiment has the same one. ``track``: gets trainings' numbers."""
        self.track = track
        self.experiment = experiment
        self.study = study_of(experiment) if like is None else like.changed(experiment)
        self.reporter = reporter
        self.command = list(command)
        self.overrides = list(overrides)
        self.store = Store(experiment.run.outputs)
        self._keys: dict[Request, str] = {}
        self._hashed: dict[Request, dict[str, Any]] = {}
        self._made: dict[Request, Artefact] = {}
        self._fingerprints: dict[Request, dict[str, str]] = {}
        self._notes: dict[Request, list[str]] = {}
        self._shown: dict[Request, Mapping[str, Artefact]] = {}
        self._told: set[str] = set()

    def key(self, request: Request) -> str:
        """Hash of the config slice, the input keys, the fingerprints of data and code, and the stage's version."""
        if request not in self._keys:
            stage, options, study = load_stage(request.stage), request.values, self.study.apart()
            needs = stage.needs(study, options)
            self._fingerprints[request] = stage.fingerprints(study, options)
            self._notes[request] = _notes(study)
            self._tell(self._notes[request])
            self._hashed[request] = {
                "stage": request.stage,
                "version": stage.VERSION,
                "options": options,
                "reads": stage.reads(study, options),
                "inputs": {name: self.key(need) for name, need in needs.items()},
                "fingerprints": self._fingerprints[request],
            }
            also = getattr(stage, "also", None)
            self._shown[request] = also(self.store, self._hashed[request]["inputs"]) if also else {}
            if self._shown[request]:
                self._hashed[request]["also"] = {name: artefact.key for name, artefact in self._shown[request].items()}
            self._keys[request] = hash_json(self._hashed[request])
        return self._keys[request]

    def _tell(self, warnings: Sequence[str]) -> None:
        """Warn the user before any stage runs, once per text however many stages it concerns."""
        for warning in warnings:
            if warning not in self._told:
                self._told.add(warning)
                self.reporter.warn(warning)

    def plan(self, stage: str, **options: str) -> list[PlanRow]:
        """Every artefact needed to make ``stage``, inputs first; makes nothing and does not import torch."""
        rows: dict[str, PlanRow] = {}
        self._plan(Request(stage, tuple(sorted(options.items()))), rows)
        return list(rows.values())

    def check(self, stage: str, **options: str) -> None:
        """Call the check of every stage that is still to be made, before any of them runs; raises UserError."""
        missing = [row for row in self.plan(stage, **options) if row.state != "done"]
        for name in dict.fromkeys(row.stage.split()[0] for row in missing):
            asked = getattr(load_stage(name), "check", None)
            if asked is not None:
                asked(self.study)
        # The first stage to load the model would otherwise find this out.
        if missing:
            check_prompt(self.experiment, self.reporter)

    def _plan(self, request: Request, rows: dict[str, PlanRow]) -> None:
        # What a finished artefact was made from, when it was taken as it is, is of no interest.
        needs = {} if request in self._made else load_stage(request.stage).needs(self.study, request.values)
        for need in needs.values():
            self._plan(need, rows)
        key, name = self.key(request), slug(self.experiment, request.stage, request.values)
        done = self.store.find(request.stage, key)
        left = None if done else self.store.interrupted(request.stage, name, key)
        path = str(done.path) if done else str(left) if left else None
        state = "done" if done else "interrupted" if left else "missing"
        rows.setdefault(key, PlanRow(str(request), name, key, state, path))

    def make(self, stage: str, **options: str) -> Artefact:
        """The artefact of ``stage``: reused if a complete one has its key, else made after its inputs.

        ``run.force`` makes a new version of this stage; ``run.chain=false`` refuses to make its inputs.
        """
        request = Request(stage, tuple(sorted(options.items())))
        return self._make(request, force=self.experiment.run.force, wanted=True)

    def take(self, request: Request, artefact: Artefact) -> None:
        """Let a request mean this artefact: that of a finished run, whatever key the request would have by now."""
        self._keys[request], self._made[request] = artefact.key, artefact

    def remake(self, request: Request, inputs: Mapping[str, Artefact]) -> Artefact:
        """Make a new version of one artefact from these inputs, whatever exists already."""
        key, name = self.key(request), slug(self.experiment, request.stage, request.values)
        with self.store.lock(request.stage, name, key, self.reporter.note):
            return self._run(request, key, name, dict(inputs), force=True)

    def fingerprints(self, request: Request) -> dict[str, str]:
        """Fingerprints by name of the data and models outside the configuration that an artefact depends on."""
        self.key(request)
        return self._fingerprints[request]

    def _make(self, request: Request, *, force: bool, wanted: bool) -> Artefact:
        if request in self._made:
            return self._made[request]
        key, name = self.key(request), slug(self.experiment, request.stage, request.values)
        done = None if force else self.store.find(request.stage, key)
        if done is None and not wanted and not self.experiment.run.chain:
            command = STAGES[request.stage].command
            raise UserError(
                f"{request} has not been made yet", f"run `unierase {command}` first, or leave out --no-chain"
            )
        if done is None:
            needs = load_stage(request.stage).needs(self.study, request.values)
            inputs = {n: self._make(need, force=False, wanted=False) for n, need in needs.items()}
            with self.store.lock(request.stage, name, key, self.reporter.note):
                # Another process may have finished it while this one waited for the lock.
                done = None if force else self.store.find(request.stage, key)
                if done is None:
                    done = self._made[request] = self._run(request, key, name, inputs, force)
                    return done
        done.check()
        self.reporter.note(f"{request}: reusing {done.path}")
        self._made[request] = done
        return done

    def _run(self, request: Request, key: str, name: str, inputs: dict[str, Artefact], force: bool) -> Artefact:
        """Make a version; an error of the machine becomes one line, and a partial version is kept for resuming."""
        hashed = self._hashed[request]
        code = {name: found for name, found in hashed["fingerprints"].items() if name.startswith(CODE)}
        settings = flat(hashed["reads"]) | code
        for text in passed_over(self.store, request.stage, name, settings):
            self.reporter.note(text)
        for text in with_other_code(self.store, request.stage, name, hashed):
            self.reporter.note(text)
        draft: Draft | None = None
        try:
            draft = self.store.draft(request.stage, name, key, fresh=force, settings=settings)
            return self._fill(draft, request, key, name, inputs)
        except UserError:
            if draft is not None:
                draft.discard_if_empty()
            raise
        except Exception as error:
            told = as_user_error(error, str(request))
            if told is None:
                raise
            raise told from error

    def _fill(self, draft: Draft, request: Request, key: str, name: str, inputs: dict[str, Artefact]) -> Artefact:
        going_on = " (resuming an interrupted run)" if draft.resuming else ""
        self.reporter.note(f"{request}: making {draft.path}{going_on}")
        # Otherwise memory freed by the previous stage would stay allocated during this one.
        give_back()
        recorder = Recorder(self.reporter, draft.path / LOG, self.track, request.stage)
        started, clock, used = time.time(), time.monotonic(), time.process_time()
        for warning in self._notes[request]:
            recorder.keep(warning)
        shown = self._shown[request]
        context = StageContext(self.study, draft.path, {**inputs, **shown}, recorder, request.values, draft.resuming)
        with announced(request.stage, context):
            summary = load_stage(request.stage).run(context)
        _write_config(draft.path / "config.yaml", self.experiment)
        return draft.complete(
            {
                "stage": request.stage,
                "options": request.values,
                "slug": name,
                "version": draft.path.name,
                "key": key,
                "stage_version": load_stage(request.stage).VERSION,
                "command": self.command,
                "overrides": self.overrides,
                "config": asdict(self.experiment),
                "inputs": {n: {"path": str(a.path), "key": a.key} for n, a in inputs.items()},
                **({"also": {n: {"path": str(a.path), "key": a.key} for n, a in shown.items()}} if shown else {}),
                "fingerprints": self._fingerprints[request],
                "environment": environment(),
                "machine": machine(self.experiment.run.device),
                "seed": self.experiment.run.seed,
                "started": started,
                "finished": time.time(),
                "wall_seconds": round(time.monotonic() - clock, 3),
                # Of all threads of this process.
                "cpu_seconds": round(time.process_time() - used, 3),
                "resumed": draft.resuming,
                **recorder.peaks(),
                "phases": recorder.phases,
                "warnings": recorder.warnings,
                "notes": recorder.notes,
                "summary": summary,
            }
        )


def _notes(study: Study) -> list[str]:
    """Notes on the benchmark for a stage's manifest; empty if the stage did not use the benchmark."""
    return [f"benchmark {study.benchmark.name}: {note}" for note in study.benchmark.notes] if study.took_benchmark else []


def _write_config(path: Path, experiment: Experiment) -> None:
    from omegaconf import OmegaConf

    path.write_text(OmegaConf.to_yaml(OmegaConf.create(asdict(experiment))), "utf-8")
