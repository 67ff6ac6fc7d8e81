import json
import os
from pathlib import Path

import pytest

from dualtower import files
from dualtower.errors import BundleError, ConfigError
from dualtower.files import (
    check_replaceable,
    read_folder,
    read_manifest,
    recover_folder,
    replacing_file,
    replacing_folder,
    sha256,
    write_manifest,
)

FORMAT = "dualtower-thing"


def write_thing(path: Path, content: bytes = b"one") -> Path:
    with replacing_folder(path, FORMAT) as folder:
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
        with replacing_folder(target, FORMAT) as folder:
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
            replacing_folder(tmp_path / name, FORMAT),
        ):
            raise AssertionError("nothing may be written")
    assert sorted(os.listdir(tmp_path)) == ["file", "tables"]
    assert os.listdir(tmp_path / "tables") == ["manifest.json"]


def test_new_and_empty_folders_may_be_written(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new", FORMAT)
    check_replaceable(tmp_path, FORMAT)


def test_a_folder_of_ours_with_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing")
    (target / "inner").mkdir()
    check_replaceable(target, FORMAT)
    (target / "inner" / "notes.txt").write_text("precious")
    with pytest.raises(
        ConfigError, match=r"thing: holds inner/notes\.txt, which dualtower did not"
    ):
        write_thing(target)
    assert (target / "inner" / "notes.txt").read_text() == "precious"
    (target / "inner" / "notes.txt").unlink()
    (target / "part.bin").unlink()
    assert read_folder(write_thing(target, b"two"), content_of) == b"two"  # a damaged one may go


def test_a_folder_of_another_format_or_without_a_manifest_is_not_replaced(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing")
    with pytest.raises(ConfigError, match="holds a dualtower-thing, not a dualtower-bundle"):
        check_replaceable(target, "dualtower-bundle")
    for content in ("", "[]", "{}"):
        (target / "manifest.json").write_text(content)
        with pytest.raises(ConfigError, match=r"manifest\.json is missing or damaged.* delete the"):
            check_replaceable(target, FORMAT)
    (target / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="delete the folder to make it anew"):
        check_replaceable(target, FORMAT)


def test_a_mount_point_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to("volume")
    monkeypatch.setattr(files.os.path, "ismount", lambda path: path == tmp_path / "volume")
    for name in ("volume", "link"):
        with pytest.raises(ConfigError, match=f"{name}: is a mount point, .* a folder in it"):
            write_thing(tmp_path / name)
    assert read_folder(write_thing(tmp_path / "volume" / "thing"), content_of) == b"one"


def test_a_link_stays_and_the_folder_that_it_leads_to_is_replaced(
    tmp_path: Path, naps: list[float]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    link = tmp_path / "thing"
    link.symlink_to("disk/thing")
    for content in (b"one", b"two"):
        assert read_folder(write_thing(link, content), content_of) == content
        assert link.is_symlink()
        assert os.listdir(disk) == ["thing"]
    (disk / "thing").rename(disk / ".thing.old")  # a kill between the renames
    assert read_folder(link, content_of) == b"two"


def test_a_link_that_was_moved_aside_is_not_in_the_way(tmp_path: Path) -> None:
    write_thing(tmp_path / "elsewhere")
    target = write_thing(tmp_path / "thing")
    (tmp_path / ".thing.old").symlink_to("elsewhere")
    write_thing(target, b"two")
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "thing"]
    assert content_of(tmp_path / "elsewhere") == b"one"


def content_of(folder: Path) -> bytes:
    """As a loader reads: the manifest is checked first, then the file is read."""
    read_manifest(folder, FORMAT, 1)
    return (folder / "part.bin").read_bytes()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were asked for; none takes place."""
    asked: list[float] = []
    monkeypatch.setattr(files.time, "sleep", asked.append)
    return asked


def test_a_kill_between_the_renames_is_undone(tmp_path: Path, naps: list[float]) -> None:
    target = write_thing(tmp_path / "thing", b"old")
    target.rename(tmp_path / ".thing.old")
    assert read_folder(target, content_of) == b"old"
    assert os.listdir(tmp_path) == ["thing"]
    assert 0.5 < sum(naps) < 2


def test_a_reader_between_the_renames_waits_for_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_thing(tmp_path / "thing", b"old")
    new = write_thing(tmp_path / "other", b"new")
    target.rename(tmp_path / ".thing.old")
    monkeypatch.setattr(files.time, "sleep", lambda seconds: new.rename(target))
    assert read_folder(target, content_of) == b"new"


def test_a_reader_that_puts_the_old_back_does_not_make_the_writer_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    """The writer stands still between its renames for longer than a reader waits."""
    target = write_thing(tmp_path / "thing", b"old")
    rename, read = os.replace, []

    def slow_replace(source: Path, place: Path) -> None:
        if place == target and not read:
            read.append(None)
            read[0] = read_folder(target, content_of)
        rename(source, place)

    monkeypatch.setattr(files.os, "replace", slow_replace)
    write_thing(target, b"new")
    assert read == [b"old"]
    assert read_folder(target, content_of) == b"new"
    assert os.listdir(tmp_path) == ["thing"]


@pytest.mark.parametrize("stage", ["before the manifest", "after the manifest"])
def test_a_folder_replaced_while_it_is_read_is_read_again(tmp_path: Path, stage: str) -> None:
    target = write_thing(tmp_path / "thing", b"old")
    seen = []

    def read(folder: Path) -> tuple[str, bytes]:
        first = not seen
        seen.append(1)
        if first and stage == "before the manifest":
            write_thing(target, b"new")
        expected = read_manifest(folder, FORMAT, 1)["files"]["part.bin"]
        if first and stage == "after the manifest":
            write_thing(target, b"new")
        return expected, (folder / "part.bin").read_bytes()

    expected, content = read_folder(target, read)
    assert content == b"new"
    assert expected == sha256(target / "part.bin")
    assert len(seen) == 2


def test_a_folder_that_is_replaced_all_the_time_is_given_up(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing", b"old")
    with pytest.raises(BundleError, match="was replaced 10 times while it was read"):
        read_folder(target, lambda folder: write_thing(target, b"new"))


def test_a_fault_of_a_folder_that_stays_is_raised_at_once(tmp_path: Path) -> None:
    tries = []

    def read(folder: Path) -> None:
        tries.append(1)
        raise FileNotFoundError("part.bin")

    with pytest.raises(FileNotFoundError):
        read_folder(write_thing(tmp_path / "thing"), read)
    assert len(tries) == 1


def test_what_a_kill_after_the_renames_left_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    target = write_thing(tmp_path / "thing", b"new")
    write_thing(tmp_path / "old").rename(tmp_path / ".thing.old")
    recover_folder(target)
    assert read_folder(target, content_of) == b"new"
    write_thing(target, b"newer")
    assert os.listdir(tmp_path) == ["thing"]
    assert read_folder(target, content_of) == b"newer"


def test_what_killed_writers_left_goes_with_the_next_success(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    left, young, others = (
        tmp_path / name for name in (".thing.new-killed", ".thing.new-young", ".things.new-x")
    )
    for folder in (left, young, others):
        folder.mkdir()
        (folder / "half").write_text("")
    for folder in (left, others):
        os.utime(folder, (0, 0))
    with replacing_folder(target, FORMAT) as living:
        os.utime(living, (0, 0))
        write_thing(target, b"of another writer")
        assert living.is_dir()
        assert sorted(os.listdir(tmp_path)) == sorted(
            [living.name, young.name, others.name, "thing"]
        )
        write_manifest(living, {"format": FORMAT, "format_version": 1})
    assert sorted(os.listdir(tmp_path)) == sorted([young.name, others.name, "thing"])
    assert list(read_manifest(target, FORMAT, 1)["files"]) == []


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


def test_a_folder_is_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "thing", FORMAT) as folder:
        (folder / "part.bin").touch(mode=0o600)
        (folder / "inner").mkdir()
        write_manifest(folder, {"format": FORMAT, "format_version": 1})
    mask = os.umask(0)
    os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes.pop("inner") == modes.pop("thing") == 0o777 & ~mask
    assert set(modes.values()) == {0o666 & ~mask}
