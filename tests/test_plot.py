"""Plots in matplotlib show the values of their results, on the axes given or new ones."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusiform
from fusiform import Criterion, UserError, plot
from fusiform.engine.analyses.analyse import Analysis
from fusiform.engine.comparing.brains.compare import BrainComparison
from fusiform.engine.comparing.brains.populations import EVERY_UNIT
from fusiform.engine.comparing.differences import Comparison
from fusiform.engine.comparing.localizers import LocalizerComparison
from fusiform.engine.layer import Layer
from fusiform.engine.lesions.result import Effect, LesionEffects
from fusiform.engine.responses.driving import strongest

from . import made

pyplot = pytest.importorskip("matplotlib.pyplot")
pyplot.switch_backend("Agg")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def found(made_path: Path) -> Analysis:
    return fusiform.analyse(made_path, resamples=20)


@pytest.fixture(scope="module")
def pooled(made_path: Path) -> Analysis:
    """An analysis whose criterion may select a unit for two contrasts."""
    return fusiform.analyse(made_path, Criterion("rest", "t > 0"), resamples=5)


@pytest.fixture(scope="module")
def compared(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> BrainComparison:
    """The synthetic store beside two regions of three subjects."""
    rng = np.random.default_rng(0)
    lines = ["region,subject,category,response"]
    lines += [f"{region},{subject},{name},{k + rng.normal()}" for region in ("FFA", "PPA")
              for subject in "abc" for k, name in enumerate(made.CATEGORIES)]  # fmt: skip
    table = tmp_path_factory.mktemp("regions") / "regions.csv"
    table.write_text("\n".join(lines) + "\n")
    return fusiform.compare_regions(made_path, table)


@pytest.fixture(scope="module")
def trained(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The synthetic store at three epochs, in the middle of which it has other responses."""
    folder = tmp_path_factory.mktemp("trained")

    def others(layer: Layer) -> list[list[np.ndarray]]:
        return [[values[:, ::-1] ** 2 for values in folds] for folds in made.samples(layer)]

    made.fill(folder / "other.zarr", drawn=others)
    stores = [made_path, folder / "other.zarr", made_path]
    return fusiform.compare(stores, at=[0, 1, 20], resamples=20)


@pytest.fixture(scope="module")
def lesioned() -> LesionEffects:
    """A lesion with two controls, in three categories and their contrast."""
    rows = [
        Effect("probability", lesion, category, 9, 0.5, 0.5 + change, change, change - 0.1,
               change + 0.2, None, None)
        for change, (lesion, category) in zip(
            np.linspace(-0.5, 0.1, 12).tolist(),
            itertools.product(("selective", "matched", "random"), ("a", "b", "c", "a > b")),
            strict=True,
        )
    ]  # fmt: skip
    return LesionEffects(
        store="made.zarr", provenance={}, contrast="b", contrast_row="a > b", criterion="t > 5",
        layers=("head",), readout="classes", quantities=("probability",),
        categories=("a", "b", "c"), selected_on="other folds", stimuli=27, draws=1, resamples=9,
        seed=0, silenced=(), effects=tuple(rows), differences=(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def localized(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalizerComparison:
    """The synthetic store, and another of the same units with other stimuli."""
    other = tmp_path_factory.mktemp("localized") / "other.zarr"

    def shifted(layer: Layer) -> list[list[np.ndarray]]:
        return [[values + np.linspace(0, 0.1, len(values))[:, np.newaxis] for values in folds]
                for folds in made.samples(layer)]  # fmt: skip

    made.fill(other, drawn=shifted)
    both = [shutil.copytree(made_path, other.parent / "own.zarr"), other]
    for path in both:
        made.annotate(path, weights_sha256="a" * 64)
    return fusiform.compare_localizers(both, Criterion("rest", "t > 3"), resamples=20)


@pytest.fixture(scope="module")
def asks(
    found: Analysis,
    pooled: Analysis,
    compared: BrainComparison,
    trained: Comparison,
    lesioned: LesionEffects,
    localized: LocalizerComparison,
    made_path: Path,
    two_stores: Path,
) -> dict[str, Callable[..., Any]]:
    """A call of every public function, without its axes."""
    return {
        "best_images": lambda **ax: plot.best_images(two_stores / "r.zarr", "blobs", **ax),
        "by_depth": lambda **ax: plot.by_depth(found, **ax),
        "confusion": lambda **ax: plot.confusion(found, **ax),
        "consistency": lambda **ax: plot.consistency(found, **ax),
        "distributions": lambda **ax: plot.distributions(found, **ax),
        "lesions": lambda **ax: plot.lesions(lesioned, **ax),
        "localizers": lambda **ax: plot.localizers(localized, **ax),
        "map": lambda **ax: plot.map(found, "faces", **ax),
        "overlap": lambda **ax: plot.overlap(pooled, **ax),
        "regions": lambda **ax: plot.regions(compared, "FFA", **ax),
        "training": lambda **ax: plot.training(trained, "layer1.0", **ax),
        "tuning": lambda **ax: plot.tuning(made_path, "layer1.0", **ax),
    }


def points(axis: Any, label: str) -> dict[float, float]:
    """The points of a line, by x."""
    (line,) = [one for one in axis.get_lines() if one.get_label() == label]
    pairs = zip(*(np.asarray(one, float).tolist() for one in line.get_data()), strict=True)
    return {x: y for x, y in pairs if y == y}


def said(axis: Any) -> str:
    """The small print below the title, in one line."""
    (text,) = [one.get_text() for one in axis.texts if one.get_gid() == "said"]
    return text.replace("\n", " ")


def test_every_plot_draws_on_the_axes_given_and_changes_no_settings(
    asks: dict[str, Callable[..., Any]],
) -> None:
    assert set(asks) == set(plot.__all__)
    before = dict(pyplot.matplotlib.rcParams)
    for ask in asks.values():
        _, (ax, other) = pyplot.subplots(1, 2)
        assert ask(ax=ax) is ax
        assert ax.has_data()
        assert ax.get_title()
        assert not other.has_data()
        known = pyplot.get_fignums()
        new = ask()
        assert [*known, new.figure.number] == pyplot.get_fignums()
        pyplot.close("all")
    assert dict(pyplot.matplotlib.rcParams) == before


def test_a_title_of_the_users_replaces_ours(found: Analysis) -> None:
    ax = plot.by_depth(found)
    ax.set_title("mine")
    assert [ax.get_title(where) for where in ("left", "center", "right")] == ["", "mine", ""]


def test_something_else_than_axes_is_refused(asks: dict[str, Callable[..., Any]]) -> None:
    for ask in asks.values():
        with pytest.raises(UserError, match=r"^`ax` are axes of matplotlib; got str"):
            ask(ax="wrong")
    assert not pyplot.get_fignums()


def test_a_missing_matplotlib_is_named(
    asks: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for ask in asks.values():
        with pytest.raises(UserError, match=r"pip install 'fusiform\[figures\]'"):
            ask()


def test_importing_plots_loads_no_matplotlib() -> None:
    code = "import sys, fusiform; fusiform.plot.map; import fusiform.plot; "
    code += "print([name for name in ('matplotlib', 'torch') if name in sys.modules])"
    asked = [sys.executable, "-c", code]
    result = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# Measures by depth

_MEASURED: dict[str, tuple[str, str]] = {
    "share": ("shares", "share"),
    "share_of_living": ("shares", "share_of_living"),
    "csi": ("specificity", "mean"),
    "d_prime": ("specificity", "mean"),
    "share_with_any": ("spread", "share_with_any"),
    "gini": ("spread", "gini"),
    "entropy": ("spread", "entropy"),
    "strength": ("strength", "preferred"),
}


@pytest.mark.parametrize("measure", _MEASURED)
def test_lines_have_the_values_of_the_analysis(found: Analysis, measure: str) -> None:
    table, name = _MEASURED[measure]
    ax = plot.by_depth(found, measure)
    drawn = 0
    for contrast in found.contrasts:
        rows = [row for row in getattr(found, table) if row.contrast == contrast]
        if table == "specificity":
            rows = [row for row in rows if row.measure == measure]
        if table in ("specificity", "strength"):
            rows = [row for row in rows if row.units >= 10]
        expected = {found.layers.index(row.layer): getattr(row, name) for row in rows}
        assert points(ax, contrast) == {x: y for x, y in expected.items() if y is not None}
        drawn += len(expected)
    assert drawn
    assert [label.get_text() for label in ax.get_xticklabels()] == list(found.layers)
    assert said(ax).startswith(f"selective: {found.criterion}")
    assert ("(%)" in ax.get_ylabel()) == measure.startswith("share")


def test_bands_are_the_intervals_of_the_analysis(found: Analysis) -> None:
    ax = plot.by_depth(found, "share", "faces")
    (band,) = [one for one in ax.collections if len(one.get_paths()[0].vertices) > 4]
    vertices = set(map(tuple, band.get_paths()[0].vertices.tolist()))
    for row in found.shares:
        if row.contrast == "faces" and row.layer != "head":
            x = found.layers.index(row.layer)
            assert {(x, row.low), (x, row.high)} <= vertices


def test_plots_that_share_an_axis_have_one_scale(made_path: Path) -> None:
    """Points beyond the scale of one plot alone are marked at the edge of the common one."""
    few = fusiform.analyse(made_path, Criterion(where="t > 4"), analyses="shares", resamples=5)
    many = fusiform.analyse(made_path, Criterion(where="t > 0"), analyses="shares", resamples=5)
    alone = [plot.by_depth(one).get_ylim() for one in (few, many)]
    _, axes = pyplot.subplots(1, 2, sharey=True)
    for one, ax in zip((few, many), axes, strict=True):
        plot.by_depth(one, ax=ax)
    assert alone[0][1] < alone[1][1]
    limits = min(low for low, _ in alone), max(high for _, high in alone)
    for one, ax in zip((few, many), axes, strict=True):
        assert ax.get_ylim() == limits
        beyond = {row.share for row in one.shares if row.share > limits[1]}
        marks = [line for line in ax.get_lines() if line.get_label() == "_beyond"]
        assert all(y == limits[1] for line in marks for y in line.get_ydata())
        assert bool(marks) == bool(beyond)


def test_random_units_and_other_categories_are_named_once(found: Analysis) -> None:
    for measure, name in (("gini", "as many random units"), ("strength", "other categories")):
        texts = [text.get_text() for text in plot.by_depth(found, measure).get_legend().get_texts()]
        assert texts.count(name) == 1
    row = next(row for row in found.spread if row.contrast == "faces" and row.random)
    ax = plot.by_depth(found, "gini", "faces")
    bands = np.concatenate(
        [one.get_paths()[0].vertices for one in ax.collections if one.get_paths()]
    )
    chance = row.random["gini"]
    x = found.layers.index(row.layer)
    assert {(x, chance.low), (x, chance.high)} <= set(map(tuple, bands.tolist()))


def test_a_category_has_the_reports_colour_in_any_choice(found: Analysis) -> None:
    def colours(ax: Any) -> dict[str, Any]:
        return {line.get_label(): line.get_color() for line in ax.get_lines()}

    every, one = plot.by_depth(found), plot.by_depth(found, contrasts=["scenes"])
    assert colours(one)["scenes"] == colours(every)["scenes"]
    assert "faces" not in colours(one)
    styles = {(line.get_marker(), line.get_linestyle()) for line in every.get_lines()
              if line.get_label() in found.contrasts}  # fmt: skip
    assert len(styles) == len(found.contrasts)


@pytest.fixture(scope="module")
def none(made_path: Path) -> Analysis:
    """An analysis in which no unit is selective."""
    return fusiform.analyse(made_path, Criterion(where="t > 1e6"), resamples=5)


def test_an_analysis_without_selective_units_says_so(none: Analysis) -> None:
    plots = [
        plot.by_depth(none),
        plot.by_depth(none, "csi"),
        plot.by_depth(none, "strength"),
        plot.distributions(none),
        plot.map(none, "faces"),
    ]
    for ax in plots:
        assert any(
            "selective units" in text.get_text() for text in ax.texts if text.get_gid() == "blank"
        )
        assert not [one for one in ax.get_lines() if any(one.get_ydata())]
        ax.figure.canvas.draw()


def test_an_empty_panel_says_why(found: Analysis, tmp_path: Path) -> None:
    few = tuple(replace(row, units=min(row.units, 9)) for row in found.specificity)
    dead = [[[np.ones((6, 11))] * 2] * len(made.CATEGORIES)]
    made.fill(tmp_path / "dead.zarr", made.LAYERS[2:], lambda _: dead[0])
    one = fusiform.analyse(tmp_path / "dead.zarr", resamples=2)
    for ax, why in (
        (plot.by_depth(replace(found, specificity=few), "csi"), "fewer than 10 selective units"),
        (plot.confusion(one, "head"), "no living units"),
        (plot.tuning(tmp_path / "dead.zarr", "head"), "no unit lives, or all respond alike"),
    ):
        assert [one.get_text() for one in ax.texts if one.get_gid() == "blank"] == [why]


def test_one_layer_and_one_contrast_are_drawn(made_path: Path) -> None:
    one = fusiform.analyse(made_path, layers="layer1.0", contrasts="faces", resamples=5)
    ax = plot.by_depth(one)
    assert points(ax, "faces") == {0: one.shares[0].share}
    ax.figure.canvas.draw()
    assert plot.consistency(one).images[0].get_array().shape == (1, 1)


def test_names_are_shown_as_they_are(found: Analysis) -> None:
    """A dollar sign begins no formula, and an underscore hides no line."""
    names = (r"$\frac$", "_b^c")
    rows = [
        replace(row, contrast=names[k], layer=r"$\frac") for k, row in enumerate(found.shares[:2])
    ]
    odd = replace(found, contrasts=names, layers=(r"$\frac",), shares=tuple(rows), placeless=())
    ax = plot.by_depth(odd)
    ax.figure.canvas.draw()
    shown = [text.get_text().strip().replace("\\$", "$") for text in ax.get_legend().get_texts()]
    assert shown == list(names)


def test_a_hundred_layers_have_few_names(found: Analysis) -> None:
    layers = tuple(f"features.denseblock4.denselayer{k}.conv" for k in range(100))
    rows = tuple(
        replace(found.shares[0], layer=name, share=k / 100) for k, name in enumerate(layers)
    )
    many = replace(found, layers=layers, shares=rows, placeless=())
    ax = plot.by_depth(many, contrasts="faces")
    assert points(ax, "faces") == {k: k / 100 for k in range(100)}
    assert 10 <= len(ax.get_xticks()) <= 40
    assert ax.get_xticklabels()[0].get_text() == "features.den…layer0.conv"


def test_more_contrasts_than_can_be_told_apart_are_refused(found: Analysis) -> None:
    names = tuple(f"c{k}" for k in range(25))
    rows = tuple(replace(found.shares[0], contrast=name) for name in names)
    many = replace(found, contrasts=names, shares=rows)
    with pytest.raises(UserError, match=r"24 contrasts apart; got 25: name some in `contrasts`"):
        plot.by_depth(many)
    ax = plot.by_depth(many, contrasts=list(names[1:]))
    styles = {
        (line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.get_lines()
    }
    assert len(styles) == 24


# A layer


@pytest.mark.parametrize("measure", ["csi", "d_prime"])
def test_distributions_are_the_histograms_of_a_layer(found: Analysis, measure: str) -> None:
    ax = plot.distributions(found, "layer1.0", measure)
    rows = {row.contrast: row for row in found.specificity
            if (row.layer, row.measure) == ("layer1.0", measure) and row.units >= 10}  # fmt: skip
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == [f"{row.contrast}, n = {row.units}" for row in reversed(rows.values())]
    for base, (row, patch) in enumerate(zip(reversed(rows.values()), ax.patches, strict=True)):
        values, edges, baseline = patch.get_data()
        counts = np.array(row.histogram)
        assert values == pytest.approx(base + 0.85 * counts / counts.max())
        assert baseline == base
        assert (edges[0], edges[-1]) == row.edges
    medians = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "|"]
    assert medians == [row.quantiles[2] for row in reversed(rows.values())]
    assert ax.get_title() == "made: layer1.0"


def test_a_map_has_the_shares_of_positions(found: Analysis) -> None:
    for row in found.localisation:
        (image,) = plot.map(found, row.contrast, row.layer).images
        assert image.get_array().tolist() == np.array(row.map, float).tolist()
        assert image.get_clim() == (0, np.nanmax(np.array(row.map, float)))


def test_matrices_have_the_values_of_the_analysis(found: Analysis, pooled: Analysis) -> None:
    (image,) = plot.confusion(found, "head").images
    for row in found.confusion:
        if row.layer == "head":
            at = found.categories.index(row.category), found.categories.index(row.other)
            assert image.get_array()[at] == row.share
    for name in ("spearman", "cka_folds"):
        (image,) = plot.consistency(found, name).images
        assert image.get_array().tolist() == [list(row) for row in getattr(found.consistency, name)]
    (image,) = plot.overlap(pooled, "head", ["faces", "scenes"]).images
    (row,) = [
        row
        for row in pooled.overlap
        if (row.layer, row.contrast, row.other) == ("head", "faces", "scenes")
    ]
    assert image.get_array()[0, 1] == image.get_array()[1, 0] == row.jaccard
    assert row.jaccard
    assert image.get_array().mask[0, 0]
    (text,) = [one for one in plot.overlap(found, "head").texts if one.get_gid() == "blank"]
    assert 'the criterion selects no unit for two contrasts: `test="rest"`' in text.get_text()


def test_layers_default_to_the_largest_share(found: Analysis) -> None:
    largest = max((row for row in found.shares if row.layer != "head"), key=lambda row: row.share)
    for ax in (plot.distributions(found), plot.map(found, "faces"), plot.confusion(found)):
        assert largest.layer in ax.get_title()


def test_tuning_curves_are_the_held_out_strength(found: Analysis, made_path: Path) -> None:
    ax = plot.tuning(made_path, "layer1.0")
    rows = {row.contrast: row for row in found.strength if row.layer == "layer1.0"}
    drawn = 0
    for name in made.CATEGORIES:
        if rows[name].units >= 10:
            curve = points(ax, name)
            own = made.CATEGORIES.index(name)
            assert curve[own] == pytest.approx(rows[name].preferred)
            others = [value for x, value in curve.items() if x != own]
            assert np.mean(others) == pytest.approx(rows[name].others)
            drawn += 1
        else:
            assert name in said(ax)
    assert drawn
    assert len(points(ax, "all living units")) == len(made.CATEGORIES)


# Regions


def test_regions_have_the_correlations_and_the_ceiling(compared: BrainComparison) -> None:
    ax = plot.regions(compared, "PPA")
    rows = [row for row in compared.correlations if row.region == "PPA"]
    layers = list(dict.fromkeys(row.layer for row in rows))
    for name in dict.fromkeys(row.population for row in rows):
        expected = {layers.index(row.layer): row.correlation for row in rows
                    if row.population == name and row.correlation is not None}  # fmt: skip
        assert points(ax, name) == expected
        expected = {layers.index(row.layer): row.outside_target for row in rows
                    if row.population == name and row.outside_target is not None}  # fmt: skip
        outside = plot.regions(compared, "PPA", "outside_target")
        if name == EVERY_UNIT:
            assert name not in [line.get_label() for line in outside.get_lines()]
        else:
            assert points(outside, name) == expected
        assert not outside.patches  # the ceiling is of all categories
    assert any(row.outside_target is not None for row in rows)
    (band,) = ax.patches
    low, high = band.get_y(), band.get_y() + band.get_height()
    assert (low, high) == pytest.approx((rows[0].ceiling_low, rows[0].ceiling_high))
    assert compared.chosen in said(ax)
    sure = [replace(row, p_corrected=0.01 if row.layer == "head" else 1.0) for row in rows]
    ax = plot.regions(replace(compared, correlations=tuple(sure)))
    filled = [one.get_xdata().tolist() for one in ax.get_lines() if one.get_linestyle() == "None"]
    assert filled == [[layers.index("head")]] * len({row.population for row in rows})


# Training and lesions


@pytest.mark.parametrize("measure", ["share", "csi", "replicated"])
def test_training_has_the_measures_of_every_checkpoint(trained: Comparison, measure: str) -> None:
    ax = plot.training(trained, "encoder.ln", measure)
    drawn = 0
    for name in made.CATEGORIES:
        rows = [
            row
            for row in trained.values
            if (row.layer, row.contrast, row.measure) == ("encoder.ln", name, measure)
        ]
        # A mean over units of one feature map has no interval, and is not drawn.
        expected = {
            trained.at[row.network - 1]: row.value
            for row in rows
            if measure == "share" or row.low != row.high
        }
        assert points(ax, name) == {x: y for x, y in expected.items() if y is not None}
        drawn += len(points(ax, name))
    assert drawn > 2
    assert ax.get_xlabel() == trained.axis
    row = next(
        row
        for row in trained.values
        if row.low != row.high and (row.layer, row.measure) == ("encoder.ln", measure)
    )
    one = plot.training(trained, "encoder.ln", measure, row.contrast)
    vertices = np.concatenate(
        [band.get_paths()[0].vertices for band in one.collections if band.get_paths()]
    ).tolist()
    x = trained.at[row.network - 1]
    assert [x, row.low] in vertices
    assert [x, row.high] in vertices
    assert ("(%)" in ax.get_ylabel()) == (measure != "csi")


def test_means_of_one_feature_map_are_not_drawn(trained: Comparison) -> None:
    values = [
        replace(row, low=row.value, high=row.value)
        if (row.network, row.measure) == (1, "csi")
        else row
        for row in trained.values
    ]
    found = replace(trained, values=tuple(values))
    before = points(plot.training(trained, "encoder.ln", "csi"), "scenes")
    assert trained.at[0] in before
    after = points(plot.training(found, "encoder.ln", "csi"), "scenes")
    assert after == {x: y for x, y in before.items() if x != trained.at[0]}


@pytest.mark.parametrize(("at", "scale"), [([0, 1, 20], "symlog"), ([0, 1, 19], "linear"),
                                           ([-1, 1, 20], "linear")])  # fmt: skip
def test_positions_that_span_a_large_factor_have_a_logarithmic_axis(
    trained: Comparison, at: list[float], scale: str
) -> None:
    ax = plot.training(replace(trained, at=tuple(map(float, at))), "encoder.ln")
    assert ax.get_xscale() == scale
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert scale == "linear" or labels == ["0", "1", "20"]


def test_lesions_have_the_changes_of_every_category(lesioned: LesionEffects) -> None:
    ax = plot.lesions(lesioned)
    categories = [label.get_text() for label in ax.get_xticklabels()]
    assert categories == ["a", "b", "c", "a > b"]
    bars = [bar for one in ax.collections for bar in one.get_segments()]
    for row in lesioned.effects:
        found = points(ax, row.lesion)
        (x,) = [x for x in found if abs(x - categories.index(row.category)) < 0.3]
        assert found[x] == row.change
        assert any(bar.tolist() == [[x, row.low], [x, row.high]] for bar in bars)
    assert "probability" in ax.get_ylabel()
    (said,) = [text.get_text() for text in ax.texts if text.get_gid() == "said"]
    assert "the class that the intact network chooses" in said.replace("\n", " ")


# Localizers


@pytest.mark.parametrize("chance", ["maps", "units"])
def test_localizers_have_the_overlap_and_chance(
    localized: LocalizerComparison, chance: str
) -> None:
    ax = plot.localizers(localized, chance=chance)
    layers = [label.get_text() for label in ax.get_xticklabels()]
    for name in made.CATEGORIES:
        rows = [row for row in localized.overlap if localized.labels[row.contrast] == name]
        expected = {layers.index(row.layer): row.dice for row in rows}
        assert points(ax, name) == {x: y for x, y in expected.items() if y is not None}
        assert points(ax, name)
        assert points(plot.localizers(localized, rows[0].contrast), name) == points(ax, name)
    one = plot.localizers(localized, "faces", chance)
    vertices = np.concatenate([band.get_paths()[0].vertices for band in one.collections
                               if band.get_paths()]).tolist()  # fmt: skip
    row = next(row for row in localized.overlap if row.dice and row.layer == "layer1.0"
               and localized.labels[row.contrast] == "faces")  # fmt: skip
    both = row.chance_high if chance == "units" else row.map_chance_high
    for y in (row.dice_low, row.dice_high, 2 * both / (row.selective + row.other_selective)):
        assert any(at == 0 and one == pytest.approx(y) for at, one in vertices)


def test_layers_of_maps_with_one_unit_have_chance_anywhere_in_the_layer(
    localized: LocalizerComparison,
) -> None:
    rows = [replace(row, map_chance=None, map_chance_low=None, map_chance_high=None)
            for row in localized.overlap]  # fmt: skip
    bands = [
        np.concatenate([one.get_paths()[0].vertices for one in
                        plot.localizers(found, "faces", chance).collections if one.get_paths()])
        for found, chance in (
            (localized, "units"), (replace(localized, overlap=tuple(rows)), "maps"),
        )
    ]  # fmt: skip
    np.testing.assert_array_equal(*bands)


def test_unknown_contrasts_of_localizers_are_refused(localized: LocalizerComparison) -> None:
    with pytest.raises(UserError, match="did you mean faces"):
        plot.localizers(localized, "face")
    with pytest.raises(UserError, match="no chance 'map'"):
        plot.localizers(localized, chance="map")
    with pytest.raises(UserError, match="a result of `compare_localizers`; got tuple"):
        plot.localizers(())


# Best images


def test_best_images_are_those_of_the_strongest_units(two_stores: Path) -> None:
    recording = fusiform.open_recording(two_stores / "r.zarr")
    ax = plot.best_images(recording, "stripes", "layer4.1", units=2, images=3)
    units = strongest(recording, "stripes", "layer4.1", 2, 3)
    shown = [image.row for unit in units for image in unit.most]
    assert len(ax.images) == len(shown) == 6
    paths = recording.stimulus_column("stimulus_path")
    for row, image in zip(shown, ax.images, strict=True):
        from PIL import Image

        own = Image.open(two_stores / "stimuli" / str(paths[row])).convert("RGB").resize((112, 112))
        assert np.abs(np.asarray(own, float) - image.get_array()).mean() < 8
    texts = [text.get_text() for text in ax.texts]
    for unit in units:
        assert any(f"AUC {unit.auc:.2f}" in text for text in texts)
        for image in unit.most:
            assert f"{image.response:.3g}" in texts


def test_images_that_are_not_as_recorded_are_not_shown(
    two_stores: Path, tmp_path: Path, draw_stimuli: Callable[..., Path]
) -> None:
    from PIL import Image

    changed = draw_stimuli(tmp_path / "changed")
    for path in changed.glob("blobs/*"):
        Image.new("RGB", (72, 72)).save(path)
    ask: dict[str, Any] = {"layer": "layer4.1", "units": 3, "images": 6}
    whole = plot.best_images(two_stores / "r.zarr", "noise", stimuli=two_stores / "stimuli", **ask)
    part = plot.best_images(two_stores / "r.zarr", "noise", stimuli=changed, **ask)
    missing = [text for text in part.texts if text.get_text() == "missing\nor changed"]
    assert missing
    assert len(part.images) + len(missing) == len(whole.images)
    for path in changed.glob("*/*"):
        Image.new("RGB", (72, 72)).save(path)
    with pytest.raises(UserError, match="`stimuli` says where they are"):
        plot.best_images(two_stores / "r.zarr", "noise", stimuli=changed, **ask)


# Requests that cannot be met


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found, *_: plot.by_depth(found, "shares"), "'shares'.*did you mean share"),
        (lambda found, *_: plot.by_depth(found, contrasts="face"), "did you mean faces"),
        (lambda found, *_: plot.distributions(found, "layer1"), "no layer 'layer1'.*layer1.0"),
        (lambda found, *_: plot.distributions(found, measure="cs"), "did you mean csi"),
        (lambda found, *_: plot.map(found, "face"), "did you mean faces"),
        (lambda found, *_: plot.map(found, "faces", "head"), "head has none: name another"),
        (lambda found, *_: plot.map(found, 3), "no contrast 3"),
        (lambda found, *_: plot.consistency(found, "cca"), "did you mean cka"),
        (lambda *_: plot.by_depth("made.zarr"), "a result of `analyse`; got str"),
        (lambda *_: plot.map(None, "faces"), "a result of `analyse`; got NoneType"),
        (lambda _, compared, *__: plot.regions(compared), "2 regions: name one of FFA, PPA"),
        (lambda _, compared, *__: plot.regions(compared, "FFB"), "did you mean FFA"),
        (lambda _, c, *__: plot.regions(c, "FFA", "p"), "no quantity 'p'"),
        (lambda found, *_: plot.regions(found), "a result of `compare_regions`; got Analysis"),
        (lambda *a: plot.tuning(a[2], "layer9"), "layer9"),
        (lambda *a: plot.best_images(a[3], "faces"), "faces"),
        (lambda *a: plot.lesions(a[0]), "a result of `measure_lesions`; got Analysis"),
        (lambda *a: plot.lesions(a[4], "chance"), "no quantity 'chance'"),
        (lambda *a: plot.training(a[5], "layer9"), "no layer 'layer9'"),
        (lambda *a: plot.training(a[5], "head", "shares"), "did you mean share"),
        (lambda *a: plot.training(a[5], "head", contrasts="x"), "no contrast 'x'"),
        (lambda *a: plot.training(replace(a[5], at=None), "head"), "give them in `at`"),
        (lambda *a: plot.best_images(a[3], "blobs", "layer9"), "no layer 'layer9'"),
        (lambda *a: plot.best_images(a[3], "blobs", units=0), "1 to 20; got 0 and 6"),
        (lambda *a: plot.best_images(a[3], None), "a contrast is a text"),
        (lambda *a: plot.best_images(a[3], "blobs", stimuli=3), "a path or a URL; got 3"),
        (lambda *_: plot.consistency({}), "a result of `analyse`; got dict"),
        (lambda *a: plot.tuning(a[2], "layer*"), "no layer 'layer\\*'"),
        (lambda *a: plot.tuning(a[2], 3), "no layer 3"),
        (lambda found, *_: plot.overlap(found, contrasts=[]), "one contrast at least; got none"),
        (lambda *a: plot.training(a[5], "head", contrasts=[]), "one contrast at least"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_a_line(
    found: Analysis,
    compared: BrainComparison,
    made_path: Path,
    two_stores: Path,
    lesioned: LesionEffects,
    trained: Comparison,
    ask: Callable[..., Any],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        ask(found, compared, made_path, two_stores / "r.zarr", lesioned, trained)
    assert not pyplot.get_fignums()


def test_an_analysis_that_was_not_requested_is_named(made_path: Path) -> None:
    few = fusiform.analyse(made_path, analyses="shares", resamples=5)
    for ask in (plot.distributions, plot.overlap, plot.confusion, plot.consistency):
        with pytest.raises(UserError, match=r"was not analysed.* name it in `analyses`"):
            ask(few)
    few = fusiform.analyse(made_path, analyses="specificity", resamples=5)
    with pytest.raises(UserError, match="name one in `layer`"):
        plot.distributions(few)
    plot.distributions(few, "head")


def test_a_scan_with_one_fold_has_no_held_out_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "COUNTS", made.COUNTS[:, :1])
    made.fill(tmp_path / "one.zarr")
    one = fusiform.analyse(tmp_path / "one.zarr", resamples=5)
    for ax in (
        plot.by_depth(one, "csi"),
        plot.distributions(one),
        plot.tuning(tmp_path / "one.zarr", "head"),
    ):
        assert "no held-out stimuli: the scan had one fold" in [t.get_text() for t in ax.texts]
    with pytest.raises(UserError, match="the scan had one"):
        plot.confusion(one)
    with pytest.raises(UserError, match="cka_folds compares folds; the scan had one"):
        plot.consistency(one, "cka_folds")
