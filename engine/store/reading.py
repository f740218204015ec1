"""A finished store: what it holds, read part by part when it is asked for. Never imports torch.

One zarr v3 store holds a group per layer with ``mean`` and ``m2 [category, fold, *layer dims]``;
the root holds ``count [category, fold]``, the stimulus table, and the provenance as attributes.
Contrasts that were materialised lie beside the moments. Anyone can read it with
``xarray.open_datatree(path, engine="zarr")``. The schema: ``docs/store.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarrs import ZarrsCodecPipeline

from ...kernels.moments import Moments
from ..errors import UserError, nearest
from ..spec import EXTREMES, SCHEMA_VERSION, SHUFFLED, Layer
from .places import Place, exists, name_of, place_of, zarr_store

if TYPE_CHECKING:
    import xarray

Extremes = dict[str, tuple[NDArray[Any], NDArray[Any]]]


class Store:
    """A result of a scan. Numbers are read when they are asked for, slab by slab.

    ``path`` is the store's folder or URL; ``categories``, ``folds``, ``counts [category, fold]``
    and ``layers`` describe it, ``provenance`` says how it came about.
    """

    def __init__(self, path: Place, root: zarr.Group) -> None:
        self.path = path
        self._root = root
        self._describe()

    def _describe(self) -> None:
        """Take over what the root's attributes say."""
        self.provenance: dict[str, Any] = dict(self._root.attrs)
        self.categories: tuple[str, ...] = tuple(self.provenance["categories"])
        self.folds: int = self.provenance["folds"]
        self.layers = tuple(
            Layer(**{**record, "dims": tuple(record["dims"]), "shape": tuple(record["shape"])})
            for record in self.provenance["layers"]
        )
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._present: set[tuple[str, tuple[int, ...]]] = set()

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a result for reading; nothing but metadata is read.

        Parameters
        ----------
        path : a folder, or the URL of an object store or web server

        Raises
        ------
        UserError : ``path`` is no store, or one of another schema version
        """
        place = place_of(path)
        if not exists(place):
            raise UserError(f"no store at {place}: make one with 'fusiform scan ... -o {place}'")
        try:
            root = zarr.open_group(zarr_store(place), mode="r", zarr_format=3)
        except Exception:  # zarr raises many kinds for folders that are no groups
            raise UserError(
                f"{place} is not a zarr v3 store: name one that fusiform scan made"
            ) from None
        refuse_schema(place, root)
        try:
            return cls(place, root)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{place} is damaged: what its root says of itself is not whole ({error!r})"
            ) from None

    def refresh(self) -> None:
        """Read again what the store says of itself, after something was added to it."""
        self._root = zarr.open_group(zarr_store(self.path), mode="r", zarr_format=3)
        self._describe()

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return (
            f"<fusiform.{type(self).__name__} {name_of(self.path)}: {self.provenance['model']} "
            f"({self.provenance['weights']}), {len(self.layers)} layers, {units:,} units, "
            f"{len(self.categories)} categories, {self.folds} folds>"
        )

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of stimuli ``[category, fold]``."""
        return np.asarray(self._part("count"))

    def layer(self, name: str) -> Layer:
        """The layer called ``name``."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = nearest(name, (layer.name for layer in self.layers))
        raise UserError(f"{self.path} has no layer {name!r}: {known}")

    def layers_named(self, patterns: Sequence[str]) -> list[Layer]:
        """The layers with names that match one of ``patterns`` (globs), in the store's order.

        Raises
        ------
        UserError : a pattern matches none
        """
        for pattern in patterns:
            if not any(fnmatchcase(layer.name, pattern) for layer in self.layers):
                self.layer(pattern)  # says which are nearest
        return [
            layer
            for layer in self.layers
            if any(fnmatchcase(layer.name, pattern) for pattern in patterns)
        ]

    def stimuli(self, column: str) -> NDArray[Any]:
        """A column ``[stimulus]`` of the stimulus table; see ``spec.STIMULUS_COLUMNS``."""
        return self._part(column)

    def tree(self) -> xarray.DataTree:
        """The whole store as a lazy ``xarray.DataTree`` of dask arrays, a node per layer."""
        import xarray

        place: Any = self.path if isinstance(self.path, Path) else zarr_store(self.path)
        return xarray.open_datatree(place, engine="zarr", chunks={})

    def dataset(self, layer: str) -> xarray.Dataset:
        """One layer as a lazy ``xarray.Dataset`` of dask arrays, with named dims and categories."""
        return self.tree()[self.layer(layer).name].to_dataset()

    def chunk_length(self, layer: Layer) -> int:
        """Length of a chunk along the layer's first dimension: the same for all its variables."""
        return int(self._array(f"{layer.name}/mean").chunks[2])

    def slabs(self, layer: Layer) -> Iterator[tuple[slice, slice]]:
        """Cut a layer along its first dimension where its chunks are cut.

        Yields the slice of that dimension and the slice of flat units that it stands for.
        """
        inner, step = layer.units // layer.shape[0], self.chunk_length(layer)
        for start in range(0, layer.shape[0], step):
            stop = min(start + step, layer.shape[0])
            yield slice(start, stop), slice(start * inner, stop * inner)

    def moments(self, layer: Layer, slab: slice) -> list[Moments]:
        """Moments of a slab of a layer, one for every fold.

        ``count [category, 1]``, ``mean, m2 [category, unit]``.
        """

        def categories(variable: str, fold: int) -> NDArray[np.float64]:
            values = self._part(f"{layer.name}/{variable}", (slice(None), fold, slab))
            return values.reshape(len(values), -1).astype(np.float64, copy=False)

        return [
            Moments(
                self.counts[:, fold, np.newaxis],
                categories("mean", fold),
                categories("m2", fold),
            )
            for fold in range(self.folds)
        ]

    def moments_of(self, layer: Layer, category: int, fold: int) -> Moments:
        """Moments of one category and fold, ``mean, m2 [*layer dims]``."""
        own = (category, fold)
        return Moments(
            int(self.counts[own]),
            self._part(f"{layer.name}/mean", own).astype(np.float64, copy=False),
            self._part(f"{layer.name}/m2", own).astype(np.float64, copy=False),
        )

    def read(self, layer: Layer, variable: str) -> NDArray[Any]:
        """A whole variable ``[*leading, unit]``, units flat."""
        values = self._part(f"{layer.name}/{variable}")
        return values.reshape(*values.shape[: values.ndim - len(layer.shape)], -1)

    def read_slab(
        self, layer: Layer, variable: str, slab: slice, category: int | None = None
    ) -> NDArray[Any]:
        """A slab of a variable ``[category, unit]`` or ``[unit]``, units flat; or one category."""
        array = self._array(f"{layer.name}/{variable}")
        if array.ndim == len(layer.shape):
            return self._part(f"{layer.name}/{variable}", (slab,)).reshape(-1)
        if category is not None:
            return self._part(f"{layer.name}/{variable}", (category, slab)).reshape(-1)
        values = self._part(f"{layer.name}/{variable}", (slice(None), slab))
        return values.reshape(len(values), -1)

    def extremes(self, layer: Layer, saved: str = "") -> Extremes:
        """Smallest and largest value of every chunk: variable -> two of ``[category, chunk]``.

        Of the variables that are ``saved`` under a name, or of those that the scan left; those of a
        single contrast are ``[chunk]``. NaN where a chunk has nothing else.
        """
        key = f"{layer.name}/{saved}/{EXTREMES}" if saved else f"{layer.name}/{EXTREMES}"
        if key not in self._root:
            return {}
        values = self._part(key)
        named: Any = self._array(key).attrs["variables"]
        return {str(name): (low, high) for name, (low, high) in zip(named, values, strict=True)}

    @property
    def saved(self) -> dict[str, Any]:
        """What contrasts were saved: name -> how they were written, and their criterion."""
        return dict(self.provenance.get("saved", {}))

    @property
    def shuffles(self) -> int:
        """How many times labels were shuffled for the permutation null; 0 without one."""
        return int(self.provenance.get("null", {}).get("shuffles", 0))

    def shuffled_moments(self, layer: Layer) -> list[Moments]:
        """Moments under shuffled labels, one for every fold, of the units drawn from a layer.

        ``count [category, 1]``, ``mean, m2 [category, shuffle * unit]``, shuffle by shuffle.
        """

        def flat(variable: str, fold: int) -> NDArray[np.float64]:
            values = self._part(f"{layer.name}/{SHUFFLED}/{variable}", (slice(None), fold))
            return values.reshape(len(values), -1)

        return [
            Moments(self.counts[:, fold, np.newaxis], flat("mean", fold), flat("m2", fold))
            for fold in range(self.folds)
        ]

    def null_of(self, layer: Layer) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The units drawn from a layer, and ``mean, m2 [category, fold, shuffle, unit]``."""
        drawn, mean, m2 = (
            self._part(f"{layer.name}/{SHUFFLED}/{name}") for name in ("drawn_unit", "mean", "m2")
        )
        return drawn, mean, m2

    def _array(self, key: str) -> zarr.Array[Any]:
        if key not in self._arrays:
            try:
                array: Any = self._root[key]
                # It knows local files only, and numbers.
                if isinstance(self.path, Path) and array.dtype.kind in "bif":
                    array = _decoded_by_compiled_code(array)
            except Exception as error:  # KeyError, or any of zarr's for what is no metadata
                raise self._unreadable(key, error) from None
            self._arrays[key] = array
        return self._arrays[key]

    def _part(self, key: str, selection: tuple[int | slice, ...] = ()) -> NDArray[Any]:
        """Part of an array; whatever else than its numbers comes is damage.

        Raises
        ------
        UserError : a file is missing, which zarr would read as missing values, or is not what was
            written
        """
        array = self._array(key)
        for file in files_of(array, selection):
            if (key, file) not in self._present:
                if not present(array, file):
                    raise self._unreadable(
                        key, f"its file {'/'.join(map(str, file))} is missing or empty"
                    )
                self._present.add((key, file))
        try:
            return np.asarray(array[selection or ...])
        except Exception as error:  # which kind depends on what decodes it
            raise self._unreadable(key, error) from None

    def _unreadable(self, key: str, error: Exception | str) -> UserError:
        said = str(error).partition("\n")[0]
        return UserError(
            f"cannot read {key} of {self.path} ({said}): it is damaged, or out of reach; "
            f"'fusiform check {self.path}' says more"
        )


def refuse_schema(place: Place, root: zarr.Group) -> None:
    """Refuse what is not a store of this schema.

    Raises
    ------
    UserError : it is another program's, or of another schema version
    """
    if root.attrs.get("schema") != "fusiform":
        raise UserError(
            f"{place} is a zarr store, but not of fusiform: name one from fusiform scan"
        )
    version = root.attrs.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"this fusiform reads stores of schema {SCHEMA_VERSION}; {place} has {version}: "
            "scan again, or install the version that made it"
        )


def require_complete(store: Store) -> None:
    """Refuse a store whose scan stopped before its end.

    Raises
    ------
    UserError : it did
    """
    if store.provenance.get("status") != "complete":
        raise UserError(
            f"the scan that fills {store.path} has not finished: scan again with --overwrite"
        )


def files_of(
    array: zarr.Array[Any], selection: Sequence[int | slice] = ()
) -> Iterator[tuple[int, ...]]:
    """The files that hold ``selection`` of an array, by their place in its grid."""
    sizes = array.shards or array.chunks
    chosen = [*selection, *[slice(None)] * (array.ndim - len(selection))]
    ranges = []
    for one, length, size in zip(chosen, array.shape, sizes, strict=True):
        start, stop, _ = (slice(one, one + 1) if isinstance(one, int) else one).indices(length)
        ranges.append(range(start // size, math.ceil(stop / size)))
    yield from product(*ranges)


def present(array: zarr.Array[Any], file: tuple[int, ...]) -> bool:
    """Whether a file of an array is there, and not empty."""
    path = array.store_path / array.metadata.encode_chunk_key(file)
    try:
        return sync(path.store.getsize(path.path)) > 0
    except FileNotFoundError:
        return False


def _decoded_by_compiled_code(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The array, read by zarrs, in a third of the time.

    Not by zarr's configuration: that is the program's, and arrays that are being written need
    zarr's own pipeline, which also writes chunks of nothing but fill values.
    """
    metadata, store = array.metadata, array.store
    pipeline = ZarrsCodecPipeline.from_array_metadata_and_store(metadata, store)
    object.__setattr__(array.async_array, "codec_pipeline", pipeline)
    return array
