"""Rows of untrusted Parquet and Arrow tables and datasets, read in a separate process.

A malicious table can point outside the file. The process (see :mod:`.apart`) sends texts of limited
length, some rows at a time; of images, where their bytes are in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ..errors import UserError
from ..texts import column_indices
from . import apart
from .apart import SECONDS, answers_of, bound, tell
from .columns import LONGEST_TEXT

_MODULE = "fusiform.engine.stimuli.arrow_tables"
_PARQUET = ".parquet"
# Rows sent at a time.
_AT_ONCE = 1024
# Last bytes of a stream.
_END = b"\xff\xff\xff\xff\0\0\0\0"


def rows_of(
    source: Path, needed: Sequence[str], optional: Sequence[str], rule: str
) -> Iterator[list[str | None]]:
    """Rows of a table as texts: the ``needed`` columns, and the ``optional`` ones that it has.

    Longer texts are cut after ``LONGEST_TEXT + 1`` characters.

    Raises
    ------
    UserError : not such a table, or columns are missing or hold something else, see
        :func:`column_indices <fusiform.engine.texts.column_indices>`
    """
    return _answers([source], needed, optional, rule, "")


def places_of(
    sources: Sequence[Path], image: str, label: str
) -> Iterator[tuple[int, int, int, str | None, str | None]]:
    """Places of the images in the files of a dataset, and their labels.

    Yields for every row the number of the file, first byte of the image in it (-1 if it is not
    there), number of bytes, path and label.

    Raises
    ------
    UserError : a file is damaged or compressed, or its columns are missing or hold something else
    """
    return _answers(sources, [label], [], "", image)


def _answers(sources: Sequence[Path], *asked: Any) -> Iterator[Any]:
    number = 0

    def refused(how: str) -> UserError:
        return UserError(_no_table(sources[number], how))

    for answer in answers_of(_MODULE, [[*map(os.fspath, sources)], *asked], refused):
        if isinstance(answer, int):
            number = answer
        else:
            yield from answer


def serve(asked: Sequence[Any], answers: IO[str]) -> None:
    """Main function of the process: write rows, then an error or null.

    The number of each file comes before its rows.
    """
    import pyarrow

    paths, needed, optional, rule, image = asked
    sources = [*map(Path, paths)]
    answer: Any = None
    source = sources[0]
    try:
        size = sum(one.stat().st_size for one in sources)
        bound(SECONDS + size // 2**20, mapped=size if image else 0)
        for number, source in enumerate(sources):
            tell(number, answers)
            rows = (
                _placed(number, source, image, needed)
                if image
                else map(_rows, _batches(source, needed, optional, rule))
            )
            for part in chain.from_iterable(rows):
                tell(part, answers)
    except UserError as error:
        answer = {"refused": str(error)}
    except MemoryError:
        reason = f"reading it takes more than {apart.MEMORY >> 20:,} MiB of memory"
        answer = {"refused": _no_table(source, reason)}
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = "".join(filter(str.isprintable, str(error).partition("\n")[0]))[:200]
        answer = {"refused": _no_table(source, reason)}
    tell(answer, answers)


def _no_table(source: Path, reason: str) -> str:
    kind = "Parquet" if source.suffix.lower() == _PARQUET else "an Arrow file"
    return f"a {source.suffix} table is {kind}; {source} is not ({reason}): save it again"


def _batches(
    source: Path, needed: Sequence[str], optional: Sequence[str], rule: str
) -> Iterator[Any]:
    """Record batches of the requested columns, in the order requested.

    The file is not memory-mapped: truncating it would crash the process.
    """
    import pyarrow

    def columns_in(schema: Any) -> list[int]:
        found = column_indices(schema.names, needed, optional, rule, source)
        for name, column in found.items():
            _refuse_kind(schema.field(column).type, name, source, numbers=name == "category")
        return list(found.values())

    if source.suffix.lower() == _PARQUET:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(source, buffer_size=2**20, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            names = [schema.names[column] for column in columns_in(schema)]
            batches = file.iter_batches(_AT_ONCE, columns=names, use_threads=False)
            yield from (batch.select(names) for batch in batches)
        return
    with pyarrow.OSFile(os.fspath(source)) as file:
        is_file = file.read(6) == b"ARROW1"
        opened = pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream
        file.seek(0)
        columns = columns_in(opened(file).schema)
        options = pyarrow.ipc.IpcReadOptions(included_fields=columns, use_threads=False)
        file.seek(0)
        reader = opened(file, options=options)
        # Included fields come in the file's order.
        order = [sorted(columns).index(column) for column in columns]
        yield from (batch.select(order) for batch in _whole(file, reader))


def _whole(file: Any, reader: Any) -> Iterator[Any]:
    """Record batches of a file or stream.

    pyarrow takes a stream that is cut short between two batches, or goes on behind its end, for a
    shorter one.
    """
    if hasattr(reader, "get_batch"):
        yield from map(reader.get_batch, range(reader.num_record_batches))
        return
    yield from reader
    end, size = file.tell(), file.size()
    file.seek(max(size - len(_END), 0))
    if file.read() != _END or end != size:
        raise ValueError("it does not end as a stream does: it was cut short, or joined to another")


def _rows(batch: Any, own: Callable[[int, int], list[list[Any]]] | None = None) -> Iterator[Any]:
    """Rows of a batch as texts, some at a time; columns of their ``own`` come first."""
    batch.validate(full=True)  # offsets may point outside the file
    for start in range(0, len(batch), _AT_ONCE):
        part = batch.slice(start, _AT_ONCE)
        first = own(start, len(part)) if own else []
        yield list(zip(*first, *map(_texts, part.columns), strict=True))


def _placed(number: int, source: Path, image: str, needed: Sequence[str]) -> Iterator[Any]:
    """Rows of a dataset's file: its number, where the image is in it, and ``needed`` columns.

    The file is mapped: nothing of the images is read.
    """
    import pyarrow

    with pyarrow.memory_map(os.fspath(source)) as file:
        begin = file.read_buffer(1).address
        file.seek(0)
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        reader = (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(file)
        names = reader.schema.names
        if lacking := [name for name in (image, *needed) if names.count(name) != 1]:
            raise UserError(
                "files of a dataset have its columns, each once; "
                f"{source} has not {', '.join(lacking)}: save the dataset again"
            )
        for name in needed:
            _refuse_kind(reader.schema.field(name).type, name, source, numbers=True)
        for batch in filter(len, _whole(file, reader)):
            images = batch.column(image)
            images.validate(full=True)
            places = _places(images, begin, file.size(), source)
            yield _rows(batch.select(list(needed)), partial(_numbered, number, places))


def _numbered(
    number: int, places: Callable[[int, int], list[list[Any]]], start: int, length: int
) -> list[list[Any]]:
    return [[number] * length, *places(start, length)]


def _places(
    images: Any, begin: int, size: int, source: Path
) -> Callable[[int, int], list[list[Any]]]:
    """Function that gives first byte, length and path of some images of a column.

    Parameters
    ----------
    begin, size : address and bytes of the mapped file
    """
    import numpy as np
    import pyarrow.types as types

    kind = images.type
    parts = range(kind.num_fields if types.is_struct(kind) else 0)
    fields = {kind.field(i).name: images.field(i) for i in parts}
    content, paths = fields.get("bytes"), fields.get("path")
    bytes_of = (types.is_binary, types.is_large_binary)
    if content is None or not any(is_own(content.type) for is_own in bytes_of):
        raise UserError(
            f"images of a dataset are files in a column of bytes and path; that of {source} holds "
            f"{str(kind)[:80]}: cast it to datasets.Image()"
        )
    _, offsets, data = content.buffers()
    wide = types.is_large_binary(content.type)
    ends = np.frombuffer(offsets, np.int64 if wide else np.int32)[content.offset :]
    shift = data.address - begin if data is not None else 0
    if data is not None and data.size and not 0 <= shift <= size - data.size:
        raise UserError(
            f"images of a dataset are read in place; {source} is compressed: save it again "
            "(save_to_disk)"
        )
    there = _valid(images) & _valid(content)

    def places(start: int, length: int) -> list[list[Any]]:
        own = slice(start, start + length)
        cuts = ends[start : start + length + 1].astype(np.int64)
        first = np.where(there[own], cuts[:-1] + shift, -1).tolist()
        texts = _texts(paths.slice(start, length)) if paths is not None else [None] * length
        return [first, np.diff(cuts).tolist(), texts]

    return places


def _valid(column: Any) -> Any:
    """Which values of a column are not null; pyarrow's own function imports pandas."""
    import numpy as np

    bits = column.buffers()[0]
    if bits is None:
        return np.ones(len(column), bool)
    every = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return every[column.offset : column.offset + len(column)].astype(bool)


def _refuse_kind(kind: Any, name: str, source: Path, *, numbers: bool) -> None:
    import pyarrow.types as types

    own = kind.value_type if types.is_dictionary(kind) else kind
    is_text = types.is_string(own) or types.is_large_string(own) or types.is_string_view(own)
    if not (is_text or types.is_null(own) or (types.is_integer(own) and numbers)):
        raise UserError(f"columns of a table hold text; {name} of {source} holds {own}")


def _texts(column: Any) -> list[str | None]:
    """A column as texts; integers, which classes often are, are converted."""
    values = column.to_pylist()
    return [None if value is None else str(value)[: LONGEST_TEXT + 1] for value in values]


if __name__ == "__main__":
    apart.run(serve)
