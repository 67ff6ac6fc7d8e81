"""A client of the application, which asks as one on this machine does."""

from typing import Any

from fastapi.testclient import TestClient

from dualtower.serving.app import make_app
from dualtower.serving.server import Server


def local_client(server: Server, **options: Any) -> TestClient:
    """A client that sends `Host: 127.0.0.1`, unless `options` say otherwise."""
    return TestClient(make_app(server), **{"base_url": "http://127.0.0.1", **options})
