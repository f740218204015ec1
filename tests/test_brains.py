"""Networks beside brain regions: domains, single stimuli, ceilings and controls."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusiform
from fusiform.engine.comparing import tables
from fusiform.engine.comparing.brains import controls
from fusiform.engine.comparing.brains.compare import BrainComparison
from fusiform.engine.comparing.brains.controls import random_populations
from fusiform.engine.comparing.brains.correlations import LayerCorrelation
from fusiform.engine.comparing.brains.items import rows_of_stimuli
from fusiform.engine.comparing.brains.populations import EVERY_UNIT, Measured, populations
from fusiform.engine.comparing.brains.recorded import RECORDED
from fusiform.engine.comparing.brains.regions import Region, Regions, read_regions
from fusiform.engine.comparing.brains.standard import standard
from fusiform.engine.contrasts.language.contrast import parse_contrasts
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store
from fusiform.engine.stimulus_groups import LOCALIZERS
from fusiform.engine.store import chunking
from fusiform.engine.store.recording_reader import recorded_attribute
from fusiform.engine.store.writing.creating import RecordingBlueprint
from fusiform.engine.texts import number

from . import made, reference
from .test_comparing import filled

FLOC = LOCALIZERS["floc"].folders
DOMAINS = [" + ".join(own) for own in FLOC.values()]
FOLDERS = tuple(sorted([*itertools.chain(*FLOC.values()), "scrambled"]))
LAYERS = (
    Layer("early", "Conv2d", ("channel", "y", "x"), (10, 2, 2), "float32"),
    Layer("late", "Linear", ("unit",), (60,), "float32"),
)
T = Criterion(where="t > 4", pairwise=True)


def table(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def profile_table(path: Path, names: Sequence[str], regions: dict[str, Any], key: str = "category",
                  **columns: Any) -> Path:  # fmt: skip
    """A table of profiles ``[item]`` or ``[subject, item]``, with columns of one value each."""
    rows: list[list[Any]] = [["subject", "region", key, "response", *columns]]
    for region, values in regions.items():
        for subject, own in enumerate(np.atleast_2d(values)):
            rows += [[f"s{subject}", region, name, float(value), *columns.values()]
                     for name, value in zip(names, own, strict=True)]  # fmt: skip
    return table(path, rows)


def scanned(
    path: Path, categories: Sequence[str], prefers: Sequence[Any], **provenance: Any
) -> Any:
    """A store whose unit u prefers the categories ``prefers[u % len(prefers)]``."""
    rng = np.random.default_rng(len(categories))
    counts = np.full((len(categories), 2), 9)
    tuning = np.array([[5.0 * (name in own) for own in prefers] for name in categories])
    extra = rng.normal(0, 1, tuning.shape)
    responses = {
        layer.name: [
            [
                rng.normal(
                    (tuning + extra)[k, np.arange(layer.units) % len(prefers)],
                    1 + (layer.name == "early"),
                    (9, layer.units),
                )
                for _ in range(2)
            ]
            for k in range(len(categories))
        ]
        for layer in LAYERS
    }
    contents = made.contents(LAYERS, counts)
    contents["provenance"] = contents["provenance"] | provenance
    return filled(path, responses, **{**contents, "categories": tuple(categories)})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A network scanned with the eleven folders of fLoc; its units prefer domains, or nothing."""
    prefers = [*FLOC.values(), ()]
    return scanned(tmp_path_factory.mktemp("folders") / "s.zarr", FOLDERS, prefers)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A network scanned with folders joined into domains, as its groups record."""
    record = {"name": "floc", "folders": {name: list(own) for name, own in FLOC.items()}}
    path = tmp_path_factory.mktemp("joined") / "s.zarr"
    return scanned(path, tuple(FLOC), [(name,) for name in FLOC], groups=record)


def found_in(found: BrainComparison, population: str, layer: str = "late") -> LayerCorrelation:
    (one,) = (o for o in found.correlations if (o.population, o.layer) == (population, layer))
    return one


def measured(store: Store, contrasts: Any = None) -> dict[str, Any]:
    """Populations of the last layer by name."""
    parsed = parse_contrasts(contrasts, store.categories)
    ((selected, every),) = populations(store, T, parsed, [store.layer("late")])
    return {one.name: one for one in (*(own for own, _ in selected), every)}


# Tables


def test_a_table_of_stimuli_is_read_with_its_ceilings(tmp_path: Path) -> None:
    path = profile_table(tmp_path / "t.csv", "abc", {"FFA": [[1, 2, 3], [3, 2, 2]]}, "stimulus",
                         ceiling_low=0.5, ceiling_high=0.75)  # fmt: skip
    found = read_regions(path)
    assert found.of_stimuli
    assert not found.are_rdms
    assert found.regions[0].ceiling == (0.5, 0.75)
    path = profile_table(tmp_path / "t.csv", "abc", {"FFA": [1, 2, 3]}, ceiling=0.5)
    assert read_regions(path).regions[0].ceiling == (0.5, 0.5)
    path = profile_table(tmp_path / "t.csv", "abc", {"FFA": [1, 2, 3]})
    assert read_regions(path).regions[0].ceiling is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"ceiling": 1.2}, r"from -1 to 1, the lower one first; line 2 .* has 1\.2"),
        ({"ceiling": "high"}, "ceilings are finite numbers; line 2 .* has 'high'"),
        ({"ceiling": ""}, "ceilings are finite numbers; line 2 .* has ''"),
        ({"ceiling": "nan"}, "ceilings are finite numbers"),
        ({"ceiling_low": 0.9, "ceiling_high": 0.1}, "the lower one first; line 2 .* 0.9 and 0.1"),
        ({"ceiling_low": 0.5}, "or two, ceiling_low and ceiling_high; .* has ceiling_low: give"),
        ({"ceiling": 0.5, "ceiling_low": 0.5, "ceiling_high": 1}, "one column ceiling, or two"),
    ],
)
def test_wrong_ceilings_raise_one_line(tmp_path: Path, columns: Any, said: str) -> None:
    path = profile_table(tmp_path / "t.csv", "abc", {"FFA": [1, 2, 3]}, **columns)
    with pytest.raises(UserError, match=said) as caught:
        read_regions(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("place", "name"), [(0, "subject"), (1, "region"), (2, "category")])
def test_a_row_without_a_name_raises(tmp_path: Path, place: int, name: str) -> None:
    row = ["s1", "FFA", "c", "3"]
    row[place] = ""
    rows = [["subject", "region", "category", "response"], ["s1", "FFA", "a", 1], row]
    with pytest.raises(UserError, match=f"all names; line 3 of .* has no {name}: fill it in"):
        read_regions(table(tmp_path / "t.csv", rows))


@pytest.mark.parametrize("size", [1e-320, 1e-170, 1e160, 1e308])
def test_very_large_and_small_responses_are_correlated(size: float) -> None:
    values = np.array([[1.0, 0.25, -1.0, 0.5], [0.0, 1.0, 0.5, 0.25]])
    with np.errstate(over="raise"):
        scaled = standard(size * values, "pearson")
    few_digits = 1e-3 if size < 1e-300 else 1e-15
    assert scaled == pytest.approx(standard(values, "pearson"), abs=few_digits)


def test_a_region_with_two_ceilings_raises(tmp_path: Path) -> None:
    rows = [["region", "category", "response", "ceiling"], ["FFA", "a", 1, 0.5],
            ["FFA", "b", 2, 0.5], ["FFA", "c", 3, 0.6]]  # fmt: skip
    with pytest.raises(UserError, match=r"one ceiling; line 4 .* gives FFA another"):
        read_regions(table(tmp_path / "t.csv", rows))


def test_ceilings_of_the_table_are_shown_as_given(folders: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = {"IT": rng.normal(size=(3, len(FOLDERS)))}
    path = profile_table(tmp_path / "t.csv", FOLDERS, values, ceiling_low=0.25, ceiling_high=0.5)
    found = fusiform.compare_regions(folders, path, T, rearrangements=20)
    assert found.ceilings == "given"
    assert {(one.ceiling_low, one.ceiling_high) for one in found.correlations} == {(0.25, 0.5)}
    printed = tables.correlations(found, False)
    assert printed.rows[0][printed.head.index("ceiling given")] == "0.25 to 0.5"
    frame = found.frame()
    given_low = frame[frame["quantity"] == "given_ceiling_low"]["value"]
    assert set(given_low) == {0.25}
    assert "ceiling_low" not in set(frame["quantity"])

    path = profile_table(tmp_path / "t.csv", FOLDERS, values)
    found = fusiform.compare_regions(folders, path, T, rearrangements=20)
    expected = reference.noise_ceiling(values["IT"].tolist(), False)
    one = found.correlations[0]
    assert found.ceilings == "subjects"
    assert (one.ceiling_low, one.ceiling_high) == pytest.approx(expected)
    assert "ceiling" in tables.correlations(found, False).head


# Domains


def test_populations_are_domains_where_a_table_has_the_folders_of_a_localizer(
    folders: Store, tmp_path: Path
) -> None:
    own = [name for name in FOLDERS if name != "scrambled"]
    rng = np.random.default_rng(2)
    path = profile_table(tmp_path / "t.csv", own, {"FFA": rng.normal(size=len(own))})
    found = fusiform.compare_regions(folders, path, T, rearrangements=50)
    names = list(dict.fromkeys(one.population for one in found.correlations))
    assert names == [*DOMAINS, EVERY_UNIT]
    assert all(found_in(found, name).units > 3 for name in DOMAINS)
    (note,) = found.notes
    assert "fLoc" in note
    assert "faces = adult + child, bodies = body + limb" in note
    asked = fusiform.compare_regions(folders, path, T, contrasts=DOMAINS, rearrangements=50)
    assert asked.correlations == found.correlations
    assert not asked.notes
    one = fusiform.compare_regions(folders, path, T, contrasts="adult", rearrangements=50)
    assert {own.population for own in one.correlations} == {"adult", EVERY_UNIT}


def test_domains_without_a_category_in_the_table_are_left_out(
    folders: Store, tmp_path: Path
) -> None:
    path = profile_table(tmp_path / "t.csv", ("adult", "limb", "scrambled"), {"FFA": [3, 1, 0]})
    found = fusiform.compare_regions(folders, path, T)
    names = list(dict.fromkeys(one.population for one in found.correlations))
    assert names == ["adult + child", "body + limb", EVERY_UNIT]


def test_other_categories_keep_a_population_each(few_categories: Store, tmp_path: Path) -> None:
    path = profile_table(tmp_path / "t.csv", made.CATEGORIES, {"FFA": [3, 1, 0, 1]})
    found = fusiform.compare_regions(few_categories, path)
    assert not found.notes
    assert {one.population for one in found.correlations} == {*made.CATEGORIES, EVERY_UNIT}


@pytest.fixture(scope="module")
def few_categories(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("made") / "made.zarr"
    made.fill(path)
    return fusiform.open_store(path)


def test_a_table_of_folders_is_averaged_for_a_store_that_joined_them(
    joined: Store, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    names = [folder for own in FLOC.values() for folder in own]
    values = rng.normal(size=(2, len(names)))
    means = values.reshape(2, len(FLOC), 2).mean(axis=2)
    order = rng.permutation(len(names))
    path = profile_table(tmp_path / "t.csv", [names[i] for i in order], {"FFA": values[:, order]})
    direct = profile_table(tmp_path / "u.csv", tuple(FLOC), {"FFA": means})
    found, wanted = (fusiform.compare_regions(joined, one, T) for one in (path, direct))
    for one, its in zip(found.correlations, wanted.correlations, strict=True):
        assert (one.population, one.layer) == (its.population, its.layer)
        if one.correlation is not None:
            assert one.correlation == pytest.approx(its.correlation, abs=1e-12)
            assert one.p == its.p
    (note,) = found.notes
    assert "averaged over the folders that the store joins: faces = " in note
    assert not wanted.notes


def test_given_ceilings_do_not_hold_for_averaged_categories(joined: Store, tmp_path: Path) -> None:
    names = [folder for own in FLOC.values() for folder in own]
    values = {"FFA": np.arange(10.0)}
    path = profile_table(tmp_path / "t.csv", names, values, ceiling=0.5)
    found = fusiform.compare_regions(joined, path, T)
    assert found.ceilings == ""
    assert {one.ceiling_high for one in found.correlations} == {None}
    assert "ceilings of the table are those of its categories, and are left out" in found.notes[0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("adult", "body", "limb", "places"), "faces is adult [+] child, and .* lacks child"),
        (("adult", "child", "body", "limb"), "at least 3 categories; .* those of faces, bodies"),
        (("adult", "child", "ball"), "has 'adult', the store does not"),
    ],
)
def test_tables_of_some_folders_raise(
    joined: Store, tmp_path: Path, names: Sequence[str], said: str
) -> None:
    values = {"FFA": np.arange(len(names))}
    with pytest.raises(UserError, match=said):
        fusiform.compare_regions(joined, profile_table(tmp_path / "t.csv", names, values))


def test_folders_are_averaged_only_if_the_store_says_which_it_joined(tmp_path: Path) -> None:
    plain = scanned(tmp_path / "s.zarr", tuple(FLOC), [(name,) for name in FLOC])
    names = [folder for own in FLOC.values() for folder in own]
    path = profile_table(tmp_path / "t.csv", names, {"FFA": np.arange(10.0)})
    with pytest.raises(UserError, match="has 'adult', the store does not"):
        fusiform.compare_regions(plain, path)


def test_distances_between_folders_are_not_averaged(joined: Store, tmp_path: Path) -> None:
    rows: list[list[Any]] = [["region", "first", "second", "distance"]]
    rows += [["FFA", a, b, 1] for a, b in itertools.combinations(("adult", "child", "body"), 2)]
    with pytest.raises(UserError, match="give those of faces, bodies"):
        fusiform.compare_regions(joined, table(tmp_path / "t.csv", rows))


# Known answers, and what is outside the target


def test_a_network_equal_to_its_brain_correlates_perfectly(folders: Store, tmp_path: Path) -> None:
    own = measured(folders, DOMAINS)
    path = profile_table(tmp_path / "t.csv", FOLDERS, {n: one.profile for n, one in own.items()})
    found = fusiform.compare_regions(folders, path, T, rearrangements=200)
    for one in found.correlations:
        if one.layer == "late" and one.region == one.population:
            assert one.correlation == pytest.approx(1)
            assert one.p == pytest.approx(1 / 200)
            if one.population in DOMAINS:
                assert one.outside_target == pytest.approx(1)
            else:
                assert one.outside_target is None


def test_an_rdm_equal_to_its_brain_correlates_perfectly(folders: Store, tmp_path: Path) -> None:
    own = measured(folders, DOMAINS)["adult + child"].rdm
    rows: list[list[Any]] = [["region", "first", "second", "distance"]]
    rows += [["FFA", FOLDERS[a], FOLDERS[b], float(own[a, b])]
             for a, b in itertools.combinations(range(len(FOLDERS)), 2)]  # fmt: skip
    found = fusiform.compare_regions(
        folders, table(tmp_path / "t.csv", rows), T, control_units=True, rearrangements=50
    )
    one = found_in(found, "adult + child")
    assert (one.correlation, one.outside_target) == pytest.approx((1, 1))
    assert one.random_units is not None
    assert one.random_units < 1


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
@pytest.mark.parametrize("is_rdm", [False, True])
def test_correlations_outside_the_target_equal_plain_loops(
    joined: Store, tmp_path: Path, correlation: Any, is_rdm: bool
) -> None:
    rng = np.random.default_rng(4)
    names = tuple(FLOC)
    own = measured(joined)["bodies"]
    others = [k for k, name in enumerate(joined.categories) if name != "bodies"]
    r = reference.pearson if correlation == "pearson" else reference.spearman
    if is_rdm:
        matrix = rng.random((5, 5))
        rows: list[list[Any]] = [["region", "first", "second", "distance"]]
        rows += [["EBA", names[a], names[b], matrix[a, b]]
                 for a, b in itertools.combinations(range(5), 2)]  # fmt: skip
        path = table(tmp_path / "t.csv", rows)

        def values(order: Sequence[int]) -> list[float]:
            pairs = itertools.combinations(order, 2)
            return [matrix[min(a, b), max(a, b)] for a, b in pairs]

        network = [own.rdm[a, b] for a, b in itertools.combinations(others, 2)]
    else:
        profile = rng.normal(size=5)
        path = profile_table(tmp_path / "t.csv", names, {"EBA": profile})

        def values(order: Sequence[int]) -> list[float]:
            return [profile[a] for a in order]

        network = [own.profile[a] for a in others]
    found = fusiform.compare_regions(joined, path, T, correlation=correlation)
    one = found_in(found, "bodies")
    expected = r(values(others), network)
    assert one.outside_target == pytest.approx(expected)
    chance = [r(values(order), network) for order in itertools.permutations(others)]
    p = sum(value >= expected - 1e-9 for value in chance) / len(chance)
    assert one.outside_target_p == pytest.approx(p)
    assert one.outside_target_p_corrected is not None
    assert one.outside_target_p_corrected >= p


def test_too_few_categories_outside_the_target_give_nothing(folders: Store, tmp_path: Path) -> None:
    path = profile_table(tmp_path / "t.csv", ("adult", "child", "body", "limb"), {"A": range(4)})
    one = found_in(fusiform.compare_regions(folders, path, T), "adult + child")
    assert one.correlation is not None
    assert one.outside_target is one.outside_target_p is None


# Controls


def test_other_units_equal_plain_loops(folders: Store, tmp_path: Path) -> None:
    parsed = parse_contrasts(DOMAINS, folders.categories)
    rng = np.random.default_rng(5)
    values = rng.normal(size=(2, len(FOLDERS)))
    path = profile_table(tmp_path / "t.csv", FOLDERS, {"FFA": values})
    found = fusiform.compare_regions(folders, path, T, control_units=True, rearrangements=5)
    layer = folders.layer("late")
    ((slab, _),) = folders.slabs(layer)
    moments = folders.moments(layer, slab)
    (_, selection), *_ = fusiform_select(folders, parsed, layer)
    for index, contrast in enumerate(parsed):
        scores = []
        for fold in range(2):
            other = moments[1 - fold]
            for unit in range(layer.units):
                if not selection.selective_fold[index, fold, unit]:
                    means, m2 = other.mean[:, unit], other.m2[:, unit]
                    total = means.mean()
                    whole = (m2.sum() + (9 * (means - total) ** 2).sum()) / (9 * len(means) - 1)
                    scores.append((means - total) / np.sqrt(whole))
        profile = np.mean(scores, axis=0)
        expected = np.mean([np.corrcoef(one, profile)[0, 1] for one in values])
        assert found_in(found, contrast.text).other_units == pytest.approx(expected)


def fusiform_select(store: Store, parsed: Any, layer: Layer) -> Any:
    from fusiform.engine.contrasts.select import select

    return select(store, T, parsed, [layer])


@pytest.mark.parametrize("chunk_units", [262_144, 8])
def test_random_units_are_as_many_of_the_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_units: int
) -> None:
    monkeypatch.setattr(chunking, "_CHUNK_UNITS", chunk_units)
    store = scanned(tmp_path / "s.zarr", FOLDERS, [*FLOC.values(), ()])
    parsed = parse_contrasts(DOMAINS, store.categories)
    for layer in store.layers:
        assert (len(list(store.slabs(layer))) > 1) == (chunk_units == 8)
        ((selected, every),) = populations(store, T, parsed, [layer])
        own = [one.own for one in selected]
        # A population of all units can be drawn in one way.
        drawn = random_populations(store, layer, [*own, every], every, 30, seed=3)
        for one, its in zip(own, drawn[:-1], strict=True):
            assert {draw.sizes for draw in its} == {one.sizes}
        for draw in drawn[-1]:
            np.testing.assert_allclose(draw.profile, every.profile, atol=1e-12)
            np.testing.assert_allclose(draw.rdm, every.rdm, atol=1e-12)
        again = random_populations(store, layer, [*own, every], every, 30, seed=3)
        other = random_populations(store, layer, own, every, 30, seed=4)
        index = next(i for i, one in enumerate(own) if 0 < one.units < every.units)
        assert (again[index][0].profile == drawn[index][0].profile).all()
        assert (other[index][0].profile != drawn[index][0].profile).any()
        # On average, random units are all units.
        profiles = np.array([draw.profile for draw in drawn[index]])
        error = profiles.std(axis=0, ddof=1) / np.sqrt(len(profiles))
        assert (np.abs(profiles.mean(axis=0) - every.profile) < 5 * error).all()


def test_units_are_drawn_without_replacement_and_equally_often(tmp_path: Path) -> None:
    store = scanned(tmp_path / "s.zarr", FOLDERS, [*FLOC.values(), ()])
    layer = store.layer("late")
    ((_, every),) = populations(store, T, [], [layer])
    ((slab, _),) = store.slabs(layer)
    living = np.ones(layer.units, bool)
    scores = [Measured.of(store.moments(layer, slab), fold, living).scores for fold in range(2)]
    one = every.__class__("late", "two", (1, 1), every.profile, every.means)
    (drawn,) = random_populations(store, layer, [one], every, 4000, seed=1)
    pairs = (scores[0][:, :, None] + scores[1][:, None, :]) / 2  # [category, unit, unit]
    flat = pairs.reshape(len(FOLDERS), -1)
    counts = np.zeros((layer.units, layer.units))
    for draw in drawn:
        place = int(np.abs(flat - draw.profile[:, None]).max(axis=0).argmin())
        assert np.abs(flat[:, place] - draw.profile).max() < 1e-12
        counts[np.unravel_index(place, counts.shape)] += 1
    for axis in (0, 1):  # 4000 draws of 60 units: a mean of 67
        assert (np.abs(counts.sum(axis=axis) - 4000 / 60) < 5 * np.sqrt(4000 / 60)).all()


def test_random_units_give_the_mean_and_the_middle_of_the_draws(
    folders: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(2, len(FOLDERS)))
    path = profile_table(tmp_path / "t.csv", FOLDERS, {"FFA": values})
    found = fusiform.compare_regions(folders, path, T, control_units=True, rearrangements=5, seed=2)
    layer = folders.layer("late")
    parsed = parse_contrasts(DOMAINS, folders.categories)
    ((selected, every),) = populations(folders, T, parsed, [layer])
    own = [one.own for one in selected]
    drawn = random_populations(folders, layer, own, every, controls.DRAWS, seed=2)
    for one, draws in zip(own, drawn, strict=True):
        r = [np.mean([reference.pearson(subject, draw.profile) for subject in values])
             for draw in draws]  # fmt: skip
        its = found_in(found, one.name)
        assert its.random_units == pytest.approx(np.mean(r))
        ends = its.random_units_low, its.random_units_high
        assert ends == pytest.approx(tuple(np.quantile(r, [0.025, 0.975])))
        assert found_in(found, EVERY_UNIT).random_units is None
    frame = found.frame().set_index(["population", "layer", "quantity"])
    row = frame.loc[("adult + child", "late", "random_units")]
    its = found_in(found, "adult + child")
    assert [row["value"], row["low"], row["high"]] == [
        its.random_units, its.random_units_low, its.random_units_high,
    ]  # fmt: skip
    without = fusiform.compare_regions(folders, path, T, rearrangements=5)
    assert {one.random_units for one in without.correlations} == {None}
    assert {one.other_units for one in without.correlations} == {None}


# Single stimuli

PATHS = tuple(f"{name}/{name}-{i}.png" for name in ("faces", "bodies", "words") for i in range(8))
RECORDED_LAYERS = (
    Layer("early", "Conv2d", ("channel", "y", "x"), (5, 2, 2), "float32"),
    Layer("late", "Linear", ("unit",), (12,), "float32"),
)
CHOICES = ("faces", "random")


def responses(layer: Layer) -> np.ndarray:
    """Responses ``[stimulus, unit]``; a unit is constant, one gave NaN; the last was not shown."""
    rng = np.random.default_rng(layer.units)
    labels = np.repeat(np.arange(3), 8)
    x = rng.normal(2.0 * (np.arange(layer.units)[None, :] % 4 == labels[:, None]), 1)
    x[:, 1], x[3, 4] = 0.5, np.nan
    return np.vstack([x, np.full((1, layer.units), np.nan)]).astype(np.float32)


def chosen(layer: Layer) -> np.ndarray:
    every = np.arange(layer.units)
    return np.stack([every % 4 == 0, every % 2 == 1])


def record(path: Path, paths: Sequence[str] = PATHS) -> Any:
    """A recording of these, with two folds."""
    units = {layer.name: np.arange(layer.units) for layer in RECORDED_LAYERS}
    draft = RecordingBlueprint(
        layers=RECORDED_LAYERS,
        categories=("faces", "bodies", "words"),
        counts=np.full((3, 2), 4),
        stimuli={
            "stimulus_path": [*paths, "lost.png"],
            "stimulus_category": np.append(np.repeat(np.arange(3), 8), 0),
            "stimulus_fold": np.append(np.tile(np.repeat([0, 1], 4), 3), -1),
            "stimulus_sha256": [f"{i:064x}" for i in range(len(paths) + 1)],
            "stimulus_status": ["shown"] * len(paths) + ["is no image"],
        },
        provenance={
            "model": "made-up",
            "weights": "none",
            "batch_size": 8,
            "recorded": recorded_attribute(units),
            "choices": list(CHOICES),
            "chosen_by": {"select": ["faces"], "random": 3, "seed": 0},
        },
        units=units,
        chosen={layer.name: chosen(layer) for layer in RECORDED_LAYERS},
    ).create(path)
    for layer in RECORDED_LAYERS:
        x = responses(layer)
        rows = draft.rows_per_file(layer)
        for number_, start in enumerate(range(0, len(x), rows)):
            draft.write_rows(layer, number_, x[start : start + rows])
    draft.complete()
    return fusiform.open_recording(path)


@pytest.fixture(scope="module", params=["whole", "in pieces"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in pieces":
            patch.setattr(chunking, "_RESPONSE_CHUNK_VALUES", 35)
            patch.setattr(chunking, "_MIN_COLUMNS", 1)
        return record(tmp_path_factory.mktemp("recorded") / "r.zarr")


def units_of(layer: Layer, rows: Sequence[int], choice: str) -> list[int]:
    """Units of a choice whose responses to some stimuli are finite and vary."""
    x = responses(layer)[rows]
    own = chosen(layer)[CHOICES.index(choice)] if choice in CHOICES else np.ones(layer.units, bool)
    return [u for u in range(layer.units) if own[u] and np.isfinite(x[:, u]).all()
            and len(set(x[:, u])) > 1]  # fmt: skip


def mean_response(layer: Layer, rows: Sequence[int], choice: str) -> list[float]:
    """Mean over units of standardised responses, unit by unit."""
    total = [0.0] * len(rows)
    units = units_of(layer, rows, choice)
    for unit in units:
        x = [float(value) for value in responses(layer)[rows, unit]]
        n, mean, m2 = reference.moments(x)
        for i, value in enumerate(x):
            total[i] += (value - mean) / (m2 / (n - 1)) ** 0.5 / len(units)
    return total


def distances(layer: Layer, rows: Sequence[int], choice: str) -> np.ndarray:
    x = responses(layer)[rows].astype(float)[:, units_of(layer, rows, choice)]
    return np.array([[reference.correlation_distance(a, b) for a in x] for b in x])


ROWS = [20, 3, 7, 0, 16, 5, 9, 12, 13, 22, 1, 17]


def test_responses_to_single_stimuli_equal_plain_loops(recording: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=(2, len(ROWS)))
    path = profile_table(tmp_path / "t.csv", [PATHS[i] for i in ROWS], {"FFA": values}, "stimulus")
    found = fusiform.compare_regions(recording, path, rearrangements=40)
    assert found.compared == "responses to stimuli"
    assert len(found.correlations) == 2 * 3
    for layer in RECORDED_LAYERS:
        for choice in (*CHOICES, RECORDED):
            one = found_in(found, choice, layer.name)
            profile = mean_response(layer, ROWS, choice)
            r = np.mean([reference.pearson(own, profile) for own in values])
            assert one.correlation == pytest.approx(r, abs=1e-9)
            assert one.units == len(units_of(layer, ROWS, choice))
        outside = [i for i, row in enumerate(ROWS) if row >= 8]
        profile = mean_response(layer, ROWS, "faces")
        r = np.mean([reference.pearson(own[outside], [profile[i] for i in outside])
                     for own in values])  # fmt: skip
        assert found_in(found, "faces", layer.name).outside_target == pytest.approx(r, abs=1e-9)
        assert found_in(found, "random", layer.name).outside_target is None


@pytest.mark.parametrize("subjects", [1, 3])
def test_layers_are_chosen_on_other_stimuli_than_they_are_measured_on(
    recording: Any, tmp_path: Path, subjects: int
) -> None:
    rng = np.random.default_rng(8)
    layers = {one.name: mean_response(one, ROWS, RECORDED) for one in RECORDED_LAYERS}
    values = np.array(layers["late"]) * 0.7 + rng.normal(0, 0.2, size=(subjects, len(ROWS)))
    path = profile_table(tmp_path / "t.csv", [PATHS[i] for i in ROWS], {"FFA": values}, "stimulus")
    found = fusiform.compare_regions(recording, path, rearrangements=40)
    assert not found.notes
    (best,) = (one for one in found.best_layers if one.population == RECORDED)
    folds = [int(recording.fold_of[row]) for row in ROWS]
    r, picked = reference.held_out_best(values.tolist(), layers, folds)
    assert best.correlation == pytest.approx(r, abs=1e-9)
    assert (best.splits, best.chosen) == (2 * subjects, picked.count(best.layer))
    assert best.over == ("stimuli" if subjects == 1 else "subjects and stimuli")


def test_a_recording_equal_to_its_brain_correlates_perfectly(
    recording: Any, tmp_path: Path
) -> None:
    names = [PATHS[i] for i in ROWS]
    late = RECORDED_LAYERS[1]
    own = {choice: mean_response(late, ROWS, choice) for choice in CHOICES}
    path = profile_table(tmp_path / "t.csv", names, own, "stimulus")
    found = fusiform.compare_regions(recording, path, rearrangements=100)
    for choice in CHOICES:
        (one,) = (o for o in found.correlations
                  if (o.region, o.population, o.layer) == (choice, choice, "late"))  # fmt: skip
        assert one.correlation == pytest.approx(1)
        assert one.p == pytest.approx(0.01)
        (best,) = (o for o in found.best_layers if (o.region, o.population) == (choice, choice))
        assert (best.layer, best.correlation) == ("late", pytest.approx(1))
    assert found_in(one_region(found, "faces"), "faces").outside_target == pytest.approx(1)


def one_region(found: BrainComparison, region: str) -> Any:
    class Part:
        correlations = tuple(one for one in found.correlations if one.region == region)

    return Part


def test_dissimilarities_of_single_stimuli_equal_plain_loops(
    recording: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(9)
    late = RECORDED_LAYERS[1]
    own = distances(late, ROWS, "random")
    rows: list[list[Any]] = [["region", "first", "second", "distance"]]
    noise = rng.random(own.shape)
    for a, b in itertools.combinations(range(len(ROWS)), 2):
        pair = PATHS[ROWS[b]], PATHS[ROWS[a]]
        rows += [["same", *pair, float(own[a, b])], ["noise", *pair, noise[a, b]]]
    found = fusiform.compare_regions(recording, table(tmp_path / "t.csv", rows), rearrangements=40)
    upper = np.triu_indices(len(ROWS), 1)
    for one in found.correlations:
        layer = next(own for own in RECORDED_LAYERS if own.name == one.layer)
        if len(units_of(layer, ROWS, one.population)) < 3:
            assert one.correlation is None
            continue
        network = distances(layer, ROWS, one.population)[upper]
        region = (own if one.region == "same" else noise)[upper]
        assert one.correlation == pytest.approx(reference.spearman(region, network), abs=1e-9)
    same = one_region(found, "same")
    assert found_in(same, "random").correlation == pytest.approx(1)
    (best,) = (o for o in found.best_layers if (o.region, o.population) == ("same", "random"))
    assert (best.layer, best.over, best.correlation) == ("late", "stimuli", pytest.approx(1))


def test_too_few_stimuli_in_a_fold_are_said(recording: Any, tmp_path: Path) -> None:
    names = [PATHS[i] for i in (0, 1, 2, 8, 20)]
    path = profile_table(tmp_path / "t.csv", names, {"FFA": range(5)}, "stimulus")
    found = fusiform.compare_regions(recording, path)
    assert not found.best_layers
    assert "two folds or more, with 3 stimuli" in found.notes[0]


FORMS = {
    "paths": lambda path: path,
    "file names": lambda path: path.rpartition("/")[2],
    "names without ending": lambda path: path.rpartition("/")[2].removesuffix(".png"),
}


@pytest.mark.parametrize("form", FORMS)
def test_stimuli_are_matched_by_path_name_or_id(recording: Any, tmp_path: Path, form: str) -> None:
    values = {"FFA": np.random.default_rng(10).normal(size=len(ROWS))}
    paths, names = ([own(PATHS[i]) for i in ROWS] for own in (FORMS["paths"], FORMS[form]))
    one, other = (
        fusiform.compare_regions(
            recording, profile_table(tmp_path / "t.csv", own, values, "stimulus"), rearrangements=9
        ).correlations
        for own in (paths, names)
    )
    assert one == other


def asked(*items: str) -> Regions:
    return Regions("t.csv", False, items, (Region("FFA", ("",), np.zeros((1, len(items)))),), True)


def test_images_of_arrays_are_matched_by_their_place() -> None:
    paths = [f"nsd_stimuli.hdf5:imgBrick/{i}" for i in (46002, 48617, 44980)]
    assert rows_of_stimuli(asked("44980", "46002"), paths, "r").tolist() == [2, 0]


@given(
    st.lists(
        st.text(st.characters(categories=("L", "N"), include_characters="._- "), min_size=1),
        min_size=1, max_size=8,
    ),
    st.randoms(),
)  # fmt: skip
def test_a_path_is_always_itself(names: list[str], random: Any) -> None:
    import unicodedata

    unique = list({unicodedata.normalize("NFC", f"{i % 3}/{name}"): None
                   for i, name in enumerate(names)})  # fmt: skip
    order = random.sample(range(len(unique)), len(unique))
    found = rows_of_stimuli(asked(*(unique[i] for i in order)), unique, "r")
    assert found.tolist() == order


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (("a/x.png", "z.png"), "t.csv has 'z.png', r.zarr does not: did you mean"),
        (("x.png", "a/y.png"), "'x.png' of t.csv is a/x.png, b/x.png: give paths"),
        (("a/y.png", "y"), "has 'a/y.png' and 'y', both a/y.png: choose one"),
    ],
)
def test_stimuli_that_cannot_be_matched_raise(items: Sequence[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        rows_of_stimuli(asked(*items), ["a/x.png", "b/x.png", "a/y.png"], "r.zarr")


def test_stimuli_that_were_not_shown_raise(recording: Any, tmp_path: Path) -> None:
    names = [*PATHS[:4], "lost.png"]
    path = profile_table(tmp_path / "t.csv", names, {"FFA": range(5)}, "stimulus")
    with pytest.raises(UserError, match=r"has 'lost\.png', .* does not"):
        fusiform.compare_regions(recording, path)


def test_tables_and_networks_that_do_not_fit_raise(
    recording: Any, folders: Store, tmp_path: Path
) -> None:
    stimuli = profile_table(tmp_path / "s.csv", PATHS[:9], {"FFA": range(9)}, "stimulus")
    with pytest.raises(UserError, match=r"s\.zarr is a store: record units"):
        fusiform.compare_regions(folders, stimuli)
    with pytest.raises(UserError, match="`control_units` needs all units of a layer"):
        fusiform.compare_regions(recording, stimuli, control_units=True)
    for options in ({"contrasts": "faces"}, {"criterion": T}):
        with pytest.raises(UserError, match="select units of a store"):
            fusiform.compare_regions(recording, stimuli, **options)
    categories = profile_table(tmp_path / "c.csv", "abc", {"FFA": range(3)})
    with pytest.raises(UserError, match="compare it with a store"):
        fusiform.compare_regions(recording, categories)


# What is printed


def test_the_command_shows_controls_notes_and_the_other_network(
    folders: Store, tmp_path: Path, command: Any
) -> None:
    other = scanned(tmp_path / "other.zarr", FOLDERS, [*FLOC.values(), ()][::-1])
    values = {"FFA": np.random.default_rng(11).normal(size=len(FOLDERS))}
    path = profile_table(tmp_path / "t.csv", FOLDERS, values, ceiling=0.5)
    asked_ = [
        "--roi",
        path,
        "--where",
        "t > 4",
        "--pairwise",
        "--control-units",
        "--rearrangements",
        9,
    ]
    code, out, err = command(folders.path, other.path, *asked_, "--wide")
    assert (code, err) == (0, "")
    for said in ("domains of fLoc", "--contrast names others", "r outside", "other units",
                 "random units", "ceiling given", "0.5 to 0.5", "r of 2", "r of 1",
                 "not over regions and populations"):  # fmt: skip
        assert said in out, said
    found = [fusiform.compare_regions(one, path, T, rearrangements=9) for one in (folders, other)]
    printed = tables.correlations(found[0], True, networks=found)
    column = printed.head.index("r of 2")
    for row in printed.rows:
        assert row[column] == found_in(found[1], row[1], row[2]).correlation
    code, out, _ = command(folders.path, *asked_, "--format", "json")
    read = json.loads(out)
    quantities = {one["quantity"] for one in read}
    assert {"pearson", "outside_target", "other_units", "random_units"} <= quantities
    assert {"outside_target_p", "outside_target_p_corrected", "given_ceiling_low"} <= quantities


def test_populations_without_units_are_named(folders: Store, tmp_path: Path, command: Any) -> None:
    path = profile_table(tmp_path / "t.csv", FOLDERS, {"FFA": range(len(FOLDERS))})
    code, out, _ = command(folders.path, "--roi", path, "--where", "t > 99")
    assert code == 0
    assert f"too few selective units in every layer: {', '.join(DOMAINS)}" in out.replace(
        "\n  ", " "
    )


def test_a_recording_is_compared_by_its_path(recording: Any, tmp_path: Path, command: Any) -> None:
    values = {"FFA": np.random.default_rng(12).normal(size=len(PATHS))}
    path = profile_table(tmp_path / "t.csv", PATHS, values, "stimulus")
    code, out, err = command(recording.path, "--roi", path, "--rearrangements", 9, "--wide")
    assert (code, err) == (0, "")
    assert "responses to stimuli" in out
    assert "held-out r: of the layer that is best for all other stimuli" in out
    code, _, err = command(recording.path, "--roi", path, "--contrast", "faces")
    assert (code, err.count("\n")) == (2, 1)
    assert "--contrast" in err


@given(st.floats(-1e14, 1e14))
def test_large_numbers_are_written_in_full(value: float) -> None:
    said = number(value)
    if abs(value) >= 1e4:
        assert "e" not in said
        assert abs(float(said.replace(",", "")) - value) <= 0.5
    else:
        assert "e+" not in said


def test_numbers_have_four_digits() -> None:
    found = [number(one) for one in (175434.5, 9999.7, 12.3456, 0.00002, 1e15, float("inf"))]
    assert found == ["175,434", "10,000", "12.35", "2e-05", "1e+15", "inf"]
    assert [number(1234.5, 3), number(999.4, 3)] == ["1,234", "999"]
