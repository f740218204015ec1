"""Hostile tables and archives raise one line, in little memory, without a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fusiform.engine.errors import UserError
from fusiform.engine.stimuli import apart, arrow_tables
from fusiform.engine.stimuli.catalogue import read_catalogue
from fusiform.engine.texts import csv_rows

if sys.platform != "linux":
    pytest.skip("memory is limited and measured as Linux does it", allow_module_level=True)

from .fuzz import tables

MIB = 2**20


def refusal(source: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_catalogue(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- damaged files


def fuzzed(count: int, seed: int) -> tables.Report:
    report = tables.run(count, seed)
    assert report.failures == []
    assert report.count == count
    assert report.peak < tables.MEMORY
    return report


def test_damaged_tables_and_archives_are_read_or_refused() -> None:
    report = fuzzed(150, seed=7)
    assert {kind for kind, _ in report.outcomes} == {"arrow", "h5", "npz", "parquet", "tar"}
    for became in ("read", "refused"):
        assert sum(n for (_, one), n in report.outcomes.items() if one == became) > 10


def test_the_fuzzers_sound_files_are_read(tmp_path: Path) -> None:
    with tables.forking():
        for name, content in tables.seeds().items():
            path = tmp_path / f"sound.{name.split()[0]}"
            path.write_bytes(content)
            assert tables.outcome(path) == ("read", ""), name


# ---- tables


def arrow(path: Path, table: pa.Table, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("format", ["file", "stream"])
def test_both_arrow_formats_are_read(tmp_path: Path, format: str) -> None:
    table = pa.table({"x": [[1], [2]], "category": ["a", "b"], "path": ["1.png", "2.png"]})
    new = pa.ipc.new_file if format == "file" else pa.ipc.new_stream
    with pa.OSFile(str(tmp_path / "set.arrow"), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table)
    assert read_catalogue(tmp_path / "set.arrow").names == ("1.png", "2.png")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_a_text_longer_than_any_path_raises_with_its_row(tmp_path: Path, suffix: str) -> None:
    source, columns = tmp_path / f"set{suffix}", {"path": ["1", "y" * 5000], "category": ["a", "b"]}
    if suffix == ".csv":
        source.write_text(f"path,category\n1,a\n{'y' * 5000},b\n")
    elif suffix == ".parquet":
        parquet.write_table(pa.table(columns), source)
    else:
        arrow(source, pa.table(columns))
    assert f"{'line 3' if suffix == '.csv' else 'row 2'} has more" in refusal(source)


# A reading process with less memory: what a forked one inherits may already be allocated.
LIMITED = """
import sys
from fusiform.engine.stimuli import apart, arrow_tables
apart.MEMORY = 64 * 2**20
arrow_tables.serve([[sys.argv[1]], ["path", "category"], [], "a manifest", ""], sys.stdout)
"""


@pytest.mark.parametrize("name", ["set.arrow", "set.parquet"])
def test_a_table_that_decompresses_without_bound_is_refused(tmp_path: Path, name: str) -> None:
    bomb = pa.table({"path": ["x" * 400 * MIB, "2"], "category": ["a", "b"]})
    if name == "set.arrow":
        arrow(tmp_path / name, bomb, "zstd")
    else:
        parquet.write_table(bomb, tmp_path / name, compression="zstd", use_dictionary=False)
    assert (tmp_path / name).stat().st_size < MIB
    reading = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / name)],
        env={**os.environ, **apart.SPARING},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "reading it" in json.loads(reading.stdout.splitlines()[-1])["refused"]


def test_an_endless_row_is_refused_as_it_arrives(tmp_path: Path) -> None:
    rows = 1_000_000
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), ["1.png"])
    parquet.write_table(pa.table({"path": one, "category": one}), tmp_path / "set.parquet")
    assert (tmp_path / "set.parquet").stat().st_size < MIB
    tracemalloc.start()
    assert "row 2 repeats 1.png" in refusal(tmp_path / "set.parquet")
    assert tracemalloc.get_traced_memory()[1] < 40 * MIB
    tracemalloc.stop()


def test_empty_rows_are_refused_at_the_first(tmp_path: Path) -> None:
    nulls = pa.nulls(2**28)
    arrow(tmp_path / "set.arrow", pa.table({"path": nulls, "category": nulls}))
    assert "row 1 has no path" in refusal(tmp_path / "set.arrow")


@pytest.mark.parametrize("kind", ["ree", "union", "list", "fixed"])
def test_columns_of_unsupported_types_are_refused(tmp_path: Path, kind: str) -> None:
    column = {
        "ree": pa.RunEndEncodedArray.from_arrays([2], ["1.png"]),
        "union": pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array(["1", "2"])]),
        "list": pa.array([["1"], ["2"]], pa.list_view(pa.string())),
        "fixed": pa.array([b"1", b"2"], pa.binary(1)),
    }[kind]
    arrow(tmp_path / "set.arrow", pa.table({"path": column, "category": ["a", "b"]}))
    assert "path of" in refusal(tmp_path / "set.arrow")
    # They are ignored beside valid columns.
    arrow(
        tmp_path / "set.arrow", pa.table({"path": ["1", "2"], "x": column, "category": ["a", "b"]})
    )
    assert read_catalogue(tmp_path / "set.arrow").names == ("1", "2")


def test_a_crashing_table_reader_raises_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = arrow(tmp_path / "set.arrow", pa.table({"path": ["1", "2"], "category": ["a", "b"]}))
    monkeypatch.setattr(arrow_tables, "_batches", lambda *_: os.abort())
    with tables.forking():
        assert "is not (reading it ended by signal 6)" in refusal(source)


# ---- CSV


@pytest.mark.parametrize("text", ["x" * 2**22, 'a,b\n"' + "x\n" * 2**20, "\n" * 9 + "," * 2**22])
def test_an_endless_line_or_cell_of_csv_is_refused(tmp_path: Path, text: str) -> None:
    source = tmp_path / "set.csv"
    source.write_text(text)
    tracemalloc.start()
    with pytest.raises(UserError, match="is not \\("):
        list(csv_rows(source, "a manifest"))
    assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    tracemalloc.stop()


@pytest.mark.parametrize("row", ["a\0b,a", "é\0/é.png,a", "1,a\0"])
def test_a_nul_in_csv_raises(tmp_path: Path, row: str) -> None:
    (tmp_path / "set.csv").write_text(f"path,category\n{row}\n2,b\n")
    assert "NUL" in refusal(tmp_path / "set.csv")


# ---- archives


def header(name: str, kind: bytes = b"0", size: int | bytes = 0) -> bytes:
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[156:157] = kind
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(content: bytes, kind: bytes = b"x") -> bytes:
    return header("pax", kind, len(content)) + padded(content)


def record(name: str, value: str) -> bytes:
    rest = len(f" {name}={value}\n".encode())
    length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
    return f"{length} {name}={value}\n".encode()


def far(size: int) -> bytes:
    return b"\x80" + size.to_bytes(11, "big")


BODY = b"".join(header(f"{k}/1.png", size=3) + padded(b"png") for k in "ab")
HIDDEN, REAL = header("._x", size=3) + padded(b"png"), header("a/2.png", size=3) + padded(b"png")

HOSTILE: dict[str, tuple[bytes, str]] = {
    "a PAX header of gigabytes": (header("p", b"x", far(2**33)), "headers of"),
    "a PAX header of all of gigabytes": (header("p", b"g", far(2**33)), "headers of"),
    "a long name of gigabytes": (header("l", b"L", far(2**33)), "headers of"),
    "a long link of gigabytes": (header("l", b"K", far(2**33)), "headers of"),
    "a negative PAX header": (header("p", b"x", b"\xff" * 12), "headers of"),
    "long names without end": (2000 * (header("l", b"L", 4) + padded(b"name")), "damaged"),
    "PAX headers without end": (2000 * pax(record("comment", "x")), "damaged"),
    "a size that leads back": (pax(record("size", "-1024")) + REAL, "a member of -1,024"),
    "a hidden size that leads back": (pax(record("size", "-512")) + HIDDEN, "a member of -512"),
    "a size that is no number": (pax(record("size", "9" * 5000)) + REAL, "damaged"),
    "a size of terabytes": (pax(record("size", str(2**45))) + REAL, "is cut short"),
    "a size for all": (pax(record("size", "512"), b"g") + REAL, "for all files"),
    "records within records": (pax(b"2 " * 2**18 + b"=") + REAL, "no PAX header"),
    "a record of no length": (pax(b"0 a=b\n") + REAL, "no PAX header"),
    "sparse in PAX 0.0": (pax(record("GNU.sparse.size", "9")) + REAL, "sparse"),
    "sparse in PAX 0.1": (pax(record("GNU.sparse.map", "0,9" * 9)) + REAL, "sparse"),
    "sparse in PAX 1.0": (
        pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")) + REAL, "sparse"),
    "sparse of GNU": (header("a/3.png", b"S", 3) + padded(b"png"), "sparse"),
    "a name without end": (pax(record("path", "a/" + "n" * 9000 + ".png")) + REAL, "a name of"),
    "a hard link to itself": (header("a/3.png", b"1"), "a link"),
    "a header cut short": (REAL[:300], "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("first", [True, False])
def test_hostile_archives_are_refused(tmp_path: Path, name: str, first: bool) -> None:
    hostile, said = HOSTILE[name]
    end = b"" if name == "a header cut short" else bytes(1024)
    first &= bool(end)
    source = tmp_path / "set.tar"
    source.write_bytes((hostile + BODY if first else BODY + hostile) + end)
    os.truncate(source, 2**35 if "gigabytes" in name else source.stat().st_size)  # sparse
    tracemalloc.start()
    assert said in refusal(source)
    assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    tracemalloc.stop()


def test_irrelevant_pax_records_are_ignored(tmp_path: Path) -> None:
    attributes = record("SCHILY.xattr.user", "9" * 300_000) + record("mtime", "1.5")
    named = record("path", "a/" + "é" * 200 + ".png") + record("size", "3")
    archive = pax(record("comment", "0" * 40), b"g") + pax(attributes + named) + REAL + BODY
    (tmp_path / "set.tar").write_bytes(archive + bytes(1024))
    found = read_catalogue(tmp_path)
    assert found.names[0] == f"set.tar/a/{'é' * 200}.png"
    assert found.read(0) == b"png"


def test_a_sparse_file_of_terabytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(BODY + bytes(1024))
    os.truncate(tmp_path / "set.tar", 2**41)
    assert "bytes of zeros" in refusal(tmp_path)


def test_a_shrinking_shard_gives_no_partial_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiform.engine.stimuli import shards

    archive = header("1.png", size=3) + padded(b"png") + header("1.cls", size=5) + padded(b"faces")
    source = tmp_path / "set.tar"
    source.write_bytes(archive + bytes(1024))
    own: Callable[..., str] = shards._label

    def label(path: Path, member: tarfile.TarInfo) -> str:
        os.truncate(path, member.offset_data + 2)
        return own(path, member)

    monkeypatch.setattr(shards, "_label", label)
    assert "is cut short" in refusal(source)


def test_folders_may_be_nested_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    for category in "ab":
        (tmp_path / category).mkdir()
        (tmp_path / category / "1.png").write_bytes(b"png")
    deep = [tmp_path / "a" / "/".join("d" * depth) for depth in range(1, 1100)]
    for folder in deep:
        folder.mkdir()
    try:
        assert len(read_catalogue(tmp_path)) == 2
    finally:  # pytest's own clean-up is recursive
        for folder in reversed(deep):
            folder.rmdir()
