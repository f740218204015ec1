"""Queries find the same units as full arrays do, whatever chunks are skipped."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, get_args

import numpy as np
import pytest
from dask import array as dask_array
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import fusiform
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.select import save_contrast
from fusiform.engine.errors import UserError
from fusiform.engine.querying.block import Block
from fusiform.engine.querying.formats import Format, write
from fusiform.engine.querying.query import Query, top_of_all
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store.reader import map_ahead
from fusiform.engine.store.store_reader import StoreReader
from fusiform.engine.table import Table, joined

from .made import CATEGORIES, LAYERS, fill

STORED = ("t", "t_each", "q_each", "csi")
SIGNS = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
}  # fmt: skip


def plain(store: StoreReader, layer: Any, name: str, category: int) -> np.ndarray:
    """A measure, flag or location of every unit of a layer, from whole arrays."""
    if name in layer.dims:
        return np.indices(layer.shape)[layer.dims.index(name)].ravel()
    if name in ("channel", "y", "x", "token", "unit"):
        return np.full(layer.units, np.nan)  # matches no comparison
    values = store.read(layer, name)
    return values if values.ndim == 1 else values[category]


# A random rule and its evaluation: (text, values by name -> mask).
def comparisons() -> st.SearchStrategy[Any]:
    def rule(name: str, sign: str, value: float) -> Any:
        return f"{name} {sign} {value:g}", lambda of: SIGNS[sign](of(name), float(f"{value:g}"))

    numbers = st.floats(-6, 6).map(lambda v: round(v, 2))
    measured = st.builds(rule, st.sampled_from(STORED), st.sampled_from(sorted(SIGNS)), numbers)
    placed = st.builds(
        rule,
        st.sampled_from(["channel", "y", "x", "token", "unit"]),
        st.sampled_from(sorted(SIGNS)),
        st.integers(-1, 6),
    )
    flags = st.sampled_from(["selective", "dead", "nonfinite"])
    flagged = st.builds(
        lambda name, so: (name, lambda of: of(name)) if so
        else (f"not {name}", lambda of: ~of(name)),
        flags, st.booleans(),
    )  # fmt: skip
    return measured | placed | flagged


def rules() -> st.SearchStrategy[Any]:
    def both(a: Any, b: Any, word: str) -> Any:
        joint = np.logical_and if word == "and" else np.logical_or
        return f"({a[0]}) {word} ({b[0]})", lambda of: joint(a[1](of), b[1](of))

    return st.recursive(
        comparisons(),
        lambda inner: st.builds(both, inner, inner, st.sampled_from(["and", "or"])),
        max_leaves=5,
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rule=rules(), k=st.none() | st.integers(0, len(CATEGORIES) - 1))
def test_a_query_finds_the_units_a_full_scan_of_arrays_finds(
    store: Store, rule: Any, k: int | None
) -> None:
    text, holds = rule
    asked = range(len(CATEGORIES)) if k is None else [k]
    query = store.query(text if k is None else f'"{CATEGORIES[k]}": {text}')
    expected = {
        (layer.name, CATEGORIES[c]): np.flatnonzero(
            holds(lambda name, layer=layer, c=c: plain(store, layer, name, c))
        )
        for layer in LAYERS
        for c in asked
    }
    table = query.units([])
    places = list(table.rows())
    found = [
        (layer.name, CATEGORIES[c], *_places(layer, unit))
        for layer in LAYERS
        for c in asked
        for unit in expected[layer.name, CATEGORIES[c]]
    ]
    # Categories alternate chunk by chunk: the order within a layer is by chunk.
    assert sorted(map(repr, places)) == sorted(map(repr, found))
    counts = query.counts()
    assert counts["matching"].tolist() == [len(units) for units in expected.values()]


def test_query_masks_are_true_where_units_match(store: Store) -> None:
    for text in ("t > 1", "faces: csi > 0.2 and y == 1", "scenes > bodies: t > 1"):
        query = store.query(text)
        units, masks = query.units([]), query.masks()
        for layer in LAYERS:
            matches = masks[layer.name]["matches"]
            assert matches.dims == ("contrast", *layer.dims)
            for contrast in query.contrasts:
                own = (units["layer"] == layer.name) & (units["contrast"] == contrast)
                places = tuple(units[dim][own] for dim in layer.dims)
                mask = matches.sel(contrast=contrast).values
                assert mask[places].all()
                assert mask.sum() == own.sum()


def _places(layer: Any, unit: int) -> tuple[int | None, ...]:
    own = dict(zip(layer.dims, np.unravel_index(unit, layer.shape), strict=True))
    return tuple(
        int(own[dim]) if dim in own else None for dim in ("channel", "y", "x", "token", "unit")
    )


@pytest.mark.parametrize("by", ["t", "csi", "q_each", "d_prime", "category_sparseness"])
@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_the_top_equals_all_units_sorted(store: Store, by: str, size: int) -> None:
    query = store.query("t > -2")
    everything = query.units([by, "t"])
    order = np.argsort((1 if by == "q_each" else -1) * everything[by], kind="stable")
    top = query.top(size, by, [by, "t"])
    assert len(top) == min(size, len(everything))
    assert top[by].tolist() == everything[by][order][:size].tolist()
    assert {*zip(top["layer"], top["contrast"], top["t"], strict=True)} <= {
        *zip(everything["layer"], everything["contrast"], everything["t"], strict=True)
    }


def test_ties_are_in_the_order_of_the_store(store: Store) -> None:
    top = store.query("faces: dead").top(3, by="t", columns=["t"])
    assert top["layer"].tolist() == [layer.name for layer in LAYERS]
    assert top["t"].tolist() == [0, 0, 0]


def test_chunks_that_cannot_match_are_not_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, Any]] = []
    part = StoreReader._part

    def watched(self: StoreReader, key: str, selection: Any = ()) -> Any:
        read.append((key.rpartition("/")[2], selection))
        return part(self, key, selection)

    monkeypatch.setattr(StoreReader, "_part", watched)
    query = store.query("t > 1000")
    assert read == []  # nothing is read in advance
    assert query.counts()["matching"].sum() == 0
    assert {key for key, _ in read} == {"extremes"}
    read.clear()
    best = max(float(store.read(layer, "t").max()) for layer in LAYERS)
    read.clear()
    assert store.query(f"t >= {best:.9g}").top(1, columns=["t"])["t"].tolist() == [best]
    assert [key for key, _ in read].count("t") == 1
    read.clear()
    masks = store.query("t > 2").masks()
    selected = store.select("faces")
    assert isinstance(masks["head"]["matches"].data, dask_array.Array)
    assert isinstance(selected["head"]["selective"].data, dask_array.Array)
    assert read == []
    assert masks["head"]["matches"].values.any()
    assert {key for key, _ in read} == {"extremes", "t"}


def test_only_the_first_chunk_is_read_for_the_first_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusiform.engine.store.chunking._CHUNK_UNITS", 6)  # a channel
    fill(tmp_path / "own.zarr")
    store = open_store(tmp_path / "own.zarr")
    asked: list[Any] = []
    read_slab = StoreReader.read_slab
    monkeypatch.setattr(
        StoreReader, "read_slab", lambda *a, **k: asked.append(a[3]) or read_slab(*a, **k)
    )
    table = store.query("faces: channel == 3 and t > -100", layers="layer1.0").units(["t"])
    assert len(table) == 6
    assert set(table["channel"]) == {3}
    assert asked == [(slice(3, 4), slice(0, 3), slice(0, 2))]


@pytest.mark.smoke
def test_means_and_computed_measures_equal_the_moments(store: Store) -> None:
    table = store.query("bodies: t > 1").units(["t", "p", "d_prime", "response", "means"])
    for layer in LAYERS:
        own = table.take(table["layer"] == layer.name)
        flat = np.ravel_multi_index([own[dim] for dim in layer.dims], layer.shape)
        counts = store.counts[..., np.newaxis]
        mean = (counts * store.read(layer, "mean")).sum(1) / counts.sum(1)
        for k, category in enumerate(CATEGORIES):
            np.testing.assert_allclose(own[f"mean {category}"], mean[k, flat], rtol=1e-12)
        np.testing.assert_allclose(own["response"], mean[1, flat], rtol=1e-12)
        np.testing.assert_array_equal(own["t"], store.read(layer, "t")[1, flat])
        assert ((own["p"] < 0.5) & (own["d_prime"] > 0)).all()


def test_any_contrast_can_be_queried(store: Store) -> None:
    criterion = Criterion("rest", "t > 2")
    for text in ("faces > bodies", "faces + bodies > scenes", "faces - (bodies + scenes)/2"):
        query = store.query(f"{text}: t > 2")
        assert query.contrasts == (text,)
        for layer in LAYERS:
            matches = query.masks()[layer.name]["matches"].values[0]
            np.testing.assert_array_equal(matches, store.mask(text, layer.name, criterion))
    assert "q_each" not in store.query("faces > bodies:").columns
    with pytest.raises(UserError, match="q_each is stored for every category"):
        store.query("faces > bodies: q_each < 0.05")
    with pytest.raises(UserError, match="selective is stored for every category"):
        store.query("faces > bodies: selective")
    # A category against all others is stored, however it is written.
    whole = store.query('faces > bodies + "<b>words</b>" + scenes: t > 2 and q_each < 1')
    assert whole.counts()["matching"].tolist() == (
        store.query("faces: t > 2 and q_each < 1").counts()["matching"].tolist()
    )


def test_saved_contrasts_use_the_chunks_of_their_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another version may chunk stores differently; extremes of other chunks would hide units.
    with monkeypatch.context() as patch:
        patch.setattr("fusiform.engine.store.chunking._CHUNK_UNITS", 6)
        fill(tmp_path / "own.zarr")
    store = open_store(tmp_path / "own.zarr")
    save_contrast(store, "mine", Criterion("rest"), measures=["t"])
    assert fusiform.check(store.path).problems == ()
    for text in ("t > 2", "channel == 4 and t > 0"):
        found, expected = (store.query(text, saved=name).counts() for name in ("mine", None))
        assert found["matching"].tolist() == expected["matching"].tolist()
        assert found["matching"].sum() > 0


def test_a_saved_contrast_is_queried_by_name(own_store: Store) -> None:
    store = own_store
    two = Criterion("student", "q <= 0.1", sides=2)
    save_contrast(store, "two", two, "faces > bodies + scenes", ["t", "q"])
    save_contrast(store, "all", two, measures=["t", "csi", "d_prime"])
    query = store.query("q < 0.05", saved="two")
    assert query.columns == ("t", "q", "d_prime", "means")
    layer = LAYERS[0]
    expected = (store.read(layer, "two/q") < np.float32(0.05)).reshape(layer.shape)
    np.testing.assert_array_equal(query.masks()[layer.name]["matches"].values[0], expected)
    again = store.query("faces>scenes + bodies: q < 0.05", saved="two")
    assert again.counts()["matching"].tolist() == query.counts()["matching"].tolist()
    chosen = store.query("selective", saved="two").counts(["layer"])
    assert chosen["matching"].sum() == sum(store.read(one, "two/selective").sum() for one in LAYERS)
    every = store.query("scenes: d_prime > 1", saved="all").counts(["layer"])
    assert every["matching"].tolist() == [
        int((store.read(one, "all/d_prime")[3] > 1).sum()) for one in LAYERS
    ]
    with pytest.raises(UserError, match="is the saved contrast 'faces > bodies"):
        store.query("faces: q < 0.05", saved="two")
    with pytest.raises(UserError, match="did you mean two"):
        store.query("q < 0.05", saved="tow")
    with pytest.raises(UserError, match="saved for every category"):
        store.query("faces > bodies: t > 2", saved="all")


# Groups, quantiles, histograms


def test_counts_by_group_add_up(store: Store) -> None:
    query = store.query("t > 1")
    total = query.counts()["matching"].sum()
    for by in (["layer"], ["contrast"], ["contrast", "layer"]):
        counts = query.counts(by)
        assert list(counts.columns) == [*by, "matching", "units", "share"]
        assert counts["matching"].sum() == total
        assert counts["units"].sum() == len(CATEGORIES) * sum(layer.units for layer in LAYERS)
    by_channel = query.counts(["layer", "channel"])
    assert by_channel["matching"].sum() < total  # the last layer has no channels
    assert len(by_channel) == 5 + 6  # channels without a match are listed
    assert set(by_channel["units"]) == {6 * 4, 4 * 4}
    units = query.units([])
    for layer, channel, matching, *_ in by_channel.rows():
        own = (units["layer"] == layer) & (units["channel"] == channel)
        assert matching == own.sum()
    places = store.query("faces: t > 1", layers="layer1.0").counts(["y", "x"])
    mask = store.query("faces: t > 1").masks()["layer1.0"]["matches"].values[0]
    assert places["matching"].tolist() == mask.sum(axis=0).ravel().tolist()


def test_quantiles_and_histograms_keep_infinite_values(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a plain loop, for a measure with infinite values and NaN."""
    at = [0, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1]
    units, values_of = store.query("faces:").units(["csi"]), Block.values
    ends = (-0.2, 0.2)

    def shown(values: np.ndarray) -> np.ndarray:
        values = np.where(values > ends[1], np.inf, values)
        return np.where(values < ends[0], -np.inf, np.where(np.abs(values) < 0.02, np.nan, values))

    monkeypatch.setattr(Block, "values", lambda *asked: shown(values_of(*asked)))
    for ends in ((-0.2, 0.2), (-np.inf, 0.2)):
        both = ends[0] == -0.2
        query = store.query("faces:")
        quantiles, histogram = query.quantiles("csi", at), query.histogram("csi", 4)
        for row, layer in enumerate(LAYERS):
            found = shown(units["csi"][units["layer"] == layer.name])
            values = sorted(found[~np.isnan(found)].tolist())
            assert values.count(np.inf)
            assert quantiles["units"][row] == len(values)
            for q in at:
                place = q * (len(values) - 1)
                low, high = values[int(np.floor(place))], values[int(np.ceil(place))]
                share = place - np.floor(place)
                infinite = [end for end in (low, high) if np.isinf(end)]
                expected = infinite[0] if infinite else low + share * (high - low)
                assert quantiles[f"q{100 * q:g}"][row] == pytest.approx(expected)
            bins = [
                (low, high, units)
                for name, low, high, units in zip(
                    *(histogram[column] for column in ("layer", "from", "to", "units")), strict=True
                )
                if name == layer.name
            ]
            assert sum(units for *_, units in bins) == len(values)
            assert bins[-1] == (np.inf, np.inf, values.count(np.inf))
            assert (bins[0] == (-np.inf, -np.inf, values.count(-np.inf))) == both
            assert len(bins) == 5 + both


def test_quantiles_and_histograms_equal_numpys(store: Store) -> None:
    query = store.query("t > 0")
    units = query.units(["csi"])
    quantiles = query.quantiles("csi", [0, 0.3, 1])
    histogram = query.histogram("csi", bins=7)
    edges = np.histogram_bin_edges(units["csi"].astype(float), 7)
    for row, (layer, contrast) in enumerate((la.name, c) for la in LAYERS for c in CATEGORIES):
        own = units["csi"][(units["layer"] == layer) & (units["contrast"] == contrast)]
        assert quantiles["units"][row] == len(own)
        found = [quantiles[name][row] for name in ("q0", "q30", "q100")]
        np.testing.assert_allclose(found, np.quantile(own, [0, 0.3, 1]), rtol=1e-6)
        counts = histogram["units"][7 * row : 7 * row + 7]
        np.testing.assert_array_equal(counts, np.histogram(own.astype(float), edges)[0])
    assert query.quantiles("csi", by=["contrast"])["units"].sum() == len(units)
    nothing = store.query("t > 1000").quantiles("t", [0.5])
    assert np.isnan(nothing["q50"]).all()
    assert store.query("t > 1000").histogram("t", 2)["units"].sum() == 0


# Errors


@pytest.mark.parametrize(
    ("text", "column", "fragment"),
    [
        ("faces: tt > 5", 7, "did you mean t"),
        ("faces: t > 5 and", 16, "a rule continues with a measure"),
        ("facs: t > 5", 0, "did you mean faces"),
        ('"<b>words</b>": t > 5 or csi >', 30, "a number is needed"),
        ("faces: top 5", 7, "a rule names measures"),
        ("faces: not t > 5", 11, "not precedes one of selective"),
        ("faces: (t > 5", 13, "needs ')'"),
        ("faces: q < 0.05", 7, "known: t, t_each, q_each, csi"),
        ("faces: bodies: t > 5", 13, "invalid syntax"),
        ("t > 5; import os", 5, "invalid syntax"),
        ("__import__('os').system('true')", 16, "invalid syntax"),
        ("__import__('os')", 0, "a rule names measures"),
    ],
)
def test_query_errors_point_at_the_place(
    store: Store, text: str, column: int, fragment: str
) -> None:
    with pytest.raises(UserError) as refused:
        store.query(text)
    message, shown, caret = str(refused.value).split("\n")
    assert fragment in message
    assert shown == f"  {text}"
    assert caret.index("^") == column + 2


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="faces: t>5<=andornotcsi()\"'.+-*/%\n\x1b\u202eé;_[]{}", max_size=40))
def test_any_query_text_is_answered_or_refused(store: Store, text: str) -> None:
    with suppress(UserError):
        store.query(text)


def test_unknown_names_in_a_query_raise(store: Store) -> None:
    query = store.query("t > 1")
    with pytest.raises(UserError, match="there is no measure or dimension 'tt'"):
        query.units(["tt"])
    with pytest.raises(UserError, match="there is no measure or dimension 'tt'"):
        query.top(5, by="tt")
    for name in ("dead", "channel"):
        with pytest.raises(UserError, match=f"such as t is needed; {name} is none"):
            query.top(5, by=name)
        with pytest.raises(UserError, match=f"such as t is needed; {name} is none"):
            query.histogram(name)
    with pytest.raises(UserError, match="at least 1 unit"):
        query.top(0)
    with pytest.raises(UserError, match="grouped by layer, contrast, channel"):
        query.counts(["chanel"])
    with pytest.raises(UserError, match="no layer has token and y"):
        query.counts(["token", "y"])
    with pytest.raises(UserError, match="by layer and contrast"):
        query.quantiles("t", by=["channel"])
    with pytest.raises(UserError, match="from 0 to 1"):
        query.quantiles("t", at=[5])
    with pytest.raises(UserError, match="at least 1 bin"):
        query.histogram("t", bins=0)
    with pytest.raises(UserError, match=r"did you mean layer1\.0"):
        store.query("t > 1", layers="layer1")
    with pytest.raises(UserError, match="before its colon"):
        store.query(": t > 1")


# Tables


def read_back(form: str, path: Path) -> dict[str, list[Any]]:
    if form == "csv":
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return {name: [row[name] for row in rows] for name in rows[0]}
    if form == "json":
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {name: [row[name] for row in rows] for name in rows[0]}
    if form == "parquet":
        return parquet.read_table(path).to_pydict()
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].tolist() for name in file}


@pytest.mark.parametrize("form", [form for form in get_args(Format) if form != "table"])
def test_every_table_format_holds_the_units(store: Store, form: Any, tmp_path: Path) -> None:
    query = store.query("t > 1")
    table = query.units(["t", "dead"])
    path = tmp_path / f"units.{form}"
    assert write(query.parts(["t", "dead"]), form, path, io.StringIO()) == len(table)
    found = read_back(form, path)
    assert list(found) == list(table.columns)
    assert found["layer"] == table["layer"].tolist()
    assert found["contrast"] == table["contrast"].tolist()
    assert np.array_equal(np.array(found["t"], np.float32), table["t"])
    missing = {"csv": "", "npz": -1}.get(form)
    channels = [missing if c == -1 else c for c in table["channel"].tolist()]
    assert found["channel"] == (list(map(str, channels)) if form == "csv" else channels)


def test_formulas_are_escaped_in_csv_on_request() -> None:
    texts = ["=1+1", "+1", "-a", "@x", "\t=1", "\r=1", "a=1", "", "'=1", "é"]
    table = Table({"layer": texts, "=mean": np.arange(-5.0, 5.0), "y": np.full(10, -3)})
    written = []
    for guarded in (False, True):
        stream = io.StringIO()
        write([table], "csv", None, stream, guard_formulas=guarded)
        written.append(list(csv.reader(io.StringIO(stream.getvalue(), newline=""))))
    plain, guarded = written
    assert [row[0] for row in plain[1:]] == texts
    assert [row[0] for row in guarded[1:]] == [f"'{text}" for text in texts[:6]] + texts[6:]
    assert guarded[0] == ["layer", "'=mean", "y"]
    assert [row[1:] for row in guarded[1:]] == [
        row[1:] for row in plain[1:]
    ]  # numbers stay numbers
    with pytest.raises(UserError, match="guarded in csv"):
        write([table], "json", None, io.StringIO(), guard_formulas=True)


def test_a_query_without_matches_gives_an_empty_table(store: Store, tmp_path: Path) -> None:
    stream = io.StringIO()
    assert write(store.query("t > 1000").parts(["t"]), "csv", None, stream) == 0
    assert stream.getvalue() == "layer,contrast,channel,y,x,token,unit,t\n"
    stream = io.StringIO()
    write(store.query("t > 1000").parts(["t"]), "json", None, stream)
    assert json.loads(stream.getvalue()) == []
    write(store.query("t > 1000").parts(["t"]), "parquet", tmp_path / "none.parquet", stream)
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0
    assert len(store.query("t > 1000").top(5)) == 0


def test_infinities_and_nan_are_distinguished_in_json() -> None:
    stream = io.StringIO()
    values = [1.5, float("nan"), float("inf"), float("-inf")]
    for dtype in (np.float32, np.float64):
        stream.seek(0)
        write([Table({"a": np.array(values, dtype)})], "json", None, stream)
        read = [row["a"] for row in json.loads(stream.getvalue())]
        assert read == [1.5, None, "Infinity", "-Infinity"]
        assert float(read[2]) == values[2]


def test_binary_table_formats_require_a_file_name(store: Store) -> None:
    for form in ("parquet", "npz"):
        with pytest.raises(UserError, match="name one with `output`"):
            write(store.query("t > 1").parts(), form, None, io.StringIO())  # type: ignore[arg-type]


def test_tables_of_several_stores_are_joined(store: Store) -> None:
    one, other = (store.query("t > 1", layers=name).units(["t"]) for name in ("layer1.0", "head"))
    both = joined([one, other])
    assert len(both) == len(one) + len(other)
    assert set(both["channel"][len(one) :]) == {-1}
    frame = both.frame()
    assert frame["channel"].isna().sum() == len(other)
    tops = [store.query("t > 1", layers=name).top(3) for name in ("layer1.0", "head")]
    assert (
        top_of_all(tops, 3, "t")["t"].tolist()
        == sorted([*tops[0]["t"], *tops[1]["t"]], reverse=True)[:3]
    )
    with pytest.raises(UserError, match="same columns for all stores"):
        write([one, other], "csv", None, io.StringIO())


def test_the_repr_of_a_query_result(store: Store) -> None:
    assert repr(store.query("t > 1")) == "<fusiform query 't > 1' of 65 units in 3 layers>"
    assert isinstance(store.query("t > 1"), Query)


def test_an_abandoned_query_does_not_wait_for_its_threads() -> None:
    # Python may collect it in zarr's thread, for which its own threads wait.
    proceed = Event()
    results = map_ahead(lambda item: item == 0 or proceed.wait(60), range(50), 4)
    assert next(results)
    closing = Thread(target=results.close, daemon=True)
    closing.start()
    closing.join(10)
    waits = closing.is_alive()
    proceed.set()
    assert not waits


def test_the_top_of_no_match_is_empty(store: Store) -> None:
    for by in ("t", "p", "cohens_d"):
        assert len(store.query("t > 1e9").top(5, by=by)) == 0
    assert store.query("t > 1").counts(())["matching"].tolist() == [
        store.query("t > 1").counts()["matching"].sum()
    ]
