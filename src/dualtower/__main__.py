"""`python -m dualtower`: the same as the command `dualtower`."""

from dualtower.cli import app

app()
