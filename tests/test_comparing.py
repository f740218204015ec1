"""Comparisons of networks with each other and with brain regions: planted effects, loops, scipy."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fusiform
from fusiform.engine.analyses.census import Census, take_census
from fusiform.engine.comparing.brains.correlations import (
    LayerCorrelation,
    Values,
    correlate,
    permuted,
)
from fusiform.engine.comparing.brains.items import in_order
from fusiform.engine.comparing.brains.populations import EVERY_UNIT, Population, populations
from fusiform.engine.comparing.brains.regions import Region, Regions, read_regions
from fusiform.engine.comparing.brains.standard import noise_ceiling
from fusiform.engine.comparing.differences import Comparison, Difference, compare
from fusiform.engine.comparing.draws import MEASURED, _draw
from fusiform.engine.comparing.pairing import pair_layers
from fusiform.engine.contrasts import select
from fusiform.engine.contrasts.language.contrast import every_category
from fusiform.engine.contrasts.language.criterion import DEFAULT
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store.writing.creating import create_store
from fusiform.kernels.moments import Moments

from . import flat, made, reference

LAYERS = (
    Layer("early", "Conv2d", ("channel", "y", "x"), (12, 4, 4), "float32"),
    Layer("late", "Conv2d", ("channel", "y", "x"), (20, 3, 3), "float32"),
    Layer("out", "Linear", ("unit",), (30,), "float32"),
)
Responses = dict[str, list[list[np.ndarray]]]


def drawn(share: float, seed: int) -> Responses:
    """Responses ``[category][fold] [stimulus, unit]``; a share of the units prefers faces."""
    rng = np.random.default_rng(seed)
    found: Responses = {}
    for layer in LAYERS:
        prefers = 4.0 * (rng.random(layer.units) < share)
        found[layer.name] = [
            [rng.normal(prefers if k == 0 else 0, 1, (n, layer.units)) for n in made.COUNTS[k]]
            for k in range(len(made.CATEGORIES))
        ]
    return found


def filled(path: Path, responses: Responses, layers: Sequence[Layer] = LAYERS, **other: Any) -> Any:
    """A store of such responses."""
    draft = create_store(path, **{**made.contents(), "layers": layers, **other})
    for layer, groups in zip(layers, responses.values(), strict=True):
        for category, folds in enumerate(groups):
            for fold, x in enumerate(folds):
                mean, m2 = x.mean(0), ((x - x.mean(0)) ** 2).sum(0)
                own = Moments(len(x), mean.reshape(layer.shape), m2.reshape(layer.shape))
                draft.write_moments(layer, category, fold, own)
    select.materialise(draft)
    draft.complete()
    return open_store(path)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A network with a tenth of its units preferring faces."""
    return filled(tmp_path_factory.mktemp("few") / "few.zarr", drawn(0.1, 1))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A network with more than half of its units preferring faces."""
    return filled(tmp_path_factory.mktemp("many") / "many.zarr", drawn(0.6, 2))


def found_in(
    comparison: Comparison, measure: str = "share", contrast: str = "faces", layer: str = "late"
) -> Difference:
    (one,) = (
        one
        for one in comparison.differences
        if (one.measure, one.contrast, one.layer) == (measure, contrast, layer)
    )
    return one


# Pairing layers


def named(*names: str) -> list[Layer]:
    return [Layer(name, "Conv2d", ("unit",), (4,), "float32") for name in names]


def pairs(first: Sequence[str], other: Sequence[str], pairing: Any = "name") -> list[str]:
    found = pair_layers(named(*first), named(*other), pairing)
    return [f"{own.name}={its.name}" for own, its in found]


def test_layers_are_paired_by_name_where_their_order_agrees() -> None:
    # A CLIP ResNet's stem ends with a layer named like the last one of other ResNets.
    resnet, clip = ["maxpool", "layer1", "layer2", "avgpool"], ["avgpool", "layer1", "layer2", "at"]
    assert pairs(resnet, clip) == ["layer1=layer1", "layer2=layer2"]


def test_layers_are_paired_by_relative_depth() -> None:
    assert pairs("abc", "vwxyz", "depth") == ["a=v", "b=x", "c=z"]
    assert pairs("abcde", "xyz", "depth") == ["a=x", "b=x", "c=y", "d=y", "e=z"]
    assert pairs("a", "xyz", "depth") == ["a=z"]


@given(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1), st.randoms())
def test_layer_pairs_keep_both_orders_and_leave_out_the_fewest(
    names: list[str], random: Any
) -> None:
    other = random.sample(names, len(names))
    found = [pair.partition("=")[0] for pair in pairs(names, other)]
    assert [names.index(name) for name in found] == sorted(names.index(name) for name in found)
    assert [other.index(name) for name in found] == sorted(other.index(name) for name in found)
    longest = max(
        len(part)
        for size in range(len(names) + 1)
        for part in itertools.combinations(names, size)
        if [name for name in other if name in part] == list(part)
    )
    assert len(found) == longest


# Differences


def test_a_network_does_not_differ_from_itself(few: Store) -> None:
    for one in compare([few, few], resamples=200).differences:
        if one.value is None:
            assert one.difference is None
        else:
            assert one.difference == 0
            assert one.low is not None
            assert one.high is not None
            assert one.low <= 0 <= one.high


@pytest.mark.smoke
def test_planted_differences_are_found(few: Store, many: Store) -> None:
    comparison = compare([few, many], resamples=300)
    for layer in ("early", "late", "out"):
        one = found_in(comparison, layer=layer)
        own, its = (open_store(store.path) for store in (few, many))
        shares = [
            next(r.share for r in fusiform.summary(s, layers=[layer]) if r.contrast == "faces")
            for s in (own, its)
        ]
        assert (one.value, one.other_value) == tuple(shares)
        assert one.difference == pytest.approx(shares[1] - shares[0])
        assert one.low is not None
        assert 0 < one.low < one.difference < (one.high or 0)
    turned = found_in(compare([many, few], resamples=300))
    assert turned.high is not None
    assert turned.high < 0
    assert found_in(comparison, "gini").difference < 0  # type: ignore[operator]
    assert not comparison.warnings


def test_difference_intervals_have_nominal_coverage(few: Store) -> None:
    # Two networks with maps from one distribution: the interval of their difference contains 0
    # in about 95 of 100 cases.
    (census,) = take_census(few, layers=["late"])
    rng, holding, cases = np.random.default_rng(5), 0, 300

    def counted(seed: int) -> Any:
        rates = rng.beta(1, 3, (1, 40))
        counts = rng.binomial(9, rates)
        units = np.full(40, 9)
        own: Census = replace(census, contrasts=("faces",), channel_units=units,
                              channel_living=units, by_channel=counts)  # fmt: skip
        return _draw(own, ["share"], 300, seed).measures["share"][1][:, 0]

    for case in range(cases):
        low, high = np.quantile(counted(2 * case + 1) - counted(2 * case), (0.025, 0.975))
        holding += low <= 0 <= high
    # The percentile interval of 40 maps is a little narrow.
    assert 0.90 <= holding / cases <= 0.985


def test_comparisons_depend_on_the_seed_and_not_on_the_other_layers(
    few: Store, many: Store
) -> None:
    whole = compare([few, many], resamples=50)
    assert compare([few, many], resamples=50) == whole
    alone = compare([few, many], layers="late", resamples=50)
    assert set(alone.differences) <= set(whole.differences)
    assert compare([few, many], resamples=50, seed=1).differences != whole.differences


def test_checkpoints_are_compared_with_the_previous_one(few: Store, many: Store) -> None:
    comparison = compare([few, many, many], against="previous", resamples=50)
    assert {(one.first, one.second) for one in comparison.differences} == {(1, 2), (2, 3)}
    last = [one for one in comparison.differences if one.second == 3 and one.difference is not None]
    assert last
    assert all(one.difference == 0 for one in last)
    to_first = compare([few, many, many], resamples=50)
    assert {(one.first, one.second) for one in to_first.differences} == {(1, 2), (1, 3)}


def test_layers_are_paired_by_depth_where_names_differ(few: Store, tmp_path: Path) -> None:
    renamed = [replace(layer, name=f"x.{layer.name}") for layer in LAYERS]
    other = filled(tmp_path / "other.zarr", drawn(0.6, 2), renamed)
    with pytest.raises(UserError, match="none of early, late, out: pair them by depth"):
        compare([few, other])
    found = compare([few, other], pairing="depth", resamples=20).differences
    assert {(one.layer, one.other_layer) for one in found} == {
        (layer.name, f"x.{layer.name}") for layer in LAYERS
    }


def test_a_layer_without_a_counterpart_is_named(few: Store, tmp_path: Path) -> None:
    responses = drawn(0.6, 2)
    responses.pop("early")
    other = filled(tmp_path / "other.zarr", responses, LAYERS[1:])
    comparison = compare([few, other], resamples=20)
    assert comparison.warnings == (f"{other.path} has no early",)
    assert {one.layer for one in comparison.differences} == {"late", "out"}


def test_comparing_one_fold_or_no_selective_units_warns_of_nothing(tmp_path: Path) -> None:
    counts = made.COUNTS.sum(axis=1, keepdims=True)
    table = {**made.contents()["stimuli"]}
    table["stimulus_fold"] = np.zeros_like(table["stimulus_fold"])
    joined = {
        name: [[np.concatenate(folds)] for folds in groups]
        for name, groups in drawn(0.0, 3).items()
    }
    store = filled(tmp_path / "one.zarr", joined, counts=counts, stimuli=table)
    comparison = compare([store, store], resamples=20)
    for measure in ("csi", "d_prime", "gini", "entropy"):
        one = found_in(comparison, measure, "bodies")
        assert (one.value, one.difference, one.low, one.high) == (None, None, None, None)
    assert found_in(comparison, contrast="bodies").difference == 0


MISFITTING: dict[str, Any] = {
    "stimuli": {"stimulus_sha256": "f" * 64},
    "preprocessing": {"resize": 300},
    "units": "channel",
}


@pytest.mark.parametrize("what", MISFITTING)
def test_incomparable_stores_raise_unless_allowed_and_are_noted(
    few: Store, tmp_path: Path, what: str
) -> None:
    contents = made.contents()
    if what == "stimuli":
        contents["stimuli"]["stimulus_sha256"][0] = "f" * 64
    else:
        contents["provenance"] = {**contents["provenance"], what: MISFITTING[what]}
    responses = drawn(0.1, 1)
    if what == "units":
        layers = [Layer("late", "Conv2d", ("channel",), (20,), "float32")]
        responses = {"late": [[x[:, :20] for x in folds] for folds in responses["late"]]}
    else:
        layers = list(LAYERS)
    other = filled(tmp_path / "o.zarr", responses, layers,
                   **{k: contents[k] for k in ("stimuli", "provenance")})  # fmt: skip
    with pytest.raises(UserError, match=f"differ in their {what}: .*`allow` {what}"):
        compare([few, other], layers="late")
    comparison = compare([few, other], layers="late", allow=[what], resamples=20)
    assert any(f"differ in their {what}" in warning for warning in comparison.warnings)
    assert comparison.differences


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"measures": ["csl"]}, "measures of a comparison: .*did you mean csi"),
        ({"pairing": "shape"}, "pairing of a comparison: name, depth"),
        ({"against": "last"}, "against of a comparison: first, previous"),
        ({"allow": ["weights"]}, "allow of a comparison: stimuli"),
        ({"resamples": 0}, "at least 1; got 0"),
        ({"layers": "lat"}, "did you mean late"),
        ({"contrasts": "face"}, "faces"),
    ],
)
def test_invalid_comparison_requests_raise(few: Store, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compare([few, few], **options)


def test_networks_of_different_categories_are_compared_on_those_in_common(
    few: Store, tmp_path: Path
) -> None:
    three = ("scenes", "faces", "others")
    stimuli = made.contents(counts=made.COUNTS[:3])["stimuli"]
    responses = {name: groups[:3] for name, groups in drawn(0.6, 2).items()}
    other = filled(tmp_path / "o.zarr", responses, categories=three, counts=made.COUNTS[:3],
                   stimuli=stimuli)  # fmt: skip
    found = compare([few, other], allow="stimuli", resamples=20).differences
    assert [*dict.fromkeys(one.contrast for one in found)] == ["faces", "scenes"]
    shares = {row.contrast: row.share for row in fusiform.summary(other, layers="late")}
    assert (
        found_in(compare([few, other], allow="stimuli", resamples=20)).other_value
        == (shares["faces"])
    )
    none = filled(tmp_path / "n.zarr", responses, categories=("x", "y", "z"),
                  counts=made.COUNTS[:3], stimuli=stimuli)  # fmt: skip
    with pytest.raises(UserError, match="have none in common: name the contrasts"):
        compare([few, none], allow="stimuli")


def test_comparing_one_network_raises(few: Store) -> None:
    with pytest.raises(UserError, match="at least two stores; got 1"):
        compare([few])


# Populations


def by_name(found: Iterable[Any]) -> dict[tuple[str, str], Population]:
    """Populations by layer and name."""
    every = [one for selected, rest in found for one in (*(own for own, _ in selected), rest)]
    return {(one.layer, one.name): one for one in every}


def test_populations_are_measured_on_held_out_stimuli(few: Store) -> None:
    responses, contrasts = drawn(0.1, 1), every_category(few.categories)
    found = by_name(populations(few, DEFAULT, contrasts, few.layers))
    for layer, selection in select.select(few):
        groups, alive = responses[layer.name], ~(selection.dead | selection.nonfinite)
        for index, name in enumerate([*few.categories, EVERY_UNIT]):
            vectors, scores = [], []
            for fold in range(few.folds):
                chosen = selection.selective_fold[index, fold] if name != EVERY_UNIT else alive
                for unit in np.flatnonzero(chosen):
                    held_out = [groups[k][1 - fold][:, unit] for k in range(len(groups))]
                    everything = np.concatenate(held_out)
                    means = np.array([own.mean() for own in held_out])
                    vectors.append(means)
                    scores.append((means - everything.mean()) / everything.std(ddof=1))
            own = found[layer.name, name]
            assert own.units == len(vectors) / 2
            if not vectors:
                assert np.isnan(own.profile).all()
                continue
            np.testing.assert_allclose(own.profile, np.mean(scores, axis=0), atol=1e-10)
            if len(vectors) > 2:
                np.testing.assert_allclose(own.rdm, 1 - np.corrcoef(np.transpose(vectors)),
                                           atol=1e-10)  # fmt: skip
            else:
                assert np.isnan(own.rdm).all()


# Regions


def table(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def profiles(values: Any, subjects: int = 1, noise: float = 0.0) -> list[list[Any]]:
    """Rows of a table of regions; ``values`` maps names to profiles."""
    rng = np.random.default_rng(0)
    rows: list[list[Any]] = [["subject", "region", "category", "response"]]
    for region, profile in values.items():
        for subject in range(subjects):
            rows += [
                [f"s{subject}", region, name, value + noise * rng.normal()]
                for name, value in zip(made.CATEGORIES, profile, strict=True)
            ]
    return rows


def test_a_region_table_is_read_in_any_order_of_rows_and_columns(tmp_path: Path) -> None:
    rows = profiles({"FFA": [3, 1, 0, 1], "PPA": [0, 1, 0, 4]}, subjects=2)
    regions = read_regions(table(tmp_path / "t.csv", rows))
    assert regions.items == made.CATEGORIES
    assert [region.name for region in regions.regions] == ["FFA", "PPA"]
    assert regions.regions[0].values.tolist() == [[3, 1, 0, 1], [3, 1, 0, 1]]
    shuffled = [rows[0], *reversed(rows[1:])]
    again = read_regions(table(tmp_path / "u.csv", [row[::-1] for row in shuffled]))
    by_name = {region.name: region for region in again.regions}
    order = [again.items.index(name) for name in made.CATEGORIES]
    assert by_name["PPA"].values[:, order].tolist() == [[0, 1, 0, 4]] * 2


def test_dissimilarity_tables_may_list_a_pair_in_either_order(tmp_path: Path) -> None:
    rows = [["region", "first", "second", "distance"], ["FFA", "a", "b", 1], ["FFA", "c", "a", 2],
            ["FFA", "b", "c", 3], ["FFA", "a", "a", 0]]  # fmt: skip
    regions = read_regions(table(tmp_path / "t.csv", rows))
    assert regions.are_rdms
    assert regions.items == ("a", "b", "c")
    assert regions.regions[0].values.tolist() == [[1, 2, 3]]
    assert regions.regions[0].subjects == ("",)


WRONG: dict[str, tuple[list[list[Any]], str]] = {
    "columns": ([["region", "category"], ["FFA", "a"]], "lacks response"),
    "nothing": ([], "lacks region"),
    "short row": ([["region", "category", "response"], ["FFA", "a"]], "line 2 .* has 2 of 3"),
    "word": ([["region", "category", "response"], ["FFA", "a", "much"]], "line 2 .* 'much'"),
    "nan": ([["region", "category", "response"], ["FFA", "a", "nan"]], "finite numbers"),
    "twice": (
        [["region", "category", "response"], ["FFA", "a", 1], ["FFA", "a", 2]],
        "line 3 .* gives a of FFA again",
    ),
    "few": ([["region", "category", "response"], ["FFA", "a", 1], ["FFA", "b", 2]], "at least 3"),
    "absent": (
        [["region", "category", "response"], *(["FFA", c, 1] for c in "abc"), ["PPA", "a", 1]],
        "none of PPA for b",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_malformed_region_table_raises_one_line(tmp_path: Path, what: str) -> None:
    rows, said = WRONG[what]
    with pytest.raises(UserError, match=said) as caught:
        read_regions(table(tmp_path / "t.csv", rows))
    assert "\n" not in str(caught.value)


AS_SPREADSHEETS_WRITE_IT = {
    "space after the comma": lambda text: text.replace(",", ", "),
    "quotes after it": lambda text: re.sub("[^,\n]+", r' "\g<0>"', text),
    "byte order mark": lambda text: "\ufeff" + text,
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "lines of old Macs": lambda text: text.replace("\n", "\r"),
    "empty lines and columns": lambda text: "\n" + text.replace("\n", ",,\n\n,,,,\n"),
    "names that a Mac has decomposed": lambda text: unicodedata.normalize("NFD", text),
    "one such name": lambda text: text.replace("\u00e9,b", "e\u0301,b"),
}


@pytest.mark.parametrize("what", AS_SPREADSHEETS_WRITE_IT)
def test_a_region_table_written_by_a_spreadsheet_is_read(tmp_path: Path, what: str) -> None:
    text = "region,category,response\n\u00e9,a,1\n\u00e9,b,2\n\u00e9,t\u00eate,3\n"
    (tmp_path / "t.csv").write_text(AS_SPREADSHEETS_WRITE_IT[what](text), "utf-8", newline="")
    found = read_regions(tmp_path / "t.csv")
    (region,) = found.regions
    assert region.values.tolist() == [[1, 2, 3]]
    assert unicodedata.normalize("NFC", region.name) == "\u00e9"
    assert in_order(found, ("t\u00eate", "b", "a")).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("region,category,response,response", "response twice"),
        ("subject,region,category,response, subject", "subject twice"),
        ("region;category;response", "has ';': save it with commas"),
        ('"region";"category";"response"', "has ';': save it with commas"),
        ("region\tcategory\tresponse", "save it with commas"),
    ],
)
def test_a_region_table_with_ambiguous_columns_raises(tmp_path: Path, head: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(f"{head}\nFFA,a,1\n")
    with pytest.raises(UserError, match=said):
        read_regions(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("region,category,response\nFFA, left,a,1\n")
    with pytest.raises(UserError, match=r"line 2 .* has 4 for 3 columns: quote cells"):
        read_regions(tmp_path / "t.csv")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00region", b'region,category,response\n"FFA'])
def test_a_file_that_is_not_a_region_table_raises_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match="CSV in UTF-8"):
        read_regions(tmp_path / "t.csv")


def test_a_folder_is_not_a_region_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        read_regions(tmp_path)


def test_a_pipe_is_refused_as_region_table_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="is a device or pipe: write it to a file"):
        read_regions(tmp_path / "pipe.csv")


# Correlations


def plain_p(
    region: np.ndarray, values: list[np.ndarray], correlation: Any, is_rdm: bool
) -> list[tuple[float, float]]:
    """Permutation p over all orders, of each column and of the largest correlation."""
    items = len(region) if not is_rdm else round((1 + np.sqrt(1 + 8 * region.shape[-1])) / 2)
    found = [correlation(region, one) for one in values]
    own, largest, orders = [0] * len(values), [0] * len(values), 0
    square = np.zeros((items, items))
    if is_rdm:
        square[np.triu_indices(items, 1)] = region
        square += square.T
    for order in itertools.permutations(range(items)):
        places = np.array(order)
        moved = (
            square[np.ix_(places, places)][np.triu_indices(items, 1)] if is_rdm else region[places]
        )
        by_chance = [correlation(moved, one) for one in values]
        orders += 1
        for i, value in enumerate(found):
            own[i] += by_chance[i] >= value - 1e-9
            largest[i] += max(by_chance) >= value - 1e-9
    return [(a / orders, b / orders) for a, b in zip(own, largest, strict=True)]


@pytest.mark.parametrize("is_rdm", [False, True])
@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_correlations_and_p_equal_plain_loops_and_scipy(correlation: Any, is_rdm: bool) -> None:
    rng = np.random.default_rng(1)
    items = ("a", "b", "c", "d", "e")
    length = 10 if is_rdm else 5
    values = [rng.normal(size=length) for _ in range(3)]
    values[2] = np.round(values[2])  # tied ranks
    region = Region("FFA", ("",), rng.normal(size=(1, length)))
    table_ = Regions("t.csv", is_rdm, items, (region,))
    columns = [Values("faces", f"layer{i}", 7.0, one) for i, one in enumerate(values)]
    found = list(correlate(table_, columns, correlation, 10_000, 0))
    scipys = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr}[correlation]
    expected = plain_p(region.values[0], values, lambda a, b: scipys(a, b).statistic, is_rdm)
    for one, own, (p, corrected) in zip(found, values, expected, strict=True):
        assert isinstance(one, LayerCorrelation)
        assert one.correlation == pytest.approx(scipys(region.values[0], own).statistic)
        assert (one.p, one.p_corrected) == (pytest.approx(p), pytest.approx(corrected))


def test_drawn_permutations_begin_with_the_identity_and_depend_on_the_seed() -> None:
    assert len(permuted(4, 24, 0)) == 24
    drawn_ = permuted(9, 500, 3)
    assert drawn_.shape == (500, 9)
    assert drawn_[0].tolist() == list(range(9))
    assert (np.sort(drawn_, axis=1) == np.arange(9)).all()
    assert (drawn_ == permuted(9, 500, 3)).all()
    assert (drawn_ != permuted(9, 500, 4)).any()


def test_p_of_drawn_permutations_is_near_the_exact_p() -> None:
    rng = np.random.default_rng(2)
    region = Region("FFA", ("",), rng.normal(size=(1, 7)))
    table_ = Regions("t.csv", False, tuple("abcdefg"), (region,))
    columns = [Values("faces", "l", 7.0, region.values[0] + rng.normal(size=7))]
    (whole,), (part,) = (list(correlate(table_, columns, "pearson", n, 0)) for n in (5040, 4000))
    assert isinstance(whole, LayerCorrelation)
    assert isinstance(part, LayerCorrelation)
    assert part.p == pytest.approx(whole.p, abs=4 * np.sqrt((whole.p or 0) / 4000))


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_the_noise_ceiling_equals_plain_loops(correlation: Any) -> None:
    rng = np.random.default_rng(3)
    values = np.round(rng.normal(size=6) + rng.normal(0, 0.7, (5, 6)), 1)  # with tied ranks
    expected = reference.noise_ceiling(values.tolist(), correlation == "spearman")
    assert noise_ceiling(values, correlation) == pytest.approx(expected)
    assert expected[0] < expected[1]
    assert noise_ceiling(values[:1], correlation) == (None, None)


@pytest.mark.parametrize(
    ("correlation", "expected"),
    [
        ("spearman", (0.3539712212162268, 0.6707441766510146)),
        ("pearson", (0.3944066285914879, 0.6725784740884687)),
    ],
)
def test_noise_ceilings_are_those_of_rsatoolbox(
    correlation: Any, expected: tuple[float, float]
) -> None:
    # rsatoolbox 0.3.2: boot_noise_ceiling(RDMs(values), "spearman" or "corr").
    common = np.random.default_rng(0).normal(size=10)
    values = common + np.random.default_rng(1).normal(size=(4, 10))
    assert noise_ceiling(values, correlation) == pytest.approx(expected, rel=1e-12)


def test_the_best_layer_of_a_region_is_evaluated_on_held_out_subjects(
    few: Store, tmp_path: Path
) -> None:
    contrasts = every_category(few.categories)
    own = by_name(populations(few, DEFAULT, contrasts, few.layers))
    like: Population = own["late", EVERY_UNIT]
    rows = profiles({"FFA": like.profile * 10}, subjects=5, noise=0.02)
    found = fusiform.compare_regions(few, table(tmp_path / "t.csv", rows))
    assert found.orders == 24
    assert found.held_out
    by_layer = {one.layer: one for one in found.correlations if one.population == EVERY_UNIT}
    late = by_layer["late"]
    assert late.correlation is not None
    assert late.correlation > 0.9
    assert late.p == pytest.approx(1 / 24)
    assert late.ceiling_low is not None
    assert late.ceiling_low < late.ceiling_high  # type: ignore[operator]
    (best,) = (one for one in found.best_layers if one.population == EVERY_UNIT)
    assert (best.layer, best.over, best.splits) == ("late", "subjects", 5)
    assert best.chosen >= 3
    faces = [one for one in found.correlations if one.population == "faces" and one.units]
    assert faces


def test_a_region_table_may_hold_a_subset_of_the_categories_in_any_order(
    few: Store, tmp_path: Path
) -> None:
    ((_, every),) = populations(few, DEFAULT, [], [few.layer("late")])
    profile = every.profile
    rows = [["region", "category", "response"],
            *(["FFA", few.categories[k], profile[k]] for k in (3, 0, 2))]  # fmt: skip
    found = fusiform.compare_regions(few, table(tmp_path / "t.csv", rows), layers="late")
    last = found.correlations[-1]
    assert last.population == EVERY_UNIT
    assert last.correlation == pytest.approx(1)


def test_dissimilarity_matrices_of_regions_are_compared(few: Store, tmp_path: Path) -> None:
    ((_, own),) = populations(few, DEFAULT, [], [few.layer("out")])
    rows: list[list[Any]] = [["region", "first", "second", "distance"]]
    for i, j in itertools.combinations(range(4), 2):
        rows.append(["EBA", few.categories[j], few.categories[i], own.rdm[i, j]])
    found = fusiform.compare_regions(few, table(tmp_path / "t.csv", rows))
    assert found.correlation == "spearman"
    (one,) = (o for o in found.correlations if (o.layer, o.population) == ("out", EVERY_UNIT))
    assert one.correlation == pytest.approx(1)
    assert not found.best_layers


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 5, stride=4)
        self.head = nn.Linear(4 * 49, 9)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(images)).flatten(1))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Any) -> Any:
    """A recording of all units of two layers for 18 stimuli."""
    folder = tmp_path_factory.mktemp("recording")
    return flat.record(
        Net(), draw_stimuli(folder / "stimuli"), folder / "r.zarr", layers=["conv", "head"],
        preprocessing=fusiform.Preprocessing(resize=32, crop=32), device="cpu",
    )  # fmt: skip


def test_dissimilarities_of_stimuli_are_compared_with_a_recording(
    recording: Any, tmp_path: Path, command: Any
) -> None:
    responses = recording.responses("head").compute().astype(np.float64)
    paths = recording.stimulus_column("stimulus_path")
    rdm, chosen = 1 - np.corrcoef(responses), [11, 3, 7, 0, 16, 5]
    rows: list[list[Any]] = [["subject", "region", "first", "second", "distance"]]
    for i, j in itertools.combinations(chosen, 2):
        rows += [[f"s{s}", "IT", paths[i], paths[j], rdm[i, j]] for s in range(2)]
    path = table(tmp_path / "t.csv", rows)
    found = fusiform.compare_regions(recording, path)
    conv, head = found.correlations
    assert (conv.layer, head.layer, head.units) == ("conv", "head", 9)
    assert head.correlation == pytest.approx(1)
    assert head.p is not None
    assert head.p <= 0.01
    assert found.orders == 720
    other = 1 - np.corrcoef(recording.responses("conv").compute().astype(np.float64))
    upper = np.triu_indices(len(chosen), 1)
    expected = scipy.stats.spearmanr(
        rdm[np.ix_(chosen, chosen)][upper], other[np.ix_(chosen, chosen)][upper]
    ).statistic
    assert conv.correlation == pytest.approx(expected)
    (best,) = found.best_layers
    assert (best.layer, best.chosen) == ("head", 2)
    code, out, err = command(recording.path, "--roi", path)
    assert (code, err) == (0, "")
    assert "dissimilarity of stimuli" in out
    for options in ({"contrasts": "faces"}, {"criterion": fusiform.Criterion(where="t > 3")}):
        with pytest.raises(UserError, match="select units of a store"):
            fusiform.compare_regions(recording, path, **options)


def test_comparing_a_recording_with_responses_to_categories_raises(
    recording: Any, few: Store, tmp_path: Path
) -> None:
    path = table(tmp_path / "t.csv", profiles({"FFA": [3, 1, 0, 1]}))
    with pytest.raises(UserError, match="compare it with a store"):
        fusiform.compare_regions(recording, path)
    rows = [["region", "first", "second", "distance"], ["IT", "a", "b", 1], ["IT", "a", "c", 2],
            ["IT", "b", "c", 3]]  # fmt: skip
    with pytest.raises(UserError, match=r"the same stimuli; .* has 'a'"):
        fusiform.compare_regions(recording, table(tmp_path / "u.csv", rows))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (profiles({"FFA": [1, 1, 1, 1]}), "FFA .* are constant"),
        (
            [["region", "category", "response"], *(["FFA", c, i] for i, c in enumerate("abc"))],
            "has 'a', the store does not",
        ),
    ],
)
def test_incomparable_regions_raise(
    few: Store, tmp_path: Path, rows: list[list[Any]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        fusiform.compare_regions(few, table(tmp_path / "t.csv", rows))


@pytest.mark.parametrize(
    "options", [{"correlation": "kendall"}, {"rearrangements": 0}, {"layers": "nowhere"}]
)
def test_invalid_region_requests_raise(few: Store, tmp_path: Path, options: dict[str, Any]) -> None:
    path = table(tmp_path / "t.csv", profiles({"FFA": [3, 1, 0, 1]}))
    with pytest.raises(UserError):
        fusiform.compare_regions(few, path, **options)


# The command line


def test_the_compare_command_shows_networks_side_by_side(
    few: Store, many: Store, command: Any
) -> None:
    code, out, err = command(few.path, many.path, "--resamples", 50)
    assert (code, err) == (0, "")
    assert "share of selective units, %" in out
    assert "2 - 1" in out
    assert MEASURED["gini"] in out
    assert any("*  " in line for line in out.splitlines())
    code, out, _ = command(
        few.path, many.path, "--resamples", 50, "--format", "json", "--measures", "share"
    )
    read = json.loads(out)
    assert code == 0
    assert {one["quantity"] for one in read} == {"share", "share_difference"}
    code, out, _ = command(few.path, many.path, many.path, "--against", "previous",
                           "--resamples", 50, "--measures", "share")  # fmt: skip
    (line,) = (one for one in out.splitlines() if one.split()[:2] == ["late", "faces"])
    first, second, third = line.split()[2:]
    assert (first.endswith("*"), second, third) == (False, f"{second.rstrip('*')}*", second[:-1])
    code, _, err = command(few.path)
    assert code == 2
    assert err.startswith("error: a comparison needs at least two stores")


def test_the_compare_command_shows_regions(
    few: Store, many: Store, tmp_path: Path, command: Any
) -> None:
    rows = profiles({"FFA\x1b[2J": [3, 1, 0, 1], "PPA": [0, 1, 0, 4]}, subjects=3, noise=0.1)
    path = table(tmp_path / "t.csv", rows)
    code, out, err = command(few.path, many.path, "--roi", path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "held-out r" in out
    assert out.count(str(few.path)) == 1
    for option in ("--pairing=depth", "--against=first", "--measures=csi", "--resamples=5"):
        code, out, err = command(few.path, "--roi", path, option)
        assert (code, out) == (2, "")
        assert "compares networks; got it with --roi" in err
    for option in (
        "--correlation=pearson",
        "--rearrangements=9",
        "--each-layer",
        "--control-units",
    ):
        code, out, err = command(few.path, many.path, option)
        assert (code, out) == (2, "")
        assert "is for --roi; got" in err
    _, _, err = command("--paring", "depth")
    assert err.startswith("error: no such option: --paring, did you mean --pairing")
    assert ")" not in err
    code, out, err = command(few.path, many.path, "--pairing", "deep")
    assert err.startswith("error: invalid value for '--pairing': 'deep' is not one of 'name'")
    code, out, _ = command(few.path, "--roi", path, "--each-layer")
    assert code == 0
    assert "early" in out
    code, out, _ = command(few.path, "--roi", path, "--format", "json")
    assert sum(one["quantity"] == "pearson" for one in json.loads(out)) == 2 * 5 * 3
