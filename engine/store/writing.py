"""A store that is being filled: created, written block by block, published when it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

from ...kernels.moments import Moments
from ..errors import UserError
from ..spec import (
    MOMENTS,
    SCHEMA_VERSION,
    SHOWN,
    SHUFFLED,
    STIMULUS_COLUMNS,
    VARIABLES,
    Layer,
    as_record,
)
from .arrays import files_of
from .commits import Bytes, Commit, Commits
from .durable import flush, publish
from .identity import fingerprint
from .layout import (
    chunk_length,
    consolidate,
    create_array,
    create_coordinates,
    put,
    put_extremes,
    put_moments,
    put_variable,
)
from .metadata import Misfit
from .places import Place, exists, is_group, place_of, remove, zarr_store
from .reading import Store

# What numbers can depend on.
_PACKAGES = (
    *("fusiform", "torch", "torchvision", "open_clip_torch", "timm"),
    *("numpy", "numba", "scipy", "zarr", "pillow"),
)


class Draft(Store):
    """A store that is being filled.

    Beside its final place where that is a folder, so that there is a whole store or none; behind a
    URL in its place, where it says of itself that it is not complete. ``commit`` is how far an
    earlier run had come with it, and ``live`` what it had in its hands then.
    """

    def __init__(self, path: Place, root: zarr.Group) -> None:
        # What reads must not write: it is decoded by code that knows plain folders only.
        super().__init__(path, zarr.open_group(zarr_store(path), mode="r", use_consolidated=False))
        self._draft = root
        # Moments are written block by block: opening an array each time would take longer.
        self._open: dict[str, Any] = {}
        self._commits = Commits(root.store)
        self.commit, self.live = self._commits.latest() or (Commit(), {})

    @property
    def is_complete(self) -> bool:
        """Whether everything is written, and only its publication is missing."""
        return bool(self.provenance["status"] == "complete")

    @property
    def most_bytes(self) -> int:
        """What all will take on the disk, if nothing of it can be compressed."""
        groups = len(self.categories) * self.folds
        moments = groups * len(MOMENTS) * np.dtype(self.provenance["store_dtype"]).itemsize
        contrasts: int = sum(
            np.dtype(variable.dtype).itemsize
            * (len(self.categories) if "category" in variable.leading else 1)
            * (self.folds if "fold" in variable.leading else 1)
            for name, variable in VARIABLES.items()
            if name not in MOMENTS
        )
        commits = 2 * sum(layer.state_bytes for layer in self.layers)
        return int(commits + (moments + contrasts) * sum(layer.units for layer in self.layers))

    @property
    def was_committed(self) -> bool:
        """Whether another run could go on from here."""
        return self.commit.number > 0 or self.is_complete

    def write_moments(self, layer: Layer, category: int, fold: int, moments: Moments) -> None:
        """Write the finished moments of one category and fold, ``mean, m2 [*layer dims]``."""
        for variable, values in (("mean", moments.mean), ("m2", moments.m2)):
            key = f"{layer.name}/{variable}"
            if key not in self._open:
                self._open[key] = self._draft[key]
            array = self._open[key]
            if self.was_committed:  # a file that was being written then may be torn, and in the way
                for file in files_of(array, (category, fold)):
                    sync((array.store_path / array.metadata.encode_chunk_key(file)).delete())
            array[category, fold] = values

    def write_contrasts(self, layer: Layer, columns: Mapping[str, NDArray[Any]]) -> None:
        """Materialise variables ``[*leading, unit]``, put beside the layer's moments."""
        group, length = self._draft[layer.name], self.chunk_length(layer)
        assert isinstance(group, zarr.Group)
        for variable, values in columns.items():
            definition = VARIABLES[variable]
            leading = dict(zip(definition.leading, values.shape, strict=False))
            attributes = definition.attributes()
            own = values.astype(definition.dtype)
            put_variable(group, variable, layer, length, leading, own, attributes)
        put_extremes(group, layer, length, columns)

    def write_shuffled_moments(
        self, layer: Layer, units: NDArray[np.int64], mean: NDArray[Any], m2: NDArray[Any]
    ) -> None:
        """Write moments under shuffled labels ``[category, fold, shuffle, unit]``.

        ``units`` are those drawn, as places in the flattened layer.
        """
        group = self._draft.require_group(f"{layer.name}/{SHUFFLED}")
        put(group, "drawn_unit", units, ("drawn_unit",), "place of the unit in the flat layer")
        for variable, values in (("mean", mean), ("m2", m2)):
            attributes = VARIABLES[variable].attributes()
            attributes["long_name"] += ", labels shuffled"
            dims = ("category", "fold", "shuffle", "drawn_unit")
            put_moments(group, variable, values, dims, attributes)

    def require_moments(self, blocks: Iterable[tuple[int, int]]) -> None:
        """Refuse a draft in which moments of a category and fold in ``blocks`` are missing.

        Raises
        ------
        UserError : a file of them is gone
        """
        blocks = list(blocks)
        for layer in self.layers:
            for variable in MOMENTS:
                key = f"{layer.name}/{variable}"
                array = self.arrays.opened(key).array
                for file in (file for block in blocks for file in files_of(array, block)):
                    try:
                        self.arrays.require_file(key, file)
                    except Misfit as misfit:
                        raise self._unreadable(key, str(misfit)) from None

    def annotate(self, **attributes: Any) -> None:
        """Add to the provenance."""
        self._draft.attrs.update(attributes)
        self.provenance.update(attributes)

    def exchange_stimuli(self, table: Mapping[str, Sequence[Any]]) -> None:
        """Take over other contents of the stimuli, of those that were not shown yet."""
        for column in ("stimulus_sha256", "stimulus_status"):
            _put_column(self._draft, column, table[column])
        self.annotate(fingerprint=fingerprint(self.provenance, table))

    def save_live(self, live: Mapping[str, Bytes]) -> None:
        """Write what the next commit will need of the live moments.

        The commit before must have been written: its own live moments are the ones that count.
        """
        self._commits.write_live(self.commit.number + 1, live)

    def write_commit(self, **progress: Any) -> None:
        """Commit: what is written, and what was saved of the live moments, is not lost any more.

        ``progress`` are the fields of :class:`.commits.Commit` that have changed.

        Raises
        ------
        UserError : the store is gone
        """
        if not is_group(self.path):
            raise UserError(f"{self.path} was being filled and is gone: scan again")
        commit = replace(self.commit, number=self.commit.number + 1, **progress)
        self._commits.write(commit)
        self.commit = commit

    def complete(self) -> None:
        """Mark the store as whole, and gather its metadata where one read finds all of it."""
        if not self.is_complete:
            self._leave_out(self.commit.skipped)
            self.annotate(status="complete")
        self._commits.remove()
        consolidate(self._draft)
        flush(self._draft.store)

    def _leave_out(self, skipped: Mapping[int, str]) -> None:
        """Take stimuli that were skipped on the way out of the counts and the fingerprint."""
        if not skipped:
            return
        table: dict[str, Any] = {column: self.stimuli(column).copy() for column in STIMULUS_COLUMNS}
        counts = np.zeros_like(self.counts)
        for stimulus, why in skipped.items():
            table["stimulus_status"][stimulus] = why
        shown = table["stimulus_status"] == SHOWN
        np.add.at(counts, (table["stimulus_category"][shown], table["stimulus_fold"][shown]), 1)
        _put_count(self._draft, counts)
        _put_column(self._draft, "stimulus_status", table["stimulus_status"])
        self.counts = counts
        self.annotate(fingerprint=fingerprint(self.provenance, table))


def described(
    *,
    layers: Sequence[Layer],
    categories: Sequence[str],
    counts: NDArray[np.int64],
    stimuli: Mapping[str, Sequence[Any]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """What the root of such a store says of itself; for the parameters see :func:`create_store`."""
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
    as_read_again: dict[str, Any] = json.loads(json.dumps(attributes))
    return as_read_again


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
    attributes = described(
        layers=layers, categories=categories, counts=counts, stimuli=stimuli, provenance=provenance
    )
    root = zarr.create_group(
        zarr_store(place, read_only=False), zarr_format=3, attributes=attributes
    )
    put(root, "category", np.array(categories, dtype=object), ("category",), "stimulus category")
    put(root, "fold", np.arange(counts.shape[1]), ("fold",), "part of the stimuli")
    _put_count(root, counts)
    for column in STIMULUS_COLUMNS:
        _put_column(root, column, stimuli[column])
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


def _put_count(root: zarr.Group, counts: NDArray[np.int64]) -> None:
    put(root, "count", counts, ("category", "fold"), "number of stimuli")


def _put_column(root: zarr.Group, column: str, values: Sequence[Any] | NDArray[Any]) -> None:
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    put(root, column, array, ("stimulus",), STIMULUS_COLUMNS[column])


@contextmanager
def drafting(output: Path | str, overwrite: bool, **contents: Any) -> Iterator[Draft]:
    """Give a new store to fill; it stands at ``output`` when the context ends without an error.

    Until then an earlier store stays as it was; after an error nothing is left behind. ``contents``
    are those of :func:`create_store`. Behind a URL nothing can be moved: an earlier store is gone
    from the start, and what is there says of itself that it is not complete.

    Raises
    ------
    UserError : see :func:`refuse_existing`; the output cannot be written to
    """
    refuse_existing(output, overwrite)
    final = final_place(output)
    if isinstance(final, str) and exists(final):
        remove(final)
    with told_of_the_disk(final):
        partial = _new_folder_beside(final, "partial") if isinstance(final, Path) else final
        try:
            draft = create_store(partial, **contents)
            yield draft
            finish(draft, final, overwrite)
        except BaseException:
            remove(partial)
            raise


def finish(draft: Draft, final: Place, overwrite: bool) -> None:
    """Complete a draft, and put it at its final place, instead of a store that may be there."""
    draft.complete()
    if not isinstance(final, Path) or not isinstance(draft.path, Path):
        return
    refuse_existing(final, overwrite)
    if not final.exists():
        publish(draft.path, final)
        return
    # There is one store or the other at all times, but for the blink of two renames.
    old = final.with_name(f"{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    final.replace(old)
    publish(draft.path, final)
    shutil.rmtree(old, ignore_errors=True)


def final_place(output: Path | str) -> Place:
    """Where a store comes to stand; a link is followed, and what it points to replaced."""
    place = place_of(output)
    return place.resolve() if isinstance(place, Path) else place


def refuse_existing(output: Path | str, overwrite: bool, unfinished: bool = False) -> None:
    """Refuse an output that exists, unless it is a store and may be overwritten.

    Or, with ``unfinished``, one behind a URL whose scan has not come to its end.

    Raises
    ------
    UserError : ``output`` exists and ``overwrite`` is off, or it is something else than a store
    """
    place = place_of(output)
    if not exists(place):
        if isinstance(place, Path) and not place.resolve().parent.is_dir():
            raise UserError(f"the output's folder has to exist; {place.parent} does not: create it")
        return
    try:  # of any schema
        root = zarr.open_group(zarr_store(place), mode="r", zarr_format=3, use_consolidated=False)
        ours, status = root.attrs.get("schema") == "fusiform", root.attrs.get("status")
    except Exception:  # zarr raises many kinds for folders that are no groups
        ours, status = False, None
    if ours and unfinished and isinstance(place, str) and status != "complete":
        return
    if not overwrite:
        raise UserError(f"the output must not exist; {place} does: choose another, or --overwrite")
    if not ours:
        raise UserError(
            f"--overwrite replaces fusiform stores only; {place} is none: remove it yourself"
        )


@contextmanager
def told_of_the_disk(place: Place) -> Iterator[None]:
    """Say in one line what the file system raises where something is written to ``place``.

    Raises
    ------
    UserError : the disk is full, or the folder cannot be written to
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {place} ({error.strerror or error}): make room, or make it writable"
        ) from error


def _new_folder_beside(path: Path, purpose: str) -> Path:
    """Create a folder ``NAME.purpose-...`` of its own next to ``path``, for what is under way.

    With the permissions that the user's folders have: a store that is moved from it keeps them.
    """
    folder = path.with_name(f"{path.name}.{purpose}-{uuid4().hex[:8]}")
    folder.mkdir()
    return folder


class _Behind:
    """Calls functions in a thread, one at a time and in the order in which they were given."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._under_way: Future[None] | None = None

    def __call__(self, write: Any, *arguments: Any, **named: Any) -> None:
        self.wait()
        self._under_way = self._pool.submit(write, *arguments, **named)

    def wait(self) -> None:
        """Until nothing is under way; what the last call raised, is raised here."""
        last, self._under_way = self._under_way, None
        if last:
            last.result()


@contextmanager
def write_behind() -> Iterator[_Behind]:
    """Give what calls a function in a thread, while the caller makes the next to write.

    One call is under way at a time, and the caller waits for it before it hands over another: what
    is not yet written takes the memory of two. What a call raises, the next one does, or the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
        later = _Behind(pool)
        yield later
        later.wait()
