"""A scan from images to a store, against scipy on stored activations."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.multitest import multipletests
from torch import nn

import fusiform
from fusiform.engine.contrasts.language.criterion import DEFAULT, Criterion
from fusiform.engine.contrasts.select import select
from fusiform.engine.decoding.ahead import normalise
from fusiform.engine.decoding.pictures import prepare
from fusiform.engine.errors import UserError
from fusiform.engine.localizer import make_stimuli
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.querying.info import facts
from fusiform.engine.scanning.progress import Listener, Progress
from fusiform.engine.stimuli.images import open_image
from fusiform.engine.store.attributes import LIMITS, limit_notes
from fusiform.engine.store.store_reader import StoreReader
from fusiform.engine.values import as_record
from fusiform.kernels import contrast, pvalues
from fusiform.kernels.moments import merge

from . import flat
from .flat import load_backbone

SMALL = Preprocessing(resize=32, crop=32)
CATEGORIES = ("bodies", "faces", "scenes", "scrambled_scenes", "scrambled_words", "words")


class TinyNet(nn.Module):
    """Two convolutions, each followed by an in-place operation, and a dead unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 5, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(5, 3)
        with torch.no_grad():
            self.second.weight[0] = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.act(self.second(self.act_first(images)))
        return self.head(self.pool(hidden).flatten(1))

    def act_first(self, images: torch.Tensor) -> torch.Tensor:
        return self.first(images).relu_()


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stimuli") / "set"
    make_stimuli(directory, per_category=7, size=32, seed=3)
    return directory


@pytest.fixture(scope="module")
def net() -> TinyNet:
    torch.manual_seed(0)
    return TinyNet()


@pytest.fixture(scope="module")
def store(stimuli: Path, net: TinyNet, tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    output = tmp_path_factory.mktemp("store") / "tiny.zarr"
    return tiny_scan(net, stimuli, output)


def tiny_scan(net: nn.Module, stimuli: Path, output: Path, **options: Any) -> StoreReader:
    options = {"layers": ["first", "second", "pool", "head"], "batch_size": 4, **options}
    return flat.scan(net, stimuli, output, preprocessing=SMALL, **options)


def test_moments_in_float32_are_rounded_once(
    store: StoreReader, stimuli: Path, net: TinyNet, tmp_path: Path
) -> None:
    rounded = tiny_scan(net, stimuli, tmp_path / "32.zarr", store_dtype="float32")
    for layer in store.layers:
        for name in ("mean", "m2"):
            kept, whole = rounded.read(layer, name), store.read(layer, name)
            assert kept.dtype == np.float32
            np.testing.assert_array_equal(kept, whole.astype(np.float32))
        # The contrasts are those of the stored moments and can be recomputed from them.
        criterion = Criterion("rest", "t > 1")
        (again,) = (s for n, s in select(rounded, criterion, layers=[layer]) if n == layer)
        np.testing.assert_array_equal(again.selective, rounded.read(layer, "t") > 1)
    assert rounded.provenance["fingerprint"] != store.provenance["fingerprint"]
    with pytest.raises(UserError, match="store_dtype is float64 or float32; got 'float16'"):
        tiny_scan(net, stimuli, tmp_path / "16.zarr", store_dtype="float16")


@contextmanager
def every_activation_kept(
    model: nn.Module, layers: Sequence[str], stimuli: int
) -> Iterator[dict[str, Any]]:
    """Activations that a scan of ``model`` sees, ``[stimulus shown, unit]`` in float64."""
    kept: dict[str, Any] = {layer: [] for layer in layers}
    hooks = [
        model.get_submodule(layer).register_forward_hook(
            lambda _, __, out, layer=layer: kept[layer].append(
                out.double().flatten(1).numpy().copy()
            )
        )
        for layer in layers
    ]
    yield kept
    for hook in hooks:
        hook.remove()
    for layer, batches in kept.items():
        shown = -(-stimuli // len(batches[-1]))  # after trial and probe
        kept[layer] = np.concatenate(batches[-shown:])[:stimuli]  # without padding rows


def check_against_scipy(
    store: StoreReader, activations: dict[str, np.ndarray], rtol: float = 1e-6
) -> None:
    """Check t, df, p, q, CSI and masks of every layer against scipy and statsmodels."""
    labels = np.sort(store.tree()["stimulus_category"].values)  # shown category by category
    for layer in store.layers:
        x = activations[layer.name]
        moments = reduce(merge, store.moments(layer, ()))
        t, df = np.empty_like(moments.mean), np.empty_like(moments.mean)
        contrast.against_rest(moments.count.ravel(), moments.mean, moments.m2, t, df)
        p = pvalues.upper_tail(t, df)
        alive = np.ptp(x, axis=0) > 0
        np.testing.assert_array_equal(store.read(layer, "dead"), ~alive)
        groups = [x[labels == k][:, alive] for k in range(len(store.categories))]
        for k, group in enumerate(groups):
            others = np.concatenate([g for j, g in enumerate(groups) if j != k])
            oracle = stats.ttest_ind(group, others, equal_var=False, alternative="greater")
            np.testing.assert_allclose(t[k, alive], oracle.statistic, rtol=rtol, atol=1e-9)
            np.testing.assert_allclose(df[k, alive], oracle.df, rtol=rtol)
            np.testing.assert_allclose(p[k, alive], oracle.pvalue, rtol=rtol)
            np.testing.assert_allclose(
                store.read(layer, "t")[k, alive], oracle.statistic, rtol=rtol, atol=1e-9
            )

            tests = [
                stats.ttest_ind(group, g, equal_var=False, alternative="greater")
                for j, g in enumerate(groups)
                if j != k
            ]
            # Two constant sides: scipy has no answer; fusiform defines t 0 and p 1.
            smallest = np.min([np.nan_to_num(test.statistic, nan=0) for test in tests], axis=0)
            np.testing.assert_allclose(
                store.read(layer, "t_each")[k, alive], smallest, rtol=rtol, atol=1e-9
            )
            conjunction = np.ones(layer.units)
            conjunction[alive] = np.max(
                [np.nan_to_num(test.pvalue, nan=1) for test in tests], axis=0
            )
            q = multipletests(conjunction, method="fdr_bh")[1]
            found = store.read(layer, "q_each")[k]
            np.testing.assert_allclose(found[q < 0.5], q[q < 0.5], rtol=rtol)
            clear = np.abs(q - 0.05) > 1e-6
            np.testing.assert_array_equal(
                store.read(layer, "selective")[k][clear], (q <= 0.05)[clear]
            )

            m_t = group.mean(0)
            m_o = np.mean([g.mean(0) for j, g in enumerate(groups) if j != k], axis=0)
            csi = (m_t - m_o) / (np.abs(m_t) + np.abs(m_o))
            np.testing.assert_allclose(
                store.read(layer, "csi")[k, alive], csi, rtol=1e-6, atol=1e-9
            )


@pytest.mark.smoke
def test_a_scan_equals_scipy_on_stored_activations(
    stimuli: Path, net: TinyNet, tmp_path: Path
) -> None:
    with every_activation_kept(net, ["first", "second", "pool", "head"], 42) as kept:
        store = tiny_scan(net, stimuli, tmp_path / "kept.zarr")
    assert [layer.name for layer in store.layers] == list(kept)
    check_against_scipy(store, kept)


def test_in_place_operations_do_not_change_recorded_moments(store: StoreReader) -> None:
    assert store.read(store.layer("first"), "mean").min() < 0  # relu_ came after


def test_units_keep_their_coordinates(store: StoreReader, stimuli: Path, net: TinyNet) -> None:
    name = "faces/faces-3.png"
    with torch.inference_mode():
        pixels = prepare(open_image(stimuli / name), SMALL)[np.newaxis]
        activation = net.first(normalise(pixels, SMALL, torch.device("cpu"), torch.float32))[0]
    others = [f"faces/faces-{i}.png" for i in (1, 5, 7)]
    total = activation.double().numpy()
    for other in others:
        pixels = prepare(open_image(stimuli / other), SMALL)[np.newaxis]
        with torch.inference_mode():
            total = (
                total
                + net.first(normalise(pixels, SMALL, torch.device("cpu"), torch.float32))[0]
                .double()
                .numpy()
            )
    mean = store.dataset("first")["mean"].sel(category="faces", fold=0)
    assert mean.dims == ("channel", "y", "x")
    np.testing.assert_allclose(mean.values, total / 4, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 42])
def test_batch_size_does_not_matter(
    store: StoreReader, stimuli: Path, net: TinyNet, tmp_path: Path, batch_size: int
) -> None:
    other = tiny_scan(net, stimuli, tmp_path / "o.zarr", batch_size=batch_size)
    for layer in store.layers:
        for variable in ("mean", "m2"):
            np.testing.assert_allclose(
                other.read(layer, variable), store.read(layer, variable), rtol=1e-4, atol=1e-6
            )


def test_a_scan_repeated_gives_the_same_bits(
    store: StoreReader, stimuli: Path, net: TinyNet, tmp_path: Path
) -> None:
    again = tiny_scan(net, stimuli, tmp_path / "again.zarr", decode_workers=3)
    assert again.provenance["fingerprint"] == store.provenance["fingerprint"]
    assert_same_bits(again, store)


def assert_same_bits(a: StoreReader, b: StoreReader) -> None:
    assert a.layers == b.layers
    for layer in a.layers:
        for variable in (
            "mean",
            "m2",
            "t",
            "t_each",
            "q_each",
            "csi",
            "selective",
            "selective_fold",
        ):
            left, right = a.read(layer, variable), b.read(layer, variable)
            assert left.tobytes() == right.tobytes(), (layer.name, variable)


def test_the_fingerprint_depends_on_weights_stimuli_and_preprocessing(
    store: StoreReader, stimuli: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    prints = {store.provenance["fingerprint"]}
    prints.add(tiny_scan(TinyNet(), stimuli, tmp_path / "1.zarr").provenance["fingerprint"])
    torch.manual_seed(0)
    net = TinyNet()
    prints.add(tiny_scan(net, stimuli, tmp_path / "2.zarr", folds=1).provenance["fingerprint"])
    prints.add(
        flat.scan(
            net, stimuli, tmp_path / "3.zarr", layers="first", batch_size=4, preprocessing=SMALL
        ).provenance["fingerprint"]
    )
    changed = flat.scan(
        net, stimuli, tmp_path / "4.zarr", layers=["first", "second", "pool", "head"], batch_size=4,
        preprocessing={"resize": 34, "crop": 32},
    )  # fmt: skip
    assert changed.provenance["preprocessing"]["resize"] == 34
    prints.add(changed.provenance["fingerprint"])
    assert len(prints) == 5


def test_provenance_describes_the_scan(store: StoreReader, stimuli: Path) -> None:
    said = store.provenance
    assert said["status"] == "complete"
    assert said["model"] == "TinyNet"
    assert said["preprocessing"]["crop"] == 32
    assert said["criterion"] == as_record(DEFAULT)
    assert said["versions"]["torch"] == torch.__version__.split("+")[0]
    assert store.categories == CATEGORIES
    assert store.counts.tolist() == [[4, 3]] * 6
    tree = store.tree()
    assert tree["stimulus_path"].values[0] == "bodies/bodies-1.png"
    assert tree["stimulus_fold"].values[:4].tolist() == [0, 1, 0, 1]


def test_a_scan_with_one_fold(
    stimuli: Path, net: TinyNet, store: StoreReader, tmp_path: Path
) -> None:
    single = tiny_scan(net, stimuli, tmp_path / "one.zarr", folds=1)
    assert single.counts.tolist() == [[7]] * 6
    layer = single.layer("second")
    (whole,), halves = single.moments(layer, ()), store.moments(layer, ())
    np.testing.assert_allclose(whole.m2, merge(*halves).m2, rtol=1e-5, atol=1e-12)
    assert all(row.replicated is None and row.csi is None for row in fusiform.summary(single))


def test_notes_of_the_set_are_kept_in_the_store(
    stimuli: Path, net: TinyNet, tmp_path: Path
) -> None:
    extra = next(path for path in stimuli.iterdir() if path.is_dir()) / "readme.txt"
    extra.touch()
    notes: list[str] = []
    try:
        found = tiny_scan(net, stimuli, tmp_path / "n.zarr", progress=Listener(notes.append))
    finally:
        extra.unlink()
    note = f"{extra.parent.name}: passed over 1 files that are not images by name: readme.txt"
    assert found.provenance["notes"] == [note]
    assert note in notes
    assert ("note", note) in list(facts(fusiform.info(tmp_path / "n.zarr")))


def test_a_limited_number_of_notes_is_kept_and_the_rest_counted() -> None:
    most = LIMITS["notes"]
    assert limit_notes(["a", "b"]) == ["a", "b"]
    first = limit_notes([f"n{i}" for i in range(most + 5)])
    assert (len(first), first[-1]) == (most, "and 6 more notes")
    assert limit_notes([*first, "another"])[-1] == "and 7 more notes"
    assert limit_notes(first) == first


def test_progress_is_reported(stimuli: Path, net: TinyNet, tmp_path: Path) -> None:
    events: list[Progress] = []
    notes: list[str] = []
    tiny_scan(net, stimuli, tmp_path / "p.zarr", progress=Listener(notes.append, events.append))
    shown = [event.done for event in events if event.stage == "scan"]
    assert shown == [*range(4, 42, 4), 42]
    assert events[-1].stage == "contrasts"
    assert events[-1].done == events[-1].total
    assert all(event.peak_bytes > 0 for event in events)
    assert any("42 stimuli, 6 categories, 2 folds" in note for note in notes)


def test_a_network_that_overflows_is_counted_and_never_selected(
    stimuli: Path, tmp_path: Path
) -> None:
    class Overflows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Flatten()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            values = images[:, 0, :4, :4].clone()
            values[:, 0, 0] = torch.where(values[:, 1, 1] > values[:, 1, 1].mean(), torch.inf, 1.0)
            return self.layer(values)

    store = flat.scan(
        Overflows(), stimuli, tmp_path / "inf.zarr", layers="layer", preprocessing=SMALL
    )
    layer = store.layers[0]
    assert store.read(layer, "nonfinite").tolist() == [True] + [False] * 15
    assert not store.read(layer, "selective")[:, 0].any()
    assert fusiform.summary(store)[0].nonfinite == 1


def test_a_model_in_double_precision_is_scanned(
    stimuli: Path, tmp_path: Path, store: StoreReader
) -> None:
    torch.manual_seed(0)
    double = tiny_scan(TinyNet().double(), stimuli, tmp_path / "double.zarr")
    assert {layer.dtype for layer in double.layers} == {"float64"}
    layer = double.layer("pool")
    np.testing.assert_allclose(
        double.read(layer, "mean"), store.read(store.layer("pool"), "mean"), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_clip_loaded_from_a_file_gives_the_bits_of_the_original_model(
    stimuli: Path, tmp_path: Path
) -> None:
    import open_clip

    from fusiform.engine.networks.weights import quiet

    torch.manual_seed(5)
    with quiet():
        clip = open_clip.create_model("RN50").eval()
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    options = {"layers": ["layer1.0", "layer4.2", "attnpool"], "batch_size": 14}
    groups = {"faces": ["faces"], "words": ["words"]}
    preprocessing = load_backbone("clip:RN50", "none").preprocessing
    direct = flat.scan(
        clip.visual,
        stimuli,
        tmp_path / "a.zarr",
        groups=groups,
        preprocessing=preprocessing,
        **options,
    )
    from_file = flat.scan(
        "clip:RN50", stimuli, tmp_path / "b.zarr", groups=groups, weights=str(tmp_path / "clip.pt"),
        **options,
    )  # fmt: skip
    assert from_file.provenance["weights_sha256"] == direct.provenance["weights_sha256"]
    assert_same_bits(from_file, direct)


@pytest.mark.parametrize("source", ["drawn, untrained", "photographs, trained"])
def test_a_resnet18_scan_equals_scipy_on_stored_activations(
    source: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    layers = ["layer1.0", "layer3.1", "layer4.1", "avgpool"]
    if source.startswith("drawn"):
        directory, groups, weights = tmp_path / "set", None, "none"
        make_stimuli(directory, per_category=8, size=128, seed=1)
    else:
        testdata = request.getfixturevalue("testdata")
        weights = str(testdata / "weights" / "resnet18_imagenet_compressed.safetensors")
        directory = tmp_path / "floc"
        for folder in ("adult", "limb", "word"):
            (directory / folder).mkdir(parents=True)
            for i in range(1, 13):
                name = f"{folder}/{folder}-{i}.jpg"
                (directory / name).symlink_to(testdata / "stimuli" / "floc" / name)
        groups = {"faces": ["adult"], "bodies": ["limb"], "characters": ["word"]}
    model = load_backbone("resnet18", weights).model
    with every_activation_kept(model, layers, 48 if groups is None else 36) as kept:
        store = flat.scan(
            model, directory, tmp_path / "r18.zarr", groups=groups, layers=layers,
            preprocessing=Preprocessing(128, 112), batch_size=16,
        )  # fmt: skip
    check_against_scipy(store, kept)


def test_a_failed_overwriting_scan_keeps_the_earlier_store_and_its_draft(
    store: StoreReader, stimuli: Path, net: TinyNet, tmp_path: Path
) -> None:
    shutil.copytree(stimuli, tmp_path / "set")
    kept = tiny_scan(net, tmp_path / "set", tmp_path / "kept.zarr")
    truncated = tmp_path / "set" / "words" / "words-6.png"
    truncated.write_bytes(truncated.read_bytes()[:200])
    with pytest.raises(fusiform.UserError, match=r"words-6\.png"):
        tiny_scan(net, tmp_path / "set", kept.path, overwrite=True)
    assert_same_bits(fusiform.open_store(kept.path), store)
    assert {path.name for path in tmp_path.iterdir()} == {"kept.zarr", "kept.zarr.partial", "set"}
    shutil.copyfile(stimuli / "words" / "words-6.png", truncated)
    tiny_scan(net, tmp_path / "set", kept.path, overwrite=True)
    assert_same_bits(fusiform.open_store(kept.path), store)
    assert {path.name for path in tmp_path.iterdir()} == {"kept.zarr", "set"}


def test_an_output_reached_through_a_link_is_replaced_at_its_target(
    store: StoreReader, stimuli: Path, net: TinyNet, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    tiny_scan(net, stimuli, tmp_path / "scratch" / "o.zarr", layers="head")
    (tmp_path / "o.zarr").symlink_to(tmp_path / "scratch" / "o.zarr")
    again = tiny_scan(net, stimuli, tmp_path / "o.zarr", overwrite=True)
    assert_same_bits(fusiform.open_store(tmp_path / "o.zarr"), store)
    assert again.path == tmp_path / "scratch" / "o.zarr"
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["o.zarr"]


@pytest.mark.parametrize("batch_size", [8, 16, 32])
def test_a_short_last_batch_keeps_constant_units_constant(
    stimuli: Path, tmp_path: Path, batch_size: int
) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 128)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            same = torch.linspace(-1, 1, 64).expand(len(images), 64)
            return self.layer(same)

    torch.manual_seed(0)
    store = tiny_scan(
        Constant(), stimuli, tmp_path / "c.zarr", layers="layer", batch_size=batch_size
    )
    assert store.read(store.layers[0], "dead").all()
    assert not store.read(store.layers[0], "selective_fold").any()


def test_weights_given_with_a_module_raise(stimuli: Path, net: TinyNet, tmp_path: Path) -> None:
    with pytest.raises(fusiform.UserError, match="the weights it has"):
        tiny_scan(net, stimuli, tmp_path / "o.zarr", weights="trained.pth")


def test_an_unknown_preprocessing_override_raises(
    stimuli: Path, net: TinyNet, tmp_path: Path
) -> None:
    with pytest.raises(fusiform.UserError, match="did you mean crop"):
        flat.scan(net, stimuli, tmp_path / "o.zarr", preprocessing={"cropp": 32})


def test_another_activation_function_changes_the_fingerprint(stimuli: Path, tmp_path: Path) -> None:
    prints = set()
    for function in (nn.GELU(), nn.ReLU()):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 2, 3), function)
        scanned = tiny_scan(net, stimuli, tmp_path / f"{len(prints)}.zarr", layers="1")
        prints.add(scanned.provenance["fingerprint"])
    assert len(prints) == 2


def test_a_store_has_the_permissions_of_any_new_folder(store: StoreReader, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert store.path.stat().st_mode == (tmp_path / "new").stat().st_mode
