"""Drafts and scratch folders beside an output survive kills and leave users' files alone."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

import fusiform
from fusiform.cli import main
from fusiform.engine import beside
from fusiform.engine.errors import UserError
from fusiform.engine.networks.libraries import demo
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.store.writing.creating import StoreBlueprint
from fusiform.engine.store.writing.publishing import drafting
from fusiform.engine.store.writing.resuming import Existing, resuming
from fusiform.engine.store.zarr_internals import await_writes, sync

from . import flat
from .made import COUNTS, LAYERS, contents, fill, write

fcntl = pytest.importorskip("fcntl")

SMALL = Preprocessing(resize=16, crop=16)


# Kills: all writes of this thread from the k-th on are dropped, as after a SIGKILL


class Killed(BaseException):
    """A kill: no handler catches it, and no clean-up can write."""


_storm = SimpleNamespace(left=None, thread=0, hooked=False)
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if _storm.left is None or _storm.thread != threading.get_ident():
        return
    writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
    if event in _CHANGES or writes:
        _storm.left -= 1
        if _storm.left < 0:
            raise Killed


@contextmanager
def killed_at(write: int) -> Iterator[None]:
    """Drop all writes of this thread from the ``write``-th on, counted from 0."""
    if not _storm.hooked:
        sys.addaudithook(_hook)
    _storm.hooked, _storm.thread, _storm.left = True, threading.get_ident(), write
    try:
        yield
    finally:
        _storm.left = None


@contextmanager
def alive() -> Iterator[None]:
    """Suspend kills."""
    left, _storm.left = _storm.left, None
    yield
    _storm.left = left


def storm(
    prepare: Callable[[], None], job: Callable[[], None], all_of: int = 1000
) -> Iterator[int]:
    """Kill a job at its first write, then its second, and so on; later writes are sampled."""
    for write_number in chain(range(all_of), (all_of * 3**n for n in count())):
        prepare()
        try:
            with killed_at(write_number):
                job()
        except Killed:
            yield write_number
        else:
            return


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path)


def text_of(folder: Path) -> str | None:
    return (folder / "a").read_text() if folder.exists() else None


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("outlives", [False, True])
def test_publishing_killed_at_any_write_loses_nothing(
    tmp_path: Path, earlier: bool, outlives: bool
) -> None:
    final, draft = tmp_path / "o", tmp_path / "o.partial"

    def prepare() -> None:
        clear(tmp_path)
        for folder in [final] * earlier + [draft] * outlives:
            folder.mkdir()
            (folder / "a").write_text("old" if folder is final else "new")
        if outlives:
            beside.mark(draft)

    def job() -> None:
        beside.tidy(final)
        if not outlives:
            with beside.scratch(final) as new:
                (new / "a").write_text("new")
                beside.publish(new, final, earlier)
        elif draft.exists():
            beside.publish_draft(final, earlier)

    for _ in storm(prepare, job):
        found, (_, old) = text_of(final), beside.pending_publication(final)
        assert found or not earlier or text_of(old or final) == "old"
        beside.tidy(final)
        assert text_of(final) == "new" or text_of(final) == ("old" if earlier else None)
        if outlives:
            assert "new" in (text_of(final), text_of(draft))
            assert beside.is_ours(draft) or not draft.exists()
        names = {path.name for path in tmp_path.iterdir()}
        assert names <= {"o", "o.partial"} if outlives else names <= {"o"}
        if not (text_of(final) == "new" and not earlier):
            job()
        assert text_of(final) == "new"
        assert [path.name for path in tmp_path.rglob("*")] == ["o", "a"]
    assert [path.name for path in tmp_path.rglob("*")] == ["o", "a"]


@pytest.mark.parametrize("there", [False, True])
def test_a_drawn_set_killed_at_any_write_can_be_drawn_again(tmp_path: Path, there: bool) -> None:
    output, taken = tmp_path / "above" / "set", UserError("taken")

    def prepare() -> None:
        clear(tmp_path)
        if there:
            output.mkdir(parents=True)
            output.chmod(0o750)

    def job() -> None:
        with beside.fill_folder(output, taken) as new:
            for name in ("a", "b"):
                (new / name).mkdir()
                (new / name / "1").write_text(name)
            (new / "c").write_text("c")

    def whole() -> bool:
        found = sorted(str(path.relative_to(output)) for path in output.rglob("*"))
        return found == ["a", "a/1", "b", "b/1", "c"] and len([*output.parent.iterdir()]) == 1

    for _ in storm(prepare, job):
        try:
            job()
        except UserError:  # killed after all but the removal of the last scratch folder
            assert whole()
        assert whole()
        assert not there or stat.S_IMODE(output.stat().st_mode) == 0o750
    assert whole()


def made(output: Path, overwrite: bool, outlives: bool = True) -> None:
    """Write a synthetic store, as a scan or a merge does."""
    given = contents(LAYERS[2:])
    given["provenance"] |= {"batch_size": 4}
    blueprint = StoreBlueprint(**given)
    ways = (
        resuming(output, blueprint, np.arange(COUNTS.sum()), Existing(overwrite)),
        drafting(output, overwrite, blueprint),
    )
    with ways[not outlives] as draft:
        if not draft.is_complete:
            with alive():
                write(draft, LAYERS[2:])


def test_overwriting_killed_at_any_write_keeps_the_old_or_the_new_store(tmp_path: Path) -> None:
    earlier, output = tmp_path / "earlier", tmp_path / "work" / "o.zarr"
    fill(earlier, LAYERS[2:])
    output.parent.mkdir()

    def prepare() -> None:
        clear(output.parent)
        shutil.copytree(earlier, output)

    kills = 0
    for kills in storm(prepare, lambda: made(output, True), 12):  # noqa: B007
        if not output.exists():
            with pytest.raises(UserError, match="it was being replaced, and is kept in"):
                fusiform.open_store(output)
            with pytest.raises(UserError, match="`overwrite=True`"):  # restored at once
                made(output, False)
        made(output, True)
        assert fusiform.open_store(output).provenance.get("batch_size") == 4
        assert [path.name for path in output.parent.iterdir()] == ["o.zarr"]
        assert not (output / beside.MARK).exists()
    assert kills > 12
    assert fusiform.check(output).problems == ()


# Users' files


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 2, 5), nn.ReLU())


def scan(stimuli: Path, output: Path, **options: Any) -> Any:
    return flat.scan(Net(), stimuli, output, preprocessing=SMALL, **options)


def record(stimuli: Path, output: Path, **options: Any) -> Any:
    return flat.record(Net(), stimuli, output, layers="1", random=3, preprocessing=SMALL, **options)


def everything(folder: Path) -> dict[str, Any]:
    """Contents of a folder; links are given as their targets."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
    }


def _store(place: Path) -> None:
    fill(place)


def _folder(place: Path) -> None:
    place.mkdir()
    (place / "thesis.txt").write_text("mine")


def _file(place: Path) -> None:
    place.write_text("mine")


def _link(place: Path) -> None:
    _folder(target := place.with_name(f"{place.name}-precious"))
    place.symlink_to(target)


def _link_to_a_marked_folder(place: Path) -> None:
    _link(place)
    (place / beside.MARK).touch()


def _nowhere(place: Path) -> None:
    place.symlink_to("nowhere")


def _loop(place: Path) -> None:
    place.symlink_to(place.name)


def _linked_mark(place: Path) -> None:
    _folder(place)
    (place / beside.MARK).symlink_to("thesis.txt")


USERS = (_store, _folder, _file, _link, _link_to_a_marked_folder, _nowhere, _loop, _linked_mark)


@pytest.mark.parametrize("lay", USERS)
def test_a_users_file_in_place_of_a_draft_raises(
    lay: Callable[[Path], None], tmp_path: Path, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    (work / "stimuli").mkdir(parents=True)
    fill(work / "demo.zarr", LAYERS[2:])
    for name in ("demo.zarr", "y.zarr"):
        lay(work / f"{name}.partial")
    before = everything(work)
    for make, name, options in (
        (scan, "y.zarr", {}),
        (scan, "y.zarr", {"commit_every": 0, "restart": True}),
        (scan, "demo.zarr", {"overwrite": True}),
        (record, "y.zarr", {}),
        (record, "y.zarr", {"commit_every": 0, "restart": True}),
    ):
        with pytest.raises(UserError, match=r"\.zarr\.partial is where an unfinished .*move it"):
            make(stimuli, work / name, **options)
        assert everything(work) == before
    monkeypatch.setattr(sys, "argv", ["fusiform", "demo", str(work), "-q"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert everything(work) == before


def test_a_users_files_beside_an_output_are_left_alone(
    tmp_path: Path, stimuli: Path, made_path: Path
) -> None:
    output = tmp_path / "work" / "x.zarr"
    output.parent.mkdir()
    ends = (".old", ".partial-abc", ".partial-0123abcd", ".partial-0123abcde", ".tmp", ".new")
    for number, end in enumerate(ends):
        USERS[number % len(USERS)](output.with_name(f"x.zarr{end}"))
        _store(output.with_name(f"x.zarr.partial-{number:08x}"))
    other = output.with_name("y.zarr.partial-0123abcd")
    other.mkdir()
    beside.mark(other)
    before = everything(output.parent)

    def check(*_: Any) -> None:
        assert output.is_dir()
        found = everything(output.parent)
        assert before.items() <= found.items()
        assert {name.split("/")[0] for name in found.keys() - before.keys()} == {"x.zarr"}
        assert not (output / beside.MARK).exists()

    check(scan(stimuli, output), scan(stimuli, output, overwrite=True))
    check(made(output, True, outlives=False))
    shutil.rmtree(output)
    check(record(stimuli, output), record(stimuli, output, overwrite=True))
    shutil.rmtree(output)
    check(flat.pack_stimuli(stimuli, output, preprocessing=SMALL))
    shutil.rmtree(output)
    check(fusiform.make_stimuli(output, per_category=1, size=32))
    shutil.rmtree(output)
    check(fusiform.scramble_stimuli(stimuli, output, method="phase"))


def test_a_draft_of_an_earlier_version_without_a_mark_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        made_until_stopped(tmp_path / "o.zarr")
    (tmp_path / "o.zarr.partial" / beside.MARK).unlink()
    made(tmp_path / "o.zarr", False)
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


def made_until_stopped(output: Path) -> None:
    given = contents(LAYERS[2:])
    given["provenance"] |= {"batch_size": 4}
    order = np.arange(COUNTS.sum())
    with resuming(output, StoreBlueprint(**given), order) as draft:
        draft.write_commit(batches=0)
        raise KeyboardInterrupt


# Concurrent runs


def test_a_folder_renamed_before_it_is_locked_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "o.zarr"
    with pytest.raises(KeyboardInterrupt):
        made_until_stopped(output)
    flock, calls = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:  # now the run with the lock publishes
            monkeypatch.setattr(fcntl, "flock", flock)
            made(output, False)
            monkeypatch.setattr(fcntl, "flock", late)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UserError, match="the output must not exist"):
        made(output, False)
    assert len(calls) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]
    assert fusiform.check(output).problems == ()


def test_a_scan_cannot_start_while_another_publishes(tmp_path: Path) -> None:
    output = tmp_path / "o.zarr"
    with pytest.raises(KeyboardInterrupt):
        made_until_stopped(output)
    with beside.scratch(output) as new:
        (tmp_path / "o.zarr.partial").rename(new.with_name("draft"))
        with pytest.raises(UserError, match="one scan at a time fills"):
            made(output, False)
        with pytest.raises(UserError, match=r"an unfinished scan in .*/draft"):
            fusiform.open_store(output)
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr.partial"]
    made(output, False)
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


@pytest.mark.parametrize("locks", [True, False])
def test_a_scratch_folder_is_cleared_once_its_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    with beside.scratch(tmp_path / "o") as new:
        beside.tidy(tmp_path / "o")
        assert new.is_dir()
    assert not [*tmp_path.iterdir()]
    with pytest.raises(Killed), beside.scratch(tmp_path / "o"), killed_at(0):
        (tmp_path / "none").mkdir()
    monkeypatch.setattr(beside, "_FILLED", 3600)
    folder = tmp_path / "o.partial-0123abcd"
    folder.mkdir()
    beside.mark(folder)
    beside.tidy(tmp_path / "o")
    assert folder.exists() is not locks
    os.utime(folder, (0, 0)) if folder.exists() else None
    beside.tidy(tmp_path / "o")
    assert not [*tmp_path.iterdir()]


def test_copies_of_drafts_and_scratch_folders_are_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "o"
    names = ("o.partial-20261128", "o.partial-deadbeef", "o.partial-00000001")
    draft = beside.draft_path(output)
    draft.mkdir()
    beside.mark(draft)
    (draft / "work").write_text("hours")
    shutil.copytree(draft, tmp_path / names[0])  # a backup named by its date
    with beside.scratch(output) as new:
        (new / "work").write_text("hours")
        shutil.copytree(new.parent, tmp_path / names[1])
        shutil.copytree(new.parent, tmp_path / names[2])
        (tmp_path / names[2] / "other").write_text("mine")
    beside.tidy(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["o.partial", *names])
    assert beside.pending_publication(output) == (None, None)


@pytest.mark.parametrize("torn", [0, 1, 40])
def test_a_mark_torn_by_a_kill_still_counts(tmp_path: Path, torn: int) -> None:
    folder = tmp_path / "o.partial-0123abcd"
    folder.mkdir()
    beside.mark(folder)
    whole = (folder / beside.MARK).read_bytes()
    (folder / beside.MARK).write_bytes(whole[:torn])
    beside.tidy(tmp_path / "o")
    assert not folder.exists()


def test_a_set_is_drawn_into_the_existing_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o710)
    before = tmp_path.stat()
    monkeypatch.chdir(tmp_path)
    made_of = fusiform.make_stimuli(".", per_category=1, size=32)
    assert all(path.is_file() for path in made_of)
    assert len(made_of) == len([*tmp_path.iterdir()]) == 6
    after = tmp_path.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("there", [True, False])
def test_a_set_that_fails_while_drawn_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    output = tmp_path / "above" / "set"
    if there:
        output.mkdir(parents=True)
    before = everything(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.Image.save", full)
        with pytest.raises(UserError, match=r"cannot write .*set \(No space left"):
            fusiform.make_stimuli(output, per_category=1, size=32)
    assert everything(tmp_path) == before


def test_a_killed_demo_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fusiform", "demo", "tour", "--per-category", "4", "-q"])
    monkeypatch.setattr(demo, "installed_weights", lambda: None)
    monkeypatch.setattr(fusiform, "scan", lambda _, __, output, **___: fill(output))
    for write_number in (0, 1, 2, 5, 16):
        with pytest.raises(Killed), killed_at(write_number):
            main()
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    found = sorted(path.name for path in (tmp_path / "tour").iterdir())
    assert found == ["report.html", "stimuli", "untrained.zarr"]


def test_writes_under_way_end_before_their_folder_is_removed() -> None:
    """Behind a URL zarr's thread writes, also after the writer was interrupted."""
    written: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(0.2)
        written.append("late")

    async def both() -> None:
        tasks.append(asyncio.create_task(slow()))
        raise OSError(errno.ENOSPC, "No space left on device")

    tasks: list[Any] = []
    with pytest.raises(OSError, match="No space"):
        sync(both())
    await_writes()
    assert written == ["late"]
