"""Stores are created, filled as drafts, and published when they are whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import UserError
from ..spec import MOMENTS, STIMULUS_COLUMNS, VARIABLES, Layer, as_record
from ..urls import none_in
from .cuts import chunk_shape, whole_file
from .draft import Draft
from .durable import publish
from .filling import Filling
from .identity import fingerprint
from .kinds import STORE, Kind
from .layout import create_array, create_coordinates, put, put_column, put_count
from .places import Place, exists, place_of, remove, zarr_store

# What numbers can depend on.
_PACKAGES = (
    *("fusiform", "torch", "torchvision", "open_clip_torch", "timm"),
    *("numpy", "numba", "scipy", "zarr", "pillow"),
)


class Way(NamedTuple):
    """How a kind of store is begun: by what it is ``described``, ``create``d and gone on with."""

    kind: Kind
    draft: type[Filling]
    create: Callable[..., Filling]


def described(
    *,
    kind: Kind = STORE,
    layers: Sequence[Layer],
    categories: Sequence[str],
    counts: NDArray[np.int64],
    stimuli: Mapping[str, Sequence[Any]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """What the root of such a store says of itself; for the parameters see :func:`create_store`."""
    attributes: dict[str, Any] = {
        "schema": kind.schema,
        "schema_version": kind.version,
        "status": kind.under_way,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "versions": {name: version(name) for name in _PACKAGES},
        **({"store_dtype": "float64"} if kind is STORE else {}),
        **none_in(dict(provenance)),
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
    root = create_root(
        place, STORE, layers=layers, categories=categories, counts=counts, stimuli=stimuli,
        provenance=provenance,
    )  # fmt: skip
    store = Draft(place, root)
    leading = {"category": len(categories), "fold": store.folds}
    for layer in layers:
        group = root.require_group(layer.name)
        create_coordinates(group, layer)
        chunk = chunk_shape(layer, len(categories) * store.folds)
        for variable in MOMENTS:
            attributes, dtype = VARIABLES[variable].attributes(), store.provenance["store_dtype"]
            create_array(
                group, variable, layer, leading, dtype, attributes,
                chunk=chunk, file=whole_file(layer, chunk), one_file=False,
            )  # fmt: skip
    return store


def create_root(place: Place, kind: Kind, **contents: Any) -> zarr.Group:
    """Create a group with what a store and a recording have at their root; see `create_store`."""
    root = zarr.create_group(
        zarr_store(place, read_only=False),
        zarr_format=3,
        attributes=described(kind=kind, **contents),
    )
    categories, counts = contents["categories"], contents["counts"]
    put(root, "category", np.array(categories, dtype=object), ("category",), "stimulus category")
    put(root, "fold", np.arange(counts.shape[1]), ("fold",), "part of the stimuli")
    put_count(root, counts)
    for column in STIMULUS_COLUMNS:
        put_column(root, column, contents["stimuli"][column])
    return root


SCANNED = Way(STORE, Draft, create_store)


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
        partial = new_folder_beside(final, "partial") if isinstance(final, Path) else final
        try:
            with told_of_the_disk(final, partial):
                draft = create_store(partial, **contents)
                yield draft
                finish(draft, final, overwrite)
        except BaseException:
            remove(partial)
            raise


def finish(draft: Filling, final: Place, overwrite: bool) -> None:
    """Complete a draft, and put it at its final place, instead of a store that may be there."""
    draft.complete()
    if not isinstance(final, Path) or not isinstance(draft.path, Path):
        return
    refuse_existing(final, overwrite, kind=draft.kind)
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


def refuse_existing(
    output: Path | str, overwrite: bool, unfinished: bool = False, kind: Kind = STORE
) -> None:
    """Refuse an output that exists, unless it is of this kind and may be overwritten.

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
        ours, status = root.attrs.get("schema") == kind.schema, root.attrs.get("status")
    except Exception:  # zarr raises many kinds for folders that are no groups
        ours, status = False, None
    if ours and unfinished and isinstance(place, str) and status != "complete":
        return
    if not overwrite:
        raise UserError(f"the output must not exist; {place} does: choose another, or --overwrite")
    if not ours:
        raise UserError(
            f"--overwrite replaces fusiform {kind.noun}s only; {place} is none: remove it yourself"
        )


@contextmanager
def told_of_the_disk(place: Place, draft: Place | None = None) -> Iterator[None]:
    """Say in one line what the file system raises where something is written to ``place``.

    ``draft`` is the folder that is filled until it is moved to ``place``.

    Raises
    ------
    UserError : the disk is full, the folder cannot be written to, or the draft was removed
    """
    try:
        yield
    except OSError as error:
        # Whichever write meets it first: that of the moments, or that of a commit.
        missing = isinstance(error, FileNotFoundError)
        if missing and isinstance(draft, Path) and not draft.exists():
            raise UserError(f"{draft} was being filled and is gone: scan again") from error
        raise UserError(
            f"cannot write {place} ({error.strerror or error}): make room, or make it writable"
        ) from error


def new_folder_beside(path: Path, purpose: str) -> Path:
    """Create a folder ``NAME.purpose-...`` of its own next to ``path``, for what is under way.

    With the permissions that the user's folders have: a store that is moved from it keeps them.
    """
    folder = path.with_name(f"{path.name}.{purpose}-{uuid4().hex[:8]}")
    folder.mkdir()
    return folder
