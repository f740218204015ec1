"""Coordinates of units from a user's table: kept in the store, shown beside their units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray
from torch import nn

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.scanning.coordinates import read_coordinates
from fusiform.engine.scanning.interrupt import Interrupted

from . import flat
from .fuzz.small import contents
from .made import annotate
from .test_reduce import SMALL, Net
from .test_resume import stopping_after

LAYERS = ["maps", "tokens", "unit"]
UNITS = {"maps": 96, "unit": 5}


def table(*layers: str, seed: int = 0) -> dict[str, Any]:
    """Places in mm of all units of some layers, in random order."""
    rng = np.random.default_rng(seed)
    rows = [(name, unit) for name in layers for unit in range(UNITS[name])]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    names, units = zip(*rows, strict=True)
    x, y = rng.uniform(0, 70, (2, len(rows)))
    return {"layer": list(names), "unit": list(units), "x_mm": x.tolist(), "y_mm": y.tolist()}


def scanned(stimuli: Path, output: Path, coordinates: Any, **options: Any) -> Any:
    given: dict[str, Any] = {"layers": LAYERS, "batch_size": 4, "commit_every": 0, **options}
    net: nn.Module = Net()
    return flat.scan(net, stimuli, output, coordinates=coordinates, preprocessing=SMALL, **given)


def planned(stimuli: Path, _: Path, coordinates: Any, **options: Any) -> Any:
    return flat.plan(Net(), stimuli, preprocessing=SMALL, coordinates=coordinates, **options)


def places(given: dict[str, Any], layer: str, name: str) -> np.ndarray:
    frame = pd.DataFrame(given)
    return frame[frame.layer == layer].sort_values("unit")[name].to_numpy()


def test_coordinates_are_kept_and_shown_beside_their_units(stimuli: Path, tmp_path: Path) -> None:
    given = table("maps", "unit")
    pd.DataFrame(given).to_csv(tmp_path / "places.csv", index=False)
    pd.DataFrame(given).to_parquet(tmp_path / "places.parquet")
    stores = [
        scanned(stimuli, tmp_path / f"{number}.zarr", one)
        for number, one in enumerate([given, tmp_path / "places.csv", tmp_path / "places.parquet"])
    ]
    store = stores[0]
    assert contents(stores[1].path) == contents(store.path) == contents(stores[2].path)
    assert store.coordinates == {"maps": ("x_mm", "y_mm"), "unit": ("x_mm", "y_mm")}
    assert not fusiform.check(store.path).problems
    expected = places(given, "maps", "x_mm")

    rows = store.query("noise: t > -1000").units(columns="t").frame()
    own = rows[rows.layer == "maps"]
    np.testing.assert_array_equal(own.x_mm, expected)
    np.testing.assert_array_equal(rows[rows.layer == "unit"].y_mm, places(given, "unit", "y_mm"))
    assert rows[rows.layer == "tokens"].x_mm.isna().all()
    assert list(rows.columns)[-3:] == ["x_mm", "y_mm", "t"]

    near = store.query("x_mm < 20 and y_mm >= 35").units().frame()
    inside = {
        layer: (places(given, layer, "x_mm") < 20) & (places(given, layer, "y_mm") >= 35)
        for layer in UNITS
    }
    assert set(near.layer) == {"maps", "unit"}
    assert len(near) == 3 * sum(one.sum() for one in inside.values())
    top = store.query("noise: x_mm < 20", layers="maps").top(2, "t").frame()
    assert (top.x_mm < 20).all()

    node = store.dataset("maps")
    assert {"x_mm", "y_mm"} <= set(node.coords)
    np.testing.assert_array_equal(node.t.x_mm.values.reshape(-1), expected)
    assert "x_mm" not in store.dataset("tokens").coords
    mask = store.query("noise: t > 0").masks()["maps"]["matches"]
    np.testing.assert_array_equal(mask.x_mm.values.reshape(-1), expected)
    whole = xarray.open_datatree(store.path, engine="zarr")
    np.testing.assert_array_equal(whole["maps/coordinates"]["x_mm"].values.reshape(-1), expected)


def test_a_scan_continues_only_with_the_same_coordinates(stimuli: Path, tmp_path: Path) -> None:
    given = table("maps")
    whole = scanned(stimuli, tmp_path / "whole.zarr", given)
    with pytest.raises(Interrupted):
        scanned(stimuli, tmp_path / "o.zarr", given, progress=stopping_after(2))
    for other in (table("maps", seed=1), None):
        with pytest.raises(UserError, match="differ in their coordinates of units: others of maps"):
            scanned(stimuli, tmp_path / "o.zarr", other)
    resumed = scanned(stimuli, tmp_path / "o.zarr", given)
    assert contents(resumed.path) == contents(whole.path)
    plain = scanned(stimuli, tmp_path / "plain.zarr", None)
    assert plain.coordinates == {}
    np.testing.assert_array_equal(
        plain.read(plain.layer("maps"), "t"), whole.read(whole.layer("maps"), "t")
    )


def test_merged_and_saved_stores_and_recordings_keep_coordinates(
    stimuli: Path, tmp_path: Path
) -> None:
    given = {name: table(name) for name in UNITS}
    parts = [
        scanned(stimuli, tmp_path / f"{name}.zarr", own, layers=name) for name, own in given.items()
    ]
    store = fusiform.merge([part.path for part in parts], tmp_path / "both.zarr")
    assert store.coordinates == dict.fromkeys(UNITS, ("x_mm", "y_mm"))
    for name in UNITS:
        found = store.coordinate(store.layer(name), "y_mm").reshape(-1)
        np.testing.assert_array_equal(found, places(given[name], name, "y_mm"))
    assert not fusiform.check(store.path).problems
    rest = fusiform.Criterion("rest", "t > 1")
    fusiform.save_contrast(store.path, "own", rest, "noise", ["t"])
    with pytest.raises(UserError, match="coordinates"):
        fusiform.save_contrast(store.path, "coordinates", rest, "noise", ["t"])
    store = fusiform.open_store(store.path)
    rows = store.query("x_mm < 20", layers="maps", saved="own").units().frame()
    assert len(rows) == (places(given["maps"], "maps", "x_mm") < 20).sum()
    assert not fusiform.check(store.path).problems
    recording = flat.record(
        Net(), stimuli, tmp_path / "o.responses.zarr", store=store, random=3, preprocessing=SMALL
    )
    assert [layer.name for layer in recording.layers] == ["maps", "unit"]


def test_names_of_layers_that_are_numbers_stay_as_they_are(tmp_path: Path) -> None:
    layers = [Layer(name, "Linear", ("unit",), (1,), "float32") for name in ("1", "1.1", "1.10")]
    given = {"layer": ["1", "1.1", "1.10"], "unit": [0] * 3, "x_mm": [5.0, 6.0, 7.0]}
    pd.DataFrame(given).to_csv(tmp_path / "t.csv", index=False)
    for table in (given, tmp_path / "t.csv"):
        found = read_coordinates(table, layers)
        assert {name: own["x_mm"].tolist() for name, own in found.items()} == {
            "1": [5.0], "1.1": [6.0], "1.10": [7.0],
        }  # fmt: skip
    assert list(read_coordinates(given | {"layer": [1, 1.1, "1.10"]}, layers)) == [
        "1",
        "1.1",
        "1.10",
    ]
    pd.DataFrame({"layer": [1], "unit": [0], "x_mm": [5.0]}).to_parquet(tmp_path / "t.parquet")
    assert list(read_coordinates(tmp_path / "t.parquet", layers)) == ["1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": ["map"] * 5}, "the coordinates has 'map': did you mean maps"),
        ({"unit": [0, 1, 2, 3, 3]}, "of every unit of a layer, from 0 to 4, once; .* 5 rows of"),
        ({"unit": [1, 2, 3, 4, 5]}, "from 1 to 5"),
        ({"unit": [0, 1, 2, 3, 4.5]}, "from 0 to 4.5"),
        ({"x_mm": [0, 1, 2, 3, np.nan]}, "finite numbers, one for each row; .* others in x_mm"),
        ({"x_mm": [0, 1, 2, 3, None]}, "finite numbers"),
        ({"x_mm": list("abcde")}, "finite numbers"),
        ({"x_mm": [0, 1]}, "as long as each other"),
        ({"x": [0, 1, 2, 3, 4]}, "has 'x': call it x_mm"),
        ({"t": [0, 1, 2, 3, 4]}, "none that queries use; the coordinates has 't'"),
        ({"x mm": [0, 1, 2, 3, 4]}, "letters, digits and _"),
        ({"layer": "unit"}, "the name of a layer in each row"),
        ({"x_mm": torch.ones(5, requires_grad=True)}, "finite numbers"),
    ],
)
def test_tables_that_do_not_fit_the_layers_are_refused(change: dict[str, Any], said: str) -> None:
    layers = [Layer("unit", "Linear", ("unit",), (5,), "float32"),
              Layer("maps", "Conv2d", ("channel", "y", "x"), (6, 4, 4), "float32")]  # fmt: skip
    given = {"layer": ["unit"] * 5, "unit": range(5), "x_mm": [0.0] * 5} | change
    with pytest.raises(UserError, match=said) as refused:
        read_coordinates(given, layers)
    assert "\n" not in str(refused.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path, stimuli: Path) -> None:
    layers = [Layer("unit", "Linear", ("unit",), (5,), "float32")]
    (tmp_path / "bad.parquet").write_text("layer,unit,x_mm\n")
    (tmp_path / "bad.csv").write_text("")
    (tmp_path / "other.csv").write_text("layer,unit\nunit,0\n")
    (tmp_path / "latin.csv").write_bytes(b"layer,unit,gr\xf6\xdfe\nunit,0,1\n")
    (tmp_path / "twice.csv").write_text("layer,unit,x_mm,x_mm\nunit,0,1,2\n")
    for name, said in (
        ("bad.parquet", "cannot read the coordinates"),
        ("bad.csv", "cannot read the coordinates"),
        ("absent.csv", "cannot read the coordinates"),
        ("latin.csv", "cannot read the coordinates"),
        ("twice.csv", "columns of coordinates have different names; .* has several 'x_mm'"),
        ("other.csv", "has columns layer, unit and one or more of numbers; .* has layer, unit"),
        ("places.txt", "is a .csv or .parquet file"),
    ):
        with pytest.raises(UserError, match=said):
            read_coordinates(tmp_path / name, layers)
    with pytest.raises(UserError, match="location"):
        fusiform.Design(coordinates=3)  # type: ignore[arg-type]
    for run in (scanned, planned):
        with pytest.raises(UserError, match="of recorded layers"):
            run(stimuli, tmp_path / "o.zarr", table("maps"), layers="unit")
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.parametrize(
    "record", [{"nosuch": {"x_mm": ""}}, {"maps": {"t": ""}}, {"maps": {"../x": ""}}, {"maps": 3}]
)
def test_coordinates_of_a_strangers_store_are_checked(
    stimuli: Path, tmp_path: Path, record: Any
) -> None:
    store = scanned(stimuli, tmp_path / "o.zarr", table("maps"), layers="maps")
    annotate(store.path, coordinates=record)
    with pytest.raises(UserError, match="coordinates must be hashes by name, of layers"):
        fusiform.open_store(store.path)
