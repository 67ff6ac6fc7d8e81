"""A server in a process of its own, for benchmarks and their tests."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from dualtower.cli.serve import TOKEN
from dualtower.errors import DualtowerError

DUALTOWER = "from dualtower.cli import app; app()"
"""The program of `dualtower`'s command line."""
START_SECONDS = 120.0
STOP_SECONDS = 60.0
"""How long a server may take to stop before it is killed."""


def free_port() -> int:
    """One of 127.0.0.1 on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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
    port = free_port()
    arguments = ["serve", str(bundle), "--port", str(port), *(str(option) for option in options)]
    with started(DUALTOWER, arguments, port, token=token):
        yield port


@contextmanager
def started(
    program: str,
    arguments: Sequence[str],
    port: int,
    *,
    token: str | None = None,
    seconds: float = START_SECONDS,
    quiet: bool = False,
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a server until the end of the block.

    Args:
        program: Python that runs it.
        arguments: its command line.
        port: where it answers `GET /ready`.
        token: what requests must bring; none without.
        seconds: how long to wait until it is ready.
        quiet: throws away what it writes to standard error.

    Yields:
        The process, once the server is ready.

    Raises:
        OSError: another server listens there.
        DualtowerError: the server ends, or is not ready in `seconds`.
    """
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))  # fails where another server would answer instead
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop(TOKEN, None)
    if token is not None:
        environment[TOKEN] = token
    command = [sys.executable, "-c", program, *arguments]
    errors = subprocess.DEVNULL if quiet else None
    with subprocess.Popen(command, env=environment, stderr=errors) as process:
        try:
            _wait(process, port, seconds)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: "subprocess.Popen[bytes]", port: int, seconds: float) -> None:
    end = time.monotonic() + seconds
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
    raise DualtowerError(f"the server was not ready after {seconds:g} s")
