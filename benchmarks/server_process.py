"""`dualtower serve` in a process of its own, for benchmarks and their tests."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from dualtower.errors import DualtowerError

START_SECONDS = 120.0


@contextmanager
def server_process(bundle: Path, *options: str | Path, token: str | None = None) -> Iterator[int]:
    """Serve on a free port until the end of the block.

    Args:
        bundle: what to serve.
        options: others of `dualtower serve`.
        token: what requests must bring; none without.

    Yields:
        The port, once the server is ready.

    Raises:
        DualtowerError: the server ends, or is not ready in `START_SECONDS`.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    program = "from dualtower.cli import app; app()"
    arguments = ["serve", bundle, "--port", str(port), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("DUALTOWER_TOKEN", None)
    if token is not None:
        environment["DUALTOWER_TOKEN"] = token
    command = [sys.executable, "-c", program, *(str(argument) for argument in arguments)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            _wait(process, port)
            yield port
        finally:
            process.terminate()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise DualtowerError(f"the server ended with status {process.returncode}")
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise DualtowerError(f"the server was not ready after {START_SECONDS:g} s")
