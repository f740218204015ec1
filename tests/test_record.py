"""Recordings equal activations captured directly, resume, raise errors and stay within memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import xarray
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform import Criterion, UnitRequest
from fusiform.cli import app
from fusiform.engine.contrasts.select import select
from fusiform.engine.decoding.ahead import normalise
from fusiform.engine.decoding.pictures import prepare
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer, dims_of
from fusiform.engine.limits import bytes_of
from fusiform.engine.moments.memory_layout import Flat
from fusiform.engine.moments.plan import Batch, Block, Run, make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.recording.recorder import LayerRecorder
from fusiform.engine.responses.discrimination import discriminate
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener, Progress
from fusiform.engine.stimuli.catalogue import read_catalogue
from fusiform.engine.stimuli.images import open_image
from fusiform.engine.store import chunking
from fusiform.engine.values import as_record
from fusiform.kernels import projection

from . import flat
from .fuzz.small import contents
from .test_resume import stopping_after

SMALL = Preprocessing(resize=32, crop=32)
LAYERS = ["body", "flat", "head"]
BATCH = 4


class Net(nn.Module):
    """Layers of 1,400, 128 and 10 units, modified in place after capture."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 5, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.flat = nn.Flatten()
        self.head = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.flat(self.pool(self.body(images).relu_())))


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("set") / "stimuli", each=7)


@pytest.fixture(scope="module")
def store(stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> fusiform.Store:
    output = tmp_path_factory.mktemp("store") / "net.zarr"
    return flat.scan(Net(), stimuli, output, layers=LAYERS, batch_size=BATCH, preprocessing=SMALL)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Force files of three rows and chunks of at most thirty values."""
    monkeypatch.setattr(chunking, "_RESPONSE_FILE_VALUES", 1)
    monkeypatch.setattr(chunking, "_MIN_ROWS", 3)
    monkeypatch.setattr(chunking, "_RESPONSE_CHUNK_VALUES", 30)


def recorded(stimuli: Path, output: Path, **options: Any) -> fusiform.Recording:
    return flat.record(Net(), stimuli, output, **options)


def directly(
    net: nn.Module,
    stimuli: Path,
    layers: list[str],
    preprocessing: Preprocessing = SMALL,
    batch_size: int = BATCH,
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Paths in plan order, and every activation ``[stimulus, unit]`` by layer."""
    catalogue = read_catalogue(stimuli)
    plan = make_plan(catalogue.labels, catalogue.categories, batch_size=batch_size)
    net = net.eval().to(memory_format=torch.channels_last)
    modules, kept = dict(net.named_modules()), {name: [] for name in layers}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: kept[name].append(output.clone().flatten(1))

    hooks = [modules[name].register_forward_hook(keep(name)) for name in layers]
    for batch in plan.batches():
        paths = [catalogue.path(stimulus) for stimulus in batch.stimuli]
        pictures = [prepare(open_image(path, path.read_bytes()), preprocessing) for path in paths]
        pictures += [pictures[-1]] * (batch_size - len(pictures))
        images = normalise(np.stack(pictures), preprocessing, torch.device("cpu"), torch.float32)
        with torch.inference_mode():
            net(images)
    for hook in hooks:
        hook.remove()
    found = {name: torch.cat(parts)[: len(plan.order)].numpy() for name, parts in kept.items()}
    return [catalogue.names[stimulus] for stimulus in plan.order], found


# Recorded values


@pytest.mark.usefixtures("small_files")
def test_a_recording_equals_activations_captured_directly(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    recording = recorded(stimuli, tmp_path / "r.zarr", store=store)
    paths, direct = directly(Net(), stimuli, LAYERS)
    assert list(recording.stimulus_column("stimulus_path")) == paths
    assert [layer.name for layer in recording.layers] == LAYERS
    for name in LAYERS:
        np.testing.assert_array_equal(recording.part(name), direct[name])
        np.testing.assert_array_equal(recording.responses(name).compute(), direct[name])
        assert recording.responses(name).dtype == np.float32
        np.testing.assert_array_equal(recording.units(name), np.arange(direct[name].shape[1]))
    assert recording.choices == ("all",)


def test_recorded_resnet_units_equal_activations_captured_directly(
    stimuli: Path, tmp_path: Path
) -> None:
    import torchvision

    layers = ["layer1.0", "layer3.1", "layer4.1", "avgpool"]
    small = Preprocessing(resize=64, crop=64)
    recording = flat.record(
        "resnet18", stimuli, tmp_path / "r.zarr", weights="none", seed=3, random=500,
        layers=layers, preprocessing=small, batch_size=8, device="cpu",
    )  # fmt: skip
    torch.manual_seed(3)
    network = torchvision.models.resnet18(weights=None)
    _, direct = directly(network, stimuli, layers, small, 8)
    assert sum(len(recording.units(name)) for name in layers) == 2000
    for name in layers:
        units = recording.units(name)
        assert len(units) == len(set(units.tolist())) == 500
        np.testing.assert_array_equal(recording.part(name), direct[name][:, units])


def test_recorded_stimuli_keep_the_stores_identifiers(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    recording = recorded(stimuli, tmp_path / "r.zarr", store=store, random=2)
    columns = ("path", "category", "fold", "sha256", "status")

    def table(one: Any) -> set[tuple[Any, ...]]:
        return set(
            zip(*(one.stimulus_column(f"stimulus_{c}").tolist() for c in columns), strict=True)
        )

    assert table(recording) == table(store)
    np.testing.assert_array_equal(recording.counts, store.counts)
    assert recording.provenance["source"]["fingerprint"] == store.provenance["fingerprint"]
    order = np.stack([recording.labels, recording.fold_of])
    assert order.T.tolist() == sorted(order.T.tolist())  # block by block


def test_xarray_reads_a_recording_without_fusiform(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    recording = recorded(stimuli, tmp_path / "r.zarr", store=store, random=5)
    tree = xarray.open_datatree(recording.path, engine="zarr")
    response = tree["body"]["response"]
    assert response.dims == ("stimulus", "unit")
    np.testing.assert_array_equal(response, recording.part("body"))
    np.testing.assert_array_equal(tree["body"]["unit"], recording.units("body"))
    lazy = recording.tree()["body"]["response"]
    assert lazy.chunks is not None


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
    data=st.data(),
)
def test_units_are_found_in_any_memory_layout(
    shape: list[int], order: Any, data: st.DataObject
) -> None:
    axes = list(range(1, len(shape) + 1))
    order.shuffle(axes)
    sizes = [2, *(shape[axis - 1] for axis in axes)]
    back = [0, *(1 + axes.index(axis) for axis in range(1, len(shape) + 1))]
    x = torch.arange(float(np.prod(sizes))).reshape(sizes).permute(back)
    layer = Layer("x", "X", dims_of(tuple(shape)), tuple(shape), "float32")
    flat = Flat(layer)
    rows = flat.rows(x)
    size = layer.units
    units = np.array(data.draw(st.lists(st.integers(0, size - 1), unique=True)), np.int64)
    found = rows.numpy()[:, flat.positions(units)]
    np.testing.assert_array_equal(found, x.flatten(1).numpy()[:, units])


@given(
    stimuli=st.integers(1, 23),
    gone=st.integers(0, 4),
    batch=st.integers(1, 9),
    rows=st.integers(1, 9),
    failed=st.sets(st.integers(0, 22)),
    pauses=st.sets(st.integers(0, 22)),
)
def test_rows_reach_their_files_for_any_batch_and_file_size(
    stimuli: int, gone: int, batch: int, rows: int, failed: set[int], pauses: set[int]
) -> None:
    layer = Layer("x", "X", ("unit",), (5,), "float32")
    units, total = np.array([1, 4]), stimuli + gone
    x = np.arange(5.0 * stimuli, dtype=np.float32).reshape(stimuli, 5)
    files: dict[int, np.ndarray] = {}

    def recorder() -> LayerRecorder:
        def write(_: Layer, number: int, values: np.ndarray) -> None:
            files[number] = values.copy()

        return LayerRecorder(layer, units, 2, 0, total, rows, torch.device("cpu"), write)

    own = recorder()
    for number, start in enumerate(range(0, stimuli, batch)):
        shown = np.arange(start, min(start + batch, stimuli))
        runs = (Run(Block(0, 0, 0, stimuli), 0, len(shown), False),)
        without = [row for row in range(len(shown)) if shown[row] in failed]
        own.take(torch.from_numpy(x[shown]), Batch(shown, runs).without(without))
        if number in pauses:  # another process resumes
            record, parts = own.save()
            own, kept = recorder(), [part.copy() for part in parts]
            own.resume(json.loads(json.dumps(record)), kept)
    own.finish()
    expected = np.full((total, 2), np.nan, np.float32)
    expected[:stimuli] = x[:, units]
    expected[sorted(failed & set(range(stimuli)))] = np.nan
    assert sorted(files) == list(range(-(-total // rows)))
    found = np.concatenate([files[number] for number in sorted(files)])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("units", ["channel", "token"])
def test_reduced_units_are_recorded_as_in_the_scan(
    stimuli: Path, tmp_path: Path, units: str
) -> None:
    net = Net()
    store = flat.scan(
        net, stimuli, tmp_path / "s.zarr", layers=["body", "head"], units=units, batch_size=BATCH,
        preprocessing=SMALL,
    )  # fmt: skip
    recording = recorded(stimuli, tmp_path / "r.zarr", store=store)
    _, direct = directly(Net(), stimuli, ["body"])
    body = torch.from_numpy(direct["body"]).reshape(-1, 8, 14, 14)
    means = body.mean((2, 3) if units == "channel" else 1).flatten(1)
    np.testing.assert_allclose(recording.part("body"), means, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_half_precision_is_recorded_in_float32(stimuli: Path, tmp_path: Path, dtype: str) -> None:
    net = Net().to(getattr(torch, dtype))
    recording = flat.record(
        net, stimuli, tmp_path / "r.zarr", layers=["head"], preprocessing=SMALL, batch_size=BATCH
    )
    values = recording.part("head")
    assert values.dtype == np.float32
    exact = torch.from_numpy(values)
    if dtype != "float64":  # every half is a float32
        torch.testing.assert_close(exact.to(getattr(torch, dtype)).float(), exact, rtol=0, atol=0)
    np.testing.assert_allclose(values, directly(Net(), stimuli, ["head"])[1]["head"], atol=0.05)


def test_packed_pictures_and_tar_shards_are_recorded_like_files(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    import tarfile

    flat.pack_stimuli(stimuli, tmp_path / "packed", preprocessing=as_record(SMALL))
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "0.tar", "w") as tar:
        for path in sorted(stimuli.rglob("*.png")):
            tar.add(path, f"{path.parent.name}/{path.name}")
    whole = recorded(stimuli, tmp_path / "files.zarr", store=store)
    for source in ("packed", "shards"):
        found = recorded(tmp_path / source, tmp_path / f"{source}.zarr", store=store)
        for layer in LAYERS:
            np.testing.assert_array_equal(found.part(layer), whole.part(layer))


@pytest.mark.slow
def test_areas_under_the_curve_of_recorded_units_on_photographs(
    testdata: Path, tmp_path: Path
) -> None:
    import torchvision
    from safetensors.torch import load_file
    from sklearn.metrics import roc_auc_score

    layers = ["maxpool", "layer2.1", "layer4.1", "avgpool"]
    weights = testdata / "weights" / "resnet18_imagenet_compressed.safetensors"
    photographs = testdata / "stimuli" / "floc"
    recording = flat.record(
        "resnet18", photographs, tmp_path / "r.zarr", weights=str(weights), layers=layers,
        random=500, batch_size=32, device="cpu",
    )  # fmt: skip
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(load_file(weights))
    paths, direct = directly(network, photographs, layers, Preprocessing(), 32)
    assert list(recording.stimulus_column("stimulus_path")) == paths
    labels = recording.labels
    for name in layers:
        values, units = recording.part(name), recording.units(name)
        np.testing.assert_array_equal(values, direct[name][:, units])
        (one,) = discriminate(recording, ["adult"], [name])
        target = labels == recording.categories.index("adult")
        expected = [roc_auc_score(target, values[:, unit]) for unit in range(len(units))]
        np.testing.assert_allclose(one.auc, expected, rtol=0, atol=1e-12)
        for unit in range(len(units)):
            x = values[:, unit].astype(np.float64)
            if x.min() < x.max():
                test = stats.mannwhitneyu(
                    x[target], x[~target], alternative="greater", method="asymptotic"
                )
                assert one.u[unit] == test.statistic
                assert one.p[unit] == pytest.approx(test.pvalue, rel=1e-10)


# Which units


def test_units_selected_by_a_criterion_are_recorded(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    criterion = Criterion("rest", "t > 3")
    recording = recorded(
        stimuli, tmp_path / "r.zarr", store=store, select=["blobs", "noise > stripes"],
        criterion=criterion, layers=["body", "head"],
    )  # fmt: skip
    assert recording.choices == ("blobs", "noise > stripes")
    tree = store.select(["blobs", "noise > stripes"], criterion, ["body", "head"])
    for layer in recording.layers:
        masks = tree[layer.name]["selective"].to_numpy().reshape(2, -1)
        units = recording.units(layer.name)
        np.testing.assert_array_equal(units, np.flatnonzero(masks.any(0)))
        np.testing.assert_array_equal(recording.chosen(layer.name), masks[:, units])
        columns = recording.columns_chosen_by(layer.name, "blobs")
        np.testing.assert_array_equal(units[columns], np.flatnonzero(masks[0]))


@pytest.mark.parametrize("by", ["t", "csi", "p"])
@pytest.mark.parametrize("select_it", [True, False])
def test_the_recorded_top_of_a_measure_is_the_top_of_all_units(
    store: fusiform.Store, by: str, select_it: bool
) -> None:
    from fusiform.engine.contrasts.choice import choose_units
    from fusiform.engine.contrasts.language.contrast import parse_contrast
    from fusiform.engine.contrasts.measures import Measured
    from fusiform.engine.contrasts.sample import Sample
    from fusiform.kernels.moments import merge

    criterion = Criterion("rest", "q <= 0.05")
    found = choose_units(store, ["noise"], criterion if select_it else None, 9, by)
    contrast = parse_contrast("noise", store.categories)
    masks = dict(select(store, criterion if select_it else Criterion(), [contrast]))
    for layer in store.layers:
        slab = tuple(slice(0, size) for size in layer.shape)
        own = criterion if select_it else Criterion()
        with np.errstate(all="ignore"):
            sample = Sample(merge(*store.moments(layer, slab)))
            values = Measured(sample, contrast, own).measure(by)
        selection = masks[layer]
        pool = selection.selective[0] if select_it else ~selection.dead
        ranked = sorted(
            (unit for unit in np.flatnonzero(pool) if not np.isnan(values[unit])),
            key=lambda unit: (values[unit] if by == "p" else -values[unit], unit),
        )
        (name, units) = found[0]
        assert name == "noise"
        assert units[layer.name].tolist() == sorted(ranked[:9])


def test_random_units_depend_on_seed_and_layer_alone(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    one = recorded(stimuli, tmp_path / "1.zarr", store=store, random=6, seed=1)
    two = recorded(stimuli, tmp_path / "2.zarr", store=store, random=6, seed=1, layers="body")
    other = recorded(stimuli, tmp_path / "3.zarr", store=store, random=6, seed=2)
    np.testing.assert_array_equal(one.units("body"), two.units("body"))
    assert one.units("body").tolist() != other.units("body").tolist()
    assert len(one.units("head")) == 6


def test_masks_choose_units_and_choices_are_joined(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    mask = np.zeros((8, 14, 14), bool)
    mask[2, 3, 4] = mask[7, 0, 0] = True
    recording = recorded(
        stimuli, tmp_path / "r.zarr", store=store, masks={"body": mask}, random=4,
        layers=["body", "head"],
    )  # fmt: skip
    assert recording.choices == ("random", "mask")
    units, chosen = recording.units("body"), recording.chosen("body")
    assert units[chosen[1]].tolist() == np.flatnonzero(mask).tolist()
    assert chosen[0].sum() == 4
    assert chosen.any(axis=0).all()
    assert not recording.chosen("head")[1].any()


# Random projections


@pytest.mark.usefixtures("small_files")
def test_a_projection_equals_its_matrix_for_any_block_size(
    stimuli: Path, store: fusiform.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "BLOCK", 96)
    from fusiform.engine.recording import recorder

    kept = recorded(stimuli, tmp_path / "kept.zarr", store=store, project=64, seed=5)
    monkeypatch.setattr(recorder, "_KEPT_BYTES", 0)
    recording = recorded(stimuli, tmp_path / "r.zarr", store=store, project=64, seed=5)
    _, direct = directly(Net(), stimuli, LAYERS)
    assert contents(kept.path) == contents(recording.path)
    for name in ("body", "flat"):
        x = direct[name].astype(np.float64)
        blocks = range(-(-x.shape[1] // 96))
        signs = [projection.signs(5, b, min(96, x.shape[1] - 96 * b), 64) for b in blocks]
        matrix = np.concatenate(signs).astype(np.float64)
        expected = (x - x.mean(1, keepdims=True)) @ matrix / 8
        np.testing.assert_allclose(recording.part(name), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(recording.means(name), x.mean(1), rtol=1e-12)
        assert recording.recorded(name).projected
    np.testing.assert_array_equal(recording.part("head"), direct["head"])  # 10 units are few
    with pytest.raises(UserError, match="needs the responses of single units"):
        recording.unit("body", 3)


def test_projected_distances_stay_within_the_bound(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    recording = recorded(stimuli, tmp_path / "r.zarr", store=store, project=900, layers="body")
    _, direct = directly(Net(), stimuli, ["body"])
    from fusiform.engine.responses.geometry import products, upper

    found = upper(products(recording, "body").distances("euclidean")) ** 2
    exact = pdist(direct["body"].astype(np.float64), "sqeuclidean")
    eps = projection.bound(len(direct["body"]), 900)
    assert 0.1 < eps < 0.25
    assert (np.abs(found / exact - 1) <= eps).all()


@given(seed=st.integers(0, 2**63 - 1), block=st.integers(0, 2**40), dim=st.integers(1, 70))
def test_projection_entries_are_signs_given_by_seed_and_block(
    seed: int, block: int, dim: int
) -> None:
    whole = projection.signs(seed, block, 40, dim)
    assert whole.shape == (40, dim)
    assert set(np.unique(whole)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(projection.signs(seed, block, 17, dim), whole[:17])
    if dim > 20:
        assert (whole != projection.signs(seed, block + 1, 40, dim)).any()


def test_projection_entries_are_the_bits_of_philox() -> None:
    # Salmon et al. 2011 publish test vectors of Philox; these are numpy's, which must not change.
    found = projection.signs(0, 0, 2, 8)
    bits = np.random.Philox(key=0).random_raw(1).astype("<u8").view(np.uint8)[:2]
    np.testing.assert_array_equal((found > 0).astype(int), np.unpackbits(bits).reshape(2, 8))
    many = projection.signs(1, 0, 4096, 64)
    assert abs(many.mean()) < 4 / np.sqrt(many.size)
    # Rows are uncorrelated: the root mean square of 4096 x 4096 products is 1/sqrt(dim).
    gram = many @ many.T / 64
    off = gram[~np.eye(len(gram), dtype=bool)]
    assert abs(np.sqrt((off**2).mean()) * 8 - 1) < 0.01


# Stopped, killed, resumed


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("options", [{}, {"project": 32}, {"layers": "body"}])
def test_a_recording_stopped_at_every_batch_resumes_to_the_same_bits(
    stimuli: Path, store: fusiform.Store, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = contents(recorded(stimuli, tmp_path / "whole.zarr", store=store, **options).path)
    output = tmp_path / "r.zarr"
    for _ in range(6):  # as many batches
        with pytest.raises(Interrupted):
            recorded(
                stimuli, output, store=store, progress=stopping_after(1, "recording"),
                commit_every=1e9, **options,
            )  # fmt: skip
        assert not output.exists()
    notes: list[str] = []
    recorded(stimuli, output, store=store, progress=Listener(notes.append), **options)
    assert any("resuming an unfinished recording: 21 of 21 stimuli" in n for n in notes)
    assert contents(output) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.zarr", "whole.zarr"]


@pytest.mark.usefixtures("in_passes", "small_files")
def test_a_recording_in_several_passes_has_the_same_bits(
    stimuli: Path, store: fusiform.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "r.zarr"
    for batches in (2, 5, 3):
        with pytest.raises(Interrupted):
            recorded(stimuli, output, store=store, progress=stopping_after(batches, "recording"))
    recorded(stimuli, output, store=store)
    monkeypatch.undo()
    _, direct = directly(Net(), stimuli, LAYERS)
    for name in LAYERS:
        found = fusiform.open_recording(output).part(name)
        np.testing.assert_array_equal(found, direct[name])


def record_resnet(stimuli: str | Path, output: str | Path, batches: int = 0) -> None:
    """Record a small ResNet; the process kills itself after ``batches`` batches, if any."""
    left = batches

    def progress(event: Progress) -> None:
        nonlocal left
        left -= event.stage == "recording"
        if batches and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "_RESPONSE_FILE_VALUES", 1)
        patch.setattr(chunking, "_MIN_ROWS", 3)
        flat.record(
            "resnet18", stimuli, output, weights="none", random=300, batch_size=8,
            layers=["layer4.*", "avgpool"], preprocessing={"resize": 32, "crop": 32},
            commit_every=0, device="cpu", progress=Listener(progress=progress),
        )  # fmt: skip


def test_a_killed_recording_resumes_to_the_same_bits(stimuli: Path, tmp_path: Path) -> None:
    code = "import sys; from fusiform.tests.test_record import record_resnet; "
    code += "record_resnet(sys.argv[1], sys.argv[2], batches=2)"
    command = [sys.executable, "-c", code, str(stimuli), str(tmp_path / "r.zarr")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run(command, env=environment, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "r.zarr.partial").exists()
    with pytest.raises(UserError, match="an unfinished recording in"):
        fusiform.open_recording(tmp_path / "r.zarr")
    record_resnet(stimuli, tmp_path / "r.zarr")
    record_resnet(stimuli, tmp_path / "whole.zarr")
    assert contents(tmp_path / "r.zarr") == contents(tmp_path / "whole.zarr")


def test_a_recording_resumes_only_as_it_was_started(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    output = tmp_path / "r.zarr"
    with pytest.raises(Interrupted):
        recorded(stimuli, output, store=store, random=4, progress=stopping_after(2, "recording"))
    for options, said in (
        ({"random": 5}, "recorded units: others of body, flat, head"),
        ({"random": 4, "seed": 2}, "recorded units"),
        ({"random": 4, "project": 3}, "projection: None and"),
    ):
        with pytest.raises(UserError, match=said):
            recorded(stimuli, output, store=store, **options)
    recorded(stimuli, output, store=store, random=5, restart=True)


# Errors


def test_recording_another_network_than_the_scanned_one_raises(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    other, output = Net(), tmp_path / "r.zarr"
    with torch.no_grad():
        other.head.bias += 1
    with pytest.raises(UserError, match=r"differ in their weights: .*show the one"):
        flat.record(other, stimuli, output, store=store)
    other = Net()
    other.pool = nn.AdaptiveMaxPool2d(4)
    with pytest.raises(UserError, match="differ in their modules"):
        flat.record(other, stimuli, output, store=store)
    for options, said in (
        ({"batch_size": 8}, "scanned with batch size 4, and 8 is asked for"),
        ({"preprocessing": {"crop": 24}}, "scanned with crop 32, and 24"),
        ({"units": "channel"}, "scanned with units all, and channel"),
        ({"precision": "bfloat16"}, "scanned with precision None, and bfloat16"),
        ({"folds": 1}, "scanned with folds 2"),
    ):
        with pytest.raises(UserError, match=said):
            recorded(stimuli, output, store=store, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changed",
    [
        {"preprocessing": None}, {"preprocessing": {"crop": []}}, {"batch_size": "x"},
        {"preprocessing": {"mean": [1, 2, 3], "std": ["x"] * 3}}, {"batch_size": -1},
        {"preprocessing": {**as_record(SMALL), "resize": {}}},
    ],
)  # fmt: skip
def test_recording_from_a_store_without_provenance_raises(
    stimuli: Path, store: fusiform.Store, tmp_path: Path, changed: dict[str, Any]
) -> None:
    own = Path(shutil.copytree(store.path, tmp_path / "s.zarr"))
    document = json.loads((own / "zarr.json").read_text())
    document["attributes"].update(changed)
    (own / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="does not say how that was"):
        recorded(stimuli, tmp_path / "r.zarr", store=own, random=2)
    document["attributes"] |= {**store.provenance, "weights_sha256": None}
    (own / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="differ in their weights"):
        recorded(stimuli, tmp_path / "r.zarr", store=own, random=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"select": "blobs"}, "in the store of a scan; got `select` without one"),
        ({"top": 3}, "in the store of a scan; got `top` without one"),
        ({"random": 0}, "at least 1 unit of every layer"),
        ({"project": 0}, "a projection has at least 1 dimension"),
        ({"masks": {"nose": np.ones(3, bool)}}, "'nose' is none of them"),
        ({"masks": {"head": np.ones(3, bool)}}, r"bool \[3\], and the layer has shape \[10\]"),
        ({"masks": {"head": np.ones(10)}}, r"is float64 \[10\]"),
        ({"masks": {"head": np.zeros(10, bool)}}, "mask chose none in these layers"),
    ],
)
def test_impossible_recordings_raise(
    stimuli: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    given = {"layers": LAYERS, "preprocessing": SMALL, "batch_size": BATCH}
    with pytest.raises(UserError, match=said):
        recorded(stimuli, tmp_path / "r.zarr", **given, **options)
    assert not list(tmp_path.iterdir())


def test_measures_that_cannot_rank_units_raise(store: fusiform.Store, tmp_path: Path) -> None:
    for options, said in (
        ({"top": 2, "by": "q"}, "ranked by a measure of the unit alone; got 'q'"),
        ({"top": 0}, "the top is at least 1 unit"),
        ({"select": "noses"}, "a contrast names categories"),
        ({"select": "blobs", "criterion": Criterion(where="t > 1e9")}, "blobs chose none"),
    ):
        with pytest.raises(UserError, match=said):
            recorded(Path(store.provenance["stimuli"]), tmp_path / "r.zarr", store=store, **options)


def test_a_store_and_a_recording_are_not_mistaken_for_each_other(
    stimuli: Path, store: fusiform.Store, tmp_path: Path
) -> None:
    recording = recorded(stimuli, tmp_path / "r.zarr", store=store, random=2)
    with pytest.raises(UserError, match="is a recording, of fusiform record: name a store"):
        fusiform.open_store(recording.path)
    with pytest.raises(UserError, match="is a store, of fusiform scan: name a recording"):
        fusiform.open_recording(store.path)
    with pytest.raises(UserError, match="the output must not exist"):
        recorded(stimuli, tmp_path / "r.zarr", store=store, random=2)
    with pytest.raises(UserError, match="`overwrite=True` replaces fusiform recordings only"):
        recorded(stimuli, store.path, store=store, random=2, overwrite=True)
    assert recorded(stimuli, tmp_path / "r.zarr", store=store, random=3, overwrite=True)
    with pytest.raises(UserError, match=r"no recording at .*: make one with 'fusiform record"):
        fusiform.open_recording(tmp_path / "none.zarr")


def test_undecodable_stimuli_are_rows_of_nan(
    tmp_path: Path, draw_stimuli: Callable[..., Path]
) -> None:
    own = draw_stimuli(tmp_path / "set", each=6)
    (own / "noise" / "noise-2.png").write_bytes(b"no image")
    broken = own / "blobs" / "blobs-3.png"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])  # valid header, undecodable content
    given = {"layers": ["head"], "preprocessing": SMALL, "batch_size": BATCH}
    with pytest.raises(UserError, match="noise-2"):
        recorded(own, tmp_path / "r.zarr", **given)
    recording = recorded(own, tmp_path / "r.zarr", on_error="skip", **given)
    paths, status = (
        recording.stimulus_column("stimulus_path"),
        recording.stimulus_column("stimulus_status"),
    )
    gone = [path for path, why in zip(paths, status, strict=True) if why != "shown"]
    assert gone == ["blobs/blobs-3.png", "noise/noise-2.png"]
    assert paths[-1] == "noise/noise-2.png"  # it had no fold
    values = recording.part("head")
    assert np.isnan(values[status != "shown"]).all()
    assert np.isfinite(values[status == "shown"]).all()
    assert recording.counts.sum() == recording.shown.sum() == 16


# Memory


RECORD = """
import sys
from fusiform.tests import flat
from fusiform.engine.scanning.memory import peak_memory
from fusiform.engine.scanning.progress import Listener, Progress
notes = []
stimuli, output, budget, project = sys.argv[1:]
flat.record("resnet18", stimuli, output, weights="none", memory_budget=budget, device="cpu",
    layers=["layer1.1", "layer3.1", "layer4.1", "avgpool"],
    project=int(project) or None, random=None if int(project) else 4000,
    progress=Listener(notes.append))
print(peak_memory(), *[note for note in notes if note.startswith("memory")], sep="|")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where the system says what is used")
@pytest.mark.parametrize("project", [0, 16])
def test_a_recordings_peak_memory_stays_within_the_projection(
    stimuli: Path, tmp_path: Path, project: int
) -> None:
    def record_within(budget: str) -> subprocess.CompletedProcess[str]:
        arguments = [str(stimuli), str(tmp_path / "r.zarr"), budget, str(project)]
        command = [sys.executable, "-c", RECORD, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    refused = re.search(r"needs ([\d.]+) GiB of", record_within("1MiB").stderr)
    assert refused
    budget = f"{1024 * (float(refused[1]) + 0.1):.0f}MiB"
    result = record_within(budget)
    assert result.returncode == 0, result.stderr
    peak, note = result.stdout.strip().split("|")
    projected = float(note.removeprefix("memory: at most ").split()[0]) * 2**30
    assert int(peak) <= projected * 1.004  # which is displayed rounded
    assert projected <= bytes_of(budget) * 1.004


# The command line


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory, stimuli: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("commands")
    store, recording = folder / "s.zarr", folder / "s.responses.zarr"
    small = ["--layers", "layer4.1,avgpool", "--quiet"]
    sizes = ["--resize", "64", "--crop", "64", "--batch-size", "8", "--weights", "none"]
    scanned = ["scan", "resnet18", str(stimuli), "-o", str(store), "--seed", "4"]
    result = CliRunner().invoke(app, [*scanned, *small, *sizes])
    assert result.exit_code == 0, result.output
    command = ["record", "resnet18", str(stimuli), "-o", str(recording), "--from", str(store)]
    chosen = ["--select", "*", "--test", "rest", "--top", "4", "--random", "3", *small]
    result = CliRunner().invoke(app, [*command, *chosen])
    assert result.exit_code == 0, result.output
    return store, recording


def test_the_record_command_uses_the_network_of_the_store(by_command: tuple[Path, Path]) -> None:
    store, recording = map(str, by_command)
    found = fusiform.open_recording(recording)
    assert found.choices == ("blobs", "noise", "stripes", "random")
    scanned = fusiform.open_store(store).provenance
    for name in ("weights", "weights_sha256", "preprocessing", "batch_size"):
        assert found.provenance[name] == scanned[name]
    assert all(3 <= len(found.units(layer.name)) <= 15 for layer in found.layers)


def test_a_recording_takes_network_and_stimuli_from_the_store(
    by_command: tuple[Path, Path], tmp_path: Path
) -> None:
    store, named = by_command
    output, rest = tmp_path / "r.zarr", ["--random", "3", "--layers", "layer4.1,avgpool", "--quiet"]
    chosen = ["--select", "*", "--test", "rest", "--top", "4"]
    given = ["record", "--from", str(store), "-o", str(output), *chosen, *rest]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert contents(output) == contents(named)
    in_python = fusiform.record(store=store, units=UnitRequest(random=2))
    assert in_python.provenance["fingerprint"] != fusiform.open_recording(output).provenance[
        "fingerprint"]  # of other units  # fmt: skip
    assert in_python.categories == ("blobs", "noise", "stripes")


def test_a_recording_finds_the_file_of_its_weights(stimuli: Path, tmp_path: Path) -> None:
    store, weights = tmp_path / "s.zarr", tmp_path / "w.pth"
    torch.save({"ema": torchvision.models.resnet18().state_dict()}, weights)
    small = {"layers": "avgpool", "preprocessing": fusiform.Preprocessing(64, 64)}
    flat.scan("resnet18", stimuli, store, weights=f"{weights}:ema", **small)
    kept = fusiform.open_store(store).provenance
    assert kept["weights_path"] == f"{weights}:ema"
    found = fusiform.record(store=store, units=UnitRequest(random=3))
    assert found.provenance["weights_sha256"] == kept["weights_sha256"]
    weights.rename(tmp_path / "moved.pth")
    with pytest.raises(UserError, match=r"which is not where it was: name it with `weights`"):
        fusiform.record(store=store)
    moved = fusiform.Network("resnet18", f"{tmp_path / 'moved.pth'}:ema")
    assert fusiform.record(moved, store=store, units=UnitRequest(random=3)).categories


def test_a_recording_says_where_its_stimuli_were(stimuli: Path, tmp_path: Path) -> None:
    moved, store = tmp_path / "moved", tmp_path / "s.zarr"
    shutil.copytree(stimuli, moved)
    small = {"layers": "avgpool", "preprocessing": fusiform.Preprocessing(64, 64)}
    flat.scan("resnet18", moved, store, weights="none", **small)
    moved.rename(tmp_path / "elsewhere")
    said = "which does not exist: name the network and its stimuli"
    with pytest.raises(UserError, match=f"{re.escape(str(moved))}, {said}"):
        fusiform.record(store=store)
    asked = ["record", "--from", str(store), "-o", str(tmp_path / "r.responses.zarr")]
    assert said in str(CliRunner().invoke(app, asked).exception)
    fusiform.record(stimuli=tmp_path / "elsewhere", store=store, units=UnitRequest(random=3))


def test_without_a_store_network_and_stimuli_are_named(
    stimuli: Path, by_command: tuple[Path, Path]
) -> None:
    with pytest.raises(UserError, match="got no network: name it, or a scan with `store`"):
        fusiform.record(None, stimuli)
    with pytest.raises(UserError, match="got no stimuli: name it, or a scan with `store`"):
        fusiform.record("resnet18")


def test_a_network_of_ones_own_is_named_again(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    name = write_module(
        "import torch, torchvision\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return torchvision.models.resnet18().eval()\n"
    )
    small = {"layers": "avgpool", "preprocessing": fusiform.Preprocessing(64, 64)}
    for network, called in (
        (f"{name}:build", f"{name}:build"),
        (torchvision.models.resnet18(), "ResNet"),
    ):
        store = tmp_path / f"{called.replace(':', '.')}.zarr"
        flat.scan(network, stimuli, store, **small)
        with pytest.raises(UserError, match=f"was scanned with {called}: name it, as in the scan"):
            fusiform.record(store=store)
        assert fusiform.record(network, store=store, units=UnitRequest(random=1)).categories


@pytest.mark.parametrize("what", ["units", "best", "auc", "tuning", "rdm", "ceiling", "layers"])
def test_every_question_to_a_recording_has_a_table_and_json(
    by_command: tuple[Path, Path], what: str
) -> None:
    recording = str(by_command[1])
    result = CliRunner().invoke(app, ["responses", recording, what])
    assert result.exit_code == 0, result.output
    assert "avgpool" in result.output
    result = CliRunner().invoke(app, ["responses", recording, what, "--format", "json"])
    rows = json.loads(result.stdout)
    assert rows
    assert rows[0]["layer"] == "layer4.1"


def test_dissimilarity_matrices_are_exported(by_command: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "rdms.npz"
    given = ["responses", str(by_command[1]), "rdm", "-o", str(output), "--layers", "avgpool"]
    assert CliRunner().invoke(app, given).exit_code == 0
    with np.load(output) as whole:
        found = dict(whole)
    values = fusiform.open_recording(by_command[1]).part("avgpool").astype(np.float64)
    np.testing.assert_allclose(
        found["avgpool"][np.triu_indices(21, 1)], pdist(values, "correlation"), atol=1e-10
    )
    assert found["stimulus_path"][0] == "blobs/blobs-1.png"
