"""Catalogues of up to a million stimuli: seconds, bytes per entry.

Every set is read and planned in a process of its own. Manifests list the hashes of files that do
not exist: planning reads no image. Shards hold tiny pictures, which are read and hashed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..shared import again, head, heading, save

NUMBERS = (1_000, 100_000, 1_000_000)
IN_SHARDS = (1_000, 100_000)
CATEGORIES, PER_SHARD = 100, 10_000
MANIFESTS = ("csv", "parquet")


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--set", help="one set, here")


def main(arguments: Namespace) -> None:
    if arguments.set:
        print(json.dumps(measure(arguments.set)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in (*MANIFESTS, "shards"):
            smallest: dict[str, Any] = {}
            for number in IN_SHARDS if kind == "shards" else NUMBERS:
                source = make(Path(folder) / f"{number}.{kind}", number)
                found = json.loads(again(__name__, "--set", str(source)).output)
                smallest = smallest or found
                rows.append(_row(kind, number, found, smallest))
                print(rows[-1], flush=True)
    lines = [
        *heading(__name__, "What a catalogue costs"),
        f"{CATEGORIES} categories; names of 24 bytes in manifests, which give SHA-256 too,",
        "of 25 in shards. Every row is a process of its own.",
        "",
        "`read`: from the file to a catalogue, every path looked at for links; `plan`: folds,",
        "order, batches; `hash`: every image read, hashed, its header looked at. `held`: bytes of",
        "the arrays of catalogue, hashes and plan for an entry, names included. `resident`: by how",
        "much the memory of the process grew, and at its peak, for an entry more than the smallest",
        "set has; what the process has freed and keeps for later is in it.",
        "Other programs had the machine's cores as well: compare `of CPU`, not `read`.",
        "",
        *head(
            "source", "entries", "read", "of CPU", "plan", "hash", "held", "resident", "at its peak"
        ),
        *rows,
    ]
    save(__name__, lines)


def _row(kind: str, number: int, found: dict[str, Any], smallest: dict[str, Any]) -> str:
    more = number - smallest["entries"]

    def per_entry(name: str) -> str:
        return f"{(found[name] - smallest[name]) / more:.0f} B" if more else "-"

    hashed = f"{found['hash']:.2f} s" if kind == "shards" else "-"
    return (
        f"| {kind} | {number:,} | {found['read']:.2f} s | {found['cpu']:.2f} s | "
        f"{found['plan']:.2f} s | {hashed} | {found['held'] / number:.1f} B | "
        f"{per_entry('resident')} | {per_entry('peak')} |"
    )


def make(path: Path, number: int) -> Path:
    """A set of ``number`` entries, of the kind that the suffix says."""
    categories = [f"c{i % CATEGORIES:03d}" for i in range(number)]
    if path.suffix == ".shards":
        path.mkdir()
        for start in range(0, number, PER_SHARD):
            with tarfile.open(path / f"{start:08d}.tar", "w") as tar:
                for i in range(start, min(start + PER_SHARD, number)):
                    _add(tar, f"{i:08d}.png", _picture(i))
                    _add(tar, f"{i:08d}.cls", categories[i].encode())
        return path
    names = [f"{category}/{i:015d}.jpg" for i, category in enumerate(categories)]
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    if path.suffix == ".csv":
        lines = (",".join(row) for row in zip(names, categories, hashes, strict=True))
        path.write_text("path,category,sha256\n" + "\n".join(lines) + "\n")
    else:
        import pyarrow
        from pyarrow import parquet

        columns = {"path": names, "category": categories, "sha256": hashes}
        parquet.write_table(pyarrow.table(columns), path)
    return path


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _picture(i: int) -> bytes:
    content = io.BytesIO()
    pixels = np.frombuffer(i.to_bytes(12, "little"), np.uint8).reshape(2, 2, 3)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def measure(source: str) -> dict[str, Any]:
    """Read and plan one set, in this process."""
    import pyarrow.parquet  # noqa: F401  what reads a manifest is not what it costs

    from fusiform.engine.moments.plan import make_plan
    from fusiform.engine.scanning.memory import peak_memory
    from fusiform.engine.stimuli.catalogue import read_catalogue
    from fusiform.engine.stimuli.shards import Members

    started, cpu = time.perf_counter(), time.process_time()
    catalogue = read_catalogue(source)
    read, cpu = time.perf_counter() - started, time.process_time() - cpu
    started = time.perf_counter()
    plan = make_plan(catalogue.labels, catalogue.categories)
    planned = time.perf_counter() - started
    started = time.perf_counter()
    digests = catalogue.contents.digests
    hashed = time.perf_counter() - started
    names, members = catalogue.names, catalogue.images
    arrays = [names.content, names.ends, catalogue.labels, digests, plan.order, plan.fold_of]
    if isinstance(members, Members):
        arrays += [members.shard, members.start, members.size]
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "entries": len(catalogue),
        "read": read,
        "cpu": cpu,
        "plan": planned,
        "hash": hashed,
        "held": sum(array.nbytes for array in arrays),
        "resident": resident,
        "peak": peak_memory(),
    }
