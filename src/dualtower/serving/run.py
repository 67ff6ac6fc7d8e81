"""Running the server: one process, one event loop."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import uvicorn

from dualtower.experiments.assignment import Experiment
from dualtower.serving.app import make_app
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store

_SWITCH_SECONDS = 0.001
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
        BundleError: a bundle is damaged.
        StoreError: the events cannot be read.
    """
    # One query has no work for several threads; they would only wait for one another.
    torch.set_num_threads(1)
    sys.setswitchinterval(_SWITCH_SECONDS)
    store = None if settings.events is None else open_store(settings.events)
    server = Server(open_deck(folder, store, experiment), store, settings, note)
    # uvicorn raises the signal again when it has stopped; to stop when asked is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    note(f"serving on http://{settings.host}:{settings.port} (a page to look at it: /, API: /docs)")
    uvicorn.run(
        make_app(server),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
