"""Disks that are full, break off in the middle of a write, or forget what was not flushed."""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from zarr.core.buffer import Buffer

from fusiform.engine.store import places, resuming, writing
from fusiform.engine.store.durable import DurableFolder


class PowerCut(BaseException):
    """The machine is off: nothing that comes after it happens."""


class Disk:
    """Counts writes; the ``n``-th and all later ones fail, as ``how`` says.

    ``full``: no space is left. ``once``: the same, and the next write finds some. ``cut``: the
    power fails in the middle of the write, and of what was written since the last flush some is
    there, some is torn, and some is not.
    """

    def __init__(self, n: int | None = None, how: str = "full", seed: int = 0) -> None:
        self.n, self.how = n, how
        self.writes = 0
        self.rng = random.Random(seed)
        # What was there before, of every file that was written and not flushed.
        self.before: dict[Path, bytes | None] = {}

    @property
    def broken(self) -> bool:
        if self.how == "once":
            return self.writes == self.n
        return self.n is not None and self.writes >= self.n

    def write(self, path: Path) -> None:
        """A write begins. Raises what comes of it, if it does not come to its end."""
        self.writes += 1
        if not self.broken:
            self.before.setdefault(path, path.read_bytes() if path.exists() else None)
        elif self.how != "cut":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        else:
            self.forget()
            raise PowerCut

    def forget(self) -> None:
        """Leave of every file that was not flushed what was there before, part of it, or all."""
        for path, before in self.before.items():
            fate = self.rng.choice(("kept", "lost", "torn"))
            # Metadata that replace others are on the disk before they do.
            whole = path.name == "zarr.json" and before is not None
            if fate == "kept" or not path.exists():
                continue
            if fate == "lost" or whole:
                path.unlink() if before is None else path.write_bytes(before)
            else:
                written = path.read_bytes()
                path.write_bytes(written[: self.rng.randrange(len(written) + 1)])
        self.before = {}


@contextmanager
def on(disk: Disk, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have stores written to ``disk`` in this context."""

    class Folder(DurableFolder):
        async def set(self, key: str, value: Buffer) -> None:
            disk.write(self.root / key)
            await super().set(key, value)

        def flush(self) -> None:
            if disk.broken and disk.how == "cut":
                raise PowerCut
            super().flush()
            disk.before = {}

    with patch.context() as own:
        own.setattr(places, "DurableFolder", Folder)
        for module in (resuming, writing):
            own.setattr(module, "remove", lambda place: None if disk.how == "cut" and disk.broken
                        else places.remove(place))  # fmt: skip
        own.setattr("fusiform.engine.store.durable.DurableFolder", Folder)
        yield


def contents(store: Path) -> dict[str, Any]:
    """Every file of a store, by name: its bytes, but for when it was made."""
    files: dict[str, Any] = {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
    root = json.loads(files["zarr.json"])
    root["attributes"].pop("created")
    files["zarr.json"] = json.dumps(root)
    return files
