"""Whether a store is whole: its structure, every chunk of it, its counts and its fingerprint."""

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

from ..beside import draft_place, resolved
from ..errors import UserError
from ..layer import Layer
from ..variables import EXTREMES, MOMENTS, SHOWN, SHUFFLED, VARIABLES
from .cuts import Slab
from .draft import Draft
from .identity import fingerprint
from .kinds import RECORDING
from .metadata import Misfit, refusing
from .places import Place, place_of, zarr_store
from .reading import Store
from .recording import Recorded, recorded_as
from .recording_draft import RecordingDraft
from .root import Root, kind_at
from .schema import shown

# Bytes up to which the chunks of all categories and folds are read together.
_TOGETHER = 64 * 2**20
# Files of an array that are named one by one.
_MOST_FAULTS = 3


@dataclass(frozen=True)
class Checked:
    """The result of a check: ``problems``, each with its place, in so many arrays and bytes.

    Of what is ``unfinished`` the first says how far it is.
    """

    problems: tuple[str, ...]
    arrays: int
    bytes_read: int
    unfinished: bool = False


def check_store(path: Path | str, progress: Callable[[Layer], None] = lambda _: None) -> Checked:
    """Read a store or recording as a whole and say what is wrong with it.

    Or, where a scan or recording has not finished, how far it has come and what of it is damaged;
    ``path`` is then its own or that of the store that it is to be.

    Raises
    ------
    UserError : there is no store, or what its root says of itself cannot be read
    """
    path = _where(path)
    recording = kind_at(path) is RECORDING
    store: Any = Recorded.open(path) if recording else Store.open(path)
    if store.provenance.get("status") != "complete":
        return _unfinished(store)
    check = _CheckRecording(store) if recording else _Check(store)
    check.root()
    for layer in store.layers:
        check.layer(layer)
        progress(layer)
    check.gathered()
    return Checked(tuple(check.problems), check.arrays, check.bytes_read)


def _where(path: Path | str) -> Place:
    """The place itself, or that of the unfinished draft beside it."""
    place = place_of(path)
    if isinstance(place, Path) and not place.exists():
        draft = draft_place(resolved(place))
        return draft if draft.exists() else place
    return place


def _unfinished(store: Root) -> Checked:
    """How far an unfinished scan or recording has come, and what of it is damaged."""
    draft_of = RecordingDraft if store.kind is RECORDING else Draft
    said = f"the {store.kind.work} that fills it has not finished"
    try:
        with refusing(Misfit):
            root = zarr.open_group(zarr_store(store.path), mode="r", use_consolidated=False)
            draft: Any = draft_of(store.path, root)
            found, far = draft.damage(), draft.how_far()
        if far and not found:
            far += f"; {_goes_on(store.path)}"
        return Checked((said + far, *found), 0, 0, unfinished=True)
    except (Misfit, UserError) as error:
        return Checked((said, str(error)), 0, 0, unfinished=True)


def _goes_on(place: Place) -> str:
    if isinstance(place, Path) and place.suffix != ".partial":  # which was moved
        return f"the same command goes on with it when it is called {draft_place(place)}"
    return f"the same command goes on with what is in {place}"


class _Check:
    def __init__(self, store: Any) -> None:
        self.problems: list[str] = []
        self.arrays = 0
        self.bytes_read = 0
        self._store = store

    def root(self) -> None:
        """The coordinates, the counts, the stimulus table, and the fingerprint over them."""
        store = self._store
        names = store.schema.of_root()
        values: dict[str, Any] = {name: self._whole(name) for name in names}
        if any(found is None for found in values.values()):
            return
        if (values["fold"] != np.arange(store.folds)).any():
            self._say("fold", "does not number the folds")
        if list(values["category"]) != list(store.categories):
            self._say("category", "does not hold the names that the root's attributes have")
        seen = values["stimulus_status"] == SHOWN
        counted = np.zeros_like(values["count"])
        columns = values["stimulus_category"], values["stimulus_fold"]
        category, fold = (column[seen] for column in columns)
        if any(
            (column < np.where(seen, 0, -1)).any() or (column >= n).any()
            for column, n in zip(columns, counted.shape, strict=True)
        ):
            self._say("stimulus_category, stimulus_fold", "name a category or fold that is none")
            return
        np.add.at(counted, (category, fold), 1)
        if (counted != values["count"]).any():
            k, f = np.argwhere(counted != values["count"])[0]
            self._say(
                "count",
                f"says {values['count'][k, f]} stimuli of {store.categories[k]} in fold {f}; "
                f"the stimulus table has {counted[k, f]}",
            )
        if fingerprint(store.provenance, values) != store.provenance.get("fingerprint"):
            self._say("fingerprint", "is not that of the stimuli and attributes beside it")

    def layer(self, layer: Layer) -> None:
        """A layer's coordinates, moments, contrasts, null and saved contrasts."""
        schema = self._store.schema
        for dim, size in zip(layer.dims, layer.shape, strict=True):
            places = self._whole(f"{layer.name}/{dim}")
            if places is not None and (places != np.arange(size)).any():
                self._say(f"{layer.name}/{dim}", f"does not number the places along {dim}")
        self._variables(layer, "", VARIABLES)
        if self._store.shuffles:
            within = f"{layer.name}/{SHUFFLED}"
            drawn = self._whole(f"{within}/drawn_unit")
            if drawn is not None and ((drawn < 0) | (drawn >= layer.units)).any():
                self._say(f"{within}/drawn_unit", "names units that the layer has not")
            for variable in MOMENTS:
                self._whole(f"{within}/{variable}")
        for name in self._store.saved:
            group = schema.group_of(name)
            self._variables(layer, f"{group}/", schema.saved_variables(name), name)

    def gathered(self) -> None:
        """The metadata gathered in the root, which readers of the whole store rely on."""
        if self.problems:  # said array by array
            return
        try:
            self._store.arrays.require_sound()
        except Misfit as misfit:
            self._say("zarr.json", str(misfit))

    def _variables(self, layer: Layer, within: str, names: Iterable[str], saved: str = "") -> None:
        """Variables of a layer that lie in one group, and the extremes of their chunks."""
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
            self._say(key, f"are of {shown(names)}, not of {', '.join(compared)}")
            return
        for name, found in extremes.items():
            if not np.array_equal(stored[names.index(name)], found, equal_nan=True):
                self._say(key, f"are not those of {name}: queries would miss units")

    def _chunks(self, key: str, layer: Layer) -> NDArray[Any] | None:
        """Read an array chunk by chunk; give their extremes ``[bound, *leading, chunk]``."""
        array = self._array(key)
        if array is None:
            return None
        leading = array.shape[: array.ndim - len(layer.shape)]
        cut = self._slabs(layer)
        # Where it is not known how the layer is cut, all is read at once.
        slabs = cut or [tuple(slice(0, size) for size in layer.shape)]
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
                self._say(key, f"has sums of squares below 0 at {row}")
                return None
            with np.errstate(invalid="ignore"):
                place: Any = (..., *row, chunk)
                extremes[place] = np.fmin.reduce(values.ravel()), np.fmax.reduce(values.ravel())
        return extremes if cut else None

    def _together(self, array: zarr.Array[Any], key: str, rows: int, slab: Slab) -> Any:
        """A slab of all categories and folds, if it is small; None if not, or if it is damaged."""
        leading = array.shape[:rows]
        if math.prod((*leading, *array.chunks)) * array.dtype.itemsize > _TOGETHER:
            return None
        try:
            values = self._store.arrays.part(key, (*[slice(None)] * rows, *slab))
        except Misfit:  # read one by one it will be said which chunk it is
            return None
        self.bytes_read += values.nbytes
        return values

    def _slabs(self, layer: Layer) -> list[Slab]:
        try:
            return [slab for slab, _ in self._store.slabs(layer)]
        except UserError:  # said where the moments, by which a layer is cut, are looked at
            return []

    def _whole(self, key: str) -> Any:
        array = self._array(key)
        return None if array is None else self._part(key, array, ())

    def _part(self, key: str, array: zarr.Array[Any], part: tuple[Any, ...]) -> Any:
        try:
            values = self._store.arrays.part(key, part)
        except Misfit as error:
            place = "/".join(
                str(one.start // array.chunks[axis]) if isinstance(one, slice) else str(one)
                for axis, one in enumerate(part)
            )
            self._say(
                key, f"chunk {place} is not what was written ({error})" if place else str(error)
            )
            return None
        self.bytes_read += values.nbytes
        return values

    def _array(self, key: str) -> zarr.Array[Any] | None:
        """The array called ``key``, if it is what it has to be, and its files are there."""
        self.arrays += 1
        arrays = self._store.arrays
        try:
            with refusing(Misfit):
                arrays.own_metadata(key)
                array = arrays.opened(key).array
                faults = list(islice(arrays.faults(key), _MOST_FAULTS + 1))
            if not faults:
                arrays.require_own(key)
        except Misfit as misfit:
            self._say(key, str(misfit))
            return None
        for fault in faults[:_MOST_FAULTS]:
            self._say(key, fault)
        if len(faults) > _MOST_FAULTS:
            self._say(key, "more files are missing or cannot be whole")
        return None if faults else array

    def _say(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")


class _CheckRecording(_Check):
    def layer(self, layer: Layer) -> None:
        """A layer's units and what chose them, and their responses to every stimulus."""
        units, chosen = (self._whole(f"{layer.name}/{name}") for name in ("unit", "chosen"))
        said = self._store.provenance["recorded"][layer.name]
        if units is not None and recorded_as({layer.name: units})[layer.name] != said:
            self._say(f"{layer.name}/unit", "are other units than the root says were recorded")
        if chosen is not None and not chosen.any(axis=0).all():
            self._say(f"{layer.name}/chosen", "has units that nothing has chosen")
        if self._store.schema.recorded[layer.name].projected:
            self._whole(f"{layer.name}/mean")
        key = f"{layer.name}/response"
        array = self._array(key)
        if array is None:
            return
        unshown = self._store.stimuli("stimulus_status") != SHOWN
        for start in range(0, array.shape[0], array.chunks[0]):
            rows = slice(start, min(start + array.chunks[0], array.shape[0]))
            part = self._part(key, array, (rows, slice(0, array.shape[1])))
            if part is None:
                return
            if not np.isnan(part[unshown[rows]]).all():
                self._say(key, "has responses to stimuli that were not shown")
                return
