"""What happens when the disk is full or broken at any single write of a bundle or an event.

python -m benchmarks.io_faults [--results results/faults-io.json]

A process saves bundles and commits events on command, and `strace` (Linux, needed here alone) makes
one system call of it fail at a time: the first, the second, … of each kind until there are no more,
with "no space left" (ENOSPC) and with "input/output error" (EIO). After each fault a bundle must be
readable, the old one or the new one; and events must be there if they were acknowledged, be
reported by a StoreError if not, and be taken when they are sent again.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

from benchmarks.small_bundle import make_bundle
from dualtower import files
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.progress import progress_bar
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.event import Event
from dualtower.serving.sqlite_store import SqliteStore

CALLS = ("write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "rename", "mkdir")
ERRORS = ("ENOSPC", "EIO")
OPERATIONS = ("save", "append", "create")
GROUP = 3
"""Events of a commit."""
_PATIENCE_SECONDS = 60
_BESIDE = ".target.new-here"
_BESIDE_MANIFEST = ".manifest.json.here"
_STORE_FILES = ("", "-wal", "-shm", "-journal")


def main() -> None:
    """Inject every fault, print and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/faults-io.json"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        _serve(arguments.child, socket.socket(fileno=arguments.socket))
        return
    with tempfile.TemporaryDirectory(prefix="io-faults-") as name:
        rows = inject(Path(name))
    for row in rows:
        print(json.dumps(row))
    write_results(
        arguments.results,
        Measurements(
            command="python -m benchmarks.io_faults",
            protocol="each system call of an operation fails once, injected by strace; `reported`: "
            "the operation raised an error in words, `tolerated`: it succeeded all the same; "
            "`broken`: an unreadable bundle, a lost or unacknowledged event, or another error",
            versions=versions(),
            processor=processor(),
            runs=tuple(rows),
        ),
    )
    if any(row["broken"] for row in rows):
        raise SystemExit("a fault broke something")


def inject(
    folder: Path, operations: tuple[str, ...] = OPERATIONS, most: int = 10_000
) -> list[dict[str, str | int | float]]:
    """Let every call fail once.

    Args:
        folder: for bundles and stores; empty.
        operations: which of `OPERATIONS`.
        most: calls of a kind that are made to fail at most.

    Returns:
        A row for each operation, call and error that had a fault.
    """
    make_bundle(folder / "source")
    make_bundle(folder / "target")
    rows: list[dict[str, str | int | float]] = []
    plan = [(op, call, error) for op in operations for call in CALLS for error in ERRORS]
    with _child(folder) as (process, ask), progress_bar("Faults", len(plan), "kinds") as bar:
        for operation, call, error in plan:
            paths = _paths(folder, operation)
            counts = dict.fromkeys(("faults", "reported", "tolerated", "broken"), 0)
            for number in range(1, most + 1):
                ask(f"prepare-{operation}")
                fault = f"inject={call}:error={error}:when={number}"
                with _tracing(process.pid, call, fault, paths, folder / "trace") as injected:
                    answer = ask(operation)
                if not injected():
                    break
                counts["faults"] += 1
                wrong = _after(folder, operation, answer, ask)
                if wrong:
                    print(f"{operation}, {call} {number} {error}: {wrong}", file=sys.stderr)
                    counts["broken"] += 1
                else:
                    counts["tolerated" if answer == "ok" else "reported"] += 1
            if counts["faults"]:
                rows.append({"operation": operation, "call": call, "error": error, **counts})
            bar.advance(note=f"{operation} {call}")
    return rows


def _after(folder: Path, operation: str, answer: str, ask: Callable[[str], str]) -> str:
    """What is wrong after a fault; empty if nothing is."""
    allowed = ("ok", "OSError", "StoreError", "BundleError")
    if answer.split(":")[0] not in allowed:
        return f"another error: {answer}"
    if operation == "save":
        try:
            found = Bundle.load(folder / "target").manifest.fitted_on
        except Exception as error:
            return f"the bundle cannot be read: {error}"
        if answer == "ok" and found != ask("wanted"):
            return "saved without an error, and the old bundle is there"
        left = [path.name for path in folder.iterdir() if path.name.startswith(".target.new")]
        return f"left beside: {left}" if left and answer == "ok" else ""
    again = ask("again")
    if again != "ok":
        return f"not taken when sent again: {again}"
    wanted = json.loads(ask("wanted"))
    store = SqliteStore(folder / "store" / "events.sqlite")
    found_ids = [event.event_id for block in store.replay() for event in block.events]
    store.close()
    if len(found_ids) != len(set(found_ids)):
        return "an event is there twice"
    return "" if set(wanted) <= set(found_ids) else "an acknowledged event is lost"


def _paths(folder: Path, operation: str) -> list[Path]:
    """All that an operation writes to."""
    if operation == "save":
        beside = folder / _BESIDE
        names = [file.name for file in (folder / "source").iterdir()]
        return [folder, beside, folder / "target", beside / _BESIDE_MANIFEST] + [
            beside / name for name in names
        ]
    store = folder / "store" / "events.sqlite"
    return [store.parent, *(store.with_name(store.name + end) for end in _STORE_FILES)]


@contextlib.contextmanager
def _child(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[str], str]]]:
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "benchmarks.io_faults", "--child", str(folder)]
    process = subprocess.Popen(
        [*command, "--socket", str(theirs.fileno())], pass_fds=(theirs.fileno(),), env=environment
    )
    theirs.close()
    ours.settimeout(_PATIENCE_SECONDS)

    def ask(what: str) -> str:
        ours.sendall(what.encode())
        answer = ours.recv(1 << 20).decode()
        if not answer:
            raise RuntimeError(f"the process ended at {what!r} with {process.wait()}")
        return answer

    try:
        ask("hello")
        yield process, ask
    finally:
        ours.close()
        process.kill()
        process.wait()


@contextlib.contextmanager
def _tracing(
    pid: int, call: str, fault: str, paths: list[Path], log: Path
) -> Iterator[Callable[[], bool]]:
    """Let one call on any of the paths fail from here on to the end of the block.

    Only calls on those: a thread pool that cannot wake its threads is no fault of the disk.
    """
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-o", str(log), "-p", str(pid), "-e", f"trace={call}"),
            *("-e", fault),
            *(word for path in paths for word in ("-P", str(path))),
        ],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    if b"attached" not in line:
        raise RuntimeError(f"strace cannot attach: {line.decode()}")
    try:
        yield lambda: "INJECTED" in log.read_text(errors="replace")
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()


def _name_files() -> None:
    """Let temporary files and folders have names that the tracer can be told."""

    def mkdtemp(prefix: str, dir: Path) -> str:
        path = Path(dir) / f"{prefix}here"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return str(path)

    def mkstemp(prefix: str, dir: Path) -> tuple[int, str]:
        path = Path(dir) / f"{prefix}here"
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600), str(path)

    vars(files)["tempfile"] = SimpleNamespace(mkdtemp=mkdtemp, mkstemp=mkstemp)


def _serve(folder: Path, connection: socket.socket) -> None:
    """Do what is asked, one thing at a time."""
    _name_files()
    source = Bundle.load(folder / "source")
    bundles = [
        Bundle(
            source.manifest.model_copy(update={"fitted_on": name}),
            source.model,
            source.encoder,
            source.retriever,
        )
        for name in ("train", "all")
    ]
    path = folder / "store" / "events.sqlite"
    store = SqliteStore(path)
    # Every commit also moves the log into the file, so that those writes are among the faults.
    store._connection.execute("PRAGMA wal_autocheckpoint = 1")
    turn = 0
    acknowledged: list[str] = []
    events: list[Event] = []
    asked = ""

    def append() -> None:
        store.append(events)
        acknowledged.extend(event.event_id for event in events)

    while asked := connection.recv(1 << 16).decode():
        answer = "ok"
        try:
            if asked.startswith("prepare"):
                turn += 1
                events = [Event(f"{turn}/{number}", "q1", "i1", turn) for number in range(GROUP)]
                if asked == "prepare-create":
                    store.close()
                    shutil.rmtree(path.parent)
                    acknowledged.clear()
            elif asked == "save":
                bundles[turn % 2].save(folder / "target")
            elif asked == "append":
                append()
            elif asked == "create":
                store = SqliteStore(path)
                append()
            elif asked == "again":
                store.close()
                store = SqliteStore(path)
                store._connection.execute("PRAGMA wal_autocheckpoint = 1")
                append()
            elif asked == "wanted":
                saved = bundles[turn % 2].manifest.fitted_on
                answer = json.dumps(acknowledged[-50:]) if acknowledged else saved
        except OSError as error:
            answer = f"OSError: {error}"
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        connection.sendall(answer.encode())


if __name__ == "__main__":
    main()
