"""Contrasts that are saved beside the moments of a finished store: all of one, or nothing of it.

Variables are written to groups that no reader looks at, since the root does not name them; then
the root's metadata, which say what is saved and where, are replaced by one renaming. Before that
nothing has changed, after it everything has.

A contrast lies in the groups ``LAYER/NAME``. One that replaces another is written to ``NAME.2``,
and is put under its name, where files can be linked, when nothing names the earlier one. What is
under way is listed in a file of the root: what was interrupted is cleared by the next saving.
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

import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import cpu, default_buffer_prototype

from ..disk import synchronised, turn
from ..errors import UserError, told_of_the_disk
from ..layer import Layer
from ..variables import MEASURES, VARIABLES
from .durable import flush
from .layout import gathered_anew
from .metadata import ROOT_BYTES, gathered_in, parsed, read_json, refusing
from .places import zarr_store
from .reading import Store
from .schema import is_free, is_group_of, schema_of
from .slabs import SlabWriter
from .zarr_internals import sync

# Lists the groups that a saving may leave behind.
_MARK = ".saving"
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
# What zarr and this package call a file while it is written.
_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")


class SavedContrast:
    """Where the variables of a saved contrast are written, layer by layer."""

    def __init__(
        self, store: Store, root: zarr.Group, name: str, group: str, each_category: bool
    ) -> None:
        self._store, self._root, self._name, self._group = store, root, name, group
        self._leading = {"category": len(store.categories)} if each_category else {}

    def slab_writer(self, layer: Layer) -> SlabWriter:
        """What writes a layer's variables; as the store is cut, which another version may do."""
        group = self._root.require_group(f"{layer.name}/{self._group}")
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
def saving(
    store: Store, name: str, record: Mapping[str, Any], note: Callable[[str], None]
) -> Iterator[SavedContrast]:
    """Give where a contrast's variables are written; it is saved when the context ends.

    Until then, and after an error or a kill, readers find what was saved before, under this name,
    too. Who saves at the same time waits, and then saves beside it. ``record`` says what it is, and
    stands among the root's attributes.

    Raises
    ------
    UserError : the name would hide something else; the store cannot be written to, or another
        scan's stands in its place by now
    """
    if not is_free(name):
        raise UserError(
            "a contrast's name is made of letters, digits and _, and is no variable of a "
            f"store; got {name!r}"
        )
    waiting = turn(store.path, note) if isinstance(store.path, Path) else nullcontext()
    with told_of_the_disk(store.path), waiting:
        _take_over(store)
        group = _group_for(store, name)
        schema_of(_described(store, name, record, group))  # refuses what no reader would take
        groups = {name, group, *([store.schema.group_of(name)] if name in store.saved else ())}
        place, root = _opened_to_write(store, groups)
        try:
            _remove_unnamed(store, place)  # what was interrupted before, or lies in the way
            yield SavedContrast(store, root, name, group, record["each_category"])
            _name_it(place, _described(store, name, record, group))
        except BaseException:
            with suppress(Exception):
                _clear(store, place)
            raise
        with suppress(Exception):  # it is saved: what is left makes way for the next
            _remove_unnamed(store, place)
            if isinstance(store.path, Path) and group != name:
                _link(store, store.path, group, name)
                _name_it(place, _described(store, name, record, name))
        with suppress(Exception):
            _clear(store, place)
        store.refresh()


def _take_over(store: Store) -> None:
    """See what others have saved since the store was opened."""
    before = store.provenance
    store.refresh()
    if any(store.provenance.get(name) != before.get(name) for name in ("created", "fingerprint")):
        raise UserError(f"another scan's store stands at {store.path} by now: open it again")


def _group_for(store: Store, name: str) -> str:
    """A group for a contrast that holds none which readers may be looking at."""
    if name not in store.saved:
        return name
    _, _, number = store.schema.group_of(name).partition(".")
    return f"{name}.{int(number or 1) + 1}"


def _described(store: Store, name: str, record: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The root's attributes once a contrast is saved in this group."""
    own = {**record, **({"group": group} if group != name else {})}
    return {**store.provenance, "saved": {**store.saved, name: own}}


def _opened_to_write(store: Store, groups: set[str]) -> tuple[ZarrStore, zarr.Group]:
    """The store for zarr to write to, marked with the groups that may be left behind."""
    try:
        place = zarr_store(store.path, read_only=False)
        root = zarr.open_group(place, mode="r+", zarr_format=3, use_consolidated=False)
        _put(place, _MARK, {"groups": sorted(groups | _marked(place))})
    except Exception as error:  # of the file system, or of whatever lies behind a URL
        if isinstance(error, OSError) and error.errno not in _READ_ONLY:
            raise
        raise UserError(f"{store.path} cannot be written to: copy it where it can") from None
    return place, root


def _name_it(place: ZarrStore, attributes: dict[str, Any]) -> None:
    """Replace the root's metadata, when all that they name is on the disk."""
    flush(place)
    with refusing(_cannot_be_saved):
        known = gathered_in(read_json(place, "zarr.json", ROOT_BYTES)) or {}
        document = gathered_anew(place, attributes, schema_of(attributes), known)
        parsed(json.dumps(document).encode(), ROOT_BYTES)  # refuses what no reader would take
    _put(place, "zarr.json", document)
    flush(place)


def _cannot_be_saved(said: str) -> UserError:
    return UserError(f"a contrast is saved in a store that is whole; of this one the root {said}")


def _link(store: Store, folder: Path, group: str, name: str) -> None:
    """Have a group's files also under the contrast's name, by which other programs look for it."""
    for layer in store.layers:
        source, target = (folder / layer.name / one for one in (group, name))
        for path in sorted(source.rglob("*")):
            own = target / path.relative_to(source)
            if path.is_file():
                own.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, own)
        for path in (*target.rglob("*"), target, target.parent):
            if path.is_dir():
                synchronised(path)


def _clear(store: Store, place: ZarrStore) -> None:
    """Remove all that savings have left which did not come to their end."""
    _remove_unnamed(store, place)
    if isinstance(store.path, Path):
        folders = [store.path, *(store.path / layer.name for layer in store.layers)]
        for path in (path for folder in folders for path in folder.glob("*.partial")):
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
    sync(place.delete(_MARK))


def _remove_unnamed(store: Store, place: ZarrStore) -> None:
    """Remove the groups of the mark that the root, as it is now, does not name."""
    attributes = read_json(place, "zarr.json", ROOT_BYTES)["attributes"]
    named = {one.get("group", name) for name, one in attributes.get("saved", {}).items()}
    for group in _marked(place) - named:
        for layer in store.layers:
            folder = Path(store.path) / layer.name / group
            if isinstance(store.path, str):
                sync(place.delete_dir(f"{layer.name}/{group}"))
            elif folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                shutil.rmtree(folder)


def _marked(place: ZarrStore) -> set[str]:
    """The groups that a saving has listed; none where the list is not what one writes."""
    found = sync(place.get(_MARK, default_buffer_prototype()))
    try:
        groups = json.loads(found.to_bytes())["groups"] if found else []
        listed = [group for group in groups if isinstance(group, str)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()
    names = {group: group.partition(".")[0] for group in listed}
    return {group for group, name in names.items() if is_free(name) and is_group_of(name, group)}


def _put(place: ZarrStore, key: str, document: Mapping[str, Any]) -> None:
    content = json.dumps(document, indent=2).encode()
    sync(place.set(key, cpu.Buffer.from_bytes(content)))
