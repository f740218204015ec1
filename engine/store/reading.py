"""A finished store: what it holds, read part by part when it is asked for. Never imports torch.

One zarr v3 store holds a group per layer with ``mean`` and ``m2 [category, fold, *layer dims]``;
the root holds ``count [category, fold]``, the stimulus table, and the provenance as attributes.
Contrasts that were materialised lie beside the moments. Anyone can read it with
``xarray.open_datatree(path, engine="zarr")``. The schema: ``docs/store.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.group import AsyncGroup, GroupMetadata
from zarr.storage import StorePath

from ...kernels.moments import Moments
from ..errors import UserError, nearest
from ..spec import EXTREMES, SCHEMA_VERSION, SHOWN, SHUFFLED, Layer
from .arrays import Arrays, Gathered
from .arrays import files_of as files_of
from .arrays import present as present
from .cuts import Shape, Slab, number_of_slabs, slabs
from .metadata import GROUP_KEYS, ROOT_BYTES, Misfit, Opened, gathered_in, read_json, refusing
from .places import Place, PlainFiles, exists, name_of, place_of, unfinished_place, zarr_store
from .schema import schema_of

if TYPE_CHECKING:
    import xarray

Extremes = dict[str, tuple[NDArray[Any], NDArray[Any]]]
# Columns of the stimulus table that point at something.
_INDICES = ("stimulus_category", "stimulus_fold")
# Values of a layer and its chunks from which on it is looked at whether files hold as many.
_LARGE_LAYER, _MANY_CHUNKS = 2**26, 2**10


class Store:
    """A result of a scan. Numbers are read when they are asked for, slab by slab.

    ``path`` is the store's folder or URL; ``categories``, ``folds``, ``counts [category, fold]``
    and ``layers`` describe it, ``provenance`` says how it came about.
    """

    def __init__(self, path: Place, root: zarr.Group, gathered: Gathered | None = None) -> None:
        self.path = path
        self._root = root
        self._describe(gathered)

    def _describe(self, gathered: Gathered | None) -> None:
        """Take over what the root says; where it has gathered no metadata, arrays have their own.

        Raises
        ------
        UserError : it is not what a scan writes
        """
        self.provenance: dict[str, Any] = dict(self._root.attrs)
        self.schema = schema_of(self.provenance)
        self.categories = self.schema.categories
        self.folds = self.schema.folds
        self.layers = self.schema.layers
        self.arrays = Arrays(self.path, self._root.store, self.schema, gathered)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a result for reading; nothing but metadata is read.

        Parameters
        ----------
        path : a folder, or the URL of an object store or web server

        Raises
        ------
        UserError : ``path`` is no store, one of another schema version, or one that no scan made
        """
        place = place_of(path)
        root, gathered = open_root(place)
        try:
            return cls(place, root, gathered)
        except UserError as error:
            raise UserError(
                f"{place} is damaged: what its root says of itself is not whole ({error})"
            ) from None

    def refresh(self) -> None:
        """Read again what the store says of itself, after something was added to it."""
        self._root, gathered = open_root(self.path)
        self._describe(gathered)

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return (
            f"<fusiform.{type(self).__name__} {name_of(self.path)}: {self.provenance['model']} "
            f"({self.provenance['weights']}), {len(self.layers)} layers, {units:,} units, "
            f"{len(self.categories)} categories, {self.folds} folds>"
        )

    @property
    def units(self) -> str:
        """What the scan took as units, one of :data:`.spec.UNITS`."""
        return str(self.provenance.get("units", "all"))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of stimuli ``[category, fold]``."""
        counts = np.asarray(self._part("count"))
        known = (counts >= 0) & (counts <= self.schema.stimuli)
        if not known.all() or counts.sum() > self.schema.stimuli:
            raise self._unreadable("count", "these are no numbers of stimuli")
        return counts

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
        values = self._part(column)
        if column in _INDICES and len(values):
            known = len(self.categories) if column == "stimulus_category" else self.folds
            if values.min() < -1 or values.max() >= known:
                raise self._unreadable(column, "it names one that is none")
        return values

    @cached_property
    def skipped(self) -> dict[str, int]:
        """How many stimuli of a category could not be shown, by its name; those with none aside."""
        gone = self.stimuli("stimulus_category")[self.stimuli("stimulus_status") != SHOWN]
        numbers = np.bincount(gone, minlength=len(self.categories)).tolist()
        return {name: n for name, n in zip(self.categories, numbers, strict=True) if n}

    def tree(self) -> xarray.DataTree:
        """The whole store as a lazy ``xarray.DataTree`` of dask arrays, a node per layer."""
        import xarray

        local = isinstance(self.path, Path)
        place: Any = PlainFiles(self.path, read_only=True) if local else zarr_store(self.path)
        with self._refusing("all"):
            self.arrays.require_sound()
            return xarray.open_datatree(place, engine="zarr", chunks={})

    def dataset(self, layer: str) -> xarray.Dataset:
        """One layer as a lazy ``xarray.Dataset`` of dask arrays, with named dims and categories."""
        return self.tree()[self.layer(layer).name].to_dataset()

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

    def _part(self, key: str, selection: tuple[int | slice, ...] = ()) -> NDArray[Any]:
        """Part of an array; whatever else than its numbers comes is damage.

        Raises
        ------
        UserError : it is missing, is not what the schema says, or not what was written
        """
        with self._refusing(key):
            return self.arrays.part(key, selection)

    def _opened(self, key: str) -> Opened:
        with self._refusing(key):
            return self.arrays.opened(key)

    def _refusing(self, key: str) -> AbstractContextManager[None]:
        return refusing(lambda said: self._unreadable(key, said))

    def _unreadable(self, key: str, said: str) -> UserError:
        return UserError(
            f"cannot read {key} of {self.path} ({said}): it is damaged, or out of reach; "
            f"'fusiform check {self.path}' says more"
        )


def open_root(place: Place) -> tuple[zarr.Group, Gathered | None]:
    """The root of a store of this schema, and the metadata that it has gathered, if it has.

    Raises
    ------
    UserError : there is none
    """
    if not exists(place):
        if isinstance(place, Path) and (unfinished := unfinished_place(place)).exists():
            raise UserError(
                f"no store at {place} yet, but an unfinished scan in {unfinished}: the same "
                "command goes on with it"
            )
        raise UserError(f"no store at {place}: make one with 'fusiform scan ... -o {place}'")

    def none_of_ours(said: str) -> UserError:
        return UserError(
            f"{place} is not a zarr v3 store ({said}): name one that fusiform scan made"
        )

    store = zarr_store(place)
    with refusing(none_of_ours):
        try:
            document = read_json(store, "zarr.json", ROOT_BYTES)
        except FileNotFoundError:
            raise Misfit("it has no zarr.json") from None
        attributes = document.get("attributes", {})
        if (document.get("zarr_format"), document.get("node_type")) != (3, "group"):
            raise Misfit("its zarr.json is not that of a group")
        if not isinstance(attributes, dict) or not document.keys() <= GROUP_KEYS:
            raise Misfit("its zarr.json has fields that no scan writes")
        gathered = gathered_in(document)
    root = zarr.Group(AsyncGroup(GroupMetadata(attributes, 3), StorePath(store)))
    refuse_schema(place, root)
    return root, gathered


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
            f"the scan that fills {store.path} has not finished: its command goes on with it"
        )
