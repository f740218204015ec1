"""The zarr store: creating it, filling it group by group, opening it. Never imports torch.

One zarr v3 store holds a group per layer with ``mean`` and ``m2 [category, fold, *layer dims]``;
the root holds ``count [category, fold]``, the stimulus table, and the provenance as attributes.
Contrasts that were materialised lie beside the moments. Anyone can read it with
``xarray.open_datatree(path, engine="zarr")``.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from ..kernels.moments import Moments
from .errors import UserError, nearest
from .spec import (
    MEASURES,
    SCHEMA_VERSION,
    SHUFFLED,
    STIMULUS_COLUMNS,
    VARIABLES,
    Layer,
    as_record,
)

if TYPE_CHECKING:
    import xarray

# Units per chunk: 2 MiB of float64. Smaller chunks cost time, compression gains little either way.
_CHUNK_UNITS = 262_144


class Store:
    """A result on disk. Numbers are read when they are asked for, slab by slab.

    ``path`` is the store's folder; ``categories``, ``folds``, ``counts [category, fold]`` and
    ``layers`` describe it, ``provenance`` says how it came about.
    """

    def __init__(self, path: Path, root: zarr.Group) -> None:
        self.path = path
        self._root = root
        self.provenance: dict[str, Any] = dict(root.attrs)
        self.categories: tuple[str, ...] = tuple(self.provenance["categories"])
        self.folds: int = self.provenance["folds"]
        self.layers = tuple(
            Layer(**{**record, "dims": tuple(record["dims"]), "shape": tuple(record["shape"])})
            for record in self.provenance["layers"]
        )
        self._arrays: dict[tuple[str, str], zarr.Array[Any]] = {}

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return (
            f"<fusiform.Store {self.path.name}: {self.provenance['model']} "
            f"({self.provenance['weights']}), {len(self.layers)} layers, {units:,} units, "
            f"{len(self.categories)} categories, {self.folds} folds>"
        )

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of stimuli ``[category, fold]``."""
        return np.asarray(self._root["count"][:])  # type: ignore[index]

    def layer(self, name: str) -> Layer:
        """The layer called ``name``."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = nearest(name, (layer.name for layer in self.layers))
        raise UserError(f"{self.path} has no layer {name!r}: {known}")

    def tree(self) -> xarray.DataTree:
        """The whole store as a lazy ``xarray.DataTree`` of dask arrays, a node per layer."""
        import xarray

        return xarray.open_datatree(self.path, engine="zarr", chunks={})

    def dataset(self, layer: str) -> xarray.Dataset:
        """One layer as a lazy ``xarray.Dataset`` of dask arrays, with named dims and categories."""
        return self.tree()[self.layer(layer).name].to_dataset()

    def has(self, layer: Layer, variable: str) -> bool:
        """Whether ``variable`` was materialised for ``layer``."""
        return f"{layer.name}/{variable}" in self._root

    def array(self, layer: Layer, variable: str) -> zarr.Array[Any]:
        """The zarr array of a layer's variable."""
        key = (layer.name, variable)
        if key not in self._arrays:
            self._arrays[key] = self._root[f"{layer.name}/{variable}"]  # type: ignore[assignment]
        return self._arrays[key]

    def slabs(self, layer: Layer) -> Iterator[tuple[slice, slice]]:
        """Cut a layer along its first dimension where its chunks are cut.

        Yields the slice of that dimension and the slice of flat units that it stands for.
        """
        inner = layer.units // layer.shape[0]
        step = self.array(layer, "mean").chunks[2]
        for start in range(0, layer.shape[0], step):
            stop = min(start + step, layer.shape[0])
            yield slice(start, stop), slice(start * inner, stop * inner)

    def moments(self, layer: Layer, slab: slice) -> list[Moments]:
        """Moments of a slab of a layer, one for every fold.

        ``count [category, 1]``, ``mean, m2 [category, unit]``.
        """

        def categories(variable: str, fold: int) -> NDArray[np.float64]:
            values = np.asarray(self.array(layer, variable)[:, fold, slab])
            return values.reshape(len(values), -1)

        return [
            Moments(
                self.counts[:, fold, np.newaxis],
                categories("mean", fold),
                categories("m2", fold),
            )
            for fold in range(self.folds)
        ]

    def read(self, layer: Layer, variable: str) -> NDArray[Any]:
        """A whole variable ``[*leading, unit]``, units flat."""
        values = np.asarray(self.array(layer, variable)[...])
        return values.reshape(*values.shape[: values.ndim - len(layer.shape)], -1)

    def write_moments(self, layer: Layer, category: int, fold: int, moments: Moments) -> None:
        """Write the finished moments of one category and fold."""
        self.array(layer, "mean")[category, fold] = moments.mean
        self.array(layer, "m2")[category, fold] = moments.m2

    def write(self, layer: Layer, variable: str, values: NDArray[Any]) -> None:
        """Materialise a variable: ``values [*leading, unit]``, put beside the layer's moments."""
        if not self.has(layer, variable):
            self._create_array(layer, variable)
        shape = (*values.shape[:-1], *layer.shape)
        self.array(layer, variable)[...] = values.reshape(shape)

    @contextmanager
    def saving(self, name: str, record: Mapping[str, Any]) -> Iterator[SavedContrast]:
        """Give where a contrast's variables are written, as groups ``LAYER/NAME``.

        ``record`` says what it is; it stands among the root's attributes once all are written. What
        an interrupted saving left behind is not listed there, and makes way for the next.

        Raises
        ------
        UserError : the name would hide something else, or the store cannot be written to
        """
        if not name.isidentifier() or name in VARIABLES or name == SHUFFLED:
            raise UserError(
                "a contrast's name is made of letters, digits and _, and is no variable of a "
                f"store; got {name!r}"
            )
        try:
            root = zarr.open_group(self.path, mode="r+", zarr_format=3, use_consolidated=False)
            saved = {key: value for key, value in self.saved.items() if key != name}
            root.attrs["saved"] = saved
        except OSError:
            raise UserError(f"{self.path} cannot be written to: copy it where it can") from None
        for layer in self.layers:
            if f"{layer.name}/{name}" in root:
                del root[f"{layer.name}/{name}"]
        _consolidate(root)  # or others would go on reading what is gone, as missing values
        yield SavedContrast(root, name, len(self.categories) if record["each_category"] else 0)
        root.attrs["saved"] = {**saved, name: dict(record)}
        _consolidate(root)
        self.provenance.update(root.attrs)
        self._arrays.clear()

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
            values = np.asarray(self.array(layer, f"{SHUFFLED}/{variable}")[:, fold])
            return values.reshape(len(values), -1)

        return [
            Moments(self.counts[:, fold, np.newaxis], flat("mean", fold), flat("m2", fold))
            for fold in range(self.folds)
        ]

    def write_shuffled_moments(
        self, layer: Layer, units: NDArray[np.int64], mean: NDArray[Any], m2: NDArray[Any]
    ) -> None:
        """Write moments under shuffled labels ``[category, fold, shuffle, unit]``.

        ``units`` are those drawn, as places in the flattened layer.
        """
        group = self._root.require_group(f"{layer.name}/{SHUFFLED}")
        dims = ("category", "fold", "shuffle", "drawn_unit")
        _put(group, "drawn_unit", units, ("drawn_unit",))
        for variable, values in (("mean", mean), ("m2", m2)):
            array = group.create_array(
                variable,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(1, 1, *values.shape[2:]),
                shards=values.shape,
                compressors=_compressors(),
                dimension_names=dims,
                attributes={"long_name": f"{VARIABLES[variable].long_name}, labels shuffled"},
            )
            array[...] = values

    def annotate(self, **attributes: Any) -> None:
        """Add to the provenance."""
        self._root.attrs.update(attributes)
        self.provenance.update(attributes)

    def complete(self) -> None:
        """Mark the store as whole, and gather its metadata where one read finds all of it."""
        self.annotate(status="complete")
        _consolidate(self._root)

    def publish(self, path: Path, overwrite: bool = False) -> Store:
        """Complete the store and move it to ``path``, in place of a store that may be there.

        Raises
        ------
        UserError : see :func:`refuse_existing`
        """
        self.complete()
        refuse_existing(path, overwrite)
        if path.exists():
            # There is one store or the other at all times, but for the blink of two renames.
            old = new_folder_beside(path, "old")
            path.replace(old / path.name)
            self.path.replace(path)
            shutil.rmtree(old)
        else:
            self.path.replace(path)
        return open_store(path)

    def _create_array(self, layer: Layer, variable: str) -> None:
        definition = VARIABLES[variable]
        sizes = {"category": len(self.categories), "fold": self.folds}
        _create(
            self._root.require_group(layer.name),
            variable,
            layer,
            {dim: sizes[dim] for dim in definition.leading},
            definition.dtype,
            definition.attributes(),
            # Moments have a file per category and fold, to be written as blocks finish; what is
            # materialised from them at the end has one.
            one_file=variable not in ("mean", "m2"),
        )


class SavedContrast:
    """Where the variables of a saved contrast are written, layer by layer."""

    def __init__(self, root: zarr.Group, name: str, categories: int) -> None:
        self._root, self._name, self._categories = root, name, categories

    def write(self, layer: Layer, variable: str, values: NDArray[Any]) -> None:
        """Write a variable: ``values [*leading, unit]``, by category or fold or both."""
        leading = {"category": self._categories} if self._categories else {}
        if variable == "selective_fold":
            leading["fold"] = values.shape[-2]
        long_name = MEASURES.get(variable) or VARIABLES[variable].long_name
        array = _create(
            self._root.require_group(f"{layer.name}/{self._name}"),
            variable,
            layer,
            leading,
            values.dtype.name,
            {"long_name": long_name, "units": "1"},
            one_file=True,
        )
        array[...] = values.reshape(*leading.values(), *layer.shape)


def _create(
    group: zarr.Group,
    variable: str,
    layer: Layer,
    leading: Mapping[str, int],
    dtype: str,
    attributes: Mapping[str, Any],
    one_file: bool,
) -> zarr.Array[Any]:
    """An array ``[*leading, *layer dims]`` in chunks along the layer's first dimension."""
    length = _chunk_length(layer)
    cut = math.ceil(layer.shape[0] / length)
    sizes, ones = tuple(leading.values()), (1,) * len(leading)
    rest = layer.shape[1:]
    return group.create_array(
        variable,
        shape=(*sizes, *layer.shape),
        dtype=dtype,
        chunks=(*ones, length, *rest),
        shards=(*(sizes if one_file else ones), length * cut, *rest),
        compressors=_compressors(),
        fill_value=np.nan if dtype.startswith("float") else False if dtype == "bool" else 0,
        dimension_names=(*leading, *layer.dims),
        attributes=dict(attributes),
    )


def _compressors() -> list[Any]:
    return [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"), Crc32cCodec()]


def _consolidate(root: zarr.Group) -> None:
    """Gather a store's metadata where one read finds all of it."""
    with warnings.catch_warnings():
        # zarr warns that other readers of format 3 may not know consolidated metadata: they
        # read the store without it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(root.store)


def create_store(
    path: Path,
    *,
    layers: Sequence[Layer],
    categories: Sequence[str],
    counts: NDArray[np.int64],
    stimuli: Mapping[str, Sequence[Any]],
    provenance: Mapping[str, Any],
) -> Store:
    """Create an empty store on disk.

    Parameters
    ----------
    path : a new or empty folder
    counts : number of stimuli ``[category, fold]``
    stimuli : the stimulus table, columns ``stimulus_path``, ``stimulus_category``,
        ``stimulus_fold``, ``stimulus_sha256``, one entry per stimulus
    provenance : attributes of the root, plain JSON values
    """
    root = zarr.create_group(
        path,
        zarr_format=3,
        attributes={
            "schema": "fusiform",
            "schema_version": SCHEMA_VERSION,
            "status": "scanning",
            **provenance,
            "categories": list(categories),
            "folds": int(counts.shape[1]),
            "layers": [as_record(layer) for layer in layers],
        },
    )
    _put(root, "category", np.array(categories, dtype=object), ("category",))
    _put(root, "fold", np.arange(counts.shape[1]), ("fold",))
    _put(root, "count", counts, ("category", "fold"))
    for column in STIMULUS_COLUMNS:
        values = stimuli[column]
        text = isinstance(values[0], str)
        _put(root, column, np.array(values, dtype=object if text else None), ("stimulus",))
    store = Store(path, root)
    for layer in layers:
        for variable in ("mean", "m2"):
            store._create_array(layer, variable)
    return store


def _put(root: zarr.Group, name: str, values: NDArray[Any], dims: tuple[str, ...]) -> None:
    dtype = str if values.dtype == object else values.dtype
    array = root.create_array(name, shape=values.shape, dtype=dtype, dimension_names=dims)
    array[...] = values


@contextmanager
def write_behind() -> Iterator[Callable[..., None]]:
    """Give a function that calls another one in a thread, while the caller makes the next to write.

    One call is under way at a time, and the caller waits for it before it hands over another: what
    is not yet written takes the memory of two. What a call raises, the next one does, or the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
        under_way: Future[None] | None = None

        def later(write: Callable[..., None], *arguments: Any) -> None:
            nonlocal under_way
            if under_way:
                under_way.result()
            under_way = pool.submit(write, *arguments)

        yield later
        if under_way:
            under_way.result()


def new_folder_beside(path: Path, purpose: str) -> Path:
    """Create a folder ``NAME.purpose-...`` of its own next to ``path``, for what is under way.

    With the permissions that the user's folders have: a store that is moved from it keeps them.
    """
    folder = path.with_name(f"{path.name}.{purpose}-{uuid4().hex[:8]}")
    folder.mkdir()
    return folder


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, unless it is a store and may be overwritten.

    Raises
    ------
    UserError : ``path`` exists and ``overwrite`` is off, or it is something else than a store
    """
    if not path.exists():
        if not path.resolve().parent.is_dir():
            raise UserError(f"the output's folder has to exist; {path.parent} does not: create it")
        return
    if not overwrite:
        raise UserError(f"the output must not exist; {path} does: choose another, or --overwrite")
    try:
        open_store(path)
    except UserError:
        raise UserError(
            f"--overwrite replaces fusiform stores only; {path} is none: remove it yourself"
        ) from None


def open_store(path: Path | str) -> Store:
    """Open a result for reading; nothing but metadata is read.

    Raises
    ------
    UserError : ``path`` is no store, or one of another schema version
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no store at {path}: make one with 'fusiform scan ... -o {path}'")
    try:
        root = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
    except Exception:  # zarr raises many kinds for folders that are no groups
        raise UserError(
            f"{path} is not a zarr v3 store: name one that fusiform scan made"
        ) from None
    if root.attrs.get("schema") != "fusiform":
        raise UserError(f"{path} is a zarr store, but not of fusiform: name one from fusiform scan")
    version = root.attrs.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"this fusiform reads stores of schema {SCHEMA_VERSION}; {path} has {version}: "
            "scan again, or install the version that made it"
        )
    return Store(path, root)


def _chunk_length(layer: Layer) -> int:
    """Length of a chunk along the layer's first dimension; even parts, or the last is filled up."""
    longest = max(1, min(layer.shape[0], _CHUNK_UNITS * layer.shape[0] // layer.units))
    return math.ceil(layer.shape[0] / math.ceil(layer.shape[0] / longest))
