"""What a store or a recording is while it is being filled: committed from time to time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import UserError, shortened
from ..spec import SHOWN, STIMULUS_COLUMNS
from ..urls import none_in
from .commits import Commit, Commits
from .durable import flush
from .hidden import Bytes
from .identity import fingerprint
from .layout import consolidate, put_column, put_count
from .places import Place, is_group, zarr_store
from .records import Records
from .root import Root
from .schema import limited

# That a note lists.
_MOST_NAMES = 100


class Filling(Root):
    """A store or recording that is being filled.

    Beside its final place where that is a folder, so that there is a whole one or none; behind a
    URL in its place, where it says of itself that it is not complete. ``commit`` is how far an
    earlier run had come with it, and ``live`` what it had in its hands then; ``records`` are of the
    tasks that workers have done.
    """

    def __init__(self, path: Place, root: zarr.Group) -> None:
        # What reads must not write: it is decoded by code that knows plain folders only.
        super().__init__(path, zarr.open_group(zarr_store(path), mode="r", use_consolidated=False))
        self._draft = root
        # Arrays are written part by part: opening them each time would take longer.
        self._open: dict[str, Any] = {}
        self._commits = Commits(root.store)
        self.commit, self.live = self._commits.latest() or (Commit(), {})
        self.records = Records(root.store)

    @classmethod
    def join(cls, path: Place) -> Self:
        """The draft that another program has begun, for one that fills a part of it."""
        store = zarr_store(path, read_only=False)
        root = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        return cls(path, root)

    @property
    def is_complete(self) -> bool:
        """Whether everything is written, and only its publication is missing."""
        return bool(self.provenance["status"] == "complete")

    @property
    def was_committed(self) -> bool:
        """Whether another run could go on from here."""
        return self.commit.number > 0 or self.is_complete or self.records.are_there

    def require_written(self, order: NDArray[np.int64]) -> None:
        """Refuse what misses a part that was committed; ``order`` is that of showing.

        Raises
        ------
        UserError : a file of it is gone
        """
        raise NotImplementedError

    def annotate(self, **attributes: Any) -> None:
        """Add to the provenance."""
        attributes = none_in(attributes)
        self._draft.attrs.update(attributes)
        self.provenance.update(attributes)

    def add_notes(self, notes: Iterable[str]) -> None:
        """Keep what is to be known of the stimuli or the network; each note once.

        Past ``MOST["notes"]`` they are counted in the last one.
        """
        kept = list(self.provenance.get("notes", ()))
        merged = list(dict.fromkeys([*kept, *notes]))
        if merged != kept:
            self.annotate(notes=limited(merged))

    def exchange_stimuli(self, table: Mapping[str, Sequence[Any]]) -> None:
        """Take over other contents of the stimuli, of those that were not shown yet."""
        for column in ("stimulus_sha256", "stimulus_status"):
            put_column(self._draft, column, table[column])
        self.annotate(fingerprint=fingerprint(self.provenance, table))

    def save_live(self, live: Mapping[str, Bytes]) -> None:
        """Write what the next commit will need of the live moments.

        The commit before must have been written: its own live moments are the ones that count.
        """
        self._commits.write_live(self.commit.number + 1, live)

    def write_commit(self, **progress: Any) -> None:
        """Commit: what is written, and what was saved of the live moments, is not lost any more.

        ``progress`` are the fields of :class:`.commits.Commit` that have changed.

        Raises
        ------
        UserError : the store is gone
        """
        if not is_group(self.path):
            raise UserError(f"{self.path} was being filled and is gone: scan again")
        commit = replace(self.commit, number=self.commit.number + 1, **progress)
        self._commits.write(commit)
        self.commit = commit

    def complete(self) -> None:
        """Mark the store as whole, and gather its metadata where one read finds all of it."""
        if not self.is_complete:
            self.leave_out(self.commit.skipped)
            if self.commit.invisible:
                names = self.stimuli("stimulus_path")[list(self.commit.invisible)].tolist()
                self.add_notes([_invisible(names)])
            self.annotate(status="complete")
        self._commits.remove()
        self.records.remove()
        consolidate(self._draft)
        flush(self._draft.store)

    def leave_out(self, skipped: Mapping[int, str]) -> None:
        """Take stimuli that were skipped on the way out of the counts and the fingerprint."""
        table: dict[str, Any] = {column: self.stimuli(column).copy() for column in STIMULUS_COLUMNS}
        counts = np.zeros_like(self.counts)
        for stimulus, why in skipped.items():
            table["stimulus_status"][stimulus] = why
        shown = table["stimulus_status"] == SHOWN
        np.add.at(counts, (table["stimulus_category"][shown], table["stimulus_fold"][shown]), 1)
        if not skipped and (counts == self.counts).all():
            return
        put_count(self._draft, counts)
        put_column(self._draft, "stimulus_status", table["stimulus_status"])
        self.counts = counts
        self.annotate(fingerprint=fingerprint(self.provenance, table))


def _invisible(names: Sequence[str]) -> str:
    number = f"{len(names):,} stimul{'us' if len(names) == 1 else 'i'}"
    return (
        f"nothing is visible of {number}, transparent or mid-grey throughout: "
        f"{shortened(names, _MOST_NAMES)}"
    )


def unusable(draft: Place, work: str, reason: str) -> UserError:
    """What is left of an unfinished ``work``, a scan say, cannot be gone on with."""
    return UserError(
        f"the unfinished {work} in {draft} is damaged ({reason}): give it up with --restart"
    )
