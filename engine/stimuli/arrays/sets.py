"""Stimulus sets in arrays: which arrays hold images, and how these get their categories.

Labels beside an array give the category of each of its images. Without labels, every array is a
category.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError, shortened
from ..columns import LONGEST_TEXT, Texts
from ..entries import entries_of, holds_stimuli
from ..images import natural_key
from ..listing import Listing, Source, rows_by_category
from .entry import LABELS, ArrayImages, Entry, Found, Pixels, pixels_of
from .named import arrays_of, split
from .numpy_files import NPY, npy_folder


def list_arrays(source: Source) -> Listing | None:
    """Images of arrays: ``FILE``, ``FILE:ARRAY``, ``FILE:GROUP`` or a folder of ``.npy`` files.

    Categories are in natural order; images of a category in the order of the array.

    Raises
    ------
    UserError : a file is unreadable or damaged, or has no such array; arrays that hold no images,
        or not in place; labels of another number or type
    """
    if _is_folder(source.path):
        return _listing(source.path, npy_folder(source.path), source.path)
    found = split(str(source.path))
    if found is None or not found[0].is_file():
        return None
    return _listing(found[0].parent, arrays_of(*found), source.path)


def _is_folder(path: Path) -> bool:
    """Whether a folder holds ``.npy`` files and no folders that could be categories."""
    return (
        path.is_dir()
        and any(own.suffix.lower() == NPY for own in path.iterdir())
        and not any(holds_stimuli(path / name) for name in entries_of(path).folders)
    )


def _listing(base: Path, found: Found, source: Path) -> Listing:
    entries = found.entries
    label = next((name for name in LABELS if name in entries), None)
    images = {
        name: entry
        for name, entry in entries.items()
        if name == found.chosen or (not found.chosen and len(entry.shape) > 2)
    }
    noted = f" ({'; '.join(found.notes)})" if found.notes else ""
    if not images:
        have = [f"{one.name} ({one.form})" for one in entries.values()]
        raise UserError(
            f"arrays of images have 3 or 4 dimensions; {source} has {shortened(have, 3) or 'none'}"
            f"{noted}: give them the shape of images, or name their group (FILE:GROUP)"
        )
    if len(images) > 1 and label is not None:
        raise UserError(
            f"labels belong to one array of images; {source} has {shortened(images, 3)} beside "
            f"{label}: name one, as FILE:ARRAY"
        )
    if len(images) == 1 and label is None:
        _refuse_unlabelled(next(iter(images.values())), noted)
    chosen = [images[name] for name in sorted(images, key=natural_key)]
    pixels = tuple(map(pixels_of, chosen))
    lengths = [entry.shape[0] for entry in chosen]
    if label is None:
        numbers = np.repeat(np.arange(len(chosen)), lengths)
        rows = rows_by_category(sorted(images, key=natural_key), numbers)
    else:
        rows = _by_label(entries[label], lengths[0])
    others = [name for name in entries if name not in (*images, label)]
    notes = [*found.notes, *(entry.note for entry in chosen if entry.note)]
    if others:
        notes.append(f"passed over arrays that are not images: {shortened(sorted(others), 3)}")
    names = (f"{entry.name}/{row}" for entry in chosen for row in range(entry.shape[0]))
    return Listing(base, Texts.of(names), rows, tuple(notes), images=_images(pixels, lengths))


def _images(arrays: tuple[Pixels, ...], lengths: Sequence[int]) -> ArrayImages:
    """All images of all arrays."""
    numbers = np.repeat(np.arange(len(arrays), dtype=np.int32), lengths)
    rows = [np.arange(length, dtype=np.int64) for length in lengths]
    return ArrayImages(arrays, numbers, np.concatenate(rows))


def _by_label(entry: Entry, number: int) -> dict[str, NDArray[np.int64]]:
    """Rows of every category, in natural order."""
    known: dict[str, int] = {}
    numbers = [known.setdefault(text, len(known)) for text in _texts(entry, number)]
    rows = rows_by_category(known, np.array(numbers, np.int32))
    return {category: rows[category] for category in sorted(rows, key=natural_key)}


def _texts(entry: Entry, number: int) -> Iterator[str]:
    """Labels as texts."""
    if entry.unfit:
        raise UserError(f"labels are read in place; {entry.name} {entry.unfit}")
    if math.prod(entry.shape) != number:
        raise UserError(
            f"every image of an array has one label; {entry.name} has {math.prod(entry.shape):,} "
            f"for {number:,} images: save one for each"
        )
    for row, value in enumerate(entry.array.values()):
        if isinstance(value, bool) or not isinstance(value, int | str | bytes):
            raise UserError(
                f"labels are texts or whole numbers; {entry.name} is {entry.dtype}: save it with "
                "astype(int) or astype(str)"
            )
        text = _text(value)
        if not text or len(text) > LONGEST_TEXT:
            given = "is empty" if not text else f"has {len(text):,} characters"
            raise UserError(
                f"a label is a text of 1 to {LONGEST_TEXT:,} characters; number {row} of "
                f"{entry.name} {given}: correct it"
            )
        yield text


def _text(value: Any) -> str:
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    return text.strip()


def _refuse_unlabelled(entry: Entry, noted: str) -> NoReturn:
    raise UserError(
        f"images of one array need labels; {entry.name} has no array {LABELS[0]} beside it{noted}: "
        f"save one label for each image, or list the images in a manifest, as {entry.name}/0"
    )
