"""Commits: what a scan leaves behind from time to time, so that another run can go on from there.

A commit is a record of how far the scan has come, and the live moments of the group that is being
accumulated. There are two places for them, used in turn, so that the one before stays whole while
the next is written: first the live moments, then, when all of it and of the finished groups is on
the disk, the record, with the checksums. A record replaces another by renaming: it is there whole,
or the one before it. Moments that do not fit a record are those of a commit that was interrupted,
where the other record is later; a record that is not whole, or the last one without its moments,
is damage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from zarr.abc.store import Store as ZarrStore

from ..errors import UserError
from .durable import flush
from .hidden import Bytes, HiddenFolder, checksum, sealed, unsealed
from .zarr_internals import sync

_PLACES = 2
# What a record begins with, by which a damaged one is known to be the last, or the one before.
_NUMBER = re.compile(rb'^[^{]{0,20}\{"number": (\d{1,18}),')


@dataclass(frozen=True)
class Commit:
    """How far a scan has come.

    The stimuli are shown once for every part of the layers that fits into memory: those of the
    layers ``finished`` are all folded in, and ``batches`` of the plan into those that are ``live``,
    which says of their states what the bytes do not. Contrasts of ``contrasts`` layers are written.
    ``skipped`` says which stimuli were left out on the way, and why, and ``invisible`` of which
    nothing is visible; ``machine`` on what the numbers were computed.
    """

    number: int = 0
    batches: int = 0
    contrasts: int = 0
    skipped: Mapping[int, str] = field(default_factory=dict)
    live: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    finished: Sequence[str] = ()
    invisible: Sequence[int] = ()


class Left(NamedTuple):
    """A commit as it is found on the disk: with its live moments, or with its ``fault``.

    ``number`` says which it is, as far as that can be read; ``place`` is where it lies.
    """

    place: int
    number: float
    commit: Commit | None
    live: dict[str, Bytes]
    fault: str = ""


class Commits(HiddenFolder):
    """The commits of the scan that fills ``store``."""

    folder = ".commits"

    def __init__(self, store: ZarrStore) -> None:
        super().__init__(store)
        self._sums: dict[str, tuple[int, int]] = {}

    def write_live(self, number: int, live: Mapping[str, Bytes]) -> None:
        """Write the live moments of commit ``number``, while commit ``number - 1`` is whole."""
        self._sums = {}
        for index, (name, content) in enumerate(live.items()):
            self._sums[name] = len(content), checksum(content)
            self._write(f"{number % _PLACES}/{index}", content)

    def write(self, commit: Commit) -> None:
        """Write the record whose live moments were written last: then they count."""
        flush(self._store)
        record = sealed({**asdict(commit), "sums": self._sums})
        self._write(f"{commit.number % _PLACES}.json", record)
        flush(self._store)

    @property
    def are_there(self) -> bool:
        """Whether there are any, whole or not."""
        records = (f"{self.folder}/{place}.json" for place in range(_PLACES))
        return any(sync(self._store.exists(record)) for record in records)

    def left(self) -> list[Left]:
        """Read the last two commits, the latest first; damaged ones say how.

        Raises
        ------
        UserError : another version of fusiform has written it
        """
        found = [left for place in range(_PLACES) if (left := self._read(place))]
        return sorted(found, key=lambda left: -left.number)

    def forget(self, left: Left) -> None:
        """Have a commit be as if it had never been."""
        sync(self._store.delete(f"{self.folder}/{left.place}.json"))
        flush(self._store)

    def _read(self, place: int) -> Left | None:
        record = self._content(f"{place}.json")
        fields = unsealed(record)
        if fields is None:
            name = f"{self.folder}/{place}.json"
            if not sync(self._store.exists(name)):
                return None
            said = _NUMBER.match(record.tobytes())
            number = float(said[1]) if said else float("inf")
            return Left(place, number, None, {}, f"{name}: is not what was written")
        sums = fields.pop("sums", {})
        try:
            skipped = {int(stimulus): why for stimulus, why in fields["skipped"].items()}
            finished, invisible = tuple(fields["finished"]), tuple(fields.get("invisible", ()))
            listed = {"skipped": skipped, "finished": finished, "invisible": invisible}
            commit = Commit(**{**fields, **listed})
        except (KeyError, TypeError):
            raise UserError(
                f"{self._store} was begun by another version of fusiform: go on with that one, or "
                "give up what it had done with --restart"
            ) from None
        live = {}
        for index, (name, (size, expected)) in enumerate(sums.items()):
            content = self._content(f"{place}/{index}")
            if (len(content), checksum(content)) != (size, expected):
                file = f"{self.folder}/{place}/{index}"
                fault = "is not what was written" if len(content) else "is missing or empty"
                return Left(place, commit.number, commit, {}, f"{file}: {fault}")
            live[name] = content
        return Left(place, commit.number, commit, live)
