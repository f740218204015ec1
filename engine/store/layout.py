"""How arrays lie in a store: chunks, shards, codecs. By measurement: benchmarks/results/layout.md.

An array is cut along its layer's first dimension. Chunks hold some hundred thousand units, so that
a chunk is worth its overhead; a file holds all chunks of an array, but for moments, which have one
per category and fold, to be written as blocks finish.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from ..spec import COORDINATES, EXTREMES, STIMULUS_COLUMNS, Layer

# Units per chunk. Smaller chunks cost time; larger ones gain little, and take memory to read.
_CHUNK_UNITS = 262_144
# A chunk that is not there is damage, also where all its values are those that missing ones have.
_CONFIG: Any = {"write_empty_chunks": True}


def create_array(
    group: zarr.Group,
    variable: str,
    layer: Layer,
    leading: Mapping[str, int],
    dtype: str,
    attributes: Mapping[str, Any],
    *,
    length: int,
    one_file: bool,
) -> zarr.Array[Any]:
    """An array ``[*leading, *layer dims]`` in chunks of ``length`` along its first layer dim."""
    cut = math.ceil(layer.shape[0] / length)
    sizes, ones = tuple(leading.values()), (1,) * len(leading)
    rest = layer.shape[1:]
    return group.create_array(
        variable,
        shape=(*sizes, *layer.shape),
        dtype=dtype,
        chunks=(*ones, length, *rest),
        shards=(*(sizes if one_file else ones), length * cut, *rest),
        # What queries compare is read a quarter faster uncompressed, and shrinks by an eighth only.
        compressors=_codecs(compress=dtype == "bool" or not one_file),
        fill_value=np.nan if dtype.startswith("float") else False if dtype == "bool" else 0,
        dimension_names=(*leading, *layer.dims),
        attributes=dict(attributes),
        config=_CONFIG,
        overwrite=True,
    )


def written_whole(array: Any) -> zarr.Array[Any]:
    """An array that was opened again, and writes its chunks of nothing but NaN or False as well."""
    return cast(zarr.Array[Any], array.with_config(_CONFIG))


def create_coordinates(group: zarr.Group, layer: Layer) -> None:
    """Number the places along every dimension of a layer."""
    for dim, size in zip(layer.dims, layer.shape, strict=True):
        long_name = COORDINATES.get(dim, f"place along {dim}")  # axis_0, ... of odd outputs
        put(group, dim, np.arange(size, dtype=np.int32), (dim,), long_name)


def put(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: tuple[str, ...],
    long_name: str,
    **attributes: Any,
) -> None:
    """A small array in one chunk; text where ``values`` are objects."""
    dtype = str if values.dtype == object else values.dtype
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=dtype,
        chunks=tuple(max(size, 1) for size in values.shape),
        # Texts, too: what zarr compresses them with expands without bound in a stranger's store.
        compressors=[Crc32cCodec()],
        dimension_names=dims,
        attributes={"long_name": long_name, **attributes},
        config=_CONFIG,
        overwrite=True,
    )
    array[...] = values


def put_count(root: zarr.Group, counts: NDArray[np.int64]) -> None:
    """The number of stimuli ``[category, fold]``."""
    put(root, "count", counts, ("category", "fold"), "number of stimuli")


def put_column(root: zarr.Group, column: str, values: Sequence[Any] | NDArray[Any]) -> None:
    """A column ``[stimulus]`` of the stimulus table."""
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    put(root, column, array, ("stimulus",), STIMULUS_COLUMNS[column])


def put_moments(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> None:
    """Moments ``[category, fold, ...]`` of some units, a chunk per category and fold."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1, 1, *values.shape[2:]),
        shards=values.shape,
        compressors=_codecs(compress=True),
        dimension_names=dims,
        attributes=dict(attributes),
        config=_CONFIG,
        overwrite=True,
    )
    array[...] = values


def put_variable(
    group: zarr.Group,
    variable: str,
    layer: Layer,
    length: int,
    leading: Mapping[str, int],
    values: NDArray[Any],
    attributes: Mapping[str, Any],
) -> None:
    """A variable ``[*leading, unit]`` of a layer, in one file."""
    array = create_array(
        group, variable, layer, leading, values.dtype.name, attributes, length=length, one_file=True
    )
    array[...] = values.reshape(*leading.values(), *layer.shape)


def put_extremes(
    group: zarr.Group,
    layer: Layer,
    length: int,
    columns: Mapping[str, NDArray[Any]],
    saved: str = "",
) -> None:
    """The smallest and largest value of every chunk, of the variables that can be compared."""
    floats = {name: values for name, values in columns.items() if values.dtype.kind == "f"}
    if not floats:
        return
    cuts = np.arange(0, layer.shape[0], length) * (layer.units // layer.shape[0])
    found = [
        [bound.reduceat(values, cuts, axis=-1) for bound in (np.fmin, np.fmax)]  # NaN aside
        for values in floats.values()
    ]
    leading = ("category",) if found[0][0].ndim == 2 else ()
    put(
        group,
        EXTREMES,
        np.array(found, np.float32),
        # Groups inside each other have one length for a dimension of one name.
        (f"{saved}_variable" if saved else "variable", "bound", *leading, "chunk"),
        "smallest and largest value in every chunk of a variable",
        variables=list(floats),
    )


def chunk_length(layer: Layer) -> int:
    """Length of a chunk along the layer's first dimension; even parts, or the last is filled up."""
    longest = max(1, min(layer.shape[0], _CHUNK_UNITS * layer.shape[0] // layer.units))
    return math.ceil(layer.shape[0] / math.ceil(layer.shape[0] / longest))


def consolidate(root: zarr.Group) -> None:
    """Gather a store's metadata where one read finds all of it."""
    with warnings.catch_warnings():
        # zarr warns that other readers of format 3 may not know consolidated metadata: they
        # read the store without it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(root.store)


def _codecs(compress: bool) -> list[Any]:
    compressors = [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")] if compress else []
    return [*compressors, Crc32cCodec()]
