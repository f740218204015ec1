"""Disks that are full, fail in the middle of a write, or lose unflushed data.

``python -m tests.fuzz.disks``: every write of a small scan fails in turn, in every way, and the
same scan then resumes.
"""

from __future__ import annotations

import argparse
import errno
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from zarr.abc.buffer import Buffer

from fusiform.engine.errors import UserError
from fusiform.engine.localizer import make_stimuli
from fusiform.engine.store import location
from fusiform.engine.store.files.durable import DurableFolder
from fusiform.engine.store.writing import publishing, resuming

from .small import contents, scan

# Ways for a write to fail: see Disk.
WAYS = ("full", "once", "cut")


class PowerCut(BaseException):
    """The power is cut: nothing after it happens."""


class Disk:
    """Counts writes; the ``n``-th and all later ones fail in the way ``how``.

    ``full``: no space is left. ``once``: the same, but the next write succeeds. ``cut``: the
    power fails in the middle of the write; of the data since the last flush some is kept, some
    torn and some lost.
    """

    def __init__(self, n: int | None = None, how: str = "full", seed: int = 0) -> None:
        self.n, self.how = n, how
        self.writes = 0
        self.rng = random.Random(seed)
        # Earlier content of every file that was written and not flushed.
        self.before: dict[Path, bytes | None] = {}

    @property
    def broken(self) -> bool:
        if self.how == "once":
            return self.writes == self.n
        return self.n is not None and self.writes >= self.n

    def write(self, path: Path) -> None:
        """Start a write; raises its failure, if any."""
        self.writes += 1
        if not self.broken:
            self.before.setdefault(path, path.read_bytes() if path.exists() else None)
        elif self.how != "cut":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        else:
            self.forget()
            raise PowerCut

    def forget(self) -> None:
        """Reset every unflushed file to its earlier content, part of the new one, or all of it."""
        for path, before in self.before.items():
            fate = self.rng.choice(("kept", "lost", "torn"))
            # Replaced metadata and logs are flushed before anything names them.
            whole = path.suffix == ".json" and (before is not None or path.name != "zarr.json")
            if fate == "kept" or not path.exists():
                continue
            if fate == "lost" or whole:
                path.unlink() if before is None else path.write_bytes(before)
            else:
                written = path.read_bytes()
                path.write_bytes(written[: self.rng.randrange(len(written) + 1)])
        self.before = {}


@contextmanager
def on(disk: Disk) -> Iterator[None]:
    """Write stores to ``disk`` in this context."""

    class Folder(DurableFolder):
        async def set(self, key: str, value: Buffer) -> None:
            disk.write(self.root / key)
            await super().set(key, value)

        def write(self, key: str, parts: Iterable[Any]) -> None:
            disk.write(self.root / key)
            super().write(key, parts)

        def flush(self) -> None:
            if disk.broken and disk.how == "cut":
                raise PowerCut
            super().flush()
            disk.before = {}

    with pytest.MonkeyPatch.context() as own:
        own.setattr(location, "DurableFolder", Folder)
        for module in (resuming, publishing):
            own.setattr(module, "remove", lambda place: None if disk.how == "cut" and disk.broken
                        else location.remove(place))  # fmt: skip
        yield


@dataclass
class Trial:
    """Results: writes of a whole scan, failed writes, and faults found."""

    writes: int
    failed: int = 0
    wrong: list[str] = field(default_factory=list)


def run(how: str, every: int = 1) -> Trial:
    """Fail every ``every``-th write of a scan, and resume it on a sound disk."""
    with tempfile.TemporaryDirectory() as name:
        stimuli, folder = Path(name) / "stimuli", Path(name) / "stores"
        make_stimuli(stimuli, per_category=4, size=64, seed=1)
        folder.mkdir()
        sound = Disk()
        with on(sound):
            whole = contents(scan(stimuli, folder / "o.zarr"))
        trial = Trial(sound.writes)
        for n in range(1 + sound.writes % every, sound.writes + 1, every):
            shutil.rmtree(folder)
            folder.mkdir()
            trial.failed += 1
            if wrong := _disturbed(stimuli, folder, Disk(n, how, seed=n), whole):
                trial.wrong.append(f"write {n}: {wrong}")
    return trial


def _disturbed(stimuli: Path, folder: Path, disk: Disk, whole: dict[str, object]) -> str:
    """The fault of a scan resumed after a failure on ``disk``, or nothing."""
    try:
        with on(disk):
            scan(stimuli, folder / "o.zarr")
        return "it came to its end"
    except PowerCut:
        pass
    except UserError as error:
        if "No space left on device" not in str(error):
            return f"it says: {error}"
    try:
        scan(stimuli, folder / "o.zarr")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if contents(folder / "o.zarr") != whole:
        return "other bits"
    return ", ".join(sorted(path.name for path in folder.iterdir() if path.name != "o.zarr"))


def main() -> None:
    """Run all failures and print the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--every", type=int, default=1)
    given = arguments.parse_args()
    began, wrong = time.perf_counter(), False
    for how in WAYS:
        trial = run(how, given.every)
        print(f"{how}: {trial.failed} of {trial.writes} writes failed, {len(trial.wrong)} wrongly")
        print(*trial.wrong, sep="\n", end="\n" if trial.wrong else "")
        wrong = wrong or bool(trial.wrong)
    print(f"{time.perf_counter() - began:.0f} s")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
