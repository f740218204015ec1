"""A store that is being filled: created, written block by block, published when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..errors import UserError
from ..spec import (
    COORDINATES,
    EXTREMES,
    MEASURES,
    MOMENTS,
    SCHEMA_VERSION,
    SHUFFLED,
    STIMULUS_COLUMNS,
    VARIABLES,
    Layer,
    as_record,
)
from .identity import fingerprint
from .layout import (
    chunk_length,
    consolidate,
    create_array,
    create_coordinates,
    put,
    put_moments,
)
from .places import Place, exists, place_of, remove, zarr_store
from .reading import Store

# What numbers can depend on.
_PACKAGES = (
    *("fusiform", "torch", "torchvision", "open_clip_torch", "timm"),
    *("numpy", "numba", "scipy", "zarr", "pillow"),
)


class Draft(Store):
    """A store that is being filled.

    Beside its final place where that is a folder, so that there is a whole store or none; behind a
    URL in its place, where it says of itself that it is not complete.
    """

    def __init__(self, path: Place, root: zarr.Group) -> None:
        super().__init__(path, root)
        # Moments are written block by block: opening an array each time would take longer.
        self._open: dict[str, Any] = {}

    def write_moments(self, layer: Layer, category: int, fold: int, moments: Moments) -> None:
        """Write the finished moments of one category and fold, ``mean, m2 [*layer dims]``."""
        for variable, values in (("mean", moments.mean), ("m2", moments.m2)):
            key = f"{layer.name}/{variable}"
            if key not in self._open:
                self._open[key] = self._root[key]
            self._open[key][category, fold] = values

    def write_contrasts(self, layer: Layer, columns: Mapping[str, NDArray[Any]]) -> None:
        """Materialise variables ``[*leading, unit]``, put beside the layer's moments."""
        group, length = self._root[layer.name], self.chunk_length(layer)
        assert isinstance(group, zarr.Group)
        for variable, values in columns.items():
            definition = VARIABLES[variable]
            leading = dict(zip(definition.leading, values.shape, strict=False))
            attributes = definition.attributes()
            own = values.astype(definition.dtype)
            _write(group, variable, layer, length, leading, own, attributes)
        _write_extremes(group, layer, length, columns)

    def write_shuffled_moments(
        self, layer: Layer, units: NDArray[np.int64], mean: NDArray[Any], m2: NDArray[Any]
    ) -> None:
        """Write moments under shuffled labels ``[category, fold, shuffle, unit]``.

        ``units`` are those drawn, as places in the flattened layer.
        """
        group = self._root.require_group(f"{layer.name}/{SHUFFLED}")
        put(group, "drawn_unit", units, ("drawn_unit",), "place of the unit in the flat layer")
        for variable, values in (("mean", mean), ("m2", m2)):
            attributes = VARIABLES[variable].attributes()
            attributes["long_name"] += ", labels shuffled"
            dims = ("category", "fold", "shuffle", "drawn_unit")
            put_moments(group, variable, values, dims, attributes)

    def annotate(self, **attributes: Any) -> None:
        """Add to the provenance."""
        self._root.attrs.update(attributes)
        self.provenance.update(attributes)

    def complete(self) -> None:
        """Mark the store as whole, and gather its metadata where one read finds all of it."""
        self.annotate(status="complete")
        consolidate(self._root)


class SavedContrast:
    """Where the variables of a saved contrast are written, layer by layer."""

    def __init__(self, store: Store, root: zarr.Group, name: str, each_category: bool) -> None:
        self._store, self._root, self._name = store, root, name
        self._leading = {"category": len(store.categories)} if each_category else {}

    def write(self, layer: Layer, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write variables ``[*leading, unit]``, by category or fold or both."""
        group = self._root.require_group(f"{layer.name}/{self._name}")
        # As the store is cut, which another version may have made.
        length = self._store.chunk_length(layer)
        for variable, values in columns.items():
            leading = dict(self._leading)
            if variable == "selective_fold":
                leading["fold"] = values.shape[-2]
            long_name = MEASURES.get(variable) or VARIABLES[variable].long_name
            attributes = {"long_name": long_name, "units": "1"}
            _write(group, variable, layer, length, leading, values, attributes)
        _write_extremes(group, layer, length, columns, self._name)


@contextmanager
def saving(store: Store, name: str, record: Mapping[str, Any]) -> Iterator[SavedContrast]:
    """Give where a contrast's variables are written, as groups ``LAYER/NAME`` of a finished store.

    ``record`` says what it is; it stands among the root's attributes once all are written. What
    an interrupted saving left behind is not listed there, and makes way for the next.

    Raises
    ------
    UserError : the name would hide something else, or the store cannot be written to
    """
    taken = {*VARIABLES, *COORDINATES, SHUFFLED, EXTREMES}
    if not name.isidentifier() or name in taken or name.startswith("axis_"):
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


def create_store(
    output: Path | str,
    *,
    layers: Sequence[Layer],
    categories: Sequence[str],
    counts: NDArray[np.int64],
    stimuli: Mapping[str, Sequence[Any]],
    provenance: Mapping[str, Any],
) -> Draft:
    """Create an empty store.

    Parameters
    ----------
    output : a new or empty folder, or a URL
    counts : number of stimuli ``[category, fold]``
    stimuli : the stimulus table, a column ``[stimulus]`` for each of ``spec.STIMULUS_COLUMNS``
    provenance : attributes of the root, plain JSON values
    """
    place = place_of(output)
    attributes: dict[str, Any] = {
        "schema": "fusiform",
        "schema_version": SCHEMA_VERSION,
        "status": "scanning",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES},
        "store_dtype": "float64",
        **provenance,
        "categories": list(categories),
        "folds": int(counts.shape[1]),
        "layers": [as_record(layer) for layer in layers],
        "n_stimuli": len(stimuli["stimulus_path"]),
    }
    attributes["fingerprint"] = fingerprint(attributes, stimuli)
    root = zarr.create_group(
        zarr_store(place, read_only=False), zarr_format=3, attributes=attributes
    )
    put(root, "category", np.array(categories, dtype=object), ("category",), "stimulus category")
    put(root, "fold", np.arange(counts.shape[1]), ("fold",), "part of the stimuli")
    put(root, "count", counts, ("category", "fold"), "number of stimuli")
    for column, long_name in STIMULUS_COLUMNS.items():
        values = stimuli[column]
        text = isinstance(values[0], str)
        array = np.array(values, dtype=object if text else None)
        put(root, column, array, ("stimulus",), long_name)
    store = Draft(place, root)
    leading = {"category": len(categories), "fold": store.folds}
    for layer in layers:
        group = root.require_group(layer.name)
        create_coordinates(group, layer)
        for variable in MOMENTS:
            attributes, dtype = VARIABLES[variable].attributes(), store.provenance["store_dtype"]
            create_array(
                group, variable, layer, leading, dtype, attributes,
                length=chunk_length(layer), one_file=False,
            )  # fmt: skip
    return store


@contextmanager
def drafting(output: Path | str, overwrite: bool, **contents: Any) -> Iterator[Draft]:
    """Give a new store to fill; it stands at ``output`` when the context ends without an error.

    Until then an earlier store stays as it was; after an error nothing is left behind. ``contents``
    are those of :func:`create_store`. Behind a URL nothing can be moved: an earlier store is gone
    from the start, and what is there says of itself that it is not complete.

    Raises
    ------
    UserError : see :func:`refuse_existing`
    """
    refuse_existing(output, overwrite)
    final = final_place(output)
    if isinstance(final, str) and exists(final):
        remove(final)
    partial = new_folder_beside(final, "partial") if isinstance(final, Path) else final
    try:
        draft = create_store(partial, **contents)
        yield draft
        draft.complete()
        if isinstance(final, Path) and isinstance(partial, Path):
            _publish(partial, final, overwrite)
    except BaseException:
        remove(partial)
        raise


def final_place(output: Path | str) -> Place:
    """Where a store comes to stand; a link is followed, and what it points to replaced."""
    place = place_of(output)
    return place.resolve() if isinstance(place, Path) else place


def _publish(partial: Path, path: Path, overwrite: bool) -> None:
    """Move a finished store to ``path``, in place of a store that may be there."""
    refuse_existing(path, overwrite)
    if path.exists():
        # There is one store or the other at all times, but for the blink of two renames.
        old = new_folder_beside(path, "old")
        path.replace(old / path.name)
        partial.replace(path)
        shutil.rmtree(old)
    else:
        partial.replace(path)


def refuse_existing(output: Path | str, overwrite: bool) -> None:
    """Refuse an output that exists, unless it is a store and may be overwritten.

    Raises
    ------
    UserError : ``output`` exists and ``overwrite`` is off, or it is something else than a store
    """
    place = place_of(output)
    if not exists(place):
        if isinstance(place, Path) and not place.resolve().parent.is_dir():
            raise UserError(f"the output's folder has to exist; {place.parent} does not: create it")
        return
    if not overwrite:
        raise UserError(f"the output must not exist; {place} does: choose another, or --overwrite")
    try:  # of any schema
        root = zarr.open_group(zarr_store(place), mode="r", zarr_format=3, use_consolidated=False)
        ours = root.attrs.get("schema") == "fusiform"
    except Exception:  # zarr raises many kinds for folders that are no groups
        ours = False
    if not ours:
        raise UserError(
            f"--overwrite replaces fusiform stores only; {place} is none: remove it yourself"
        )


def new_folder_beside(path: Path, purpose: str) -> Path:
    """Create a folder ``NAME.purpose-...`` of its own next to ``path``, for what is under way.

    With the permissions that the user's folders have: a store that is moved from it keeps them.
    """
    folder = path.with_name(f"{path.name}.{purpose}-{uuid4().hex[:8]}")
    folder.mkdir()
    return folder


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


def _write(
    group: zarr.Group,
    variable: str,
    layer: Layer,
    length: int,
    leading: Mapping[str, int],
    values: NDArray[Any],
    attributes: Mapping[str, Any],
) -> None:
    array = create_array(
        group, variable, layer, leading, values.dtype.name, attributes, length=length, one_file=True
    )
    array[...] = values.reshape(*leading.values(), *layer.shape)


def _write_extremes(
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
