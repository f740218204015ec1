"""A finished store: what it holds, read part by part when it is asked for. Never imports torch.

One zarr v3 store holds a group per layer with ``mean`` and ``m2 [category, fold, *layer dims]``;
the root holds ``count [category, fold]``, the stimulus table, and the provenance as attributes.
Contrasts that were materialised lie beside the moments. Anyone can read it with
``xarray.open_datatree(path, engine="zarr")``. The schema: ``docs/store.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..layer import Layer
from ..variables import EXTREMES, SHUFFLED
from .arrays import files_of as files_of
from .arrays import present as present
from .cuts import Shape, Slab, number_of_slabs, slabs
from .kinds import STORE
from .places import name_of
from .root import Root
from .root import open_root as open_root
from .root import require_complete as require_complete
from .schema import Schema, schema_of

if TYPE_CHECKING:
    import xarray

Extremes = dict[str, tuple[NDArray[Any], NDArray[Any]]]
# Values of a layer and its chunks from which on it is looked at whether files hold as many.
_LARGE_LAYER, _MANY_CHUNKS = 2**26, 2**10


class Store(Root):
    """A result of a scan. Numbers are read when they are asked for, slab by slab.

    ``path`` is the store's folder or URL; ``categories``, ``folds``, ``counts [category, fold]``
    and ``layers`` describe it, ``provenance`` says how it came about.
    """

    kind = STORE
    schema: Schema
    _schema_of = staticmethod(schema_of)

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return (
            f"<fusiform.{type(self).__name__} {name_of(self.path)}: {self.provenance['model']} "
            f"({self.provenance['weights']}), {len(self.layers)} layers, {units:,} units, "
            f"{len(self.categories)} categories, {self.folds} folds>"
        )

    def _placed(self, key: str) -> str:
        layer, _, rest = key.partition("/")
        name, within, variable = rest.partition("/")
        if within and name in self.schema.saved:
            return f"{layer}/{self.schema.group_of(name)}/{variable}"
        return key

    def _as_asked(self, tree: xarray.DataTree) -> xarray.DataTree:
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
        """What the scan took as units, one of :data:`..layer.UNITS`."""
        return str(self.provenance.get("units", "all"))

    def chunk_shape(self, layer: Layer) -> Shape:
        """The shape of a slab of a layer, which is a chunk of all its variables.

        Raises
        ------
        UserError : the layer is cut as no scan does
        """
        key = f"{layer.name}/mean"
        cut = self._opened(key).cut
        chunk = cut.chunk[2:]
        values = layer.units * len(self.categories)
        # What is declared is made room for before it is read.
        if values > _LARGE_LAYER or number_of_slabs(layer.shape, chunk) > _MANY_CHUNKS:
            with self._refusing(key):
                self.arrays.require_file(key, (0,) * len(cut.shape))
        return chunk

    def slabs(self, layer: Layer) -> Iterator[tuple[Slab, slice]]:
        """Cut a layer where its chunks are cut.

        Yields the slices of its dimensions and the slice of flat units that they stand for.
        """
        yield from slabs(layer.shape, self.chunk_shape(layer))

    def moments(self, layer: Layer, slab: Slab) -> list[Moments]:
        """Moments of a slab of a layer, one for every fold.

        ``count [category, 1]``, ``mean, m2 [category, unit]``.
        """

        def categories(variable: str, fold: int) -> NDArray[np.float64]:
            values = self._part(f"{layer.name}/{variable}", (slice(None), fold, *slab))
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
        self, layer: Layer, variable: str, slab: Slab, category: int | None = None
    ) -> NDArray[Any]:
        """A slab of a variable ``[*leading, unit]``, units flat; or that of one category."""
        key = f"{layer.name}/{variable}"
        leading = self._opened(key).array.ndim - len(layer.shape)
        if category is not None and leading == 1:
            return self._part(key, (category, *slab)).reshape(-1)
        values = self._part(key, (*[slice(None)] * leading, *slab))
        return values.reshape(*values.shape[:leading], -1)

    def extremes(self, layer: Layer, saved: str = "") -> Extremes:
        """Smallest and largest value of every chunk: variable -> two of ``[category, chunk]``.

        Of the variables that are ``saved`` under a name, or of those that the scan left; those of a
        single contrast are ``[chunk]``. NaN where a chunk has nothing else.
        """
        key = f"{layer.name}/{saved}/{EXTREMES}" if saved else f"{layer.name}/{EXTREMES}"
        names = self.schema.compared(saved)
        if not names:
            return {}
        values = self._part(key)
        named: Any = self._opened(key).array.attrs.get("variables")
        chunks = number_of_slabs(layer.shape, self.chunk_shape(layer))
        if named is None or sorted(named) != sorted(names) or values.shape[-1] != chunks:
            raise self._unreadable(key, "it is not of the chunks and variables of its layer")
        return {str(name): (low, high) for name, (low, high) in zip(named, values, strict=True)}

    @property
    def saved(self) -> dict[str, Any]:
        """What contrasts were saved: name -> how they were written, and their criterion."""
        return dict(self.schema.saved)

    @property
    def shuffles(self) -> int:
        """How many times labels were shuffled for the permutation null; 0 without one."""
        return self.schema.shuffles

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
