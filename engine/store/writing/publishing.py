"""Where a store may be written, and how a finished draft takes its final place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import zarr

from ... import beside
from ...disk import wait_for_lock
from ...errors import UserError, explain_disk_errors, is_out_of_memory, is_resource_limit
from ...urls import Url
from ..location import Location, exists, location_of, remove, writable, zarr_store
from ..metadata import ROOT_BYTES, read_json
from ..schema import RECORDING, STORE, Kind
from ..zarr_internals import await_writes
from .base_draft import BaseDraft
from .creating import StoreBlueprint
from .store_draft import StoreDraft

# Bytes of a name, of the 255 that file systems allow: drafts add .partial-0123abcd.
_MAX_NAME = 238


@contextmanager
def drafting(
    output: Path | str, overwrite: bool, blueprint: StoreBlueprint
) -> Iterator[StoreDraft]:
    """Give a new store to fill, which is published when the context ends.

    Until then an earlier store at ``output`` stays as it was; after an error nothing is left
    behind. Behind a URL, where nothing can be moved, an earlier store is removed at the start, and
    the status of the new one says that it is unfinished.

    Raises
    ------
    UserError : see :func:`refuse_existing`; the output cannot be written to
    """
    refuse_existing(output, overwrite)
    final = final_location(output)
    with (
        explain_disk_errors(final),
        beside.scratch(final) if isinstance(final, Path) else _in_place(final) as new,
        explain_disk_errors(final, new),
        _writes_ended(),
    ):
        draft = blueprint.create(new)
        with explain_disk_errors(final, draft):
            yield draft
            publish(draft, final, overwrite)


@contextmanager
def _writes_ended() -> Iterator[None]:
    """After an error, wait for writes under way, which would come back into a removed folder."""
    try:
        yield
    except BaseException:
        await_writes()
        raise


@contextmanager
def _in_place(url: Url) -> Iterator[Url]:
    if exists(url):
        remove(url)
    try:
        yield url
    except BaseException:
        remove(url)
        raise


def publish(draft: BaseDraft[Any], final: Location, overwrite: bool) -> None:
    """Complete a draft and move it to its final place, replacing a store if allowed.

    Raises
    ------
    UserError : a part of the draft is gone, or the final place may not be replaced
    """
    draft.require_whole()
    draft.complete()
    if not isinstance(final, Path) or not isinstance(draft.path, Path):
        return
    refuse_existing(final, overwrite, kind=draft.kind)
    # Wait for a contrast that is being saved there: it would end up in the new store.
    with wait_for_lock(final) if final.exists() else nullcontext():
        if draft.path == beside.draft_path(final):
            beside.publish_draft(final, overwrite)
        else:
            beside.publish(draft.path, final, overwrite)


def final_location(output: Path | str) -> Path | Url:
    """Where a store will stand; links are followed, and their target is replaced."""
    location = writable(location_of(output))
    return beside.resolve_output(location) if isinstance(location, Path) else location


def refuse_existing(
    output: Path | str, overwrite: bool, unfinished: bool = False, kind: Kind = STORE
) -> None:
    """Raise if an output exists, unless it is of this kind and may be overwritten.

    Leftovers of killed runs are cleared first.

    Parameters
    ----------
    unfinished : accept an unfinished store behind a URL; in a folder, raise also if something other
        than an unfinished draft lies where that would be kept

    Raises
    ------
    UserError : ``output`` exists and ``overwrite`` is off, or it is of another kind
    """
    location = writable(location_of(output))
    if isinstance(location, Path):
        final = beside.resolve_output(location)
        if (size := len(os.fsencode(final.name))) > _MAX_NAME:
            raise UserError(
                f"an output's name has at most {_MAX_NAME} bytes; {final.name} has {size}: "
                "choose a shorter one"
            )
        beside.tidy(final)
        if unfinished:
            _refuse_stranger(beside.draft_path(final), kind)
    if not exists(location):
        if isinstance(location, Path) and not location.resolve().parent.is_dir():
            raise UserError(
                f"the output's folder must exist; {location.parent} does not: create it"
            )
        return
    try:  # of any schema
        store = zarr_store(location)
        root = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)
        ours, status = root.attrs.get("schema") == kind.schema, root.attrs.get("status")
    except Exception as error:
        if not is_no_group(error):
            raise
        ours, status = False, None
    if ours and unfinished and isinstance(location, str) and status != "complete":
        return
    if not overwrite:
        raise UserError(
            f"the output must not exist; {location} does: choose another, or `overwrite=True`"
        )
    if not ours:
        raise UserError(
            f"`overwrite=True` replaces fusiform {kind.noun}s only; {location} is none: remove it "
            "yourself"
        )


def _refuse_stranger(folder: Path, kind: Kind) -> None:
    """Raise if something other than an unfinished draft lies where one would be kept.

    Raises
    ------
    UserError : it was not made by fusiform, or is finished
    """
    if os.path.lexists(folder) and not beside.is_ours(folder) and not _is_unmarked_draft(folder):
        raise UserError(
            f"{folder} is where an unfinished {kind.work} is kept; what is there was not made by "
            "fusiform: move it, or choose another output"
        )


def _is_unmarked_draft(folder: Path) -> bool:
    """Whether a folder is a draft of a fusiform version that did not mark them."""
    if folder.is_symlink():
        return False
    try:
        attributes = dict(read_json(zarr_store(folder), "zarr.json", ROOT_BYTES)["attributes"])
    except Exception:  # many kinds, if it is no group
        return False
    under_way = {kind.schema: kind.under_way for kind in (STORE, RECORDING)}
    return attributes.get("status") == under_way.get(attributes.get("schema", ""), "")


def is_no_group(error: Exception) -> bool:
    """Whether zarr raised an error because there is no whole group, rather than no access to it.

    zarr raises many kinds of error for what is no group.
    """
    absent = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    unseen = isinstance(error, OSError) and not isinstance(error, absent)
    return not (unseen or is_resource_limit(error) or is_out_of_memory(error))
