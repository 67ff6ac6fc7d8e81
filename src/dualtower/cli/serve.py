"""The command that serves a bundle over HTTP."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, fail, note, print_json
from dualtower.cli.use import BundleFolder

TOKEN = "DUALTOWER_TOKEN"


@app.command(epilog="Example: dualtower serve bundle --events events.db --watch")
def serve(
    bundle: BundleFolder,
    host: Annotated[
        str, typer.Option(help=f"Address to listen on; beyond this machine {TOKEN} must be set.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    events: Annotated[
        str | None,
        typer.Option(
            help="Where events are kept: an SQLite file, or postgresql://USER@HOST/DATABASE. "
            "Without it the server takes none.",
            show_default=False,
        ),
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of an experiment, whose arms name the bundles that answer.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Load the bundle again when its folder is replaced.")
    ] = False,
    bundles: Annotated[
        Path | None,
        typer.Option(
            help="Folder whose bundles POST /bundle may load; by default the bundle's own.",
            show_default=False,
        ),
    ] = None,
    ranker: Annotated[
        str | None,
        typer.Option(
            help="Function that orders the candidates of every arm: package.module:function.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[
        int, typer.Option(help="Candidates for the ranker, for each item asked for.")
    ] = 5,
    ranker_seconds: Annotated[
        float, typer.Option(help="How long an answer waits for the ranker.")
    ] = 0.05,
    max_n: Annotated[int, typer.Option(help="The most items of one answer.")] = 1_000,
    max_batch: Annotated[
        int, typer.Option(help="The most queries or events of one request.")
    ] = 256,
    max_body_bytes: Annotated[int, typer.Option(help="The largest body of a request.")] = 1_000_000,
    max_exclusions: Annotated[
        int, typer.Option(help="The most excluded items of one query, and items of its history.")
    ] = 10_000,
    max_new_items: Annotated[
        int,
        typer.Option(
            help="The most items kept that only live events know; of more, the one whose first "
            "event is longest ago is let go of."
        ),
    ] = 10_000,
    drain_seconds: Annotated[
        float,
        typer.Option(
            help="How long requests are still answered after a signal to stop, while GET /ready "
            "says 503."
        ),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Serve a bundle over HTTP: recommendations, live events, similar items, metrics.

    A token in the environment variable DUALTOWER_TOKEN is then asked of every request. With --json
    each message, such as that a bundle was swapped, is an object on standard output.
    """
    # One query has no work for several threads; set before NumPy is loaded.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        from dualtower.serving.run import run
    except ImportError as error:
        fail(f"serving needs the package {error.name}: pip install 'dualtower[serve]'")
    from dualtower.config import validate
    from dualtower.experiments.assignment import load_experiment
    from dualtower.serving.settings import ServeConfig

    settings = validate(
        ServeConfig,
        {
            "host": host,
            "port": port,
            "token": os.environ.get(TOKEN) or None,
            "events": events,
            "bundles": None if bundles is None else str(bundles),
            "watch": watch,
            "ranker": ranker,
            "candidates": candidates,
            "ranker_seconds": ranker_seconds,
            "max_n": max_n,
            "max_batch": max_batch,
            "max_body_bytes": max_body_bytes,
            "max_exclusions": max_exclusions,
            "max_new_items": max_new_items,
            "drain_seconds": drain_seconds,
        },
        "serve",
    )
    tell = (lambda message: print_json({"message": message})) if as_json else note
    run(bundle, settings, None if experiment is None else load_experiment(experiment), tell)
