"""Whether a store is whole: its structure, every chunk of it, its counts and its fingerprint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..spec import (
    EXTREMES,
    MEASURE_TYPES,
    MOMENTS,
    SHOWN,
    SHUFFLED,
    STIMULUS_COLUMNS,
    VARIABLES,
    Layer,
)
from .identity import fingerprint
from .places import zarr_store
from .reading import Store, files_of, present

# Bytes up to which the chunks of all categories and folds are read together.
_TOGETHER = 64 * 2**20


@dataclass(frozen=True)
class Checked:
    """What was found: ``problems``, each with its place, among so many arrays and bytes."""

    problems: tuple[str, ...]
    arrays: int
    bytes_read: int


@dataclass(frozen=True)
class _Expected:
    """What an array has to be."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str


def check_store(path: Path | str, progress: Callable[[Layer], None] = lambda _: None) -> Checked:
    """Read a store as a whole and say what is wrong with it.

    Raises
    ------
    UserError : there is no store, or what its root says of itself cannot be read
    """
    store = Store.open(path)
    if store.provenance.get("status") != "complete":
        return Checked(("the scan that fills it has not finished",), 0, 0)
    check = _Check(store)
    check.root()
    for layer in store.layers:
        check.layer(layer)
        progress(layer)
    return Checked(tuple(check.problems), check.arrays, check.bytes_read)


class _Check:
    def __init__(self, store: Store) -> None:
        self.problems: list[str] = []
        self.arrays = 0
        self.bytes_read = 0
        self._store = store
        # What lies in every folder, beside what the root has gathered of it.
        place = zarr_store(store.path)
        self._found = zarr.open_group(place, mode="r", zarr_format=3, use_consolidated=False)
        self._gathered = zarr.open_group(place, mode="r", zarr_format=3)
        self._leading = {"category": len(store.categories), "fold": store.folds}

    def root(self) -> None:
        """The coordinates, the counts, the stimulus table, and the fingerprint over them."""
        store = self._store
        stimuli = int(store.provenance["n_stimuli"])
        tables = {
            "category": _Expected(("category",), (len(store.categories),), "str"),
            "fold": _Expected(("fold",), (store.folds,), "int64"),
            "count": _Expected(tuple(self._leading), tuple(self._leading.values()), "int64"),
        }
        for column in STIMULUS_COLUMNS:
            dtype = "int" if column in ("stimulus_category", "stimulus_fold") else "str"
            tables[column] = _Expected(("stimulus",), (stimuli,), dtype)
        values: dict[str, Any] = {name: self._whole(name, one) for name, one in tables.items()}
        if any(found is None for found in values.values()):
            return
        if list(values["category"]) != list(store.categories):
            self._say("category", "does not hold the names that the root's attributes have")
        shown = values["stimulus_status"] == SHOWN
        category, fold = values["stimulus_category"][shown], values["stimulus_fold"][shown]
        counted = np.zeros_like(values["count"])
        try:
            np.add.at(counted, (category, fold), 1)
        except IndexError:
            self._say("stimulus_category, stimulus_fold", "name a category or fold that is none")
            return
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
        for dim, size in zip(layer.dims, layer.shape, strict=True):
            self._whole(f"{layer.name}/{dim}", _Expected((dim,), (size,), "int32"))
        self._variables(layer, "", {name: one.leading for name, one in VARIABLES.items()})
        if self._store.shuffles:
            drawn = self._length(f"{layer.name}/{SHUFFLED}/drawn_unit")
            self._whole(
                f"{layer.name}/{SHUFFLED}/drawn_unit", _Expected(("drawn_unit",), (drawn,), "int64")
            )
            sizes = {**self._leading, "shuffle": self._store.shuffles, "drawn_unit": drawn}
            for variable in MOMENTS:
                expected = _Expected(tuple(sizes), tuple(sizes.values()), "float64")
                self._whole(f"{layer.name}/{SHUFFLED}/{variable}", expected)
        for name, record in self._store.saved.items():
            category = ("category",) if record["each_category"] else ()
            leading = dict.fromkeys([*record["measures"], "selective"], category)
            self._variables(layer, f"{name}/", {**leading, "selective_fold": (*category, "fold")})

    def _variables(self, layer: Layer, within: str, leading: Mapping[str, tuple[str, ...]]) -> None:
        """Variables of a layer that lie in one group, and the extremes of their chunks."""
        extremes: dict[str, NDArray[Any]] = {}
        for name, dims in leading.items():
            dtype = self._dtype(name, within)
            sizes = tuple(self._leading[dim] for dim in dims)
            expected = _Expected((*dims, *layer.dims), (*sizes, *layer.shape), dtype)
            found = self._chunks(f"{layer.name}/{within}{name}", expected, layer, sizes)
            if found is not None and dtype == "float32" and name not in MOMENTS:
                extremes[name] = found
        key = f"{layer.name}/{within}{EXTREMES}"
        if not extremes:
            return
        stored = self._whole(key, None)
        if stored is None:
            return
        attributes: Any = self._found[key].attrs
        names = list(attributes.get("variables", []))
        for name, found in extremes.items():
            if name not in names or not np.array_equal(
                stored[names.index(name)], found, equal_nan=True
            ):
                self._say(key, f"are not those of {name}: queries would miss units")

    def _dtype(self, name: str, within: str) -> str:
        if name in MOMENTS:
            return str(self._store.provenance["store_dtype"])
        if within and name in MEASURE_TYPES:
            return MEASURE_TYPES[name]
        return VARIABLES[name].dtype if name in VARIABLES else "float32"

    def _chunks(
        self, key: str, expected: _Expected, layer: Layer, leading: tuple[int, ...]
    ) -> NDArray[Any] | None:
        """Read an array chunk by chunk; give their extremes ``[bound, *leading, chunk]``."""
        array = self._array(key, expected)
        if array is None or not self._has_files(key, array):
            return None
        slabs = [slab for slab, _ in self._store.slabs(layer)]
        extremes = np.empty((2, *leading, len(slabs)), np.float64)
        for chunk, row in product(range(len(slabs)), np.ndindex(*leading)):
            if not any(row):
                together = self._together(array, leading, slabs[chunk])
            values = (
                self._part(key, array, (*row, slabs[chunk])) if together is None else together[row]
            )
            if values is None:
                return None
            if key.endswith("/m2") and (values < 0).any():
                self._say(key, f"has sums of squares below 0 at {row}")
                return None
            with np.errstate(invalid="ignore"):
                place: Any = (..., *row, chunk)
                extremes[place] = np.fmin.reduce(values.ravel()), np.fmax.reduce(values.ravel())
        return extremes.astype(np.float32)

    def _together(self, array: zarr.Array[Any], leading: tuple[int, ...], slab: slice) -> Any:
        """A slab of all categories and folds, if it is small; None if not, or if it is damaged."""
        if math.prod((*leading, *array.chunks)) * array.dtype.itemsize > _TOGETHER:
            return None
        try:
            values = np.asarray(array[(*[slice(None)] * len(leading), slab)])
        except Exception:  # read one by one it will be said which chunk it is
            return None
        self.bytes_read += values.nbytes
        return values

    def _whole(self, key: str, expected: _Expected | None) -> Any:
        array = self._array(key, expected)
        if array is None or not self._has_files(key, array):
            return None
        return self._part(key, array, ())

    def _part(self, key: str, array: zarr.Array[Any], part: tuple[Any, ...]) -> Any:
        try:
            values = np.asarray(array[part or ...])
        except Exception as error:  # which kind depends on what decodes it
            place = "/".join(
                str(one.start // array.chunks[axis]) if isinstance(one, slice) else str(one)
                for axis, one in enumerate(part)
            )
            said = str(error).partition("\n")[0]
            self._say(key, f"chunk {place} is not what was written ({said})" if place else said)
            return None
        self.bytes_read += values.nbytes
        return values

    def _array(self, key: str, expected: _Expected | None) -> zarr.Array[Any] | None:
        """The array called ``key``, if it is what it has to be and what the root says it is."""
        self.arrays += 1
        try:
            array, gathered = self._found[key], self._gathered[key]
        except KeyError:
            self._say(key, "is missing")
            return None
        except Exception as error:  # zarr raises many kinds for metadata that is none
            self._say(key, f"has no metadata that can be read ({error})")
            return None
        if not isinstance(array, zarr.Array) or not isinstance(gathered, zarr.Array):
            self._say(key, "is no array")
            return None
        if repr(array.metadata) != repr(gathered.metadata):  # NaN is no equal of itself
            self._say(key, "has other metadata than the root has gathered of it")
            return None
        if expected is None:
            return array
        found = _Expected(
            tuple(str(dim) for dim in array.metadata.dimension_names or ()),  # type: ignore[union-attr]
            array.shape,
            "str" if array.dtype.kind in "OTU" else array.dtype.name,
        )
        same_type = found.dtype.startswith(expected.dtype)
        if (found.dims, found.shape) != (expected.dims, expected.shape) or not same_type:
            self._say(key, f"has to be {_shown(expected)}; it is {_shown(found)}")
            return None
        return array

    def _has_files(self, key: str, array: zarr.Array[Any]) -> bool:
        missing = [file for file in files_of(array) if not present(array, file)]
        for file in missing[:3]:
            self._say(key, f"file {array.metadata.encode_chunk_key(file)} is missing or empty")
        if len(missing) > 3:
            self._say(key, f"{len(missing) - 3} more files are missing")
        return not missing

    def _length(self, key: str) -> int:
        try:
            return int(self._found[key].shape[0])  # type: ignore[union-attr]
        except Exception:  # said where the array itself is checked
            return 0

    def _say(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")


def _shown(expected: _Expected) -> str:
    sizes = zip(expected.dims, expected.shape, strict=False)
    return f"{expected.dtype} [{', '.join(f'{dim} {size}' for dim, size in sizes)}]"
