"""The root of a store or recording: opened, and checked for its kind and schema version."""

from __future__ import annotations

from pathlib import Path

import zarr
from zarr.storage import StorePath

from ..beside import draft_path, pending_publication, resolve_output
from ..errors import UserError
from .arrays import Consolidated
from .files.archive import Archive
from .location import Location, exists, location_of, zarr_store
from .metadata import GROUP_FIELDS, ROOT_BYTES, Misfit, consolidated_in, read_json, refusing
from .schema import RECORDING, STORE, Kind


def open_root(location: Location, kind: Kind = STORE) -> tuple[zarr.Group, Consolidated | None]:
    """Open the root of a store or recording; give also its consolidated metadata, if any.

    Raises
    ------
    UserError : nothing of this kind is there
    """
    noun, command = kind.noun, kind.command
    if not exists(location):
        if isinstance(location, Path):
            _refuse_unfinished(location, kind)
        made = "archive STORE" if isinstance(location, Archive) else f"{command} ..."
        raise UserError(f"no {noun} at {location}: make one with 'fusiform {made} -o {location}'")

    def no_store(fault: str) -> UserError:
        return UserError(
            f"{location} is not a zarr v3 store ({fault}): name one that fusiform {command} made"
        )

    store = zarr_store(location)
    with refusing(no_store):
        try:
            document = read_json(store, "zarr.json", ROOT_BYTES)
        except FileNotFoundError:
            raise Misfit("it has no zarr.json") from None
        attributes = document.get("attributes", {})
        if (document.get("zarr_format"), document.get("node_type")) != (3, "group"):
            raise Misfit("its zarr.json is not that of a group")
        if not isinstance(attributes, dict) or not document.keys() <= GROUP_FIELDS:
            raise Misfit("its zarr.json has fields that no scan writes")
        consolidated = consolidated_in(document)
    metadata = {"zarr_format": 3, "attributes": attributes}
    root = zarr.Group(zarr.AsyncGroup.from_dict(StorePath(store), metadata))
    require_kind(location, root, kind)
    return root, consolidated


def _refuse_unfinished(path: Path, kind: Kind) -> None:
    """Raise if a store is being made here, or was being replaced."""
    final = resolve_output(path)
    draft, old = pending_publication(final)
    if old:
        raise UserError(
            f"no {kind.noun} at {path}: it was being replaced, and is kept in {old}: the command "
            "that makes it anew puts it back first"
        )
    unfinished = draft or draft_path(final)
    if unfinished.exists():
        raise UserError(
            f"no {kind.noun} at {path} yet, but an unfinished {kind.work} in {unfinished}: the "
            f"same command resumes it; 'fusiform check {path}' says how far it is"
        )


def kind_at(path: Path | str) -> Kind:
    """The kind that the root at a path declares: RECORDING, or else STORE."""
    try:
        with refusing(Misfit):
            document = read_json(zarr_store(location_of(path)), "zarr.json", ROOT_BYTES)
    except (Misfit, UserError):  # raised again when it is opened
        return STORE
    attributes = document.get("attributes")
    schema = attributes.get("schema") if isinstance(attributes, dict) else None
    return RECORDING if schema == RECORDING.schema else STORE


def require_kind(location: Location, root: zarr.Group, kind: Kind = STORE) -> None:
    """Raise unless a root is of this kind and schema version.

    Raises
    ------
    UserError : it is another program's, of another kind, or of another version
    """
    schema, version = root.attrs.get("schema"), root.attrs.get("schema_version")
    for other in (STORE, RECORDING):
        if schema == other.schema != kind.schema:
            raise UserError(
                f"a {kind.noun} is what fusiform {kind.command} makes; {location} is a "
                f"{other.noun}, of fusiform {other.command}: name a {kind.noun}"
            )
    if schema != kind.schema:
        raise UserError(
            f"{location} is a zarr store, but not of fusiform: name one from fusiform "
            f"{kind.command}"
        )
    if version != kind.version:
        raise UserError(
            f"this fusiform reads {kind.noun}s of schema {kind.version}; {location} has {version}: "
            f"{kind.command} again, or install the version that made it"
        )
