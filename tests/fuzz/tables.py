"""Fuzz Arrow, Parquet and tar files: each is read or refused in one line, in little memory.

    python -m tests.fuzz.tables --count 1000 --seed 0

Every case depends on its number and the seed alone (``--only 123`` repeats it and writes it to a
file). Tables are read as a user's are, except that the reading process is forked: a thousand take
minutes, and a crash of the library is counted.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import os
import random
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from fusiform.commands.notes import printable
from fusiform.engine.errors import UserError
from fusiform.engine.stimuli import apart
from fusiform.engine.stimuli.catalogue import read_catalogue

from .mutations import Report, damaged

# Limits per file: CPU seconds, and bytes above the program's own; and seconds until a case counts
# as hanging.
SECONDS, MEMORY = 10.0, apart.MEMORY + 2**28
_PATIENCE, _LONGEST_LINE = 120, 20_000
_NUMBERS = (-1, 0, 1, -2, 512, -512, 2**20, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1)
_KINDS = (b"0", b"1", b"2", b"3", b"5", b"7", b"g", b"x", b"X", b"L", b"K", b"S", b"V", b"\0")


# ---- files to damage


@cache
def seeds() -> dict[str, bytes]:
    """Sound files by name; names start with the suffix."""
    names = [f"{kind}/{i} é.png" for i in range(40) for kind in ("faces", "places")]
    kinds = [name.partition("/")[0] for name in names]
    plain = pa.table({"path": names, "category": kinds, "note": [[1.5]] * len(names)})
    coded = plain.set_column(1, "category", pa.array(kinds).dictionary_encode())
    views = plain.set_column(0, "path", pa.array(names, pa.string_view()))
    files = {
        "arrow plain": _arrow(plain, pa.ipc.new_file),
        "arrow dictionary": _arrow(coded, pa.ipc.new_file),
        "arrow lz4": _arrow(plain, pa.ipc.new_file, "lz4"),
        "arrow zstd": _arrow(coded, pa.ipc.new_file, "zstd"),
        "arrow stream": _arrow(plain, pa.ipc.new_stream),
        "arrow views": _arrow(views, pa.ipc.new_file),
        "parquet snappy": _parquet(plain),
        "parquet zstd": _parquet(coded, compression="zstd", write_page_checksum=True),
        "parquet pages": _parquet(plain, data_page_version="2.0", data_page_size=64),
        "parquet plain": _parquet(plain, use_dictionary=False, compression="none"),
        "parquet deltas": _parquet(
            plain, use_dictionary=False, column_encoding={"path": "DELTA_BYTE_ARRAY"}
        ),
    }
    for name, form in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
        files[f"tar {name}"] = _tar(form)
    images = np.arange(6 * 9 * 7 * 3, dtype=np.uint8).reshape(6, 9, 7, 3)
    content = io.BytesIO()
    np.savez(content, images=images, labels=np.array([*"ababab"]))
    files["npz"] = content.getvalue()
    files["h5 plain"] = _hdf5(images, np.array([*"ababab"], "S"))
    files["h5 gzip"] = _hdf5(
        images, np.array([*"ababab"], object), compression="gzip", chunks=(2, 9, 7, 3)
    )
    return files


def _hdf5(images: Any, labels: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("images", data=images, **options)
        file["labels"] = labels
    return content.getvalue()


def _arrow(table: Any, new: Callable[..., Any], compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with new(sink, table.schema, options=options) as writer:
        writer.write_table(table, 30)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _parquet(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, row_group_size=30, **options)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _tar(form: int) -> bytes:
    content = io.BytesIO()
    more = {"pax_headers": {"comment": "of all"}} if form == tarfile.PAX_FORMAT else {}
    with tarfile.open(fileobj=content, mode="w", format=form, **more) as tar:  # type: ignore[call-overload]
        for i in range(6):
            for name, body in (
                (f"{'x' * 120}{i}.png", b"png"),
                (f"{'x' * 120}{i}.cls", b"%d" % (i % 2)),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def case(number: int, seed: int) -> tuple[str, bytes, str]:
    """Name of the damaged file, its content, and the mutations applied."""
    chance, files = random.Random(f"{seed}/{number}"), seeds()
    names = sorted(files)
    name = names[number % len(names)]
    content, done = files[name], []
    if chance.random() < 0.6:
        change = _header if name.startswith("tar") else _number
        for _ in range(chance.choice((1, 1, 2))):
            content = change(content, chance)
            done.append(change.__name__.strip("_"))
    if not done or chance.random() < 0.2:
        content, more = damaged(content, files[chance.choice(names)], chance)
        done.append(more)
    return name, content, ", ".join(done)


def _number(content: bytes, chance: random.Random) -> bytes:
    """Replace a number of four or eight bytes, or flip a few bits: lengths and offsets."""
    form = chance.choice("bHiq")
    size = struct.calcsize(form)
    # Half of the time at the end, where a table declares its content.
    first = len(content) * 2 // 3 if chance.random() < 0.5 else 0
    place = chance.randrange(first, len(content) - 8) // size * size
    value = chance.choice(_NUMBERS) & (2 ** (8 * size) - 1)
    return content[:place] + value.to_bytes(size, "little") + content[place + size :]


def _header(content: bytes, chance: random.Random) -> bytes:
    """Change size or kind in a tar header, with a correct checksum."""
    places = [place for place in range(0, len(content) - 512, 512)
              if content[place + 257 : place + 262] == b"ustar"]  # fmt: skip
    if not places:
        return content
    place = chance.choice(places)
    block = bytearray(content[place : place + 512])
    if chance.random() < 0.7:
        value = chance.choice(_NUMBERS)
        binary = b"\x80" if value >= 0 else b"\xff"
        size = binary + value.to_bytes(11, "big", signed=True)
        block[124:136] = chance.choice(
            (size, b"%011o\0" % abs(value % 2**33), chance.randbytes(12))
        )
    if chance.random() < 0.5:
        block[156:157] = chance.choice(_KINDS)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return content[:place] + bytes(block) + content[place + 512 :]


# ---- outcomes


class _Forked:
    """A forked child that reads a file, in place of a ``subprocess.Popen``."""

    def __init__(self, module: str, asked: Any) -> None:
        read, write = os.pipe()
        self.returncode = 0
        self._child = os.fork()
        if not self._child:
            os.close(read)
            code = 1
            try:
                with os.fdopen(write, "w", encoding="utf-8") as answers:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                    faulthandler.disable()
                    import_module(module).serve(asked, answers)
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        self.stdout = os.fdopen(read, "rb")

    def kill(self) -> None:
        os.kill(self._child, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        status = os.waitpid(self._child, 0)[1]
        self.returncode = os.waitstatus_to_exitcode(status)


@contextmanager
def forking() -> Iterator[None]:
    """Read tables in forked processes."""
    own = apart.reader
    apart.reader = _Forked  # type: ignore[assignment]
    try:
        yield
    finally:
        apart.reader = own


def outcome(path: Path) -> tuple[str, str]:
    """``read``, ``refused``, ``ended`` if the reading process crashed, or the failure."""
    try:
        _ = read_catalogue(path).contents
    except UserError as error:
        said = printable(str(error))  # as the command line words it
        if "\n" in str(error) or len(said) > _LONGEST_LINE:
            return "refused", f"a refusal that is no line: {error!r}"
        return ("ended" if "reading it " in said else "refused"), ""
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "read", ""


def run(count: int, seed: int = 0) -> Report:
    """Read ``count`` damaged files."""
    started, report = time.perf_counter(), Report()
    seeds()
    with tempfile.TemporaryDirectory() as folder, forking():
        before = _peak()
        for number in range(count):
            name, content, done = case(number, seed)
            path = Path(folder) / f"case.{name.split()[0]}"
            path.write_bytes(content)
            faulthandler.dump_traceback_later(_PATIENCE, exit=True)
            began = _processor()
            became, wrong = outcome(path)
            seconds = _processor() - began
            faulthandler.cancel_dump_traceback_later()
            label = f"case {number} ({name}; {done})"
            if wrong or seconds > SECONDS:
                report.failures.append(f"{label}: {wrong or 'took'} ({seconds:.1f} s)")
            report.count += 1
            report.outcomes[name.split()[0], became] += 1
            report.slowest = max(report.slowest, seconds)
        report.peak = _peak() - before
    report.seconds = time.perf_counter() - started
    return report


def _processor() -> float:
    """CPU seconds of this process and its children."""
    return sum(os.times()[:4])


def _peak() -> int:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return 1024 * max(resource.getrusage(one).ru_maxrss for one in whose)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    if options.only is not None:
        name, content, done = case(options.only, options.seed)
        path = Path(f"case-{options.only}.{name.split()[0]}")
        path.write_bytes(content)
        print(f"{path}: {name}; {done}: {outcome(path)}")
        return
    report = run(options.count, options.seed)
    for (kind, became), number in sorted(report.outcomes.items()):
        print(f"{kind:8} {became:8} {number:5}")
    print(
        f"{report.count:,} files, {len(report.failures)} failures, slowest {report.slowest:.1f} s, "
        f"peak {report.peak / 2**20:,.0f} MiB, {report.seconds:.0f} s in all"
    )
    print(*report.failures, sep="\n")
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
