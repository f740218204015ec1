"""Analyses of stores against planted effects, plain loops and scipy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist

from fusiform import analyse
from fusiform.engine.analyses import resampling
from fusiform.engine.analyses.agreement import agreements
from fusiform.engine.analyses.analyse import ANALYSES, Analysis
from fusiform.engine.analyses.census import Census, take_census
from fusiform.engine.analyses.consistency import consistency
from fusiform.engine.analyses.localisation import localisation
from fusiform.engine.analyses.overlap import confusion, overlap
from fusiform.engine.analyses.resampling import chance_levels, interval, resample
from fusiform.engine.analyses.shares import shares
from fusiform.engine.analyses.specificity import BINS, specificity
from fusiform.engine.analyses.spread import share_with_any, spread
from fusiform.engine.analyses.strength import strength
from fusiform.engine.analyses.tables import tables
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.language.presets import preset
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store import chunking
from fusiform.kernels.spatial import gini, normalised_entropy

from . import reference
from .made import CATEGORIES, COUNTS, LAYERS, fill
from .test_census import ASKED, LOOSE, one_fold, responses
from .test_census import LAYERS as ODD_LAYERS

# Only planted units pass.
STRICT = Criterion("rest", "t > 9")
PLANTED = Layer("planted", "Conv2d", ("channel", "y", "x"), (8, 6, 6), "float32")
CONVS = (PLANTED, replace(PLANTED, name="planted again"))
FACES, BODIES, WORDS, _ = CATEGORIES


def planted(layer: Layer) -> list[list[np.ndarray]]:
    """Responses with planted effects: a channel of faces, a location of bodies, a block of words.

    The effects are 5, 4 and 3 standard deviations of the noise, which all layers share.
    """
    rng = np.random.default_rng(0)
    effect = np.zeros((len(CATEGORIES), *layer.shape))
    effect[0, 2] = 5
    effect[1, [0, 1, 3, 4, 5, 6, 7], 4, 1] = 4
    effect[2, 3:, :2, 2:5] = 3
    return [
        [rng.normal(own.ravel(), 1, (int(n), own.size)) for n in counts]
        for own, counts in zip(effect, COUNTS + 8, strict=True)
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Census]:
    """Censuses of the planted units, under a criterion that only they meet."""
    path = tmp_path_factory.mktemp("planted") / "planted.zarr"
    fill(path, CONVS, planted)
    return list(take_census(open_store(path), STRICT))


@pytest.fixture(scope="module", params=["two folds", "one fold"])
def odd_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("odd") / "odd.zarr"
    with np.errstate(invalid="ignore"):
        fill(path, ODD_LAYERS, one_fold if request.param == "one fold" else responses)
    return open_store(path)


def by_contrast(rows: list[Any]) -> dict[str, Any]:
    return {row.contrast: row for row in rows if row.layer == PLANTED.name}


# Planted effects are recovered


def test_shares_recover_planted_units(found: list[Census]) -> None:
    rows = by_contrast(shares(found))
    numbers = {name: row.selective for name, row in rows.items()}
    assert numbers == {FACES: 36, BODIES: 7, WORDS: 30, "scenes": 0}
    assert rows[FACES].share == rows[FACES].share_of_living == 36 / 288
    # A resample may draw a channel of eight never, or several times.
    assert (rows[FACES].low, rows[FACES].living_low) == (0, 0)
    assert rows[FACES].high == pytest.approx(stats.binom(8, 1 / 8).ppf(0.975) / 8)
    assert 0 < rows[BODIES].low < 7 / 288 < rows[BODIES].high <= 8 / 288
    assert (rows["scenes"].low, rows["scenes"].high) == (0, 0)


def test_spread_recovers_planted_units(found: list[Census]) -> None:
    rows = by_contrast(spread(found))
    one = rows[FACES]
    assert (one.with_any, one.share_with_any, one.per_channel_largest) == (1, 1 / 8, 36)
    assert one.per_channel_median == 0
    assert (one.entropy, one.gini) == (0, 1 - 1 / 8)
    assert one.random["share_with_any"].low >= 7 / 8
    placed = stats.multivariate_hypergeom(np.full(8, 36), 36).rvs(20_000, random_state=0)
    for name, statistic in {"entropy": normalised_entropy, "gini": gini}.items():
        expected = np.quantile(statistic(placed), [0.025, 0.975])
        drawn = one.random[name].low, one.random[name].high
        np.testing.assert_allclose(drawn, expected, atol=0.02)
        assert one.random[name].mean == pytest.approx(statistic(placed).mean(), abs=0.005)
    even = rows[BODIES]
    assert even.with_any == even.channels - 1 == 7
    assert even.entropy == pytest.approx(math.log(7) / math.log(8))
    assert even.gini == pytest.approx(1 / 8)
    assert rows["scenes"].with_any == 0
    assert rows["scenes"].entropy is rows["scenes"].gini is rows["scenes"].random is None


def test_equal_counts_in_every_channel_are_spread_evenly(found: list[Census]) -> None:
    even = replace(found[0], by_channel=np.full_like(found[0].by_channel, 3))
    for row in spread([even], resamples=100):
        assert (row.share_with_any, row.gini) == (1, 0)
        assert row.entropy == pytest.approx(1)
        assert row.random["gini"].low > 0


def test_a_layer_of_one_map_has_no_interval(found: list[Census]) -> None:
    def joined(counts: np.ndarray) -> np.ndarray:
        return counts.sum(axis=-1, keepdims=True)

    measures = {name: getattr(found[0], name) for name in ("csi", "d_prime", "preferred", "others")}
    one = replace(
        found[0],
        channel_units=joined(found[0].channel_units),
        channel_living=joined(found[0].channel_living),
        by_channel=joined(found[0].by_channel),
        **{
            name: replace(own, shape=(own.shape[0], 1), channel=np.zeros_like(own.channel))
            for name, own in measures.items()
        },
    )
    for share, own, strong in zip(shares([one]), spread([one]), strength([one]), strict=True):
        assert share.low is share.high is share.living_low is None
        assert own.entropy is own.gini is own.random is None
        assert strong.preferred_low is strong.difference_high is None
        assert (strong.preferred is None) == (share.contrast == "scenes")
    assert {row.low for row in specificity([one])} == {None}


def test_localisation_recovers_planted_units(found: list[Census]) -> None:
    rows = by_contrast(localisation(found))
    everywhere = rows[FACES]
    assert everywhere.entropy == pytest.approx(1)
    assert everywhere.random.high < 1
    assert everywhere.moran_i is everywhere.p is everywhere.expected is None  # all are equal
    point = rows[BODIES]
    assert point.entropy == 0
    assert point.map[4][1] == 7 / 8
    assert sum(map(sum, point.map)) == 7 / 8
    assert point.p > 0.05
    block = rows[WORDS]
    assert block.expected == -1 / 35
    assert block.p == 1 / 1001
    assert (block.grid, block.neighbours, block.places) == ("image", "rook", 36)
    shape = np.array(block.map)
    assert block.moran_i == pytest.approx(reference.morans_i(shape, shape >= 0, corners=False))
    queen = by_contrast(localisation(found, neighbours="queen"))[WORDS]
    assert queen.moran_i == pytest.approx(reference.morans_i(shape, shape >= 0, corners=True))


def test_strength_recovers_planted_units(found: list[Census]) -> None:
    rows = by_contrast(strength(found))
    for name, effect in ((FACES, 5), (BODIES, 4), (WORDS, 3)):
        row = rows[name]
        assert row.difference * row.layer_sd == pytest.approx(effect, abs=0.3)
        assert row.others * row.layer_sd + row.layer_mean == pytest.approx(0, abs=0.2)
        assert row.difference == pytest.approx(row.preferred - row.others)
        assert row.preferred_low <= row.preferred <= row.preferred_high
        assert row.difference_low <= row.difference <= row.difference_high
    assert rows["scenes"].units == 0
    assert rows["scenes"].preferred is rows["scenes"].difference_low is None


def test_specificity_recovers_planted_units(found: list[Census]) -> None:
    rows = {(row.contrast, row.measure): row for row in specificity(found[:1])}
    # Units of unit noise: d' is the planted effect.
    assert rows[FACES, "d_prime"].mean == pytest.approx(5, abs=0.2)
    assert rows[WORDS, "d_prime"].mean == pytest.approx(3, abs=0.3)
    for (name, measure), row in rows.items():
        if name == "scenes":
            assert (row.units, row.mean, row.low, row.quantiles, row.histogram) == (0, *[None] * 4)
            continue
        assert row.low <= row.mean <= row.high
        assert list(row.quantiles) == sorted(row.quantiles)
        assert (sum(row.histogram), len(row.histogram)) == (row.units, BINS[measure][2])


def test_identical_layers_are_consistent(found: list[Census]) -> None:
    for distance in ("correlation", "euclidean"):
        rows = consistency(found, distance)
        for matrix in (rows.spearman, rows.kendall, rows.cka, rows.cka_unbiased):
            assert np.array(matrix) == pytest.approx(np.ones((2, 2)))
        for matrix in (rows.spearman_folds, rows.kendall_folds, rows.cka_folds,
                       rows.cka_unbiased_folds):  # fmt: skip
            assert np.ptp(matrix) < 1e-12
        assert 0.3 < rows.cka_folds[0][0] < 1
        for matrix in (rows.spearman_folds, rows.kendall_folds):
            if distance == "euclidean":  # both folds have the same order
                assert matrix[0][0] == pytest.approx(1)
            else:
                assert 0.3 < matrix[0][0] < 1
        assert rows.rdms[0].reliability == rows.spearman_folds[0][0]


# Random draws


@pytest.mark.parametrize("many", [29, 30])
def test_bootstrap_resamples_whole_maps(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_MANY", many)
    rng = np.random.default_rng(0)
    maps = rng.poisson(3, (30, 2)) * (rng.random((30, 1)) < 0.6)
    assert (~maps.any(axis=1)).any()
    sums = resample(maps, 20_000, np.random.default_rng(1))
    assert sums.mean(axis=0) == pytest.approx(maps.sum(axis=0), rel=0.01)
    # The variance of n draws with replacement is n times the variance over maps.
    assert np.cov(sums.T) == pytest.approx(30 * np.cov(maps.T, ddof=0), rel=0.05)


def test_intervals_of_units_without_maps_are_binomial() -> None:
    selective = (np.arange(200) < 30).astype(float)[:, np.newaxis]
    low, high = interval(resample(selective, 20_000, np.random.default_rng(0))[:, 0])
    assert [low, high] == pytest.approx(stats.binom(200, 0.15).ppf([0.025, 0.975]), abs=1)


@pytest.mark.smoke
def test_the_bootstrap_interval_equals_scipys() -> None:
    maps = np.random.default_rng(0).poisson(4, 50).astype(float)
    own = interval(resample(maps[:, np.newaxis], 9999, np.random.default_rng(1))[:, 0])
    theirs = stats.bootstrap(
        (maps,), np.sum, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert own == pytest.approx(tuple(theirs), rel=0.02)


def test_the_interval_of_no_values_is_none() -> None:
    assert interval(np.array([])) == interval(np.array([np.nan])) == (None, None)
    assert interval(np.array([np.nan, 2.0])) == (2, 2)


@pytest.mark.parametrize("by_place", [False, True])
def test_random_placement_uses_living_units_only(
    monkeypatch: pytest.MonkeyPatch, by_place: bool
) -> None:
    if by_place:  # as of many units at few places
        monkeypatch.setattr(resampling, "_UNITS_PER_PLACE", 0)
    living = np.array([5, 0, 40, 1, 14])
    statistics: dict[str, Callable[[Any], Any]] = {
        "share": share_with_any,
        "first": lambda counts: counts[..., 0],
        "gone": lambda counts: counts[..., 1],
    }
    thrown = chance_levels(7, living, statistics, 20_000, np.random.default_rng(0))
    none = [stats.hypergeom(60, n, 7).pmf(0) for n in living]
    assert thrown["share"].mean == pytest.approx(np.mean(1 - np.array(none)), rel=0.01)
    first = stats.hypergeom(60, 5, 7)
    assert thrown["first"].mean == pytest.approx(first.mean(), rel=0.03)
    assert [thrown["first"].low, thrown["first"].high] == list(first.ppf([0.025, 0.975]))
    assert (thrown["gone"].low, thrown["gone"].high) == (0, 0)
    single = np.array([1, 1, 0, 1])
    assert chance_levels(2, single, statistics, 10, np.random.default_rng(0)) is None


def test_p_of_morans_i_equals_full_enumeration() -> None:
    """A sequence of six locations has only 720 permutations."""
    values = np.array([5, 4, 6, 1, 0, 2])
    layer = Layer("line", "Block", ("token",), (6,), "float32")
    orders = [
        reference.morans_i(np.array([order], float), np.ones((1, 6), bool), corners=False)
        for order in permutations(values)
    ]
    exact = np.mean([one >= orders[0] - 1e-12 for one in orders])
    row = _localised(layer, values, np.full(6, 10), resamples=20_000)
    assert row.grid == "sequence"
    assert row.moran_i == pytest.approx(orders[0])
    assert row.expected == pytest.approx(np.mean(orders))
    assert row.p == pytest.approx(exact, abs=0.01)


def _localised(layer: Layer, by_place: Any, living: Any, **given: Any) -> Any:
    fields = dict.fromkeys(Census.__dataclass_fields__)
    fields |= {"layer": layer, "contrasts": ("faces",), "by_place": np.array([by_place])}
    fields |= {"place_living": np.array(living)}
    (row,) = localisation([Census(**fields)], **given)
    return row


@pytest.mark.parametrize(
    ("tokens", "grid", "shape"),
    [
        (9, "patches", (3, 3)),
        (10, "class token, patches", (3, 3)),
        (7, "sequence", (1, 7)),
        (2, "sequence", (1, 2)),
    ],
)
def test_tokens_are_placed_on_the_grid_by_their_number(
    tokens: int, grid: str, shape: tuple
) -> None:
    layer = Layer("tokens", "Block", ("token", "channel"), (tokens, 8), "float32")
    counts = np.arange(tokens)
    row = _localised(layer, counts, np.full(tokens, 8), resamples=9)
    assert (row.grid, row.places) == (grid, math.prod(shape))
    own = counts[1:] if grid.startswith("class") else counts
    np.testing.assert_array_equal(row.map, own.reshape(shape) / 8)
    assert row.selective == own.sum()


def test_locations_without_living_units_are_left_out() -> None:
    layer = Layer("conv", "Conv2d", ("channel", "y", "x"), (4, 2, 3), "float32")
    living = np.array([[4, 0, 2], [4, 4, 0]])
    row = _localised(layer, [[1, 0, 2], [0, 2, 0]], living, resamples=99)
    assert row.map == ((0.25, None, 1), (0, 0.5, None))
    assert row.places == 4
    assert row.entropy == pytest.approx(reference.normalised_entropy([1, 2, 0, 2]))
    shares = np.array([[0.25, 0, 1], [0, 0.5, 0]])
    assert row.moran_i == pytest.approx(reference.morans_i(shares, living > 0, corners=False))


# Rows against plain loops, for every kind of layer and every contrast


@pytest.mark.parametrize(("criterion", "texts"), ASKED)
def test_analysis_rows_equal_plain_loops(odd_store: Store, criterion, texts) -> None:
    censuses = list(take_census(odd_store, criterion, contrasts=texts))
    rows = zip(shares(censuses, 50), spread(censuses, 50), strict=True)
    each = [(census, index) for census in censuses for index in range(len(census.contrasts))]
    for (share, own), (census, index) in zip(rows, each, strict=True):
        counts = census.by_channel[index].tolist()
        assert share.selective == own.selective == sum(counts)
        assert share.share == sum(counts) / census.layer.units
        assert share.share_of_living == sum(counts) / census.living
        assert share.low <= share.share <= share.high
        assert share.living_low <= share.share_of_living <= share.living_high
        assert own.share_with_any == sum(n > 0 for n in counts) / len(counts)
        if not sum(counts):
            assert own.entropy is own.gini is own.random is None
            continue
        assert own.entropy == pytest.approx(reference.normalised_entropy(counts), abs=1e-12)
        assert own.gini == pytest.approx(reference.gini(counts))
        assert (own.random is None) == (census.channel_living.max() == 1)
    for row in specificity(censuses, 50):
        census = next(one for one in censuses if one.layer.name == row.layer)
        held_out = getattr(census, row.measure).values[census.contrasts.index(row.contrast)]
        assert row.units == len(held_out)
        if not len(held_out):
            assert row.mean is row.low is row.quantiles is row.histogram is None
            continue
        assert row.mean == pytest.approx(held_out.mean(dtype=float), rel=1e-6)
        first, last, bins = BINS[row.measure]
        width = (last - first) / bins
        counted = [0] * bins
        for value in held_out.tolist():
            counted[min(max(math.floor((value - first) / width), 0), bins - 1)] += 1
        assert list(row.histogram) == counted


@pytest.mark.parametrize(("criterion", "texts"), ASKED)
def test_analysis_pairs_equal_plain_loops(odd_store: Store, criterion, texts) -> None:
    censuses = list(take_census(odd_store, criterion, contrasts=texts))
    rows = iter(overlap(censuses))
    for census in censuses:
        for i, j in combinations(range(len(census.contrasts)), 2):
            row, (a, b) = next(rows), census.selective[[i, j]].tolist()
            assert (row.layer, row.contrast) == (census.layer.name, census.contrasts[i])
            assert row.other == census.contrasts[j]
            assert not (row.exclusive and row.both)
            assert row.either == a + b - row.both
            assert row.expected == pytest.approx(a / census.living * b)
            assert row.jaccard == (row.both / row.either if row.either else None)
    assert next(rows, None) is None
    if odd_store.folds == 1:
        assert confusion(censuses) == []
        return
    for census in censuses:
        own = confusion([census])
        assert [row.units for row in own] == census.confusion.ravel().tolist()
        for category in CATEGORIES:
            mine = [row.share for row in own if row.category == category]
            assert mine == [None] * 4 or sum(mine) == pytest.approx(1)


@pytest.mark.parametrize("distance", ["correlation", "euclidean"])
def test_layer_comparisons_equal_scipy(odd_store: Store, distance: str) -> None:
    drawn = one_fold if odd_store.folds == 1 else responses
    found = consistency(take_census(odd_store), distance)
    means = []
    for layer in ODD_LAYERS:
        groups = [np.concatenate(folds) for folds in drawn(layer)]
        everything = np.concatenate(groups)
        with np.errstate(invalid="ignore"):
            alive = np.isfinite(everything).all(axis=0) & (np.ptp(everything, axis=0) > 0)
        means.append(np.stack([group[:, alive].mean(axis=0) for group in groups]))
    rdms = [pdist(one, distance) for one in means]
    upper = np.triu_indices(len(CATEGORIES), 1)
    for i, (own, expected) in enumerate(zip(found.rdms, rdms, strict=True)):
        np.testing.assert_allclose(np.array(own.rdm)[upper], expected, atol=1e-12)
        for j, other in enumerate(rdms):
            assert found.spearman[i][j] == pytest.approx(stats.spearmanr(expected, other).statistic)
            assert found.kendall[i][j] == pytest.approx(stats.kendalltau(expected, other).statistic)
            assert found.cka[i][j] == pytest.approx(reference.linear_cka(means[i], means[j]))
            unbiased = reference.unbiased_cka(means[i], means[j])
            assert found.cka_unbiased[i][j] == pytest.approx(unbiased, rel=1e-9)
            a, b = expected.tolist(), other.tolist()
            ranked = reference.pearson(reference.ranks(a), reference.ranks(b))
            assert found.spearman[i][j] == pytest.approx(ranked)
            assert found.kendall[i][j] == pytest.approx(reference.kendall(a, b))
    folds = (found.spearman_folds, found.kendall_folds, found.cka_folds, found.cka_unbiased_folds)
    if odd_store.folds == 1:
        assert folds == (None,) * 4
        assert found.rdms[0].reliability is None
    else:
        for matrix in folds:
            np.testing.assert_allclose(matrix, np.transpose(matrix))  # both orders of the folds


def test_agreement_of_criteria_equals_plain_loops(odd_store: Store) -> None:
    criteria = [LOOSE, LOOSE, Criterion("each", "t > 1"), preset("floc")]
    rows = agreements(odd_store, criteria, contrasts=["faces", "faces > bodies"])
    assert len(rows) == len(ODD_LAYERS) * 2 * 6
    masks = [odd_store.select(["faces", "faces > bodies"], one) for one in criteria]
    for layer in ODD_LAYERS:
        for index, contrast in enumerate(["faces", "faces > bodies"]):
            own = [one[layer.name]["selective"].values[index] for one in masks]
            pairs = list(combinations(range(4), 2))
            mine = [row for row in rows if (row.layer, row.contrast) == (layer.name, contrast)]
            for (i, j), row in zip(pairs, mine, strict=True):
                assert (row.criterion, row.other) == (str(criteria[i]), str(criteria[j]))
                assert (row.selective, row.other_selective) == (own[i].sum(), own[j].sum())
                assert (row.both, row.either) == ((own[i] & own[j]).sum(), (own[i] | own[j]).sum())
            assert mine[0].both == mine[0].either == mine[0].selective


# All analyses together


def values_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from values_in(one)
    else:
        yield value


def alike(a: Any, b: Any) -> None:
    for one, other in zip(values_in(a), values_in(b), strict=True):
        if isinstance(one, float) and isinstance(other, float):
            assert math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
        else:
            assert one == other


def rows_of(analysis: Analysis) -> dict[str, Any]:
    return {name: asdict(analysis)[name] for name in (*ANALYSES, "agreement")}


@pytest.mark.parametrize(("criterion", "texts"), ASKED)
def test_all_analyses_together_equal_each_alone(odd_store: Store, criterion, texts) -> None:
    found = analyse(odd_store, criterion, contrasts=texts, resamples=30, seed=3)
    censuses = list(take_census(odd_store, criterion, contrasts=texts))
    assert list(found.shares) == shares(censuses, 30, 3)
    assert list(found.specificity) == specificity(censuses, 30, 3)
    assert list(found.spread) == spread(censuses, 30, 3)
    assert list(found.localisation) == localisation(censuses, 30, 3)
    assert list(found.strength) == strength(censuses, 30, 3)
    assert list(found.overlap) == overlap(censuses)
    assert list(found.confusion) == confusion(censuses)
    assert found.consistency == consistency(censuses)
    assert found.agreement == ()
    assert (found.criterion, found.folds) == (str(criterion), odd_store.folds)
    # Strict JSON: missing values are null, and no number is NaN.
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["layers"] == [
        layer.name for layer in ODD_LAYERS
    ]
    for table in tables(found):
        assert table.rows
        assert all(len(row) == len(table.head) for row in table.rows)


def test_analyses_of_a_store_without_selective_units(odd_store: Store) -> None:
    found = analyse(odd_store, Criterion(where="t > 1e9"), resamples=20)
    assert {row.selective for row in found.shares} == {0}
    assert {row.units for row in (*found.specificity, *found.strength)} == {0}
    assert {row.entropy for row in (*found.spread, *found.localisation)} == {None}
    assert {row.jaccard for row in found.overlap} == {None}
    json.dumps(asdict(found), allow_nan=False)
    assert len(list(tables(found))) >= 7


def test_seeds_and_layers_change_only_what_depends_on_them(odd_store: Store) -> None:
    def asked(**given: Any) -> Analysis:
        return analyse(odd_store, LOOSE, resamples=40, **given)

    first = asked(analyses=["shares", "spread", "localisation"])
    assert first == asked(analyses=["shares", "spread", "localisation"])
    assert first.specificity == first.strength == ()
    assert first.consistency is None
    assert asked(seed=1).shares != first.shares
    alone = asked(layers="last", contrasts=["bodies"])
    for own, others in ((alone.shares, first.shares), (alone.spread, first.spread)):
        assert own == tuple(
            row for row in others if (row.layer, row.contrast) == ("last", "bodies")
        )
    assert alone.localisation == tuple(
        row for row in first.localisation if (row.layer, row.contrast) == ("last", "bodies")
    )


def test_mistakes_in_analyses_raise_one_line(odd_store: Store) -> None:
    with pytest.raises(UserError, match="there is no analysis 'share': did you mean shares"):
        analyse(odd_store, analyses=["share"])
    with pytest.raises(UserError, match="resamples is a number of random draws"):
        analyse(odd_store, resamples=0)
    with pytest.raises(UserError, match="a seed is a whole number, 0 or more; got -1"):
        analyse(odd_store, seed=-1)
    with pytest.raises(UserError, match="neighbours on a map are rook or queen; got 'king'"):
        analyse(odd_store, neighbours="king")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a distance is correlation or euclidean; got 'cosine'"):
        analyse(odd_store, distance="cosine")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="did you mean faces"):
        analyse(odd_store, contrasts="fases")


class Rows:
    """Rows of all analyses, with a short repr for hypothesis."""

    def __init__(self, rows: dict[str, Any]) -> None:
        self.rows = rows


@pytest.fixture(scope="module")
def in_one_piece(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return Rows(_analysed(tmp_path_factory.mktemp("whole") / "made.zarr", 262_144))


def _analysed(path: Path, chunk_units: int) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "_CHUNK_UNITS", chunk_units)
        fill(path)
        others = [Criterion("each", "t > 1")]
        return rows_of(analyse(open_store(path), LOOSE, resamples=25, agreement=others))


@settings(max_examples=6, deadline=None)
@given(chunk_units=st.integers(3, 40))
def test_analysis_rows_do_not_depend_on_chunks(
    in_one_piece: Rows, tmp_path_factory: pytest.TempPathFactory, chunk_units: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "made.zarr"
    alike(in_one_piece.rows, _analysed(path, chunk_units))


def test_every_layer_of_the_synthetic_store_is_analysed(in_one_piece: Rows) -> None:
    rows = in_one_piece.rows
    assert {row["layer"] for row in rows["shares"]} == {layer.name for layer in LAYERS}
    assert any(row["selective"] for row in rows["shares"])
    assert any(isinstance(row["p"], float) for row in rows["localisation"])
