"""Results as data frames: in Python, in files that pandas reads, and in notebooks."""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

import fusiform
from fusiform import Criterion, UserError
from fusiform.cli import app
from fusiform.engine.analyses.analyse import ANALYSES, Analysis
from fusiform.engine.comparing.differences import Comparison
from fusiform.engine.contrasts.summary import Summary
from fusiform.engine.querying.formats import Format, format_of, write
from fusiform.engine.responses import conversion
from fusiform.engine.responses.answer import QUESTIONS, Answer, answer
from fusiform.engine.responses.discrimination import discriminate
from fusiform.engine.responses.driving import driven
from fusiform.engine.responses.tuning import tuning
from fusiform.engine.results import Result, long_form, shares_html
from fusiform.engine.table import Labels, Table

from . import test_responses
from .made import CATEGORIES
from .test_responses import fill as fill_recording

CRITERION = Criterion("rest", "t > 1")
ROWS = [*(name for name in ANALYSES if name != "consistency"), "agreement"]


@pytest.fixture(scope="module")
def analysis(made_path: Path) -> Analysis:
    return fusiform.analyse(made_path, CRITERION, resamples=20, agreement=["floc", "margalit2024"])


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> fusiform.Recording:
    return fusiform.open_recording(fill_recording(tmp_path_factory.mktemp("r") / "r.zarr"))


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("regions") / "regions.csv"
    lines = [
        f"FFA,{subject},{category},{(place * 7 + subject) % 5}"
        for subject in range(3)
        for place, category in enumerate(CATEGORIES)
    ]
    path.write_text("\n".join(["region,subject,category,response", *lines]))
    return path


def results(made: Path, recording: fusiform.Recording, regions: Path) -> Iterator[Result]:
    yield fusiform.analyse(made, CRITERION, resamples=20, agreement=["floc"])
    yield fusiform.summary(made, CRITERION)
    yield fusiform.compare([made, made], CRITERION, resamples=20)
    yield fusiform.compare_regions(made, regions, CRITERION, rearrangements=50)
    yield fusiform.compare_localizers([made, made], CRITERION, resamples=20)
    for question in QUESTIONS:
        layers = "*" if question in ("units", "rdm", "layers") else ["conv", "head"]
        yield answer(recording, question, layers=layers)


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a value, at any depth."""
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, bool | int | float):
        yield float(value)


def in_frame(frame: pandas.DataFrame) -> set[float]:
    found = frame[["value", "low", "high"]].to_numpy().ravel().tolist()
    return {value for value in found if not math.isnan(value)}


# Every value is in the long form


@pytest.mark.parametrize("name", ROWS)
def test_every_number_of_an_analysis_is_in_its_frame(analysis: Analysis, name: str) -> None:
    frame = analysis.frame()
    frame = frame[frame["analysis"] == name]
    rows = getattr(analysis, name)
    assert rows
    by_key: dict[tuple[str, str], set[float]] = {}
    for row in rows:
        key = row.layer, row.category if name == "confusion" else row.contrast
        by_key.setdefault(key, set()).update(numbers(row))
    groups = {key: in_frame(own) for key, own in frame.groupby(["layer", "contrast"])}
    assert groups.keys() == by_key.keys()
    for key, own in by_key.items():
        assert own <= groups[key], (key, own - groups[key])
        # Nothing was added but the inner edges of bins.
        assert name == "specificity" or own == groups[key]


def test_the_columns_of_an_analysis_name_its_values(analysis: Analysis) -> None:
    frame = analysis.frame()
    assert set(frame["store"]) == {analysis.store}
    assert set(frame["criterion"]) >= {analysis.criterion}

    def found(analysis: str, row: Any, quantity: str) -> pandas.DataFrame:
        own = frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
        return own[(own["layer"] == row.layer) & (own["contrast"] == row.contrast)]

    def is_one(own: pandas.DataFrame, *wanted: float | None) -> None:
        (read,) = own[["value", "low", "high"]].to_numpy(float)
        np.testing.assert_array_equal(read, np.array(wanted, float))

    for row in analysis.shares:
        is_one(found("shares", row, "share"), row.share, row.low, row.high)
        of_living = row.share_of_living, row.living_low, row.living_high
        is_one(found("shares", row, "share_of_living"), *of_living)
        is_one(found("shares", row, "living"), row.living, None, None)
    for row in analysis.strength:
        wanted = row.difference, row.difference_low, row.difference_high
        is_one(found("strength", row, "difference"), *wanted)
    for row in analysis.localisation:
        own = found("localisation", row, "map")
        read = own.pivot(index="y", columns="x", values="value").to_numpy(float)
        np.testing.assert_array_equal(read, np.array(row.map, float))
        if row.random:
            wanted = row.random.mean, row.random.low, row.random.high
            is_one(found("localisation", row, "entropy_chance"), *wanted)
    for row in analysis.specificity:
        is_one(found("specificity", row, f"{row.measure}_mean"), row.mean, row.low, row.high)
        if row.histogram is not None:
            own = found("specificity", row, f"{row.measure}_histogram").sort_values("bin")
            assert own["value"].tolist() == list(row.histogram)
            assert (own["low"].iloc[0], own["high"].iloc[-1]) == row.edges
            assert own["high"].tolist()[:-1] == own["low"].tolist()[1:]


def test_similarities_and_distances_are_in_the_frame_once(analysis: Analysis) -> None:
    found = analysis.consistency
    assert found
    frame = analysis.frame()
    frame = frame[frame["analysis"] == "consistency"]
    similarities = ("spearman", "kendall", "cka", "cka_unbiased")
    for name in (*similarities, *(f"{one}_folds" for one in similarities)):
        own = frame[frame["quantity"] == name]
        assert len(own) == len(found.layers) * (len(found.layers) + 1) / 2
        for row in own.itertuples():
            places = found.layers.index(row.layer), found.layers.index(row.other)
            value = getattr(found, name)[places[0]][places[1]]
            assert row.value == value or (value is None and math.isnan(row.value))
    for rdm in found.rdms:
        own = frame[(frame["layer"] == rdm.layer) & (frame["quantity"] == "correlation_distance")]
        assert len(own) == len(CATEGORIES) * (len(CATEGORIES) - 1) / 2
        for row in own.itertuples():
            first, second = (found.categories.index(one) for one in (row.contrast, row.other))
            assert row.value == rdm.rdm[first][second]


@pytest.mark.parametrize("name", ROWS)
def test_a_wide_frame_has_the_fields_of_the_rows(analysis: Analysis, name: str) -> None:
    frame, rows = analysis.frame(name), getattr(analysis, name)
    assert len(frame) == len(rows)
    names = [one.name for one in fields(rows[0])]
    plain = [name for name in names if name in frame]
    assert {"layer"} < set(plain)
    for field in plain:
        own = [getattr(row, field) for row in rows]
        wanted = [np.nan if value is None else value for value in own]
        pandas.testing.assert_series_equal(
            frame[field], pandas.Series(wanted, name=field), check_dtype=False, check_exact=True
        )
    nested = set(names) - set(plain)
    assert nested <= {"random", "quantiles", "edges", "histogram", "map"}


def test_a_wide_frame_of_no_analysis_is_refused(analysis: Analysis, made_path: Path) -> None:
    with pytest.raises(UserError, match="no analysis 'share': did you mean shares"):
        analysis.frame("share")
    some = fusiform.analyse(made_path, CRITERION, analyses="shares", resamples=5)
    with pytest.raises(UserError, match="overlap was not analysed"):
        some.frame("overlap")
    assert set(some.frame()["analysis"]) == {"shares"}


def test_a_summary_is_a_list_and_a_frame(made_path: Path) -> None:
    found = fusiform.summary(made_path, CRITERION)
    assert list(found) == found
    frame = found.frame().set_index(["layer", "contrast", "quantity"]).sort_index()
    for row in found:
        own = frame.loc[(row.layer, row.contrast)]
        whole = own[own["fold"].isna()]["value"]
        names = ("units", "dead", "nonfinite", "selective", "share", "replicated", "csi",
                 "d_prime", "response", "chance", "chance_95")  # fmt: skip
        assert set(whole.index) == set(names)
        wanted = np.array([getattr(row, name) for name in names], float)
        np.testing.assert_array_equal(whole.loc[list(names)], wanted)
        for fold in row.held_out:
            part = own[own["fold"] == fold.fold]["value"]
            wanted = {k: v for k, v in asdict(fold).items() if k != "fold"}
            assert set(part.index) == set(wanted)
            for name, value in wanted.items():
                assert part[name] == value or value is None
    wide = fusiform.open_store(made_path).frame(CRITERION)
    assert [row.share for row in found] == wide["share"].tolist()


def test_a_comparison_is_a_frame_of_values_and_differences(made_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr.zip"
    fusiform.archive(made_path, other)
    found = fusiform.compare([made_path, other, made_path], CRITERION, resamples=20)
    frame = found.frame()
    differences = frame[frame["quantity"].str.endswith("_difference")]
    assert len(differences) == len(found.differences)
    for one, row in zip(found.differences, differences.itertuples(), strict=True):
        assert (row.layer, row.other_layer) == (one.other_layer, one.layer)
        assert (row.contrast, row.quantity) == (one.contrast, f"{one.measure}_difference")
        assert row.store == found.stores[one.second - 1]
        assert row.other_store == found.stores[one.first - 1]
        wanted = np.array([one.difference, one.low, one.high], float)
        np.testing.assert_array_equal([row.value, row.low, row.high], wanted)
    values = frame[~frame["quantity"].str.endswith("_difference")]
    assert len(values) == 3 * len(found.differences) / 2
    for one in found.differences:
        own = values[(values["contrast"] == one.contrast) & (values["quantity"] == one.measure)]
        for number, layer, value in (
            (one.first, one.layer, one.value), (one.second, one.other_layer, one.other_value),
        ):  # fmt: skip
            read = own[(own["layer"] == layer) & (own["store"] == found.stores[number - 1])]
            wanted = np.full(len(read), value, float)
            np.testing.assert_array_equal(read["value"], wanted)
            assert len(read)


def test_a_comparison_with_regions_is_a_frame(made_path: Path, regions: Path) -> None:
    found = fusiform.compare_regions(made_path, regions, CRITERION, rearrangements=50)
    assert set(found.frame()["criterion"]) == {str(CRITERION)}  # as in the frames of other results
    frame = found.frame().set_index(["region", "population", "layer", "quantity"]).sort_index()
    for one in found.correlations:
        own = frame.loc[(one.region, one.population, one.layer)]["value"]
        named = asdict(one) | {"pearson": one.correlation}
        for name in ("units", "pearson", "p", "p_corrected", "ceiling_low", "ceiling_high"):
            np.testing.assert_array_equal(own[name], np.array(named[name], float))
    assert found.best_layers
    for best in found.best_layers:
        own = frame.loc[(best.region, best.population, best.layer)]["value"]
        assert own["held_out_pearson"] == best.correlation
        assert (own["held_out_chosen"], own["held_out_splits"]) == (best.chosen, best.splits)


def test_answers_of_a_recording_are_frames(recording: fusiform.Recording) -> None:
    some = ["conv", "head"]
    frame = answer(recording, "auc", layers=some, contrasts="faces").frame()
    for one in discriminate(recording, "faces", some):
        own = frame[(frame["layer"] == one.layer) & frame["fold"].isna()]
        for name in ("auc", "u", "p"):
            values = own[own["quantity"] == name]
            assert values["unit"].tolist() == one.units.tolist()
            np.testing.assert_array_equal(values["value"], getattr(one, name))
        for fold in range(recording.folds):
            own = frame[(frame["layer"] == one.layer) & (frame["fold"] == fold)]
            values = own[own["quantity"] == "auc"]["value"]
            np.testing.assert_array_equal(values, one.auc_fold[fold])
    conv = frame[(frame["layer"] == "conv") & (frame["quantity"] == "u")]
    places = conv[["channel", "y", "x"]].to_numpy(int)
    assert np.ravel_multi_index(places.T, (4, 3, 3)).tolist() == conv["unit"].tolist()
    assert frame[frame["layer"] == "head"]["channel"].isna().all()

    frame = answer(recording, "tuning", layers=some).frame()
    for tuned in tuning(recording, some):
        own = frame[frame["layer"] == tuned.layer]
        read = own[own["quantity"] == "lifetime_sparseness"]
        assert read["unit"].tolist() == tuned.units.tolist()
        np.testing.assert_array_equal(read["value"], tuned.lifetime_sparseness)
        for name, fold, wanted in (
            ("mean", None, tuned.mean), ("sd", None, tuned.sd), ("mean", 1, tuned.fold_mean[1]),
        ):  # fmt: skip
            asked = own["fold"].isna() if fold is None else own["fold"] == fold
            read = own[asked & (own["quantity"] == name)]
            table = read.pivot(index="category", columns="unit", values="value")
            np.testing.assert_array_equal(table.loc[list(tuned.categories)], wanted)

    frame = answer(recording, "best", layers=some, units=1, images=2).frame()
    for best in driven(recording, None, some, 1, 2) or [None]:
        own = frame[(frame["layer"] == best.layer) & (frame["contrast"] == best.contrast)]
        for name in ("most", "least"):
            images = own[own["quantity"] == name].sort_values("rank")
            wanted = [
                (one.path, one.category, one.row, one.response) for one in getattr(best, name)
            ]
            read = images[["stimulus", "category", "row", "value"]].itertuples(index=False)
            assert [tuple(row) for row in read] == wanted


# Files


def read_back(path: Path) -> pandas.DataFrame:
    if path.suffix == ".csv":
        return pandas.read_csv(path, engine="pyarrow")  # whose numbers are exact in pandas 2 too
    if path.suffix == ".json":
        return pandas.read_json(path, precise_float=True)
    return pandas.read_parquet(path)


def same(read: pandas.DataFrame, frame: pandas.DataFrame) -> None:
    assert list(read) == list(frame)
    for name in frame:
        wanted = frame[name].astype(object).where(frame[name].notna(), None)
        found = read[name].astype(object).where(read[name].notna(), None)
        assert found.tolist() == wanted.tolist(), name


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_pandas_reads_files_as_the_frame(
    made_path: Path, recording: fusiform.Recording, regions: Path, tmp_path: Path, form: Format
) -> None:
    for number, result in enumerate(results(made_path, recording, regions)):
        path = tmp_path / f"{number}.{form}"
        assert write(result.tables(), form, path, io.StringIO()) == len(result.frame()) > 0
        same(read_back(path), result.frame())


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_commands_write_the_frames(
    made_path: Path, recording: fusiform.Recording, tmp_path: Path, form: str
) -> None:
    where = ["--test", "rest", "--where", "t > 1"]
    made, recorded = str(made_path), str(recording.path)
    few = {"resamples": 20}
    asked: dict[str, tuple[list[str], Result]] = {
        "summary": ([made, *where], fusiform.summary(made, CRITERION)),
        "select": ([made, "--contrast", "faces > scenes", *where],
                   fusiform.summary(made, CRITERION, contrasts="faces > scenes")),
        "analyse": ([made, *where, "--resamples", "20"], fusiform.analyse(made, CRITERION, **few)),
        "compare": ([made, made, *where, "--resamples", "20", "--measures", "share,gini"],
                    fusiform.compare([made, made], CRITERION, measures=["share", "gini"], **few)),
        "responses": ([recorded, "tuning", "--layers", "conv"],
                      answer(recording, "tuning", layers="conv")),
    }  # fmt: skip
    for command, (given, result) in asked.items():
        path = tmp_path / f"{command}.{form}"
        done = CliRunner().invoke(app, [command, *given, "-o", str(path)])
        assert done.exit_code == 0, done.output
        assert done.stdout == ""
        same(read_back(path), result.frame())
        if form != "parquet":
            printed = CliRunner().invoke(app, [command, *given, "--format", form])
            assert printed.stdout == path.read_text(encoding="utf-8")


def test_summaries_of_several_stores_are_one_table(made_path: Path, tmp_path: Path) -> None:
    fusiform.archive(made_path, tmp_path / "b.zarr.zip")
    paths = [str(made_path), str(tmp_path / "b.zarr.zip")]
    done = CliRunner().invoke(app, ["summary", *paths, "--format", "csv"])
    frame = pandas.read_csv(io.StringIO(done.stdout))
    assert frame["store"].unique().tolist() == paths
    first, second = (own.drop(columns="store") for _, own in frame.groupby("store", sort=False))
    pandas.testing.assert_frame_equal(first, second.reset_index(drop=True))


def test_the_ending_of_a_file_tells_its_format(tmp_path: Path) -> None:
    assert format_of(None, None) == "table"
    assert format_of("json", None) == "json"
    for form in ("csv", "json", "parquet", "npz"):
        assert format_of(None, tmp_path / f"x.{form.upper()}") == form
        assert format_of(form, tmp_path / f"x.{form}") == form
        assert format_of(form, tmp_path / "x.dat") == form
    refused: dict[tuple[Format | None, str], str] = {
        (None, "x.txt"): r"\.csv, \.json, \.parquet, \.npz; got",
        (None, "csv"): "the ending of a file tells its format",
        ("json", "x.csv"): "got json for .*x.csv: leave out `form`, or end the file in .json",
        ("table", "x.csv"): "a table is printed",
        ("table", "x.txt"): "a table is printed",
    }
    for (form, name), said in refused.items():
        with pytest.raises(UserError, match=said):
            format_of(form, tmp_path / name)
    with pytest.raises(UserError, match="name one with `output`"):
        format_of("parquet", None)
    with pytest.raises(UserError, match="guarded in csv only"):
        format_of(None, None, guard_formulas=True)


def test_formulas_in_names_are_guarded(made_path: Path, tmp_path: Path) -> None:
    tables = [Table({"contrast": ["=1+1", "a"], "other": Labels(np.array([-1, 0]), ("@x",))})]
    stream = io.StringIO()
    write(tables, "csv", None, stream, guard_formulas=True)
    assert stream.getvalue() == "contrast,other\n'=1+1,\na,'@x\n"
    path = tmp_path / "s.csv"
    done = CliRunner().invoke(app, ["summary", str(made_path), "-o", str(path), "--guard-formulas"])
    assert done.exit_code == 0
    same(read_back(path), fusiform.summary(made_path).frame())


def test_a_missing_text_is_missing_in_every_format(tmp_path: Path) -> None:
    table = Table(
        {"a": Labels(np.array([1, -1, 0], np.int32), ("x", "y")),
         "b": np.array([None, "", "z"], object), "n": np.array([np.nan, 1.5, 2])}
    )  # fmt: skip
    assert table.columns["a"].tolist() == ["y", None, "x"]
    assert table.frame()["a"].isna().tolist() == [False, True, False]
    for form in ("csv", "json", "parquet"):
        path = tmp_path / f"x.{form}"
        write([table], form, path, io.StringIO())
        read = read_back(path)
        assert read["a"].isna().tolist() == [False, True, False]
        assert read["n"].isna().tolist() == [True, False, False]
    texts = pandas.read_parquet(tmp_path / "x.parquet")["b"]
    assert texts.isna().tolist() == [True, False, False]
    assert texts.tolist()[1:] == ["", "z"]
    write([table], "npz", tmp_path / "x.npz", io.StringIO())
    with np.load(tmp_path / "x.npz") as kept:
        assert kept["a"].tolist() == ["y", "", "x"]
        assert kept["b"].tolist() == ["", "", "z"]


def test_no_column_is_lost_on_the_way_to_the_long_form() -> None:
    whole = Table({"layer": ["a"], "share": np.ones(1), "low": np.zeros(1), "high": np.ones(1)})
    with pytest.raises(KeyError, match="columns that would be lost: high, low, share"):
        whole.arranged({"layer": str})
    long = long_form(whole, {"share": ""})
    assert long.frame().to_dict("records") == [
        {"layer": "a", "quantity": "share", "value": 1.0, "low": 0.0, "high": 1.0}
    ]
    assert long_form(whole)["quantity"].tolist() == ["share", "low", "high"]


# Notebooks


def test_every_result_is_shown_in_notebooks_and_escaped(
    made_path: Path, recording: fusiform.Recording, regions: Path
) -> None:
    for result in results(made_path, recording, regions):
        html = result._repr_html_()
        assert html.startswith("<div>")
        assert repr(result).startswith(f"<fusiform.{type(result).__name__}: frame()")
        assert len(repr(result)) < 100  # a notebook keeps it, too
        frame = result.frame()
        assert f"{len(frame):,} rows x {len(frame.columns)} columns" in html
        if isinstance(result, Analysis | Summary):
            assert html.count("<tr>") == 1 + len({row.layer for row in fusiform.summary(made_path)})
        else:
            assert f"{min(len(frame), 10)} of {len(frame):,} rows" in html
            assert html.count("<tr>") == 1 + min(len(frame), 10)
        assert "frame()" in html
        # What draws it is a function that exists; answers of a recording have none.
        drawn = re.findall(r"fusiform\.plot\.(\w+)", html)
        assert bool(drawn) == (not isinstance(result, Answer | Comparison))
        assert set(drawn) <= set(fusiform.plot.__all__)
    fusiform.archive(made_path, regions.with_name("b.zarr.zip"))
    alone = answer(recording, "layers", layers="conv")  # no pair of layers
    assert "0 of 0 rows" in alone._repr_html_()
    assert alone.frame().empty
    compared = fusiform.compare(
        [made_path, regions.with_name("b.zarr.zip")], CRITERION, resamples=5
    )
    assert all(str(path) in compared._repr_html_() for path in compared.stores)
    contrasts = "<b>words</b>"
    named = [
        fusiform.analyse(made_path, CRITERION, contrasts=[f"'{contrasts}'"], resamples=5),
        fusiform.summary(made_path, CRITERION, contrasts=[f"'{contrasts}'"]),
        fusiform.compare([made_path] * 2, CRITERION, contrasts=[f"'{contrasts}'"], resamples=5),
    ]
    for result in named:
        html = result._repr_html_()
        assert contrasts not in html
        assert "&lt;b&gt;words&lt;/b&gt;" in html


def test_shares_are_a_table_in_percent_of_the_leading_contrasts() -> None:
    shares = {(f"l{i}", f"c{k}"): (k + 1) / 1000 for i in range(300) for k in range(30)}
    html = shares_html(shares)
    head, *rows = re.findall(r"<tr>(.*?)</tr>", html)
    assert re.findall(r"<th[^>]*>(.*?)</th>", head)[1:] == [f"c{k}" for k in range(20, 30)]
    assert len(rows) <= 20
    assert re.findall(r"<td>(\w+)</td>", rows[0] + rows[-1]) == ["l0", "l299"]
    assert re.findall(r">([\d.]+)</span>", rows[0]) == [f"{k / 10:.2f}" for k in range(21, 31)]
    assert "10 of 30 contrasts (those that peak highest)" in html
    assert "<p>" not in shares_html({("l", "<i>"): 0.0})
    assert "&lt;i&gt;" in shares_html({("l", "<i>"): 0.0})


def test_checkpoints_name_what_draws_them(made_path: Path) -> None:
    found = fusiform.compare([made_path] * 2, CRITERION, at=[0, 1], resamples=5)
    assert "fusiform.plot.training(comparison, layer)" in found._repr_html_()


def test_a_recording_is_shown_in_notebooks_and_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ("<i>faces</i>", *test_responses.CATEGORIES[1:])
    monkeypatch.setattr(test_responses, "CATEGORIES", named)
    html = fusiform.open_recording(fill_recording(tmp_path / "r.zarr"))._repr_html_()
    assert "<i>" not in html
    assert "&lt;i&gt;faces" in html
    assert "fusiform.Recording" in html
    assert "to_anndata()" in html
    assert "168 units, chosen by faces, random" in html


# Recordings


def test_a_recording_has_named_coordinates(recording: fusiform.Recording) -> None:
    found = recording.to_xarray(["conv", "head"])
    assert found["response"].dims == ("stimulus", "unit")
    assert found["chosen"].dims == ("choice", "unit")
    assert found["stimulus"].values.tolist() == list(recording.stimulus_column("stimulus_path"))
    names = [recording.categories[place] for place in recording.labels]
    assert found["category"].values.tolist() == names
    assert found["fold"].values.tolist() == recording.fold_of.tolist()
    assert found["shown"].values.tolist() == recording.shown.tolist()
    assert found["choice"].values.tolist() == ["faces", "random"]
    assert found["layer"].values.tolist() == ["conv"] * 6 + ["head"] * 12
    units = np.concatenate([recording.units("conv"), recording.units("head")])
    assert found["unit"].values.tolist() == units.tolist()
    along = np.array([found[dim].values[:6] for dim in ("channel", "y", "x")], int)
    assert np.ravel_multi_index(tuple(along), (4, 3, 3)).tolist() == units[:6].tolist()
    assert np.isnan(found["channel"].values[6:]).all()
    assert found["response"].chunks is not None  # lazy
    np.testing.assert_array_equal(
        found["response"].values, np.hstack([recording.part("conv"), recording.part("head")])
    )
    chosen = found["response"].where(found["chosen"].sel(choice="faces"), drop=True)
    assert chosen["unit"].values.tolist() == [
        *recording.units("conv")[recording.chosen("conv")[0]],
        *recording.units("head")[recording.chosen("head")[0]],
    ]
    head = recording.to_xarray("head")
    assert not {"channel", "y", "x"} & set(head.coords)  # of no layer that was asked for


def test_a_recording_is_a_frame(recording: fusiform.Recording) -> None:
    frame = recording.frame(["conv", "head"])
    assert frame.index.names == ["stimulus", "category", "fold"]
    assert frame.columns.names == ["layer", "unit", "channel", "y", "x"]
    np.testing.assert_array_equal(frame["conv"], recording.part("conv"))
    np.testing.assert_array_equal(frame["head"], recording.part("head"))
    faces = frame.xs("faces", level="category")["head"]
    np.testing.assert_array_equal(faces, recording.part("head")[recording.labels == 0])


def test_projected_layers_and_too_many_units_are_no_frame(
    recording: fusiform.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    for convert in (recording.frame, recording.to_xarray):
        with pytest.raises(UserError, match="wide was recorded as a projection"):
            convert()
    monkeypatch.setattr(conversion.blocks, "room", lambda **_: 1000)
    with pytest.raises(UserError, match=r"18 units to 38 stimuli take .* choose fewer `layers`"):
        recording.frame(["conv", "head"])


def test_anndata_holds_a_recording(recording: fusiform.Recording, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    recording.to_anndata(["conv", "head"]).write_h5ad(tmp_path / "r.h5ad")
    found = anndata.read_h5ad(tmp_path / "r.h5ad")
    np.testing.assert_array_equal(
        found.X, np.hstack([recording.part("conv"), recording.part("head")])
    )
    assert found.obs_names.tolist() == list(recording.stimulus_column("stimulus_path"))
    assert found.obs["category"].cat.categories.tolist() == list(recording.categories)
    assert found.obs["category"].tolist() == [recording.categories[k] for k in recording.labels]
    assert found.obs["fold"].tolist() == recording.fold_of.tolist()
    assert found.obs["shown"].tolist() == recording.shown.tolist()
    assert found.var_names[:2].tolist() == ["conv:1", "conv:4"]
    assert found.var["layer"].tolist() == ["conv"] * 6 + ["head"] * 12
    assert found.var["x"].isna().tolist() == [False] * 6 + [True] * 12
    assert found.uns["choices"].tolist() == ["faces", "random"]
    wanted = np.hstack([recording.chosen("conv"), recording.chosen("head")])
    np.testing.assert_array_equal(found.varm["chosen"].T, wanted)


def test_without_anndata_it_says_what_to_install(
    recording: fusiform.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(UserError, match=r"needs anndata: pip install 'fusiform\[anndata\]'"):
        recording.to_anndata("head")
