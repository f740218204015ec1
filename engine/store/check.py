"""Checking a store: its structure, every chunk, its counts and its fingerprint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..beside import draft_path, resolve_output
from ..errors import UserError
from ..layer import Layer
from ..registry import EXTREMES, MOMENTS, PLACED, SHOWN, SHUFFLED, VARIABLES
from .attributes import brief
from .chunking import Shape, Slab
from .files.archive import Archive
from .identity import fingerprint
from .location import Location, location_of, zarr_store
from .metadata import Misfit, Opened, refusing
from .reader import Reader
from .recording_reader import RecordingReader, recorded_attribute
from .root import kind_at
from .schema import RECORDING
from .store_reader import StoreReader
from .writing.recording_draft import RecordingDraft
from .writing.recovery import Recovery
from .writing.store_draft import StoreDraft

# Bytes to read at once: the chunks of several categories and folds.
_TOGETHER = 16 * 2**20
# Most faulty files to name for each array.
_MAX_FAULTS = 3


@dataclass(frozen=True)
class Checked:
    """Result of :func:`fusiform.check`.

    Attributes
    ----------
    problems : tuple of str
        Each with its place; the first of an unfinished store says how far it is.
    arrays : int
        Number of arrays that were read.
    bytes_read : int
        Bytes that were read.
    unfinished : bool
        Whether the scan or recording has not finished.
    """

    problems: tuple[str, ...]
    arrays: int
    bytes_read: int
    unfinished: bool = False


def check(path: Path | str, progress: Callable[[Layer], None] = lambda _: None) -> Checked:
    """Read a whole store or recording and report its problems.

    Of an unfinished scan or recording, found by its own path or that of its output, report how far
    it is and what is damaged.

    Parameters
    ----------
    path : str or path
        A folder, archive or URL.
    progress : callable, optional
        Called with each layer that has been read.

    Returns
    -------
    Checked
        The problems, and what was read.

    Raises
    ------
    UserError
        There is no store, or its root cannot be read.

    Examples
    --------
    >>> fusiform.check("r18.zarr").problems
    ()
    """
    location = _located(path)
    recording = kind_at(location) is RECORDING
    store: Any = RecordingReader.open(location) if recording else StoreReader.open(location)
    if store.provenance.get("status") != "complete":
        return _unfinished(store)
    if isinstance(location, Archive) and (fault := location.files.fault()):
        return Checked((fault,), 0, 0)
    check = _RecordingCheck(store) if recording else _Check(store)
    check.root()
    for layer in store.layers:
        check.layer(layer)
        progress(layer)
    check.consolidated()
    return Checked(tuple(check.problems), check.arrays, check.bytes_read)


def _located(path: Path | str) -> Location:
    """The location itself, or that of the unfinished draft beside it."""
    location = location_of(path)
    if isinstance(location, Path) and not location.exists():
        draft = draft_path(resolve_output(location))
        return draft if draft.exists() else location
    return location


def _unfinished(store: Reader) -> Checked:
    """How far an unfinished scan or recording is, and what is damaged."""
    draft_type: Any = RecordingDraft if store.kind is RECORDING else StoreDraft
    status = f"the {store.kind.work} that fills it has not finished"
    if isinstance(store.path, Archive):
        return Checked((status,), 0, 0, unfinished=True)
    try:
        with refusing(Misfit):
            root = zarr.open_group(zarr_store(store.path), mode="r", use_consolidated=False)
            recovery = Recovery(draft_type(store.path, root))
            damage, progress = recovery.damage(), recovery.progress()
        if progress and not damage:
            progress += f"; {_how_to_resume(store.path)}"
        return Checked((status + progress, *damage), 0, 0, unfinished=True)
    except (Misfit, UserError) as error:
        return Checked((status, str(error)), 0, 0, unfinished=True)


def _how_to_resume(location: Location) -> str:
    if isinstance(location, Path) and location.suffix != ".partial":  # it was moved
        return f"the same command resumes it once it is renamed to {draft_path(location)}"
    return f"the same command resumes what is in {location}"


class _Check:
    """Checks a store part by part, and collects its problems."""

    def __init__(self, store: Any) -> None:
        self.problems: list[str] = []
        self.arrays = 0
        self.bytes_read = 0
        self._store = store

    def root(self) -> None:
        """Check the coordinates, the counts, the stimulus table, and the fingerprint over them."""
        store = self._store
        values: dict[str, Any] = {name: self._whole(name) for name in store.schema.of_root()}
        if any(found is None for found in values.values()):
            return
        if (values["fold"] != np.arange(store.folds)).any():
            self._add("fold", "does not number the folds")
        if list(values["category"]) != list(store.categories):
            self._add("category", "differs from the names in the root's attributes")
        shown = values["stimulus_status"] == SHOWN
        counted = np.zeros_like(values["count"])
        columns = values["stimulus_category"], values["stimulus_fold"]
        category, fold = (column[shown] for column in columns)
        if any(
            (column < np.where(shown, 0, -1)).any() or (column >= n).any()
            for column, n in zip(columns, counted.shape, strict=True)
        ):
            name = "stimulus_category, stimulus_fold"
            self._add(name, "name a category or fold that does not exist")
            return
        np.add.at(counted, (category, fold), 1)
        if (counted != values["count"]).any():
            k, f = np.argwhere(counted != values["count"])[0]
            self._add(
                "count",
                f"says {values['count'][k, f]} stimuli of {store.categories[k]} in fold {f}; "
                f"the stimulus table has {counted[k, f]}",
            )
        if fingerprint(store.provenance, values) != store.provenance.get("fingerprint"):
            self._add("fingerprint", "does not match the stimuli and attributes beside it")

    def layer(self, layer: Layer) -> None:
        """Check a layer's moments, contrasts, null, saved contrasts and coordinates."""
        schema = self._store.schema
        self._variables(layer, "", VARIABLES)
        if self._store.shuffles:
            within = f"{layer.name}/{SHUFFLED}"
            drawn = self._whole(f"{within}/drawn_unit")
            if drawn is not None and ((drawn < 0) | (drawn >= layer.units)).any():
                self._add(f"{within}/drawn_unit", "names units outside of the layer")
            for variable in MOMENTS:
                self._whole(f"{within}/{variable}")
        for name in self._store.coordinates.get(layer.name, ()):
            self._whole(f"{layer.name}/{PLACED}/{name}")
        for name in self._store.saved:
            group = schema.group_of(name)
            self._variables(layer, f"{group}/", schema.saved_variables(name), name)

    def consolidated(self) -> None:
        """Check the consolidated metadata, on which readers of the whole store rely."""
        if self.problems:  # reported array by array
            return
        try:
            self._store.arrays.require_sound()
        except Misfit as misfit:
            self._add("zarr.json", str(misfit))

    def _variables(self, layer: Layer, within: str, names: Iterable[str], saved: str = "") -> None:
        """Check the variables of a layer in one group, and the extremes of their chunks."""
        compared = self._store.schema.compared(saved)
        extremes: dict[str, NDArray[Any]] = {}
        for name in names:
            found = self._chunks(f"{layer.name}/{within}{name}", layer)
            if found is not None and name in compared:
                extremes[name] = found
        if not compared:
            return
        key = f"{layer.name}/{within}{EXTREMES}"
        stored = self._whole(key)
        if stored is None:
            return
        attributes: Any = self._store.arrays.opened(key).attributes
        names = list(attributes.get("variables", []))
        if sorted(names) != sorted(compared):
            self._add(key, f"are of {brief(names)}, not of {', '.join(compared)}")
            return
        for name, found in extremes.items():
            if not np.array_equal(stored[names.index(name)], found, equal_nan=True):
                self._add(key, f"are not those of {name}: queries would miss units")

    def _chunks(self, key: str, layer: Layer) -> NDArray[Any] | None:
        """Read an array slab by slab; give their extremes ``[bound, *leading, chunk]``."""
        opened = self._array(key)
        if opened is None:
            return None
        grid = opened.grid
        leading = grid.shape[: len(grid.shape) - len(layer.shape)]
        known = self._slabs(layer)
        # A layer with unknown slabs is read at once.
        slabs = known or [tuple(slice(0, size) for size in layer.shape)]
        extremes = np.empty((2, *leading, len(slabs)), opened.dtype)
        blocks = list(
            _blocks(leading, grid.chunk, math.prod(grid.chunk[len(leading) :]) * grid.itemsize)
        )
        for chunk, slab in enumerate(slabs):
            for rows in blocks:
                values = self._part(key, (*rows, *slab))
                if values is None:
                    return None
                flat = values.reshape(*values.shape[: len(leading)], -1)
                if key.endswith("/m2") and (flat < 0).any():
                    where = np.argwhere((flat < 0).any(axis=-1))[0]
                    place = [int(at) + part.start for at, part in zip(where, rows, strict=True)]
                    self._add(key, f"has sums of squares below 0 at {tuple(place)}")
                    return None
                with np.errstate(invalid="ignore"):
                    for bound, reduce in enumerate((np.fmin.reduce, np.fmax.reduce)):  # NaN aside
                        extremes[bound, ..., chunk][rows] = reduce(flat, axis=-1)
        return extremes if known else None

    def _slabs(self, layer: Layer) -> list[Slab]:
        try:
            return [slab for slab, _ in self._store.slabs(layer)]
        except UserError:  # reported with the moments, which define the slabs
            return []

    def _whole(self, key: str) -> Any:
        return None if self._array(key) is None else self._part(key, ())

    def _part(self, key: str, part: tuple[slice, ...]) -> Any:
        try:
            values = self._store.arrays.part(key, part)
        except Misfit as misfit:
            self._add(key, str(misfit))
            return None
        self.bytes_read += values.nbytes
        return values

    def _array(self, key: str) -> Opened | None:
        """The array called ``key``, if it matches the schema and its files are sound."""
        self.arrays += 1
        arrays = self._store.arrays
        try:
            with refusing(Misfit):
                arrays.own_metadata(key)
                opened: Opened = arrays.opened(key)
                faults = list(islice(arrays.faults(key), _MAX_FAULTS + 1))
            if not faults:
                arrays.require_consistent(key)
        except Misfit as misfit:
            self._add(key, str(misfit))
            return None
        for fault in faults[:_MAX_FAULTS]:
            self._add(key, fault)
        if len(faults) > _MAX_FAULTS:
            self._add(key, "more files are missing or cannot be whole")
        return None if faults else opened

    def _add(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")


class _RecordingCheck(_Check):
    """Checks a recording."""

    def layer(self, layer: Layer) -> None:
        """Check a layer's units, the choices they came from, and their responses."""
        units, chosen = (self._whole(f"{layer.name}/{name}") for name in ("unit", "chosen"))
        declared = self._store.provenance["recorded"][layer.name]
        if units is not None and recorded_attribute({layer.name: units})[layer.name] != declared:
            self._add(f"{layer.name}/unit", "are other units than the root says were recorded")
        if chosen is not None and not chosen.any(axis=0).all():
            self._add(f"{layer.name}/chosen", "has units that no choice contains")
        if self._store.schema.recorded[layer.name].projected:
            self._whole(f"{layer.name}/mean")
        key = f"{layer.name}/response"
        opened = self._array(key)
        if opened is None:
            return
        unshown = self._store.stimulus_column("stimulus_status") != SHOWN
        (stimuli, columns), itemsize = opened.grid.shape, opened.grid.itemsize
        for rows in _blocks((stimuli,), opened.grid.chunk, columns * itemsize):
            part = self._part(key, rows)
            if part is None:
                return
            if not np.isnan(part[unshown[rows[0]]]).all():
                self._add(key, "has responses to stimuli that were not shown")
                return


def _blocks(sizes: Shape, chunk: Shape, row: int) -> Iterator[tuple[slice, ...]]:
    """Regions of leading dimensions to read together: whole chunks, of some MiB.

    ``row`` are the bytes of one entry of all of them.
    """
    if not sizes:
        yield ()
        return
    first, *others = sizes
    own = row * math.prod(others)
    if own > _TOGETHER and others:
        for at in range(first):
            for rest in _blocks(tuple(others), chunk[1:], row):
                yield (slice(at, at + 1), *rest)
        return
    step = max(1, _TOGETHER // own // chunk[0]) * chunk[0]
    for start in range(0, first, step):
        whole = (slice(0, size) for size in others)
        yield (slice(start, min(start + step, first)), *whole)
