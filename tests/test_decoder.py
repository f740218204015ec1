"""JPEG files decoded by torchvision on CPU and GPU: near-identical pixels and the same errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.io
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as v2
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.engine.decoding import buffers, jpegs
from fusiform.engine.decoding.ahead import Decoded
from fusiform.engine.decoding.pictures import prepare
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import Plan, make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.forward import _filled
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue
from fusiform.engine.stimuli.images import UnfitStimulus, open_image, plain_jpeg_size

from . import flat
from .flat import decode_ahead
from .fuzz.small import contents
from .test_resume import Net, stopping_after

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = Preprocessing(20, 16, decoder="torchvision")
BY_PILLOW = Preprocessing(20, 16)
SIZES = [(640, 480), (301, 487), (100, 90), (1000, 233), (61, 97)]
Planned = tuple[Catalogue, Plan]


def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coloured blobs with noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8))
    noisy = np.asarray(coarse.resize((width, height))) + rng.integers(-20, 20, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(drawn(48, 32), exif=exif)


# Every kind of file, and whether torchvision decodes it.
FILES: dict[str, tuple[bytes, bool]] = {
    "colour": (saved(drawn(48, 40)), True),
    "grey": (saved(drawn(40, 48).convert("L")), True),
    "progressive": (saved(drawn(64, 40), progressive=True), True),
    "not subsampled": (saved(drawn(40, 40), subsampling=0), True),
    "png": (saved(drawn(48, 40), "PNG"), False),
    "webp": (saved(drawn(48, 40), "WEBP"), False),
    "cmyk": (saved(drawn(48, 40).convert("CMYK")), False),
    "rgb in a jpeg": (saved(drawn(48, 40), keep_rgb=True), False),
    "turned": (turned(), False),
    "something behind": (saved(drawn(48, 40)) + b"\0\0", False),
}


@pytest.fixture
def mixed(tmp_path: Path) -> Planned:
    """Two categories with every kind of file, in batches of four."""
    for category in ("a", "b"):
        (tmp_path / "set" / category).mkdir(parents=True)
        for number, (content, _) in enumerate(FILES.values()):
            (tmp_path / "set" / category / f"{number}.jpg").write_bytes(content)
    catalogue = read_catalogue(tmp_path / "set")
    return catalogue, make_plan(catalogue.labels, catalogue.categories, batch_size=4)


def all_pixels(parts: list[Decoded]) -> NDArray[np.uint8]:
    return np.concatenate([np.asarray(part.pixels) for part in parts])


def differences(files: list[bytes], preprocessing: Preprocessing) -> tuple[int, float]:
    """Largest pixel difference from Pillow, and largest mean difference of an image."""
    decoder = jpegs.Jpegs(preprocessing, CPU)
    found = []
    for content in files:
        jpeg = decoder.read(Path("x"), content)
        assert jpeg is not None
        (picture,) = decoder.prepare([jpeg])
        assert picture is not None
        ours = prepare(open_image(Path("x"), content), preprocessing).astype(int)
        found.append(np.abs(ours - picture.numpy()))
    return max(int(one.max()) for one in found), max(float(one.mean()) for one in found)


# Pixels


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("squash", [False, True])
def test_torchvision_pixels_equal_pillows_up_to_rounding(interpolation: str, squash: bool) -> None:
    files = [saved(drawn(*size, seed), quality=90) for seed, size in enumerate(SIZES)]
    for resize in (194, 224, 256):
        asked = Preprocessing(resize, 224, interpolation, squash=squash, decoder="torchvision")
        largest, mean = differences(files, asked)
        assert largest <= 2
        assert mean < 0.3


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_torchvision_pixels_of_photographs_equal_pillows_up_to_rounding(
    testdata: Path, interpolation: str
) -> None:
    paths = sorted((testdata / "stimuli" / "floc").glob("*/*.jpg"))[::20]
    files = [path.read_bytes() for path in paths]
    for resize in (224, 288):
        asked = Preprocessing(resize, 224, interpolation, decoder="torchvision")
        largest, mean = differences(files, asked)
        assert largest <= 2
        assert mean < 0.3


def test_torchvision_decodes_only_plain_jpegs(
    mixed: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bytes] = []

    def listening(files: list[torch.Tensor], device: torch.device) -> Any:
        given.extend(bytes(file.numpy()) for file in files)
        return _decode_jpegs(files, device)

    monkeypatch.setattr(jpegs, "decode_jpegs", listening)
    catalogue, plan = mixed
    found = all_pixels(list(decode_ahead(catalogue, plan, SMALL, 2)))
    pillows = all_pixels(list(decode_ahead(catalogue, plan, BY_PILLOW, 2)))
    kinds = list(FILES.values())
    for row, stimulus in enumerate(plan.order):
        content, plain = kinds[int(catalogue.path(stimulus).stem)]
        assert (plain_jpeg_size(Path("x"), content) is not None) == plain
        assert np.abs(found[row].astype(int) - pillows[row]).max() <= (2 if plain else 0)
    plain_ones = sorted(content for content, plain in kinds if plain)
    assert sorted(given[1:]) == sorted([*plain_ones, *plain_ones])


@pytest.mark.smoke
def test_torchcodec_and_torchvision_decode_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    if not find_spec("torchcodec"):
        pytest.skip("torchcodec is not installed")
    import torchcodec.decoders  # noqa: F401  # or torchvision would be compared with itself

    plain = [content for content, plain in FILES.values() if plain]
    files = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in plain]
    by_torchcodec = jpegs.decode_jpegs(files, CPU)
    assert not recwarn.list
    monkeypatch.setattr(jpegs, "_library", jpegs._library.__wrapped__)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    by_torchvision = jpegs.decode_jpegs(files, CPU)  # deprecated since 0.29, with a warning
    assert len(files) == len(by_torchcodec) > 3
    assert all(map(torch.equal, by_torchcodec, by_torchvision))


@pytest.mark.parametrize("workers", [1, 3])
def test_decoded_bits_do_not_depend_on_the_number_of_threads(mixed: Planned, workers: int) -> None:
    one = all_pixels(list(decode_ahead(*mixed, SMALL, 2)))
    other = all_pixels(list(decode_ahead(*mixed, SMALL, workers)))
    np.testing.assert_array_equal(one, other)
    rest = all_pixels(list(decode_ahead(*mixed, SMALL, workers, first=2)))
    np.testing.assert_array_equal(one[8:], rest)


def test_large_jpegs_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpegs, "_MOST_PIXELS", 48 * 40)
    decoder = jpegs.Jpegs(SMALL, CPU)
    assert decoder.read(Path("x"), saved(drawn(48, 40))) is not None
    assert decoder.read(Path("x"), saved(drawn(48, 41))) is None
    assert decoder.read(Path("x"), saved(drawn(4, 40))) is None  # resized to 20 x 200


# Errors


@pytest.mark.parametrize("device", [CPU, GPU])
def test_damaged_files_raise_the_same_errors_as_pillow(
    mixed: Planned, gpu: Gpu, device: torch.device
) -> None:
    catalogue, plan = mixed
    _ = catalogue.contents
    plain = [s for s in plan.order if int(catalogue.path(s).stem) in (0, 1, 2, 3)]
    cut, broken, gone, changed = (catalogue.path(stimulus) for stimulus in plain[:4])
    cut.write_bytes(cut.read_bytes()[:300])
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200] + b"\xff\xd9")
    fresh = read_catalogue(catalogue.path(0).parents[1])
    _ = fresh.contents
    gone.unlink()
    changed.write_bytes(saved(drawn(40, 40, seed=5)))

    def failures(preprocessing: Preprocessing, on: torch.device) -> list[dict[int, str]]:
        parts = decode_ahead(fresh, plan, preprocessing, 2, skip=True, device=on)
        return [part.failed for part in parts]

    expected = failures(BY_PILLOW, CPU)
    assert sum(map(len, expected)) == 4
    assert failures(SMALL, device) == expected
    with pytest.raises(UnfitStimulus, match='restore it, or leave it out with `on_error="skip"`'):
        list(decode_ahead(fresh, plan, SMALL, 2, device=device))


def test_a_file_that_only_torchvision_refuses_is_left_to_pillow(
    mixed: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = jpegs.decode_jpegs

    def picky(files: list[torch.Tensor], device: torch.device) -> Any:
        if len(files[0]) == len(FILES["progressive"][0]):
            raise RuntimeError("Unsupported")
        return decoder(files, device)

    before = all_pixels(list(decode_ahead(*mixed, SMALL, 1)))
    pillows = all_pixels(list(decode_ahead(*mixed, BY_PILLOW, 1)))
    monkeypatch.setattr(jpegs, "decode_jpegs", picky)
    catalogue, plan = mixed
    found = all_pixels(list(decode_ahead(*mixed, SMALL, 1)))
    for row, stimulus in enumerate(plan.order):
        refused = catalogue.path(stimulus).stem == "2"
        np.testing.assert_array_equal(found[row], (pillows if refused else before)[row])


def test_out_of_memory_is_not_taken_for_a_damaged_file(
    mixed: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def full(files: list[torch.Tensor], device: torch.device) -> Any:
        asked.append(len(files))
        if len(asked) == 1:
            return [torch.zeros(3, 16, 16, dtype=torch.uint8)]
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")

    monkeypatch.setattr(jpegs, "decode_jpegs", full)
    with pytest.raises(torch.OutOfMemoryError):
        next(decode_ahead(*mixed, SMALL, 1, skip=True))


# On a GPU, without nvJPEG


class Gpu:
    """A fake GPU that records torchvision's calls and the streams used."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, torch.device]] = []
        self.events: list[str] = []

    def decode_jpegs(self, files: Any, device: torch.device) -> list[torch.Tensor]:
        assert isinstance(files, list)
        self.calls.append((len(files), device))
        self.events.append("decode")
        return _decode_jpegs(files, CPU)

    def synchronize(self) -> None:
        self.events.append("synchronised")

    def record_event(self) -> Any:
        return SimpleNamespace(synchronize=lambda: None)

    def wait_event(self, copied: Any) -> None:
        assert copied
        self.events.append("network waits")

    @contextmanager
    def current(self, stream: Gpu) -> Any:
        self.events.append("own stream")
        yield
        self.events.append("network's stream")


_decode_jpegs = jpegs.decode_jpegs


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu, empty = Gpu(), torch.empty

    def not_pinned(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        return empty(*shape, **options)

    monkeypatch.setattr(jpegs, "decode_jpegs", gpu.decode_jpegs)
    monkeypatch.setattr(torch, "empty", not_pinned)
    monkeypatch.setattr(buffers, "_copied", lambda pixels, device: torch.tensor(pixels))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "stream", gpu.current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: gpu)
    recorded = lambda tensor, stream: gpu.events.append("recorded")  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "record_stream", recorded)
    return gpu


def test_a_batch_is_decoded_together_on_its_own_cuda_stream(mixed: Planned, gpu: Gpu) -> None:
    catalogue, plan = mixed
    parts = list(decode_ahead(catalogue, plan, SMALL, 1, device=GPU))
    calls, events = gpu.calls[1:], gpu.events[1:]
    assert gpu.calls[0] == (1, GPU)  # whether nvJPEG exists
    assert all(device == GPU for _, device in calls)
    per_batch = [
        sum(list(FILES.values())[int(catalogue.path(s).stem)][1] for s in part.batch.stimuli)
        for part in parts
    ]
    assert [files for files, _ in calls] == [files for files in per_batch if files]
    assert all(isinstance(part.pixels, torch.Tensor) for part in parts)
    alone = all_pixels(list(decode_ahead(catalogue, plan, SMALL, 2)))
    np.testing.assert_array_equal(all_pixels(parts), alone)
    of_the_network = ("network waits", "recorded")
    expected: list[str] = []
    for files in per_batch:
        decoding = ["synchronised", "decode"] if files else []
        expected += ["own stream", *decoding, "network's stream"]
    expected.append("synchronised")  # copies under way, before their buffers are released
    assert [event for event in events if event not in of_the_network] == expected
    waits = [event for event in events if event in of_the_network]
    assert waits == [*of_the_network] * len(parts)


def test_pictures_of_one_size_are_resized_together_to_the_same_bits(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    del gpu
    sizes = [(48, 40)] * 3 + [(64, 40)] + [(48, 40)] * 2
    contents = [saved(drawn(*size, seed)) for seed, size in enumerate(sizes)]
    resized: list[int] = []
    resize = v2.resize

    def counted(images: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        resized.append(len(images))
        return resize(images, *arguments, **options)

    monkeypatch.setattr(v2, "resize", counted)
    there, here = jpegs.Jpegs(SMALL, GPU), jpegs.Jpegs(SMALL, CPU)
    files = [file for one in contents if (file := there.read(Path("x"), one))]
    together = [picture for picture in there.prepare(files) if picture is not None]
    assert resized == [3, 1, 2]
    alone = [picture for picture in here.prepare(files) if picture is not None]
    assert len(together) == len(alone) == len(files)
    assert all(map(torch.equal, together, alone))


def test_a_decoding_call_is_limited_to_the_devices_pixels(
    mixed: Planned, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, plan = mixed[0], replace(mixed[1], batch_size=10)
    whole = all_pixels(list(decode_ahead(catalogue, plan, SMALL, 2, device=GPU)))
    several = max(files for files, _ in gpu.calls)
    gpu.calls.clear()
    monkeypatch.setattr(jpegs, "_MOST_PIXELS", 64 * 40 + 40 * 40)
    cut = all_pixels(list(decode_ahead(catalogue, plan, SMALL, 2, device=GPU)))
    assert max(files for files, _ in gpu.calls) == 2 < several
    np.testing.assert_array_equal(cut, whole)
    assert jpegs.Jpegs(SMALL, GPU).device_bytes == 30 * (64 * 40 + 40 * 40)
    assert jpegs.Jpegs(SMALL, CPU).device_bytes == 0


def test_a_short_batch_is_padded_on_the_device() -> None:
    plan = make_plan(np.repeat([0, 1], 5), ["a", "b"], batch_size=4)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    filled = _filled(torch.from_numpy(pixels), plan)
    assert isinstance(filled, torch.Tensor)
    np.testing.assert_array_equal(filled, _filled(pixels, plan))
    np.testing.assert_array_equal(filled, pixels[[0, 1, 1, 1]])


def test_a_torchvision_without_the_decoder_raises_before_the_scan(
    jpeg_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Any:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    net, seen = Net(), list[torch.Tensor]()
    net.sees = seen.append
    monkeypatch.setattr(jpegs, "decode_jpegs", none)
    with pytest.raises(UserError, match=r"nvJPEG on a GPU; on cpu .* not compiled"):
        scanned(jpeg_set, tmp_path / "o.zarr", net)
    assert not seen
    monkeypatch.setattr(jpegs, "decode_jpegs", _decode_jpegs)
    monkeypatch.setattr(jpegs, "_library", jpegs._library.__wrapped__)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    monkeypatch.delattr(torchvision.io, "decode_jpeg")
    with pytest.raises(UserError, match='leave out `decoder="torchvision"`'):
        scanned(jpeg_set, tmp_path / "o.zarr", net)
    assert not seen
    assert not list(tmp_path.glob("o.zarr*"))


# Scans


@pytest.fixture
def jpeg_set(tmp_path: Path) -> Path:
    for category, tone in (("a", 60), ("b", 190)):
        (tmp_path / "jpegs" / category).mkdir(parents=True)
        for number in range(5):
            picture = Image.blend(
                drawn(48, 40, number), Image.new("RGB", (48, 40), (tone,) * 3), 0.5
            )
            path = tmp_path / "jpegs" / category / f"{number}.jpg"
            path.write_bytes(saved(picture))
    return tmp_path / "jpegs"


def scanned(
    stimuli: Path, output: Path, net: Any = None, decoder: str | None = None, **more: Any
) -> Any:
    asked = {"resize": 16, "crop": 16, "decoder": decoder or "torchvision"}
    given = {"layers": ["body", "head"], "batch_size": 4, "commit_every": 0, **more}
    return flat.scan(net or Net(), stimuli, output, preprocessing=asked, **given)


@pytest.mark.smoke
def test_the_decoder_is_part_of_the_fingerprint(jpeg_set: Path, tmp_path: Path) -> None:
    whole = scanned(jpeg_set, tmp_path / "whole.zarr")
    assert whole.provenance["preprocessing"]["decoder"] == "torchvision"
    assert fusiform.check(whole.path).problems == ()
    pillows = scanned(jpeg_set, tmp_path / "pillow.zarr", decoder="pillow")
    assert "decoder" not in pillows.provenance["preprocessing"]
    assert pillows.provenance["fingerprint"] != whole.provenance["fingerprint"]
    np.testing.assert_allclose(
        whole.read(whole.layers[0], "mean"), pillows.read(pillows.layers[0], "mean"), atol=0.05
    )
    output = tmp_path / "o.zarr"
    with pytest.raises(Interrupted):
        scanned(jpeg_set, output, progress=stopping_after(2))
    differ = r"preprocessing: \{'decoder': 'torchvision'\} and \{'decoder': 'pillow'\}"
    with pytest.raises(UserError, match=differ):
        scanned(jpeg_set, output, decoder="pillow")
    assert contents(scanned(jpeg_set, output).path) == contents(whole.path)


def test_packed_pictures_need_no_decoder(jpeg_set: Path, tmp_path: Path) -> None:
    asked = {"resize": 16, "crop": 16}
    with pytest.raises(UserError, match="packed as Pillow decodes them; got torchvision"):
        flat.pack_stimuli(
            jpeg_set, tmp_path / "p.zarr", preprocessing={**asked, "decoder": "torchvision"}
        )
    flat.pack_stimuli(jpeg_set, tmp_path / "p.zarr", preprocessing=asked)
    with pytest.raises(UserError, match=r"already decoded, by Pillow; .* leave out `decoder`"):
        scanned(tmp_path / "p.zarr", tmp_path / "o.zarr")


def test_unknown_decoders_and_filters_raise() -> None:
    with pytest.raises(UserError, match="a decoder is pillow or torchvision; got 'nvjpeg'"):
        Preprocessing(decoder="nvjpeg")
    for interpolation in ("nearest", "lanczos"):
        with pytest.raises(UserError, match=f"by bilinear or bicubic; got {interpolation}: "):
            Preprocessing(interpolation=interpolation, decoder="torchvision")


def test_the_decoder_option_of_the_command_line(
    jpeg_set: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module("from fusiform.tests.test_resume import Net\n")
    asked = ["scan", f"{module}:Net", str(jpeg_set), "-o", str(tmp_path / "o.zarr")]
    sizes = ["--resize", "16", "--crop", "16", "--layers", "leaf", "--decoder", "torchvision"]
    found = CliRunner().invoke(app, [*asked, *sizes])
    assert not found.exception, found.output
    assert ", JPEGs by torchvision" in " ".join(found.output.split())
