"""Arrays in ``.npy`` and ``.npz`` files: where their bytes are. Nothing is unpickled."""

from __future__ import annotations

import math
import os
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...errors import UserError, nearest, shortened
from ..images import read_part
from .entry import LABELS, MOST_LABELS, Entry, Found

NPY = ".npy"
_OBJECTS = "holds Python objects, which may run code: save texts or numbers (astype(str))"
# A zip file's local header: 26 bytes, then the lengths of the name and of the extra field.
_LOCAL, _LENGTHS = 30, struct.Struct("<26xHH")
_ENCRYPTED = 1


@dataclass(frozen=True)
class Bytes:
    """An array in a file, uncompressed and in C order, from byte ``start`` on."""

    file: Path
    start: int
    shape: tuple[int, ...]
    member: str = ""

    def read(self, row: int, path: Path) -> bytes:
        """Bytes of one row of 8-bit values."""
        size = math.prod(self.shape[1:])
        return read_part(self.file, self.start + row * size, size, path)

    def values(self) -> list[Any]:
        """All values, flat."""
        try:
            loaded = np.load(self.file, allow_pickle=False)
            if not self.member:
                return _flat(loaded)
            with loaded:
                return _flat(loaded[self.member])
        except Exception as error:
            raise _unreadable(self.file, error) from None

    def absolute(self) -> Bytes:
        """The same with an absolute path."""
        return replace(self, file=self.file.absolute())


def _flat(labels: NDArray[Any]) -> list[Any]:
    # Damaged texts have numbers that are no characters, on which Python fails later.
    if labels.dtype.kind == "U":
        codes = labels.ravel().view(np.dtype(np.uint32).newbyteorder(labels.dtype.byteorder))
        if codes.max(initial=0) > sys.maxunicode:
            raise ValueError("its texts are none")
    values: list[Any] = labels.ravel().tolist()
    return values


def npy_file(file: Path, name: str) -> Found:
    """The array of a file and those beside it, from which labels come."""
    if name:
        raise UserError(f"a {NPY} file holds one array; got {file}:{name}: leave out :{name}")
    beside = (file.with_name(label + NPY) for label in LABELS)
    labels = {path.stem: _of_npy(path) for path in beside if path.is_file()}
    return Found({**labels, file.stem: _of_npy(file)}, file.stem)


def npy_folder(folder: Path) -> Found:
    """The arrays of all ``.npy`` files of a folder.

    Raises
    ------
    UserError : a file is damaged, or two have the name of one array
    """
    files = sorted(path for path in folder.iterdir()
                   if not path.name.startswith(".") and not path.is_dir())  # fmt: skip
    own = [path for path in files if path.suffix.lower() == NPY]
    _refuse_repeated(folder, [path.stem for path in own])
    others = [path.name for path in files if path.suffix.lower() != NPY]
    return Found({path.stem: _of_npy(path) for path in own}, notes=_passed(others))


def npz_file(file: Path, name: str) -> Found:
    """The arrays of a ``.npz`` file."""
    try:
        with zipfile.ZipFile(file) as opened, file.open("rb") as raw:
            own = [one for one in opened.infolist() if one.filename.endswith(NPY)]
            members = {one.filename.removesuffix(NPY): one for one in own}
            _refuse_repeated(file, [one.filename for one in own])
            others = [one for one in opened.namelist() if not one.endswith((NPY, "/"))]
            if name and name not in members:
                raise UserError(f"an array is named as in its file; {file} has no {name!r}: "
                                f"{nearest(name, members)}")  # fmt: skip
            entries = {
                own: _of_member(file, opened, raw, one)
                for own, one in members.items()
                if not name or own in (name, *LABELS)
            }
    except UserError:
        raise
    except Exception as error:  # readers of zip files and of headers raise many kinds
        raise _unreadable(file, error) from None
    return Found(entries, name, _passed(others))


def _refuse_repeated(source: Path, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(
                f"an array has a name of its own; {source} has {name} {count} times: keep one"
            )


def _passed(others: Sequence[str]) -> tuple[str, ...]:
    """Note on files that are no arrays."""
    if not others:
        return ()
    return (f"passed over {len(others):,} files beside the {NPY} files: {shortened(others, 3)}",)


def _of_npy(file: Path) -> Entry:
    try:
        with file.open("rb") as opened:
            dtype, shape, is_c = _header(opened)
            start, size = opened.tell(), os.fstat(opened.fileno()).st_size
    except Exception as error:  # NumPy's reader raises many kinds for damaged files
        raise _unreadable(file, error) from None
    unfit = _unfit(dtype, shape, is_c)
    if not dtype.hasobject and start + math.prod(shape) * dtype.itemsize > size:
        raise _unreadable(file, "it is cut short")
    return Entry(file.name, str(dtype), shape, Bytes(file, start, shape), unfit)


def _of_member(file: Path, opened: zipfile.ZipFile, raw: IO[bytes], one: zipfile.ZipInfo) -> Entry:
    name = one.filename.removesuffix(NPY)
    if one.flag_bits & _ENCRYPTED:
        raise _unreadable(file, f"{name} is encrypted")
    with opened.open(one) as member:
        dtype, shape, is_c = _header(member)
        header = member.tell()
    if not dtype.hasobject and header + math.prod(shape) * dtype.itemsize > one.file_size:
        raise _unreadable(file, f"{name} is cut short")
    unfit = _unfit(dtype, shape, is_c)
    if one.compress_type != zipfile.ZIP_STORED:
        unfit = "is compressed: save it with numpy.savez instead of savez_compressed"
    raw.seek(one.header_offset)
    start = one.header_offset + _LOCAL + sum(_LENGTHS.unpack(raw.read(_LOCAL))) + header
    array = Bytes(file, start, shape, name)
    return Entry(f"{file.name}:{name}", str(dtype), shape, array, unfit)


def _header(opened: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Type and shape of an array, and whether it is in C order."""
    version = npy.read_magic(opened)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(opened)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return dtype, shape, not is_fortran or len(shape) < 2


def _unfit(dtype: np.dtype[Any], shape: tuple[int, ...], is_c: bool) -> str:
    if dtype.hasobject:
        return _OBJECTS
    if math.prod(shape) * dtype.itemsize > MOST_LABELS and len(shape) < 3:
        return f"has more than {MOST_LABELS:,} bytes: labels are short texts or numbers"
    return "" if is_c else "is in Fortran order: save numpy.ascontiguousarray(images)"


def _unreadable(file: Path, error: object) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(
        f"{file.suffix} files are written by NumPy; {file} is not, or is damaged ({reason}): "
        "save it again"
    )
