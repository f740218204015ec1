"""Rows of Parquet and Arrow tables, read in a process of its own.

Tables come from strangers. What expands a few bytes without bound, or points outside of the file,
may end the library that reads it, which is not written in Python: it ends that process alone, which
has a bound on its memory and time. It hands over texts of bounded length, a few rows at a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..errors import UserError
from ..texts import places_of
from .columns import LONGEST_TEXT

_MODULE = "fusiform.engine.stimuli.arrow_tables"
_PARQUET = ".parquet"
# Rows that are handed over at a time.
_AT_ONCE = 1024
# Bytes that reading may take beyond those of its libraries, where the system counts them, and
# seconds of the processor: some, and one for every MiB of the file.
MEMORY, _SECONDS = 2**30, 60
# One thread; and memory that is asked of the system when it is needed, not before.
_SPARING = {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}


def rows_of(
    source: Path, needed: Sequence[str], optional: Sequence[str], rule: str
) -> Iterator[list[str | None]]:
    """Rows of a table: the ``needed`` columns, and the ``optional`` ones that it has, as texts.

    A text that is longer than any may be is cut after its ``LONGEST_TEXT + 1`` first characters.

    Raises
    ------
    UserError : the file is no such table; columns are missing or hold something else, see
        :func:`places_of <fusiform.engine.texts.places_of>`
    """
    with _reader(source, needed, optional, rule) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                answer = json.loads(line)
                if isinstance(answer, list):
                    yield from answer
                elif answer:
                    raise UserError(answer["refused"])
                else:
                    return
        finally:
            process.kill()
    # It has not said that there are no more rows.
    code = process.returncode
    how = (
        f"reading it ended by signal {-code}" if code < 0 else f"reading it ended with code {code}"
    )
    if code in (-signal.SIGKILL, -getattr(signal, "SIGXCPU", 0)):
        how = "reading it takes more memory or time than a table needs"
    raise UserError(_no_table(source, how))


def _reader(
    source: Path, needed: Sequence[str], optional: Sequence[str], rule: str
) -> subprocess.Popen[bytes]:
    asked = json.dumps([os.fspath(source), [*needed], [*optional], rule])
    # This package and its libraries, wherever this process has them from.
    folders = (Path(__file__).parents[3], *map(Path, sys.path))
    path = os.pathsep.join(str(folder.absolute()) for folder in folders)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _MODULE, asked],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_SPARING, "PYTHONPATH": path},
        process_group=0 if os.name == "posix" else None,  # Ctrl-C is not for it
    )


def serve(
    source: Path, needed: Sequence[str], optional: Sequence[str], rule: str, answers: IO[str]
) -> None:
    """Write rows as lines of JSON, then why there are no more, or null: what the process does."""
    import pyarrow

    answer: Any = None
    try:
        _bound(source.stat().st_size)
        for batch in _batches(source, needed, optional, rule):
            batch.validate(full=True)  # it may point outside of the file
            for start in range(0, len(batch), _AT_ONCE):
                part = batch.slice(start, _AT_ONCE)
                rows = zip(*map(_texts, part.columns), strict=True)
                print(json.dumps(list(rows)), file=answers)
    except UserError as error:
        answer = {"refused": str(error)}
    except MemoryError:
        reason = f"reading it takes more than {MEMORY >> 20:,} MiB of memory"
        answer = {"refused": _no_table(source, reason)}
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = "".join(filter(str.isprintable, str(error).partition("\n")[0]))[:200]
        answer = {"refused": _no_table(source, reason)}
    print(json.dumps(answer), file=answers, flush=True)


def _no_table(source: Path, reason: str) -> str:
    kind = "Parquet" if source.suffix.lower() == _PARQUET else "an Arrow file"
    return f"a {source.suffix} manifest is {kind}; {source} is not ({reason})"


def _batches(
    source: Path, needed: Sequence[str], optional: Sequence[str], rule: str
) -> Iterator[Any]:
    """Record batches of the columns that are asked for, in the order in which they are.

    The file is read, never mapped: one that becomes shorter would end the process.
    """
    import pyarrow

    def wanted(schema: Any) -> list[int]:
        places = places_of(schema.names, needed, optional, rule, source)
        for name, place in places.items():
            _refuse_kind(schema.field(place).type, name, source)
        return list(places.values())

    if source.suffix.lower() == _PARQUET:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(source, buffer_size=2**20, page_checksum_verification=True) as file:
            names = [file.schema_arrow.names[place] for place in wanted(file.schema_arrow)]
            batches = file.iter_batches(_AT_ONCE, columns=names, use_threads=False)
            yield from (batch.select(names) for batch in batches)
        return
    with pyarrow.OSFile(os.fspath(source)) as file:
        is_file = file.read(6) == b"ARROW1"
        opened = pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream
        file.seek(0)
        places = wanted(opened(file).schema)
        options = pyarrow.ipc.IpcReadOptions(included_fields=places, use_threads=False)
        file.seek(0)
        reader = opened(file, options=options)
        # Fields that are included keep their order.
        order = [sorted(places).index(place) for place in places]
        number = reader.num_record_batches if is_file else None
        batches = iter(reader) if number is None else map(reader.get_batch, range(number))
        yield from (batch.select(order) for batch in batches)


def _refuse_kind(kind: Any, name: str, source: Path) -> None:
    import pyarrow.types as types

    own = kind.value_type if types.is_dictionary(kind) else kind
    is_text = types.is_string(own) or types.is_large_string(own) or types.is_string_view(own)
    if not (is_text or types.is_null(own) or (types.is_integer(own) and name == "category")):
        raise UserError(f"columns of a manifest hold text; {name} of {source} holds {own}")


def _texts(column: Any) -> list[str | None]:
    """A column as texts; whole numbers, which classes often are, become such."""
    values = column.to_pylist()
    return [None if value is None else str(value)[: LONGEST_TEXT + 1] for value in values]


def _bound(size: int) -> None:
    """Have this process end, rather than take more memory or time than a table of so many bytes."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        most = _SECONDS + size // 2**20
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    source, needed, optional, rule = json.loads(sys.argv[1])
    # What a library prints is no answer.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        serve(Path(source), needed, optional, rule, answers)
