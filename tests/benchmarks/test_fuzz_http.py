"""A few hundred requests made from the server's own description."""

from pathlib import Path

import pytest


def test_the_server_answers_as_described(tmp_path: Path) -> None:
    for name in ("schemathesis", "fastapi", "uvicorn", "msgspec", "orjson"):
        pytest.importorskip(name)
    from benchmarks.fuzz_http import fuzz, rows

    found = fuzz(tmp_path, 300)
    assert found.failures == {}
    total = rows(found)[-1]
    assert total["requests"] >= 300
    assert total["status 5xx"] == total["no answer"] == 0
    assert total["status 2xx"] > 50
