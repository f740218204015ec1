"""The commits of an unfinished scan, and the log of its workers' tasks.

Both are files with checksums in a folder of the draft.

A commit is a record of the progress of a scan, and the live moments of the group that is being
accumulated. Two slots are used in turn, so that the last commit stays whole while the next is
written: first the live moments; then, when they and the finished groups are on the disk, the record
with their checksums. A record replaces an earlier one by renaming, so one of them is always there
whole. If live moments do not match their record, that commit was interrupted, and the other record
is later; a torn record, or a last one without its moments, is damage.

A task is logged last, when everything it wrote is on the disk: only then does it count. A task's
part of a file of moments is kept beside the log until all parts can be merged. A torn entry
counts as missing, because a repeated task writes the same bytes again.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype

from ....kernels.moments import Moments
from ...errors import UserError
from ...layer import Layer
from ...registry import MOMENTS
from ..location import flush, write
from ..zarr_internals import sync

_SLOTS = 2
# The start of a record: a damaged one still tells its number, and so which is the last.
_NUMBER = re.compile(rb'^[^{]{0,20}\{"number": (\d{1,18}),')

Bytes = NDArray[np.uint8]
# Of kept moments: the first group, and how many; file and first byte; checksum.
Seal = tuple[int, int, int, int, int]
# Bytes of kept moments in a file, and in memory.
_KEPT_BYTES = 2**25


class CheckpointFolder:
    """A folder of a draft that belongs to no group, removed when the scan is complete.

    ``folder`` begins with a dot: no layer has such a name.
    """

    folder: str

    def __init__(self, store: ZarrStore) -> None:
        self._store = store

    def remove(self) -> None:
        """Remove the folder, when the scan is complete."""
        sync(self._store.delete_dir(self.folder))

    def _write(self, key: str, *parts: Bytes) -> None:
        write(self._store, f"{self.folder}/{key}", parts)

    def _content(self, key: str, part: ByteRequest | None = None) -> Bytes:
        name, prototype = f"{self.folder}/{key}", default_buffer_prototype()
        found = sync(self._store.get(name, prototype, part))
        return np.empty(0, np.uint8) if found is None else np.asarray(found.as_numpy_array())


@dataclass(frozen=True)
class Commit:
    """The progress of a scan.

    Stimuli are shown once for every part of the layers that fits into memory.

    Attributes
    ----------
    number : of the commit, from 1
    batches : of the plan, shown to the layers that are ``live``
    contrasts : number of layers with written contrasts
    skipped : stimuli left out on the way, and why
    live : layer -> description of its state, whose bytes are kept beside the record; None for
        layers that are saved with another
    machine : properties of the machine that change rounding
    finished : layers that were shown all stimuli
    invisible : stimuli without visible content
    """

    number: int = 0
    batches: int = 0
    contrasts: int = 0
    skipped: Mapping[int, str] = field(default_factory=dict)
    live: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    finished: Sequence[str] = ()
    invisible: Sequence[int] = ()


class FoundCommit(NamedTuple):
    """A commit found on the disk: with its live moments, or with its ``fault``.

    Its ``number`` may be known even if it is damaged; ``slot`` tells where it lies.
    """

    slot: int
    number: float
    commit: Commit | None
    live: dict[str, Bytes]
    fault: str = ""


class CommitLog(CheckpointFolder):
    """The last two commits of a draft."""

    folder = ".commits"

    def __init__(self, store: ZarrStore) -> None:
        super().__init__(store)
        self._sums: dict[str, tuple[int, int]] = {}

    def write_live(self, number: int, live: Mapping[str, Bytes]) -> None:
        """Write the live moments of commit ``number``; commit ``number - 1`` stays whole."""
        self._sums = {name: (len(part), checksum(part)) for name, part in live.items()}
        if live:
            self._write(_live_of(number % _SLOTS), *live.values())

    def write(self, commit: Commit) -> None:
        """Write the record of the live moments written last: from now on they count."""
        flush(self._store)
        record = sealed({**asdict(commit), "sums": self._sums})
        self._write(f"{commit.number % _SLOTS}.json", record)
        flush(self._store)

    def exists(self) -> bool:
        """Whether there are any commits, whole or not."""
        records = (f"{self.folder}/{slot}.json" for slot in range(_SLOTS))
        return any(sync(self._store.exists(record)) for record in records)

    def found(self) -> list[FoundCommit]:
        """Read the last two commits, the latest first.

        Raises
        ------
        UserError : another version of fusiform wrote them
        """
        found = [one for slot in range(_SLOTS) if (one := self._read(slot))]
        return sorted(found, key=lambda one: -one.number)

    def forget(self, commit: FoundCommit) -> None:
        """Remove a commit."""
        sync(self._store.delete(f"{self.folder}/{commit.slot}.json"))
        flush(self._store)

    def _read(self, slot: int) -> FoundCommit | None:
        record = self._content(f"{slot}.json")
        fields = unsealed(record)
        if fields is None:
            name = f"{self.folder}/{slot}.json"
            if not sync(self._store.exists(name)):
                return None
            start = _NUMBER.match(record.tobytes())
            number = float(start[1]) if start else float("inf")
            return FoundCommit(slot, number, None, {}, f"{name}: is not what was written")
        sums = fields.pop("sums", {})
        try:
            skipped = {int(stimulus): why for stimulus, why in fields["skipped"].items()}
            finished, invisible = tuple(fields["finished"]), tuple(fields.get("invisible", ()))
            listed = {"skipped": skipped, "finished": finished, "invisible": invisible}
            commit = Commit(**{**fields, **listed})
        except (KeyError, TypeError):
            raise UserError(
                f"{self._store} was begun by another version of fusiform: resume it with that "
                "one, or discard it with `restart=True`"
            ) from None
        content = self._content(_live_of(slot)) if sums else np.empty(0, np.uint8)
        live, end = {}, 0
        for name, (size, expected) in sums.items():
            live[name] = content[end : end + size]
            end += size
            if (len(live[name]), checksum(live[name])) != (size, expected):
                fault = "is not what was written" if len(content) else "is missing or empty"
                file = f"{self.folder}/{_live_of(slot)}"
                return FoundCommit(slot, commit.number, commit, {}, f"{file}: {fault}")
        return FoundCommit(slot, commit.number, commit, live)


def _live_of(slot: int) -> str:
    """The file of the live moments of a commit."""
    return f"{slot}.live"


class TaskLog(CheckpointFolder):
    """The finished tasks of workers, by name: ``STAGE/...``."""

    folder = ".records"

    def __init__(self, store: ZarrStore) -> None:
        super().__init__(store)
        # Moments of the current task that are not written yet, and the files written before.
        self._keeping: list[Bytes] = []
        self._files = 0

    def write(self, name: str, **fields: Any) -> None:
        """Log a task as done, when everything this process wrote is on the disk."""
        self._write_kept(name)
        self._files = 0
        flush(self._store)
        self._write(f"{name}.json", sealed(fields))
        flush(self._store)

    def read(self, name: str) -> dict[str, Any] | None:
        """The entry of a task; None if it is not done."""
        return unsealed(self._content(f"{name}.json"))

    def of(self, stage: str) -> dict[str, dict[str, Any]]:
        """The whole entries of a stage, by task."""
        names = sorted(self._names(f"{self.folder}/{stage}/"))
        found = {name.removesuffix(".json"): unsealed(self._content(name)) for name in names}
        return {name: fields for name, fields in found.items() if fields is not None}

    def damaged(self) -> list[str]:
        """The names of damaged entries."""
        names = sorted(self._names(self.folder))
        return [name for name in names if unsealed(self._content(name)) is None]

    def exists(self) -> bool:
        """Whether any task is done."""
        return any(unsealed(self._content(name)) for name in self._names(self.folder))

    def forget(self, name: str) -> None:
        """Remove a task, or all of a stage, so that it is repeated."""
        sync(self._store.delete(f"{self.folder}/{name}.json"))
        sync(self._store.delete_dir(f"{self.folder}/{name}"))

    def keep(self, task: str, first: int, moments: Moments) -> Seal:
        """Keep a task's part of consecutive groups; the task's entry must hold the returned seal.

        ``count [group]``, ``mean, m2 [group, unit]``. Parts share files, of some MiB.
        """
        start = sum(map(len, self._keeping))
        flat = [np.asarray(values, np.float64).ravel() for values in moments]
        content = np.concatenate(flat).view(np.uint8)
        self._keeping.append(content)
        seal = first, len(moments.count), self._files, start, checksum(content)
        if start + len(content) > _KEPT_BYTES:
            self._write_kept(task)
        return seal

    def kept(self, task: str, layer: Layer, seal: Seal) -> Moments | None:
        """The moments given to :meth:`keep`; None if they are missing or damaged."""
        _, groups, file, start, expected = seal
        size = groups * (1 + len(MOMENTS) * layer.units) * np.dtype(np.float64).itemsize
        content = self._content(f"{task}/{file}", RangeByteRequest(start, start + size))
        if (len(content), checksum(content)) != (size, expected):
            return None
        count, moments = np.split(content.view(np.float64), [groups])
        mean, m2 = moments.reshape(len(MOMENTS), groups, layer.units).copy()
        return Moments(count.astype(np.int64), mean, m2)

    def _write_kept(self, task: str) -> None:
        if self._keeping:
            self._write(f"{task}/{self._files}", *self._keeping)
            self._keeping, self._files = [], self._files + 1

    def _names(self, prefix: str) -> list[str]:
        async def listed(found: AsyncIterator[str]) -> list[str]:
            names = [name.removeprefix(f"{self.folder}/") async for name in found]
            return [name for name in names if name.endswith(".json")]

        return sync(listed(self._store.list_prefix(prefix)))


def checksum(content: Any) -> int:
    """The CRC-32 of bytes."""
    return zlib.crc32(content)


def sealed(fields: Mapping[str, Any]) -> Bytes:
    """Encode a record as JSON, after its checksum."""
    text = json.dumps(fields).encode()
    return np.frombuffer(b"%08x %b" % (checksum(text), text), np.uint8)


def unsealed(record: Bytes) -> dict[str, Any] | None:
    """Decode what :func:`sealed` encoded; None if it is torn or empty."""
    expected, _, text = record.tobytes().partition(b" ")
    if expected != b"%08x" % checksum(text):
        return None
    fields: dict[str, Any] = json.loads(text)
    return fields
