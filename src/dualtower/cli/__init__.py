"""The command line: each command parses, calls one function and formats what it returns."""

from dualtower.cli import experiment, imports, quickstart, run, serve, studies, use
from dualtower.cli.app import app

__all__ = ["app", "experiment", "imports", "quickstart", "run", "serve", "studies", "use"]
