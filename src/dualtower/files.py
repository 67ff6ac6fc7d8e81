"""Writing so that a kill at any moment leaves the old or the new, and checking what is read."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dualtower.errors import BundleError, ConfigError

MANIFEST = "manifest.json"
_GUARD = f"{MANIFEST}.sha256"


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
        _sync(beside)
        beside.chmod(0o666 & ~_umask())
        os.replace(beside, target)
        _sync(target.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path` by rename.

    An existing folder is moved aside first and deleted last. Between the two renames `path` is
    absent for a moment; `recover_folder` puts the old one back after a kill there.

    Raises:
        ConfigError: as `check_replaceable`, before anything is written.
        OSError: the folder cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(target)
    check_replaceable(target)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
    beside.chmod(0o777 & ~_umask())
    try:
        yield beside
        for file in beside.rglob("*"):
            _sync(file)
        _sync(beside)
        aside = _aside(target)
        if target.exists():
            os.replace(target, aside)
        os.replace(beside, target)
        _sync(target.parent)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_replaceable(path: str | Path) -> None:
    """Check that `replacing_folder(path)` would delete nothing but what dualtower itself wrote.

    Raises:
        ConfigError: `path` is a file, or a folder that holds files and no manifest of ours.
    """
    target = Path(path)
    if target.is_dir() and ((target / _GUARD).is_file() or not any(target.iterdir())):
        return
    if target.exists():
        raise ConfigError(
            f"{target}: exists and was not written by dualtower; it would be replaced and its "
            "content lost, so name a new or empty folder"
        )


def recover_folder(path: str | Path) -> None:
    """Finish or undo a `replacing_folder` that was killed between its two renames."""
    target = Path(path)
    aside = _aside(target)
    if aside.exists():
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(aside, target)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, beside and renamed into place."""
    with replacing_file(path) as beside:
        beside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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

    Args:
        folder: the folder of a dataset or bundle.
        format_name: what the manifest's `format` must say.
        version: the `format_version` this code reads.

    Raises:
        BundleError: folder or file missing, a byte differs, or format or version do not fit.
    """
    recover_folder(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; it should hold a {format_name}")
    guard = folder / _GUARD
    if not path.is_file() or not guard.is_file():
        raise BundleError(f"{folder}: {MANIFEST} or its .sha256 is missing; not a {format_name}")
    if guard.read_bytes() != f"{sha256(path)}\n".encode():
        raise BundleError(f"{path}: damaged (SHA-256 differs); write the {format_name} again")
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
            raise BundleError(f"{file}: missing; write the {format_name} again")
        if sha256(file) != expected:
            raise BundleError(f"{file}: damaged (SHA-256 differs); write the {format_name} again")
    return content


def _aside(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
