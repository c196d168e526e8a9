"""What a stage says and costs, kept for its manifest and log."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Reporter


class Recorder:
    """Passes everything on to the user's reporter and keeps what the manifest and log.txt need."""

    def __init__(self, reporter: Reporter, log: Path) -> None:
        self.reporter, self.log = reporter, log
        self.phases: dict[str, dict[str, float]] = {}
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def _write(self, kind: str, text: str) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {kind} {text}\n")

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._write("note", text)
        self.reporter.note(text)

    def keep(self, warning: str) -> None:
        """A warning for the manifest and the log that the user has already been told."""
        self.warnings.append(warning)
        self._write("warning", warning)

    def warn(self, text: str) -> None:
        self.keep(text)
        self.reporter.warn(text)

    def progress(self, description: str, total: int) -> Any:
        return self.reporter.progress(description, total)

    @contextmanager
    def phase(self, name: str) -> Any:
        started = time.perf_counter()
        with self.reporter.phase(name):
            yield
        seconds = time.perf_counter() - started + self.phases.get(name, {}).get("seconds", 0.0)
        self.phases[name] = {"seconds": round(seconds, 3), "peak_memory_mib": peak_memory(), **_peak_gpu_memory()}
        self._write("phase", f"{name}: {seconds:.1f} s")


def forget_peaks() -> None:
    """Count peaks from here on, so that a stage is not charged for the one before it (Linux, CUDA)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    """Peak resident memory of this process in MiB, since the stage's start where the system can tell."""
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
