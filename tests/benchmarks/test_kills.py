from pathlib import Path

import pytest

from benchmarks.kills import GROUP, kill_cycles


def test_no_acknowledged_event_is_lost_and_answers_come_back(tmp_path: Path) -> None:
    for name in ("fastapi", "uvicorn", "msgspec", "orjson"):
        pytest.importorskip(name)
    run = kill_cycles(tmp_path, cycles=3, groups=4)
    assert run["acknowledged"] >= 3 * 4 * GROUP
    assert run["stored"] >= run["acknowledged"]
    assert run["lost"] == run["stored_twice"] == run["answers_differ"] == 0
    assert run["answers_compared"] == 10
