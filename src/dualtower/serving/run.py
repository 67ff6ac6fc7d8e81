"""Running the server: one process, one event loop."""

import errno
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import uvicorn

from dualtower.errors import ConfigError
from dualtower.experiments.assignment import Experiment
from dualtower.serving.app import make_app
from dualtower.serving.protocol import Protocol
from dualtower.serving.ranking import Ranking, load_ranker
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store

_SWITCH_SECONDS = 0.0001
"""How soon a thread that loads a bundle hands Python's lock to a request."""


def run(
    folder: Path, settings: ServeConfig, experiment: Experiment | None, note: Callable[[str], None]
) -> None:
    """Load and serve until a signal to stop; running requests are answered first.

    Args:
        folder: the bundle; of an experiment the arms name their own.
        settings: where to listen, and the limits.
        experiment: its arms answer instead of `folder`.
        note: tells the operator something.

    Raises:
        ConfigError: the ranker cannot be loaded, or the address cannot be listened on.
        BundleError: a bundle is damaged.
        StoreError: the events cannot be read.
    """
    # One query has no work for several threads; they would only wait for one another.
    torch.set_num_threads(1)
    sys.setswitchinterval(_SWITCH_SECONDS)
    check_address(settings.host, settings.port)
    ranking = ranking_of(settings, experiment, note)
    store = None if settings.events is None else open_store(settings.events)
    deck = open_deck(folder, store, experiment, settings.max_new_items)
    server = Server(deck, store, settings, note, ranking=ranking)
    # uvicorn raises the signal again when it has stopped; to stop when asked is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        Listener(server, note).run()


class Listener(uvicorn.Server):
    """uvicorn's server, which says where it listens, and lets a signal to stop be seen.

    From the signal on GET /ready answers 503, and after `drain_seconds` no connection is taken any
    more. A second signal ends that wait; a third, of Ctrl-C, ends all at once.
    """

    def __init__(self, server: Server, note: Callable[[str], None]) -> None:
        """Listen for `server`.

        Args:
            server: answers.
            note: is told the address, once it answers there.
        """
        settings = server.settings
        options = http_options(settings)
        super().__init__(
            uvicorn.Config(make_app(server), host=settings.host, port=settings.port, **options)
        )
        self._server = server
        self._note = note
        self._drained = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where: the port may have been chosen just now."""
        await super().startup(sockets)
        settings = self._server.settings
        port = self.servers[0].sockets[0].getsockname()[1]
        address = f"http://{host_of_url(settings.host)}:{port}"
        self._note(f"serving on {address} (a page to look at it: /, API: /docs)")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to stop."""
        if not self._server.stopping:
            self._server.stopping = True
            self._drained = time.monotonic() + self._server.settings.drain_seconds
        elif self._drained > 0:
            # uvicorn would take a second SIGINT as leave to drop the events that wait.
            self._drained = 0.0
            return
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; asked ten times a second."""
        return await super().on_tick(counter) and time.monotonic() >= self._drained


def ranking_of(
    settings: ServeConfig, experiment: Experiment | None, note: Callable[[str], None]
) -> Ranking | None:
    """The ranker that the settings or the experiment name, at work; None where neither does.

    Raises:
        ConfigError: they name two, or it cannot be loaded.
    """
    planned = None if experiment is None else experiment.ranker
    name = settings.ranker or planned
    if planned is not None and name != planned:
        raise ConfigError(
            f"ranker: {name} is asked for and the experiment names {planned}; all arms have one, "
            "so name it in one place"
        )
    if name is None:
        return None
    ranker = load_ranker(name)
    note(f"ranking by {name}")
    return Ranking(ranker, settings.ranker_seconds, note)


def check_address(host: str, port: int) -> None:
    """Check, before anything is loaded, that a server could listen there.

    Raises:
        ConfigError: another process listens there, or the machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{host_of_url(host)}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{where}: another process listens there; stop it, or name another port with --port"
            ) from None
        raise ConfigError(
            f"{where}: cannot listen there ({error.strerror}); name an address of this machine "
            "with --host and a port with --port"
        ) from None


def http_options(settings: ServeConfig) -> dict[str, Any]:
    """How uvicorn serves the application, all but where it listens."""
    return {
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": settings.stop_seconds,
    }


def host_of_url(host: str) -> str:
    """A host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
