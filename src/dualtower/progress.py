"""Progress bars: one look for every slow step; where there is no terminal, a line now and then."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True)
"""Where bars and notes go: standard error, so that standard output stays clean for results."""


LINE_SECONDS = 30.0
"""How far apart the lines of a slow step are where there is no terminal for its bar."""


def say(line: str) -> None:
    """Write a line as it is to standard error, above a running bar."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """Steps a second, worked out when the bar is drawn and not at every step."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} {self._unit}/s")


class _Lines:
    """The bar of a log: a line every half a minute, none of a step that is over before."""

    def __init__(self, title: str, total: float, unit: str, done: float) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = self._done_then = done
        self._then = time.monotonic()
        self._note = ""

    def advance(self, steps: float, note: str | None) -> None:
        self._done += steps
        self._note = self._note if note is None else note
        now = time.monotonic()
        if now - self._then < LINE_SECONDS or self._done == self._done_then:
            return
        rate = (self._done - self._done_then) / (now - self._then)
        parts = [f"{rate:{',.0f' if rate >= 10 else '.2g'}} {self._unit}/s"]
        if self._done <= self._total:
            left = timedelta(seconds=round((self._total - self._done) / rate))
            parts = [f"{self._done / self._total:.0%}", *parts, f"{left} left"]
        say(f"{self._title}: {', '.join(parts + [self._note] * bool(self._note))}")
        self._done_then, self._then = self._done, now


class Bar:
    """A running progress bar; `advance` moves it, `note` sets the text at its right."""

    def __init__(self, progress: Progress, task: TaskID, lines: _Lines | None) -> None:
        self._progress = progress
        self._task = task
        self._lines = lines

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Move on by `steps`; `note` replaces the text beside the rate when given."""
        fields = {} if note is None else {"note": note}
        self._progress.update(self._task, advance=steps, **fields)  # type: ignore[arg-type]
        if self._lines is not None:
            self._lines.advance(steps, note)


@contextmanager
def progress_bar(
    title: str, total: float, unit: str, *, done: int = 0, shown: bool = True
) -> Iterator[Bar]:
    """A bar with share, count, rate, time used and time left, on standard error.

    Where that is no terminal: share, rate and time left as a line, at most every `LINE_SECONDS`.

    Args:
        title: what is being done, in plain words.
        total: the number of steps.
        unit: what a step is, in the plural ("rows", "positives").
        done: how many of them were done before, and say nothing of the rate.
        shown: False keeps it silent.
    """
    terminal = console.is_terminal
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not (shown and terminal),
    )
    lines = _Lines(title, total, unit, done) if shown and not terminal else None
    with progress:
        task = progress.add_task(title, total=total, completed=done, note="")
        yield Bar(progress, task, lines)
