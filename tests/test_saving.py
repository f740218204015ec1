"""Saving a contrast is a transaction: interrupted anywhere, it changes nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from zarr.storage import LocalStore

import fusiform
from fusiform import Criterion, open_store, save_contrast
from fusiform.engine import disk
from fusiform.engine.errors import UserError
from fusiform.engine.store.metadata import ROOT_BYTES, Misfit, read_json
from fusiform.engine.store.writing import saved_contrasts as saving
from fusiform.engine.store.writing.creating import StoreBlueprint
from fusiform.engine.store.writing.publishing import drafting

from .made import LAYERS, contents, fill, write

OLD, NEW = Criterion("rest", "t > 1"), Criterion("each", "t > 2")
HEAD = LAYERS[2]


class Faults:
    """Counts this process's file operations under a folder, and makes them fail.

    If ``dead``, all fail from the ``at``-th on, as if the program had been killed; otherwise only
    the ``at``-th fails, as on a full disk.
    """

    def __init__(self) -> None:
        self.under, self.at, self.dead, self.seen = "", 0, False, 0
        self._lock = threading.Lock()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.under or not (event == "open" or event.startswith("os.")):
            return
        if event == "open":
            path, mode, flags = arguments
            writes = set(mode) & set("wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
        else:
            path = arguments[0] if arguments else None
            writes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link")
        if not writes or not isinstance(path, str | bytes | os.PathLike):
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(self.under):  # noqa: PTH100
            return
        with self._lock:
            self.seen += 1
            fails = self.seen >= self.at if self.dead else self.seen == self.at
        if self.at and fails:
            raise OSError(errno.EIO if self.dead else errno.ENOSPC, "No space left on device")

    @contextmanager
    def __call__(self, under: Path, at: int = 0, dead: bool = False) -> Iterator[Faults]:
        self.seen, self.at, self.dead, self.under = 0, at, dead, str(under)
        try:
            yield self
        finally:
            self.under = ""


@pytest.fixture(scope="module")
def faults() -> Faults:
    return Faults()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two saved contrasts; one name will be saved again."""
    path = Path(fill(tmp_path_factory.mktemp("saving") / "saved.zarr", LAYERS[2:]).path)
    save_contrast(path, "other", OLD, "bodies", ["t"])
    save_contrast(path, "mine", OLD, "faces", ["t", "csi"])
    return path


@pytest.fixture
def own(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "own.zarr"))


def numbers(path: Path) -> dict[str, Any]:
    """Description and values of each saved contrast, read in three ways that agree."""
    store = open_store(path)
    tree, plain = store.tree(), xarray.open_datatree(path, engine="zarr", chunks={})
    found = {}
    for name, record in store.saved.items():
        t = store.read(HEAD, f"{name}/t")
        group = record.get("group", name)
        for one in (tree[f"head/{name}"], plain[f"head/{group}"]):
            np.testing.assert_array_equal(one["t"].values.reshape(t.shape), t, strict=True)
        found[name] = record["contrasts"], record["criterion"]["where"], t.tolist()
    assert fusiform.summary(store)
    assert set(plain["head"].children) == {r.get("group", n) for n, r in store.saved.items()}
    return found


def left(path: Path) -> set[str]:
    """Files in a store that its root does not name."""
    named = set(json.loads((path / "zarr.json").read_text())["consolidated_metadata"]["metadata"])
    folders = {p.parent.relative_to(path).as_posix() for p in path.rglob("zarr.json")} - {"."}
    files = {p.name for p in path.rglob("*") if p.name.endswith((".partial", ".saving"))}
    return {folder for folder in folders - named if folder.count("/") == 1} | files


@contextmanager
def told_in_a_line(path: Path) -> Iterator[None]:
    """Accept no error, or one line about the disk."""
    try:
        yield
    except UserError as error:
        said = str(error)
        if len(said.splitlines()) > 1 or f"cannot write {path}" not in said:
            raise


def again(path: Path) -> None:
    save_contrast(path, "mine", NEW, "scenes > bodies", ["t", "d_prime"])


@pytest.mark.parametrize(
    ("name", "dead"), [("mine", True), ("fresh", True), ("mine", False)],
    ids=["killed, anew", "killed", "disk full, anew"],
)  # fmt: skip
def test_saving_stopped_at_any_write_does_all_or_nothing(
    own: Path, saved: Path, tmp_path: Path, faults: Faults, name: str, dead: bool
) -> None:
    def save() -> None:
        save_contrast(own, name, NEW, "scenes > bodies", ["t", "d_prime"])

    before = numbers(own)
    with faults(own) as counted:
        save()
    after = numbers(own)
    assert after.keys() == before.keys() | {name}
    assert after != before
    assert not left(own)
    outcomes = set()
    last = range(counted.seen - 30, counted.seen + 1, 5 if dead else 25)
    for at in (1, *range(2, counted.seen - 30, 29 if dead else 31), *last):
        shutil.rmtree(own)
        shutil.copytree(saved, own)
        with faults(own, at, dead), told_in_a_line(own):
            save()
        found = numbers(own)
        assert found in (before, after), at
        outcomes.add(found == after)
        assert fusiform.check(own).problems == (), at
        save_contrast(own, "next", OLD, "faces", ["t"])  # under any name
        assert not left(own), at
        assert open_store(own).saved.keys() == {*found, "next"}
    assert False in outcomes  # and True if the clean-up is what fails


def test_only_leftovers_of_an_interrupted_saving_are_cleared(own: Path, tmp_path: Path) -> None:
    for name in ("mine.2", "notes", "fresh"):
        shutil.copytree(own / "head" / "mine", own / "head" / name)
    (own / "head" / "zarr.0123456789abcdef0123456789abcdef.partial").write_text("{")
    (own / "my.partial").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (own / "head" / "fresh.2").symlink_to(elsewhere)
    marked = ["mine.2", "../../elsewhere", "other", "shuffled", "fresh.2", 3]
    (own / ".saving").write_text(json.dumps({"groups": marked}))
    assert fusiform.check(own).problems == ()
    before = numbers(own)
    save_contrast(own, "fresh", OLD, "faces", ["t"])
    assert not (own / "head" / "fresh.2").is_symlink()
    assert (elsewhere / "file").exists()
    assert left(own) == {"head/notes", "my.partial"}
    assert numbers(own) == before | {"fresh": numbers(own)["fresh"]}
    (own / ".saving").write_text("[")
    save_contrast(own, "fresh", OLD, "faces", ["t"])
    assert left(own) == {"head/notes", "my.partial"}


def test_without_hard_links_the_group_stays_where_it_was_written(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(saving.os, "link", refused)
        again(own)
        assert open_store(own).saved["mine"]["group"] == "mine.2"
        first = numbers(own)
        again(own)
        assert open_store(own).saved["mine"]["group"] == "mine.3"
        assert numbers(own) == first
        assert not left(own)
        assert fusiform.check(own).problems == ()
        assert open_store(own).query("t > 1", saved="mine").counts()["matching"].sum() > 0
    again(own)
    assert "group" not in open_store(own).saved["mine"]
    assert numbers(own) == first
    assert not left(own)


def test_saving_restores_lost_consolidated_metadata(own: Path) -> None:
    root = json.loads((own / "zarr.json").read_text())
    before = numbers(own)
    del root["consolidated_metadata"]
    (own / "zarr.json").write_text(json.dumps(root))
    (problem,) = fusiform.check(own).problems
    assert problem == "zarr.json: has no consolidated metadata"
    with pytest.raises(UserError, match="has no consolidated metadata"):
        open_store(own).tree()
    save_contrast(own, "other", OLD, "bodies", ["t"])
    assert fusiform.check(own).problems == ()
    assert numbers(own) == before


# Concurrent readers and writers


def test_readers_of_a_replaced_contrast_get_the_earlier_one_or_an_error(
    own: Path,
) -> None:
    reader, lazy = open_store(own), open_store(own).tree()
    again(own)
    for read in (
        lambda: reader.read(HEAD, "mine/t"),
        lambda: reader.query("t > 1", saved="mine").counts(),
        lambda: lazy["head/mine/t"].values,
    ):
        with pytest.raises(UserError, match=r"mine of .* was saved anew .*: open it again"):
            read()
    assert reader.read(HEAD, "other/t").any()
    assert reader.read(HEAD, "t").any()
    assert lazy["head/other/t"].values.any()
    assert lazy["head/t"].values.any()


def test_readers_of_a_replaced_store_never_mix_both_stores(own: Path) -> None:
    reader, lazy = open_store(own), open_store(own).tree()
    with drafting(own, overwrite=True, blueprint=StoreBlueprint(**contents(LAYERS[2:]))) as draft:
        write(draft, LAYERS[2:])
    with pytest.raises(UserError, match="was replaced while it was read: open it again"):
        reader.read(HEAD, "mean")
    with pytest.raises(UserError, match="was replaced while it was read: open it again"):
        lazy["head/mean"].compute()
    with pytest.raises(UserError, match=r"another scan's store stands at .* by now"):
        save_contrast(reader, "late", OLD, "faces")


def test_concurrent_savers_wait_for_each_other_while_readers_read(own: Path) -> None:
    names = [f"of_{number}" for number in range(6)]
    failed: list[BaseException] = []
    done = threading.Event()

    def save(part: list[str]) -> None:
        try:
            for name in (*part, "mine"):
                save_contrast(own, name, NEW, "faces", ["t"])
        except BaseException as error:
            failed.append(error)

    def read() -> None:
        while not done.is_set():
            try:
                store = open_store(own)
                store.tree()
                store.query("t > 1").counts()
                store.query("t > 1", saved="mine").counts()
            except UserError as error:
                if "open it again" not in str(error):
                    failed.append(error)
            except BaseException as error:
                failed.append(error)

    savers = [threading.Thread(target=save, args=(names[part::3],)) for part in range(3)]
    reader = threading.Thread(target=read)
    for thread in (reader, *savers):
        thread.start()
    for thread in savers:
        thread.join()
    done.set()
    reader.join()
    assert not failed, failed
    assert set(open_store(own).saved) == {*names, "mine", "other"}
    assert fusiform.check(own).problems == ()
    assert not left(own)


def test_waiting_for_another_saving_program_is_reported(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_SAY_AFTER", 0.05)
    notes: list[str] = []
    holding = "import fcntl, os, sys, time; f = os.open(sys.argv[1], 0); fcntl.flock(f, 2)"
    waiting = "print(flush=True); time.sleep(0.5)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{holding}; {waiting}", str(own)], stdout=subprocess.PIPE
    )
    assert other.stdout
    assert other.stdout.readline()
    started = time.monotonic()
    save_contrast(own, "late", OLD, "faces", ["t"], note=notes.append)
    assert time.monotonic() - started > 0.2
    assert notes == [f"waiting for another program that is writing {own}"]
    other.communicate()
    assert set(open_store(own).saved) == {"late", "mine", "other"}


def test_metadata_replaced_while_read_are_read_again(own: Path) -> None:
    class Replaced(LocalStore):
        sizes = iter([400, 300])  # the earlier file's, twice

        async def getsize(self, key: str) -> int:
            return next(self.sizes, None) or await super().getsize(key)

    found = read_json(Replaced(own, read_only=True), "zarr.json", ROOT_BYTES)
    assert found == json.loads((own / "zarr.json").read_text())
    (own / "zarr.json").write_text("{")
    with pytest.raises(Misfit, match="has unreadable metadata"):
        read_json(LocalStore(own, read_only=True), "zarr.json", ROOT_BYTES)


def test_contrasts_that_readers_would_refuse_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill(tmp_path / "own.zarr").path
    save_contrast(path, "first", OLD, "faces", ["t"])
    monkeypatch.setitem(saving.store_schema.__globals__["LIMITS"], "saved", 1)
    with pytest.raises(UserError, match="number of saved contrasts must be at most 1"):
        save_contrast(path, "second", OLD, "faces", ["t"])
    assert set(open_store(path).saved) == {"first"}
    assert not left(path)


def test_saving_beside_a_strangers_pipe_ends_in_one_line(own_store: Any) -> None:
    save_contrast(own_store, "one", Criterion("rest"), "faces")
    document = own_store.path / "head" / "one" / "t" / "zarr.json"
    document.unlink()
    os.mkfifo(document)
    with pytest.raises(UserError, match=r"the root of this one .* is no plain file"):
        save_contrast(open_store(own_store.path), "two", Criterion("rest"), "faces")
