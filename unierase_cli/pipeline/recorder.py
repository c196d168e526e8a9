"""Records a stage's messages, phases and memory for its manifest and log."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Reporter

# What gets the numbers of a training: (series, step, values).
Track = Callable[[str, int, Mapping[str, float]], None]


class Recorder:
    """Forwards everything to the user's reporter and keeps what the manifest and log.txt need."""

    def __init__(self, reporter: Reporter, log: Path, track: Track | None = None, stage: str = "") -> None:
        """``track``: what also gets the numbers of trainings, their series named after the stage."""
        self.reporter, self.log, self.track, self.stage = reporter, log, track, stage
        self.phases: dict[str, dict[str, float]] = {}
        self.warnings: list[str] = []
        self.notes: list[str] = []
        # A stack of peaks: the stage's, then those of nested phases.
        self._peaks: list[dict[str, float]] = [{}]
        forget_peaks()

    def _write(self, kind: str, text: str) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {kind} {text}\n")

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._write("note", text)
        self.reporter.note(text)

    def keep(self, warning: str) -> None:
        """Record a warning that the user has already seen."""
        self.warnings.append(warning)
        self._write("warning", warning)

    def warn(self, text: str) -> None:
        self.keep(text)
        self.reporter.warn(text)

    def progress(self, description: str, total: int) -> Any:
        return self.reporter.progress(description, total)

    def measured(self, series: str, step: int, values: Mapping[str, float]) -> None:
        if self.track is not None:
            self.track(f"{self.stage}/{series}", step, values)

    @contextmanager
    def phase(self, name: str) -> Any:
        """Record time, CPU time and peak memory of a phase; a repeated phase adds its seconds and keeps its highest peak."""
        started, used, before = time.perf_counter(), time.process_time(), self.phases.get(name, {})
        self.peaks()
        self._peaks.append({})
        forget_peaks()
        try:
            with self.reporter.phase(name):
                yield
        finally:
            found = self.peaks()
            self._peaks.pop()
            _raise(self._peaks[-1], found)
        seconds = time.perf_counter() - started + before.get("seconds", 0.0)
        cpu = time.process_time() - used + before.get("cpu_seconds", 0.0)
        _raise(found, {key: value for key, value in before.items() if key not in ("seconds", "cpu_seconds")})
        self.phases[name] = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), **found}
        self._write("phase", f"{name}: {seconds:.1f} s")

    def peaks(self) -> dict[str, float]:
        """Peaks of the innermost phase, or of the stage outside of phases, in MiB: ``peak_memory_mib``, ``peak_gpu_memory_mib``."""
        _raise(self._peaks[-1], {"peak_memory_mib": peak_memory(), **_peak_gpu_memory()})
        return dict(self._peaks[-1])


def _raise(peaks: dict[str, float], found: dict[str, float]) -> None:
    """Raise each peak to at least the found value."""
    for key, value in found.items():
        peaks[key] = max(value, peaks.get(key, 0.0))


def forget_peaks() -> None:
    """Reset the peaks, so that they do not include what came before (Linux, CUDA; elsewhere peaks only grow)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    """Peak resident memory of this process in MiB, since ``forget_peaks`` if the system supports that."""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return round(int(status.split("VmHWM:")[1].split()[0]) / 1024.0, 1)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(usage / (1024.0 if sys.platform != "darwin" else 1024.0**2), 1)


def _peak_gpu_memory() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"peak_gpu_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1)}
