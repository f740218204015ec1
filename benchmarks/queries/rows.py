"""Every row that a query finds, written in every format: seconds, rows a second, memory.

Takes stores: one with every block of a network recorded (``r50.zarr``, the README's), others with
many categories or layers. Files lie in the folder for temporary files, up to some GB.
"""

from __future__ import annotations

import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from fusiform.engine.bench.measure import Finished, ratio, run
from fusiform.engine.querying.store import open_store

from ..shared import head, heading, row, save

# Of a process that counts the same rows, and writes none.
COUNTED = "counted"


def options(parser: ArgumentParser) -> None:
    parser.add_argument("stores", type=Path, nargs="*", default=[Path("r50.zarr")])
    parser.add_argument("--rule", default="t > -1")
    parser.add_argument("--formats", nargs="+", default=["csv", "parquet"])
    parser.add_argument("--repeats", type=int, default=3)


def main(arguments: Namespace) -> None:
    formats = [COUNTED, *arguments.formats]
    named = " ".join(path.name for path in arguments.stores)
    lines = [
        *heading(__name__, "Rows written", f"{named} --rule '{arguments.rule}'"),
        f"Medians of {arguments.repeats} processes, start-up included; formats took turns. `query`",
        f"of `{arguments.rule}` with `--list` and the default columns.",
    ]
    for path in arguments.stores:
        lines += _section(path, arguments.rule, formats, arguments.repeats)
    save(__name__, lines)
    print("\n".join(lines))


def _section(path: Path, rule: str, formats: list[str], repeats: int) -> Iterator[str]:
    query = open_store(path).query(rule)
    rows, columns = int(query.counts(["layer"])["matching"].sum()), len(next(query.parts()).columns)
    taken: dict[str, list[Finished]] = {form: [] for form in formats}
    sizes = dict.fromkeys(formats, 0)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            for form in formats:
                output = Path(folder) / f"rows.{form}"
                written = ["--list", "--format", form, "-o", str(output)]
                taken[form].append(run("query", str(path), rule, *written * (form != COUNTED)))
                sizes[form] = output.stat().st_size if output.exists() else 0
                output.unlink(missing_ok=True)
    layers, categories = len(query.layers), len(query.store.categories)
    yield from ("", f"## {path.name}", "")
    given = query.store.provenance
    yield f"{given['model']} ({given['weights']}): {layers:,} layers, {categories:,} categories;"
    yield f"{rows:,} rows of {columns} columns."
    yield from ("", *head("format", "s", "rows/s", "times Parquet", "GB", "peak, MiB"))
    for form, finished in taken.items():
        seconds = [one.seconds for one in finished]
        beside = [one.seconds for one in taken.get("parquet", [])]
        middle = statistics.median(seconds)
        yield row(
            form,
            f"{middle:.1f}",
            "" if form == COUNTED else f"{rows / middle:,.0f}",
            f"{ratio(seconds, beside):.2f}" if beside else "",
            f"{sizes[form] / 1e9:.2f}",
            f"{statistics.median(one.peak_bytes for one in finished) / 2**20:,.0f}",
        )
