"""Contrasts that are saved beside the moments of a finished store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import zarr
from numpy.typing import NDArray

from ..errors import UserError
from ..spec import MEASURES, VARIABLES, Layer
from .layout import consolidate
from .places import zarr_store
from .reading import Store
from .schema import is_free
from .slabs import SlabWriter


class SavedContrast:
    """Where the variables of a saved contrast are written, layer by layer."""

    def __init__(self, store: Store, root: zarr.Group, name: str, each_category: bool) -> None:
        self._store, self._root, self._name = store, root, name
        self._leading = {"category": len(store.categories)} if each_category else {}

    def slab_writer(self, layer: Layer) -> SlabWriter:
        """What writes a layer's variables; as the store is cut, which another version may do."""
        group = self._root.require_group(f"{layer.name}/{self._name}")
        return SlabWriter(group, layer, self._store.chunk_shape(layer), self._name)

    def write(self, writer: SlabWriter, number: int, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write a slab of variables ``[*leading, unit]``, by category or fold or both."""
        for variable, values in columns.items():
            leading = dict(self._leading)
            if variable == "selective_fold":
                leading["fold"] = values.shape[-2]
            long_name = MEASURES.get(variable) or VARIABLES[variable].long_name
            attributes = {"long_name": long_name, "units": "1"}
            writer.write(number, variable, values, leading, attributes)


@contextmanager
def saving(store: Store, name: str, record: Mapping[str, Any]) -> Iterator[SavedContrast]:
    """Give where a contrast's variables are written, as groups ``LAYER/NAME`` of a finished store.

    ``record`` says what it is; it stands among the root's attributes once all are written. What
    an interrupted saving left behind is not listed there, and makes way for the next.

    Raises
    ------
    UserError : the name would hide something else, or the store cannot be written to
    """
    if not is_free(name):
        raise UserError(
            "a contrast's name is made of letters, digits and _, and is no variable of a "
            f"store; got {name!r}"
        )
    saved = {key: value for key, value in store.saved.items() if key != name}
    try:
        place = zarr_store(store.path, read_only=False)
        root = zarr.open_group(place, mode="r+", zarr_format=3, use_consolidated=False)
        root.attrs["saved"] = saved
    except Exception:  # of the file system, or of whatever lies behind a URL
        raise UserError(f"{store.path} cannot be written to: copy it where it can") from None
    for layer in store.layers:
        if f"{layer.name}/{name}" in root:
            del root[f"{layer.name}/{name}"]
    consolidate(root)  # or others would go on reading what is gone, as missing values
    yield SavedContrast(store, root, name, record["each_category"])
    root.attrs["saved"] = {**saved, name: dict(record)}
    consolidate(root)
    store.refresh()
