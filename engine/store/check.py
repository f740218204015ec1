"""Checking a store: its structure, every chunk, its counts and its fingerprint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..beside import draft_path, resolve_output
from ..errors import UserError
from ..layer import Layer
from ..registry import EXTREMES, MOMENTS, SHOWN, SHUFFLED, VARIABLES
from .attributes import brief
from .chunking import Slab
from .identity import fingerprint
from .location import Location, location_of, zarr_store
from .metadata import Misfit, refusing
from .reader import Reader
from .recording_reader import RecordingReader, recorded_attribute
from .root import kind_at
from .schema import RECORDING
from .store_reader import StoreReader
from .writing.recording_draft import RecordingDraft
from .writing.recovery import Recovery
from .writing.store_draft import StoreDraft

# Most bytes to read at once: chunks of all categories and folds together.
_TOGETHER = 64 * 2**20
# Most faulty files to name for each array.
_MAX_FAULTS = 3


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes
    ----------
    problems : each with its place; the first of an ``unfinished`` store says how far it is
    arrays, bytes_read : what was checked
    """

    problems: tuple[str, ...]
    arrays: int
    bytes_read: int
    unfinished: bool = False


def check(path: Path | str, progress: Callable[[Layer], None] = lambda _: None) -> Checked:
    """Read a whole store or recording and report its problems.

    Of an unfinished scan or recording, found by its own path or that of its output, report how far
    it is and what is damaged.

    Raises
    ------
    UserError : there is no store, or its root cannot be read
    """
    location = _located(path)
    recording = kind_at(location) is RECORDING
    store: Any = RecordingReader.open(location) if recording else StoreReader.open(location)
    if store.provenance.get("status") != "complete":
        return _unfinished(store)
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
        """Check a layer's coordinates, moments, contrasts, null and saved contrasts."""
        schema = self._store.schema
        for dim, size in zip(layer.dims, layer.shape, strict=True):
            indices = self._whole(f"{layer.name}/{dim}")
            if indices is not None and (indices != np.arange(size)).any():
                self._add(f"{layer.name}/{dim}", f"does not number the indices along {dim}")
        self._variables(layer, "", VARIABLES)
        if self._store.shuffles:
            within = f"{layer.name}/{SHUFFLED}"
            drawn = self._whole(f"{within}/drawn_unit")
            if drawn is not None and ((drawn < 0) | (drawn >= layer.units)).any():
                self._add(f"{within}/drawn_unit", "names units outside of the layer")
            for variable in MOMENTS:
                self._whole(f"{within}/{variable}")
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
        attributes: Any = self._store.arrays.opened(key).array.attrs
        names = list(attributes.get("variables", []))
        if sorted(names) != sorted(compared):
            self._add(key, f"are of {brief(names)}, not of {', '.join(compared)}")
            return
        for name, found in extremes.items():
            if not np.array_equal(stored[names.index(name)], found, equal_nan=True):
                self._add(key, f"are not those of {name}: queries would miss units")

    def _chunks(self, key: str, layer: Layer) -> NDArray[Any] | None:
        """Read an array chunk by chunk; give their extremes ``[bound, *leading, chunk]``."""
        array = self._array(key)
        if array is None:
            return None
        leading = array.shape[: array.ndim - len(layer.shape)]
        known = self._slabs(layer)
        # A layer with unknown chunks is read at once.
        slabs = known or [tuple(slice(0, size) for size in layer.shape)]
        extremes = np.empty((2, *leading, len(slabs)), array.dtype)
        for chunk, row in product(range(len(slabs)), np.ndindex(*leading)):
            if not any(row):
                together = self._together(array, key, len(leading), slabs[chunk])
            values = (
                self._part(key, array, (*row, *slabs[chunk])) if together is None else together[row]
            )
            if values is None:
                return None
            if key.endswith("/m2") and (values < 0).any():
                self._add(key, f"has sums of squares below 0 at {row}")
                return None
            with np.errstate(invalid="ignore"):
                index: Any = (..., *row, chunk)
                extremes[index] = np.fmin.reduce(values.ravel()), np.fmax.reduce(values.ravel())
        return extremes if known else None

    def _together(self, array: zarr.Array[Any], key: str, rows: int, slab: Slab) -> Any:
        """A slab of all categories and folds; None if it is large or damaged."""
        leading = array.shape[:rows]
        if math.prod((*leading, *array.chunks)) * array.dtype.itemsize > _TOGETHER:
            return None
        try:
            values = self._store.arrays.part(key, (*[slice(None)] * rows, *slab))
        except Misfit:  # read again one by one, to report the chunk
            return None
        self.bytes_read += values.nbytes
        return values

    def _slabs(self, layer: Layer) -> list[Slab]:
        try:
            return [slab for slab, _ in self._store.slabs(layer)]
        except UserError:  # reported with the moments, which define the slabs
            return []

    def _whole(self, key: str) -> Any:
        array = self._array(key)
        return None if array is None else self._part(key, array, ())

    def _part(self, key: str, array: zarr.Array[Any], part: tuple[Any, ...]) -> Any:
        try:
            values = self._store.arrays.part(key, part)
        except Misfit as error:
            chunk = "/".join(
                str(one.start // array.chunks[axis]) if isinstance(one, slice) else str(one)
                for axis, one in enumerate(part)
            )
            fault = f"chunk {chunk} is not what was written ({error})" if chunk else str(error)
            self._add(key, fault)
            return None
        self.bytes_read += values.nbytes
        return values

    def _array(self, key: str) -> zarr.Array[Any] | None:
        """The array called ``key``, if it matches the schema and its files are sound."""
        self.arrays += 1
        arrays = self._store.arrays
        try:
            with refusing(Misfit):
                arrays.own_metadata(key)
                array = arrays.opened(key).array
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
        return None if faults else array

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
        array = self._array(key)
        if array is None:
            return
        unshown = self._store.stimulus_column("stimulus_status") != SHOWN
        for start in range(0, array.shape[0], array.chunks[0]):
            rows = slice(start, min(start + array.chunks[0], array.shape[0]))
            part = self._part(key, array, (rows, slice(0, array.shape[1])))
            if part is None:
                return
            if not np.isnan(part[unshown[rows]]).all():
                self._add(key, "has responses to stimuli that were not shown")
                return
