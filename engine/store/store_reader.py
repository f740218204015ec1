"""Reading a store, part by part. Never imports torch.

A store is a zarr v3 group with a group per layer, which holds ``mean`` and ``m2 [category, fold,
*layer dims]`` and, beside them, contrasts. The root holds ``count [category, fold]``, the stimulus
table, and the provenance as attributes. Other programs read it with ``xarray.open_datatree(path,
engine="zarr")``. The schema: ``docs/reference/store.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, folds_of
from ..layer import Layer
from ..registry import EXTREMES, PLACED, SHUFFLED
from .attributes import store_schema
from .chunking import Shape, Slab, n_slabs, slabs
from .location import name_of
from .reader import Reader
from .schema import STORE, StoreSchema

if TYPE_CHECKING:
    import xarray

Extremes = dict[str, tuple[NDArray[Any], NDArray[Any]]]
# Layers of more values or chunks are checked against their files before memory is allocated.
_LARGE_LAYER, _MANY_CHUNKS = 2**26, 2**10


class StoreReader(Reader):
    """Reads the result of a scan on demand, slab by slab.

    Attributes
    ----------
    path : folder or URL
    provenance : attributes of the root
    categories, folds, layers, counts : of the scan; counts are ``[category, fold]``
    """

    kind = STORE
    schema: StoreSchema
    _schema_of = staticmethod(store_schema)

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return (
            f"<fusiform.{type(self).__name__} {name_of(self.path)}: {self.provenance['model']} "
            f"({self.provenance['weights']}), {len(self.layers)} layers, {units:,} units, "
            f"{len(self.categories)} categories, {self.folds} folds>"
        )

    def _stored_key(self, key: str) -> str:
        layer, _, rest = key.partition("/")
        name, within, variable = rest.partition("/")
        if within and name in self.schema.saved:
            return f"{layer}/{self.schema.group_of(name)}/{variable}"
        return key

    def _renamed(self, tree: xarray.DataTree) -> xarray.DataTree:
        moved = {
            f"/{layer.name}/{self.schema.group_of(name)}": f"/{layer.name}/{name}"
            for name in self.saved
            if self.schema.group_of(name) != name
            for layer in self.layers
        }
        if not moved:
            return tree
        nodes = {moved.get(path, path): node for path, node in tree.to_dict().items()}
        return type(tree).from_dict(nodes, name=tree.name)

    @property
    def units(self) -> str:
        """The units of the scan, as in :class:`fusiform.Design`."""
        return str(self.provenance.get("units", "all"))

    @property
    def coordinates(self) -> dict[str, tuple[str, ...]]:
        """Layer -> names of the coordinates of its units."""
        return dict(self.schema.coordinates)

    def coordinate(self, layer: Layer, name: str) -> NDArray[np.float64]:
        """A coordinate of the units of a layer, in its shape."""
        return self._part(f"{layer.name}/{PLACED}/{name}")

    def dataset(self, layer: str) -> xarray.Dataset:
        """One layer as a lazy ``xarray.Dataset`` of dask arrays, with named dims and categories.

        Parameters
        ----------
        layer : str
            Name of a layer.

        Returns
        -------
        xarray.Dataset
            Variables are the moments ``mean`` and ``m2 [category, fold, *layer dims]``; ``t``,
            ``t_each``, ``q_each``, ``csi`` and ``selective [category, *layer dims]``;
            ``selective_fold``; ``dead`` and ``nonfinite [*layer dims]``. Coordinates of units are
            coordinates of it. :meth:`tree` holds saved contrasts and the null as well.

        Raises
        ------
        UserError
            The layer is unknown, or the store is damaged.

        Examples
        --------
        >>> store = fusiform.open_store("r18.zarr")
        >>> layer = store.dataset("layer4.1")
        >>> dict(layer["t"].sel(category="faces").sizes)
        {'channel': 512, 'y': 2, 'x': 2}
        """
        node = self.tree()[self.layer(layer).name]
        names = self.coordinates.get(layer, ())
        return node.to_dataset().assign_coords({one: node[PLACED][one] for one in names})

    def chunk_shape(self, layer: Layer) -> Shape:
        """Shape of a slab of a layer, which is a chunk of all its variables.

        Raises
        ------
        UserError : no scan divides a layer so
        """
        key = f"{layer.name}/mean"
        grid = self._opened(key).grid
        chunk = grid.chunk[2:]
        values = layer.units * len(self.categories)
        # Memory of the declared size will be allocated: check that a file of this size exists.
        if values > _LARGE_LAYER or n_slabs(layer.shape, chunk) > _MANY_CHUNKS:
            with self._refusing(key):
                self.arrays.require_file(key, (0,) * len(grid.shape))
        return chunk

    def slabs(self, layer: Layer) -> Iterator[tuple[Slab, slice]]:
        """The slabs of a layer, each with its slice of the flattened layer."""
        yield from slabs(layer.shape, self.chunk_shape(layer))

    def moments(self, layer: Layer, slab: Slab) -> list[Moments]:
        """Moments of a slab, a value per fold.

        ``count [category, 1]``, ``mean, m2 [category, unit]``.
        """
        return folds_of(self.stacked_moments(layer, slab))

    def stacked_moments(self, layer: Layer, slab: Slab) -> Moments:
        """Moments of a slab on all folds.

        ``count [fold, category, 1]``, ``mean, m2 [fold, category, unit]``.
        """

        def stacked(variable: str) -> NDArray[np.float64]:
            sizes = [part.stop - part.start for part in slab] or layer.shape
            shape = (self.folds, len(self.categories), *sizes)
            values = np.empty(shape, self.schema.store_dtype)
            every = slice(None), slice(None), *slab
            self._part(f"{layer.name}/{variable}", every, values.swapaxes(0, 1))
            return values.reshape(*shape[:2], -1).astype(np.float64, copy=False)

        return Moments(self.counts.T[..., np.newaxis], stacked("mean"), stacked("m2"))

    def moments_between(
        self, layer: Layer, categories: slice, folds: slice
    ) -> Iterator[tuple[tuple[int, int], Moments]]:
        """Moments of consecutive groups, read together: category and fold, and the moments."""
        region = categories, folds
        mean, m2 = (self._part(f"{layer.name}/{name}", region) for name in ("mean", "m2"))
        for k, fold in np.ndindex(mean.shape[:2]):
            group = categories.start + k, folds.start + fold
            values = (part[k, fold].astype(np.float64, copy=False) for part in (mean, m2))
            yield group, Moments(int(self.counts[group]), *values)

    def read(self, layer: Layer, variable: str) -> NDArray[Any]:
        """A whole variable ``[*leading, unit]``."""
        values = self._part(f"{layer.name}/{variable}")
        return values.reshape(*values.shape[: values.ndim - len(layer.shape)], -1)

    def read_slab(
        self, layer: Layer, variable: str, slab: Slab, category: int | None = None
    ) -> NDArray[Any]:
        """A slab of a variable ``[*leading, unit]``, or its part for one ``category``."""
        key = f"{layer.name}/{variable}"
        leading = len(self._opened(key).grid.shape) - len(layer.shape)
        if category is not None and leading == 1:
            return self._part(key, (category, *slab)).reshape(-1)
        values = self._part(key, (*[slice(None)] * leading, *slab))
        return values.reshape(*values.shape[:leading], -1)

    def extremes(self, layer: Layer, saved: str = "") -> Extremes:
        """Smallest and largest value of every chunk: variable -> two arrays ``[category, chunk]``.

        NaN for a chunk of NaN.

        Parameters
        ----------
        saved : name of a saved contrast, instead of the scan's variables; arrays are ``[chunk]`` if
            it holds a single contrast
        """
        key = f"{layer.name}/{saved}/{EXTREMES}" if saved else f"{layer.name}/{EXTREMES}"
        names = self.schema.compared(saved)
        if not names:
            return {}
        values = self._part(key)
        named: Any = self._opened(key).attributes.get("variables")
        chunks = n_slabs(layer.shape, self.chunk_shape(layer))
        if named is None or sorted(named) != sorted(names) or values.shape[-1] != chunks:
            raise self._unreadable(key, "it does not match the chunks and variables of its layer")
        return {str(name): (low, high) for name, (low, high) in zip(named, values, strict=True)}

    @property
    def saved(self) -> dict[str, Any]:
        """Saved contrasts: name -> its contrasts as written, criterion and measures."""
        return dict(self.schema.saved)

    @property
    def shuffles(self) -> int:
        """Number of label shuffles of the permutation null; 0 without one."""
        return self.schema.shuffles

    def shuffled_moments(self, layer: Layer) -> list[Moments]:
        """Moments of the drawn units under shuffled labels, for every fold.

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
        """Indices of the drawn units, and ``mean, m2 [category, fold, shuffle, unit]``."""
        drawn, mean, m2 = (
            self._part(f"{layer.name}/{SHUFFLED}/{name}") for name in ("drawn_unit", "mean", "m2")
        )
        return drawn, mean, m2
