"""Making an archive of a store: one file to hand on."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype

from ...errors import UserError
from ...files import new_file
from ...urls import Url
from ..arrays import region_of
from ..check import check
from ..files.archive import Archive
from ..files.raw import FolderFiles, RawFile
from ..files.zip_form import Member, directory, local_header
from ..location import Location, zarr_store
from ..metadata import ROOT_BYTES, consolidated_in, read_json, refusing
from ..reader import Reader, require_complete
from ..recording_reader import RecordingReader
from ..root import kind_at
from ..schema import RECORDING
from ..shards import files_of, key_of
from ..store_reader import StoreReader
from ..zarr_internals import sync

# Bytes that are copied at once.
_BLOCK = 2**20


def archive(path: Path | str, output: Path | str, *, overwrite: bool = False) -> Path:
    """Copy a store or recording into one file, a zip archive of uncompressed members.

    Whatever reads a store reads the archive in place. A store gives the same bytes every time, and
    all of them are verified before the file takes its name.

    Parameters
    ----------
    path : str or path
        A folder, URL or archive.
    output : str or path
        The file; its name ends in ``.zip``.
    overwrite : bool, default False
        Replace an earlier archive at ``output``.

    Returns
    -------
    pathlib.Path
        Path of the archive.

    Raises
    ------
    UserError
        No complete and whole store is at ``path``; ``output`` has another name, exists already, or
        cannot be written to.

    Examples
    --------
    >>> path = fusiform.archive("r18.zarr", "r18.zarr.zip")
    >>> fusiform.open_store(path).folds
    2
    """
    store: Reader = (RecordingReader if kind_at(path) is RECORDING else StoreReader).open(path)
    require_complete(store)
    final = Path(output)
    _refuse(final, overwrite)

    def damaged(fault: str) -> UserError:
        return UserError(
            f"a store is archived if it is whole; {store.path} is damaged ({fault}): "
            f"'fusiform check {store.path}' says more"
        )

    with new_file(final, "an archive") as file:
        with refusing(damaged):
            _write(store, file)
            file.flush()
        if problems := check(Archive(file.name)).problems:
            raise damaged(problems[0])
    return final


def _refuse(output: Path, overwrite: bool) -> None:
    """Raise if an archive may not be written to ``output``."""
    if output.suffix.lower() != ".zip":
        raise UserError(f"an archive's name ends in .zip; got {output}: name it NAME.zarr.zip")
    if not os.path.lexists(output) or output.is_dir():  # new_file refuses a folder
        return
    if not overwrite:
        raise UserError(
            f"the output must not exist; {output} does: choose another, or `overwrite=True`"
        )
    try:
        ours = "zarr.json" in Archive(output).files
    except UserError:
        ours = False
    if not ours:
        raise UserError(
            f"`overwrite=True` replaces archives of stores only; {output} is none: remove it "
            "yourself"
        )


def _write(store: Reader, output: IO[bytes]) -> None:
    """Write all files of a store one after the other, each behind its head, and the directory."""
    source, members = zarr_store(store.path), []
    for key in _keys(store, source):
        start, crc = output.tell(), 0
        with _open(store.path, source, key) as file:
            output.write(local_header(Member(key, start, file.size, crc)))
            for at in range(0, file.size, _BLOCK):
                part = file.read(at, _BLOCK)
                crc = zlib.crc32(part, crc)
                output.write(part)
            members.append(Member(key, start, file.size, crc))
        output.seek(start)  # the checksum is known by now
        output.write(local_header(members[-1]))
        output.seek(0, os.SEEK_END)
    output.write(directory(members, output.tell()))


def _open(location: Location, source: ZarrStore, key: str) -> RawFile:
    if isinstance(location, Url):
        found = sync(source.get(key, default_buffer_prototype()))
        if found is None:
            raise FileNotFoundError(key)
        content = found.to_bytes()
        return RawFile(BytesIO(content), 0, len(content))
    files = location.files if isinstance(location, Archive) else FolderFiles(location)
    return files.open(key)


def _keys(store: Reader, source: ZarrStore) -> Iterator[str]:
    """The files that belong to a store, metadata of the root first.

    Raises
    ------
    Misfit : an array is not what it must be
    """
    documents = consolidated_in(read_json(source, "zarr.json", ROOT_BYTES)) or {}
    yield "zarr.json"
    for key in sorted(documents):
        yield f"{key}/zarr.json"
        if documents[key].get("node_type") == "array":
            grid = store.arrays.opened(key).grid
            yield from (f"{key}/{key_of(place)}" for place in files_of(grid, region_of(grid)))
