"""Arrays in HDF5 files. Only this file imports h5py.

A separate process lists the arrays and reads the labels (see :mod:`..apart`): the library reads
some damaged files forever. Each image is read with the file opened anew: threads, processes and
workers share no handle, and a file that changes is noticed by the hash of what is read. What is not
in chunks is read without the library.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import UserError, is_resource_limit, nearest, shortened
from ..apart import answers_of, bound, run, tell
from ..images import LARGEST, UnfitStimulus
from .entry import LABELS, MOST_LABELS, Array, Entry, Found
from .numpy_files import Bytes

HDF5 = (".h5", ".hdf5")
_MODULE = "fusiform.engine.stimuli.arrays.hdf5"
# Values sent at a time, and CPU seconds of the process: a million labels take one.
_AT_ONCE, _SECONDS = 1024, 8
# Most soft links on the way to an array, as in the library.
_MOST_LINKS = 16
# What h5py raises for damaged files.
_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError)


@dataclass(frozen=True)
class Dataset:
    """A dataset of an HDF5 file."""

    file: Path
    name: str
    shape: tuple[int, ...]

    def read(self, row: int, path: Path) -> bytes:
        """Bytes of one row of 8-bit values."""
        try:
            with _opened(self.file) as opened:
                dataset = opened[self.name]
                if dataset.shape != self.shape or dataset.dtype != np.uint8:
                    raise UnfitStimulus(path, "is in an array whose type or shape has changed")
                return bytes(np.ascontiguousarray(dataset[row]).data)
        except _ERRORS as error:
            if isinstance(error, UserError) or is_resource_limit(error):
                raise
            raise UnfitStimulus(path, f"cannot be read ({_reason(error)})") from None

    def values(self) -> list[Any]:
        """The whole dataset, flat; None for what is no text or whole number."""
        return [value for part in _ask(self.file, self.name, values=True) for value in part]

    def absolute(self) -> Dataset:
        """The same with an absolute path."""
        return replace(self, file=self.file.absolute())


def hdf5_file(file: Path, name: str) -> Found:
    """The datasets of a file or group; those beside it, if ``name`` is that of a dataset.

    Raises
    ------
    UserError : h5py is not installed; the file is unreadable or damaged, or has no such name
    """
    _library(file)
    chosen, notes, *entries = _ask(file, name)
    found: dict[str, Entry] = {}
    for own, place, dtype, lengths, start, unfit, note in entries:
        shape = tuple(lengths)
        # Images in one piece need no library; labels do.
        plain = start is not None and len(shape) > 2
        array: Array = Bytes(file, start, shape) if plain else Dataset(file, place, shape)
        found[own] = Entry(f"{file.name}:{place}", dtype, shape, array, unfit, note)
    return Found(found, chosen, tuple(notes))


def _ask(file: Path, name: str, *, values: bool = False) -> Iterator[Any]:
    """Answers of the process about a file."""
    return answers_of(_MODULE, [os.fspath(file), name, values], lambda how: _unreadable(file, how))


def serve(asked: Sequence[Any], answers: IO[str]) -> None:
    """Main function of the process: write the arrays or values, then an error or null."""
    path, name, values = asked
    file, answer = Path(path), None
    try:
        bound(_SECONDS)
        with _opened(file) as opened:
            for part in _values(opened[name]) if values else _found(opened, file, name.strip("/")):
                tell(part, answers)
    except UserError as error:
        answer = {"refused": str(error)}
    except (*_ERRORS, MemoryError) as error:
        answer = {"refused": str(_unreadable(file, error))}
    tell(answer, answers)


def _values(dataset: Any) -> Iterator[list[Any]]:
    """Values of a dataset, flat, some at a time; None for what is no text or whole number."""
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        # Programs declare texts as ASCII that are not.
        dataset = dataset.asstr("utf-8", "surrogateescape")
    flat = np.asarray(dataset[()]).ravel()
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE].tolist()
        yield [value if isinstance(value, int | str) else None for value in part]


def _found(opened: Any, file: Path, name: str) -> Iterator[Any]:
    """The chosen dataset, notes, then every dataset: its name in the group and that in the file."""
    import h5py

    if _leads_out(opened, name):
        raise UserError(
            f"an array is in its own file; {name} of {file} is a link to another: name that file"
        )
    node = opened.get(name) if name else opened
    if node is None:
        raise UserError(f"an array is named as in its file; {file} has no {name!r}: "
                        f"{nearest(name, _names(opened))}")  # fmt: skip
    is_chosen = isinstance(node, h5py.Dataset)
    group, chosen = node, ""
    if is_chosen:
        parent, _, chosen = name.rpartition("/")
        group = opened[parent] if parent else opened
    inside = "" if group.name == "/" else f"{group.name.strip('/')}/"
    entries: list[list[Any]] = []
    others: list[str] = []
    for own in (one for one in (chosen, *LABELS) if one in group) if chosen else group:
        item = None if _leads_out(group, own) else group.get(own)
        if isinstance(item, h5py.Dataset):
            entries.append([own, f"{inside}{own}", *_described(file, f"{inside}{own}", item)])
        else:
            others.append(own)
    passed = f"passed over what is no array of {file.name} itself: {shortened(others)}"
    yield chosen
    yield [passed] if others else []
    yield from entries


def _leads_out(group: Any, name: str, links: int = _MOST_LINKS) -> bool:
    """Whether the way to ``name`` passes a link to another file, which is not opened.

    A pipe would not let go of the process, and places in another file are not those in this one.
    """
    import h5py

    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return True
        if isinstance(link, h5py.SoftLink):
            start = group.file if link.path.startswith("/") else group
            if not links or _leads_out(start, link.path, links - 1):
                return True
        group = group.get(part)
        if not isinstance(group, h5py.Group):
            return False
    return False


def _names(opened: Any) -> list[str]:
    """Names of all datasets and groups in a file."""
    names: list[str] = []
    opened.visit(names.append)
    return names


def _described(
    file: Path, name: str, dataset: Any
) -> tuple[str, tuple[int, ...], int | None, str, str]:
    """Type, shape, first byte in the file, why it cannot be read in place (or ""), and a note.

    The first byte is None if the dataset is not in one piece.
    """
    shape: tuple[int, ...] = dataset.shape or ()
    chunks = dataset.chunks
    unfit = note = ""
    if dataset.is_virtual or dataset.external:
        unfit = "has its values in other files: copy them into one (h5repack)"
    elif chunks and math.prod(chunks) * dataset.dtype.itemsize > LARGEST:
        unfit = f"has chunks of more than {LARGEST:,} bytes: {_repack(file, name, shape)}"
    elif lacking := _lacking_filter(dataset):
        unfit = f"is compressed by {lacking}, which h5py lacks here: repack it (h5repack -f GZIP=1)"
    elif chunks and dataset.size and len(shape) < 3 and dataset.nbytes > MOST_LABELS:
        unfit = f"has more than {MOST_LABELS:,} bytes: labels are short texts or numbers"
    elif len(shape) > 2 and shape[0] > max(file.stat().st_size, 1):
        unfit = "has more images than its file has bytes: write them into it"
    elif chunks and chunks[0] > 1 and dataset.compression and len(shape) > 2:
        note = (
            f"{file.name}:{name} is compressed in chunks of {' x '.join(map(str, chunks))}, which "
            f"are decompressed for every image: {_repack(file, name, shape)} is faster"
        )
    return str(dataset.dtype), shape, dataset.id.get_offset(), unfit, note


def _repack(file: Path, name: str, shape: tuple[int, ...]) -> str:
    chunk = "x".join(map(str, (1, *shape[1:])))
    return f"h5repack -l {name}:CHUNK={chunk} {file.name} NEW{file.suffix}"


def _lacking_filter(dataset: Any) -> str:
    """Name of a filter that the dataset needs and the library lacks, or ""."""
    import h5py

    created = dataset.id.get_create_plist()
    for number in range(created.get_nfilters()):
        code, _, _, name = created.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            return f"filter {code} ({name.decode(errors='replace')[:80]!a})"
    return ""


def _library(file: Path) -> Any:
    """The module h5py."""
    try:
        import h5py
    except ImportError:
        raise UserError(f"HDF5 files need h5py; got {file}: pip install 'fusiform[hdf5]'") from None
    return h5py


def _opened(file: Path) -> Any:
    """The file opened for reading, without a lock: other programs may have it open."""
    return _library(file).File(file, "r", locking=False)


def _unreadable(file: Path, error: BaseException | str) -> UserError:
    return UserError(
        f"{file.suffix} files are HDF5; {file} is not, or is damaged ({_reason(error)}): restore it"
    )


def _reason(error: BaseException | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:200])


if __name__ == "__main__":
    run(serve)
