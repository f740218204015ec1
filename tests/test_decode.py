"""Images are preprocessed as by the network's own library, in plan order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import ResNet18_Weights, ResNet50_Weights
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from fusiform import Network
from fusiform.engine.decoding import ahead as decode
from fusiform.engine.decoding.ahead import normalise
from fusiform.engine.decoding.pictures import prepare
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import Plan, make_plan
from fusiform.engine.networks.backbones import overridden, preprocessing_of
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue
from fusiform.engine.stimuli.images import open_image

from .flat import decode_ahead, load_backbone

Transform = Callable[[Image.Image], torch.Tensor]
CPU = torch.device("cpu")

# Portrait, landscape, odd, square, exactly the crop's or the resized size, tiny, extreme.
SIZES = [
    (200, 300), (300, 200), (301, 487), (640, 481), (256, 256), (257, 255), (224, 224), (235, 235),
    (61, 97), (33, 33), (17, 200), (1000, 233),
]  # fmt: skip


def picture(width: int, height: int, bands: int = 3) -> Image.Image:
    shape = (height, width, bands) if bands == 3 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def shown(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    pixels = np.stack([prepare(image, preprocessing)])
    return normalise(pixels, preprocessing, CPU, torch.float32)[0]


def from_torchvision(entry: ResNet18_Weights | ResNet50_Weights) -> tuple[Preprocessing, Transform]:
    preset = entry.transforms()
    (resize,), (crop,) = preset.resize_size, preset.crop_size
    mean, std = tuple(preset.mean), tuple(preset.std)
    return Preprocessing(resize, crop, preset.interpolation.value, mean, std), preset


def from_timm(name: str) -> tuple[Preprocessing, Transform]:
    chosen = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**chosen)
    return load_backbone(f"timm:{name}", "none").preprocessing, transform


@pytest.fixture(scope="module")
def libraries() -> dict[str, tuple[Preprocessing, Transform]]:
    clip = load_backbone("clip:RN50", "none").preprocessing
    _, _, clip_transform = open_clip.create_model_and_transforms("RN50")
    return {
        "torchvision resnet18": (
            load_backbone("resnet18", "none").preprocessing,
            ResNet18_Weights.DEFAULT.transforms(),
        ),
        "torchvision resnet50 v2": from_torchvision(ResNet50_Weights.IMAGENET1K_V2),
        "clip RN50": (clip, clip_transform),
        "timm resnet18 bicubic": from_timm("resnet18"),
        "timm bilinear": from_timm("test_resnet"),
        "timm squash": from_timm("tf_efficientnetv2_b3.in21k_ft_in1k"),
    }


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(
    "library",
    [
        "torchvision resnet18",
        "torchvision resnet50 v2",
        "clip RN50",
        "timm resnet18 bicubic",
        "timm bilinear",
        "timm squash",
    ],
)
def test_preprocessing_gives_the_bits_of_the_library(
    libraries: dict[str, tuple[Preprocessing, Transform]], library: str, bands: int
) -> None:
    preprocessing, transform = libraries[library]
    for size in SIZES:
        image = picture(*size, bands)
        expected = transform(image.convert("RGB"))
        result = shown(image, preprocessing)
        assert torch.equal(result, expected), size


def test_preprocessing_of_the_libraries_differs(
    libraries: dict[str, tuple[Preprocessing, Transform]],
) -> None:
    assert len({preprocessing for preprocessing, _ in libraries.values()}) == len(libraries)
    assert libraries["timm squash"][0].squash
    assert libraries["timm bilinear"][0].interpolation == "bilinear"
    assert libraries["clip RN50"][0].interpolation == "bicubic"
    assert libraries["torchvision resnet50 v2"][0].resize == 232


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 48),
    st.integers(-17, 17),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
def test_any_size_is_resized_and_cropped_by_torchvisions_rules(
    width: int, height: int, crop: int, margin: int, interpolation: str
) -> None:
    image, resize = picture(width, height), max(1, crop + margin)
    resized = v2.resize(image, [resize], InterpolationMode(interpolation))
    expected = np.asarray(v2.center_crop(resized, [crop, crop]))
    result = prepare(image, Preprocessing(resize, crop, interpolation))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("crop_pct", [1.15, 1.1, 1.02])
def test_a_crop_larger_than_the_image_is_padded_like_timm(
    monkeypatch: pytest.MonkeyPatch, crop_pct: float, squash: bool
) -> None:
    # Like volo_d4_448, whose smallest version has 200 million parameters.
    changed = {"crop_pct": crop_pct, "crop_mode": "squash" if squash else "center"}
    create_model = timm.create_model

    def create(*args: Any, **options: Any) -> Any:
        model = create_model(*args, **options)
        model.pretrained_cfg = {**model.pretrained_cfg, **changed}
        return model

    monkeypatch.setattr(timm, "create_model", create)
    preprocessing = load_backbone("timm:test_resnet", "none").preprocessing
    config = timm.get_pretrained_cfg("test_resnet").to_dict() | changed
    chosen = timm.data.resolve_data_config(pretrained_cfg=config)
    assert preprocessing.crop > preprocessing.resize == int(preprocessing.crop / crop_pct)
    assert preprocessing.geometry.endswith("crop 160, padded with black")
    for size in SIZES:
        image = picture(*size)
        expected = timm.data.create_transform(**chosen)(image)
        assert torch.equal(shown(image, preprocessing), expected), size
    network = Network("timm:test_resnet", weights="none", preprocessing={"crop": 170})
    assert preprocessing_of(network).crop == 170
    with pytest.raises(UserError, match="got crop 257 of 256: lower `crop` or raise"):
        overridden(Preprocessing(), {"crop": 257})


def test_squash_keeps_the_whole_image_and_ignores_proportions() -> None:
    image = Image.new("RGB", (90, 30), "blue")
    image.paste("red", (0, 0, 45, 30))
    result = prepare(image, Preprocessing(20, 20, "nearest", squash=True))
    assert (result[:, :10] == (255, 0, 0)).all()
    assert (result[:, 10:] == (0, 0, 255)).all()


def test_half_precision_is_rounded_after_the_arithmetic() -> None:
    preprocessing = Preprocessing(32, 32)
    pixels = np.stack([prepare(picture(32, 32), preprocessing)])
    full = normalise(pixels, preprocessing, CPU, torch.float32)
    half = normalise(pixels, preprocessing, CPU, torch.float16)
    assert half.dtype == torch.float16
    assert torch.equal(half, full.half())


def test_normalising_does_not_change_its_input() -> None:
    pixels = np.stack([prepare(picture(32, 32), Preprocessing(32, 32))])
    before = pixels.copy()
    normalise(pixels, Preprocessing(32, 32), CPU, torch.float32)
    np.testing.assert_array_equal(pixels, before)


# Decoding ahead

SMALL = Preprocessing(40, 32)


@pytest.fixture
def planned(stimuli: Path) -> tuple[Catalogue, Plan]:
    catalogue = read_catalogue(stimuli)
    return catalogue, make_plan(catalogue.labels, catalogue.categories, batch_size=4)


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_batches_arrive_in_plan_order_with_their_own_pixels(
    planned: tuple[Catalogue, Plan], workers: int
) -> None:
    catalogue, plan = planned
    batches = list(decode_ahead(catalogue, plan, SMALL, workers))
    assert [batch.runs for batch, _, _ in batches] == [batch.runs for batch in plan.batches()]
    shown = np.concatenate([batch.stimuli for batch, _, _ in batches])
    assert shown.tolist() == plan.order.tolist()
    assert [len(pixels) for _, pixels, _ in batches] == [4, 4, 4, 4, 2]
    for batch, pixels, failed in batches:
        assert not failed
        assert pixels.dtype == np.uint8
        for stimulus, found in zip(batch.stimuli, pixels, strict=True):
            expected = prepare(open_image(catalogue.path(stimulus)), SMALL)
            np.testing.assert_array_equal(found, expected)
    for thread in decoding_threads():
        thread.join(timeout=10)
    assert not decoding_threads()


@pytest.mark.parametrize("first", [1, 4, 5])
def test_decoding_can_start_at_any_batch(planned: tuple[Catalogue, Plan], first: int) -> None:
    catalogue, plan = planned
    everything = list(decode_ahead(catalogue, plan, SMALL, 2))
    rest = list(decode_ahead(catalogue, plan, SMALL, 2, first=first))
    assert [part.batch.runs for part in rest] == [part.batch.runs for part in everything[first:]]
    for part, same in zip(rest, everything[first:], strict=True):
        np.testing.assert_array_equal(part.pixels, same.pixels)


@pytest.mark.parametrize("workers", [1, 3])
def test_an_undecodable_image_is_named_and_ends_the_threads(
    planned: tuple[Catalogue, Plan], workers: int
) -> None:
    catalogue, plan = planned
    for stimulus in plan.order[[9, 11]]:  # both in the third batch; the first is named
        path = catalogue.path(stimulus)
        path.write_bytes(path.read_bytes()[:200])
    seen = []
    with pytest.raises(UserError) as caught:
        seen.extend(part.batch for part in decode_ahead(catalogue, plan, SMALL, workers))
    assert str(catalogue.path(plan.order[9])) in str(caught.value)
    assert len(seen) == 2
    for thread in decoding_threads():
        thread.join(timeout=10)
    assert not decoding_threads()


def test_leaving_early_ends_the_decoding_threads(planned: tuple[Catalogue, Plan]) -> None:
    batches = decode_ahead(*planned, SMALL, 2)
    next(batches)
    batches.close()
    for thread in decoding_threads():
        thread.join(timeout=10)
    assert not decoding_threads()


def test_only_a_few_batches_are_decoded_ahead(
    planned: tuple[Catalogue, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []

    def read(catalogue: Catalogue, stimulus: int) -> bytes:
        begun.append(catalogue.path(stimulus))
        return begun[-1].read_bytes()

    _ = planned[0].contents
    monkeypatch.setattr(Catalogue, "read", read)
    batches = decode_ahead(*planned, SMALL, 1)
    next(batches)
    time.sleep(0.5)
    assert len(begun) == 4 * 4  # the current batch and three more of the five
    batches.close()


def test_a_hanging_decoding_worker_raises_one_line(
    planned: tuple[Catalogue, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, plan = planned
    _ = catalogue.contents
    woken = threading.Event()

    def hangs(catalogue: Catalogue, stimulus: int) -> bytes:
        if stimulus == plan.order[5]:
            woken.wait()
        return catalogue.path(stimulus).read_bytes()

    monkeypatch.setattr(Catalogue, "read", hangs)
    monkeypatch.setattr(decode, "_PATIENCE", 0.3)
    monkeypatch.setattr(decode, "_LOOK_EVERY", 0.1)
    looks: list[None] = []
    for skip in (False, True):
        batches = decode_ahead(
            catalogue, plan, SMALL, 2, skip=skip, look=lambda: looks.append(None)
        )
        next(batches)
        with pytest.raises(UserError, match="its file system may hang"):
            next(batches)
    assert looks
    assert all(thread.daemon for thread in decoding_threads())
    woken.set()


def test_any_exception_of_a_decoding_worker_reaches_the_scan(
    planned: tuple[Catalogue, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise SystemExit("dead")

    monkeypatch.setattr(decode, "picture_of", dies)
    with pytest.raises(SystemExit, match="dead"):
        next(decode_ahead(*planned, SMALL, 2))


def test_failing_images_are_skipped_when_allowed(planned: tuple[Catalogue, Plan]) -> None:
    catalogue, plan = planned
    _ = catalogue.contents
    cut, gone, changed = (catalogue.path(stimulus) for stimulus in plan.order[[9, 11, 12]])
    cut.write_bytes(cut.read_bytes()[:200])
    gone.unlink()
    Image.new("RGB", (40, 40)).save(changed)
    parts = list(decode_ahead(catalogue, plan, SMALL, 2, skip=True))
    assert [sorted(part.failed) for part in parts] == [[], [], [1, 3], [0], []]
    assert "has changed since" in parts[3].failed[0]
    assert (parts[2].pixels[1] == 128).all()


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1)])
def test_resizing_an_extreme_aspect_ratio_raises_instead_of_filling_memory(
    size: tuple[int, int],
) -> None:
    with pytest.raises(UserError, match="crop the image"):
        prepare(Image.new("L", size), Preprocessing(256, 224))
