"""Reports without a browser: numbers, escaping and reproducibility."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import math
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusiform
from fusiform import UserError, analyse, open_store
from fusiform.engine.contrasts.language.criterion import DEFAULT, Criterion
from fusiform.engine.markup import Markup, join, tag
from fusiform.engine.plotting import palette
from fusiform.engine.querying import notebook
from fusiform.engine.querying.info import facts
from fusiform.engine.querying.store import Store
from fusiform.engine.reporting import excerpts
from fusiform.engine.reporting.embedding import json_block
from fusiform.engine.reporting.findings import Reported, findings, letters, rounded
from fusiform.engine.reporting.headline import headline, peaks, percent, title
from fusiform.engine.reporting.method import method
from fusiform.engine.reporting.thresholds import GRIDS, count_beyond

from . import made

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u2028&amp;",
    "é😀",
)


def written(*stores: Path, output: Path, **asked: Any) -> str:
    fusiform.report(stores, output, resamples=20, **asked)
    return output.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    (block,) = re.findall(r'<script type="application/json" id="findings">(.*?)</script>', page)
    return json.loads(block)


@pytest.fixture(scope="module")
def page(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(made_path, output=tmp_path_factory.mktemp("page") / "made.html")


def reported(store: Store, letter: str = "") -> Reported:
    found = analyse(store, resamples=20)
    beyond = count_beyond(store, store.layers, None)
    return Reported(letter, str(store.path), found, beyond, (), found.layers)


# Content


@pytest.mark.parametrize("contrasts", [None, ["faces > bodies", "scenes"]])
def test_units_count_beyond_equal_a_query(store: Store, contrasts: list[str] | None) -> None:
    found = count_beyond(store, store.layers, contrasts)
    assert set(found) == (set(GRIDS) if contrasts is None else set(GRIDS) - {"q_each"})
    for name, rows in found.items():
        for place in {0, GRIDS[name].first, len(GRIDS[name].at) - 1}:
            rule = f"{name} {GRIDS[name].sign} {GRIDS[name].at[place]!r}"
            own = contrasts or [f'"{category}"' for category in store.categories]
            counted = [store.query(f"{one}: {rule}").counts()["matching"].tolist() for one in own]
            assert [row.selective[:, place].tolist() for row in rows] == np.transpose(
                counted
            ).tolist()


def test_margins_equal_those_of_a_ratio_over_feature_maps(store: Store) -> None:
    found = count_beyond(store, store.layers, None)["t"]
    for layer, row in zip(store.layers, found, strict=True):
        t = np.array(store.read(layer, "t")).reshape(len(store.categories), *layer.shape)
        for k, (place, x) in itertools.product(range(len(t)), enumerate(GRIDS["t"].at)):
            if "channel" in layer.dims:
                maps = np.moveaxis(t[k], layer.dims.index("channel"), 0).reshape(
                    -1, layer.units // layer.shape[layer.dims.index("channel")]
                )
            else:
                maps = t[k].reshape(-1, 1)
            counts = [sum(bool(value > np.float32(x)) for value in one) for one in maps]
            number, mean = len(counts), sum(counts) / len(counts)
            variance = number / (number - 1) * sum((c - mean) ** 2 for c in counts) / layer.units**2
            assert row.margin[k, place] == pytest.approx(
                1.959963984540054 * math.sqrt(variance), abs=1e-12
            )


def test_the_page_has_the_numbers_of_the_analysis(page: str, made_path: Path) -> None:
    found, data = analyse(open_store(made_path), resamples=20), data_of(page)
    (store,) = data["stores"]
    shares = store["tables"]["shares"]
    assert len(shares["layer"]) == len(found.shares)
    for place, row in enumerate(found.shares):
        read = {name: values[place] for name, values in shares.items()}
        assert store["layers"][read["layer"]] == row.layer
        assert data["contrasts"][read["contrast"]]["name"] == row.contrast
        assert (read["units"], read["living"], read["selective"]) == (
            row.units,
            row.living,
            row.selective,
        )
        for name in ("share", "low", "high"):
            assert read[name] == pytest.approx(getattr(row, name), rel=5e-4)
    assert found.consistency is not None
    assert store["consistency"]["cka"][0][1] == pytest.approx(found.consistency.cka[0][1], abs=1e-4)
    spread = store["tables"]["spread"]
    assert spread["gini_low"][0] == pytest.approx(found.spread[0].random["gini"].low, rel=5e-4)


def test_numbers_have_four_digits_and_infinities_are_named() -> None:
    assert rounded([1 / 3, 2.0, float("nan"), float("-inf"), 12345.678, 7, None, "a"]) == [
        0.3333, 2, None, "-Infinity", 12350, 7, None, "a",
    ]  # fmt: skip


def test_almost_one_is_not_one() -> None:
    assert rounded([0.99997, -0.99997, 1.0, 1.00001]) == [0.9999, -0.9999, 1, 1]
    assert [percent(share) for share in (0.9997, 1, 0.9994)] == [
        f"{text}\N{NO-BREAK SPACE}%" for text in ("> 99.9", "100.0", "99.9")
    ]


@pytest.mark.parametrize(("high", "wide"), [(65, 1), (66, 90), (112, 112), (1, 127)])
def test_large_maps_are_shown_as_block_means_of_living_locations(high: int, wide: int) -> None:
    from fusiform.engine.analyses.localisation import Localisation
    from fusiform.engine.plotting.tables import _in_blocks

    rng = np.random.default_rng(high)
    cells = tuple(
        tuple(None if rng.random() < 0.5 else rng.random() for _ in range(wide))
        for _ in range(high)
    )
    row = Localisation(
        "l", "c", "image", "rook", high * wide, 1, None, None, None, None, None, cells
    )
    shown = _in_blocks(row, 64)
    assert shown["block"] == 2
    for y, x in itertools.product(range(math.ceil(high / 2)), range(math.ceil(wide / 2))):
        block = [row[2 * x : 2 * x + 2] for row in cells[2 * y : 2 * y + 2]]
        known = [cell for row in block for cell in row if cell is not None]
        value = shown["map"][y][x]
        mean = sum(known) / len(known) if known else math.nan
        assert value == pytest.approx(mean, nan_ok=True)


def with_provenance(one: Reported, **changed: Any) -> Reported:
    provenance = {**one.analysis.provenance, **changed}
    return replace(one, analysis=replace(one.analysis, provenance=provenance))


def words(markup: str) -> str:
    return html.unescape(re.sub("<[^>]*>", " ", markup))


def test_the_headline_is_the_largest_share(store: Store) -> None:
    one = reported(store)
    rows = [row for row in one.analysis.shares if row.layer != "head"]
    largest = max(rows, key=lambda row: row.share)
    said = html.unescape(re.sub("<[^>]*>", "", headline([one])))
    assert f"most frequent for {largest.contrast}, in {largest.layer}: " in said
    assert f"{100 * largest.share:.1f}\N{NO-BREAK SPACE}%" in said
    assert "95\N{NO-BREAK SPACE}% interval" in said
    assert "untrained" not in said
    assert "It is untrained: " in headline([with_provenance(one, weights="untrained, seed 3")])
    tiles = re.findall("<h3>", peaks([one]))
    assert len(tiles) == len(store.categories)


def test_a_store_without_selective_units_says_so(store: Store) -> None:
    found = analyse(store, Criterion(where="t > 1e9"), resamples=5)
    one = Reported("", "x", found, count_beyond(store, store.layers, None), (), found.layers)
    assert "no unit of 3 layers is selective" in headline([one])
    assert "no selective unit in any layer" in peaks([one])
    assert json_block(findings([one]))


def test_layers_without_positions_are_apart_from_those_with(store: Store) -> None:
    """A head of units that are all selective is no peak, and is named beside it."""
    one = reported(store)
    rows = tuple(
        replace(row, selective=row.units, share=1.0) if row.layer == "head" else row
        for row in one.analysis.shares
    )
    one = replace(one, analysis=replace(one.analysis, shares=rows))
    assert one.analysis.placeless == ("head",)
    said = words(headline([one]))
    assert "of its 30 units" in said or "of its 24 units" in said
    assert "Without positions: 100.0\N{NO-BREAK SPACE}% of the 11 units of head" in said
    said = words(peaks([one]))
    assert said.count("without positions: 100.0\N{NO-BREAK SPACE}% of 11 in head") == 4
    assert "Layers without positions (head) are apart" in said
    data = findings([one])["stores"][0]
    assert [data["layers"][place] for place in data["placeless"]] == ["head"]
    assert findings([one])["layer"] != "head"


def test_a_network_of_layers_without_positions_has_its_peaks_in_them(tmp_path: Path) -> None:
    made.fill(tmp_path / "flat.zarr", made.LAYERS[2:])
    one = reported(open_store(tmp_path / "flat.zarr"))
    assert one.analysis.placeless == ()
    assert "in head: " in words(headline([one]))
    assert "without positions" not in words(peaks([one])).lower()


def test_shares_on_all_stimuli_are_told_apart_from_selection_on_one_fold(store: Store) -> None:
    one = reported(store)
    found = [one.csi(row.layer, row.contrast) for row in one.peaks().values()]
    held_out = next(row for row in found if row and row.mean is not None and row.units >= 10)
    said = words(peaks([one])).replace("\N{NO-BREAK SPACE}", " ")
    assert f"held-out CSI {held_out.mean:.2f} (n = {held_out.units:,})" in said
    assert "Share: units selected on all stimuli" in said
    assert "units, selected on all stimuli" in words(headline([one]))
    enough = tuple(replace(row, units=10, mean=0.5) for row in one.analysis.specificity)
    other = replace(one, analysis=replace(one.analysis, specificity=enough))
    said = "Units selected on one fold have a mean CSI of 0.50 on the others."
    assert said in words(headline([other]))
    few = "selected on one fold of the stimuli alone, too few for a held-out CSI"
    for number, mean, named in ((0, None, f"None is {few}"), (9, 1.0, f"Only 9 are {few}")):
        rows = tuple(replace(row, units=number, mean=mean) for row in one.analysis.specificity)
        other = replace(one, analysis=replace(one.analysis, specificity=rows))
        assert named in words(headline([other]))
        assert f"on one fold alone {number}, too few for a CSI" in words(peaks([other]))


@pytest.mark.parametrize(
    ("name", "weights", "control"),
    [
        ("b.zarr", "untrained, seed 0", "untrained"),
        ("r50-control.zarr", "file x.pth", "control"),
        ("Random_r50.zarr", "file x.pth", "random"),
        ("randomized.zarr", "file x.pth", ""),
        ("controlnet.zarr", "file x.pth", ""),
    ],
)
def test_a_control_is_marked_wherever_it_stands(
    store: Store, name: str, weights: str, control: str
) -> None:
    one = replace(with_provenance(reported(store, "B"), weights=weights), name=f"x/{name}")
    assert one.control == control
    said = " ".join([one.label, title([one]), words(peaks([one]))])
    if control:
        assert control in one.label.lower()
        assert title([one]) == f"Category-selective units in {control} made-up"
        assert words(peaks([one])).count(f"B, {control}: ") == len(store.categories)
        assert one.label.lower().count(control) == 1
    else:
        assert not re.search(r"\b(untrained|control|random)\b", said)
    assert findings([one])["stores"][0]["control"] == control


def test_an_untrained_network_without_selective_units_is_called_untrained(store: Store) -> None:
    found = analyse(store, Criterion(where="t > 1e9"), resamples=5)
    one = Reported("", "x", found, count_beyond(store, store.layers, None), (), found.layers)
    assert "It is untrained" in headline([with_provenance(one, weights="untrained, seed 0")])


def test_stores_get_distinct_names() -> None:
    assert letters(1) == [""]
    assert letters(28)[25:] == ["Z", "AA", "AB"]


@pytest.mark.parametrize(
    ("criterion", "said", "cited"),
    [
        (Criterion(), "minimum-statistic conjunction", ["Nichols", "Hochberg"]),
        (Criterion("rest", "t > 10"), "pooled", ["Welch"]),
        (Criterion("student", "q <= 0.05", 2, "by"), "two-sided", ["Yekutieli", "Student"]),
        (Criterion("weighted", "t > 3"), "weighted sum of category means", ["Satterthwaite"]),
        (Criterion("glm", "t > 3"), "one residual variance", ["Friston"]),
    ],
)  # fmt: skip
def test_the_method_defines_the_criterion_and_cites_what_it_names(
    store: Store, criterion: Criterion, said: str, cited: list[str]
) -> None:
    text = html.unescape(method([reported(store)], ["some stimuli"], criterion, "1.2.3"))
    text, references = text.split("References")
    assert said in text
    assert criterion.where in text
    for name in cited:
        assert name in references
    if criterion.correction != "by":
        assert "Yekutieli" not in references
    for reference in re.findall(r"<li>(\w+)", references):
        assert reference in text


# Safe and self-contained


def test_text_is_escaped_in_markup() -> None:
    for text in HOSTILE:
        assert tag("p", text, title=text).count("<") == 2
        assert html.unescape(tag("p", text)) == f"<p>{text}</p>"
    assert tag("p", Markup("<b>x</b>")) == "<p><b>x</b></p>"
    assert join(["\udcff"]) == "\\udcff"
    assert join(["a & b", Markup("&amp;")]) == "a &amp; b&amp;"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_nothing_in_a_block_of_json_can_end_it(value: Any) -> None:
    block = json_block({"value": value, "hostile": HOSTILE})
    assert not set("<>&\u2028\u2029") & set(block)
    assert block.isascii()
    assert json.loads(block) == {"value": value, "hostile": list(HOSTILE)}


def test_json_with_infinity_raises() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_block([math.inf])


def test_only_the_pages_own_script_may_run(page: str) -> None:
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    directives = dict(part.split(" ", 1) for part in html.unescape(policy).split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for kind, element in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[kind] == f"'sha256-{digest}'"
    assert not re.findall(r"<[^>]* (?:style|on\w+)=", page.split('<script type="application')[0])


def test_the_page_refers_to_no_other_resource(page: str) -> None:
    addresses = re.findall(r"""https?://[^\s"'<)]+""", page)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a language tag
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert links
    assert all(link.startswith("#") for link in links)
    assert "@import" not in page


def test_the_page_does_not_reveal_local_paths(page: str, made_path: Path) -> None:
    assert made_path.name in page
    assert str(made_path.parent) not in page
    found = fusiform.info(made_path)
    own = replace(found, attributes={**found.attributes, "stimuli": "/home/me/one, /home/me/two/"})
    told = dict(facts(own, whole_paths=False))
    assert told["stimuli"] == f"{found.stimuli:,}, of one, two"
    assert dict(facts(own))["stimuli"].endswith(", of /home/me/one, /home/me/two/")


def test_category_names_with_markup_are_shown_as_text(page: str) -> None:
    assert "<b>words</b>" in made.CATEGORIES
    assert "<b>" not in page
    assert "&lt;b&gt;words&lt;/b&gt;" in page


def test_long_names_of_categories_break_at_underscores(
    made_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(made, "CATEGORIES", ("scrambled_<b>", "bodies", "words", "x"))
    made.fill(tmp_path / "named.zarr", made.LAYERS[2:])
    found = str(peaks([reported(open_store(tmp_path / "named.zarr"))]))
    assert "<span>scrambled_<wbr>&lt;b&gt;</span>" in found


def test_the_same_stores_give_the_same_bytes(made_path: Path, tmp_path: Path) -> None:
    first = written(made_path, made_path, output=tmp_path / "a.html")
    assert written(made_path, made_path, output=tmp_path / "b.html") == first
    assert written(made_path, made_path, output=tmp_path / "b.html") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


# Warnings and errors


def test_scans_of_different_stimuli_are_noted(
    own_store: Store, made_path: Path, tmp_path: Path
) -> None:
    warning = "differs from A in"
    assert warning not in written(made_path, own_store.path, output=tmp_path / "same.html")
    made.annotate(Path(own_store.path), preprocessing={"resize": 1})
    page = written(made_path, own_store.path, output=tmp_path / "other.html")
    assert f"B {warning} preprocessing:" in page


@pytest.mark.parametrize("asked", [None, ["scenes > faces", "bodies", "faces", "scenes"]])
def test_a_page_shows_the_leading_of_many_contrasts_and_says_so(
    asked: list[str] | None, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excerpts, "MOST_CONTRASTS", 3)
    monkeypatch.setattr(excerpts, "LEADING", 2)
    page = written(Path(store.path), output=tmp_path / "a.html", contrasts=asked)
    peaks: dict[str, float] = {}
    for row in fusiform.summary(store, contrasts=asked):
        peaks[row.contrast] = max(peaks.get(row.contrast, 0), row.share)
    leading = sorted(peaks, key=lambda name: -peaks[name])[:2]
    assert {one["name"] for one in data_of(page)["contrasts"]} == set(leading)
    assert "The page shows 2 of 4 contrasts: those with the largest share" in page
    assert "is left out: it compares" not in page


def test_contrasts_lead_over_all_stores_and_every_store_has_one(
    store: Store, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excerpts, "MOST_CONTRASTS", 2)
    monkeypatch.setattr(excerpts, "LEADING", 1)
    found = excerpts.leading_contrasts([store, own_store], DEFAULT, "*", None)
    assert found[0] == found[1]
    assert len(found[0] or ()) == 1
    monkeypatch.setattr(own_store, "categories", tuple(f"other {k}" for k in range(4)))
    first, second = excerpts.leading_contrasts([store, own_store], DEFAULT, "*", None)
    assert (len(first or ()), len(second or ())) == (1, 1)


def test_curves_have_all_layers_and_figures_of_one_layer_some(
    made_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data_of(written(made_path, output=tmp_path / "whole.html"))
    monkeypatch.setattr(excerpts, "MOST_LAYERS", 2)
    monkeypatch.setattr(excerpts, "peaks_of", lambda _: {})
    monkeypatch.setattr(excerpts, "first_layer", lambda found: found.layers[0])
    page = written(made_path, output=tmp_path / "a.html")
    (one,), (every,) = data_of(page)["stores"], whole["stores"]
    assert (one["layers"], every["detailed"]) == (every["layers"], [0, 1, 2])
    assert one["detailed"] == [0, 2]
    assert "Curves have all 3 layers" in page
    assert one["tables"]["shares"] == every["tables"]["shares"]
    assert set(one["tables"]["localisation"]["layer"]) <= {0, 2}
    histograms = zip(*(one["tables"]["specificity"][name] for name in ("layer", "histogram")),
                     strict=True)  # fmt: skip
    assert {layer for layer, histogram in histograms if histogram} == {0, 2}
    rows = [[matrix[i][j] for j in (0, 2)] for matrix in [every["consistency"]["spearman"]]
            for i in (0, 2)]  # fmt: skip
    assert one["consistency"]["spearman"] == rows
    for name, counts in one["thresholds"].items():
        assert counts == [every["thresholds"][name][i] for i in (0, 2)]


def test_all_pairs_of_many_categories_are_left_out_and_the_page_says_so(
    made_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excerpts, "MOST_SORTED", 11)
    page = written(made_path, output=tmp_path / "b.html")
    assert not any("kendall" in name for name in data_of(page)["stores"][0]["consistency"])
    assert "without Kendall" in page
    monkeypatch.setattr(excerpts, "MOST_DISTANCES", 47)
    page = written(made_path, output=tmp_path / "a.html")
    assert data_of(page)["stores"][0]["consistency"] == {}
    assert "it compares all pairs of 4 categories" in page


def test_a_report_refuses_no_store_and_unknown_layers(made_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got none"):
        fusiform.report([], tmp_path / "a.html")
    with pytest.raises(UserError, match="written into an existing folder"):
        fusiform.report([made_path], tmp_path / "nowhere" / "a.html", resamples=1, layers="head")
    with pytest.raises(UserError, match="no layer 'none'"):
        fusiform.report([made_path], tmp_path / "a.html", layers="none")
    assert list(tmp_path.iterdir()) == []


def test_contrasts_and_layers_of_a_report_can_be_chosen(made_path: Path, tmp_path: Path) -> None:
    page = written(
        made_path, output=tmp_path / "a.html", contrasts=["faces > bodies"], layers=["h*"]
    )
    data = data_of(page)
    assert [one["name"] for one in data["contrasts"]] == ["faces > bodies"]
    assert data["stores"][0]["layers"] == ["head"]
    assert "q_each" not in data["thresholds"]
    assert data["stores"][0]["tables"]["confusion"]["share"] == []


# Colours


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast_ratio(one: str, other: str) -> float:
    low, high = sorted(float(_linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


# Machado, Oliveira & Fernandes 2009, table 1, severity 1.
SEEN = {
    "all cones": np.eye(3),
    "no L cones": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "no M cones": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                            [-0.011820, 0.042940, 0.968881]]),
    "no S cones": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip


def _oklab(linear: np.ndarray) -> np.ndarray:
    """Oklab (Ottosson 2020): distances approximate perceived differences."""
    cones = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                      [0.2119034982, 0.6806995451, 0.1073969566],
                      [0.0883024619, 0.2817188376, 0.6299787005]]) @ linear.clip(0, 1)  # fmt: skip
    return np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                     [1.9779984951, -2.4285922050, 0.4505937099],
                     [0.0259040371, 0.7827717662, -0.8086757660]]) @ np.cbrt(cones)  # fmt: skip


def seen_difference(one: str, other: str) -> float:
    """The smallest difference of two colours to readers of any colour vision; 2 is noticeable."""
    found = [_oklab(seen @ _linear(one)) - _oklab(seen @ _linear(other)) for seen in SEEN.values()]
    return min(100 * float(np.linalg.norm(difference)) for difference in found)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_category_colours_are_distinguishable_with_any_colour_vision(theme: str) -> None:
    colours = [palette.of_category(place)[theme] for place in range(palette.NUMBER)]
    assert len(colours) == 12
    assert min(contrast_ratio(c, palette.THEMES[theme]["paper"]) for c in colours) >= 3
    for one, other in itertools.combinations(colours, 2):
        assert seen_difference(one, other) > 8


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_colours_have_enough_contrast(theme: str) -> None:
    own = palette.THEMES[theme]
    for ink, on in itertools.product(("ink", "muted"), ("paper", "ground")):
        assert contrast_ratio(own[ink], own[on]) >= 4.5


def test_all_categories_differ_without_colour_in_marker_or_dash() -> None:
    shown = [palette.of_category(place) for place in range(excerpts.MOST_CONTRASTS)]
    styles = [(style["marker"], style["dash"]) for style in shown]
    assert len(set(styles)) == excerpts.MOST_CONTRASTS


# How to cite


def test_the_page_cites_the_study_and_the_software(page: str) -> None:
    known = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    title, study = re.findall('title: "?([^"\n]*)', known)
    (entry, software) = re.findall(r"@\w+{.*?\n}", page, re.DOTALL)
    assert f"title = {{{study}}}" in entry
    assert f"title = {{{title}}}" in software
    names = re.findall(r"family-names: (\w+)\n *given-names: (\w+)", known)
    assert f"author = {{{' and '.join(', '.join(name) for name in names)}}}" in entry
    assert known.rstrip().endswith("/" + re.findall("eprint = {(.*)}", entry)[0])
    assert f"version = {{{version('fusiform')}}}" in software
    assert 'href="#cite-title"' in page


# Notebooks


def test_a_notebook_shows_a_store_and_reads_its_masks_alone(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chunk in Path(own_store.path).glob("*/*/c*"):  # of layers alone
        if chunk.parent.name not in ("selective", "extremes"):  # extremes tell chunks to skip
            chunk.unlink()
    shown = own_store._repr_html_()
    counted = own_store.query("selective").counts()
    assert re.findall(r">([\d.]+)</span>", shown) == [f"{100 * s:.2f}" for s in counted["share"]]
    assert max(counted["share"]) > 0.1
    monkeypatch.setattr(notebook, "_MOST_MASKS", 10)
    assert "selective %" not in own_store._repr_html_()
    monkeypatch.undo()
    for chunk in Path(own_store.path).glob("*/*/c*"):
        chunk.unlink()
    shown = own_store._repr_html_()
    assert "</span>" not in shown
    assert "fusiform check" in shown
    assert "made-up (none)" in shown
    assert "&lt;b&gt;words&lt;/b&gt;" in shown
    assert "<b>" not in shown
    assert "layer1.0" in shown
    query = own_store.query("faces: t > 5 and csi < 1")
    shown = query._repr_html_()
    assert "faces: t &gt; 5 and csi &lt; 1" in shown
    tree = own_store.select("faces", Criterion(where="t > 5"))
    assert "t &gt; 5" in tree["layer1.0"].to_dataset()._repr_html_()


def test_a_notebook_shows_a_table_escaped(store: Store) -> None:
    shown = store.query("").counts()._repr_html_()
    assert "&lt;b&gt;words&lt;/b&gt;" in shown
    assert "<b>words" not in shown


def test_a_long_store_is_shown_abridged_in_a_notebook(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = tuple(replace(store.layers[0], name=f"layer{i}") for i in range(60))
    monkeypatch.setattr(store, "layers", layers)
    shown = store._repr_html_()
    assert "and 10 more" in shown
    assert "layer49" in shown
    assert "layer50" not in shown
