from pathlib import Path

import pytest

from dualtower.errors import ConfigError
from dualtower.serving.event import Event
from dualtower.serving.sqlite_store import SqliteStore
from dualtower.serving.store import open_store


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_sqlite_by_path_or_address(tmp_path: Path, form: str) -> None:
    path = tmp_path / "events.sqlite"
    store = open_store(form.format(path))
    assert isinstance(store, SqliteStore)
    assert store.path == path
    store.append([Event("e1", 1, 2, 3)])
    assert path.exists()


def test_other_addresses_are_refused_without_their_password() -> None:
    with pytest.raises(ConfigError, match="begins with mysql://; it should be a path") as raised:
        open_store("mysql://me:secret@host/events")
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigError, match="names no file"):
        open_store("sqlite:///")
