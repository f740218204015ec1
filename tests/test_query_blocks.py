"""Blocks change no value of a query, tables are written in batches, and memory is bounded."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from fusiform.engine import blocks, table
from fusiform.engine.blocks import memory_budget
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.select import save_contrast
from fusiform.engine.errors import UserError
from fusiform.engine.querying import formats, query
from fusiform.engine.querying.block import Block
from fusiform.engine.querying.formats import write
from fusiform.engine.querying.store import Store
from fusiform.engine.registry import MEASURES
from fusiform.engine.table import Labels, Table, joined

from .made import CATEGORIES

COMPUTED = [name for name in MEASURES if name not in ("q", "p_null")]


def same(one: Table, other: Table) -> None:
    assert list(one.columns) == list(other.columns)
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name, strict=True)


@pytest.mark.parametrize("test", ["rest", "each", "student"])
def test_contrasts_together_have_the_bits_of_each_alone(own_store: Store, test: Any) -> None:
    save_contrast(own_store, "mine", Criterion(test), measures=["t"])
    columns = [*COMPUTED, "preferred", "dead", "means"]
    for text in ("", "d_prime > 0.2 and p < 0.4"):
        together = own_store.query(text, saved="mine").units(columns)
        assert len(together)
        for name in CATEGORIES:
            alone = own_store.query(f'"{name}": {text}', saved="mine").units(columns)
            same(together.take(together["contrast"] == name), alone)


def test_values_are_the_same_in_blocks_of_any_size(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = store.query("t > 0 and (csi > 0.1 or d_prime > 0.3)")
    sizes: list[int] = []
    values = Block.values

    def watched(self: Block, *arguments: Any) -> Any:
        sizes.append(len(self.queried))
        return values(self, *arguments)

    monkeypatch.setattr(Block, "values", watched)
    whole = asked.units(), asked.top(9, "d_prime"), asked.counts(["contrast"]), asked.top(9)
    assert max(sizes) == len(CATEGORIES)
    monkeypatch.setattr(blocks, "_BLOCK", 1)
    sizes.clear()
    small = asked.units(), asked.top(9, "d_prime"), asked.counts(["contrast"]), asked.top(9)
    assert min(sizes) == 1
    for one, other in zip(whole, small, strict=True):
        same(one, other)


def test_a_query_that_cannot_fit_its_budget_is_refused_in_one_line(store: Store) -> None:
    with memory_budget("1MiB"), pytest.raises(UserError, match=r"one block .* of 1 MiB") as refused:
        store.query("t > 1").counts()
    assert "\n" not in str(refused.value)


def test_a_table_that_does_not_fit_in_memory_says_what_it_costs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = len(store.query("t > 1").units())
    monkeypatch.setattr(blocks, "room", lambda whole: 2000)
    with pytest.raises(UserError, match=f"memory; {rows} rows take .*KiB of 2 KiB.*`parts`"):
        store.query("t > 1").units()
    assert sum(map(len, store.query("t > 1").parts())) == rows


def test_means_of_many_categories_are_no_default_columns(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_means = store.query("t > 1").units()
    monkeypatch.setattr(query, "MOST_MEANS", 3)
    asked = store.query("t > 1")
    assert not asked.has_means
    assert asked.columns == ("t", "t_each", "q_each", "csi", "d_prime")
    without = asked.units()
    assert list(with_means.columns)[-4:] == [f"mean {name}" for name in CATEGORIES]
    assert list(without.columns) == list(with_means.columns)[:-4]
    same(asked.units([*asked.columns, "means"]), with_means)


# Writing


def plain_csv(of: Table) -> Iterator[list[str]]:
    """The cells of a table, each number in Python's shortest form."""
    yield list(of.columns)
    for row in of.rows():
        yield ["" if cell is None else str(cell) for cell in row]


def value_of(cell: str) -> Any:
    try:
        return np.float64(cell)
    except ValueError:
        return cell


def digits(cell: str) -> str:
    """The significant digits of a number: 0.00012 and 1.2e-04 have the same."""
    return cell.partition("e")[0].replace(".", "").strip("-0")


def test_csv_has_the_values_of_python_in_as_few_digits(store: Store) -> None:
    found = store.query("t > -1").units([*store.query("").columns, "dead", "p", "log10_p"])
    stream = io.StringIO()
    assert write([found], "csv", None, stream) == len(found)
    cells = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    expected = list(plain_csv(found))
    assert len(cells) == len(expected)
    for row, own in zip(cells, expected, strict=True):
        np.testing.assert_array_equal(list(map(value_of, row)), list(map(value_of, own)))
        assert list(map(digits, row)) == list(map(digits, own))


def test_the_bytes_of_csv() -> None:
    columns = {
        "layer": Labels(np.array([1, 0, 1], np.int32), ("a b", "é")),
        "a,b": ["", "x", "y"],
        "y": np.array([3, -1, 0], np.int32),
        "ok": np.array([True, False, True]),
        "t": np.array([0.1, np.nan, -5], np.float32),
        "d": np.array([1e-300, np.inf, 1 / 3]),
    }
    stream = io.StringIO()
    write([Table(columns)], "csv", None, stream)
    head, *rows = stream.getvalue().splitlines(keepends=True)
    assert head == 'layer,"a,b",y,ok,t,d\n'
    assert rows == [
        "é,,3,True,0.1,1e-300\n",
        "a b,x,,False,,inf\n",
        "é,y,0,True,-5,0.3333333333333333\n",
    ]
    stream = io.StringIO()
    quoted = ['"', ",", "a\nb", "c\rd", "\udcff"]
    write([Table({"name": quoted, "n": np.arange(5)})], "csv", None, stream)
    text = stream.getvalue()
    assert text == 'name,n\n"""",0\n",",1\n"a\nb",2\n"c\rd",3\n"\\udcff",4\n'
    read = [row[0] for row in csv.reader(io.StringIO(text, newline=""))][1:]
    assert read == [*quoted[:4], "\\udcff"]


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "npz"])
@pytest.mark.parametrize("batch", [1, 2**24])
def test_batches_of_any_size_give_one_table(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any, batch: int
) -> None:
    written = []
    for size in (2**24, batch):
        monkeypatch.setattr(table, "_BATCH", size)
        monkeypatch.setattr(formats, "_IN_MEMORY", size)
        path = tmp_path / f"{size}.{form}"
        parts = [*store.query("t > 1").parts(), *store.query("faces: t > 0").parts()]
        assert write(iter(parts), form, path, io.StringIO()) == sum(map(len, parts))
        if form == "npz":
            with np.load(path, allow_pickle=False) as file:
                written.append({name: file[name].tolist() for name in file})
                assert file["contrast"].dtype == f"<U{max(map(len, CATEGORIES))}"
        elif form == "parquet":
            written.append(parquet.read_table(path).to_pydict())
        else:
            written.append(path.read_bytes())
    assert repr(written[0]) == repr(written[1])
    assert not [path.name for path in tmp_path.iterdir() if path.suffix != f".{form}"]


def test_small_parts_share_a_row_group_and_texts_are_read_as_texts(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "units.parquet"
    write(store.query("t > -9").parts(), "parquet", path, io.StringIO())
    file = parquet.ParquetFile(path)
    assert file.num_row_groups == 1
    assert [str(file.schema_arrow.field(name).type) for name in ("layer", "contrast")] == [
        "string",
        "string",
    ]


def test_labels_of_other_stores_are_joined_as_texts() -> None:
    one, other = (
        Table({"layer": Labels(np.array([0, 1], np.int32), texts)})
        for texts in (("a", "b"), ("b", "c"))
    )
    assert joined([one, other])["layer"].tolist() == ["a", "b", "b", "c"]
    labelled = one.labelled("store", "x.zarr")
    assert list(labelled.rows()) == [("x.zarr", "a"), ("x.zarr", "b")]


# Memory

MANY = """
import sys
import numpy as np
from fusiform.engine.layer import Layer
from fusiform.engine.store.writing.creating import create_store

K, units = 3000, 2400
layer = Layer("head", "Linear", ("unit",), (units,), "float32")
draft = create_store(
    sys.argv[1], layers=[layer], categories=[f"c{k}" for k in range(K)],
    counts=np.full((K, 1), 2), provenance={"model": "noise", "weights": "none"},
    stimuli={
        "stimulus_path": [str(i) for i in range(2 * K)],
        "stimulus_category": np.repeat(range(K), 2), "stimulus_fold": np.zeros(2 * K, int),
        "stimulus_sha256": [f"{i:064x}" for i in range(2 * K)],
        "stimulus_status": ["shown"] * (2 * K),
    },
)
t = np.random.default_rng(0).normal(size=(K, units)).astype(np.float32)
none = np.zeros((K, 1, units), bool)
draft.write_contrasts(layer, {
    "t": t, "t_each": t, "q_each": t, "csi": t, "selective": none[:, 0], "selective_fold": none,
    "dead": none[0, 0], "nonfinite": none[0, 0],
})
draft.complete()
"""
ASKED = """
import io, sys
from pathlib import Path
from fusiform import open_store
from fusiform.engine.querying.formats import write
from fusiform.engine.scanning.memory import peak_memory
import pyarrow.csv, pyarrow.parquet

query = open_store(sys.argv[1]).query("t > -9")
query.counts()
before = peak_memory()
columns = ["t", "t_each", "q_each", "csi"]
print(write(query.parts(columns), sys.argv[2], Path(sys.argv[3]), io.StringIO()))
print(peak_memory() - before)
"""


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_memory_does_not_grow_with_rows(tmp_path: Path, form: str) -> None:
    """7.2 million rows of seven columns are 200 MB as a table, and twice that when it is joined."""

    def run(code: str, *arguments: str) -> list[str]:
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "many.zarr"), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.split()

    run(MANY)
    rows, grown = map(int, run(ASKED, form, str(tmp_path / f"rows.{form}")))
    assert rows == 3000 * 2400
    assert 0 < grown < 300 * 2**20
