"""Stimulus table of an untrusted packed set; accepts only what fusiform itself writes.

Never reads more into memory than the files have bytes, whatever the metadata say.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...preprocessing import Preprocessing
from ..columns import LONGEST_TEXT, SHA256_BYTES, Texts
from ..listing import Listing, Source, rows_by_category
from .layout import (
    CHECKSUM,
    METADATA,
    PICTURES,
    PREPARED,
    SCHEMA,
    VERSION,
    checksum_of,
    column_path,
    metadata,
)
from .pictures import Pictures

_MOST_METADATA, _MOST_STIMULI = 2**20, 2**27


def list_packed(source: Source) -> Listing | None:
    """Pictures and categories of a packed set, in its order.

    Raises
    ------
    UserError : not a packed set written by ``fusiform stimuli pack``, or damaged
    """
    folder = source.path
    if not os.path.isfile(folder / METADATA):  # noqa: PTH113 - raises nothing
        return None
    try:
        return _listed(folder)
    except (_Misfit, OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            "stimuli in a zarr store are a set packed by 'fusiform stimuli pack'; "
            f"{folder} is not, or is damaged ({reason}): pack the set again"
        ) from None


class _Misfit(Exception):
    """Reason why a folder is not a packed set."""


def _listed(folder: Path) -> Listing:
    root = json.loads(_read(folder / METADATA, _MOST_METADATA))
    arrays = _at(root, "consolidated_metadata", "metadata")
    if _at(root, "attributes", "schema") != SCHEMA:
        raise _Misfit("it has another schema")
    if _at(root, "attributes", "schema_version") != VERSION:
        raise _Misfit(f"its version is not {VERSION}: another fusiform wrote it")
    preprocessing = _preprocessing(_at(root, "attributes", "preprocessing"))
    shapes = [_at(arrays, name, "shape") for name in (PICTURES, "category")]
    lengths = [shape[0] if isinstance(shape, list) and shape else 0 for shape in shapes]
    for length in lengths:
        if type(length) is not int or not 0 < length <= _MOST_STIMULI:
            raise _Misfit(f"it has {length!a} stimuli or categories")
    number, categories = lengths
    if arrays != metadata(number, categories, preprocessing.crop):
        raise _Misfit("its arrays differ from those of a packed set")
    names = list(_texts(folder, "category", categories))
    size = number * 4 + CHECKSUM
    labels = np.frombuffer(_checked(column_path(folder, "stimulus_category"), size), "<i4")
    if len(labels) != number or labels.min() < 0 or labels.max() >= categories:
        raise _Misfit("its stimuli have unknown categories")
    if len(set(names)) != categories:
        raise _Misfit("it has a category twice")
    paths = Texts.of(_texts(folder, "stimulus_path", number))
    row = np.arange(number, dtype=np.int64)
    return Listing(
        folder,
        paths,
        rows_by_category(names, labels),
        _notes(root["attributes"].get("notes", [])),
        digests=_digests(folder, number),
        images=Pictures(folder, preprocessing, number, row),
    )


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(document, dict) or key not in document:
            raise _Misfit(f"its metadata lacks {key}")
        document = document[key]
    return document


def _notes(notes: Any) -> tuple[str, ...]:
    """Notes made when the set was packed."""
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise _Misfit("its notes are not texts")
    return tuple(notes)


def _preprocessing(record: Any) -> Preprocessing:
    known = record if isinstance(record, dict) else {}
    if {name: type(value) for name, value in known.items()} != PREPARED:
        raise _Misfit("its preprocessing is missing or incomplete")
    try:
        return Preprocessing(**record)
    except UserError as error:
        raise _Misfit(str(error)) from None


def _read(path: Path, most: int) -> bytes:
    """Content of a file of at most ``most`` bytes."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        raise _Misfit(f"{path.name} has {found.st_size:,} bytes, at most {most:,} are read")
    return path.read_bytes()


def _checked(path: Path, most: int) -> bytes:
    """Content of a chunk of at most ``most`` bytes, without its checksum."""
    content = _read(path, most)
    content, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    if checksum_of(content) != checksum:
        raise _Misfit(f"the checksum of column {path.parts[-3]} does not match")
    return content


def _texts(folder: Path, column: str, number: int) -> Iterator[str]:
    most = 4 + number * (4 + LONGEST_TEXT) + CHECKSUM
    content = _checked(column_path(folder, column), most)
    end = 4
    for _ in range(number):
        start = end + 4
        end = start + int.from_bytes(content[end:start], "little")
        if end > len(content):
            break
        yield content[start:end].decode()
    if end != len(content) or int.from_bytes(content[:4], "little") != number:
        raise _Misfit(f"the number of texts in {column} differs from its number of rows")


def _digests(folder: Path, number: int) -> NDArray[np.uint8]:
    digests = np.zeros((number, SHA256_BYTES), np.uint8)
    for row, text in enumerate(_texts(folder, "stimulus_sha256", number)):
        digest = bytes.fromhex(text)
        if len(digest) != SHA256_BYTES or not any(digest):
            raise _Misfit("it has an invalid SHA-256")
        digests[row] = np.frombuffer(digest, np.uint8)
    return digests
