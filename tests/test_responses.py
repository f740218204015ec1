"""Questions to recordings, against plain loops, scipy and scikit-learn; damage raises."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.info import facts
from fusiform.engine.responses.answer import QUESTIONS, answer
from fusiform.engine.responses.ceiling import (
    category_distances,
    ceilings,
    correlation,
    spearman_brown,
)
from fusiform.engine.responses.discrimination import discriminate
from fusiform.engine.responses.driving import driven
from fusiform.engine.responses.geometry import agreement, geometry, products, upper
from fusiform.engine.responses.recording import least, most
from fusiform.engine.responses.tuning import tuning
from fusiform.engine.store import chunking
from fusiform.engine.store.recording_reader import recorded_attribute
from fusiform.engine.store.writing.creating import RecordingBlueprint
from fusiform.kernels import projection
from fusiform.kernels.indices import lifetime_sparseness
from fusiform.kernels.ranks import average_ranks, rank_sum

from . import reference
from .fuzz import mutations

LAYERS = (
    Layer("conv", "Conv2d", ("channel", "y", "x"), (4, 3, 3), "float32"),
    Layer("head", "Linear", ("unit",), (12,), "float32"),
    Layer("wide", "Linear", ("unit",), (300,), "float32"),
)
CATEGORIES = ("faces", "bodies", "words", "scenes")
COUNTS = np.array([[6, 5], [4, 4], [5, 6], [3, 4]])
DIM = 40
UNITS = {
    "conv": np.array([1, 4, 5, 11, 20, 35]),
    "head": np.arange(12),
    "wide": np.arange(0, 300, 2),
}
CHOICES = ("faces", "random")


def values_of(layer: str) -> np.ndarray:
    """Responses ``[stimulus, unit]``, rounded so that ties occur; the last row was not shown."""
    rng = np.random.default_rng(len(layer))
    labels = np.repeat(np.arange(4), COUNTS.sum(axis=1))
    units = UNITS[layer]
    x = np.round(rng.normal(2.0 * (units[None, :] % 5 == labels[:, None]), 1.0), 1)
    x[:, 0] = 0.5  # constant
    return np.vstack([x, np.full((1, len(units)), np.nan)]).astype(np.float32)


def fill(path: Path) -> Path:
    """Write a recording of them, its last layer projected."""
    table = np.repeat(np.argwhere(COUNTS), COUNTS.ravel(), axis=0)
    shown = len(table)
    chosen = {
        name: np.stack([own % 5 == 0, np.ones(len(own), bool)]) for name, own in UNITS.items()
    }
    contents = {
        "layers": LAYERS,
        "categories": CATEGORIES,
        "counts": COUNTS,
        "stimuli": {
            "stimulus_path": [f"é/{i}.png" for i in range(shown + 1)],
            "stimulus_category": np.append(table[:, 0], 2),
            "stimulus_fold": np.append(table[:, 1], -1),
            "stimulus_sha256": [f"{i:064x}" for i in range(shown + 1)],
            "stimulus_status": ["shown"] * shown + ["is no image"],
        },
        "provenance": {
            "model": "made-up",
            "weights": "none",
            "batch_size": 8,
            "recorded": recorded_attribute(UNITS),
            "choices": list(CHOICES),
            "chosen_by": {"select": ["faces"], "random": 3, "seed": 0},
            "projection": {"dim": DIM, "seed": 7},
        },
    }
    draft = RecordingBlueprint(**contents, units=UNITS, chosen=chosen).create(path)
    for layer in LAYERS:
        x = values_of(layer.name)
        if layer.name == "wide":
            means = x.astype(np.float64).mean(axis=1)
            signs = projection.signs(7, 0, x.shape[1], DIM)
            draft.write_means(layer, means)
            x = ((x - means[:, None]) @ signs / math.sqrt(DIM)).astype(np.float32)
        rows = draft.rows_per_file(layer)
        for number, start in enumerate(range(0, len(x), rows)):
            draft.write_rows(layer, number, x[start : start + rows])
    draft.complete()
    return path


@pytest.fixture(scope="module", params=["whole", "in pieces"])
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> fusiform.Recording:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in pieces":
            patch.setattr(chunking, "_RESPONSE_FILE_VALUES", 1)
            patch.setattr(chunking, "_MIN_ROWS", 7)
            patch.setattr(chunking, "_RESPONSE_CHUNK_VALUES", 35)
        return fusiform.open_recording(fill(tmp_path_factory.mktemp("made") / "r.zarr"))


def rows_of(categories: list[int], fold: int | None = None) -> np.ndarray:
    table = np.repeat(np.argwhere(COUNTS), COUNTS.ravel(), axis=0)
    own = np.isin(table[:, 0], categories)
    return np.flatnonzero(own if fold is None else own & (table[:, 1] == fold))


# Ranks

few = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
responses = st.lists(few | st.floats(width=32, allow_nan=False), min_size=2, max_size=14)


@given(values=responses)
def test_ranks_equal_the_definition_and_scipy(values: list[float]) -> None:
    x = np.array(values, np.float32)[:, None]
    ranks, ties = average_ranks(x)
    assert ranks[:, 0].tolist() == reference.ranks(x[:, 0].tolist())
    assert ranks[:, 0].tolist() == stats.rankdata(x[:, 0]).tolist()
    _, counts = np.unique(x, return_counts=True)
    assert ties[0] == (counts**3 - counts).sum()


@pytest.mark.smoke
@settings(deadline=None)
@given(target=responses, baseline=responses, sides=st.sampled_from([1, 2]))
def test_the_rank_sum_equals_scipys_and_the_area_scikit_learns(
    target: list[float], baseline: list[float], sides: int
) -> None:
    a, b = (np.array(values, np.float32) for values in (target, baseline))
    x, first = np.concatenate([a, b]), np.arange(len(a) + len(b)) < len(a)
    found = rank_sum(*average_ranks(x[:, None]), first, sides)
    alternative = {1: "greater", 2: "two-sided"}[sides]
    constant = len(set(x.tolist())) == 1
    if not constant:
        wide = a.astype(np.float64), b.astype(np.float64)  # scipy then computes p in that precision
        expected = stats.mannwhitneyu(*wide, alternative=alternative, method="asymptotic")
        assert found.u[0] == expected.statistic
        np.testing.assert_allclose(found.p[0], expected.pvalue, rtol=1e-12, atol=0)
        finite = np.isfinite(x).all()
        if finite:
            np.testing.assert_allclose(found.auc[0], roc_auc_score(first, x), rtol=1e-12)
    assert found.auc[0] == pytest.approx(reference.area_under_curve(a, b), abs=1e-14)
    if constant:
        assert (found.auc[0], found.p[0]) == (0.5, 1.0)


@given(values=responses, order=st.randoms(use_true_random=False))
def test_rank_statistics_do_not_depend_on_stimulus_order(values: list[float], order: Any) -> None:
    places = list(range(len(values)))
    order.shuffle(places)
    x = np.array(values, np.float32)
    first = np.arange(len(x)) % 2 == 0
    one = rank_sum(*average_ranks(x[:, None]), first)
    two = rank_sum(*average_ranks(x[places, None]), first[places])
    assert [v.tolist() for v in one] == [v.tolist() for v in two]
    # Swapping the sides mirrors the area.
    other = rank_sum(*average_ranks(x[:, None]), ~first)
    assert one.auc[0] + other.auc[0] == pytest.approx(1)


def test_a_unit_with_nan_has_no_rank_and_leaves_its_neighbours_alone() -> None:
    x = np.array([[1, np.nan], [2, 3], [0, 4]], np.float32)
    ranks, ties = average_ranks(x)
    assert ranks[:, 0].tolist() == [2, 3, 1]
    assert np.isnan(ranks[:, 1]).all()
    assert np.isnan(ties[1])
    found = rank_sum(ranks, ties, np.array([True, True, False]))
    assert np.isnan([value[1] for value in found]).all()


@pytest.mark.parametrize("sides", [1, 2])
def test_rank_statistics_of_every_unit_contrast_and_fold(
    recording: fusiform.Recording, sides: int
) -> None:
    contrasts = {
        "faces": ([0], [1, 2, 3]),
        "faces + bodies > words": ([0, 1], [2]),
        "scenes": ([3], [0, 1, 2]),
    }
    found = list(discriminate(recording, list(contrasts), ["conv", "head"], sides))
    assert [(one.layer, one.contrast) for one in found] == [
        (layer, contrast) for layer in ("conv", "head") for contrast in contrasts
    ]
    alternative = {1: "greater", 2: "two-sided"}[sides]
    for one in found:
        target, baseline = contrasts[one.contrast]
        x = values_of(one.layer).astype(np.float64)
        assert one.units.tolist() == UNITS[one.layer].tolist()
        assert (one.n_target, one.n_baseline) == (len(rows_of(target)), len(rows_of(baseline)))
        assert (one.chosen is None) == (one.contrast != "faces")
        samples = [(None, one.auc, one.p)]
        samples += [(fold, one.auc_fold[fold], one.p_fold[fold]) for fold in (0, 1)]
        for fold, auc, p in samples:
            a, b = x[rows_of(target, fold)], x[rows_of(baseline, fold)]
            for unit in range(1, x.shape[1]):
                expected = stats.mannwhitneyu(
                    a[:, unit], b[:, unit], alternative=alternative, method="asymptotic"
                )
                assert auc[unit] == pytest.approx(expected.statistic / len(a) / len(b), abs=1e-14)
                assert p[unit] == pytest.approx(expected.pvalue, rel=1e-10)
                labels = np.r_[np.ones(len(a)), np.zeros(len(b))]
                area = roc_auc_score(labels, np.r_[a[:, unit], b[:, unit]])
                assert auc[unit] == pytest.approx(area, abs=1e-12)
            assert (auc[0], p[0]) == (0.5, 1.0)  # constant


def test_weighted_contrasts_have_no_ranks(recording: fusiform.Recording) -> None:
    with pytest.raises(UserError, match="weighs categories: write A > B"):
        list(discriminate(recording, ["faces - (bodies + words)/2"]))
    with pytest.raises(UserError, match="1 or 2 sides"):
        list(discriminate(recording, sides=3))
    with pytest.raises(UserError, match="wide was recorded as a projection of 150 units to 40"):
        list(discriminate(recording))


# Images and tuning


def test_the_strongest_and_weakest_images_of_a_unit(recording: fusiform.Recording) -> None:
    for layer in ("conv", "head"):
        x = values_of(layer)
        for column, unit in enumerate(UNITS[layer].tolist()):
            rows = [row for row in range(len(x)) if not math.isnan(x[row, column])]
            up = sorted(rows, key=lambda row: (x[row, column], row))
            down = sorted(rows, key=lambda row: (-x[row, column], row))
            assert most(recording, layer, unit, 5).tolist() == down[:5]
            assert least(recording, layer, unit, 7).tolist() == up[:7]
            assert len(most(recording, layer, unit, 1000)) == len(rows)
    with pytest.raises(UserError, match="6 units of conv; 2 is none of them"):
        most(recording, "conv", 2, 3)


def test_the_best_units_of_a_contrast_are_among_its_recorded_ones(
    recording: fusiform.Recording,
) -> None:
    found = driven(recording, layers=["head"], units=2, images=4)
    assert {one.contrast for one in found} == {"faces"}  # and not random
    x, faces = values_of("head"), rows_of([0]).tolist()
    others = rows_of([1, 2, 3]).tolist()
    areas = {u: reference.area_under_curve(x[faces, u], x[others, u]) for u in (0, 5, 10)}
    best = sorted(areas, key=lambda u: (-areas[u], u))[:2]
    assert [one.unit for one in found] == best
    assert [one.auc for one in found] == pytest.approx([areas[u] for u in best])
    one = found[0]
    assert [image.row for image in one.most] == most(recording, "head", one.unit, 4).tolist()
    assert one.most[0].path == f"é/{one.most[0].row}.png"
    assert one.most[0].response == x[one.most[0].row, one.unit]
    strongest = most(recording, "head", one.unit, len(faces)).tolist()
    assert one.preferred == pytest.approx(np.mean([row in faces for row in strongest]))
    assert one.lowest == np.count_nonzero(x[:, one.unit] == np.nanmin(x[:, one.unit]))
    (place,) = driven(recording, ["scenes"], ["conv"], 1, 1)
    assert np.ravel_multi_index(tuple(place.place.values()), (4, 3, 3)) == place.unit


def test_tuning_curves_are_means_and_deviations(recording: fusiform.Recording) -> None:
    for one in tuning(recording, ["conv", "head"]):
        x = values_of(one.layer)
        assert one.count.tolist() == COUNTS.sum(axis=1).tolist()
        for k in range(4):
            for unit in range(x.shape[1]):
                n, mean, m2 = reference.moments(x[rows_of([k]), unit])
                assert one.mean[k, unit] == pytest.approx(mean, rel=1e-12)
                assert one.sd[k, unit] == pytest.approx(math.sqrt(m2 / (n - 1)), abs=1e-9)
                for fold in range(2):
                    mean = reference.moments(x[rows_of([k], fold), unit])[1]
                    assert one.fold_mean[fold, k, unit] == pytest.approx(mean, rel=1e-12)
        shown = x[rows_of([0, 1, 2, 3])]
        expected = [reference.lifetime_sparseness(column) for column in shown.T.tolist()]
        assert one.lifetime_sparseness == pytest.approx(expected, abs=1e-12)


def test_sparseness_over_stimuli_and_over_categories_differ() -> None:
    # One face of ten drives the first unit, all ten the second: their category means are alike.
    responses = np.zeros((40, 2))
    responses[0, 0], responses[:10, 1] = 10, 1
    means = responses.reshape(4, 10, 2).mean(axis=1)
    assert lifetime_sparseness(means).tolist() == [1, 1]
    assert lifetime_sparseness(responses) == pytest.approx([1, 30 / 39])
    constant = np.array([[2.0, 0, -1, 3], [2, 0, -2, -3]])
    assert lifetime_sparseness(constant).tolist() == [0, 0, 0, 1]
    with np.errstate(invalid="ignore"):
        assert np.isnan(lifetime_sparseness(constant[:1])).all()


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=30), st.floats(1e-30, 1e30))
def test_lifetime_sparseness_equals_its_definition_at_any_scale(
    responses: list[float], scale: float
) -> None:
    expected = reference.lifetime_sparseness(responses)
    column = np.array(responses)[:, np.newaxis]
    assert lifetime_sparseness(column * scale)[0] == pytest.approx(expected, abs=1e-9)


# Geometry


@pytest.mark.parametrize("distance", ["correlation", "euclidean"])
def test_dissimilarities_equal_the_definition_and_scipy(
    recording: fusiform.Recording, distance: Any
) -> None:
    plain = getattr(reference, f"{distance}_distance")
    for layer in ("conv", "head"):
        x = values_of(layer)[:-1].astype(np.float64)
        found = products(recording, layer).distances(distance)
        np.testing.assert_allclose(upper(found), pdist(x, distance), rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(found, found.T)
        assert (np.diag(found) == 0).all()
        for a, b in ((0, 1), (3, 30), (12, 20)):
            assert found[a, b] == pytest.approx(plain(x[a], x[b]), abs=1e-9)


def test_projected_dissimilarities_equal_those_of_the_projection(
    recording: fusiform.Recording,
) -> None:
    x = values_of("wide")[:-1].astype(np.float64)
    means = x.mean(axis=1)
    y = (x - means[:, None]) @ projection.signs(7, 0, 150, DIM) / math.sqrt(DIM)
    squares = pdist(y, "sqeuclidean") + 150 * pdist(means[:, None], "sqeuclidean")
    found = products(recording, "wide")
    np.testing.assert_allclose(upper(found.distances("euclidean")) ** 2, squares, rtol=1e-5)
    np.testing.assert_allclose(
        upper(found.distances("correlation")), pdist(y, "cosine"), rtol=1e-5, atol=1e-6
    )


def test_dissimilarities_within_one_and_between_two_categories(
    recording: fusiform.Recording,
) -> None:
    (one,) = geometry(recording, ["head"], "euclidean")
    x = values_of("head")[:-1].astype(np.float64)
    labels = np.repeat(np.arange(4), COUNTS.sum(axis=1))
    pairs = list(combinations(range(len(x)), 2))
    apart = {
        same: [
            reference.euclidean_distance(x[a], x[b])
            for a, b in pairs
            if (labels[a] == labels[b]) == same
        ]
        for same in (True, False)
    }
    assert one.within == pytest.approx(np.mean(apart[True]))
    assert one.between == pytest.approx(np.mean(apart[False]))
    assert (one.units, one.stimuli, one.projected) == (12, len(x), False)


def test_every_pair_of_layers_is_compared(recording: fusiform.Recording) -> None:
    x, y = (values_of(layer)[:-1].astype(np.float64) for layer in ("conv", "head"))
    a, b = pdist(x, "correlation"), pdist(y, "correlation")
    expected = {
        "spearman": np.corrcoef(reference.ranks(a), reference.ranks(b))[0, 1],
        "kendall": stats.kendalltau(a, b).statistic,
        "cka": reference.linear_cka(x, y),
        "cka_unbiased": reference.unbiased_cka(x, y),
    }
    for similarity, value in expected.items():
        found = agreement(recording, similarity=similarity)
        assert [(one.layer, one.other) for one in found] == [
            ("conv", "head"), ("conv", "wide"), ("head", "wide"),
        ]  # fmt: skip
        assert found[0].value == pytest.approx(value, rel=1e-8)
    with pytest.raises(UserError, match="spearman, kendall, cka, cka_unbiased; got 'pearson'"):
        agreement(recording, similarity="pearson")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a distance is correlation or euclidean"):
        geometry(recording, distance="cosine")  # type: ignore[arg-type]


def test_a_layer_and_its_scaled_copy_have_similarity_1() -> None:
    from fusiform.kernels.similarity import linear_cka, patterns_of

    x = np.random.default_rng(0).normal(size=(20, 7))
    one, other = (patterns_of(part).gram for part in (x, 3 * x + 5))
    assert linear_cka(one, other) == pytest.approx(1)


# Reliability


def test_reliability_equals_its_definition(recording: fusiform.Recording) -> None:
    with pytest.raises(UserError, match="wide was recorded as a projection"):
        ceilings(recording)
    for one in ceilings(recording, ["conv", "head"], "correlation"):
        x = values_of(one.layer)
        means = [
            np.array([[math.fsum(x[rows_of([k], f), u]) / len(rows_of([k], f))
                       for u in range(x.shape[1])] for k in range(4)])
            for f in (0, 1)
        ]  # fmt: skip
        # The first unit is constant, and has no correlation.
        by_unit = [
            1 - reference.correlation_distance(means[0][:, u], means[1][:, u])
            for u in range(1, x.shape[1])
        ]
        assert (one.units, one.of) == (x.shape[1] - 1, x.shape[1])
        assert one.tuning_r == pytest.approx(np.mean(by_unit))
        assert one.tuning == pytest.approx(2 * one.tuning_r / (1 + one.tuning_r))
        apart = [
            [reference.correlation_distance(m[a], m[b]) for a, b in combinations(range(4), 2)]
            for m in means
        ]
        alike = 1 - reference.correlation_distance(*apart)
        assert one.geometry_r == pytest.approx(alike)
        if alike > 0:
            assert one.geometry == pytest.approx(2 * alike / (1 + alike))
    for one in ceilings(recording, ["head"], "euclidean"):
        assert one.distance == "euclidean"


def test_reliability_follows_the_spearman_brown_formula() -> None:
    assert spearman_brown(0.5, 2) == pytest.approx(2 / 3)
    assert spearman_brown(0.5, 3) == pytest.approx(0.75)
    assert spearman_brown(1.0, 2) == 1
    assert spearman_brown(-0.2, 2) is spearman_brown(0.0, 2) is spearman_brown(None, 2) is None


def test_constant_responses_have_no_correlation() -> None:
    x = np.array([[1.1, 0.0, 3.0], [1.1, 1.0, 4.0], [1.1, 2.0, 1.0]])
    found = correlation(x, x + 1e6)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], 1)
    apart = category_distances(x, "euclidean")
    assert upper(apart) == pytest.approx([math.sqrt(2), math.sqrt(8), math.sqrt(10)])


@given(n=st.integers(2, 10_000), dim=st.integers(1, 10_000))
def test_the_projection_bound_equals_that_of_the_theorem(n: int, dim: int) -> None:
    eps = projection.bound(n, dim)
    needed = 6 * math.log(n)
    if eps < 1:
        assert needed / (eps**2 / 2 - eps**3 / 3) == pytest.approx(dim, rel=1e-6)
    else:
        assert dim * (1 / 2 - 1 / 3) <= needed


# Damage and hostile recordings


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return fill(tmp_path / "r.zarr")


def change(path: Path, what: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((path / "zarr.json").read_text())
    what(document["attributes"])
    (path / "zarr.json").write_text(json.dumps(document))


ATTRIBUTES: dict[str, tuple[dict[str, Any], str]] = {
    "no choices": ({"choices": []}, "choices must be names"),
    "choices that are none": ({"choices": [3]}, "choices must be names"),
    "a choice without end": ({"choices": ["x" * 10_000]}, "choices"),
    "no record": ({"recorded": {}}, "recorded must be a record for every layer"),
    "records of nothing": ({"recorded": [1]}, "recorded"),
    "more units than there are": (
        {"recorded": {name: {"units": 10**9} for name in UNITS}},
        "recorded units of conv must be an integer from 1 to 36",
    ),
    "a projection to nothing": ({"projection": {"dim": 0, "seed": 0}}, "dim of the projection"),
    "a seed that is none": ({"projection": {"dim": 4, "seed": "x"}}, "seed of the projection"),
    "a projection that is none": ({"projection": 3}, "projection must be dim and seed"),
    "folds without end": ({"folds": 10**30}, "folds"),
}


@pytest.mark.parametrize("what", ATTRIBUTES)
def test_malformed_root_metadata_of_a_recording_are_refused(own: Path, what: str) -> None:
    changed, said = ATTRIBUTES[what]
    change(own, lambda attributes: attributes.update(changed))
    with pytest.raises(UserError, match="is damaged: its root is not whole") as caught:
        fusiform.open_recording(own)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_an_unfinished_recording_is_refused(own: Path) -> None:
    change(own, lambda attributes: attributes.update(status="recording"))
    with pytest.raises(UserError, match=r"the recording that fills .* has not finished"):
        fusiform.open_recording(own)
    change(own, lambda attributes: attributes.update(schema_version=99, status="complete"))
    with pytest.raises(UserError, match=r"reads recordings of schema 1; .* has 99"):
        fusiform.open_recording(own)


def test_every_flipped_byte_of_a_response_is_found(own: Path) -> None:
    file = own / "head" / "response" / "c.0.0"
    content = file.read_bytes()
    for place in (0, len(content) // 3, len(content) - 5):
        flipped = bytearray(content)
        flipped[place] ^= 1
        file.write_bytes(flipped)
        recording = fusiform.open_recording(own)
        with pytest.raises(UserError, match="cannot read head/response"):
            recording.part("head")
    file.write_bytes(content[:-7])
    with pytest.raises(UserError, match="cannot read head/response"):
        fusiform.open_recording(own).part("head")
    file.unlink()
    with pytest.raises(UserError, match="is missing or empty"):
        most(fusiform.open_recording(own), "head", 3, 1)


@pytest.mark.parametrize(
    "units", [[3, 2, 5, 11, 20, 35], [1, 1, 5, 11, 20, 35], [1, 4, 5, 11, 20, 36]]
)
def test_recorded_units_outside_their_layer_are_refused(own: Path, units: list[int]) -> None:
    group = zarr.open_group(own, mode="r+", use_consolidated=False)
    group["conv/unit"][...] = np.array(units)
    with pytest.raises(UserError, match="it holds no increasing indices of its layer"):
        fusiform.open_recording(own).units("conv")


def test_a_recording_with_another_shape_type_or_codec_is_refused(own: Path) -> None:
    metadata = own / "head" / "response" / "zarr.json"
    document = json.loads(metadata.read_text())
    for changed in (
        {"shape": [10**9, 12]},
        {"data_type": "float64"},
        {"dimension_names": ["unit", "stimulus"]},
        {"codecs": [{"name": "bytes"}, {"name": "zstd"}]},
    ):
        root = json.loads((own / "zarr.json").read_text())
        root["consolidated_metadata"]["metadata"]["head/response"] = {**document, **changed}
        (own / "zarr.json").write_text(json.dumps(root))
        with pytest.raises(UserError, match="cannot read head/response"):
            fusiform.open_recording(own).part("head")


def test_dissimilarities_note_nan_responses(own: Path) -> None:
    group = zarr.open_group(own, mode="r+", use_consolidated=False)
    group["head/response"][4, 3] = np.nan
    recording = fusiform.open_recording(own)
    with pytest.raises(UserError, match="some units of head gave NaN or infinity"):
        products(recording, "head")
    (one,) = discriminate(recording, ["faces"], ["head"])
    assert np.flatnonzero(np.isnan(one.auc)).tolist() == [3]
    (tuned,) = tuning(recording, ["head"])
    assert np.isnan(tuned.mean[0, 3])
    rows = answer(recording, "auc", layers=["head"]).frame().query("quantity == 'auc'")
    assert set(rows[rows["value"].isna() & rows["fold"].isna()]["unit"]) == {3}


def test_check_reads_a_whole_recording_and_names_problems(own: Path) -> None:
    found = fusiform.check(own)
    assert (found.problems, found.arrays) == ((), 8 + 3 * 3 + 1)
    group = zarr.open_group(own, mode="r+", use_consolidated=False)
    group["head/response"][37, 0] = 1.0
    group["conv/chosen"][:, 2] = False
    group["wide/unit"][3] = 7
    file = own / "conv" / "response" / "c.0.0"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    told = "\n".join(fusiform.check(own).problems)
    for said in (
        "head/response: has responses to stimuli that were not shown",
        "conv/chosen: has units that no choice contains",
        "wide/unit: are other units than the root says",
        "conv/response: chunk 0 of file c.0.0 is not what was written",
    ):
        assert said in told
    change(own, lambda attributes: attributes.update(status="recording"))
    assert fusiform.check(own).problems == ("the recording that fills it has not finished",)


BYTES = (mutations._flip, mutations._overwrite, mutations._truncate, mutations._cut)
ODD = (None, True, -1, 0, 3, 2**31, 10**30, 1.5, "", "x" * 300, "\x1b[2J", [], {}, [[]], {"a": 1})


def mutated(path: Path, chance: random.Random) -> str:
    """Damage one file of a recording: its bytes, or a value in its metadata."""
    files = sorted(one for one in path.rglob("*") if one.is_file())
    file = chance.choice([path / "zarr.json", chance.choice(files)])
    if file.name == "zarr.json" and chance.random() < 0.7:
        document = json.loads(file.read_text())
        own = document["attributes"] if file.parent == path else document
        for _ in range(chance.choice((1, 2))):
            inside: Any = own
            while True:
                keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
                key = chance.choice(keys)
                if not isinstance(inside[key], dict | list) or not inside[key]:
                    break
                if chance.random() < 0.2:
                    break
                inside = inside[key]
            inside[key] = chance.choice(ODD)
        file.write_text(json.dumps(document))
        return f"{file.relative_to(path)}: {key}"
    damage = chance.choice(BYTES)
    file.write_bytes(damage(file.read_bytes() or b"\0", files[0].read_bytes(), chance))
    return f"{file.relative_to(path)}: {damage.__name__}"


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_to_a_recording_is_refused_or_harmless(own: Path, seed: int) -> None:
    told = mutated(own, random.Random(seed))
    asked: list[Callable[[], object]] = [
        lambda: fusiform.check(own),
        lambda: list(facts(fusiform.info(own))),
    ]
    for question in QUESTIONS:
        layers = ["*"] if question in ("units", "rdm", "layers") else ["conv", "head"]
        asked.append(
            lambda question=question, layers=layers: answer(
                fusiform.open_recording(own), question, layers=layers
            ).frame()
        )
    refusals = []
    for ask in asked:
        try:
            ask()
        except UserError as refused:
            refusals.append(str(refused))
    assert not [one for one in refusals if "\n" in one or len(one) > 1000], told


def test_the_repr_of_a_recording(own: Path) -> None:
    found = fusiform.info(own)
    assert found.complete
    assert found.recorded == {"conv": 6, "head": 12, "wide": 150}
    assert (found.stimuli, found.shuffles, found.saved) == (38, 0, ())
    assert found.files == sum(one.is_file() for one in own.rglob("*"))
    told = dict(facts(found))
    assert told["recording"] == str(own)
    assert told["recorded"] == (
        "168 units, chosen by faces, random, layers of more than 40 projected (seed 7)"
    )
    assert not {"store", "moments", "null", "criterion"} & told.keys()
    result = CliRunner().invoke(app, ["info", str(own)])
    rows = {line.split()[0]: line.split()[1:3] for line in result.stdout.splitlines()[-3:]}
    assert rows == {"conv": ["36", "6"], "head": ["12", "12"], "wide": ["300", "150"]}
    change(own, lambda attributes: attributes.update(status="recording"))
    unfinished = dict(facts(fusiform.info(own)))["status"]
    assert unfinished == "not complete: the recording that fills it has not finished"


def test_a_recording_can_be_moved(own: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(own, tmp_path / "elsewhere.zarr"))
    assert fusiform.open_recording(moved).part("head").shape == (38, 12)
    with pytest.raises(UserError, match="questions to a recording are units, best, auc"):
        answer(fusiform.open_recording(moved), "meaning")
