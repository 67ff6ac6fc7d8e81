import pytest

from dualtower.config import validate
from dualtower.errors import ConfigError
from dualtower.serving.settings import ServeConfig, is_loopback

TOKEN = "a-token-of-sixteen-characters"


def test_nothing_beyond_this_machine_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", ""):
        with pytest.raises(ConfigError, match="so a token is needed: set DUALTOWER_TOKEN"):
            validate(ServeConfig, {"host": host}, "serve")
        assert validate(ServeConfig, {"host": host, "token": TOKEN}, "serve").host == host
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert is_loopback(host)
        assert validate(ServeConfig, {"host": host}, "serve").token is None


def test_a_short_token_is_refused_and_no_token_is_shown() -> None:
    with pytest.raises(ConfigError, match="at least 16"):
        validate(ServeConfig, {"token": "short"}, "serve")
    assert TOKEN not in repr(validate(ServeConfig, {"token": TOKEN}, "serve"))
