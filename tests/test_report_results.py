"""Results on a report's page: training, two localizers, brain regions, lesions."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import fusiform
from fusiform import UserError, open_store
from fusiform.engine.layer import Layer
from fusiform.engine.lesions.result import Effect, LesionDifference, LesionEffects, Silenced
from fusiform.engine.reporting.automatic import MOST_CHECKPOINTS
from fusiform.engine.reporting.findings import rounded
from fusiform.engine.results import Result

from . import made
from .test_report import data_of
from .test_report_page import Opened, browser

__all__ = ["browser"]

KINDS = ("training", "localizers", "regions", "lesions")
FIGURES = ("training-1", "onsets-1", "localizers-2", "crossed-2", "regions-3", "lesions-4")
HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "=1+1<b>",
    "scenes",
)
EPOCHS = (0, 1, 2, 5, 12, 40)
LESIONS = ("selective", "matched", "least")
QUANTITIES = ("probability", "<i>margin</i>")


def growing(epoch: int) -> Any:
    """Responses that prefer a category the more, the later the epoch."""

    def drawn(layer: Layer) -> list[list[np.ndarray]]:
        rng = np.random.default_rng(epoch)
        units = np.arange(layer.units)
        return [
            [rng.normal(0.05 * epoch * (units % 5 == k), 1, (n, layer.units)) for n in counts]
            for k, counts in enumerate(made.COUNTS)
        ]

    return drawn


def relabel(path: Path, shas: Sequence[str]) -> None:
    """Give the stimuli of a store other checksums."""
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    group["stimulus_sha256"][:] = np.array(shas, dtype=object)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, a second localizer of the last one, and a table of regions."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "CATEGORIES", HOSTILE)
        for epoch in EPOCHS:
            made.fill(folder / f"<b>epoch_{epoch:03}.zarr", drawn=growing(epoch))
        made.fill(folder / "second.zarr", drawn=growing(30))
        number = int(made.COUNTS.sum())
        relabel(folder / "second.zarr", [f"{i + 10**6:064x}" for i in range(number)])
    rows = [["region", "category", "response"]]
    rows += [["<b>FFA", name, str((k * 7 + 3) % 5)] for k, name in enumerate(HOSTILE)]
    rows += [["PPA", name, str(k)] for k, name in enumerate(HOSTILE)]
    with (folder / "regions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder


def lesion(store: Path) -> LesionEffects:
    """A result as of :func:`fusiform.measure_lesions`, with made-up numbers."""
    rng = np.random.default_rng(0)

    def effects() -> Iterator[Effect]:
        for quantity in QUANTITIES:
            for name in LESIONS:
                for category in HOSTILE:
                    change = float(rng.normal())
                    draws = (change - 0.25, change + 0.5) if name == "matched" else (None, None)
                    yield Effect(quantity, name, category, 20, 0.75, 0.75 + change, change,
                                 change - 1, change + 1.5, *draws)  # fmt: skip

    differences = tuple(
        LesionDifference(quantity, name, category, value, value - 1, value + 2)
        for quantity in QUANTITIES
        for name in LESIONS[1:]
        for category, value in zip(HOSTILE, rng.normal(size=4).tolist(), strict=True)
    )
    return LesionEffects(
        store=str(store),
        provenance=open_store(store).provenance,
        contrast=HOSTILE[0],
        contrast_row="",
        criterion="t > 3",
        layers=("layer1.0", "head"),
        readout="classes",
        quantities=QUANTITIES,
        categories=HOSTILE,
        selected_on="other folds",
        stimuli=80,
        draws=5,
        resamples=1000,
        seed=0,
        silenced=tuple(Silenced(name, "head", 3.5, 11, 0.25) for name in LESIONS),
        effects=tuple(effects()),
        differences=differences,
    )


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    """A result of every kind."""
    checkpoints = [folder / f"<b>epoch_{epoch:03}.zarr" for epoch in EPOCHS]
    measures = ["share", "csi", "replicated"]
    return {
        "training": fusiform.compare(
            checkpoints, measures=measures, against="previous", resamples=20
        ),
        "localizers": fusiform.compare_localizers(
            [checkpoints[-1], folder / "second.zarr"], resamples=20
        ),
        "regions": fusiform.compare_regions(
            checkpoints[-1], folder / "regions.csv", control_units=True, rearrangements=24
        ),
        "lesions": lesion(checkpoints[-1]),
    }


@pytest.fixture(scope="module")
def report(folder: Path, results: Mapping[str, Any]) -> Path:
    """A page of one store, and of all results."""
    output = folder / "page.html"
    store = folder / f"<b>epoch_{EPOCHS[-1]:03}.zarr"
    fusiform.report(store, output, results=list(results.values()), resamples=20)
    return output


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return report.read_text(encoding="utf-8")


def rows(result: Mapping[str, Any], table: str) -> list[dict[str, Any]]:
    """Rows of a table on the page, with names for indices."""
    columns = result["tables"][table]
    found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    names = {"layer": result["layers"], "contrast": [one["name"] for one in result["contrasts"]]}
    return [{key: names[key][value] if key in names else value for key, value in row.items()}
            for row in found]  # fmt: skip


def expected(values: Sequence[Any], **changed: Any) -> list[dict[str, Any]]:
    return [rounded(asdict(one) | {name: of(one) for name, of in changed.items()})
            for one in values]  # fmt: skip


# Numbers


def test_the_page_has_every_number_of_the_results(page: str, results: Mapping[str, Any]) -> None:
    shown = {one["kind"]: one for one in data_of(page)["results"]}
    assert [*shown] == [*KINDS]
    run, pair, brains, lesions = (results[kind] for kind in KINDS)

    def place(end: str) -> Any:
        return lambda one: None if getattr(one, end) is None else run.at.index(getattr(one, end))

    assert rows(shown["training"], "values") == expected(run.values)
    assert rows(shown["training"], "onsets") == expected(
        run.onsets, first=place("first"), lasting=place("lasting")
    )
    assert any(one.lasting is not None for one in run.onsets)
    assert shown["training"]["at"] == list(run.at)
    assert (shown["training"]["axis"], shown["training"]["positions"][3]) == ("epoch", "5")
    label = {"contrast": lambda one: pair.labels[one.contrast]}
    assert rows(shown["localizers"], "overlap") == expected(pair.overlap, **label)
    assert rows(shown["localizers"], "cross_validation") == expected(pair.cross_validation, **label)
    assert rows(shown["regions"], "correlations") == expected(
        brains.correlations, contrast=lambda one: one.population
    )
    assert any(one.random_units is not None for one in brains.correlations)
    for table in ("effects", "differences", "silenced"):
        assert rows(shown["lesions"], table) == expected(getattr(lesions, table))


def test_positions_keep_all_their_digits(folder: Path, results: Mapping[str, Any]) -> None:
    at = tuple(1_234_567.0 + one for one in range(len(EPOCHS)))
    moved = replace(results["training"], at=at, onsets=())
    store = folder / f"<b>epoch_{EPOCHS[0]:03}.zarr"
    fusiform.report(store, folder / "at.html", results=[moved], resamples=5)
    (shown,) = data_of((folder / "at.html").read_text(encoding="utf-8"))["results"]
    assert shown["at"] == list(at)
    assert shown["positions"][:2] == ["1,234,567", "1,234,568"]


def test_captions_say_what_is_shown_and_where_intervals_come_from(page: str) -> None:
    figures = re.findall(r'data-figure="(\w+)".*?<figcaption>(.*?)</figcaption>', page)
    said = {name: html.unescape(text) for name, text in figures}
    assert "6 checkpoints of made-up: <b>epoch_000, " in said["training"]
    assert "20 draws of whole feature maps" in said["training"]
    for name in ("training", "onsets"):
        assert "Exploratory: not corrected" in said[name]
    assert "second (made-up, none)" in said["localizers"]
    assert "24 permutations, corrected over layers" in said["regions"]
    assert "random units" in said["regions"]
    assert "matched, other units" in said["lesions"]
    assert "1,000 draws of stimuli" in said["lesions"]
    assert "selected on other folds" in said["lesions"]


def test_a_page_tells_no_location(page: str, folder: Path) -> None:
    assert str(folder) not in html.unescape(page)
    assert folder.name not in page


def test_categories_have_the_colours_of_the_page(page: str) -> None:
    data = data_of(page)
    colours = {one["name"]: one["light"] for one in data["contrasts"]}
    for result in data["results"]:
        for one in result["contrasts"]:
            if one["name"] in colours:
                assert one["light"] == colours[one["name"]]
            else:
                assert one["light"] not in colours.values()


def test_sections_are_absent_without_results(folder: Path, page: str) -> None:
    store = folder / f"<b>epoch_{EPOCHS[0]:03}.zarr"
    fusiform.report(store, folder / "none.html", resamples=5)
    text = (folder / "none.html").read_text(encoding="utf-8")
    assert data_of(text)["results"] == []
    for kind in KINDS:
        assert f'id="{kind}-section"' in page
        assert f'href="#{kind}-section"' in page
        assert f"{kind}-section" not in text


def test_two_results_of_a_kind_are_told_apart(folder: Path, results: Mapping[str, Any]) -> None:
    store = folder / f"<b>epoch_{EPOCHS[0]:03}.zarr"
    both = [results["lesions"], replace(results["lesions"], store=str(store))]
    fusiform.report(store, folder / "two.html", results=both, resamples=5)
    text = html.unescape((folder / "two.html").read_text(encoding="utf-8"))
    titles = re.findall(r'<h3 id="lesions-\d-title">(.*?)</h3>', text)
    assert [title.rpartition(": ")[2] for title in titles] == [
        "<b>epoch_040 (made-up, none)", "<b>epoch_000",
    ]  # fmt: skip


def test_the_same_results_give_the_same_bytes(
    folder: Path, results: Mapping[str, Any], report: Path
) -> None:
    store = folder / f"<b>epoch_{EPOCHS[-1]:03}.zarr"
    fusiform.report(store, folder / "again.html", results=list(results.values()), resamples=20)
    assert (folder / "again.html").read_bytes() == report.read_bytes()


def test_other_results_raise(folder: Path, results: Mapping[str, Any]) -> None:
    store = folder / f"<b>epoch_{EPOCHS[0]:03}.zarr"
    other = fusiform.summary(store)
    assert isinstance(other, Result)
    without = replace(results["training"], axis=None, at=None)
    for result, said in ((other, "got Summary"), ("x.json", "got str"), (without, "no positions")):
        with pytest.raises(UserError, match=said):
            fusiform.report(store, folder / "raises.html", results=[result], resamples=5)
    assert not (folder / "raises.html").exists()


# Sections that appear by themselves


def checkpoints(folder: Path, *epochs: int) -> list[Path]:
    return [folder / f"<b>epoch_{epoch:03}.zarr" for epoch in epochs]


def kinds(page: Path) -> list[str]:
    return [one["kind"] for one in data_of(page.read_text(encoding="utf-8"))["results"]]


def test_many_checkpoints_are_shown_in_training_and_two_in_other_figures(
    folder: Path, results: Mapping[str, Any]
) -> None:
    assert len(EPOCHS) > MOST_CHECKPOINTS
    shuffled = checkpoints(folder, 5, 40, 0, 2, 12, 1)
    fusiform.report(shuffled, folder / "run.html", resamples=20)
    text = (folder / "run.html").read_text(encoding="utf-8")
    data = data_of(text)
    assert [one["label"] for one in data["stores"]] == ["A: <b>epoch_040", "B: <b>epoch_000"]
    (run,) = data["results"]
    assert rows(run, "values") == expected(results["training"].values)
    assert run["networks"][0] == "B: <b>epoch_000"
    assert "show 2 of 6 checkpoints: the last and the first" in text


def test_few_checkpoints_are_shown_in_all_figures(folder: Path) -> None:
    few = checkpoints(folder, 0, 5, 40)
    fusiform.report(few, folder / "few.html", resamples=5)
    data = data_of((folder / "few.html").read_text(encoding="utf-8"))
    assert len(data["stores"]) == 3
    assert [one["at"] for one in data["results"]] == [[0, 5, 40]]


def test_positions_can_be_given(folder: Path, tmp_path: Path) -> None:
    stores = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    for own, store in zip(checkpoints(folder, 0, 40), stores, strict=True):
        store.symlink_to(own)
    fusiform.report(stores, folder / "given.html", at=[2.5, 1000], resamples=5)
    data = data_of((folder / "given.html").read_text(encoding="utf-8"))
    assert [(one["axis"], one["at"]) for one in data["results"]] == [("checkpoint", [2.5, 1000])]
    for at, said in (([1], "position of every network"), ([1, 1], "different positions")):
        with pytest.raises(UserError, match=said):
            fusiform.report(stores, folder / "raises.html", at=at, resamples=5)
    with pytest.raises(UserError, match="at least two stores"):
        fusiform.report(stores[:1], folder / "raises.html", at=[1], resamples=5)


@pytest.mark.parametrize("names", [("a", "b"), ("seed1", "seed2"), ("r18", "r50")])
def test_other_numbers_in_names_are_no_training(
    folder: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    stores = [tmp_path / f"{name}.zarr" for name in names]
    for own, store in zip(checkpoints(folder, 0, 40), stores, strict=True):
        store.symlink_to(own)
    fusiform.report(stores, tmp_path / "page.html", resamples=5)
    assert kinds(tmp_path / "page.html") == []


def test_checkpoints_on_other_stimuli_are_no_training_and_that_is_noted(
    folder: Path, tmp_path: Path
) -> None:
    stores = [tmp_path / "epoch_1.zarr", tmp_path / "epoch_2.zarr"]
    for own, store in zip(
        (checkpoints(folder, 40)[0], folder / "second.zarr"), stores, strict=True
    ):
        store.symlink_to(own)
    said: list[str] = []
    fusiform.report(stores, tmp_path / "page.html", resamples=5, note=said.append)
    assert "training" not in kinds(tmp_path / "page.html")
    assert any(one.startswith("no figures of training: ") for one in said)
    with pytest.raises(UserError, match="compared on the same images"):
        fusiform.report(stores, tmp_path / "page.html", at=[1, 2], resamples=5)


def test_two_localizers_on_one_network_are_compared_without_being_asked(
    folder: Path, results: Mapping[str, Any]
) -> None:
    pair = [*checkpoints(folder, 40), folder / "second.zarr"]
    fusiform.report(pair, folder / "pair.html", resamples=20)
    page = (folder / "pair.html").read_text(encoding="utf-8")
    (shown,) = data_of(page)["results"]
    # Their stimuli differ on purpose: no warning.
    assert "A and B are one network with two stimulus sets: they differ in stimuli" in page
    assert "B differs from A" not in page
    found = results["localizers"]
    assert rows(shown, "overlap") == expected(
        found.overlap, contrast=lambda one: found.labels[one.contrast]
    )
    assert shown["networks"] == ["A: <b>epoch_040", "B: second"]


def test_stores_of_other_networks_or_categories_are_no_two_localizers(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "CATEGORIES", ("a", "b", "c", "scenes"))
        made.fill(tmp_path / "categories.zarr")
    made.fill(tmp_path / "network.zarr")
    made.annotate(tmp_path / "network.zarr", weights="others")
    shas = [f"{i + 10**7:064x}" for i in range(int(made.COUNTS.sum()))]
    for name in ("categories", "network"):
        relabel(tmp_path / f"{name}.zarr", shas)
        stores = [*checkpoints(folder, 40), tmp_path / f"{name}.zarr"]
        fusiform.report(stores, tmp_path / "page.html", resamples=5)
        assert kinds(tmp_path / "page.html") == []


def test_a_wrong_table_of_regions_raises_before_anything_is_analysed(
    folder: Path, tmp_path: Path
) -> None:
    (table := tmp_path / "t.csv").write_text("region,category,response\nFFA,cars,1\n")
    noted: list[str] = []
    with pytest.raises(UserError, match="at least 3 categories"):
        fusiform.report(checkpoints(folder, 40), tmp_path / "page.html", roi=table,
                        note=noted.append)  # fmt: skip
    assert not [one for one in noted if one.startswith("analysing")]


def test_every_network_shown_is_compared_with_regions(
    folder: Path, results: Mapping[str, Any]
) -> None:
    stores = checkpoints(folder, 40, 0)
    fusiform.report(stores, folder / "roi.html", roi=folder / "regions.csv", resamples=20)
    data = data_of((folder / "roi.html").read_text(encoding="utf-8"))
    shown = [one for one in data["results"] if one["kind"] == "regions"]
    assert [one["networks"] for one in shown] == [["A: <b>epoch_040"], ["B: <b>epoch_000"]]
    own = rows(shown[0], "correlations")
    assert [row["correlation"] for row in own] == [
        row["correlation"] for row in expected(results["regions"].correlations)
    ]
    assert any(row["random_units"] is not None for row in own)


# In a browser


@pytest.fixture(params=[("light", 1280), ("dark", 390)], ids=["desktop, light", "phone, dark"])
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Opened]:
    theme, width = request.param
    context = browser.new_context(
        color_scheme=theme, viewport={"width": width, "height": 844}, accept_downloads=True
    )
    one = Opened(context, report)
    yield one
    assert one.wrong == []
    context.close()


def saved(opened: Opened, figure: str, kind: str, path: Path) -> str:
    with opened.page.expect_download() as download:
        opened.page.locator(f"#{figure} button", has_text=kind).click()
    download.value.save_as(path)
    return path.read_text(encoding="utf-8")


def test_every_figure_fits_reads_and_runs_no_name(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    assert "run" not in page.title()
    for name in FIGURES:
        figure = page.locator(f"#{name} .plot")
        assert page.locator(f"#{name} .plot svg path").count() > 1
        figure.focus()
        figure.press("Home")
        readout = page.locator(f"#{name} .readout")
        first = str(readout.text_content())
        figure.press("End")
        last = str(readout.text_content())
        assert first
        assert last not in ("", first)
        for control in page.locator(f"#{name} .tools select").all():
            for option in control.locator("option").all():
                control.select_option(str(option.get_attribute("value")))
                opened.settle()
                assert page.locator(f"#{name} .plot svg path").count() > 1
    assert not page.locator("main script, main b, main i, main svg[onload]").count()


def test_the_numbers_of_figures_are_those_of_the_results(
    opened: Opened, results: Mapping[str, Any], tmp_path: Path
) -> None:
    for name in FIGURES:
        head, *cells = csv.reader(StringIO(saved(opened, name, "CSV", tmp_path / "x.csv")))
        assert all(re.fullmatch("[a-z][a-z0-9_]*", one) for one in head)
        assert {len(row) for row in cells} == {len(head)}
        assert not [cell for row in cells for cell in row if cell.startswith("=")]
        column = {one: [row[i] for row in cells] for i, one in enumerate(head)}

        def same(
            name: str, values: Sequence[Any], column: Mapping[str, list[str]] = column
        ) -> None:
            read = [float(cell) if cell else None for cell in column[name]]
            assert sorted(read, key=str) == sorted(rounded(list(values)), key=str)

        run, pair, brains, lesions = (results[kind] for kind in KINDS)
        if name == "training-1":
            same("value", [one.value for one in run.values])
            same("low", [one.low for one in run.values])
            same("epoch", [run.at[one.network - 1] for one in run.values])
        elif name == "onsets-1":
            same("first", [one.first for one in run.onsets])
            same("lasting", [one.lasting for one in run.onsets])
        elif name == "localizers-2":
            for one in ("jaccard", "dice_high", "both", "map_chance"):
                same(one, [getattr(row, one) for row in pair.overlap])
        elif name == "crossed-2":
            for one in ("value", "high", "within", "all_units", "selecting"):
                same(one, [getattr(row, one) for row in pair.cross_validation])
        elif name == "regions-3":
            for one in ("correlation", "p_corrected", "outside_target", "random_units_low"):
                same(one, [getattr(row, one) for row in brains.correlations])
        else:
            for one in ("change", "low", "high", "draw_low"):
                same(one, [getattr(row, one) for row in lesions.effects])


def test_the_chosen_category_and_layer_are_shown(opened: Opened) -> None:
    names = [text for text in HOSTILE if text in opened.words("crossed-2")]
    assert "scenes" in names
    opened.choose("#choices", "Category", "3")
    assert opened.page.locator("#crossed-2 g[data-panel]").evaluate_all(
        "(all) => [...new Set(all.map((one) => one.dataset.panel))]"
    ) == ["scenes"]
    opened.choose("#choices", "Layer", "encoder.ln")
    assert "Units of encoder.ln by epoch." in opened.words("training-1")


def test_markers_are_filled_from_the_onset_on(opened: Opened, results: Mapping[str, Any]) -> None:
    run = results["training"]
    opened.choose("#choices", "Category", "3")
    for layer in ("layer1.0", "encoder.ln"):
        opened.choose("#choices", "Layer", layer)
        (onset,) = [one for one in run.onsets if (one.layer, one.contrast, one.reference)
                    == (layer, "scenes", "untrained")]  # fmt: skip
        fills = opened.page.locator(
            "#training-1 g[data-panel='Share of selective units'] path[transform]"
        ).evaluate_all("(all) => all.map((one) => one.getAttribute('fill'))")
        paper = opened.page.evaluate(
            "document.querySelector('#training-1 g path[transform]').getAttribute('fill')"
        )
        assert fills[0] == paper  # the untrained network is not above itself
        above = [at >= onset.lasting if onset.lasting is not None else False for at in run.at]
        assert [fill != paper for fill in fills] == above


def test_positions_are_spread_by_their_logarithm_unless_asked(opened: Opened) -> None:
    def places() -> list[float]:
        found = opened.page.locator(
            "#training-1 g[data-panel='Share of selective units'] >> nth=0"
        ).locator("path[transform]").evaluate_all(
            "(all) => all.map((one) => Number(one.getAttribute('transform').match(/[0-9.]+/)[0]))"
        )  # fmt: skip
        return [(one - found[0]) / (found[-1] - found[0]) for one in found]

    logarithmic = places()
    assert np.diff(logarithmic)[1] == pytest.approx(np.diff(logarithmic)[0] * 0.75, rel=0.5)
    opened.choose("#training-1", "Spacing", "linear")
    assert places() == pytest.approx([one / EPOCHS[-1] for one in EPOCHS], abs=0.01)
    assert min(np.diff(places())) < min(np.diff(logarithmic))


def test_figures_are_saved_for_print(opened: Opened, tmp_path: Path) -> None:
    for name in FIGURES:
        text = saved(opened, name, "SVG", tmp_path / "x.svg")
        assert "<svg" in text
        assert 'width="760"' in text


def test_print_figures_of_results_are_written(folder: Path, results: Mapping[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    store = folder / f"<b>epoch_{EPOCHS[-1]:03}.zarr"
    shown = [results[name] for name in KINDS]
    fusiform.report(
        store, folder / "x.html", results=[*shown, shown[-1]], figures=folder / "f", resamples=5
    )
    names = {path.stem for path in (folder / "f").glob("*.pdf")}
    assert {*KINDS, "lesions-2"} <= names
    text = (folder / "f" / "training.svg").read_text(encoding="utf-8")
    for name in ("epoch", "CSI, held out", "replicated (%)"):
        assert name in text
