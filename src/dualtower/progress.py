"""Progress bars: one look for every slow step, silent where nobody watches."""

from collections.abc import Iterator
from contextlib import contextmanager

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


class Bar:
    """A running progress bar; `advance` moves it, `note` sets the text at its right."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Move on by `steps`; `note` replaces the text beside the rate when given."""
        fields = {} if note is None else {"note": note}
        self._progress.update(self._task, advance=steps, **fields)  # type: ignore[arg-type]


@contextmanager
def progress_bar(title: str, total: float, unit: str, *, shown: bool = True) -> Iterator[Bar]:
    """A bar with share, count, rate, time used and time left, on standard error.

    Args:
        title: what is being done, in plain words.
        total: the number of steps.
        unit: what a step is, in the plural ("rows", "positives").
        shown: False keeps it silent; it is silent as well where standard error is no terminal.
    """
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
        disable=not (shown and console.is_terminal),
    )
    with progress:
        task = progress.add_task(title, total=total, note="")
        yield Bar(progress, task)
