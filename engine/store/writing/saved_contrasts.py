"""Saving contrasts beside the moments of a finished store, whole or not at all.

Variables are written to groups that the root does not name, so no reader looks at them. Then the
root's metadata, which list the saved contrasts and their groups, are replaced by one renaming:
nothing has changed before it, and everything after it.

A contrast lies in the groups ``LAYER/NAME``. One that replaces another is written to ``NAME.2``,
and moves to its own name when nothing refers to the earlier one, where files can be linked. A file
of the root lists the groups that are being written: the next saving clears what an interrupted one
left.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype

from ...disk import flush_path, wait_for_lock
from ...errors import UserError, explain_disk_errors
from ...layer import Layer
from ...registry import MEASURES, PLACED, SHUFFLED, VARIABLES
from ...urls import Url
from ..attributes import is_free_name, is_group_of, store_schema
from ..location import flush, writable, write, zarr_store
from ..metadata import (
    ROOT_BYTES,
    consolidated_in,
    documents_in,
    parse_json,
    read_json,
    refusing,
)
from ..store_reader import StoreReader
from ..zarr_internals import await_writes, sync
from .array_writer import SlabWriter, create_group
from .documents import as_bytes, root_document

# File systems allow names of 255 bytes; a replaced contrast's group adds a number to its own.
_LONGEST_NAME = 200
# The file that lists the groups being written.
_MARK = ".saving"
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
# Temporary files of zarr and of this package.
_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")


class SavedContrast:
    """Writes the variables of a saved contrast, layer by layer.

    Parameters
    ----------
    group : the group, inside every layer, to write to
    each_category : whether variables have a dimension ``category``
    """

    def __init__(
        self, store: StoreReader, opened: ZarrStore, name: str, group: str, each_category: bool
    ) -> None:
        self._store, self._opened, self._name, self._group = store, opened, name, group
        self._leading = {"category": len(store.categories)} if each_category else {}

    def slab_writer(self, layer: Layer) -> SlabWriter:
        """A writer of a layer's variables, in chunks like those of the store."""
        group = f"{layer.name}/{self._group}"
        create_group(self._opened, group)
        chunk = self._store.chunk_shape(layer)
        return SlabWriter(self._opened, group, layer, chunk, self._name)

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
def saving(
    store: StoreReader, name: str, record: Mapping[str, Any], note: Callable[[str], None]
) -> Iterator[SavedContrast]:
    """Give the writer of a contrast, which is saved when the context ends.

    Until then, and after an error or a kill, readers find what was saved before, under this name,
    too. Another program that saves at the same time waits its turn.

    Parameters
    ----------
    record : description of the contrast, for the attributes of the root

    Raises
    ------
    UserError : the name would hide something else; the store cannot be written to, or another one
        stands in its place by now
    """
    if not is_free_name(name):
        raise UserError(
            "a contrast's name is made of letters, digits and _, and is no variable of a "
            f"store; got {name!r}"
        )
    if len(name.encode()) > _LONGEST_NAME:
        raise UserError(
            f"a contrast's name is a folder's, of at most {_LONGEST_NAME} bytes; got "
            f"{len(name.encode()):,}: choose a shorter one"
        )
    place = writable(store.path)
    waiting = wait_for_lock(place, note) if isinstance(place, Path) else nullcontext()
    with explain_disk_errors(store.path), waiting:
        _take_over(store)
        group = _group_for(store, name)
        store_schema(_attributes(store, name, record, group))  # raises if no reader could open it
        groups = {name, group, *([store.schema.group_of(name)] if name in store.saved else ())}
        opened = _open_to_write(store, groups)
        try:
            _remove_unnamed(store, opened)  # left by an interrupted saving, or in the way
            yield SavedContrast(store, opened, name, group, record["each_category"])
            _replace_root(opened, _attributes(store, name, record, group))
        except BaseException:
            await_writes()  # they would come back into a removed group
            with suppress(Exception):
                _clear(store, opened)
            raise
        with suppress(Exception):  # it is saved: the next saving clears what is left
            _remove_unnamed(store, opened)
            if isinstance(store.path, Path) and group != name:
                _link(store, store.path, group, name)
                _replace_root(opened, _attributes(store, name, record, name))
        with suppress(Exception):
            _clear(store, opened)
        store.refresh()


def _take_over(store: StoreReader) -> None:
    """Read what others saved since the store was opened."""
    before = store.provenance
    store.refresh()
    if any(store.provenance.get(name) != before.get(name) for name in ("created", "fingerprint")):
        raise UserError(f"another scan's store stands at {store.path} by now: open it again")


def _group_for(store: StoreReader, name: str) -> str:
    """A group that no reader may be looking at."""
    if name not in store.saved:
        return name
    _, _, number = store.schema.group_of(name).partition(".")
    return f"{name}.{int(number or 1) + 1}"


def _attributes(
    store: StoreReader, name: str, record: Mapping[str, Any], group: str
) -> dict[str, Any]:
    """The attributes of the root with a contrast saved in this group."""
    own = {**record, **({"group": group} if group != name else {})}
    return {**store.provenance, "saved": {**store.saved, name: own}}


def _open_to_write(store: StoreReader, groups: set[str]) -> ZarrStore:
    """Open the store for writing, and mark it with the groups that may be left behind."""
    try:
        opened = zarr_store(store.path, read_only=False)
        _put(opened, _MARK, {"groups": sorted(groups | _marked(opened))})
    except Exception as error:  # of the file system, or whatever is behind a URL
        if isinstance(error, OSError) and error.errno not in _READ_ONLY:
            raise
        raise UserError(
            f"{store.path} cannot be written to: copy it to a place where it can"
        ) from None
    return opened


def _replace_root(opened: ZarrStore, attributes: dict[str, Any]) -> None:
    """Replace the root's metadata, when everything that they name is on the disk."""
    flush(opened)
    with refusing(_cannot_be_saved):
        known = consolidated_in(read_json(opened, "zarr.json", ROOT_BYTES)) or {}
        schema = store_schema(attributes)
        kept = {key: one for key, one in known.items() if not _is_saved(key)}
        document = root_document(attributes, documents_in(opened, schema, kept))
        parse_json(as_bytes(document), ROOT_BYTES)  # raises if no reader could open it
    _put(opened, "zarr.json", document)
    flush(opened)


def _is_saved(key: str) -> bool:
    """Whether an array is of a saved contrast, which may have been replaced."""
    folders = key.split("/")[1:-1]
    return bool(folders) and folders[0] not in (SHUFFLED, PLACED)


def _cannot_be_saved(fault: str) -> UserError:
    return UserError(f"a contrast is saved in a store that is whole; the root of this one {fault}")


def _link(store: StoreReader, folder: Path, group: str, name: str) -> None:
    """Link a group's files under the contrast's name, where other programs look for them."""
    for layer in store.layers:
        source, target = (folder / layer.name / one for one in (group, name))
        for path in sorted(source.rglob("*")):
            own = target / path.relative_to(source)
            if path.is_file():
                own.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, own)
        for path in (*target.rglob("*"), target, target.parent):
            if path.is_dir():
                flush_path(path)


def _clear(store: StoreReader, opened: ZarrStore) -> None:
    """Remove the leftovers of interrupted savings."""
    _remove_unnamed(store, opened)
    if isinstance(store.path, Path):
        folders = [store.path, *(store.path / layer.name for layer in store.layers)]
        for path in (path for folder in folders for path in folder.glob("*.partial")):
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
    sync(opened.delete(_MARK))


def _remove_unnamed(store: StoreReader, opened: ZarrStore) -> None:
    """Remove the marked groups that the root does not name."""
    attributes = read_json(opened, "zarr.json", ROOT_BYTES)["attributes"]
    named = {one.get("group", name) for name, one in attributes.get("saved", {}).items()}
    for group in _marked(opened) - named:
        for layer in store.layers:
            folder = Path(store.path) / layer.name / group
            if isinstance(store.path, Url):
                sync(opened.delete_dir(f"{layer.name}/{group}"))
            elif folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                shutil.rmtree(folder)


def _marked(opened: ZarrStore) -> set[str]:
    """The groups that a saving listed; none if the list is damaged."""
    found = sync(opened.get(_MARK, default_buffer_prototype()))
    try:
        groups = json.loads(found.to_bytes())["groups"] if found else []
        listed = [group for group in groups if isinstance(group, str)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()
    names = {group: group.partition(".")[0] for group in listed}
    return {
        group for group, name in names.items() if is_free_name(name) and is_group_of(name, group)
    }


def _put(opened: ZarrStore, key: str, document: Mapping[str, Any]) -> None:
    write(opened, key, [as_bytes(document)])
