"""Two localizers on one network: planted units, plain loops, and what cannot be compared."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import fusiform
from fusiform import UserError, compare_localizers
from fusiform.engine.analyses.maps import Maps, maps_of
from fusiform.engine.analyses.resampling import chance_of_both
from fusiform.engine.comparing.localizers import (
    CrossValidation,
    LocalizerComparison,
    LocalizerOverlap,
)
from fusiform.engine.contrasts import select
from fusiform.engine.contrasts.language.contrast import parse_contrast, translated
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store import chunking
from fusiform.engine.store.writing.creating import create_store
from fusiform.kernels.moments import Moments

from . import made, reference

LAYERS = (
    Layer("conv", "Conv2d", ("channel", "y", "x"), (6, 4, 5), "float32"),
    Layer("tokens", "LayerNorm", ("token", "channel"), (7, 8), "float32"),
    Layer("out", "Linear", ("unit",), (40,), "float32"),
)
FIRST = ("faces", "bodies", "places", "<b>words</b>")
OTHER = ("houses", "faces", "words")
MATCHED = {"faces": "faces", "places": "houses", "<b>words</b>": "words"}
FEW: dict[str, Any] = {"resamples": 50}
Responses = dict[str, list[list[np.ndarray]]]
Preferred = Mapping[str, Sequence[int]]


def drawn(categories: Sequence[str], preferred: Preferred, seed: int, folds: int = 2) -> Responses:
    """Responses ``[category][fold] [stimulus, unit]`` of every layer.

    ``preferred`` lists the units that respond more to a category, in every layer.
    """
    rng = np.random.default_rng(seed)
    found: Responses = {}
    for layer in LAYERS:
        shifts = np.zeros((len(categories), layer.units))
        for name, units in preferred.items():
            shifts[categories.index(name), [unit for unit in units if unit < layer.units]] = 4
        found[layer.name] = [
            [rng.normal(shift, 1, (9 + k, layer.units)) for _ in range(folds)]
            for k, shift in enumerate(shifts)
        ]
    return found


def filled(
    path: Path,
    categories: Sequence[str],
    responses: Responses,
    first: int = 0,
    layers: Sequence[Layer] = LAYERS,
    **said: Any,
) -> Store:
    """A store of responses to stimuli whose checksums count from ``first``."""
    counts = np.array([[len(x) for x in folds] for folds in next(iter(responses.values()))])
    contents = made.contents(layers, counts)
    number = len(contents["stimuli"]["stimulus_sha256"])
    contents["stimuli"]["stimulus_sha256"] = [f"{first + i:064x}" for i in range(number)]
    contents["provenance"] = {**contents["provenance"], "weights_sha256": "a" * 64, **said}
    draft = create_store(path, **{**contents, "categories": categories})
    for layer in layers:
        for category, folds in enumerate(responses[layer.name]):
            for fold, x in enumerate(folds):
                mean, m2 = x.mean(0), ((x - x.mean(0)) ** 2).sum(0)
                own = Moments(len(x), mean.reshape(layer.shape), m2.reshape(layer.shape))
                draft.write_moments(layer, category, fold, own)
    select.materialise(draft)
    draft.complete()
    return open_store(path)


# Units that both localizers plant, and others.
SHARED, ALONE, LATER = range(10), range(10, 25), range(25, 33)
PREFERRED: Preferred = {"faces": [*SHARED, *ALONE], "places": LATER, "bodies": [34, 35]}
ITS_PREFERRED: Preferred = {"faces": [*SHARED, *LATER], "houses": ALONE}


@pytest.fixture(scope="module")
def responses() -> tuple[Responses, Responses]:
    own = drawn(FIRST, PREFERRED, 1)
    its = drawn(OTHER, ITS_PREFERRED, 2)
    for groups in own["conv"]:
        for x in groups:
            x[:, 3] = 0.5  # a unit that is dead for the first localizer alone
    for groups in its["conv"]:
        for x in groups:
            x[:, 11] = -1.0  # and one that the first selects, dead for the other
    its["conv"][0][0][2, 12] = math.nan
    return own, its


@pytest.fixture(scope="module")
def stores(
    responses: tuple[Responses, Responses], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Store]:
    folder = tmp_path_factory.mktemp("localizers")
    own, its = responses
    first = filled(folder / "first.zarr", FIRST, own)
    return first, filled(folder / "other.zarr", OTHER, its, first=1000)


@pytest.fixture(scope="module")
def found(stores: tuple[Store, Store]) -> LocalizerComparison:
    return compare_localizers(stores, categories=MATCHED, **FEW)


def overlap_of(
    found: LocalizerComparison, layer: str = "conv", contrast: str = "faces"
) -> LocalizerOverlap:
    (one,) = (
        row for row in found.overlap if (row.layer, found.labels[row.contrast]) == (layer, contrast)
    )
    return one


def measure_of(
    found: LocalizerComparison,
    measure: str,
    selecting: int = 1,
    layer: str = "conv",
    contrast: str = "faces",
) -> CrossValidation:
    (one,) = (
        row
        for row in found.cross_validation
        if (row.layer, found.labels[row.contrast]) == (layer, contrast)
        and (row.measure, row.selecting) == (measure, selecting)
    )
    return one


# Known answers


@pytest.mark.smoke
def test_a_localizer_overlaps_with_itself_entirely(stores: tuple[Store, Store]) -> None:
    found = compare_localizers([stores[0], stores[0]], **FEW)
    assert found.warnings == (
        f"{stores[0].path} and {stores[0].path} have all stimuli in common: of these, one store is "
        "no cross-validation of the other",
    )
    selective = [row for row in found.overlap if row.selective]
    assert {row.layer for row in selective} == {layer.name for layer in LAYERS}
    for row in selective:
        assert row.jaccard == row.dice == row.jaccard_low == row.jaccard_high == 1
        assert row.both == row.selective == row.other_selective
        assert row.chance is not None
        assert row.chance < row.both
        assert row.map_chance is None or row.chance < row.map_chance + 1e-9 <= row.both + 1e-9
    for one in found.cross_validation:
        if one.measure == "replicated" and one.units:
            assert one.value == 1


def test_disjoint_units_do_not_overlap(tmp_path: Path) -> None:
    first = filled(tmp_path / "a.zarr", FIRST, drawn(FIRST, {"faces": range(10)}, 1))
    preferred = {"faces": range(20, 30)}
    other = filled(tmp_path / "b.zarr", OTHER, drawn(OTHER, preferred, 2), first=1000)
    found = compare_localizers([first, other], categories=MATCHED, **FEW)
    assert not found.warnings
    for layer in LAYERS:
        row = overlap_of(found, layer.name)
        assert (row.jaccard, row.dice, row.both) == (0, 0, 0)
        assert row.selective >= 10
        for side in (1, 2):
            assert measure_of(found, "replicated", side, layer.name).value == 0
            d_prime = measure_of(found, "d_prime", side, layer.name)
            assert d_prime.value == pytest.approx(0, abs=0.4)
            assert d_prime.within == pytest.approx(4, abs=0.7)


def test_planted_units_are_found_by_both(found: LocalizerComparison) -> None:
    row = overlap_of(found, "out")
    assert row.selective == pytest.approx(25, abs=2)
    assert row.other_selective == pytest.approx(18, abs=2)
    assert row.both == pytest.approx(10, abs=1)
    assert row.jaccard == pytest.approx(10 / 33, abs=0.07)
    assert (row.units, row.living) == (40, 40)
    assert found.matched == tuple(MATCHED.items())
    assert found.unmatched == (("bodies",), ())


def test_localizers_that_choose_the_same_maps_agree_as_chance_by_maps_says(tmp_path: Path) -> None:
    # Both choose half of the units of map 0, at places that know nothing of each other.
    rng = np.random.default_rng(4)
    one, two = (rng.permutation(20)[:10].tolist() for _ in range(2))
    first = filled(tmp_path / "a.zarr", FIRST, drawn(FIRST, {"faces": one}, 1))
    other = filled(tmp_path / "b.zarr", OTHER, drawn(OTHER, {"faces": two}, 2), first=1000)
    row = overlap_of(compare_localizers([first, other], categories=MATCHED, resamples=500))
    assert row.map_chance == pytest.approx(5, abs=1)
    assert row.chance == pytest.approx(100 / 120, abs=0.4)
    assert row.map_chance_low is not None
    assert row.map_chance_high is not None
    assert row.map_chance_low <= row.both <= row.map_chance_high
    assert row.chance_high is not None
    assert row.both > row.chance_high or set(one) & set(two) == set()


# Plain loops


def values_of(groups: Sequence[np.ndarray], unit: int, target: int, baseline: Sequence[int]
              ) -> dict[str, float]:  # fmt: skip
    """Measures of one unit on some stimuli, by their definitions."""
    own = groups[target][:, unit].tolist()
    others = [groups[k][:, unit].tolist() for k in baseline]
    pooled = [value for group in others for value in group]
    a = math.fsum(own) / len(own)
    b = math.fsum(math.fsum(group) / len(group) for group in others) / len(others)
    if len(set(own + pooled)) == 1:
        return {"csi": 0.0, "d_prime": 0.0, "auc_normal": 0.5}
    return {
        "csi": (a - b) / (abs(a) + abs(b)),
        "d_prime": reference.d_prime(own, pooled),
        "auc_normal": reference.auc_normal(own, pooled),
    }


def mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else None


def near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == pytest.approx(other, abs=1e-9)


SIDES = ((FIRST, ("faces", "places", "<b>words</b>")), (OTHER, ("faces", "houses", "words")))


def selections(store: Store, side: int, layer: str) -> list[select.Selection]:
    """The selection of every matched contrast, from the store alone."""
    categories, names = SIDES[side]
    quoted = [f'"{name}"' for name in names]
    texts = [f"{own} > {' + '.join(one for one in quoted if one != own)}" for own in quoted]
    contrasts = [parse_contrast(text, categories) for text in texts]
    ((_, chosen),) = select.select(store, contrasts=contrasts, layers=[store.layer(layer)])
    return [chosen] * 3


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_overlap_equals_plain_loops(
    stores: tuple[Store, Store], found: LocalizerComparison, layer: Layer
) -> None:
    chosen = [selections(store, side, layer.name)[0] for side, store in enumerate(stores)]
    axis = layer.dims.index("channel") if "channel" in layer.dims else None
    places = list(np.ndindex(*layer.shape))
    maps = [place[axis] if axis is not None else i for i, place in enumerate(places)]
    living = [i for i in range(layer.units)
              if not any(one.dead[i] or one.nonfinite[i] for one in chosen)]  # fmt: skip
    for index, name in enumerate(SIDES[0][1]):
        first, other = ({i for i in range(layer.units) if one.selective[index, i]}
                        for one in chosen)  # fmt: skip
        row = overlap_of(found, layer.name, name)
        assert (row.selective, row.other_selective) == (len(first), len(other))
        assert (row.both, row.living) == (len(first & other), len(living))
        if not first | other:
            assert row.jaccard is row.dice is row.chance is row.map_chance is None
            continue
        assert near(row.jaccard, len(first & other) / len(first | other))
        assert near(row.dice, 2 * len(first & other) / (len(first) + len(other)))
        numbers = [[[sum(maps[i] == k for i in living if i in own)] for k in sorted({*maps})]
                   for own in (set(living), first, other)]  # fmt: skip
        by_map = [[one for (one,) in side] for side in numbers]
        whole = [[sum(side)] for side in by_map]
        assert near(row.chance, reference.expected_in_both(*whole))
        single = axis is None
        assert near(row.map_chance, None if single else reference.expected_in_both(*by_map))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_cross_validation_equals_plain_loops(
    stores: tuple[Store, Store],
    responses: tuple[Responses, Responses],
    found: LocalizerComparison,
    layer: Layer,
) -> None:
    chosen = [selections(store, side, layer.name)[0] for side, store in enumerate(stores)]
    for index, name in enumerate(SIDES[0][1]):
        for selecting in (0, 1):
            measuring = 1 - selecting
            its, own = responses[measuring][layer.name], responses[selecting][layer.name]
            everything = [np.concatenate(folds) for folds in its]
            categories, names = SIDES[measuring]
            target, *baseline = (categories.index(n) for n in (names[index], *names)
                                 if n != names[index] or n == names[index])  # fmt: skip
            baseline = [k for k in baseline if k != target]
            on_it = [values_of(everything, i, target, baseline) for i in range(layer.units)]
            selected = np.flatnonzero(chosen[selecting].selective[index])
            alive = np.flatnonzero(~(chosen[measuring].dead | chosen[measuring].nonfinite))
            for measure in ("csi", "d_prime", "auc_normal"):
                row = measure_of(found, measure, selecting + 1, layer.name, name)
                assert near(row.value, mean([on_it[i][measure] for i in selected]))
                assert near(row.all_units, mean([on_it[i][measure] for i in alive]))
            again = measure_of(found, "replicated", selecting + 1, layer.name, name)
            both = chosen[measuring].selective[index]
            assert near(again.value, mean([float(both[i]) for i in selected]))
            assert near(again.all_units, mean([float(both[i]) for i in alive]))
            # Within the selecting localizer, between its folds.
            categories, names = SIDES[selecting]
            target = categories.index(names[index])
            baseline = [categories.index(n) for n in names if n != names[index]]
            within: dict[str, list[float]] = {}
            for fold in (0, 1):
                held_out = [folds[1 - fold] for folds in own]
                by_fold = chosen[selecting].selective_fold[index]
                for i in np.flatnonzero(by_fold[fold]):
                    for measure, value in values_of(held_out, i, target, baseline).items():
                        within.setdefault(measure, []).append(value)
                    within.setdefault("replicated", []).append(float(by_fold[1 - fold, i]))
            for measure in ("replicated", "csi", "d_prime", "auc_normal"):
                row = measure_of(found, measure, selecting + 1, layer.name, name)
                assert near(row.within, mean(within.get(measure, [])))


# Chance


def test_chance_is_hypergeometric() -> None:
    rng = np.random.default_rng(0)
    living, first, other = (np.array([one]) for one in (50, 20, 30))
    chance = chance_of_both(living, first, other, 20_000, rng)
    exact = scipy.stats.hypergeom(50, 20, 30)
    assert chance is not None
    assert chance.mean == pytest.approx(exact.mean())
    assert (chance.low, chance.high) == tuple(exact.ppf([0.025, 0.975]))


def test_chance_by_maps_is_a_sum_of_hypergeometric_numbers() -> None:
    rng = np.random.default_rng(1)
    living, first, other = np.array([12, 9, 1, 30]), np.array([6, 9, 1, 0]), np.array([4, 5, 1, 7])
    chance = chance_of_both(living, first, other, 50_000, rng)
    parts = [scipy.stats.hypergeom(n, a, b).pmf(np.arange(8))
             for n, a, b in zip(living, first, other, strict=True)]  # fmt: skip
    exact = parts[0]
    for part in parts[1:]:
        exact = np.convolve(exact, part)
    assert chance is not None
    assert chance.mean == pytest.approx((np.arange(len(exact)) * exact).sum())
    cumulated = exact.cumsum()
    ends = [int(np.searchsorted(cumulated, tail)) for tail in (0.025, 0.975)]
    assert [chance.low, chance.high] == ends


def test_single_units_in_maps_have_no_chance_by_maps() -> None:
    ones = np.ones(5, np.int64)
    assert chance_of_both(ones, ones, ones, 10, np.random.default_rng(0)) is None
    none = np.zeros(0, np.int64)
    assert chance_of_both(none, none, none, 10, np.random.default_rng(0)) is None


PLACES = st.lists(
    st.integers(2, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n))
    ),
    min_size=1,
    max_size=6,
)


@given(PLACES)
def test_chance_is_symmetric_and_within_bounds(places: list[tuple[int, int, int]]) -> None:
    living, first, other = (np.array(one) for one in zip(*places, strict=True))
    own = chance_of_both(living, first, other, 50, np.random.default_rng(0))
    its = chance_of_both(living, other, first, 50, np.random.default_rng(0))
    assert own is not None
    assert its is not None
    assert own.mean == pytest.approx(its.mean)
    assert own.mean == pytest.approx(reference.expected_in_both(living, first, other))
    least, most = np.maximum(first + other - living, 0).sum(), np.minimum(first, other).sum()
    assert least <= own.low <= own.high <= most


# Order, slabs, folds


def test_localizers_that_trade_places_give_the_same_answers(
    stores: tuple[Store, Store], found: LocalizerComparison
) -> None:
    turned = compare_localizers(
        stores[::-1], categories={its: own for own, its in MATCHED.items()}, **FEW
    )
    for row in found.overlap:
        (other,) = (one for one in turned.overlap
                    if (one.layer, one.contrast) == (row.layer, row.other_contrast))  # fmt: skip
        assert (other.selective, other.other_selective) == (row.other_selective, row.selective)
        assert (other.jaccard, other.dice, other.both) == (row.jaccard, row.dice, row.both)
        assert near(other.chance, row.chance)
        assert near(other.map_chance, row.map_chance)
    for one in found.cross_validation:
        (other_way,) = (
            its
            for its in turned.cross_validation
            if (its.layer, its.contrast, its.measure)
            == (one.layer, one.other_contrast, one.measure)
            and its.selecting == one.measuring
        )
        for name in ("value", "within", "all_units", "low", "high"):
            assert near(getattr(other_way, name), getattr(one, name))


def test_slabs_of_different_size_give_the_same_answers(
    stores: tuple[Store, Store],
    responses: tuple[Responses, Responses],
    found: LocalizerComparison,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunking, "_CHUNK_UNITS", 15)
    other = filled(tmp_path / "other.zarr", OTHER, responses[1], first=1000)
    assert len(list(other.slabs(other.layer("conv")))) == 12
    assert len(list(stores[0].slabs(stores[0].layer("conv")))) == 1
    again = compare_localizers([stores[0], other], categories=MATCHED, **FEW)
    assert again.overlap == found.overlap
    for one, its in zip(found.cross_validation, again.cross_validation, strict=True):
        for name in ("value", "low", "high", "within", "within_low", "all_units"):
            assert near(getattr(one, name), getattr(its, name))
        assert one.units == its.units


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_maps_of_units_in_a_slice_are_those_of_slabs(layer: Layer) -> None:
    maps = Maps(layer)
    chunk = chunking._run(layer.shape, 3)
    for slab, flat in chunking.slabs(layer.shape, chunk):
        units = np.arange(flat.stop - flat.start)
        np.testing.assert_array_equal(maps.of(units, slab, flat), maps_of(layer, flat))


def test_one_fold_has_nothing_within(tmp_path: Path) -> None:
    own, its = (drawn(categories, preferred, seed, folds=1)
                for seed, categories, preferred in ((1, FIRST, PREFERRED),
                                                    (2, OTHER, ITS_PREFERRED)))  # fmt: skip
    stores = [filled(tmp_path / "a.zarr", FIRST, own),
              filled(tmp_path / "b.zarr", OTHER, its, first=1000)]  # fmt: skip
    found = compare_localizers(stores, categories=MATCHED, **FEW)
    assert measure_of(found, "d_prime").value is not None
    assert all(one.within is one.within_low is None for one in found.cross_validation)


def test_intervals_hold_the_value_and_follow_the_seed(
    stores: tuple[Store, Store], found: LocalizerComparison
) -> None:
    row = overlap_of(found)
    assert row.jaccard_low is not None
    assert row.jaccard_high is not None
    assert row.jaccard_low <= (row.jaccard or 0) < row.jaccard_high
    one = measure_of(found, "d_prime", layer="out")
    assert one.low is not None
    assert one.high is not None
    assert one.low < (one.value or 0) < one.high
    again = compare_localizers(stores, categories=MATCHED, **FEW)
    assert (again.overlap, again.cross_validation) == (found.overlap, found.cross_validation)
    alone = compare_localizers(stores, layers="out", categories=MATCHED, **FEW)
    assert set(alone.overlap) <= set(found.overlap)
    assert set(alone.cross_validation) <= set(found.cross_validation)
    others = compare_localizers(stores, categories=MATCHED, seed=1, **FEW)
    assert overlap_of(others, "out").jaccard_low != overlap_of(found, "out").jaccard_low
    assert overlap_of(others, "out").jaccard == overlap_of(found, "out").jaccard


# Categories and contrasts


def test_categories_of_one_name_are_matched_in_any_form_and_case(tmp_path: Path) -> None:
    names = ("Caf\u00e9s", "FACES", "words"), (" faces", "cafe\u0301s", "Words", "words")
    first = filled(tmp_path / "a.zarr", names[0], drawn(names[0], {}, 1))
    other = filled(tmp_path / "b.zarr", names[1], drawn(names[1], {}, 2), first=1000)
    found = compare_localizers([first, other], layers="out", **FEW)
    assert found.matched == (("Caf\u00e9s", "cafe\u0301s"), ("FACES", " faces"), ("words", "words"))
    assert found.unmatched == ((), ("Words",))


def test_categories_are_matched_as_given(stores: tuple[Store, Store]) -> None:
    texts: list[Any] = [
        "faces=faces, places=houses",
        "faces,places=houses",
        ["faces", '"places" = houses'],
        {"faces": "faces", "places": "houses"},
    ]
    for given_ in texts:
        found = compare_localizers(stores, layers="out", categories=given_, **FEW)
        assert found.matched == (("faces", "faces"), ("places", "houses"))
        assert found.unmatched == (("bodies", "<b>words</b>"), ("words",))
        assert {row.contrast: row.other_contrast for row in found.overlap} == {
            "faces > places": "faces > houses", "places > faces": "houses > faces",
        }  # fmt: skip
        assert found.labels == {"faces > places": "faces", "places > faces": "places"}


def test_contrasts_are_translated(stores: tuple[Store, Store]) -> None:
    written = {
        "faces > places": "faces > houses",
        '"<b>words</b>" + faces > places': "faces + words > houses",
        "faces - (places + '<b>words</b>')/2": "1 * faces - 1/2 * houses - 1/2 * words",
        "faces": "faces",  # against all others, in each
    }
    found = compare_localizers(
        stores, layers="out", contrasts=list(written), categories=MATCHED, **FEW
    )
    assert {row.contrast: row.other_contrast for row in found.overlap} == written
    own = fusiform.summary(stores[0], layers="out", contrasts="faces")[0]
    its = fusiform.summary(stores[1], layers="out", contrasts="faces")[0]
    row = overlap_of(found, "out")
    assert (row.selective, row.other_selective) == (own.selective, its.selective)


def test_a_written_baseline_stays_that_where_the_other_store_has_more(
    stores: tuple[Store, Store],
) -> None:
    found = compare_localizers(
        stores[::-1], layers="out", contrasts="faces > houses + words",
        categories={its: own for own, its in MATCHED.items()}, **FEW,
    )  # fmt: skip
    (row,) = found.overlap
    assert row.other_contrast == 'faces > places + "<b>words</b>"'


@given(st.permutations(["a b", "x", "7", 'q"']), st.sampled_from([
    "faces", "faces + bodies", "faces > bodies + places", "places + bodies > faces",
    "faces - bodies/3 - 2/3*places", "2*faces - bodies - places",
]))  # fmt: skip
def test_a_translated_contrast_weighs_the_counterparts(names: list[str], text: str) -> None:
    known = ("faces", "bodies", "places")
    own = parse_contrast(text, (*known, "more"))
    places = [*own.target, *(own.named or ())]
    its = translated(own, [names[place] for place in places], names)
    weights = dict(zip((*own.target, *own.baseline), own.weights, strict=True))
    expected = {place: weight for place, weight in weights.items() if place in places}
    found = dict(zip((*its.target, *its.baseline), its.weights, strict=True))
    assert {place: found[place] for place in expected} == expected
    assert its.weighted == own.weighted


# Mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"categories": "faces="}, "`categories` are NAME, or NAME=COUNTERPART.*; got 'faces='"),
        ({"categories": [3]}, "NAME=COUNTERPART.*; got 3"),
        ({"categories": {"faces": 3}}, "NAME=COUNTERPART.*; got 3"),
        ({"categories": "face=faces"}, "has no face: did you mean faces"),
        ({"categories": "faces=house"}, "has no house: did you mean houses"),
        (
            {"categories": "faces=faces,places=faces"},
            "matched once; faces of .*is matched twice",
        ),
        ({"categories": "faces=faces"}, r"two categories at least.* \(`categories` faces=houses"),
        ({"categories": {}}, "two categories at least"),
        ({}, "two categories at least that both have; .*first.zarr has faces, bodies"),
        ({"categories": MATCHED, "contrasts": "bodies"}, "bodies of 'bodies' is matched with none"),
        ({"categories": MATCHED, "contrasts": "faces > bodies"}, "`categories` bodies=..."),
        ({"categories": MATCHED, "contrasts": "face"}, "names categories of the store"),
        ({"categories": MATCHED, "resamples": 0}, "at least 1; got 0"),
        ({"categories": MATCHED, "seed": -1}, "a seed"),
        ({"categories": MATCHED, "layers": "ou"}, "did you mean out"),
        (
            {"categories": MATCHED, "allow": "stimuli"},
            "allow of two localizers: preproc",
        ),
        ({"categories": MATCHED, "criterion": "floc"}, "a criterion is fusiform.Criterion"),
    ],
)
def test_invalid_requests_raise(
    stores: tuple[Store, Store], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        compare_localizers(stores, **options)
    assert "\n" not in str(refused.value) or "contrasts" in options


def test_localizers_are_two_stores(stores: tuple[Store, Store]) -> None:
    for given_, number in ((stores[0], 1), ([*stores, stores[0]], 3)):
        with pytest.raises(UserError, match=f"two stores of one network; got {number}"):
            compare_localizers(given_)


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ({"weights_sha256": "b" * 64}, "weights: .*scan one network with both"),
        ({"model": "another"}, "network: made-up and another"),
        ({"precision": "bfloat16"}, "precision of the network"),
        ({"answers": {"conv": [1.0, 2.0, 0.1, 0.1, 1e-9]}}, "answers: those of conv"),
        ({"preprocessing": {"resize": 300}}, "in one way; .*`allow` preprocessing"),
    ],
)
def test_other_networks_raise(
    responses: tuple[Responses, Responses], tmp_path: Path, said: dict[str, Any], refused: str
) -> None:
    answers = {"answers": {"conv": [1.0, 0.0, 0.1, 0.1, 1e-9]}}
    first = filled(tmp_path / "a.zarr", FIRST, responses[0], preprocessing={"resize": 256},
                   **answers)  # fmt: skip
    shown = {"preprocessing": {"resize": 256}, **answers, **said}
    other = filled(tmp_path / "b.zarr", OTHER, responses[1], first=1000, **shown)
    with pytest.raises(UserError, match=refused):
        compare_localizers([first, other], categories=MATCHED)
    if "preprocessing" in said:
        found = compare_localizers([first, other], layers="out", categories=MATCHED,
                                   allow="preprocessing", **FEW)  # fmt: skip
        assert found.warnings == (
            f"{first.path} and {other.path} differ in their preprocessing: {{'resize': 256}} and "
            "{'resize': 300}",
        )


def test_stimuli_in_common_are_counted(
    responses: tuple[Responses, Responses], stores: tuple[Store, Store], tmp_path: Path
) -> None:
    other = filled(tmp_path / "b.zarr", OTHER, responses[1], first=80)
    own, its = (sum(x.shape[0] for folds in one["out"] for x in folds) for one in responses)
    found = compare_localizers([stores[0], other], layers="out", categories=MATCHED, **FEW)
    assert found.warnings == (
        f"{stores[0].path} and {other.path} have {own - 80} of {own} and of {its} stimuli in "
        "common: of these, one store is no cross-validation of the other",
    )


def test_layers_of_one_store_alone_are_named(
    responses: tuple[Responses, Responses], stores: tuple[Store, Store], tmp_path: Path
) -> None:
    other = filled(tmp_path / "b.zarr", OTHER, responses[1], 1000, LAYERS[1:])
    found = compare_localizers([stores[0], other], categories=MATCHED, **FEW)
    assert found.warnings == (f"{other.path} has no conv",)
    assert {row.layer for row in found.overlap} == {"tokens", "out"}
    with pytest.raises(UserError, match="has no conv: scan it again"):
        compare_localizers([stores[0], other], layers="conv", categories=MATCHED)
    turned = [LAYERS[0], LAYERS[1], Layer("out", "Linear", ("channel", "y"), (8, 5), "float32")]
    shaped = filled(tmp_path / "c.zarr", OTHER, responses[1], 1000, turned)
    with pytest.raises(UserError, match=r"out is \(40,\) in .* and \(8, 5\) in"):
        compare_localizers([stores[0], shaped], categories=MATCHED)


# The command line, and the long form


def test_the_command_shows_overlap_and_cross_validation(
    stores: tuple[Store, Store], found: LocalizerComparison, command: Any
) -> None:
    matched = "--categories", "faces,places=houses", "--categories", "<b>words</b>=words"
    asked = [*(store.path for store in stores), "--localizers", "--resamples", 50, *matched]
    code, out, err = command(*asked)
    assert (code, err) == (0, "")
    assert "matched: faces = faces, places = houses, <b>words</b> = words" in out
    assert "without a counterpart in 2: bodies" in out
    (line, *others) = (one.split() for one in out.splitlines()
                       if one.split()[:2] == ["conv", "faces"])  # fmt: skip
    row = overlap_of(found)
    assert line[2] == f"{row.jaccard:.4g}"
    assert len(others) == 4
    again = measure_of(found, "replicated")
    assert others[0][2] == f"{100 * (again.value or 0):.4g}"
    code, out, err = command(*asked, "--format", "csv")
    assert (code, err) == (0, "")
    read = pandas.read_csv(io.StringIO(out), keep_default_na=False, na_values=[""])
    frame = found.frame()
    assert list(read.columns) == list(frame.columns)
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(read[name].to_numpy(float), frame[name].to_numpy(float))


def test_warnings_do_not_enter_what_is_written(stores: tuple[Store, Store], command: Any) -> None:
    asked = [stores[0].path, stores[0].path, "--layers", "out", "--resamples", 5]
    code, out, err = command(*asked, "--localizers", "--format", "json")
    assert code == 0
    assert json.loads(out)
    assert err.startswith("warning: ")
    code, out, err = command(*asked[:1], stores[1].path, *asked[2:], "--allow", "stimuli",
                             "--format", "json")  # fmt: skip
    assert code == 0
    assert json.loads(out)
    assert "differ in their stimuli" in err


def test_options_of_other_kinds_are_refused(stores: tuple[Store, Store], command: Any) -> None:
    paths = [store.path for store in stores]
    for option in ("--measures=csi", "--pairing=depth", "--against=first", "--at=0,1"):
        code, out, err = command(*paths, "--localizers", option)
        assert (code, out) == (2, "")
        assert "compares networks; got it with --localizers: leave one out" in err
    for option in ("--roi=x.csv", "--control-units", "--correlation=pearson"):
        code, out, err = command(*paths, "--localizers", option)
        assert (code, out) == (2, "")
        assert "is for brain regions; got it with --localizers: leave one out" in err
    for more in ([], ["--roi=x.csv"]):
        code, out, err = command(*paths, "--categories", "faces=faces", *more)
        assert (code, out) == (2, "")
        assert "--categories is for --localizers; got it alone" in err
    code, out, err = command(*paths, "--localizers", "--categories", "faces,=houses")
    assert (code, out) == (2, "")
    assert err == (
        "error: --categories are NAME, or NAME=COUNTERPART in the second store, joined by commas; "
        "got '=houses'\n"
    )


def test_every_number_is_in_the_long_form(
    stores: tuple[Store, Store], found: LocalizerComparison
) -> None:
    frame = found.frame()
    first, other = (str(store.path) for store in stores)
    own = frame[(frame.layer == "conv") & (frame.contrast == overlap_of(found).contrast)]
    pair = own[(own.store == first) & (own.other_store == other)].set_index("quantity")
    row = overlap_of(found)
    for name in ("selective", "other_selective", "both", "living", "units", "jaccard", "dice",
                 "chance", "map_chance"):  # fmt: skip
        assert pair.value[name] == getattr(row, name)
    for name in ("jaccard", "dice", "chance", "map_chance"):
        ends = pair.low[name], pair.high[name]
        assert ends == (getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
    one = measure_of(found, "csi", selecting=2)
    assert (pair.value["csi"], pair.low["csi"]) == (one.value, one.low)
    assert pair.value["csi_units"] == one.units
    every = own[(own.store == first) & own.other_store.isna()].set_index("quantity")
    assert every.value["csi_all_units"] == one.all_units
    within = own[(own.store == first) & (own.other_store == first)].set_index("quantity")
    assert within.value["csi"] == measure_of(found, "csi", selecting=1).within
    assert len(frame) == 9 * 9 + 4 * len(found.cross_validation)
