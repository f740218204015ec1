"""Lesions with controls: masks and effects against plain loops, planted units, and mistakes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform import Criterion, Design, LesionRequest, Listener, Network, UserError
from fusiform.cli import app
from fusiform.engine.contrasts.controls import Candidates, lesions_of, matched_numbers
from fusiform.engine.layer import Layer
from fusiform.engine.lesions import measure
from fusiform.engine.lesions.effects import Contrasted, Outcomes, effects_of
from fusiform.engine.lesions.readouts import readout_of
from fusiform.engine.lesions.shortcut import Shortcut
from fusiform.engine.store.store_reader import StoreReader

from . import made, reference

PLAIN = {"resize": 8, "crop": 8, "mean": (0, 0, 0), "std": (1, 1, 1)}
CATEGORIES = ("red", "green", "blue")
UPPER = Criterion("rest", "t > 5")
RED = LesionRequest("red", "colour", UPPER, draws=3, seed=4)
EACH = 12


class Planted(nn.Module):
    """Four units for each colour, which drive a class of their own, and twelve that drive none."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Linear(3, 24, bias=False)
        self.head = nn.Linear(24, 3, bias=False)
        gains = torch.tensor([1.0, 1.5, 2.0, 2.5])
        own, drives = torch.zeros(24, 3), torch.zeros(3, 24)
        for colour in range(3):
            own[4 * colour : 4 * colour + 4, colour] = gains
            drives[colour, 4 * colour : 4 * colour + 4] = 0.5
        own[12:] = torch.linspace(0.2, 1, 12)[:, None] * torch.ones(3)
        self.colour.weight, self.head.weight = nn.Parameter(own), nn.Parameter(drives)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.colour(images.mean(dim=(2, 3))))


def pictures(seed: int = 0, each: int = EACH) -> dict[str, np.ndarray]:
    """Images ``[n, 8, 8, 3]`` in which the colour of the category is brighter."""
    rng = np.random.default_rng(seed)
    found = {}
    for place, name in enumerate(CATEGORIES):
        pixels = rng.integers(20, 90, (each, 8, 8, 3))
        pixels[..., place] += rng.integers(60, 150, (each, 1, 1))
        found[name] = pixels.astype(np.uint8)
    return found


@pytest.fixture(scope="module")
def planted() -> fusiform.Store:
    design = Design("colour", folds=2, batch_size=8)
    return fusiform.scan(Network(Planted(), preprocessing=PLAIN), pictures(), design=design)


def measured(store: Any, request: LesionRequest = RED, **options: Any) -> fusiform.LesionEffects:
    """Effects of a lesion of the planted network."""
    network = options.pop("network", Planted())
    stimuli = options.pop("stimuli", pictures())
    return fusiform.measure_lesions(store, request, network, stimuli, **options)


def rows_of(found: fusiform.LesionEffects) -> dict[tuple[str, str, str], Any]:
    return {(row.quantity, row.lesion, row.category): row for row in found.effects}


# Masks


counts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(counts)
def test_numbers_of_matched_controls_equal_a_plain_loop(pairs: list[tuple[int, int]]) -> None:
    selective, available = (np.array(one) for one in zip(*pairs, strict=True))
    numbers = matched_numbers(selective, available)
    assert numbers.tolist() == reference.matched_numbers(selective.tolist(), available.tolist())
    assert numbers.sum() == min(selective.sum(), available.sum())


def candidates_of(seed: int, units: int, share: float) -> Candidates:
    """Random units, of which some are dead and some selective: those that respond strongly."""
    rng = np.random.default_rng(seed)
    mean, living = np.round(rng.gamma(1, 1, units), 1), rng.random(units) > 0.1
    strong = rng.random(units) < share * np.minimum(mean, 1.5)
    selective = living & strong
    selective[np.flatnonzero(living)[0]] = True
    layer = Layer("a", "Linear", ("unit",), (units,), "float32")
    t = np.where(rng.random(units) < 0.05, np.nan, rng.normal(0, 3, units))
    return Candidates(layer, None, selective, living, mean, t)


@given(st.integers(0, 999), st.integers(30, 400), st.floats(0.01, 0.3))
def test_controls_are_as_many_living_units_that_are_not_selective(
    seed: int, units: int, share: float
) -> None:
    own = candidates_of(seed, units, share)
    number = int(own.selective.sum())
    found = lesions_of([own], LesionRequest("x", "a", draws=3, seed=seed))
    assert [len(found[name]) for name in ("selective", "matched", "random", "least")] == [
        1,
        3,
        3,
        1,
    ]
    assert np.array_equal(found["selective"][0]["a"], own.selective)
    for name in ("matched", "random", "least"):
        for masks in found[name]:
            assert masks["a"].sum() == number
            assert not (masks["a"] & (own.selective | ~own.living)).any()
    living = np.flatnonzero(own.living)
    bins = max(1, min(100, len(living) // 20))
    bin_of = dict(zip(living, reference.rank_bins(own.mean[living].tolist(), bins), strict=True))
    selective, others, drawn = ([0] * bins for _ in range(3))
    for unit in living:
        for counted, is_in in ((selective, own.selective), (others, ~own.selective),
                               (drawn, found["matched"][0]["a"])):  # fmt: skip
            counted[bin_of[unit]] += int(is_in[unit])
    assert drawn == reference.matched_numbers(selective, others)
    pool = [unit for unit in living if not own.selective[unit]]
    ranked = sorted(pool, key=lambda unit: (math.isnan(own.t[unit]), abs(own.t[unit])))
    assert set(np.flatnonzero(found["least"][0]["a"])) == set(ranked[:number])


def test_draws_differ_and_depend_on_seed_layer_and_fold_alone() -> None:
    own, asked = candidates_of(1, 300, 0.1), LesionRequest("x", "a", draws=2)
    first, second = (masks["a"] for masks in lesions_of([own], asked)["random"])
    assert not np.array_equal(first, second)
    assert np.array_equal(first, lesions_of([own], replace(asked, draws=1))["random"][0]["a"])
    others = (
        (own, replace(asked, seed=1)),
        (replace(own, fold=0), asked),
        (replace(own, layer=replace(own.layer, name="b")), asked),
    )
    for one, request in others:
        (masks, *_) = lesions_of([one], request)["random"]
        assert not np.array_equal(first, next(iter(masks.values())))


@pytest.mark.smoke
def test_a_store_gives_masks_with_controls(tmp_path: Path) -> None:
    made.fill(tmp_path / "s.zarr")
    store = fusiform.open_store(tmp_path / "s.zarr")
    criterion = Criterion("rest", "top 4")
    found = store.lesions("faces", ["layer1.0", "head"], criterion, draws=2)
    assert {name: len(draws) for name, draws in found.items()} == {
        "selective": 1, "matched": 2, "random": 2, "least": 1,
    }  # fmt: skip
    for masks in (masks for draws in found.values() for masks in draws):
        assert {name: mask.shape for name, mask in masks.items()} == {
            "layer1.0": (5, 3, 2), "head": (11,),
        }  # fmt: skip
    for name in ("layer1.0", "head"):
        own = store.mask("faces", name, criterion)
        assert np.array_equal(found["selective"][0][name], own)
        assert all(masks[name].sum() == own.sum() for draws in found.values() for masks in draws)
    folds = store.select("faces", criterion, "layer1.0")["layer1.0"]["selective_fold"].values[0]
    for fold, own in enumerate(folds):
        (masks,) = store.lesions("faces", "layer1.0", criterion, controls=(), fold=fold)[
            "selective"
        ]
        assert np.array_equal(masks["layer1.0"], own)
    assert not np.array_equal(*folds)


def test_the_mean_response_and_t_are_those_of_the_fold(tmp_path: Path) -> None:
    from fusiform.engine.contrasts.controls import candidates

    def samples(layer: Layer) -> list[list[np.ndarray]]:
        drawn = made.samples(layer)
        for groups in drawn:
            groups[1][:, 3] = 0.5  # constant on a fold
        return drawn

    made.fill(tmp_path / "s.zarr", drawn=samples)
    layer, store = made.LAYERS[0], StoreReader.of(tmp_path / "s.zarr")
    drawn = samples(layer)
    for fold, (own,) in zip(
        (None, 1), candidates(store, LesionRequest("faces", layer.name, UPPER), [None, 1]),
        strict=True,
    ):  # fmt: skip
        groups = [np.concatenate(part if fold is None else [part[fold]]) for part in drawn]
        for unit in range(1, layer.units):
            values = [group[:, unit].tolist() for group in groups]
            rest = [value for group in values[1:] for value in group]
            assert own.mean[unit] == pytest.approx(np.mean(values[0] + rest))
            if (fold, unit) != (1, 3):
                assert own.t[unit] == pytest.approx(reference.welch(values[0], rest)[0])
        assert np.flatnonzero(~own.living).tolist() == ([0] if fold is None else [0, 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contrast": "fases"}, "did you mean faces"),
        ({"contrast": "faces, bodies"}, "units of one contrast; got faces, bodies"),
        ({"layers": "layer9"}, "layer9"),
        ({"controls": "mached"}, "no control 'mached': did you mean matched"),
        ({"criterion": Criterion("rest", "t > 99")}, "none of head is selective for faces"),
        ({"criterion": Criterion("rest", "t > -99")}, r"head has \d+ units .* and 0 others"),
        ({"draws": 0}, "drawn at least once; got 0"),
        ({"draws": 1.5}, "whole number"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"fold": 2}, "folds 0 to 1; got 2"),
    ],
)
def test_mistakes_in_a_request_are_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    made.fill(tmp_path / "s.zarr")
    store = fusiform.open_store(tmp_path / "s.zarr")
    asked = {
        "contrast": "faces",
        "layers": "head",
        "criterion": Criterion("rest", "t > 2"),
    } | change
    with pytest.raises(UserError, match=message):
        store.lesions(**asked)


# Effects


@settings(max_examples=20)
@given(st.integers(0, 9999))
def test_effects_and_intervals_equal_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3, dtype=np.int32), (5, 7, 6))
    draws, quantities = {"selective": 1, "matched": 3}, ("a", "b")
    outcomes = Outcomes(labels, 3, draws, 2)
    intact = rng.normal(size=(18, 2))
    values = {name: rng.normal(size=(number, 18, 2)) for name, number in draws.items()}
    left_out = 17  # was not measured
    for part in np.array_split(rng.permutation(left_out), 4):
        outcomes.add_intact(part, intact[part])
        for name, own in values.items():
            for draw, one in enumerate(own):
                outcomes.add(name, draw, part, one[part] - intact[part])
    weights = {0: 1.0, 1: -0.5, 2: -0.5}
    rows = ["x", "y", "z"], Contrasted("x - others", weights)
    effects, differences = effects_of(outcomes, quantities, *rows, 50, seed)
    found = {(row.quantity, row.lesion, row.category): row for row in effects}
    beyond = {(row.quantity, row.category): row for row in differences}
    assert len(found) == 2 * 2 * 4
    assert len(beyond) == 2 * 4
    for place, quantity in enumerate(quantities):
        drawn = {"selective": [0.0] * 50, "matched": [0.0] * 50}
        total = {"selective": 0.0, "matched": 0.0}
        for category, name in enumerate("xyz"):
            own = [i for i in range(18) if labels[i] == category and i != left_out]
            stream = np.random.default_rng([seed, *name.encode()])
            picks = []
            for _ in range(50):
                stream.random()
                picks.append(stream.integers(len(own), size=len(own)).tolist())
            base = [intact[i, place] for i in own]
            ends = {}
            for lesion, one in values.items():
                by_draw = [[one[d, i, place] - intact[i, place] for i in own]
                           for d in range(len(one))]  # fmt: skip
                changes = [math.fsum(part) / len(one) for part in zip(*by_draw, strict=True)]
                ends[lesion] = reference.bootstrap(changes, picks)
                row = found[quantity, lesion, name]
                assert row.stimuli == len(own)
                assert row.intact == pytest.approx(np.mean(base))
                assert row.change == pytest.approx(np.mean(changes))
                assert row.lesioned == pytest.approx(row.intact + row.change)
                assert (row.low, row.high) == pytest.approx(reference.middle_95(ends[lesion]))
                if lesion == "matched":
                    means = [math.fsum(part) / len(own) for part in by_draw]
                    assert (row.draw_low, row.draw_high) == pytest.approx((min(means), max(means)))
                else:
                    assert row.draw_low is None
                total[lesion] += weights[category] * row.change
                pairs = zip(drawn[lesion], ends[lesion], strict=True)
                drawn[lesion] = [value + weights[category] * one for value, one in pairs]
            _check_difference(beyond[quantity, name], *ends.values())
        row = found[quantity, "matched", "x - others"]
        assert row.change == pytest.approx(total["matched"])
        assert (row.low, row.high) == pytest.approx(reference.middle_95(drawn["matched"]))
        _check_difference(beyond[quantity, "x - others"], *drawn.values())
        difference = total["selective"] - total["matched"]
        assert beyond[quantity, "x - others"].difference == pytest.approx(difference)


def _check_difference(row: Any, selective: list[float], control: list[float]) -> None:
    apart = [one - other for one, other in zip(selective, control, strict=True)]
    assert (row.low, row.high) == pytest.approx(reference.middle_95(apart))


def test_the_lesion_of_planted_units_has_the_effect_computed_by_hand(
    planted: fusiform.Store,
) -> None:
    found = measured(planted)
    assert found.selected_on == "other folds"
    assert found.contrast_row == "red - others"
    rows = rows_of(found)
    assert found.lesions == ("selective", "matched", "random", "least")
    assert {(one.units, one.living) for one in found.silenced} == {(4, 24)}
    for name, images in pictures().items():
        before, after, apart, same = [], [], [], []
        for image in images:
            # The units of a colour weigh 1, 1.5, 2 and 2.5, and each drives its class by 0.5.
            scores = [3.5 * image[..., colour].mean() / 255 for colour in range(3)]
            p, q = reference.softmax(scores), reference.softmax([0, *scores[1:]])
            chosen = p.index(max(p))
            before.append(p[chosen])
            after.append(q[chosen])
            same.append(q.index(max(q)) == chosen)
            apart.append(sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2)
        own = rows["probability", "selective", name]
        assert own.intact == pytest.approx(np.mean(before), rel=1e-5)
        assert own.lesioned == pytest.approx(np.mean(after), rel=1e-5)
        assert own.low <= own.change <= own.high
        assert rows["same_choice", "selective", name].lesioned == np.mean(same)
        assert rows["same_choice", "selective", name].intact == 1
        own = rows["total_variation", "selective", name]
        assert own.change == pytest.approx(np.mean(apart), rel=1e-5)
        assert own.intact == 0
    assert rows["probability", "selective", "red"].change < -0.1
    for row in found.differences:
        if row.quantity == "probability" and row.category == "red - others":
            assert row.high < 0
    # Units that drive no class change nothing, to the bit.
    least = rows["probability", "least", "red"]
    assert (least.change, least.low, least.high) == (0, 0, 0)


class Small(nn.Module):
    """A convolution, a pool and scores; random."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(24, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(torch.relu(self.conv(images))).flatten(1))


@pytest.mark.parametrize("units", ["all", "channel"])
def test_units_of_a_fold_are_silenced_for_the_stimuli_of_the_others(units: str) -> None:
    images = pictures(each=9)
    design = Design("conv", units, folds=3, batch_size=4)
    store = fusiform.scan(Network(Small(), preprocessing=PLAIN), images, design=design)
    criterion = Criterion("rest", "top 20%")
    asked = LesionRequest("red > blue", "conv", criterion, draws=2, seed=3)
    found = measured(store, asked, network=Small(), stimuli=images, resamples=10)
    net = Small().eval()
    labels = store.stimulus_column("stimulus_category")
    fold_of, paths = (store.stimulus_column(f"stimulus_{name}") for name in ("fold", "path"))
    changes: dict[tuple[str, int], list[float]] = {}
    for label, own_fold, path in zip(labels, fold_of, paths, strict=True):
        category, number = path.split("/")
        pixels = images[category][int(number)].transpose(2, 0, 1)[None].astype(np.float32) / 255
        with torch.no_grad():
            p = torch.softmax(net(torch.from_numpy(pixels)).double(), 1)[0]
        for fold in {0, 1, 2} - {int(own_fold)}:
            masks = store.lesions("red > blue", "conv", criterion, draws=2, seed=3, fold=fold)
            for name, draws in masks.items():
                for one in draws:
                    with torch.no_grad(), fusiform.lesion(net, one, units=units):
                        q = torch.softmax(net(torch.from_numpy(pixels)).double(), 1)[0]
                    change = float(q[p.argmax()] - p.max())
                    changes.setdefault((name, int(label)), []).append(change)
    rows = rows_of(found)
    assert found.contrast_row == "red > blue"
    for (name, label), own in changes.items():
        row = rows["probability", name, store.categories[label]]
        assert row.change == pytest.approx(np.mean(own), abs=1e-6)
    contrast = rows["probability", "matched", "red > blue"]
    of = {name: rows["probability", "matched", name].change for name in CATEGORIES}
    assert contrast.change == pytest.approx(of["red"] - of["blue"])


def test_an_empty_lesion_changes_nothing_and_batches_do_not_matter(
    planted: fusiform.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, small = measured(planted), measured(planted, batch_size=3)
    for row, other in zip(usual.effects, small.effects, strict=True):
        assert row.change == pytest.approx(other.change, abs=1e-6)

    def emptied(model: nn.Module, masks: Any, **options: Any) -> Any:
        return fusiform.lesion(
            model, {name: mask & False for name, mask in masks.items()}, **options
        )

    monkeypatch.setattr(measure, "lesion", emptied)
    for row in measured(planted).effects:
        assert (row.change, row.low, row.high) == (0, 0, 0)


def test_other_stimuli_see_the_units_of_all_stimuli(planted: fusiform.Store) -> None:
    found = measured(planted, stimuli=pictures(seed=1, each=5))
    assert found.selected_on == "other stimuli"
    assert found.stimuli == 15
    two = {name: images for name, images in pictures(seed=1, each=4).items() if name != "red"}
    found = measured(planted, stimuli=two)
    assert found.contrast_row == ""
    assert {row.category for row in found.effects} == {"green", "blue"}


def test_one_fold_is_said_to_measure_what_it_selected() -> None:
    design, said = Design("colour", folds=1), list[str]()
    network = Network(Planted(), preprocessing=PLAIN)
    store = fusiform.scan(network, pictures(), design=design)
    found = measured(store, progress=Listener(said.append))
    assert found.selected_on == "the same stimuli"
    assert any("also measure the lesion" in line for line in said)
    assert any(line.startswith("silencing 4 units of colour, selective for red") for line in said)


def test_stimuli_in_several_folds_are_left_out(planted: fusiform.Store) -> None:
    images = pictures()
    images["red"][1] = images["red"][0]  # folds take turns
    network, said = Network(Planted(), preprocessing=PLAIN), list[str]()
    store = fusiform.scan(network, images, design=Design("colour", folds=2))
    found = measured(store, stimuli=images, progress=Listener(said.append))
    assert found.stimuli == 3 * EACH - 2
    assert any("2 stimuli that the scan had in several folds" in line for line in said)


def test_tables_frames_and_html_hold_every_value(planted: fusiform.Store) -> None:
    found = measured(planted)
    frame = found.frame()
    own = frame[(frame.quantity == "probability_change") & (frame.category == "red")]
    rows = rows_of(found)
    assert own.lesion.tolist() == ["selective", "matched", "random", "least"]
    for line in own.itertuples():
        row = rows["probability", line.lesion, "red"]
        assert (line.value, line.low, line.high) == (row.change, row.low, row.high)
    drawn = frame[frame.quantity == "probability_change_of_draws"]
    assert set(drawn.lesion) == {"matched", "random"}
    row = rows["probability", "matched", "red"]
    own = drawn[(drawn.lesion == "matched") & (drawn.category == "red")].iloc[0]
    assert (own.low, own.high) == (row.draw_low, row.draw_high)
    beyond = frame[frame.quantity == "probability_difference"]
    assert len(beyond) == 3 * 4
    assert frame[frame.quantity == "units"].value.tolist() == [4] * 4
    assert "LesionEffects" in found._repr_html_()
    assert found.frame().equals(measured(planted).frame())


# What runs once


class Residual(nn.Module):
    """Blocks after a stem, with what makes keeping outputs hard, by its name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.kind, self.stem, self.norm = kind, nn.Linear(4, 4), nn.ReLU(inplace=True)
        self.first, self.second, self.third = (
            nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = x = self.norm(self.stem(x))
        if self.kind == "in place":
            x += 1
        x = self.first(x)
        if self.kind == "twice":
            x = self.first(x)
        if self.kind == "read again":
            x = x + stem
        x = self.third(self.second(x))
        return self.first(x) if self.kind == "later" else x


@pytest.mark.parametrize(
    ("kind", "layer", "runs_once"),
    [
        ("plain", "third", {"stem", "norm", "first", "second"}),
        ("plain", "second.0", {"stem", "norm", "first"}),
        ("plain", "third.input", {"stem", "norm", "first", "second"}),
        ("plain", "stem", set()),
        ("in place", "third", {"stem", "norm", "first", "second"}),
        ("read again", "third", {"stem", "norm", "first", "second"}),
        ("twice", "third", {"stem", "norm", "second"}),
        ("later", "third", {"stem", "norm", "second"}),
    ],
)
@torch.no_grad()
def test_modules_before_a_lesion_run_once_and_the_bits_are_the_same(
    kind: str, layer: str, runs_once: set[str]
) -> None:
    network, inputs = Residual(kind).eval(), torch.randn(5, 4)
    mask, plain = np.array([True, False, True, False]), network(inputs)
    with fusiform.lesion(network, {layer: mask}):
        expected = network(inputs)
    assert not torch.equal(plain, expected)
    shortcut = Shortcut(network, [layer], inputs[:1])
    names = {module: name for name, module in network.named_modules()}
    assert {names[module] for module in shortcut.skipped} == runs_once
    for _ in range(2):
        with shortcut.intact(inputs) as intact:
            assert torch.equal(intact, plain)
            for _ in range(2):
                with fusiform.lesion(network, {layer: mask}):
                    assert torch.equal(network(inputs), expected)
        assert torch.equal(network(inputs), plain)
    assert not any("forward" in vars(module) for module in network.modules())


# Readouts and mistakes


READOUTS = """
import numpy as np, torch

def first(output, categories): return output[:, 0]
def two(output, categories): return output[:, :2].numpy()
def right(output, categories):
    return [("red", "green", "blue")[k] == name for k, name in zip(output.argmax(1), categories)]
def short(output, categories): return output[:1, 0]
def deep(output, categories): return output[:, :, None]
def nothing(output, categories): return None
def text(output, categories): return ["a"] * len(categories)
def nan(output, categories): return output[:, 0] * float("nan")
def fails(output, categories): raise KeyError("no such luck")
def varies(output, categories): return output[:, : 1 + (len(categories) > 5)]
value = 3
"""


def test_a_function_reads_the_network_out(
    planted: fusiform.Store, write_module: Callable[[str], str]
) -> None:
    module = write_module(READOUTS)
    rows = rows_of(measured(planted, readout=f"{module}:first"))
    for name, images in pictures().items():
        scores = [3.5 * image[..., 0].mean() / 255 for image in images]
        assert rows["first", "selective", name].intact == pytest.approx(np.mean(scores), rel=1e-5)
        assert rows["first", "selective", name].lesioned == 0
    found = measured(planted, readout=f"{module}:two")
    assert found.quantities == ("two[0]", "two[1]")
    assert rows_of(found)["two[1]", "selective", "red"].change == 0
    rows = rows_of(measured(planted, readout=f"{module}:right"))
    assert rows["right", "selective", "red"].intact == 1
    assert rows["right", "selective", "red"].lesioned < 1
    assert rows["right", "selective", "blue"].change == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", r"returned shape \[1\] for \d+ stimuli"),
        ("deep", r"returned shape \[\d+, 3, 1\]"),
        ("nothing", "returned object"),
        ("text", "returned <U1"),
        ("nan", "returned NaN or infinity"),
        ("fails", r"raised KeyError .*no such luck.*my_networks.py, line"),
        ("varies", "2 numbers, and 1 before|1 numbers, and 2 before"),
        ("value", "a readout is made by a function; my_networks:value is a int"),
        ("absent", "cannot import 'my_networks:absent'"),
    ],
)
def test_a_readout_that_fails_is_one_line(
    planted: fusiform.Store, write_module: Callable[[str], str], name: str, message: str
) -> None:
    module = write_module(READOUTS)
    with pytest.raises(UserError, match=message) as raised:
        measured(planted, readout=f"{module}:{name}", batch_size=7)
    assert "\n" not in str(raised.value)


class _Output(dict):  # as transformers returns
    @property
    def logits(self) -> torch.Tensor:
        return self["logits"]


class Returning(nn.Module):
    """A network that returns what a function makes of its features and scores."""

    def __init__(self, make: Callable[[torch.Tensor, nn.Module], Any]) -> None:
        super().__init__()
        self.head, self.make = nn.Linear(4, 3), make

    def forward(self, features: torch.Tensor) -> Any:
        return self.make(features, self.head)


@pytest.mark.parametrize(
    ("make", "came"),
    [
        (lambda x, head: head(x), ""),
        (lambda x, head: (head(x),), ""),
        (lambda x, head: _Output(logits=head(x) + 1, hidden=x), ""),
        (lambda x, head: head(x).view(-1, 3), ""),
        (lambda x, head: head(x) + x[:, :3], r"\[3\] numbers that no linear layer made"),
        (lambda x, head: x, r"\[4\] numbers"),
        (lambda x, head: (x, head(x)), "a tuple"),
        (lambda x, head: head(x)[:, None], "a Tensor"),
    ],
)
def test_class_scores_are_told_from_features(make: Any, came: str) -> None:
    network, inputs = Returning(make), torch.ones(1, 4)
    if not came:
        assert readout_of(None, network, inputs).quantities[0] == "probability"
        return
    with pytest.raises(UserError, match=f"ends in class scores; this one returns {came}.*readout"):
        readout_of(None, network, inputs)
    assert readout_of("classes", network, inputs).quantities[0] == "probability"


def test_probabilities_are_taken_as_they_are() -> None:
    read = readout_of("classes", nn.Identity(), torch.ones(1, 4))
    p, q = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.1, 0.6, 0.3]])
    assert read.values(p, q, ["a"])[0].tolist() == pytest.approx([0.1, 0, 0.4])
    scores = p.log() + 3
    assert read.values(scores, q.log(), ["a"])[0].tolist() == pytest.approx([0.1, 0, 0.4])
    with pytest.raises(UserError, match="returned NaN"):
        read.values(p, p * float("nan"), ["a"])
    with pytest.raises(UserError, match="the network returned a dict: give a `readout`"):
        read.values({}, {}, ["a"])


def test_another_network_is_refused(planted: fusiform.Store) -> None:
    other = Planted()
    with torch.no_grad():
        other.head.weight += 1
    with pytest.raises(UserError, match=r"lesions show the network of a scan.*weights"):
        measured(planted, network=other)
    with pytest.raises(UserError, match="resamples is a number of random draws, at least 1; got 0"):
        measured(planted, resamples=0)
    with pytest.raises(UserError, match="does not say where: name them"):
        fusiform.measure_lesions(planted, RED, Planted())


def test_a_lesion_gives_the_module_back_and_can_be_stopped(planted: fusiform.Store) -> None:
    network, shown = Planted().train(), list[int]()

    def stop(event: Any) -> None:
        shown.append(event.done)
        if event.stage == "lesion":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        measured(planted, network=network, progress=Listener(progress=stop))
    assert network.training
    assert not network.colour._forward_hooks
    assert shown[-1] < 3 * EACH


FACTORY = """
import torch
from torch import nn
from fusiform import Preprocessing

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 5, stride=4), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 4)
    def forward(self, x):
        return self.head(self.pool(torch.relu(self.conv(x))).flatten(1))

def make(seed=0):
    torch.manual_seed(seed)
    return Net(), Preprocessing(32, 32)

def other():
    return make(1)
"""


def test_the_command_prints_and_writes_effects(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    network, store = f"{write_module(FACTORY)}:make", str(tmp_path / "net.zarr")
    design = Design("conv", batch_size=4)
    fusiform.scan(network, stimuli, store, design=design, progress=False)
    options = f"--from {store} --layers conv --resamples 20 --draws 2 --test rest"
    line = ["lesion", network, str(stimuli), *options.split(), "--where", "top 5%"]
    found = CliRunner().invoke(app, [*line, "--contrast", "noise", "--wide"])
    assert found.exit_code == 0, found.output
    for text in ("silenced units", "probability, of the class", "noise - others", "less matched",
                 "units selected on one fold", "also measured: same_choice"):  # fmt: skip
        assert text in found.stdout
    output = tmp_path / "e.csv"
    written = CliRunner().invoke(app, [*line, "--contrast", "noise>blobs", "-q", "-o", str(output)])
    assert written.exit_code == 0, written.output
    assert "probability_difference" in output.read_text()
    for options, message in (
        (["--contrast", "nois"], "did you mean noise"),
        (["--contrast", "noise", "--controls", "none"], "no control 'none'"),
        (["--contrast", "noise", "--where", "t > 1e9"], "choose another criterion or layer"),
    ):
        failed = CliRunner().invoke(app, [*line, *options, "-q"])
        assert isinstance(failed.exception, UserError), failed.output
        assert message in str(failed.exception)
    again = [one for one in line if one != str(stimuli)]
    failed = CliRunner().invoke(app, [*again, "--contrast", "noise,blobs", "--where", "t > 1e9"])
    # Before the first contrast is measured.
    assert "is selective for blobs on the stimuli of fold 0" in str(failed.exception)
    line[1] = network.replace(":make", ":other")
    failed = CliRunner().invoke(app, [*line, "--contrast", "noise", "-q"])
    assert "this one differ in their weights" in str(failed.exception)
