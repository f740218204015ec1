"""A store or recording while it is filled and committed from time to time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from ...errors import UserError, draft_removed, shortened
from ...layer import Layer
from ...registry import SHOWN, STIMULUS_COLUMNS
from ...urls import strip_credentials
from ..attributes import limit_notes
from ..identity import fingerprint
from ..location import Location, flush, is_group, missing_file, write, zarr_store
from ..metadata import documents_in
from ..reader import Reader
from ..schema import Kind
from .array_writer import put_column, put_count
from .commits import Bytes, Commit, CommitLog, FoundCommit, TaskLog
from .documents import GROUP, as_bytes, root_document

# A part of an array: its key, and the selection.
Part = tuple[str, tuple[int | slice, ...]]
ReaderT = TypeVar("ReaderT", bound=Reader)
# Names of stimuli in a note.
_MAX_NAMES = 100


class BaseDraft(Generic[ReaderT]):
    """A store or recording that is being filled.

    A draft in a folder lies beside its final place, where a whole store appears or none; behind a
    URL it is filled in place, and its status says that it is unfinished.

    Attributes
    ----------
    reader : reads what is written so far
    tasks : the log of workers' tasks
    found : the commits of an earlier run, the latest first
    commit, live : the commit to continue from, and its live moments
    """

    reader_type: ClassVar[type[Reader]]
    reader: ReaderT

    def __init__(self, path: Location, root: zarr.Group) -> None:
        # Read by a store of its own: a reader takes plain folders, not those that track writes.
        opened = zarr.open_group(zarr_store(path), mode="r", use_consolidated=False)
        self.reader = self.reader_type(path, opened)  # type: ignore[assignment]
        self.tasks = TaskLog(root.store)
        self._commits = CommitLog(root.store)
        self._store = root.store
        self._lost: str | None = None
        self.found = self._commits.found()
        if self.is_complete:  # commits do not count, and a killed run may have removed some of them
            self.found = [one for one in self.found if not one.fault]
        whole = next((one for one in self.found if one.commit and not one.fault), None)
        self.commit, self.live = (whole.commit or Commit(), whole.live) if whole else (Commit(), {})

    @classmethod
    def join(cls, path: Location) -> Self:
        """Open the draft of another process, to fill a part of it."""
        store = zarr_store(path, read_only=False)
        root = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        return cls(path, root)

    @property
    def path(self) -> Location:
        """The folder or URL of the draft."""
        return self.reader.path

    @property
    def kind(self) -> Kind:
        """Store or recording."""
        return self.reader.kind

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers to fill."""
        return self.reader.layers

    @property
    def categories(self) -> tuple[str, ...]:
        """The stimulus categories."""
        return self.reader.categories

    @property
    def provenance(self) -> dict[str, Any]:
        """The attributes of the root."""
        return self.reader.provenance

    @property
    def is_complete(self) -> bool:
        """Whether everything is written, and only publication is missing."""
        return bool(self.provenance["status"] == "complete")

    @property
    def was_committed(self) -> bool:
        """Whether an earlier run committed anything, whole or damaged."""
        committed = self.commit.number > 0 or bool(self.found) or self.is_complete
        return committed or self.tasks.exists() or bool(self.tasks.damaged())

    @property
    def order(self) -> NDArray[np.int64]:
        """The stimuli to show, in order."""
        category, fold = (
            self.reader.stimulus_column(f"stimulus_{name}") for name in ("category", "fold")
        )
        order = np.lexsort((fold, category))
        return order[fold[order] >= 0]

    def n_shown(self, commit: Commit) -> int:
        """Number of stimuli shown to the live layers at a commit."""
        return min(commit.batches * int(self.provenance["batch_size"]), len(self.order))

    # Defined by each kind of draft

    def initial_arrays(self, layer: Layer) -> Iterator[str]:
        """The arrays of a layer that exist before the first stimulus is shown."""
        raise NotImplementedError

    def written(self, commit: Commit) -> Iterator[Part]:
        """The parts of arrays that are written at a commit."""
        raise NotImplementedError

    def written_by(self, task: str, entry: Mapping[str, Any]) -> Iterator[Part]:
        """The parts of arrays that a task of workers wrote."""
        del task, entry
        return iter(())

    def damaged_moments(self, task: str, entry: Mapping[str, Any]) -> Iterator[str]:
        """The damage to moments that a task of workers kept for merging."""
        del task, entry
        return iter(())

    # Missing files

    def lost(self) -> str | None:
        """A message if files were removed while the draft was filled; else None."""
        missing = None if self._lost else self.missing()
        return self._lost if missing is None else draft_removed(self.path, missing)

    def missing(self) -> str | None:
        """The first missing group, array or file among those that exist from the start."""
        if not isinstance(self.path, Path):
            return None
        arrays = chain.from_iterable(map(self.initial_arrays, self.layers))
        for name in ("", *(layer.name for layer in self.layers), *arrays):
            if not os.path.isfile(self.path / name / "zarr.json"):  # noqa: PTH113  disks may fail
                return name
        for name in self.reader.schema.of_root():
            if missing := missing_file(self.path / name):
                return f"{name}/{missing}"
        return None

    def require_whole(self) -> None:
        """Raise if a file of a filled draft is missing, because it was removed meanwhile.

        Raises
        ------
        UserError : a part is gone
        """
        if not isinstance(self.path, Path):
            return
        lost, schema = self.lost(), self.reader.schema
        arrays = chain(schema.of_root(), *(schema.of_layer(layer) for layer in self.layers))
        for key in () if lost else arrays:
            missing = missing_file(self.path / key)
            if missing:
                lost = draft_removed(self.path, f"{key}/{missing}")
                break
        self._lost = lost
        if lost:
            raise UserError(lost)

    # Writing

    def annotate(self, **attributes: Any) -> None:
        """Add attributes to the root."""
        self.provenance.update(strip_credentials(attributes))
        write(self._store, "zarr.json", [as_bytes({**GROUP, "attributes": self.provenance})])

    def add_notes(self, notes: Iterable[str]) -> None:
        """Store notes on the stimuli or the network, each once, up to the limit."""
        kept = list(self.provenance.get("notes", ()))
        merged = list(dict.fromkeys([*kept, *notes]))
        if merged != kept:
            self.annotate(notes=limit_notes(merged))

    def update_stimuli(self, table: Mapping[str, Sequence[Any]]) -> None:
        """Replace the contents of stimuli that were not shown yet."""
        for column in ("stimulus_sha256", "stimulus_status"):
            put_column(self._store, column, table[column])
        self.annotate(fingerprint=fingerprint(self.provenance, table))

    def leave_out(self, skipped: Mapping[int, str]) -> None:
        """Remove stimuli that were skipped on the way from the counts and the fingerprint."""
        reader = self.reader
        table: dict[str, Any] = {
            name: reader.stimulus_column(name).copy() for name in STIMULUS_COLUMNS
        }
        counts = np.zeros_like(reader.counts)
        for stimulus, why in skipped.items():
            table["stimulus_status"][stimulus] = why
        shown = table["stimulus_status"] == SHOWN
        np.add.at(counts, (table["stimulus_category"][shown], table["stimulus_fold"][shown]), 1)
        if not skipped and (counts == reader.counts).all():
            return
        put_count(self._store, counts)
        put_column(self._store, "stimulus_status", table["stimulus_status"])
        reader.counts = counts
        self.annotate(fingerprint=fingerprint(self.provenance, table))

    # Commits

    def save_live(self, live: Mapping[str, Bytes]) -> None:
        """Write the live moments of the next commit; those of the last commit still count."""
        self._commits.write_live(self.commit.number + 1, live)

    def write_commit(self, **progress: Any) -> None:
        """Commit everything that is written, and the live moments that were saved last.

        ``progress`` are the changed fields of :class:`.commits.Commit`.

        Raises
        ------
        UserError : the draft, or a part of it, is gone
        """
        lost = self.lost()
        if lost or not is_group(self.path):
            raise UserError(lost or draft_removed(self.path))
        commit = replace(self.commit, number=self.commit.number + 1, **progress)
        self._commits.write(commit)
        self.commit = commit

    def take_live(self) -> dict[str, Bytes]:
        """The live moments of the commit to continue from, which are then forgotten."""
        live, self.live = self.live, {}
        self.found = [one._replace(live={}) for one in self.found]
        return live

    def go_back(self, before: FoundCommit) -> None:
        """Continue from an earlier commit, and forget those after it."""
        while self.found[0] is not before:
            self._commits.forget(self.found.pop(0))
        self.commit, self.live = before.commit or Commit(), before.live

    def complete(self) -> None:
        """Mark the draft as complete, and consolidate its metadata."""
        if not self.is_complete:
            self.leave_out(self.commit.skipped)
            if self.commit.invisible:
                names = self.reader.stimulus_column("stimulus_path")[
                    list(self.commit.invisible)
                ].tolist()
                self.add_notes([_invisible(names)])
            self.annotate(status="complete")
        self._commits.remove()
        self.tasks.remove()
        metadata = documents_in(self._store, self.reader.schema)
        document = root_document(self.provenance, metadata)
        write(self._store, "zarr.json", [as_bytes(document)])
        flush(self._store)


def _invisible(names: Sequence[str]) -> str:
    number = f"{len(names):,} stimul{'us' if len(names) == 1 else 'i'}"
    return (
        f"nothing is visible in {number}, transparent or mid-grey throughout: "
        f"{shortened(names, _MAX_NAMES)}"
    )
