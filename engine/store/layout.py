"""How arrays lie in a store: chunks, shards, codecs. By measurement: benchmarks/results/layout.md.

Chunks are slabs of the layer (:mod:`.cuts`), of one category and fold. A file holds all chunks of
an array, or as many as are written at a time; those of moments hold one category and fold, to be
written as blocks finish.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, Crc32cCodec

from ..layer import COORDINATES, Layer
from ..variables import SHUFFLED, STIMULUS_COLUMNS
from .cuts import Shape
from .metadata import ARRAY_BYTES, read_json
from .schema import RootSchema

# A chunk that is not there is damage, also where all its values are those that missing ones have.
# The metadata of a group that says nothing of itself.
_GROUP = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
WRITE_ALL: Any = {"write_empty_chunks": True}


def create_array(
    group: zarr.Group,
    variable: str,
    layer: Layer,
    leading: Mapping[str, int],
    dtype: str,
    attributes: Mapping[str, Any],
    *,
    chunk: Shape,
    file: Shape,
    one_file: bool,
) -> zarr.Array[Any]:
    """An array ``[*leading, *layer dims]``; ``chunk`` and ``file`` are shapes of layer dims.

    With ``one_file`` a file holds all of ``leading``, else one of each.
    """
    sizes, ones = tuple(leading.values()), (1,) * len(leading)
    return group.create_array(
        variable,
        shape=(*sizes, *layer.shape),
        dtype=dtype,
        chunks=(*ones, *chunk),
        shards=(*(sizes if one_file else ones), *file),
        # What queries compare is read a quarter faster uncompressed, and shrinks by an eighth only.
        compressors=_codecs(compress=dtype == "bool" or not one_file),
        fill_value=np.nan if dtype.startswith("float") else False if dtype == "bool" else 0,
        dimension_names=(*leading, *layer.dims),
        attributes=dict(attributes),
        config=WRITE_ALL,
        overwrite=True,
    )


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
        config=WRITE_ALL,
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
        config=WRITE_ALL,
        overwrite=True,
    )
    array[...] = values


def consolidate(root: zarr.Group) -> None:
    """Gather a store's metadata where one read finds all of it."""
    with warnings.catch_warnings():
        # zarr warns that other readers of format 3 may not know consolidated metadata: they
        # read the store without it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(root.store)


def gathered_anew(
    store: ZarrStore,
    attributes: Mapping[str, Any],
    schema: RootSchema,
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """A root's metadata with those of all arrays that it names, for one write to replace it.

    Those that are ``known`` are not read again, but for the groups inside layers.
    """
    keys = [*schema.of_root(), *(key for layer in schema.layers for key in schema.of_layer(layer))]
    found: dict[str, Any] = {}
    for key in keys:
        folders = key.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            found.setdefault("/".join(folders[:depth]), _GROUP)
        saved = len(folders) > 1 and folders[1] != SHUFFLED
        own = None if saved else known.get(key)
        found[key] = own or read_json(store, f"{key}/zarr.json", ARRAY_BYTES)
    gathered = {"kind": "inline", "must_understand": False, "metadata": found}
    return {**_GROUP, "attributes": dict(attributes), "consolidated_metadata": gathered}


def _codecs(compress: bool) -> list[Any]:
    compressors = [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")] if compress else []
    return [*compressors, Crc32cCodec()]
