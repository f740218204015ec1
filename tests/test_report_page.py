"""The report in a browser: controls, keyboard, accessible names, no requests.

Skipped where no Chromium is installed: ``playwright install --with-deps chromium-headless-shell``,
or a Chromium of the system's own.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fusiform
from fusiform import open_store
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.layer import Layer
from fusiform.engine.reporting.embedding import json_block
from fusiform.engine.reporting.excerpts import MOST_LAYERS

from . import flat, made
from .test_report import contrast_ratio, data_of, seen_difference

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FIGURES = (
    "share",
    "specificity",
    "distribution",
    "strength",
    "spread",
    "maps",
    "overlap",
    "consistency",
)
HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "'\"><svg onload=document.title='run'>",
    "=1+1\u2028&lt;b&gt;",
)
LAYERS = (
    Layer("conv<b>", "Conv2d", ("channel", "y", "x"), (6, 4, 4), "float32"),
    Layer("<script>document.title='run'<!--", "Block", ("token", "channel"), (5, 6), "float32"),
    Layer("head", "Linear", ("unit",), (11,), "float32"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: playwright's own, or one of the system's."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as running:
        known = Path(running.chromium.executable_path).exists()
        path = None if known else next(filter(None, map(shutil.which, BROWSERS)), None)
        if not known and path is None:
            pytest.skip("no Chromium: playwright install --with-deps chromium-headless-shell")
        started = running.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two stores with different layers and hostile names."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "CATEGORIES", HOSTILE)
        made.fill(folder / "<b>a.zarr")
        made.fill(folder / "b.zarr", LAYERS)
    output = folder / "report.html"
    fusiform.report([folder / "<b>a.zarr", folder / "b.zarr"], output, resamples=20)
    return output


def page_of(data: Any, like: Path, output: Path) -> None:
    """Write a page like another, of other findings."""
    text = like.read_text(encoding="utf-8")
    block = re.search(r'id="findings">(.*?)</script>', text, re.DOTALL)
    assert block
    output.write_text(text.replace(block[1], str(json_block(data))), encoding="utf-8")


class Opened:
    """An open page, with its errors and requests."""

    def __init__(self, context: Any, path: Path) -> None:
        self.wrong: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", lambda said: self.wrong.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.route("**/*", self._route)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def _route(self, route: Any) -> None:
        # Saved files are blobs of the page itself.
        if route.request.url.startswith("blob:") or route.request.is_navigation_request():
            route.continue_()
        else:
            self.wrong.append(f"asked for {route.request.url}")
            route.abort()

    def settle(self) -> None:
        """Wait until the page has redrawn."""
        self.page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def choose(self, place: str, label: str, value: str) -> None:
        found = self.page.locator(f"{place} label.choice:has(> span:text-is('{label}')) select")
        found.select_option(value)
        self.settle()

    def words(self, figure: str) -> str:
        """Text in a figure, lines joined."""
        return str(
            self.page.locator(f"#{figure} .plot svg").evaluate(
                "(svg) => [...svg.querySelectorAll('text')].map((t) => t.textContent).join(' ')"
            )
        )


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


def few(layer: Layer) -> list[list[np.ndarray]]:
    """Responses of a layer where all units but six are dead."""
    drawn = made.samples(layer)
    for group in (group for groups in drawn for group in groups):
        group[:, 6:] = 0.5
    return drawn


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of an untrained network with few selective units, beside one with many."""
    folder = tmp_path_factory.mktemp("controlled")
    layers = (made.LAYERS[0], replace(made.LAYERS[0], name="layer1.1"), made.LAYERS[2])
    made.fill(folder / "a.zarr", layers, few)
    made.annotate(folder / "a.zarr", weights="untrained, seed 0")
    made.fill(folder / "b.zarr", layers)
    output = folder / "page.html"
    fusiform.report([folder / "a.zarr", folder / "b.zarr"], output, resamples=20)
    return output


@pytest.fixture
def control(browser: Any, controlled: Path) -> Iterator[Opened]:
    context = browser.new_context()
    one = Opened(context, controlled)
    yield one
    assert one.wrong == []
    context.close()


def test_networks_have_one_scale_unless_another_is_chosen_and_then_said(control: Opened) -> None:
    shared = control.words("share")
    assert "own scale" not in shared
    ticks = re.findall(r"[0-9.]+\u00a0%", shared)
    assert ticks[: len(ticks) // 2] == ticks[len(ticks) // 2 :]
    control.choose("#share", "Scale", "own")
    assert "Each panel has its own scale." in control.words("share")
    ticks = re.findall(r"[0-9.]+\u00a0%", control.words("share"))
    assert ticks[: len(ticks) // 2] != ticks[len(ticks) // 2 :]


def test_maps_have_one_scale_unless_another_is_chosen_and_then_said(control: Opened) -> None:
    def colours() -> int:
        return control.page.locator("#maps .plot svg path").evaluate_all(
            "(all) => new Set(all.map((one) => one.getAttribute('fill'))).size"
        )

    words = control.words("maps")
    largest = max(float(one) for one in re.findall(r"max ([0-9.]+)", words))
    assert words.endswith(f"0 {largest}\u00a0%")
    assert "own scale" not in words
    before = colours()
    control.choose("#maps", "Scale", "own")
    assert "each map has its own scale" in control.words("maps")
    assert control.words("maps").endswith("the map's own max")
    assert colours() != before


def test_maps_of_each_network_begin_a_row(browser: Any, controlled: Path, tmp_path: Path) -> None:
    """Of three maps, a phone shows two in a row: one stands alone."""
    stores = [controlled.parent / f"{name}.zarr" for name in "ab"]
    asked = ["faces", "bodies", "scenes"]
    fusiform.report(stores, tmp_path / "a.html", contrasts=asked, resamples=5)
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = Opened(context, tmp_path / "a.html").page
    place = {
        title: page.locator(f"#maps .plot svg text:text-is('{title}')").bounding_box()
        for title in ("faces, A", "scenes, A", "faces, B", "bodies, B")
    }
    assert place["faces, A"]["x"] == place["scenes, A"]["x"] == place["faces, B"]["x"]
    assert place["scenes, A"]["y"] < place["faces, B"]["y"] == place["bodies, B"]["y"]
    context.close()


def test_an_untrained_network_is_marked_in_every_figure(control: Opened) -> None:
    for name in FIGURES:
        assert "A: a (untrained)" in control.words(name)
    assert control.words("maps").count(" untrained, max ") == len(made.CATEGORIES)
    assert "A: a (untrained)" in control.page.locator("#scanned").text_content()
    assert "untrained made-up" in control.page.title()


def test_a_single_untrained_network_is_marked_in_its_figures(
    browser: Any, controlled: Path, tmp_path: Path
) -> None:
    fusiform.report([controlled.parent / "a.zarr"], tmp_path / "a.html", resamples=20)
    context = browser.new_context()
    one = Opened(context, tmp_path / "a.html")
    for name in FIGURES:
        assert "untrained" in one.words(name)
    context.close()


def test_layers_with_positions_and_without_are_not_joined(control: Opened) -> None:
    """Of three layers, two have positions: a line has two points."""
    for name in ("share", "spread"):
        assert "Not joined: layers without positions (head)." in control.words(name)
        lines = control.page.locator(f"#{name} .plot svg path[stroke-linejoin]").evaluate_all(
            "(all) => all.map((one) => one.getAttribute('d').split(/[ML]/).length - 1)"
        )
        assert max(lines) == 2


def test_a_layer_without_positions_does_not_flatten_the_others(
    browser: Any, controlled: Path, tmp_path: Path
) -> None:
    """Its share is 90 %, theirs 2 %: the axis ends at theirs, and an arrow has its value."""
    data = data_of(controlled.read_text(encoding="utf-8"))
    for store in data["stores"]:
        shares = store["tables"]["shares"]
        own = [0.9 if store["layers"][i] == "head" else 0.02 for i in shares["layer"]]
        shares["share"] = shares["low"] = shares["high"] = own
    page_of(data, controlled, tmp_path / "a.html")
    context = browser.new_context()
    page = Opened(context, tmp_path / "a.html")
    names = [contrast["name"] for contrast in data["contrasts"]]
    for name in names:
        assert page.words("share").count(f"{name} \N{UPWARDS ARROW} 90.0\N{NO-BREAK SPACE}%") == 2
    assert "2\N{NO-BREAK SPACE}%" in page.words("share")
    assert "20\N{NO-BREAK SPACE}%" not in page.words("share")
    page.choose("#choices", "Category", "0")
    assert page.words("share").count("\N{UPWARDS ARROW} 90.0\N{NO-BREAK SPACE}%") == 2
    assert not page.wrong
    context.close()


def test_names_are_cut_short_of_room_but_no_value_and_every_point_beyond_an_axis_has_one(
    browser: Any, controlled: Path, tmp_path: Path
) -> None:
    """Two layers without positions and long names, on a phone: ``…7.9 %`` would hide 47.9 %."""
    data = data_of(controlled.read_text(encoding="utf-8"))
    for contrast in data["contrasts"]:
        contrast["name"] = f"characters of the category {contrast['name']}"
    for store in data["stores"]:
        store["placeless"] = [1, 2]
        shares = store["tables"]["shares"]
        own = [(0.02, 0.3125, 0.478516)[i] for i in shares["layer"]]
        shares["share"] = shares["low"] = shares["high"] = own
    page_of(data, controlled, tmp_path / "a.html")
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = Opened(context, tmp_path / "a.html")
    arrow, space = "\N{UPWARDS ARROW} ", "\N{NO-BREAK SPACE}%"
    ends = page.page.locator("#share text.end").all_text_contents()
    assert len(ends) == 2 * len(data["contrasts"])
    assert all("\N{HORIZONTAL ELLIPSIS}" in end for end in ends)
    assert all(end.endswith(f" {arrow}47.9{space}") for end in ends)
    values = ", ".join([f"{arrow}31.3{space}"] * len(data["contrasts"]))
    assert page.words("share").count(values) == 2
    assert not page.wrong
    context.close()


def test_a_category_that_a_network_was_not_asked_for_is_not_said_to_select_nothing(
    browser: Any, controlled: Path, tmp_path: Path
) -> None:
    data = data_of(controlled.read_text(encoding="utf-8"))
    tables = data["stores"][1]["tables"]
    for table, columns in tables.items():
        kept = [k != 0 for k in columns["contrast"]] if "contrast" in columns else None
        if kept:
            tables[table] = {
                name: [value for value, keep in zip(values, kept, strict=True) if keep]
                for name, values in columns.items()
            }
    page_of(data, controlled, tmp_path / "a.html")
    context = browser.new_context()
    page = Opened(context, tmp_path / "a.html")
    name = data["contrasts"][0]["name"]
    assert f"{name}, A" in page.words("maps")
    assert f"{name}, B" not in page.words("maps")
    assert "no positions" not in page.words("maps")
    own = page.words("distribution").partition("B: b: layer1.0")[2]
    assert own
    assert name not in own
    page.choose("#choices", "Category", "0")
    assert "B: b" not in page.words("distribution")
    assert not page.wrong
    context.close()


def test_means_of_few_units_are_in_the_numbers_only(control: Opened, controlled: Path) -> None:
    rows = [
        units
        for store in data_of(controlled.read_text(encoding="utf-8"))["stores"]
        for table in [store["tables"]["specificity"]]
        for units, measure in zip(table["units"], table["measure"], strict=True)
        if measure == "csi"
    ]
    shown = sum(units >= 10 for units in rows)
    assert 0 < shown < len(rows)
    markers = control.page.locator("#specificity .plot svg path[transform]").count()
    assert markers == shown + len(made.CATEGORIES)  # and the legend
    words = control.words("distribution")
    numbers = [int(number) for number in re.findall(r"n = ([0-9]+)", words)]
    histograms = control.page.locator("#distribution .plot svg path[fill-opacity]").count()
    assert 0 < histograms == len(numbers)
    assert min(numbers) >= 10
    assert re.search(r"No or too few selective units: .*\([1-9]\)", words)
    control.page.locator("#specificity summary").click()
    assert control.page.locator("#specificity tbody tr").count() == len(rows)


def test_an_overlap_that_is_none_by_construction_says_so(control: Opened) -> None:
    assert "by construction" not in control.words("overlap")
    for measure in ("jaccard", "ratio"):
        control.choose("#overlap", "Measure", measure)
        words = control.words("overlap")
        assert "none by construction" in words
        assert "test “rest”" in words
        assert re.findall(r"[0-9]\.[0-9]{2}", words) == ["0.00", "1.00"]  # the scale


def test_an_overlap_that_can_be_asked_has_numbers(
    browser: Any, made_path: Path, tmp_path: Path
) -> None:
    rest = Criterion("rest", "t > 0")
    fusiform.report([made_path], tmp_path / "a.html", criterion=rest, resamples=5)
    context = browser.new_context()
    one = Opened(context, tmp_path / "a.html")
    one.choose("#overlap", "Measure", "jaccard")
    words = one.words("overlap")
    assert "by construction" not in words
    assert len(re.findall(r"0\.[0-9]{2}", words)) >= 12
    context.close()


def test_driving_stimuli_say_how_their_units_were_chosen(
    browser: Any, draw_stimuli: Callable[..., Path], tmp_path: Path
) -> None:
    draw_stimuli(tmp_path / "stimuli", each=8)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU())
    own = {"layers": "1", "device": "cpu", "preprocessing": {"resize": 72, "crop": 64}}
    store, recording = tmp_path / "a.zarr", tmp_path / "a.responses.zarr"
    flat.scan(network, tmp_path / "stimuli", store, **own)
    flat.record(network, tmp_path / "stimuli", recording, store=store, top=5, device="cpu")
    fusiform.report([store], tmp_path / "a.html", recordings=[recording], resamples=5)
    context = browser.new_context()
    one = Opened(context, tmp_path / "a.html")
    units = one.page.locator("#best .unit h4").all_text_contents()
    assert len(units) == 6
    assert all(re.search(r"AUC (0\.[0-9]{3}|1\.000|> 0\.999) held out$", text) for text in units)
    said = one.page.locator("#best").text_content()
    assert "on the first fold, one per channel" in said
    assert "selected on all stimuli, these included" in said
    assert one.wrong == []
    context.close()


def test_almost_one_is_not_shown_as_one(browser: Any, controlled: Path, tmp_path: Path) -> None:
    data = data_of(controlled.read_text(encoding="utf-8"))
    for store in data["stores"]:
        store["consistency"]["spearman"] = [[1, 0.9997, 0.9]] * 3
        store["tables"]["confusion"]["share"] = [0.9997] * len(
            store["tables"]["confusion"]["share"]
        )
    page_of(data, controlled, tmp_path / "a.html")
    context = browser.new_context()
    one = Opened(context, tmp_path / "a.html")
    assert one.words("consistency").count("> 0.99") == 6
    assert one.words("consistency").count("1.00") == 6
    assert "> 99.9\u00a0%" in one.words("overlap")
    assert "from 4 categories" in one.words("consistency")
    context.close()


def test_the_page_requests_nothing_and_runs_no_name(opened: Opened) -> None:
    page = opened.page
    assert page.title() == "Category-selective units in made-up, 2 scans"
    for name in HOSTILE:
        assert name in page.locator("#peaks").text_content()
    assert page.locator("main img, main b, main i, main script").count() == 0
    assert HOSTILE[1] in opened.words("share")
    assert page.evaluate("document.title") != "run"


def test_nothing_is_wider_than_the_screen(opened: Opened) -> None:
    wide, screen = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= screen
    for figure in opened.page.locator(".plot svg").all():
        box = figure.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= screen
        text = figure.evaluate(
            "(svg) => Math.max(...[...svg.querySelectorAll('text')]"
            ".map((text) => text.getBoundingClientRect().right))"
        )
        assert text <= screen


def test_every_figure_has_a_name_a_table_and_a_drawing(opened: Opened) -> None:
    page = opened.page
    assert page.locator("figure").evaluate_all("(all) => all.map((one) => one.id)") == list(FIGURES)
    for name in FIGURES:
        figure = page.locator(f"#{name}")
        title = page.locator(f"#{figure.get_attribute('aria-labelledby')}").text_content()
        assert title
        svg = figure.locator(".plot svg")
        assert svg.get_attribute("role") == "img"
        assert svg.get_attribute("aria-label")
        assert svg.locator("path").count() > 1
        figure.locator("summary").click()
        assert figure.locator("caption").text_content() == title
        assert figure.locator("tbody tr").count() > 0
        assert figure.locator("thead th[scope=col]").count() > 2
        assert figure.locator("tbody th[scope=row]").count() == figure.locator("tbody tr").count()


def test_the_page_has_landmarks_headings_in_order_and_named_controls(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("document.documentElement.lang") == "en"
    for landmark in ("main", "nav[aria-label]", "header", "footer", "h1"):
        assert page.locator(f"body > {landmark}, body > header {landmark}").count() >= 1
    levels = page.locator("h1, h2, h3, h4").evaluate_all(
        "(all) => all.map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    unnamed = page.locator("button, select, input, a, [tabindex='0']").evaluate_all(
        """(all) => all.filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim()
            || one.closest("label")?.textContent.trim())).map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    assert page.locator("[tabindex]").evaluate_all("(all) => all.every((one) => one.tabIndex <= 0)")


def test_the_keyboard_reaches_everything_in_reading_order(opened: Opened) -> None:
    page, reached = opened.page, []
    page.locator("body").press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(200):
        reached.append(
            page.evaluate("""() => {
            const all = [...document.querySelectorAll("*")], one = document.activeElement;
            const outline = getComputedStyle(one).outlineStyle;
            return [all.indexOf(one), one.tagName, outline];
        }""")
        )
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    places = [place for place, *_ in reached]
    assert places == sorted(places)
    assert len({tag for _, tag, _ in reached} & {"A", "BUTTON", "SELECT", "SUMMARY", "DIV"}) == 5
    assert all(outline != "none" for _, _, outline in reached)
    assert sum(tag == "DIV" for _, tag, _ in reached) == len(FIGURES)


def test_arrow_keys_step_through_the_values_of_a_figure(opened: Opened) -> None:
    page = opened.page
    plot, readout = page.locator("#share .plot"), page.locator("#share .readout")
    assert readout.get_attribute("aria-live") == "polite"
    plot.focus()
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "End", "Home"):
        plot.press(key)
        assert readout.is_visible()
        seen.append(readout.text_content())
    assert seen[0] == seen[2]
    assert seen[0] != seen[1]
    assert "interval" in seen[0]
    assert "A: <b>a" in seen[0]
    assert HOSTILE[0] in seen[0]
    assert HOSTILE[1] in seen[3]
    plot.press("Escape")
    assert readout.is_hidden()
    for name in FIGURES:
        page.locator(f"#{name} .plot").focus()
        page.locator(f"#{name} .plot").press("ArrowRight")
        assert page.locator(f"#{name} .readout").text_content()


def test_the_pointer_shows_values(opened: Opened) -> None:
    page = opened.page
    marker = page.locator("#share .plot svg path[transform]").last
    marker.scroll_into_view_if_needed()
    marker.hover(force=True)
    assert "%" in page.locator("#share .readout").text_content()
    page.mouse.move(1, 1)
    assert page.locator("#share .readout").is_hidden()


def test_a_category_can_be_chosen(opened: Opened) -> None:
    assert all(name in opened.words("strength") for name in HOSTILE)
    opened.choose("#choices", "Category", "1")
    for figure in ("share", "strength"):
        assert HOSTILE[1] in opened.words(figure)
        assert HOSTILE[2] not in opened.words(figure)
    opened.choose("#choices", "Category", "-1")
    assert HOSTILE[2] in opened.words("share")


def test_a_layer_can_be_chosen_by_name_or_nearest_depth(opened: Opened) -> None:
    opened.choose("#choices", "Layer", "layer1.0")
    assert "layer1.0" in opened.words("distribution")
    assert "conv<b>" in opened.words("distribution")  # the first of the other store as well
    opened.choose("#choices", "Layer", "head")
    assert "layer1.0" not in opened.words("distribution")
    _, said = opened.words("maps").split("Not drawn, ")
    assert said.startswith("head has no positions: ")
    assert all(said.count(name) == 2 for name in HOSTILE[1:])


def test_the_axis_is_layers_or_relative_depth(opened: Opened) -> None:
    # The stores have different layers and share relative depth only.
    assert "Relative depth" in opened.words("share")
    opened.choose("#choices", "Axis", "layer")
    assert "Layer, from input to output" in opened.words("share")
    assert "encoder.ln" in opened.words("share")


def test_a_threshold_replaces_the_criterion(opened: Opened, report: Path) -> None:
    page = opened.page
    slider = page.locator("#share input[type=range]")
    assert slider.is_hidden()
    assert "q ≤ 0.05" in opened.words("share")
    opened.choose("#share", "Criterion", "t")
    assert slider.is_visible()
    assert "Welch t against the pooled rest > 5" in opened.words("share")
    assert slider.get_attribute("aria-valuetext") == "t > 5"
    slider.press("ArrowRight")
    opened.settle()
    assert "Welch t against the pooled rest > 5.5" in opened.words("share")
    slider.press("Home")
    opened.settle()
    page.locator("#share summary").click()
    page.locator("#share tbody tr").first.wait_for()
    total = sum(
        int(text.replace(",", ""))
        for text in page.locator("#share tbody tr td:nth-child(6)").all_text_contents()
    )
    stores = [open_store(path) for path in report.parent.glob("*.zarr")]
    above = [(store.read(layer, "t") > 0).sum() for store in stores for layer in store.layers]
    assert total == sum(above)


def test_every_control_of_every_figure_works(opened: Opened) -> None:
    for name in FIGURES:
        for select in opened.page.locator(f"#{name} select").all():
            for value in select.locator("option").evaluate_all("(all) => all.map((o) => o.value)"):
                select.select_option(value)
                opened.settle()
                assert opened.page.locator(f"#{name} .plot svg path").count() > 1
                assert "NaN" not in opened.page.locator(f"#{name} .plot svg").evaluate(
                    "(svg) => svg.outerHTML"
                )


STYLES = """() => [...document.querySelectorAll("g[data-series]")].map((one) => {
    const line = one.querySelector("path:not([transform])");
    const mark = one.querySelector("[transform]");
    const dash = line?.getAttribute("stroke-dasharray"), fill = mark?.getAttribute("fill");
    const hollow = fill !== line?.getAttribute("stroke");
    return { panel: one.closest("figure").id + one.dataset.panel, name: one.dataset.series,
        colour: line?.getAttribute("stroke"), style: [mark?.getAttribute("d"), dash, hollow] };
}).filter((one) => one.colour)"""


@pytest.fixture(scope="module", params=[(8, 5), (2, 24)], ids=["8 networks", "24 categories"])
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of many networks, or of many categories."""
    networks, categories = request.param
    folder = tmp_path_factory.mktemp("crowded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "CATEGORIES", tuple(f"category {k}" for k in range(categories)))
        patch.setattr(made, "COUNTS", np.full((categories, 2), 9))
        layers = [
            replace(made.LAYERS[0], name=f"stage{i}.block{i}", shape=(9, 3, 3)) for i in range(18)
        ]
        made.fill(folder / "a.zarr", layers)
    stores = [folder / "a.zarr"] * networks
    output = folder / "report.html"
    fusiform.report(stores, output, resamples=5, criterion=Criterion("rest", where="t > 1"))
    return output


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_no_two_lines_of_a_panel_look_alike(
    browser: Any, crowded: Path, theme: str, width: int
) -> None:
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 844})
    one = Opened(context, crowded)
    for category in ("-1", "0"):
        one.choose("#choices", "Category", category)
        panels: dict[str, list[dict[str, Any]]] = {}
        for series in one.page.evaluate(STYLES):
            panels.setdefault(series["panel"], []).append(series)
        assert category != "-1" or max(map(len, panels.values())) >= 8
        for panel in panels.values():
            for first, second in combinations(panel, 2):
                # In grey print as well; categories also by colour, until that repeats.
                assert first["style"] != second["style"], (first["name"], second["name"])
                others = "other categories" in first["name"] + second["name"]
                if first["colour"] != second["colour"] and not others:
                    assert seen_difference(first["colour"], second["colour"]) > 8
    assert one.wrong == []
    context.close()


OVERLAPS = """(figure) => {
    const boxes = [...figure.querySelectorAll("text.end")].map((it) => it.getBoundingClientRect());
    return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.left < b.right - 1
        && b.left < a.right - 1 && a.top + 2 < b.bottom - 1 && b.top + 2 < a.bottom - 1)).length;
}"""
SLANTED = """(figure) => [...figure.querySelectorAll("text[transform]")].map((one) => [
    Number(one.getAttribute("x")), Number(one.getAttribute("y"))])"""


@pytest.mark.parametrize("width", [1280, 390])
def test_names_of_lines_and_layers_do_not_collide(browser: Any, crowded: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844})
    one = Opened(context, crowded)
    for name in ("share", "strength", "spread"):
        figure = one.page.locator(f"#{name} .plot svg")
        assert figure.locator("text.end").count() > 4
        assert figure.evaluate(OVERLAPS) == 0
    for name in ("share", "strength", "overlap", "consistency"):
        places = one.page.locator(f"#{name} .plot svg").evaluate(SLANTED)
        rows: dict[float, list[float]] = {}
        for x, y in places:
            rows.setdefault(y, []).append(x)
        assert places
        # Lines of 11 pixels at 50 degrees.
        assert min(after - x for row in rows.values() for x, after in pairwise(sorted(row))) >= 13
    context.close()


def test_what_is_empty_is_named_and_not_drawn(browser: Any, tmp_path: Path) -> None:
    def none_but_first(layer: Layer) -> list[list[np.ndarray]]:
        rng = np.random.default_rng(0)
        drawn = [[rng.normal(0, 1, (n, layer.units)) for n in counts] for counts in made.COUNTS]
        for group in drawn[0]:
            group[:, ::2] += 9
        return drawn

    made.fill(tmp_path / "a.zarr", made.LAYERS[:1], none_but_first)
    fusiform.report(tmp_path / "a.zarr", tmp_path / "page.html", resamples=5)
    context = browser.new_context()
    one = Opened(context, tmp_path / "page.html")
    others = made.CATEGORIES[1:]
    assert one.words("share").endswith(f"0 in every layer: {', '.join(others)}")
    for name in ("strength", "spread", "maps"):
        said = one.words(name).partition("Not drawn, ")[2].partition(": ")[2]
        assert said.startswith("; ".join(others))
    assert f"No or too few selective units: {', '.join(others)}" in one.words("distribution")
    assert one.words("distribution").count("n = ") == 1
    assert one.page.locator("#strength g[data-series]").count() == 2
    context.close()


def test_preferred_and_other_categories_have_different_marks(opened: Opened) -> None:
    own, *_, others = opened.page.locator("#strength .plot svg > path[transform]").evaluate_all(
        "(all) => all.map((one) => one.getAttribute('d'))"
    )[:3]
    assert opened.words("strength").index("other categories") > 0
    assert own != others


def test_controls_stay_in_reach_and_networks_apart_on_a_phone(opened: Opened) -> None:
    page = opened.page
    page.locator("#consistency").scroll_into_view_if_needed()
    box = page.locator("#choices").bounding_box()
    assert box["y"] == pytest.approx(0, abs=1)
    assert box["height"] < 100
    titles = [
        text
        for text in page.locator("#maps .plot svg text").all_text_contents()
        if text.endswith((", A", ", B"))
    ]
    places = page.locator("#maps .plot svg text").evaluate_all(
        "(all) => all.map((one) => [one.textContent, Number(one.getAttribute('y'))])"
    )
    rows: dict[float, set[str]] = {}
    for text, y in places:
        if text in titles:
            rows.setdefault(y, set()).add(text[-1])
    assert rows
    if page.viewport_size["width"] < 600:
        assert all(len(letters) == 1 for letters in rows.values())


def test_the_citation_can_be_copied(opened: Opened) -> None:
    button = opened.page.locator("#cite button")
    button.click()
    opened.page.wait_for_function(
        "document.querySelector('#cite button').textContent != 'Copy BibTeX'"
    )
    assert button.text_content() in ("Copied", "Selected: copy it")
    assert "2502.16456" in opened.page.evaluate("getSelection().toString()")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_saved_as_svg_and_png_and_its_numbers_as_csv(
    opened: Opened, name: str, tmp_path: Path
) -> None:
    saved = {}
    for kind in ("SVG", "PNG", "CSV"):
        with opened.page.expect_download() as download:
            opened.page.locator(f"#{name} button", has_text=kind).click()
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
        download.value.save_as(tmp_path / kind)
        if kind != "PNG":
            saved[kind] = (tmp_path / kind).read_text(encoding="utf-8")
    root = xml.etree.ElementTree.fromstring(saved["SVG"])
    assert root.get("width") == "760"
    assert root.get("fill") == "#16181d"  # light, whatever the page's theme
    picture = Image.open(tmp_path / "PNG").convert("RGB")
    assert picture.width == 3 * 760
    assert len(picture.getcolors(2**24)) > 30
    head, *rows = csv.reader(StringIO(saved["CSV"]))
    assert rows
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in head)
    assert {len(row) for row in rows} == {len(head)}
    assert not [cell for row in rows for cell in row if cell.startswith("=")]
    if "contrast" in head and name != "overlap":
        names = {row[head.index("contrast")] for row in rows}
        assert names == {*HOSTILE[:3], f"'{HOSTILE[3]}"}


def test_light_and_dark_themes_are_readable(opened: Opened) -> None:
    page = opened.page

    def colours() -> dict[str, str]:
        return dict(
            page.evaluate("""() => {
            const hex = (said) => "#" + said.match(/[0-9.]+/g).slice(0, 3)
                .map((part) => Math.round(Number(part)).toString(16).padStart(2, "0")).join("");
            const of = (place, what) => hex(getComputedStyle(document.querySelector(place))[what]);
            return { ground: of("body", "backgroundColor"), ink: of("body", "color"),
                muted: of("figcaption", "color"), link: of("nav a", "color"),
                paper: of("figure", "backgroundColor"), button: of("#theme", "color") };
        }""")
        )

    before = colours()
    drawn = page.locator("#share .plot svg").get_attribute("fill")
    page.locator("#theme").click()
    opened.settle()
    after = colours()
    assert before["ground"] != after["ground"]
    assert page.locator("#share .plot svg").get_attribute("fill") != drawn
    for one in (before, after):
        for ink in ("ink", "muted", "link", "button"):
            for on in ("ground", "paper"):
                assert contrast_ratio(one[ink], one[on]) >= 4.5


def test_the_page_follows_its_theme_at_every_width(opened: Opened, tmp_path: Path) -> None:
    opened.page.screenshot(path=tmp_path / "page.png", full_page=True)
    picture = Image.open(tmp_path / "page.png").convert("RGB")
    dark = opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (sum(picture.getpixel((2, 2))) < 3 * 128) == dark
    assert picture.width == opened.page.viewport_size["width"]
    for name in FIGURES:
        shot = opened.page.locator(f"#{name} .plot").screenshot(path=tmp_path / f"{name}.png")
        assert len(Image.open(BytesIO(shot)).convert("RGB").getcolors(2**24)) > 30


def test_the_printed_page_is_light_and_without_controls(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(media="print")
    opened.settle()
    assert page.locator("#share .plot svg").get_attribute("fill") == "#16181d"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("#choices", "#share .tools", "nav", "#theme"):
        assert page.locator(control).is_hidden()
    assert page.locator("#share .plot svg").is_visible()
    page.emulate_media(media="screen")


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of more layers than are shown one by one."""
    folder = tmp_path_factory.mktemp("deep")
    layers = [
        Layer(f"stage.{i}", "Linear", ("unit",), (12,), "float32") for i in range(MOST_LAYERS + 40)
    ]
    made.fill(folder / "deep.zarr", layers)
    output = folder / "report.html"
    fusiform.report(
        folder / "deep.zarr", output, resamples=5, criterion=Criterion(where="t > 1"), layers="*"
    )
    return output


@pytest.mark.parametrize("width", [1280, 390])
def test_many_layers_have_curves_without_crowding(browser: Any, deep: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844})
    one = Opened(context, deep)
    page = one.page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    last = f"stage.{MOST_LAYERS + 39}"
    figure = page.locator("#share .plot")
    figure.focus()
    figure.press("Home")
    figure.press("End")
    assert last in str(page.locator("#share .readout").text_content())
    # Of 168 layers some have a name, and some a marker on each line.
    names = one.words("share").count("stage.")
    markers = page.locator("#share .plot svg path[transform]").count()
    assert 5 < names < 90
    assert markers < (MOST_LAYERS + 40) * len(made.CATEGORIES) + 20
    if width == 390:
        assert markers < 100
    offered = page.locator("#choices label:has(> span:text-is('Layer')) option").count()
    assert offered <= MOST_LAYERS + len(made.CATEGORIES)
    one.choose("#share", "Criterion", "t")
    assert page.locator("#share .plot svg path").count() > 10
    assert one.words("consistency").count("stage.") < 100
    assert one.wrong == []
    context.close()


def test_reduced_motion_is_respected(browser: Any, report: Path) -> None:
    context = browser.new_context(reduced_motion="reduce")
    one = Opened(context, report)
    assert one.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert one.wrong == []
    context.close()


def test_without_scripts_the_page_shows_text(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("noscript").is_visible()
    assert "most frequent for" in page.locator("body > header").text_content()
    assert "Welch" in page.locator("#method").text_content()
    context.close()
