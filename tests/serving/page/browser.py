"""A server on a free port and a headless browser, for tests of the page as people see it."""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from dualtower.serving.app import make_app
from dualtower.serving.run import http_options
from dualtower.serving.server import Server


@contextmanager
def listening(server: Server) -> Iterator[str]:
    """The address of `server`, which runs in a thread."""
    ear = socket.create_server(("127.0.0.1", 0))
    options = http_options(server.settings)
    running = uvicorn.Server(uvicorn.Config(make_app(server), **options))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [ear]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{ear.getsockname()[1]}/"
    finally:
        running.should_exit = True
        thread.join()


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium: Playwright's own or the system's. Without one the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        own = Path(play.chromium.executable_path)
        names = ("chromium", "chromium-browser", "google-chrome")
        found = own if own.exists() else next(filter(None, map(shutil.which, names)), None)
        if found is None:
            pytest.skip("no Chromium on this machine: playwright install chromium")
        # Its sandbox cannot start in many containers; it opens nothing but this test's server.
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
