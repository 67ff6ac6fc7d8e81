"""Whether any request makes the server fail, or answer otherwise than its own description says.

    python -m benchmarks.fuzz_http [--cases 20000]

Schemathesis reads /openapi.json of a real server with an experiment of a small bundle twice, an
event store and a token, and makes requests from it in all its phases (examples, boundary values,
random ones, sequences), half of them wrong on purpose. Checked are: no status of 500 or more;
status, content type, headers and body as described; wrong data refused; other methods refused with
what is allowed; nothing without the token. That right data is always accepted is not: a category or
a feature may be text as described and yet be none of the bundle's.

Writes results/fuzz-http.json.
"""

import argparse
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import schemathesis
import tomlkit
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.engine.recorder import ScenarioRecorder

from benchmarks.server_process import server_process
from benchmarks.small_bundle import make_bundle
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.evaluation.tables import results_table
from dualtower.files import write_text
from dualtower.progress import progress_bar

TOKEN = "a-token-of-sixteen-characters"
MOST_A_ROUND = 200
"""Random requests of an operation in one round; each round has another seed."""
_SHOWN = 300


@dataclass
class Found:
    """What came of the requests."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests by operation and status; the status is `none` where no answer came."""
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    """The first failure of each operation and check, in words."""
    failed: Counter[str] = field(default_factory=Counter)
    """Failures by operation."""

    @property
    def cases(self) -> int:
        """Number of requests."""
        return self.statuses.total()

    def add(self, operation: str, recorder: ScenarioRecorder) -> None:
        """Count the requests of one scenario, and keep what failed."""
        for interaction in recorder.interactions.values():
            answer = interaction.response
            status = "none" if answer is None else str(answer.status_code)
            self.statuses[operation, status] += 1
        for case, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is None:
                    continue
                self.failed[operation] += 1
                request = recorder.interactions[case].request
                self.failures.setdefault(
                    (operation, check.name),
                    f"{check.failure_info.failure.title}: {check.failure_info.failure.message}: "
                    f"{request.method} {request.uri} {request.body!r}"[:_SHOWN],
                )


def fuzz(folder: Path, cases: int) -> Found:
    """Send a server so many requests, or some more.

    Args:
        folder: for bundles and events.
        cases: how many.

    Raises:
        RuntimeError: schemathesis itself fails.
    """
    make_bundle(folder / "bundles" / "a")
    shutil.copytree(folder / "bundles" / "a", folder / "bundles" / "b")
    arms = [{"name": name, "bundle": f"bundles/{name}"} for name in ("a", "b")]
    experiment = {"name": "fuzz", "salt": "fuzz", "arms": arms}
    write_text(folder / "experiment.toml", tomlkit.dumps(experiment))
    options = ("--experiment", folder / "experiment.toml", "--events", folder / "events.db")
    found = Found()
    with (
        progress_bar("Requests", cases, "requests") as bar,
        server_process(folder / "bundles" / "a", *options, token=TOKEN) as port,
    ):
        seed = 0
        while found.cases < cases:
            before = found.cases
            _round(port, seed, min(MOST_A_ROUND, max(1, (cases - before) // 20)), found)
            bar.advance(min(found.cases, cases) - min(before, cases))
            seed += 1
    return found


def rows(found: Found) -> list[dict[str, str | int | float]]:
    """One for each operation, and one for all."""
    operations = sorted({operation for operation, _ in found.statuses})
    result: list[dict[str, str | int | float]] = []
    for operation in [*operations, "all"]:
        mine = Counter[str]()
        for (name, status), count in found.statuses.items():
            if operation in (name, "all"):
                mine[status[0] + "xx" if status.isdigit() else status] += count
        failed = found.failed.total() if operation == "all" else found.failed[operation]
        kinds = {f"status {kind}": mine[kind] for kind in ("2xx", "4xx", "5xx")}
        result.append(
            {
                "operation": operation,
                "requests": mine.total(),
                **kinds,
                "no answer": mine["none"],
                "checks failed": failed,
            }
        )
    return result


def _round(port: int, seed: int, most: int, found: Found) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "continue-on-failure": True,
            "headers": headers,
            "generation": {"max-examples": most, "no-shrink": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"enabled": False}},
        }
    )
    schema = schemathesis.openapi.from_url(
        f"http://127.0.0.1:{port}/openapi.json", config=config, headers=headers
    )
    for event in engine.from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            found.add(event.label or "several", event.recorder)
        elif isinstance(event, NonFatalError):
            raise RuntimeError(f"{event.label}: {event.value}")
        elif isinstance(event, FatalError):
            raise RuntimeError(str(event.exception))


def main() -> None:
    """Send, print and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--results", type=Path, default=Path("results/fuzz-http.json"))
    options = parser.parse_args()
    with TemporaryDirectory(prefix="fuzz-") as name:
        found = fuzz(Path(name), options.cases)
    results = Measurements(
        command=f"python -m benchmarks.fuzz_http --cases {options.cases}",
        protocol=f"schemathesis {schemathesis.__version__} against a server process with an "
        "experiment, an event store and a token, all phases and checks but the acceptance of all "
        "data that fits the description",
        versions=versions(),
        processor=processor(),
        runs=tuple(rows(found)),
    )
    write_results(options.results, results)
    print(results_table(results))
    for (operation, check), text in found.failures.items():
        print(f"{operation}, {check}: {text}")
    if found.failures:
        raise SystemExit("the server failed, or answered otherwise than described")


if __name__ == "__main__":
    main()
