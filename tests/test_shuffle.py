"""The permutation null: exact in one pass, and with nominal error rates."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusiform
from fusiform.engine.contrasts.chance import chance
from fusiform.engine.contrasts.evaluate import samples_of
from fusiform.engine.contrasts.language.contrast import every_category
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.measures import Measured
from fusiform.engine.contrasts.sample import Sample
from fusiform.engine.contrasts.select import select
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.moments.null import ShuffledMoments
from fusiform.engine.moments.plan import make_plan, shuffled_labels
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.store.store_reader import StoreReader

from . import flat, reference

LABELS = np.repeat(np.arange(3, dtype=np.int32), (8, 9, 11))
NAMES = ("a", "b", "c")


def plan(folds: int = 2, batch_size: int = 4) -> Any:
    return make_plan(LABELS, NAMES, folds=folds, batch_size=batch_size)


def test_labels_are_shuffled_within_folds_from_the_seed() -> None:
    fold_of = plan().fold_of
    shuffled = shuffled_labels(LABELS, fold_of, 50, seed=3)
    for fold in (0, 1):
        own = fold_of == fold
        for labels in shuffled:
            assert sorted(labels[own]) == sorted(LABELS[own])
    assert len(np.unique(shuffled, axis=0)) == 50
    np.testing.assert_array_equal(shuffled[:7], shuffled_labels(LABELS, fold_of, 7, seed=3))
    assert (shuffled != shuffled_labels(LABELS, fold_of, 50, seed=4)).any()
    # Every stimulus gets every label, in proportion.
    for stimulus in range(len(LABELS)):
        assert len(np.unique(shuffled[:, stimulus])) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("order", ["channels first", "channels last"])
def test_null_moments_equal_those_of_the_shuffled_sets(dtype: torch.dtype, order: str) -> None:
    shape = (3, 4, 2)
    layer = Layer("l", "Conv2d", ("channel", "y", "x"), shape, str(dtype).removeprefix("torch."))
    made = plan()
    labels = shuffled_labels(LABELS, made.fold_of, 5, seed=0)
    null = ShuffledMoments([layer], labels, made.fold_of, units=7, seed=0)
    torch.manual_seed(0)
    x = torch.randn(len(LABELS), *shape).to(dtype)
    null.seconds_per_batch(4)  # leaves nothing behind
    for batch in made.batches():
        null.begin(batch.stimuli)
        shown = x[torch.from_numpy(batch.stimuli)]
        shown = torch.cat([shown, shown[-1:]])  # padded with a row of no block
        if order == "channels last":
            shown = shown.contiguous(memory_format=torch.channels_last)
        null.fold_in("l", shown)
    units, found = null.units["l"], null.read_out("l")
    assert len(np.unique(units)) == 7
    flat = x.double().flatten(1).numpy()
    for shuffle, fold, category in np.ndindex(5, 2, 3):
        own = (labels[shuffle] == category) & (made.fold_of == fold)
        assert found.count[category, fold, shuffle, 0] == own.sum()
        for place, unit in enumerate(units):
            _, mean, m2 = reference.moments(flat[own, unit])
            assert found.mean[category, fold, shuffle, place] == pytest.approx(mean, rel=1e-13)
            assert found.m2[category, fold, shuffle, place] == pytest.approx(m2, rel=1e-12)


def test_all_units_of_a_small_layer_enter_the_null() -> None:
    layers = [Layer(str(n), "Linear", ("unit",), (n,), "float32") for n in (5, 500)]
    fold_of = plan().fold_of
    null = ShuffledMoments(layers, shuffled_labels(LABELS, fold_of, 2, 0), fold_of, 20, seed=1)
    assert null.units["5"].tolist() == [0, 1, 2, 3, 4]
    assert len(null.units["500"]) == 20
    assert null.state_bytes == (5 + 20) * 20 * 12  # 20 bytes per group of 2 x 2 x 3
    again = ShuffledMoments(layers, shuffled_labels(LABELS, fold_of, 2, 0), fold_of, 20, seed=2)
    assert (again.units["500"] != null.units["500"]).any()


class Pixels(nn.Module):
    """Noise responses, and one that encodes the category."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5)
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(images).mean((2, 3)))


@pytest.fixture(scope="module")
def noise_store(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    """A scan of noise pictures, which differ by chance only."""
    from PIL import Image

    root = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(5)
    for category in ("a", "b", "c"):
        (root / category).mkdir()
        for i in range(14):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(root / category / f"{i}.png")
    torch.manual_seed(1)
    return flat.scan(
        Pixels(), root, root / "noise.zarr", layers=["conv", "head"],
        preprocessing=Preprocessing(resize=16, crop=16), null=60, null_units=300,
    )  # fmt: skip


@pytest.mark.parametrize("test", ["rest", "student", "weighted", "glm"])
@pytest.mark.parametrize("sides", [1, 2])
def test_false_positive_rates_are_nominal_by_p_and_by_the_null(
    noise_store: StoreReader, test: str, sides: int
) -> None:
    for rule in ("p <= 0.05", "p_null <= 0.05"):
        criterion = Criterion(test, rule, sides)
        shares = dict(chance(noise_store, criterion))
        for layer in noise_store.layers:
            assert shares[layer].shape == (3, 60)
            assert shares[layer].mean() == pytest.approx(0.05, abs=0.012)
        found = np.concatenate([s.selective.ravel() for _, s in select(noise_store, criterion)])
        assert found.mean() == pytest.approx(0.05, abs=0.04)  # few independent units
    q = Criterion(test, "q <= 0.05", sides)
    assert max(share.mean() for _, share in chance(noise_store, q)) < 0.05


def test_the_top_of_the_model_under_shuffles_is_that_of_all_drawn_units(
    noise_store: StoreReader,
) -> None:
    drawn = {layer: len(noise_store.null_of(layer)[0]) for layer in noise_store.layers}
    shares = dict(chance(noise_store, Criterion("rest", "top 10% of model")))
    selected = sum(drawn[layer] * share for layer, share in shares.items())
    np.testing.assert_allclose(selected, sum(drawn.values()) // 10)
    ((_, alone),) = chance(
        noise_store, Criterion("rest", "top 10% of model"), layers=[noise_store.layer("head")]
    )
    np.testing.assert_array_equal(alone, shares[noise_store.layer("head")])


def test_p_of_the_null_equals_a_plain_count(noise_store: StoreReader) -> None:
    layer = noise_store.layer("head")
    criterion = Criterion("rest", "p_null <= 0.2")
    ((_, found),) = select(noise_store, criterion, layers=[layer])
    units = noise_store.null_of(layer)[0]
    assert units.tolist() == [0, 1, 2, 3]
    t = noise_store.read(layer, "t")
    fold_moments = noise_store.shuffled_moments(layer)
    for k in range(3):
        null_t = []
        for column in range(60 * 4):
            groups = [
                [(f.count[j, 0], f.mean[j, column], f.m2[j, column]) for f in fold_moments]
                for j in range(3)
            ]
            null_t.append(welch_from(groups[k], [g for j in range(3) if j != k for g in groups[j]]))
        for unit in range(4):
            p = (1 + sum(value >= t[k, unit] for value in null_t)) / (1 + len(null_t))
            assert found.selective[k, unit] == (p <= 0.2)


def test_p_of_the_null_is_saved_with_a_contrast(noise_store: StoreReader, tmp_path: Path) -> None:
    shutil.copytree(noise_store.path, tmp_path / "own.zarr")
    store = fusiform.open_store(tmp_path / "own.zarr")
    criterion = Criterion("rest", "p_null <= 0.2")
    fusiform.save_contrast(store, "null", criterion, measures=["p_null"])
    for layer in store.layers:
        saved = store.read(layer, "null/p_null")
        assert 0 < saved.min() < 0.2 < saved.max() <= 1
        np.testing.assert_array_equal(store.read(layer, "null/selective"), saved <= 0.2)
    pairwise = Criterion("rest", "p_null <= 0.2", pairwise=True)
    with pytest.raises(UserError, match="save t"):
        fusiform.save_contrast(store, "null", pairwise, measures=["p_null"])


class Looked(nn.Module):
    """A network that responds to grey value i with row i of a table."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = torch.from_numpy(table)
        self.found = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # The trial pass shows noise.
        rows = (images[:, 0, 0, 0] * 255).round().long().clamp(0, len(self.table) - 1)
        return self.found(self.table[rows])


def exact_size(test: str, sides: int, target: list[Fraction], others: list[list[Fraction]]) -> Any:
    """Signed square of t in exact arithmetic; a huge number stands for infinity."""

    def squares(values: list[Fraction]) -> tuple[int, Fraction, Fraction]:
        mean = sum(values) / Fraction(len(values))
        return len(values), mean, sum((x - mean) ** 2 for x in values)

    def signed(difference: Fraction, error: Fraction) -> Any:
        if error == 0:
            return difference and (10**40 if difference > 0 else -(10**40))
        return (1 if difference > 0 else -1) * difference**2 / error

    own, *rest = map(squares, [target, *others])
    if test == "each":
        found = [signed(own[1] - m, own[2] / (own[0] - 1) / own[0] + s / (n - 1) / n)
                 for n, m, s in rest]  # fmt: skip
        up, down = min(found), max(found)
        return (max(up, 0) or max(-down, 0)) if sides == 2 else up
    if test in ("weighted", "glm"):
        parts = [(Fraction(1), own), *((Fraction(-1, len(rest)), one) for one in rest)]
        effect = sum(w * m for w, (_, m, _) in parts)
        error = sum(w * w * s / (n - 1) / n for w, (n, _, s) in parts)
        if test == "glm":
            residual = sum(s for _, (_, _, s) in parts) / sum(n - 1 for _, (n, _, _) in parts)
            error = residual * sum(w * w / n for w, (n, _, _) in parts)
        size = signed(effect, error)
    else:
        n, m, s = squares([x for values in others for x in values])
        error = own[2] / (own[0] - 1) / own[0] + s / (n - 1) / n
        if test == "student":
            error = (own[2] + s) / (own[0] + n - 2) * (Fraction(1, own[0]) + Fraction(1, n))
        size = signed(own[1] - m, error)
    return abs(size) if sides == 2 else size


@pytest.fixture(scope="module")
def few_responses(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoreReader, np.ndarray]:
    """A scan of units that respond to few stimuli, as after a ReLU, and their responses."""
    from PIL import Image

    root, rng = tmp_path_factory.mktemp("few"), np.random.default_rng(0)
    table = np.zeros((18, 40), np.float32)
    for unit in range(40):
        rows = rng.choice(18, 1 + unit % 4, replace=False)
        table[rows, unit] = rng.normal(0, 1, len(rows)).astype(np.float32).clip(0)
        table[rows[0], unit] = abs(rng.normal())
    for stimulus in range(18):
        (root / "abc"[stimulus % 3]).mkdir(exist_ok=True)
        picture = Image.new("RGB", (8, 8), (stimulus, 0, 0))
        picture.save(root / "abc"[stimulus % 3] / f"{stimulus}.png")
    plain = Preprocessing(8, 8, "nearest", mean=(0, 0, 0), std=(1, 1, 1))
    store = flat.scan(
        Looked(table), root, root / "few.zarr", layers=["found"], preprocessing=plain, null=12,
        batch_size=5, seed=2,
    )  # fmt: skip
    rows = [int(Path(path).stem) for path in store.stimulus_column("stimulus_path")]
    return store, table[rows]


@pytest.mark.parametrize("test", ["each", "rest", "student", "weighted", "glm"])
@pytest.mark.parametrize("sides", [1, 2])
def test_ties_with_the_null_count_despite_rounding(
    few_responses: tuple[StoreReader, np.ndarray], test: Any, sides: Any
) -> None:
    store, table = few_responses
    exact = [[Fraction(float(x)) for x in unit] for unit in table.T]
    labels, fold_of = (
        store.stimulus_column("stimulus_category"),
        store.stimulus_column("stimulus_fold"),
    )
    shuffles = shuffled_labels(labels, fold_of, 12, seed=2)

    def sizes(labels: np.ndarray, k: int) -> list[Any]:
        sides_of = [np.flatnonzero(labels == j).tolist() for j in (k, *({0, 1, 2} - {k}))]
        groups = ([[unit[i] for i in rows] for rows in sides_of] for unit in exact)
        return [exact_size(test, sides, target, others) for target, *others in groups]

    layer = store.layer("found")
    moments = samples_of(next(store.moments(layer, slab) for slab, _ in store.slabs(layer)))[0]
    criterion = Criterion(test, "p_null <= 0.5", sides)
    for k, contrast in enumerate(every_category("abc")):
        shuffled = samples_of(store.shuffled_moments(layer))[0]
        null = Measured(Sample(shuffled), contrast, criterion).extremity
        found = Measured(Sample(moments), contrast, criterion, null_t=np.sort(null)).p_null
        all_null = np.array([size for labels in shuffles for size in sizes(labels, k)])
        own = sizes(labels, k)
        expected = [(1 + np.count_nonzero(all_null >= size)) / (1 + len(all_null)) for size in own]
        np.testing.assert_array_equal(found, expected)


def welch_from(target: list[Any], baseline: list[Any]) -> float:
    def joined(parts: list[Any]) -> tuple[float, float, float]:
        n = sum(part[0] for part in parts)
        mean = sum(part[0] * part[1] for part in parts) / n
        return n, mean, sum(part[2] + part[0] * (part[1] - mean) ** 2 for part in parts)

    (n_a, m_a, s_a), (n_b, m_b, s_b) = joined(target), joined(baseline)
    return (m_a - m_b) / np.sqrt(s_a / (n_a - 1) / n_a + s_b / (n_b - 1) / n_b)


def test_the_family_of_the_null_can_be_the_whole_model(noise_store: StoreReader) -> None:
    one, all_layers = (
        dict(chance(noise_store, Criterion("rest", "q <= 0.5", family=family)))
        for family in ("layer", "model")
    )
    assert list(one) == list(all_layers)
    assert any((one[layer] != all_layers[layer]).any() for layer in one)


def test_p_of_the_null_without_a_null_raises(store: StoreReader) -> None:
    with pytest.raises(UserError, match="`null=100`"):
        list(chance(store))
    with pytest.raises(UserError, match="`null=100`"):
        list(select(store, Criterion("rest", "p_null < 0.01")))
