"""Censuses of layers of every shape, against plain loops over each unit's responses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from fusiform.engine.analyses.census import Census, take_census
from fusiform.engine.contrasts.language.contrast import Contrast, every_category, parse_contrast
from fusiform.engine.contrasts.language.criterion import DEFAULT, Criterion
from fusiform.engine.contrasts.select import select
from fusiform.engine.contrasts.slab import Selection
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store import chunking
from fusiform.kernels.similarity import correlation_distances, euclidean_distances

from . import made, reference
from .made import CATEGORIES, fill

# Every kind of layer: channels first and last, tokens with a class token, channels without
# locations, locations without channels, a sequence, units alone, and unnamed dimensions.
LAYERS = (
    Layer("conv", "Conv2d", ("channel", "y", "x"), (5, 3, 2), "float32"),
    Layer("last", "Swin", ("y", "x", "channel"), (3, 3, 4), "float32"),
    Layer("tokens", "Block", ("token", "channel"), (10, 3), "float32"),
    Layer("means", "Conv2d", ("channel",), (7,), "float32"),
    Layer("places", "Conv2d", ("y", "x"), (3, 4), "float32"),
    Layer("line", "Block", ("token",), (7,), "float32"),
    Layer("head", "Linear", ("unit",), (11,), "float32"),
    Layer("cube", "Conv3d", ("axis_0", "axis_1", "axis_2", "axis_3"), (2, 3, 2, 2), "float32"),
)
LOOSE = Criterion("rest", "p <= 0.1")
ASKED = [
    (DEFAULT, None),
    (LOOSE, None),
    (LOOSE, ["faces > bodies + scenes", "faces - (bodies + scenes)/2", "faces + bodies"]),
    (Criterion("student", "top 4 by csi", sides=2), ["scenes"]),
]


def responses(layer: Layer) -> list[list[np.ndarray]]:
    """The synthetic responses, with some units dead, silent on one fold, or not finite."""
    drawn = made.samples(layer)
    for folds in drawn:
        folds[1][:, 2] = 0.25  # on one fold it prefers nothing
    drawn[1][0][2, 3] = np.nan
    drawn[2][1][0, 4] = np.inf
    return drawn


def one_fold(layer: Layer) -> list[list[np.ndarray]]:
    return [[np.concatenate(folds)] for folds in responses(layer)]


@pytest.fixture(scope="module", params=["whole layers", "small chunks", "one fold"])
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A store of such layers, and its responses."""
    drawn = one_fold if request.param == "one fold" else responses
    path = tmp_path_factory.mktemp("odd") / "odd.zarr"
    with pytest.MonkeyPatch.context() as patch, np.errstate(invalid="ignore"):
        patch.setattr(chunking, "_CHUNK_UNITS", 6 if request.param == "small chunks" else 262_144)
        fill(path, LAYERS, drawn)
    return open_store(path), {layer.name: drawn(layer) for layer in LAYERS}


Odd = tuple[Store, dict[str, list[list[np.ndarray]]]]


def maps_of(layer: Layer) -> list[int]:
    """The feature map of every unit."""
    if "channel" not in layer.dims:
        return list(range(layer.units))
    axis = layer.dims.index("channel")
    return [place[axis] for place in np.ndindex(*layer.shape)]


def places_of(layer: Layer) -> list[tuple[int, ...]]:
    axes = [axis for axis, dim in enumerate(layer.dims) if dim in ("y", "x", "token")]
    return [tuple(place[axis] for axis in axes) for place in np.ndindex(*layer.shape)]


def living_of(groups: Sequence[Sequence[np.ndarray]]) -> list[bool]:
    everything = np.concatenate([group for folds in groups for group in folds])
    return [
        bool(np.isfinite(column).all() and len(set(column.tolist())) > 1) for column in everything.T
    ]


def asked_of(texts: Sequence[str] | None) -> list[Contrast]:
    if texts is None:
        return every_category(CATEGORIES)
    return [parse_contrast(text, CATEGORIES) for text in texts]


def taken(
    odd: Odd, criterion: Criterion, texts: Sequence[str] | None
) -> Iterator[tuple[Census, Selection, list[list[np.ndarray]]]]:
    store, drawn = odd
    selected = dict(select(store, criterion, asked_of(texts)))
    censuses = list(take_census(store, criterion, contrasts=texts))
    assert [census.layer for census in censuses] == list(LAYERS)
    for census in censuses:
        yield census, selected[census.layer], drawn[census.layer.name]


@pytest.mark.parametrize(("criterion", "texts"), ASKED)
def test_units_are_counted_by_map_and_place(odd: Odd, criterion, texts) -> None:
    for census, selection, groups in taken(odd, criterion, texts):
        layer, living = census.layer, living_of(groups)
        assert census.contrasts == tuple(one.text for one in asked_of(texts))
        assert (census.units, census.living) == (layer.units, sum(living))
        maps, places = maps_of(layer), places_of(layer)
        for channel in range(len(census.channel_units)):
            own = [u for u in range(layer.units) if maps[u] == channel]
            assert census.channel_units[channel] == len(own)
            assert census.channel_living[channel] == sum(living[u] for u in own)
            for mask, counted in zip(selection.selective, census.by_channel, strict=True):
                assert counted[channel] == sum(bool(mask[u]) for u in own)
        if places[0] == ():
            assert census.place_living is None
            assert census.by_place is None
            continue
        for place in np.ndindex(*census.place_living.shape):
            own = [u for u in range(layer.units) if places[u] == place]
            assert own
            assert census.place_living[place] == sum(living[u] for u in own)
            for mask, counted in zip(selection.selective, census.by_place, strict=True):
                assert counted[place] == sum(bool(mask[u]) for u in own)


@pytest.mark.parametrize(("criterion", "texts"), ASKED)
def test_units_selected_by_two_contrasts_are_counted(odd: Odd, criterion, texts) -> None:
    for census, selection, _ in taken(odd, criterion, texts):
        for i, j in np.ndindex(*census.both.shape):
            pairs = zip(selection.selective[i], selection.selective[j], strict=True)
            assert census.both[i, j] == sum(bool(a and b) for a, b in pairs)
        np.testing.assert_array_equal(np.diag(census.both), census.selective)


@pytest.mark.parametrize(("criterion", "texts"), ASKED)
def test_units_selected_on_several_folds_are_counted(odd: Odd, criterion, texts) -> None:
    for census, selection, _ in taken(odd, criterion, texts):
        maps, folds = maps_of(census.layer), selection.selective_fold.shape[1]
        assert census.by_fold.shape == census.again.shape
        if folds == 1:
            assert census.by_fold.size == 0
            continue
        for index, fold, channel in np.ndindex(*census.by_fold.shape):
            masks = selection.selective_fold[index]
            own = [u for u in range(census.units) if maps[u] == channel and masks[fold, u]]
            again = sum(bool(masks[j, u]) for u in own for j in range(folds) if j != fold)
            assert census.by_fold[index, fold, channel] == len(own)
            assert census.again[index, fold, channel] == again


def sides_of(contrast: Contrast, groups: Sequence[np.ndarray], u: int) -> dict[str, float]:
    """Measures of a unit, from its responses to each category."""
    weights = dict(zip((*contrast.target, *contrast.baseline), contrast.weights, strict=True))
    sides = []
    for side in (contrast.target, contrast.baseline):
        pooled = [value for k in side for value in groups[k][:, u].tolist()]
        total = sum(abs(weights[k]) for k in side)
        shares = [float(abs(weights[k]) / total) for k in side]
        mean = math.fsum(w * groups[k][:, u].mean() for w, k in zip(shares, side, strict=True))
        sides.append((mean, reference.moments(pooled)))
    (a, (n_a, m_a, s_a)), (b, (n_b, m_b, s_b)) = sides
    spread = math.sqrt((s_a / (n_a - 1) + s_b / (n_b - 1)) / 2)
    difference = m_a - m_b
    without_spread = math.copysign(math.inf, difference) if difference else 0.0
    return {
        "csi": (a - b) / (abs(a) + abs(b)) if a or b else 0.0,
        "d_prime": difference / spread if spread else without_spread,
        "preferred": a,
        "others": b,
    }


@pytest.mark.parametrize(("criterion", "texts"), ASKED)
def test_selected_units_are_measured_on_held_out_folds(odd: Odd, criterion, texts) -> None:
    measured = 0
    for census, selection, groups in taken(odd, criterion, texts):
        maps = maps_of(census.layer)
        for index, contrast in enumerate(asked_of(texts)):
            expected: dict[str, list[tuple[int, float]]] = {
                name: [] for name in ("csi", "d_prime", "preferred", "others")
            }
            for fold in range(census.folds) if census.folds > 1 else ():
                others = [
                    np.concatenate([x for other, x in enumerate(folds) if other != fold])
                    for folds in groups
                ]
                for u in np.flatnonzero(selection.selective_fold[index, fold]):
                    for name, value in sides_of(contrast, others, int(u)).items():
                        if math.isfinite(value):
                            expected[name].append((maps[u], value))
            for name, values in expected.items():
                found = getattr(census, name)
                np.testing.assert_allclose(found.values[index], [v for _, v in values], rtol=1e-6)
                number, total = np.zeros(found.shape, np.int64), np.zeros(found.shape)
                contrasts, channels, *cells = found.cells
                number[contrasts, channels], total[contrasts, channels] = cells
                for channel in range(len(census.channel_units)):
                    own = [v for c, v in values if c == channel]
                    assert number[index, channel] == len(own)
                    assert total[index, channel] == pytest.approx(math.fsum(own))
                measured += len(values)
    assert bool(measured) == (odd[0].folds > 1)


def test_preferred_categories_are_counted_across_folds(odd: Odd) -> None:
    for census, _, groups in taken(odd, DEFAULT, None):
        if census.folds == 1:
            assert census.confusion is None
            continue
        expected = np.zeros((len(CATEGORIES), len(CATEGORIES)), int)
        for u, lives in enumerate(living_of(groups)):
            means = [[folds[fold][:, u].mean() for folds in groups] for fold in range(2)]
            largest = [[k for k, m in enumerate(own) if m == max(own)] for own in means]
            if lives and all(len(own) == 1 for own in largest):
                expected[largest[0][0], largest[1][0]] += 1
        np.testing.assert_array_equal(census.confusion, expected)
        assert expected.sum() < census.living  # one is silent on a fold


def test_responses_and_patterns_cover_living_units_only(odd: Odd) -> None:
    for census, _, groups in taken(odd, DEFAULT, None):
        alive = np.array(living_of(groups))
        everything = np.concatenate([group[:, alive] for folds in groups for group in folds])
        count, mean, m2 = census.response
        assert count == everything.size
        assert mean == pytest.approx(everything.mean())
        assert m2 == pytest.approx(((everything - everything.mean()) ** 2).sum())

        samples = [[np.concatenate(folds) for folds in groups]]
        if census.folds > 1:
            samples += [[folds[fold] for folds in groups] for fold in range(census.folds)]
        found = [means.sums for means in (census.means, *census.fold_means)]
        for patterns, sample in zip(found, samples, strict=True):
            means = np.stack([group[:, alive].mean(axis=0) for group in sample])
            assert patterns.units == alive.sum()
            np.testing.assert_allclose(
                correlation_distances(patterns), squareform(pdist(means, "correlation")), atol=1e-12
            )
            np.testing.assert_allclose(
                euclidean_distances(patterns), squareform(pdist(means)), rtol=1e-10
            )


def test_layers_and_contrasts_of_a_census_are_chosen_by_name(odd: Odd) -> None:
    store, _ = odd
    assert [one.layer.name for one in take_census(store, layers=["c*"])] == ["conv", "cube"]
    with pytest.raises(UserError, match="did you mean head"):
        list(take_census(store, layers=["haed"]))
    with pytest.raises(UserError, match="did you mean faces"):
        list(take_census(store, contrasts=["fases"]))


def test_the_census_of_a_layer_without_living_units(tmp_path: Path) -> None:
    layer = Layer("silent", "ReLU", ("channel", "y", "x"), (3, 2, 2), "float32")
    fill(tmp_path / "silent.zarr", [layer], lambda own: [
        [np.zeros((5, own.units))] * 2 for _ in CATEGORIES
    ])  # fmt: skip
    (census,) = take_census(open_store(tmp_path / "silent.zarr"))
    assert (census.units, census.living, census.response.count) == (12, 0, 0)
    assert census.means.sums.units == 0
    assert not census.confusion.any()
