"""What a store or a recording is while it is being filled: committed from time to time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import UserError, gone, shortened
from ..layer import Layer
from ..urls import none_in
from ..variables import SHOWN, STIMULUS_COLUMNS
from .arrays import files_of
from .commits import Commit, Commits, Left
from .durable import flush, missing_file
from .hidden import Bytes
from .identity import fingerprint
from .layout import consolidate, put_column, put_count
from .metadata import Misfit, refusing
from .places import Place, is_group, zarr_store
from .records import Records
from .root import Root
from .schema import limited

# A part of an array, by its key.
Part = tuple[str, tuple[int | slice, ...]]
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
        self._lost: str | None = None
        self._commits = Commits(root.store)
        self._left = self._commits.left()
        whole = next((one for one in self._left if one.commit and not one.fault), None)
        self.commit, self.live = (whole.commit or Commit(), whole.live) if whole else (Commit(), {})
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
        """Whether another run could go on from here, or what it needs is damaged."""
        committed = self.commit.number > 0 or bool(self._left) or self.is_complete
        return committed or self.records.are_there or bool(self.records.damaged())

    def take_up(self, go_back: bool, note: Callable[[str], None]) -> None:
        """Settle on the commit that is gone on from: the last, if all that it needs is there.

        With ``go_back`` all of it is read; where it is damaged, the commit before takes its place.

        Raises
        ------
        UserError : it is damaged. Says what would be lost by going back, where that can be done
        """
        if not self._left and not self.is_complete:  # by workers
            self.forget_damaged(note, thoroughly=go_back)
            return
        faults = self.faults(self._last, thoroughly=go_back)
        if not faults:
            return
        before = self._before_last() if go_back else None
        if before is None or before.commit is None or self._last is None:
            raise UserError(self._remedy(faults))
        note(
            f"going back from the last commit, which is damaged ({_cannot_read(faults[0])}), to "
            f"the one before: {self._again(self._last, before.commit)}"
        )
        self._commits.forget(self._last)
        self._left.remove(self._last)
        self.commit, self.live = before.commit, before.live

    def what_is_wrong(self) -> str:
        """The damage to all that the last commit needs, and the remedy; nothing if it is whole."""
        faults = self.faults(self._last, thoroughly=True)
        return self._remedy(faults) if faults else ""

    def _remedy(self, faults: Sequence[str]) -> str:
        more = ", ..." if len(faults) > 1 else ""
        return (
            f"the unfinished {self.kind.work} in {self.path} is damaged "
            f"({_cannot_read(faults[0])}{more}): {self._way_out()}"
        )

    def _way_out(self) -> str:
        before = self._before_last()
        if before is None or before.commit is None:
            return "no earlier commit is whole: give it up with --restart"
        again = self._again(self._last, before.commit)
        return f"go back to the commit before with --go-back ({again})"

    def how_far(self) -> str:
        """How far it has come, as the end of a sentence; nothing where nothing is committed."""
        if not self._left:
            shards, contrasts = (len(self.records.of(stage)) for stage in ("show", "contrast"))
            return f": {shards} shards are done, {contrasts} contrasts" if shards else ""
        commit, total = self.commit, len(self.order)
        if not commit.number:
            return ": no commit is whole"
        layers = len(self.layers)
        all_shown = len(commit.finished) == layers
        shown = total if all_shown else self._shown(commit)
        return (
            f": commit {commit.number:,}, {shown:,} of {total:,} stimuli were shown"
            f"{'' if all_shown else f' to {len(commit.live)} layers'}, "
            f"{len(commit.finished)} of {layers} layers are finished"
        )

    def damage(self) -> list[str]:
        """All that is damaged, file by file, and what can be done about it."""
        found = [fault for key in self.schema.of_root() if (fault := self._fault(key, (), True))]
        folder = self.records.folder
        found += [f"{folder}/{name}: is not what was written" for name in self.records.damaged()]
        if found or not self._left:
            return [*found, *self.damaged_tasks(thoroughly=True).values()]
        for left in self._left:
            if not (faults := self.faults(left, thoroughly=True)):
                break
            found += faults
        found = list(dict.fromkeys(found))  # both commits may need it
        return [*found, self._way_out()] if found else []

    @property
    def order(self) -> NDArray[np.int64]:
        """The stimuli that are shown, in the order of showing."""
        category, fold = self.stimuli("stimulus_category"), self.stimuli("stimulus_fold")
        order = np.lexsort((fold, category))
        return order[fold[order] >= 0]

    def faults(self, left: Left | None, thoroughly: bool) -> list[str]:
        """List the missing files that a commit needs; if read ``thoroughly``, damaged ones, too."""
        if left and (left.fault or not left.commit):
            return [left.fault]
        commit = left.commit if left and left.commit else self.commit
        needed = self.written(commit)
        return [fault for key, part in needed if (fault := self._fault(key, part, thoroughly))]

    def written(self, commit: Commit) -> Iterator[Part]:
        """The arrays that a commit needs, and which parts of them are written by then."""
        raise NotImplementedError

    def damaged_tasks(self, thoroughly: bool) -> dict[str, str]:
        """The tasks of workers whose results are missing, or damaged, and what of them is."""
        del thoroughly
        return {}

    def forget_damaged(self, note: Callable[[str], None], thoroughly: bool) -> bool:
        """Have them done again; whether there were any."""
        tasks = self.damaged_tasks(thoroughly)
        for task, fault in tasks.items():
            self.records.forget(task)
            note(f"{task} is done again: {_cannot_read(fault)}")
        return bool(tasks)

    def _fault(self, key: str, part: tuple[int | slice, ...], thoroughly: bool) -> str:
        """Describe the damage to a part of an array; empty if there is none."""
        try:
            with refusing(Misfit):
                if thoroughly:
                    self.arrays.part(key, part)
                else:
                    for file in files_of(self.arrays.opened(key).array, part):
                        self.arrays.require_file(key, file)
        except Misfit as misfit:
            return f"{key}: {misfit}"
        return ""

    @property
    def _last(self) -> Left | None:
        return self._left[0] if self._left else None

    def _before_last(self) -> Left | None:
        """The commit before the last one, if all that it needs is as it was written."""
        return next((one for one in self._left[1:] if not self.faults(one, thoroughly=True)), None)

    def _again(self, last: Left | None, before: Commit) -> str:
        """Say how much is repeated when a scan goes back from the last commit to the one before."""
        total, later = len(self.order), last.commit if last else None
        layers = len(self.layers)
        if len(before.finished) == layers:
            again, up_to = 0, ""
        elif later is None:
            again, up_to = total - self._shown(before), "up to "
        else:
            another_part = set(later.finished) != set(before.finished)
            again = self._shown(later) - self._shown(before) + total * another_part
            up_to = ""
        lost = later.contrasts - before.contrasts if later else 0
        contrasts = f", contrasts of {lost} layers are made again" if lost else ""
        return f"{up_to}{again:,} of {total:,} stimuli are shown again{contrasts}"

    def _shown(self, commit: Commit) -> int:
        """How many stimuli the layers that are live have been shown."""
        return min(commit.batches * int(self.provenance["batch_size"]), len(self.order))

    def from_the_start(self, layer: Layer) -> Iterator[str]:
        """The arrays of a layer that are there before the first stimulus is shown."""
        raise NotImplementedError

    def lost(self) -> str | None:
        """Say what was removed of the draft while it was filled; None where all is there."""
        missing = None if self._lost else self.missing()
        return self._lost if missing is None else gone(self.path, missing)

    def missing(self) -> str | None:
        """The first group, array or file that is not there, though it was from the start."""
        if not isinstance(self.path, Path):
            return None
        arrays = chain.from_iterable(map(self.from_the_start, self.layers))
        for name in ("", *(layer.name for layer in self.layers), *arrays):
            if not os.path.isfile(self.path / name / "zarr.json"):  # noqa: PTH113  disks may fail
                return name
        for name in self.schema.of_root():
            if missing := missing_file(self.path / name):
                return f"{name}/{missing}"
        return None

    def require_whole(self) -> None:
        """Refuse a draft that has come to its end and misses a file: it was removed on the way.

        Raises
        ------
        UserError : a part is gone
        """
        if not isinstance(self.path, Path):
            return
        lost, of_layer = self.lost(), self.schema.of_layer
        arrays = chain(self.schema.of_root(), *(of_layer(layer) for layer in self.layers))
        for key in () if lost else arrays:
            missing = missing_file(self.path / key)
            if missing:
                lost = gone(self.path, f"{key}/{missing}")
                break
        self._lost = lost
        if lost:
            raise UserError(lost)

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
        UserError : the store, or a part of it, is gone
        """
        lost = self.lost()
        if lost or not is_group(self.path):
            raise UserError(lost or gone(self.path))
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


def _cannot_read(fault: str) -> str:
    key, _, said = fault.partition(": ")
    return f"cannot read {key} ({said})"


def unusable(draft: Place, work: str, reason: str) -> UserError:
    """What is left of an unfinished ``work``, a scan say, cannot be gone on with."""
    return UserError(
        f"the unfinished {work} in {draft} is damaged ({reason}): give it up with --restart"
    )
