import json
import os
from pathlib import Path

import pytest

from dualtower.errors import BundleError, ConfigError
from dualtower.files import (
    check_replaceable,
    read_manifest,
    recover_folder,
    replacing_file,
    replacing_folder,
    sha256,
    write_manifest,
)

FORMAT = "dualtower-thing"


def write_thing(path: Path, content: bytes = b"one") -> Path:
    with replacing_folder(path) as folder:
        (folder / "part.bin").write_bytes(content)
        write_manifest(folder, {"format": FORMAT, "format_version": 1})
    return path


def test_a_file_is_replaced_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with replacing_file(target) as beside:
        beside.write_text("old")

    def fail_half_way() -> None:
        with replacing_file(target) as beside:
            beside.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == ["file.txt"]


def test_a_folder_is_replaced_only_on_success(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing", b"old")

    def fail_half_way() -> None:
        with replacing_folder(target) as folder:
            (folder / "part.bin").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert (target / "part.bin").read_bytes() == b"old"
    write_thing(target, b"new")
    assert (target / "part.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["thing"]


def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "manifest.json").write_text("{}")  # of some other program
    (tmp_path / "file").write_text("precious")
    for name in ("tables", "file"):
        with (
            pytest.raises(ConfigError, match=f"{name}: exists and was not written by dualtower"),
            replacing_folder(tmp_path / name),
        ):
            raise AssertionError("nothing may be written")
    assert sorted(os.listdir(tmp_path)) == ["file", "tables"]
    assert os.listdir(tmp_path / "tables") == ["manifest.json"]


def test_new_and_empty_folders_may_be_written(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new")
    check_replaceable(tmp_path)


def test_a_kill_between_the_renames_is_undone(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing", b"old")
    target.rename(tmp_path / ".thing.old")
    assert read_manifest(target, FORMAT, 1)["files"] == {"part.bin": sha256(target / "part.bin")}
    assert os.listdir(tmp_path) == ["thing"]


def test_what_a_kill_after_the_renames_left_is_removed(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing", b"new")
    write_thing(tmp_path / "old").rename(tmp_path / ".thing.old")
    recover_folder(target)
    assert os.listdir(tmp_path) == ["thing"]
    assert (target / "part.bin").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["part.bin", "manifest.json", "manifest.json.sha256"])
def test_one_byte_changed_or_added_is_refused(tmp_path: Path, name: str) -> None:
    target = write_thing(tmp_path / "thing")
    good = (target / name).read_bytes()
    for bad in (bytes([good[0] ^ 1]) + good[1:], good + b" ", good[:-1]):
        (target / name).write_bytes(bad)
        with pytest.raises(BundleError, match="damaged"):
            read_manifest(target, FORMAT, 1)
    (target / name).unlink()
    with pytest.raises(BundleError, match="missing"):
        read_manifest(target, FORMAT, 1)


def test_another_format_or_version_is_refused(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing")
    with pytest.raises(BundleError, match=r"says 'dualtower-thing' version 1; .* 'other' version"):
        read_manifest(target, "other", 1)
    with pytest.raises(BundleError, match="reads 'dualtower-thing' version 2"):
        read_manifest(target, FORMAT, 2)
    with pytest.raises(BundleError, match="no such folder"):
        read_manifest(tmp_path / "nothing", FORMAT, 1)


def test_a_manifest_that_is_no_object_is_refused(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing")
    (target / "manifest.json").write_text(json.dumps([1]))
    (target / "manifest.json.sha256").write_text(sha256(target / "manifest.json") + "\n")
    with pytest.raises(BundleError, match="not a manifest"):
        read_manifest(target, FORMAT, 1)
