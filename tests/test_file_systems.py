"""File systems without fsync, locks or hard links, such as SMB and FUSE, are supported."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn

import fusiform
from fusiform.engine import disk
from fusiform.engine.doctor.checks import check_output
from fusiform.engine.errors import UserError
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.store.files import durable
from fusiform.engine.store.files.durable import DurableFolder

from . import flat

CANNOT = ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EPERM")
FAILS = ("EIO", "ENOSPC", "EDQUOT")


def refusing(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    return refuse


def of_folders(name: str) -> Callable[[int], None]:
    """An fsync that fails for folders only."""

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refusing(name)()

    return fsync


def scan(stimuli: Path, output: Path) -> list[str]:
    torch.manual_seed(0)
    network, notes = nn.Sequential(nn.Conv2d(3, 2, 5), nn.ReLU()), list[str]()
    flat.scan(
        network, stimuli, output, layers="0", preprocessing=Preprocessing(16, 16),
        commit_every=0, batch_size=4, progress=Listener(notes.append),
    )  # fmt: skip
    assert fusiform.check(output).problems == ()
    return [note for note in notes if "file system" in note]


@pytest.mark.smoke
@pytest.mark.parametrize("name", CANNOT)
def test_folders_without_fsync_are_noted_once(
    name: str, stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scan(stimuli, tmp_path / "usual.zarr") == []
    monkeypatch.setattr(os, "fsync", of_folders(name))
    (note,) = scan(stimuli, tmp_path / "a.zarr")
    assert "cannot synchronise folders: a power failure may lose" in note
    (told,) = [one for one in check_output(str(tmp_path)) if one.found == "cannot do everything"]
    assert "cannot synchronise folders" in told.advice


def test_files_without_fsync_are_noted(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refusing("EINVAL"))
    notes = scan(stimuli, tmp_path / "a.zarr")
    assert [note.partition("cannot ")[2][:18] for note in notes] == [
        "synchronise files:", "synchronise folder",
    ]  # fmt: skip


@pytest.mark.parametrize("fsync", [refusing, of_folders])
@pytest.mark.parametrize("name", FAILS)
def test_an_fsync_that_fails_raises(
    name: str, fsync: Any, stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fsync(name))
    with pytest.raises(UserError, match=os.strerror(getattr(errno, name))):
        scan(stimuli, tmp_path / "a.zarr")
    with pytest.raises(UserError, match="cannot write"):
        flat.pack_stimuli(stimuli, tmp_path / "packed")


@pytest.mark.parametrize("hint", [None, lambda *_: -1])
def test_disks_need_not_begin_with_a_file_when_it_is_written(
    hint: Any, stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_sync_file_range", lambda: hint)
    assert scan(stimuli, tmp_path / "a.zarr") == []


@pytest.mark.parametrize("name", [*CANNOT, "ENOLCK", "EBADF"])
def test_a_file_system_without_locks_is_noted(
    name: str, stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(name))
    (note,) = scan(stimuli, tmp_path / "a.zarr")
    assert "cannot lock a folder: let one scan at a time write it" in note


def test_a_lock_that_fails_raises(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing("EIO"))
    with pytest.raises(UserError, match="Input/output error"):
        scan(stimuli, tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["EPERM", "ENOTSUP", "ENOSYS"])
def test_stores_are_written_without_hard_links(
    name: str, stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refusing(name))
    assert scan(stimuli, tmp_path / "a.zarr") == []


def test_a_folder_that_cannot_be_opened_is_noted(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse_folders(path: Any, flags: int, *more: Any, **named: Any) -> int:
        asked = flags == os.O_RDONLY and not named and Path(path).is_dir()
        if asked and not str(path).endswith(".partial"):  # which is locked
            refusing("EACCES")()
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse_folders)
    (note,) = scan(stimuli, tmp_path / "a.zarr")
    assert "cannot synchronise folders" in note


def test_a_packed_set_is_written_without_folder_fsync(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", of_folders("EINVAL"))
    notes: list[str] = []
    flat.pack_stimuli(stimuli, tmp_path / "packed", progress=Listener(notes.append))
    assert sum("cannot synchronise folders" in note for note in notes) == 1


@pytest.mark.parametrize("files", [1, 12])
def test_files_whose_flush_failed_are_flushed_by_the_next(
    files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, flushed = DurableFolder(tmp_path), set[int]()
    for number in range(files):
        folder.write(f"a/c/{number}", [b"moments"])
    monkeypatch.setattr(os, "fsync", refusing("EIO"))
    with pytest.raises(OSError, match="Input/output error"):
        folder.flush()
    monkeypatch.setattr(os, "fsync", lambda number: flushed.add(os.fstat(number).st_ino))
    folder.flush()
    assert flushed == {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))}
    flushed.clear()
    folder.flush()
    assert flushed == {tmp_path.stat().st_ino}


def test_a_folder_that_is_removed_during_a_write_is_not_made_again(tmp_path: Path) -> None:
    root, moved = tmp_path / "o.zarr", tmp_path / "moved"
    root.mkdir()

    class Vanishing(DurableFolder):
        def _path(self, key: str) -> Path:
            path = super()._path(key)
            if key == "pool/late":
                root.rename(moved)
            return path

    folder = Vanishing(root)
    folder.write("body/mean/c.0", [b"1"])
    assert (root / "body/mean/c.0").read_bytes() == b"1"
    with pytest.raises(FileNotFoundError):
        folder.write("pool/late", [b"2"])
    assert not root.exists()


def test_files_are_flushed_one_by_one_where_threads_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    folder, flushed = DurableFolder(tmp_path), set[int]()
    for number in range(12):
        folder.write(f"a/c/{number}", [b"moments"])
    monkeypatch.setattr(Thread, "start", refuse)
    monkeypatch.setattr(os, "fsync", lambda number: flushed.add(os.fstat(number).st_ino))
    folder.flush()
    assert flushed == {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))}


def test_a_commit_is_recorded_when_its_files_and_their_folders_are_on_the_disk(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, files, folders = set[int](), set[int](), set[int]()  # by inode, until they are flushed
    records = list[int]()
    start, replace = durable.start_flushing, Path.replace

    def note_start(descriptor: int, path: Path) -> None:
        assert os.path.samestat(os.fstat(descriptor), path.stat())
        assert path.suffix == ".partial"
        started.add(path.stat().st_ino)
        start(descriptor, path)

    def note_name(path: Path, target: Path) -> Path:
        if target.exists():  # its inode is free then
            started.discard(target.stat().st_ino)
        if path.stat().st_ino in started:
            files.add(path.stat().st_ino)
            folders.add(path.parent.stat().st_ino)
        elif target.parent.name == ".commits" and target.suffix == ".json":
            records.append(len(started))
            assert not files | folders
        return replace(path, target)

    def note_flush(descriptor: int) -> None:
        for waiting in (files, folders):
            waiting.discard(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(durable, "_LARGE", 0)
    monkeypatch.setattr(durable, "start_flushing", note_start)
    monkeypatch.setattr(Path, "replace", note_name)
    monkeypatch.setattr(os, "fsync", note_flush)
    scan(stimuli, tmp_path / "a.zarr")
    assert len(records) > 1
    assert 0 < records[-1] == len(started)
