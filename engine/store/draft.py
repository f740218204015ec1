"""A store that is being filled, block by block, and committed from time to time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..errors import UserError
from ..spec import MOMENTS, SHOWN, SHUFFLED, STIMULUS_COLUMNS, VARIABLES, Layer
from .arrays import files_of
from .commits import Commit, Commits
from .cuts import slabs
from .durable import flush
from .hidden import Bytes
from .identity import fingerprint
from .layout import consolidate, put, put_column, put_count, put_moments
from .places import Place, is_group, zarr_store
from .reading import Store
from .records import Records
from .slabs import SlabWriter, filled_up, write_file


class Draft(Store):
    """A store that is being filled.

    Beside its final place where that is a folder, so that there is a whole store or none; behind a
    URL in its place, where it says of itself that it is not complete. ``commit`` is how far an
    earlier run had come with it, and ``live`` what it had in its hands then; ``records`` are of the
    tasks that workers have done.
    """

    def __init__(self, path: Place, root: zarr.Group) -> None:
        # What reads must not write: it is decoded by code that knows plain folders only.
        super().__init__(path, zarr.open_group(zarr_store(path), mode="r", use_consolidated=False))
        self._draft = root
        # Moments are written block by block: opening an array each time would take longer.
        self._open: dict[str, Any] = {}
        self._commits = Commits(root.store)
        self.commit, self.live = self._commits.latest() or (Commit(), {})
        self.records = Records(root.store)

    @classmethod
    def join(cls, path: Place) -> Draft:
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

    def write_moments(self, layer: Layer, category: int, fold: int, moments: Moments) -> None:
        """Write the finished moments of one category and fold, ``mean, m2 [*layer dims]``."""
        for variable, values in (("mean", moments.mean), ("m2", moments.m2)):
            key = f"{layer.name}/{variable}"
            if key not in self._open:
                self._open[key] = self._draft[key]
            array = self._open[key]
            chunk = array.chunks[2:]
            fill = np.full(math.prod(chunk), array.fill_value, array.dtype)
            # All of a file, also of one that an earlier run may have torn.
            write_file(
                array,
                (category, fold, *(0 for _ in chunk)),
                (
                    filled_up(values[slab], slab, chunk, fill)
                    for slab, _ in slabs(layer.shape, chunk)
                ),
            )

    def slab_writer(self, layer: Layer) -> SlabWriter:
        """What writes variables beside a layer's moments, slab by slab."""
        group = self._draft[layer.name]
        assert isinstance(group, zarr.Group)
        return SlabWriter(group, layer, self.chunk_shape(layer))

    def write_contrasts(self, layer: Layer, columns: Mapping[str, NDArray[Any]]) -> None:
        """Materialise variables ``[*leading, unit]`` of a whole layer, beside its moments."""
        writer = self.slab_writer(layer)
        for number, (_, units) in enumerate(self.slabs(layer)):
            write_slab(writer, number, {name: c[..., units] for name, c in columns.items()})
        writer.finish()

    def write_shuffled_moments(
        self, layer: Layer, units: NDArray[np.int64], mean: NDArray[Any], m2: NDArray[Any]
    ) -> None:
        """Write moments under shuffled labels ``[category, fold, shuffle, unit]``.

        ``units`` are those drawn, as places in the flattened layer.
        """
        # Overwritten: what an earlier run has left of it may be torn.
        group = self._draft.create_group(f"{layer.name}/{SHUFFLED}", overwrite=True)
        put(group, "drawn_unit", units, ("drawn_unit",), "place of the unit in the flat layer")
        for variable, values in (("mean", mean), ("m2", m2)):
            attributes = VARIABLES[variable].attributes()
            attributes["long_name"] += ", labels shuffled"
            dims = ("category", "fold", "shuffle", "drawn_unit")
            put_moments(group, variable, values, dims, attributes)

    def require_moments(self, layers: Iterable[Layer], blocks: Iterable[tuple[int, int]]) -> None:
        """Refuse a draft in which moments of a category and fold in ``blocks`` are missing.

        Raises
        ------
        UserError : a file of them is gone
        """
        blocks = list(blocks)
        for layer in layers:
            for variable in MOMENTS:
                key = f"{layer.name}/{variable}"
                array = self._opened(key).array
                with self._refusing(key):
                    for block in blocks:
                        for file in files_of(array, block):
                            self.arrays.require_file(key, file)

    def annotate(self, **attributes: Any) -> None:
        """Add to the provenance."""
        self._draft.attrs.update(attributes)
        self.provenance.update(attributes)

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


def most_bytes(layers: Sequence[Layer], categories: int, folds: int, store_dtype: str) -> int:
    """What a scan will take on the disk, if nothing of it can be compressed."""
    moments = categories * folds * len(MOMENTS) * np.dtype(store_dtype).itemsize
    contrasts: int = sum(
        np.dtype(variable.dtype).itemsize
        * (categories if "category" in variable.leading else 1)
        * (folds if "fold" in variable.leading else 1)
        for name, variable in VARIABLES.items()
        if name not in MOMENTS
    )
    commits = 2 * sum(layer.state_bytes for layer in layers)
    return int(commits + (moments + contrasts) * sum(layer.units for layer in layers))


def write_slab(writer: SlabWriter, number: int, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a slab of some of the variables that a scan leaves, ``[*leading, unit]``."""
    for name, values in columns.items():
        variable = VARIABLES[name]
        leading = dict(zip(variable.leading, values.shape, strict=False))
        writer.write(number, name, values.astype(variable.dtype), leading, variable.attributes())
