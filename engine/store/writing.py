"""Stores are created, filled as drafts, and published when they are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from .. import beside
from ..disk import turn
from ..errors import UserError, is_of_limits, is_of_memory, told_of_the_disk
from ..layer import Layer
from ..urls import Url, none_in
from ..values import as_record
from ..variables import MOMENTS, STIMULUS_COLUMNS, VARIABLES
from .cuts import chunk_shape, whole_file
from .draft import Draft
from .filling import Filling
from .identity import fingerprint
from .kinds import RECORDING, STORE, Kind
from .layout import create_array, create_coordinates, put, put_column, put_count
from .metadata import ROOT_BYTES, read_json
from .places import Place, exists, place_of, remove, zarr_store

# What numbers can depend on.
_PACKAGES = (
    *("fusiform", "torch", "torchvision", "open_clip_torch", "timm"),
    *("numpy", "numba", "scipy", "zarr", "pillow"),
)

# Bytes, of 255 that file systems allow: while it is made it is called NAME.partial-0123abcd.
_LONGEST_NAME = 238


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
    stimuli : the stimulus table, a column ``[stimulus]`` for each of ``variables.STIMULUS_COLUMNS``
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
    with (
        told_of_the_disk(final),
        beside.scratch(final) if isinstance(final, Path) else _in_place(final) as new,
        told_of_the_disk(final, new),
    ):
        draft = create_store(new, **contents)
        with told_of_the_disk(final, draft):
            yield draft
            finish(draft, final, overwrite)


@contextmanager
def _in_place(url: Url) -> Iterator[Url]:
    """Behind a URL nothing can be renamed."""
    if exists(url):
        remove(url)
    try:
        yield url
    except BaseException:
        remove(url)
        raise


def finish(draft: Filling, final: Place, overwrite: bool) -> None:
    """Complete a draft, and put it at its final place, instead of a store that may be there.

    Raises
    ------
    UserError : a part of the draft is gone, or what is at the final place may not be replaced
    """
    draft.require_whole()
    draft.complete()
    if not isinstance(final, Path) or not isinstance(draft.path, Path):
        return
    refuse_existing(final, overwrite, kind=draft.kind)
    # What is being saved in the one would get into the other.
    with turn(final) if final.exists() else nullcontext():
        if draft.path == beside.draft_place(final):
            beside.publish_draft(final, overwrite)
        else:
            beside.publish(draft.path, final, overwrite)


def final_place(output: Path | str) -> Place:
    """Where a store comes to stand; a link is followed, and what it points to replaced."""
    place = place_of(output)
    return beside.resolved(place) if isinstance(place, Path) else place


def refuse_existing(
    output: Path | str, overwrite: bool, unfinished: bool = False, kind: Kind = STORE
) -> None:
    """Refuse an output that exists, unless it is of this kind and may be overwritten.

    What runs that were killed have left on the way to it is cleared before. With ``unfinished`` the
    output may be one behind a URL whose scan has not come to its end; in a folder what lies where
    an unfinished scan is kept has to be one.

    Raises
    ------
    UserError : ``output`` exists and ``overwrite`` is off, or it is something else than a store
    """
    place = place_of(output)
    if isinstance(place, Path):
        final = beside.resolved(place)
        if (size := len(os.fsencode(final.name))) > _LONGEST_NAME:
            raise UserError(
                f"an output's name has at most {_LONGEST_NAME} bytes; {final.name} has {size}: "
                "choose a shorter one"
            )
        beside.tidy(final)
        if unfinished:
            _refuse_stranger(beside.draft_place(final), kind)
    if not exists(place):
        if isinstance(place, Path) and not place.resolve().parent.is_dir():
            raise UserError(f"the output's folder has to exist; {place.parent} does not: create it")
        return
    try:  # of any schema
        root = zarr.open_group(zarr_store(place), mode="r", zarr_format=3, use_consolidated=False)
        ours, status = root.attrs.get("schema") == kind.schema, root.attrs.get("status")
    except Exception as error:
        if not is_no_group(error):
            raise
        ours, status = False, None
    if ours and unfinished and isinstance(place, str) and status != "complete":
        return
    if not overwrite:
        raise UserError(f"the output must not exist; {place} does: choose another, or --overwrite")
    if not ours:
        raise UserError(
            f"--overwrite replaces fusiform {kind.noun}s only; {place} is none: remove it yourself"
        )


def _refuse_stranger(place: Path, kind: Kind) -> None:
    """Refuse what lies where an unfinished scan is kept and is none.

    Raises
    ------
    UserError : it was not made by fusiform, or was finished
    """
    if os.path.lexists(place) and not beside.is_ours(place) and not _begun_unmarked(place):
        raise UserError(
            f"{place} is where an unfinished {kind.work} is kept; what is there was not made by "
            "fusiform: move it, or choose another output"
        )


def is_no_group(error: Exception) -> bool:
    """Whether an error says that there is no group, or half of one, not that it cannot be seen.

    zarr raises many kinds for what is none.
    """
    absent = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    unseen = isinstance(error, OSError) and not isinstance(error, absent)
    return not (unseen or is_of_limits(error) or is_of_memory(error))


def _begun_unmarked(folder: Path) -> bool:
    """Whether a folder is a draft of versions of fusiform that did not mark them."""
    if folder.is_symlink():
        return False
    try:
        said = dict(read_json(zarr_store(folder), "zarr.json", ROOT_BYTES)["attributes"])
    except Exception:  # many kinds, for what is no group
        return False
    under_way = {kind.schema: kind.under_way for kind in (STORE, RECORDING)}
    return said.get("status") == under_way.get(said.get("schema", ""), "")
