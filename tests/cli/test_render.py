"""Progress and messages: bars in a terminal, few plain lines elsewhere, never markup."""

from __future__ import annotations

import io

from unierase_cli.cli.amounts import duration, size
from unierase_cli.cli.render import ConsoleReporter
from unierase_cli.cli.tables import console_on, show
from unierase_cli.results.table import Table


def plain(every: float = 5.0) -> tuple[ConsoleReporter, io.StringIO]:
    stream = io.StringIO()
    return ConsoleReporter(stream, interactive=False, every=every), stream


def test_without_a_terminal_a_short_job_says_nothing() -> None:
    reporter, stream = plain()
    with reporter.progress("editing", 3) as advance:
        for _ in range(3):
            advance()
    assert stream.getvalue() == ""


def test_without_a_terminal_a_long_job_gives_lines() -> None:
    reporter, stream = plain(every=0.0)
    with reporter.progress("editing", 4) as advance:
        advance(2, "loss 0.5")
        advance(2)
    first, last = stream.getvalue().splitlines()
    assert first.startswith("  editing: 2/4 (50 %)")
    assert first.endswith("loss 0.5")
    assert last.startswith("  editing: 4/4 (100 %)")


def test_notes_and_warnings_are_printed_and_remembered() -> None:
    reporter, stream = plain()
    reporter.note("[UNL] is [bold]text[/bold] :smile:")
    reporter.warn("careful")
    assert stream.getvalue() == "[UNL] is [bold]text[/bold] :smile:\nwarning: careful\n"
    assert reporter.warnings == ["careful"]


def test_in_a_terminal_jobs_inside_jobs_and_messages_share_the_screen() -> None:
    stream = io.StringIO()
    reporter = ConsoleReporter(stream, interactive=True)
    with reporter.progress("steps", 2) as outer:
        with reporter.progress("values [UNL]", 10) as inner:
            inner(5, "P(target) 0.9")
            reporter.note("[UNL] stays text")
        outer()
    assert "[UNL] stays text" in stream.getvalue()
    with reporter.progress("again", 0) as advance:
        advance()


def test_tables_show_cells_as_they_are_and_cut_nothing_off() -> None:
    stream = io.StringIO()
    long = "word " * 80
    show(
        console_on(stream, False), Table("T", ("a", "n"), (("[red]x[/red]", "1"), (long, "2")), frozenset({"n"}), "why")
    )
    text = stream.getvalue()
    assert "[red]x[/red]" in text
    assert text.count("word") == 80
    assert "why" in text


def test_durations_and_sizes_read_well() -> None:
    assert [duration(s) for s in (8.24, 185, 7620)] == ["8.2 s", "3 min 05 s", "2 h 07 min"]
    assert [size(b) for b in (10, 74 * 2**20, 15 * 2**30)] == ["10 B", "74 MiB", "15.0 GiB"]
