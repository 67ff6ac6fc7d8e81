import io
import re

import pytest
from rich.console import Console

from dualtower import progress
from dualtower.progress import progress_bar


class Clock:
    """Time that goes on when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    monkeypatch.setattr(progress, "console", Console(stderr=True, force_terminal=False))
    return found


def test_a_log_gets_a_line_every_half_a_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("Training dat", 1_000, "positives") as bar:
        for _ in range(9):  # ten a second
            clock.now += 10
            bar.advance(100, note="epoch 1")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "Training dat: 30%, 10 positives/s, 0:01:10 left, epoch 1",
        "Training dat: 60%, 10 positives/s, 0:00:40 left, epoch 1",
        "Training dat: 90%, 10 positives/s, 0:00:10 left, epoch 1",
    ]


def test_the_rate_is_that_since_the_last_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("Reading", 100, "rows") as bar:
        clock.now += 30
        bar.advance(60)
        clock.now += 30
        bar.advance(0)
        clock.now += 30
        bar.advance(30)
    assert capsys.readouterr().err.splitlines() == [
        "Reading: 60%, 2 rows/s, 0:00:20 left",
        "Reading: 90%, 0.5 rows/s, 0:00:20 left",
    ]


def test_no_line_when_quick_silent_or_empty(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("Quick", 10, "rows") as bar:
        clock.now += 29
        bar.advance(10)
    with progress_bar("Silent", 10, "rows", shown=False) as bar:
        clock.now += 60
        bar.advance(5)
    assert capsys.readouterr().err == ""


def test_what_was_done_before_says_nothing_of_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("Training dat", 1_000, "positives", done=500) as bar:
        clock.now += 40
        bar.advance(100)
    printed = capsys.readouterr().err
    assert printed == "Training dat: 60%, 2.5 positives/s, 0:02:40 left\n"


def test_more_steps_than_were_foretold(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Reading", 0, "rows") as bar:
        clock.now += 30
        bar.advance(90, note="on")
    assert capsys.readouterr().err == "Reading: 3 rows/s, on\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    monkeypatch.setattr(progress, "console", console)
    with progress_bar("Preparing", 4, "rows") as bar:
        bar.advance(4, note="done now")
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).strip().splitlines()[-1]
    assert last.startswith("Preparing")
    assert "100%" in last
    assert "4/4" in last
    assert last.endswith("done now")
