"""Writing so that a kill at any moment leaves the old or the new, and checking what is read."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from dualtower.errors import BundleError, ConfigError, DataError, DualtowerError

MANIFEST = "manifest.json"
DATASET_FORMAT, BUNDLE_FORMAT = "dualtower-dataset", "dualtower-bundle"
"""What the manifests of the folders that a configuration names say as their `format`."""
_GUARD = f"{MANIFEST}.sha256"
_POLLS, _POLL_SECONDS = 100, 0.01
"""How long a reader waits for the second of two renames, which follows the first at once."""
_READS = 10
"""How often a folder that is replaced meanwhile is read, or put in place, again."""
_REMEDY = "copy the folder again, or make it anew"
_LOST = "it would be replaced and its content lost, so name a new or empty folder"
_GRACE_SECONDS = 60.0
"""A new folder younger than this may not have its writer's lock yet."""
T = TypeVar("T")


@contextmanager
def replacing_file(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path`; on success it is synced and renamed into place.

    Args:
        path: the final file; its folder is made if it does not exist.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        sync(beside)
        beside.chmod(0o666 & ~_umask())
        os.replace(beside, target)
        sync(target.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path, format_name: str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path` by rename.

    An existing folder is moved aside first and deleted last. Between the two renames `path` is
    absent for a moment: readers go through `read_folder` or `recover_folder`, which wait for the
    second rename and, after a kill there, put the old folder back. What earlier writers left
    beside it when they were killed is removed. Where `path` is a link, all this is done where it
    leads to, and the link stays.

    Args:
        path: the folder.
        format_name: what the manifest written into it will say as its `format`.

    Raises:
        ConfigError: as `check_replaceable`, before anything is written.
        OSError: the folder cannot be written.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(target)
    check_replaceable(path, format_name)
    beside = Path(tempfile.mkdtemp(prefix=_beside_prefix(target), dir=target.parent))
    beside.chmod(0o777 & ~_umask())
    try:
        with _locked(beside):
            yield beside
            mode = 0o666 & ~_umask()
            for file in beside.rglob("*"):
                if file.is_file():
                    file.chmod(mode)  # some writers make files for their owner alone
                sync(file)
            sync(beside)
            _put_in_place(beside, target)
            sync(target.parent)
        _remove(_aside(target))
        _remove_leftovers(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_replaceable(path: str | Path, format_name: str) -> None:
    """Check that `replacing_folder` would delete nothing but an older folder of the same format.

    Args:
        path: the folder.
        format_name: what the manifest of a folder that may be replaced says as its `format`.

    Raises:
        ConfigError: `path` is a file, a mount point, or a folder that holds anything but what a
            manifest of that format names.
    """
    target = Path(path)
    if os.path.ismount(target.resolve()):
        raise ConfigError(
            f"{target}: is a mount point, which no other folder can take the place of; name a "
            "folder in it"
        )
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / _GUARD).is_file():
        raise ConfigError(f"{target}: exists and was not written by dualtower; {_LOST}")
    try:
        content = json.loads((target / MANIFEST).read_bytes())
        found, written = content["format"], {MANIFEST, _GUARD, *content["files"]}
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{target}: its {MANIFEST} is missing or damaged, so what dualtower wrote there cannot "
            "be told from files of others; delete the folder to make it anew, or name another"
        ) from None
    if found != format_name:
        raise ConfigError(f"{target}: holds a {found}, not a {format_name}; {_LOST}")
    files = (file for file in sorted(target.rglob("*")) if not file.is_dir() or file.is_symlink())
    for name in (file.relative_to(target).as_posix() for file in files):
        if name not in written:
            raise ConfigError(f"{target}: holds {name}, which dualtower did not write; {_LOST}")


def recover_folder(path: str | Path) -> None:
    """Wait until a `replacing_folder` is between its renames no more; undo it if it was killed."""
    target = Path(path).resolve()
    for _ in range(_POLLS):
        if target.exists() or not _aside(target).exists():
            return
        time.sleep(_POLL_SECONDS)
    with suppress(OSError):  # another reader may be doing the same
        os.replace(_aside(target), target)


def read_folder(path: str | Path, read: Callable[[Path], T]) -> T:
    """Call `read(path)` until the folder was the same from beginning to end.

    A writer may put a new folder in place while it is read, which would give a file missing, or
    the files of one beside the manifest of the other.

    Args:
        path: a folder that `replacing_folder` writes.
        read: reads all that it needs of it.

    Raises:
        BundleError: as `read`, from a folder that stayed in place; or it was replaced again and
            again.
    """
    folder = Path(path)
    for _ in range(_READS):
        recover_folder(folder)
        before = _identity(folder)
        try:
            result = read(folder)
        except (BundleError, OSError):
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return result
    raise BundleError(f"{folder}: was replaced {_READS} times while it was read; read it again")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, beside and renamed into place."""
    with replacing_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, beside and renamed into place."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path, missing: str) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        missing: what to say where there is none.

    Raises:
        DataError: no such file, or not JSON.
    """
    return _parsed(path, missing, json.loads, "JSON", DataError)


def read_toml(path: str | Path, missing: str) -> dict[str, Any]:
    """What a TOML file holds.

    Args:
        path: the file.
        missing: what to say where there is none.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    return _parsed(path, missing, tomllib.loads, "TOML", ConfigError)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write `manifest.json` in `folder`: `content`, and the SHA-256 of every other file there.

    The manifest's own bytes are guarded too, by `manifest.sha256` beside it.
    """
    files = {
        file.relative_to(folder).as_posix(): sha256(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in (MANIFEST, _GUARD)
    }
    write_json(folder / MANIFEST, {**content, "files": files})
    (folder / _GUARD).write_text(sha256(folder / MANIFEST) + "\n", encoding="ascii")


def read_manifest(folder: Path, format_name: str, version: int) -> dict[str, Any]:
    """Read and check `manifest.json` and every file it names, before anything else is parsed.

    Where a writer may be about, call it, and read the files, within `read_folder`.

    Args:
        folder: the folder of a dataset or bundle.
        format_name: what the manifest's `format` must say.
        version: the `format_version` this code reads.

    Raises:
        BundleError: folder or file missing, a byte differs, or format or version do not fit.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; it should hold a {format_name}")
    guard = folder / _GUARD
    if not path.is_file() or not guard.is_file():
        raise BundleError(f"{folder}: {MANIFEST} or its .sha256 is missing; not a {format_name}")
    if guard.read_bytes() != f"{sha256(path)}\n".encode():
        raise BundleError(f"{path}: damaged (SHA-256 differs); {_REMEDY}")
    try:
        content: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path}: not a manifest ({error})") from None
    if content.get("format") != format_name or content.get("format_version") != version:
        raise BundleError(
            f"{path}: says {content.get('format')!r} version {content.get('format_version')!r}; "
            f"this dualtower reads {format_name!r} version {version}"
        )
    for name, expected in content["files"].items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{file}: missing; {_REMEDY}")
        if sha256(file) != expected:
            raise BundleError(f"{file}: damaged (SHA-256 differs); {_REMEDY}")
    return content


def _put_in_place(beside: Path, target: Path) -> None:
    """Both renames, again where somebody put a folder back in between."""
    for left in reversed(range(_READS)):
        try:
            if target.exists():
                _remove(_aside(target))
                os.replace(target, _aside(target))
            os.replace(beside, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or not left:
                raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock that says that the folder's writer lives; a killed process holds none."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_leftovers(target: Path) -> None:
    """Remove the new folders of writers that were killed."""
    for folder in target.parent.iterdir():
        if folder.name.startswith(_beside_prefix(target)) and _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether nobody holds a new folder's lock, and had the time to take it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(handle).st_mtime > _GRACE_SECONDS
    except OSError:
        return False
    finally:
        os.close(handle)


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove(aside: Path) -> None:
    """Remove the old folder, or the link that an earlier version moved aside in its place."""
    if aside.is_symlink():
        aside.unlink(missing_ok=True)
    else:
        shutil.rmtree(aside, ignore_errors=True)


def _beside_prefix(target: Path) -> str:
    return f".{target.name}.new-"


def _aside(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Make what a file holds, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parsed(
    path: str | Path,
    missing: str,
    parse: Callable[[str], T],
    form: str,
    failure: type[DualtowerError],
) -> T:
    file = Path(path)
    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise failure(f"{file}: {missing}") from None
    except ValueError as error:  # of the parser, or of text that is not UTF-8
        raise failure(f"{file}: not valid {form}: {error}") from None
