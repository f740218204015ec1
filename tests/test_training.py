"""Checkpoints of a training run: positions, replication, onsets; plain loops, planted units."""

from __future__ import annotations

import gc
import json
import math
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fusiform
from fusiform import Criterion, Design, Resources
from fusiform.cli import main
from fusiform.engine.analyses.census import take_census
from fusiform.engine.analyses.resampling import generator
from fusiform.engine.comparing import draws
from fusiform.engine.comparing.differences import Comparison, compare
from fusiform.engine.comparing.draws import MEASURED, _draw
from fusiform.engine.comparing.training import in_order, onset
from fusiform.engine.contrasts.select import select
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.registry import UNTRAINED
from fusiform.engine.store.writing.creating import create_store

from . import made, reference

CONV = Layer("conv", "Conv2d", ("channel", "y", "x"), (18, 2, 2), "float32")
OUT = Layer("out", "Linear", ("unit",), (24,), "float32")
# No noise meets it, every planted unit does.
CRITERION = Criterion("rest", "t > 8")
FACES, BODIES, WORDS, SCENES = made.CATEGORIES
AT = (0.0, 1.0, 2.0, 3.0, 45.0)
# Whether a third of the maps of a layer prefers a category, at every position.
PLANTED = {
    ("conv", FACES): (0, 0, 0, 1, 1),
    ("conv", BODIES): (0, 1, 0, 1, 1),
    ("conv", SCENES): (1, 1, 1, 1, 1),
    ("out", FACES): (0, 0, 0, 0, 1),
    ("out", BODIES): (0, 1, 1, 1, 0),
}
ONSETS = {
    ("conv", FACES): (3, 3),
    ("conv", BODIES): (1, 3),
    ("conv", WORDS): (None, None),
    ("conv", SCENES): (None, None),
    ("out", FACES): (45, 45),
    ("out", BODIES): (1, None),
    ("out", WORDS): (None, None),
    ("out", SCENES): (None, None),
}


def stored(path: Path, planted: set[tuple[str, str]], seed: int, weights: str) -> Store:
    """A store in which a third of a layer's maps prefers each of the ``planted`` categories.

    ``planted`` are pairs of layer and category.
    """
    rng = np.random.default_rng(seed)
    layers = (CONV, OUT)
    contents = made.contents(layers)
    contents["provenance"] = {"model": "made-up", "weights": weights}
    draft = create_store(path, **contents)

    def drawn(layer: Layer) -> list[list[np.ndarray]]:
        channel = np.arange(layer.units) * layer.shape[0] // layer.units
        return [
            [
                rng.normal(8.0 * ((layer.name, name) in planted) * (channel % 3 == (0, 1, 1, 2)[k]),
                           1, (n, layer.units))
                for n in made.COUNTS[k]
            ]
            for k, name in enumerate(made.CATEGORIES)
        ]  # fmt: skip

    made.write(draft, layers, drawn)
    draft.complete()
    return open_store(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """An untrained network and four checkpoints, in the order of a shell's ``*.zarr``."""
    root = tmp_path_factory.mktemp("run")
    found = {}
    for stage, position in enumerate(AT):
        name = f"epoch_{position:.0f}" if stage else "untrained"
        planted = {key for key, stages in PLANTED.items() if stages[stage]}
        weights = "a file" if stage else f"{UNTRAINED}0"
        found[name] = stored(root / f"{name}.zarr", planted, stage, weights)
    return [found[name] for name in sorted(found)]


@pytest.fixture(scope="module")
def compared(run: list[Store]) -> Comparison:
    return compare(run, CRITERION, against="previous", resamples=200)


def onsets_of(found: Comparison, against: str) -> dict[tuple[str, str], tuple[Any, Any]]:
    return {(one.layer, one.contrast): (one.first, one.lasting)
            for one in found.onsets if one.reference == against}  # fmt: skip


# Positions


def named(*names: str, untrained: Sequence[str] = ()) -> list[Any]:
    weights = {**dict.fromkeys(untrained, f"{UNTRAINED}3"), **dict.fromkeys(names, "a file")}
    return [
        SimpleNamespace(path=name, provenance={"weights": weights[name]})
        for name in (*untrained, *names)
    ]


@pytest.mark.parametrize(
    ("names", "untrained", "axis", "at"),
    [
        (["epoch_132.zarr", "epoch_001.zarr", "epoch_45.zarr"], [], "epoch", (1, 45, 132)),
        (["r/ckpt-5-seed0.zarr", "r/ckpt-10-seed0.zarr"], [], "ckpt", (5, 10)),
        (["resnet18/3.zarr", "resnet18/20.zarr"], [], "checkpoint", (3, 20)),
        (["a/step=100/s.zarr", "a/step=50/s.zarr"], [], "step", (50, 100)),
        (["epoch_0.25.zarr", "epoch_1.5.zarr"], [], "epoch", (0.25, 1.5)),
        (["epoch_5.zarr", "epoch_2.zarr"], ["random7.zarr"], "epoch", (0, 2, 5)),
        (["e5.zarr", "e6.zarr"], ["e4.zarr"], "e", (4, 5, 6)),
        (["étape_5.zarr", "étape_6.zarr"], ["seed1.zarr"], "étape", (0, 5, 6)),
        # No axis: nothing differs, words differ, one trained network alone, two numbers differ.
        (["epoch_1.zarr", "epoch_1.zarr"], [], None, None),
        (["epoch_01.zarr", "epoch_1.zarr"], [], None, None),
        (["epoch_1.zarr", "step_2.zarr"], [], None, None),
        (["a.zarr", "b.zarr"], [], None, None),
        (["resnet18.zarr"], ["resnet50_random.zarr"], None, None),
        ([f"e{'9' * 400}.zarr", "e1.zarr"], [], None, None),
        (["epoch=1-step=10.zarr", "epoch=2-step=20.zarr"], [], None, None),
    ],
)
def test_positions_are_read_from_names(
    names: list[str], untrained: list[str], axis: str | None, at: tuple[float, ...] | None
) -> None:
    stores = named(*names, untrained=untrained)
    ordered, found, remarks = in_order(stores, None, reads_names=True)
    if axis is None:
        assert (ordered, found) == (stores, None)
        assert bool(remarks) == ("step=" in names[0])
        return
    assert found == (axis, at)
    assert sorted(ordered, key=lambda one: one.path) == sorted(stores, key=lambda one: one.path)
    assert bool(remarks) == (ordered != stores)


def test_names_that_differ_in_several_numbers_are_told() -> None:
    stores = named("epoch=1-step=10.zarr", "epoch=2-step=20.zarr")
    _, _, remarks = in_order(stores, None, reads_names=True)
    assert remarks == ["names of stores differ in 2 numbers: give positions (`at`)"]
    assert in_order(stores, [1, 2], reads_names=True) == (stores, ("checkpoint", (1, 2)), [])


def test_names_are_not_read_unless_asked() -> None:
    stores = named("resnet50.zarr", "resnet18.zarr")
    assert in_order(stores, None, reads_names=False) == (stores, None, [])


def test_given_positions_order_the_networks() -> None:
    stores = named("a.zarr", "b.zarr", "c.zarr")
    ordered, axis, remarks = in_order(stores, [10, -1, np.float32(0.5)], reads_names=False)
    assert [one.path for one in ordered] == ["b.zarr", "c.zarr", "a.zarr"]
    assert axis == ("checkpoint", (-1, 0.5, 10))
    assert remarks == ["networks are put in the order of checkpoint: -1, 0.5, 10"]
    stores = named("epoch_1.zarr", "epoch_2.zarr")
    assert in_order(stores, [1, 2], reads_names=False)[1] == ("epoch", (1, 2))
    assert in_order(stores, [390, 780], reads_names=False)[1] == ("checkpoint", (390, 780))


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ([1, 2], "every network; got 2 for 3"),
        ([1, 2, 3, 4], "every network; got 4 for 3"),
        (5, "every network; got 1 for 3"),
        ([1, math.nan, 2], "finite numbers; got 'nan'"),
        ([1, 2, -math.inf], "finite numbers; got '-inf'"),
        ([1, 2, 10**400], "finite numbers; got '1000"),
        ([1, "2", 3], "finite numbers; got '2'"),
        ([0, True, 3], "finite numbers; got 'True'"),
        ([1, None, 3], "finite numbers; got 'None'"),
        ([7, 1, 7], "different positions; a.zarr and c.zarr are both at checkpoint 7"),
        ([0.0, 1, -0.0], "both at checkpoint 0"),
    ],
)
def test_invalid_positions_raise(at: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        in_order(named("a.zarr", "b.zarr", "c.zarr"), at, reads_names=True)


def test_two_names_of_one_position_raise() -> None:
    with pytest.raises(UserError, match=r"u.zarr and epoch_0.zarr are both at epoch 0: leave one"):
        in_order(named("epoch_0.zarr", "epoch_1.zarr", untrained=["u.zarr"]), None, True)


# Values and replication


@pytest.fixture(scope="module")
def three_folds(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three folds of weak effects: some units are selected on one fold only."""
    rng = np.random.default_rng(4)
    counts = np.full((4, 3), 7)
    draft = create_store(tmp_path_factory.mktemp("three") / "s.zarr",
                         **made.contents((CONV, OUT), counts))  # fmt: skip
    drawn = {
        layer.name: [
            [rng.normal(rng.random(layer.units) * (k < 2), 1, (7, layer.units)) for _ in range(3)]
            for k in range(4)
        ]
        for layer in (CONV, OUT)
    }
    made.write(draft, (CONV, OUT), lambda layer: drawn[layer.name])
    draft.complete()
    return open_store(draft.path)


LOOSE = Criterion("rest", "t > 1.5")


def test_replication_is_that_of_plain_loops_and_of_the_summary(three_folds: Store) -> None:
    found = compare([three_folds, three_folds], LOOSE, measures="replicated", resamples=5)
    rows = {(row.layer, row.contrast): row.replicated
            for row in fusiform.summary(three_folds, LOOSE)}  # fmt: skip
    masks = {layer.name: one.selective_fold for layer, one in select(three_folds, LOOSE)}
    values = [one for one in found.values if one.network == 1]
    assert len({one.value for one in values}) > 4
    for one in values:
        own = masks[one.layer][made.CATEGORIES.index(one.contrast)]
        expected = reference.replicated(own.tolist())
        assert one.value == (None if math.isnan(expected) else pytest.approx(expected))
        assert one.value == pytest.approx(rows[one.layer, one.contrast])


def test_intervals_of_values_equal_those_of_loops_over_drawn_maps(three_folds: Store) -> None:
    masks = {layer.name: one for layer, one in select(three_folds, LOOSE)}
    for census in take_census(three_folds, LOOSE):
        drawn = _draw(census, ["share", "replicated"], 30, 9)
        units = np.arange(census.units).reshape(len(census.channel_units), -1)
        rng = generator(9, census)
        for resample in range(30):
            rng.random()
            own = units[rng.integers(len(units), size=len(units))].ravel()
            for index in range(len(census.contrasts)):
                one = masks[census.layer.name]
                share = sum(bool(one.selective[index, u]) for u in own) / len(own)
                again = reference.replicated(one.selective_fold[index][:, own].tolist())
                expected = {"share": share, "replicated": again}
                for name, value in expected.items():
                    found = drawn.measures[name][1][resample, index]
                    assert found == pytest.approx(value, nan_ok=True)
    found = compare([three_folds, three_folds], LOOSE, measures=["replicated"], resamples=30)
    seed = int(np.random.SeedSequence(0).generate_state(1)[0])
    for census in take_census(three_folds, LOOSE):
        draws_of = _draw(census, ["replicated"], 30, seed).measures["replicated"][1]
        for index, name in enumerate(census.contrasts):
            key = 1, census.layer.name, name
            (one,) = (one for one in found.values
                      if (one.network, one.layer, one.contrast) == key)  # fmt: skip
            known = draws_of[:, index][np.isfinite(draws_of[:, index])]
            ends = np.quantile(known, [0.025, 0.975]).tolist() if len(known) else [None, None]
            assert [one.low, one.high] == ends


def test_every_network_has_the_value_of_every_measure(compared: Comparison) -> None:
    keys = [(one.network, one.layer, one.contrast, one.measure) for one in compared.values]
    assert len(set(keys)) == len(keys) == len(AT) * 2 * 4 * len(MEASURED)
    for one in compared.values:
        if one.measure == "share":
            planted = PLANTED.get((one.layer, one.contrast), (0,) * len(AT))[one.network - 1]
            assert one.value == planted / 3
            assert one.low is not None
            assert one.high is not None
            assert (0 < one.low < 1 / 3 < one.high) if planted else (one.low, one.high) == (0, 0)
        elif one.measure == "replicated":
            assert one.value in (None, 1)
    shares = {(one.network, one.layer, one.contrast): one.value
              for one in compared.values if one.measure == "share"}  # fmt: skip
    for row in compared.differences:
        if row.measure == "share":
            assert row.value == shares[row.first, row.layer, row.contrast]
            assert row.other_value == shares[row.second, row.other_layer, row.contrast]


def test_layers_paired_by_depth_have_one_value_each(run: list[Store], tmp_path: Path) -> None:
    first = run[0]
    more = [replace(CONV, name=name) for name in "abc"]
    draft = create_store(tmp_path / "more.zarr", **made.contents(more))
    groups = [[np.random.default_rng(k).normal(size=(n, CONV.units)) for n in made.COUNTS[k]]
              for k in range(4)]  # fmt: skip
    made.write(draft, more, lambda _: groups)
    draft.complete()
    for stores in ([draft.path, first], [first, draft.path]):
        found = compare(stores, pairing="depth", measures="share", resamples=5)
        keys = [(one.network, one.layer, one.contrast) for one in found.values]
        assert len(keys) == len(set(keys))
        assert {one.layer for one in found.differences} == (
            {"a", "b", "c"} if stores[1] is first else {"conv", "out"}
        )


def test_the_family_of_the_model_gives_the_shares_of_the_summary(run: list[Store]) -> None:
    criterion = Criterion("rest", "q <= 0.001", family="model")
    found = compare(run, criterion, measures="share", against="previous", resamples=5)
    for number, path in enumerate(found.stores, 1):
        shares = {(row.layer, row.contrast): row.share for row in fusiform.summary(path, criterion)}
        assert shares == {(one.layer, one.contrast): one.value
                          for one in found.values if one.network == number}  # fmt: skip


# Onsets


def test_checkpoints_are_put_in_order(run: list[Store], compared: Comparison) -> None:
    assert [store.path.stem for store in run][2:] == ["epoch_3", "epoch_45", "untrained"]
    assert (compared.axis, compared.at) == ("epoch", AT)
    assert Path(compared.stores[0]).name == "untrained.zarr"
    assert compared.warnings == ("networks are put in the order of epoch: 0, 1, 2, 3, 45",)
    in_their_order = [run[-1], *run[:-1]]
    again = compare(in_their_order, CRITERION, against="previous", at=AT, resamples=200)
    assert replace(again, warnings=compared.warnings) == compared


def test_planted_units_have_their_onset(compared: Comparison) -> None:
    assert onsets_of(compared, "untrained") == ONSETS
    assert onsets_of(compared, "chance") == {}


def test_onsets_equal_loops_over_differences_from_the_untrained_network(
    run: list[Store], compared: Comparison
) -> None:
    from_first = compare([run[-1], *run[:-1]], CRITERION, at=AT, measures="share", resamples=200)
    assert onsets_of(from_first, "untrained") == ONSETS
    for (layer, contrast), found in onsets_of(compared, "untrained").items():
        rows = [one for one in from_first.differences
                if (one.layer, one.contrast) == (layer, contrast)]  # fmt: skip
        at = [AT[one.second - 1] for one in rows]
        assert found == reference.onset(at, [(one.low or 0) > 0 for one in rows])


def test_identical_networks_have_no_onset(run: list[Store], tmp_path: Path) -> None:
    path = run[0].path
    copies = [tmp_path / f"epoch_{number}.zarr" for number in range(3)]
    for copy in copies:
        copy.symlink_to(path)
    found = compare(copies, CRITERION, against="previous", measures="share", resamples=100)
    assert found.axis == "epoch"
    assert {one.difference for one in found.differences} == {0}
    assert {(one.reference, one.first, one.lasting) for one in found.onsets} == {
        ("untrained", None, None)
    }


def test_without_an_untrained_network_there_is_no_onset(run: list[Store]) -> None:
    trained = run[:-1]
    found = compare(trained, CRITERION, against="previous", resamples=20)
    assert (found.axis, found.at, found.onsets) == ("epoch", AT[1:], ())
    # A network at position 0 counts as untrained.
    found = compare(trained, CRITERION, at=[0, 1, 2, 3], measures="share", resamples=20)
    assert {one.reference for one in found.onsets} == {"untrained"}
    assert compare(trained, CRITERION, at=[0, 1, 2, 3], measures="csi", resamples=20).onsets == ()


def test_networks_without_positions_are_as_before(run: list[Store]) -> None:
    found = compare(run, CRITERION, resamples=20)
    assert (found.axis, found.at, found.onsets, found.warnings) == (None, None, (), ())
    assert found.stores == tuple(str(store.path) for store in run)


def test_a_layer_with_one_map_has_no_interval_and_no_onset(tmp_path: Path) -> None:
    layers = [replace(CONV, shape=(1, 4, 4)), OUT]
    stores = []
    for seed in range(2):
        draft = create_store(tmp_path / f"epoch_{seed}.zarr", **made.contents(layers))
        rng = np.random.default_rng(seed)
        made.write(draft, layers, lambda layer, rng=rng: [
            [rng.normal(size=(n, layer.units)) for n in own] for own in made.COUNTS])  # fmt: skip
        draft.complete()
        stores.append(draft.path)
    found = compare(stores, CRITERION, against="previous", measures="share", resamples=20)
    assert {one.layer for one in found.onsets} == {"out"}
    assert {(one.low, one.high) for one in found.values if one.layer == "conv"} == {(None, None)}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """Scans with shuffled labels: filters respond to brightness from the second checkpoint on."""
    root = tmp_path_factory.mktemp("scanned")
    rng = torch.Generator().manual_seed(0)
    images = {name: torch.randn(16, 3, 8, 8, generator=rng) + (name == "bright")
              for name in ("bright", "dim", "grey")}  # fmt: skip
    stores = []
    for step, bias in enumerate((0.0, 0.5, 0.5)):
        net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
        kernels = torch.randn(16, 3, 3, 3, generator=rng)
        kernels -= kernels.mean(dim=(1, 2, 3), keepdim=True)
        net[0].weight.data = kernels * 0.1 + bias
        stores.append(
            fusiform.scan(
                net, images, root / f"step_{step}.zarr",
                design=Design(layers=["0"], null=20), resources=Resources(device="cpu"),
            )
        )  # fmt: skip
    return stores


def test_onsets_above_chance_equal_loops_over_summaries(scanned: list[Store]) -> None:
    criterion = Criterion("rest", "t > 2")
    found = compare(scanned, criterion, against="previous", resamples=50)
    assert (found.axis, found.at, found.warnings) == ("step", (0, 1, 2), ())
    assert {one.reference for one in found.onsets} == {"untrained", "chance"}
    rows = [fusiform.summary(store, criterion) for store in scanned]
    for index, one in enumerate(rows[0]):
        above = [own[index].share > own[index].chance_95 for own in rows]
        onsets = onsets_of(found, "chance")
        assert onsets[one.layer, one.contrast] == reference.onset((0, 1, 2), above)
    for against in ("untrained", "chance"):
        assert onsets_of(found, against)["0", "bright"] == (1, 1)


def test_scans_without_shuffles_among_others_are_told(scanned: list[Store], tmp_path: Path) -> None:
    images = {name: torch.randn(16, 3, 8, 8) for name in ("bright", "dim", "grey")}
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    plain = fusiform.scan(net, images, tmp_path / "plain.zarr", design=Design(layers=["0"]),
                          resources=Resources(device="cpu"))  # fmt: skip
    found = compare([scanned[0], plain], at=[0, 1], allow="stimuli", resamples=20)
    assert {one.reference for one in found.onsets} == {"untrained"}
    assert any(f"scanned without `null`: {plain.path}" in text for text in found.warnings)


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_an_onset_is_the_first_position_above_and_the_first_of_the_last_run(
    above: list[bool],
) -> None:
    at = [float(2**i) for i in range(len(above))]
    assert onset(dict(zip(at, above, strict=True))) == reference.onset(at, above)


def test_few_draws_are_in_memory_whatever_the_number_of_networks(
    run: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = []

    def drawn(*arguments: Any) -> draws.Drawn:
        gc.collect()
        most.append(sum(one() is not None for one in alive))
        found = _draw(*arguments)
        alive.extend(weakref.ref(own) for _, own in found.measures.values())
        return found

    monkeypatch.setattr(draws, "_draw", drawn)
    for against in ("first", "previous"):
        compare(run, CRITERION, measures=["share", "csi"], at=[1, 2, 3, 45, 0], against=against)
    # While one is drawn: the network it is compared with, and shares of the untrained network.
    assert len(most) == 2 * 2 * len(AT)
    assert max(most) == 3


# Tables


def test_long_form_has_positions_values_and_onsets(compared: Comparison) -> None:
    frame = compared.frame()
    values = frame[frame["quantity"] == "share"]
    assert len(values) == len(AT) * 2 * 4
    assert set(values["at"]) == set(AT)
    assert values["low"].notna().all()
    differences = frame[frame["quantity"] == "share_difference"]
    of_store = dict(zip(compared.stores, compared.at or (), strict=True))
    assert (differences["at"] == differences["store"].map(of_store)).all()
    assert (differences["other_store"].map(of_store) < differences["at"]).all()
    for name, place in (("first", 0), ("lasting", 1)):
        own = frame[frame["quantity"] == f"{name}_above_untrained"]
        found = {(row.layer, row.contrast): None if math.isnan(row.value) else row.value
                 for row in own.itertuples()}  # fmt: skip
        assert found == {key: own[place] for key, own in ONSETS.items()}
    assert len(frame) == len(compared.values) + len(compared.differences) + 2 * len(ONSETS)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def asked(*arguments: Any) -> tuple[int, str, str]:
        given = ["--test", "rest", "--where", "t > 8", "--resamples", "50", "--measures", "share"]
        words = ["fusiform", "compare", *map(str, arguments), *given]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            main()
        return (int(left.value.code or 0), *capsys.readouterr())

    return asked


def test_the_command_heads_columns_with_positions(run: list[Store], command: Any) -> None:
    paths = [store.path for store in run]
    code, out, err = command(*paths, "--against", "previous", "--wide")
    assert (code, err) == (0, "")
    assert "warning: networks are put in the order of epoch: 0, 1, 2, 3, 45\n" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["layer", "contrast", "epoch", "0", "1", "2", "3", "45"] in lines
    assert ["conv", BODIES, "0", "33.33*", "0*", "33.33*", "33.33"] in lines
    assert ["conv", BODIES, "1", "3"] in lines
    assert ["out", BODIES, "1", "-"] in lines
    assert "exploratory" in out
    assert ["layer", "contrast", "untrained", "untrained", "for", "good"] in lines
    assert "untrained: the interval" in out
    assert "chance" not in out
    assert out.splitlines()[0].startswith("epoch 0  ")


def test_the_command_takes_positions(run: list[Store], command: Any, tmp_path: Path) -> None:
    code, out, err = command(run[-1].path, run[3].path, "--at=-0.5,1000", "--wide")
    assert (code, err) == (0, "")
    head = "layer contrast checkpoint -0.5 1,000 1,000 - -0.5 95 %"
    assert head.split() in [line.split() for line in out.splitlines()]
    code, _, _ = command(run[-1].path, run[3].path, "--at", 0, "--at", 1,
                         "-o", tmp_path / "c.json")  # fmt: skip
    rows = json.loads((tmp_path / "c.json").read_text())
    assert {row["at"] for row in rows if row["quantity"] == "share"} == {0, 1}
    code, _, _ = command(run[0].path, run[1].path, "-o", tmp_path / "d.json")
    assert {row["at"] for row in json.loads((tmp_path / "d.json").read_text())} == {None}


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("1", "error: --at has the position of every network; got 1 for 2"),
        ("1,x", "error: numbers joined by commas are needed; got '1,x'"),
        ("1,", "error: numbers joined by commas are needed"),
        ("nan,1", "error: positions (--at) are finite numbers; got 'nan'"),
        ("1e999,1", "error: positions (--at) are finite numbers; got 'inf'"),
        ("2,2", "error: checkpoints have different positions"),
    ],
)
def test_the_command_refuses_wrong_positions(
    run: list[Store], command: Any, at: str, said: str
) -> None:
    code, out, err = command(run[0].path, run[1].path, "--at", at)
    assert (code, out) == (2, "")
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_positions_are_for_networks(run: list[Store], command: Any) -> None:
    code, _, err = command(run[0].path, "--at", "1", "--roi", "regions.csv")
    assert code == 2
    assert "compares networks; got it with --roi" in err
