"""Scrambled controls keep the documented properties and lose all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fusiform.engine.errors import UserError
from fusiform.engine.stimuli.scramble import (
    block_scramble,
    phase_scramble,
    phase_scramble_8bit,
    scramble_stimuli,
)

SHAPES = [(64, 64), (63, 65), (48, 31), (33, 50, 3), (64, 48, 3), (7, 1), (1, 8, 3), (1, 1)]


def picture(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Noise with a bright square, so that neither spectrum nor phase is flat."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, shape)
    image[: shape[0] // 2, : shape[1] // 2] += 130
    return image.astype(np.uint8)


def spectrum(image: NDArray[Any]) -> NDArray[np.complex128]:
    return np.fft.fft2(image.astype(np.float64), axes=(0, 1))


def saved(path: Path, shape: tuple[int, ...] = (40, 40, 3), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(shape, seed)).save(path)
    return path


def read(path: Path) -> NDArray[np.uint8]:
    """[h, w] for grey images, [h, w, 3] for RGB."""
    with Image.open(path) as image:
        assert image.mode in ("L", "RGB")
        return np.asarray(image)


@pytest.mark.parametrize("shape", SHAPES)
def test_phase_scrambling_keeps_every_channels_amplitude_spectrum(shape: tuple[int, ...]) -> None:
    image = picture(shape)
    scrambled = phase_scramble(image, np.random.default_rng(1))
    before, after = np.abs(spectrum(image)), np.abs(spectrum(scrambled))
    assert scrambled.shape == image.shape
    assert scrambled.dtype == np.float64
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-9 * before.max())


@pytest.mark.parametrize("shape", SHAPES)
def test_phase_scrambling_keeps_the_mean_with_its_sign(shape: tuple[int, ...]) -> None:
    image = picture(shape)
    for seed in range(6):
        scrambled = phase_scramble(image, np.random.default_rng(seed))
        np.testing.assert_allclose(scrambled.mean((0, 1)), image.mean((0, 1)), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_phase_scrambling_equals_the_full_complex_transform(shape: tuple[int, ...]) -> None:
    """The same phases, applied to the full spectrum, leave no imaginary part."""
    image = picture(shape)
    turn = np.angle(np.fft.fft2(np.random.default_rng(2).standard_normal(shape[:2])))
    turn[0, 0] = 0
    for axis, side in ((0, shape[0]), (1, shape[1])):
        # Hermitian: the phase at -f is minus the phase at f, modulo 2 pi.
        mirrored = np.take(turn, -np.arange(side), axis=axis)
        mirrored = np.take(mirrored, -np.arange(shape[1 - axis]), axis=1 - axis)
        np.testing.assert_allclose(np.exp(1j * (turn + mirrored)), 1, atol=1e-9)
    factor = np.exp(1j * turn).reshape(turn.shape + (1,) * (image.ndim - 2))
    whole = np.fft.ifft2(spectrum(image) * factor, axes=(0, 1))
    assert np.abs(whole.imag).max() < 1e-9
    scrambled = phase_scramble(image, np.random.default_rng(2))
    np.testing.assert_allclose(scrambled, whole.real, atol=1e-9)


def test_all_channels_are_rotated_by_the_same_phases() -> None:
    image = picture((32, 45, 3))
    scrambled = phase_scramble(image, np.random.default_rng(3))
    turn = spectrum(scrambled) / spectrum(image)
    np.testing.assert_allclose(turn[..., 1], turn[..., 0], atol=1e-7)
    np.testing.assert_allclose(turn[..., 2], turn[..., 0], atol=1e-7)
    grey = np.repeat(picture((32, 45))[..., None], 3, axis=2)
    scrambled_grey = phase_scramble(grey, np.random.default_rng(3))
    np.testing.assert_allclose(np.ptp(scrambled_grey, axis=2), 0, atol=1e-9)


def test_the_added_phases_are_random_and_leave_nothing_of_the_picture() -> None:
    image = picture((64, 64))
    draws = [phase_scramble(image, np.random.default_rng(seed)) for seed in range(20)]
    turns = np.stack([spectrum(draw) / spectrum(image) for draw in draws])[:, 1:32, 1:32]
    # The mean of n unit vectors in random directions has an expected length of 0.89 / sqrt(n).
    assert abs(np.abs(turns.mean(axis=0)).mean() - 0.89 / np.sqrt(20)) < 0.02
    others = [np.corrcoef(draw.ravel(), image.ravel())[0, 1] for draw in draws]
    assert abs(np.mean(others)) < 0.25
    assert np.std(others) > 0


def test_scrambling_to_8_bits_reports_and_minimises_clipping() -> None:
    stark = np.where(picture((64, 64)) > 125, 255, 0).astype(np.uint8)
    scrambled, share = phase_scramble_8bit(stark, np.random.default_rng(4), attempts=6)
    rng = np.random.default_rng(4)
    exact = [np.rint(phase_scramble(stark, rng)) for _ in range(6)]
    shares = [float(np.mean((e < 0) | (e > 255))) for e in exact]
    assert share == min(shares)
    assert len(set(shares)) > 1
    np.testing.assert_array_equal(scrambled, np.clip(exact[int(np.argmin(shares))], 0, 255))


def test_scrambling_a_low_contrast_picture_to_8_bits_clips_nothing() -> None:
    soft = (110 + picture((64, 65, 3)) // 8).astype(np.uint8)
    scrambled, share = phase_scramble_8bit(soft, np.random.default_rng(5))
    exact = phase_scramble(soft, np.random.default_rng(5))
    assert share == 0
    assert np.abs(scrambled - exact).max() <= 0.5
    assert np.abs(np.abs(spectrum(scrambled)) - np.abs(spectrum(soft))).max() < 2 * np.sqrt(64 * 65)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    channels=st.sampled_from([None, 1, 3]),
    blocks=st.integers(2, 20),
    seed=st.integers(0, 2**31),
)
def test_block_scrambling_keeps_every_pixel(
    height: int, width: int, channels: int | None, blocks: int, seed: int
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    rng = np.random.default_rng(seed)
    scrambled = block_scramble(image, rng, min(blocks, height, width))
    assert scrambled.shape == image.shape
    assert scrambled.dtype == np.uint8
    pixels, kept = image.reshape(height * width, -1), scrambled.reshape(height * width, -1)
    np.testing.assert_array_equal(kept[np.lexsort(kept.T)], pixels[np.lexsort(pixels.T)])


@pytest.mark.parametrize("shape", [(64, 64), (65, 64, 3), (70, 61)])
def test_block_scrambling_moves_whole_tiles(shape: tuple[int, ...]) -> None:
    # Pixels are numbered: every tile is identified by its corner and checked whole.
    rows, columns = np.indices(shape[:2])
    numbered = (rows * shape[1] + columns).astype(np.uint16)
    image = np.stack([numbered // 256, numbered % 256], axis=2).astype(np.uint8)
    scrambled = block_scramble(image, np.random.default_rng(6), 8).astype(int)
    number = scrambled[..., 0] * 256 + scrambled[..., 1]
    # Neighbours stay neighbours except across the seven cuts along each side.
    torn_down = np.flatnonzero((np.diff(number, axis=0) != shape[1]).any(axis=1))
    torn_across = np.flatnonzero((np.diff(number, axis=1) != 1).any(axis=0))
    assert len(torn_down) == len(torn_across) == 7
    assert set(np.diff(torn_down)) <= {shape[0] // 8, shape[0] // 8 + 1}
    assert (number != numbered).mean() > 0.8


def test_scrambling_depends_on_the_seed() -> None:
    image = picture((48, 48, 3))
    for scramble in (phase_scramble, block_scramble):
        one, same, other = (scramble(image, np.random.default_rng(s)) for s in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


@pytest.mark.parametrize("blocks", [1, 0, -3, 41])
def test_impossible_numbers_of_blocks_raise(blocks: int) -> None:
    with pytest.raises(UserError, match=f"blocks must be.*got {blocks} for 60 x 40 pixels"):
        block_scramble(picture((40, 60)), np.random.default_rng(0), blocks)


@pytest.mark.parametrize("method", ["phase", "blocks"])
def test_a_folder_of_folders_becomes_a_folder_of_controls(tmp_path: Path, method: Any) -> None:
    saved(tmp_path / "in" / "faces" / "face-1.png", (40, 41))
    saved(tmp_path / "in" / "scenes" / "a.jpg", (40, 41, 3))
    saved(tmp_path / "in" / "scenes" / "b.png", (40, 41, 3))
    (tmp_path / "in" / "empty").mkdir()
    written = scramble_stimuli(tmp_path / "in", tmp_path / "out", method=method, blocks=4)
    names = ["scrambled_faces/face-1.png", "scrambled_scenes/a.png", "scrambled_scenes/b.png"]
    assert written == [tmp_path / "out" / name for name in names]
    assert sorted(tmp_path.glob("out/**/*.*")) == written
    assert [read(path).shape for path in written] == [(40, 41), (40, 41, 3), (40, 41, 3)]
    source, scrambled = read(tmp_path / "in" / "scenes" / "b.png"), read(written[2])
    assert (source != scrambled).mean() > 0.5
    if method == "blocks":
        np.testing.assert_array_equal(np.sort(source.ravel()), np.sort(scrambled.ravel()))


def test_scrambled_images_keep_their_file_stems(tmp_path: Path) -> None:
    saved(tmp_path / "in" / "one.bmp")
    Image.fromarray(picture((40, 40, 4))).save(tmp_path / "in" / "two.png")
    written = scramble_stimuli(tmp_path / "in", tmp_path / "out", method="phase")
    assert written == [tmp_path / "out" / "one.png", tmp_path / "out" / "two.png"]
    assert read(written[1]).shape == (40, 40, 3)


def test_a_scrambled_picture_depends_only_on_its_file_and_the_seed(tmp_path: Path) -> None:
    for name in ("b", "c"):
        saved(tmp_path / "few" / "x" / f"{name}.png", seed=1)
    for name in ("a", "b", "c", "d"):
        saved(tmp_path / "many" / "x" / f"{name}.png", seed=1)
    saved(tmp_path / "many" / "w" / "b.png", seed=1)
    for source, seed in (("few", 0), ("many", 0), ("few", 1)):
        scramble_stimuli(tmp_path / source, tmp_path / f"{source}{seed}", method="phase", seed=seed)
    few, many = tmp_path / "few0" / "scrambled_x", tmp_path / "many0" / "scrambled_x"
    for name in ("b.png", "c.png"):
        assert (few / name).read_bytes() == (many / name).read_bytes()
    # Equal pictures with different names, folders or seeds are scrambled differently.
    others = [
        few / "c.png",
        tmp_path / "many0/scrambled_w/b.png",
        tmp_path / "few1/scrambled_x/b.png",
    ]
    assert all((read(few / "b.png") != read(other)).any() for other in others)


def test_equal_stems_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "a.jpg", "a.jpg.png", "b.png"]):
        saved(tmp_path / "in" / name, seed=seed)
    written = scramble_stimuli(tmp_path / "in", tmp_path / "out", method="blocks", blocks=4)
    assert len(set(written)) == 4
    assert all(path.is_file() for path in written)
    names = {path.name for path in written}
    assert names == {"a.png.png", "a.jpg.png", "a.jpg.png.png", "b.png"}


def test_invalid_scramble_arguments_raise(tmp_path: Path) -> None:
    source = saved(tmp_path / "in" / "a.png").parent
    occupied = saved(tmp_path / "occupied" / "z.png").parent
    (tmp_path / "bare").mkdir()
    unusable: list[tuple[str, Path, Path, dict[str, Any]]] = [
        ("is the source", source, source, {}),
        ("is the source", source, tmp_path / "bare" / ".." / "in", {}),
        ("new or empty folder", source, occupied, {}),
        ("new or empty folder", source, source / "a.png", {}),
        ("hold no images", tmp_path / "bare", tmp_path / "out", {}),
        ("is not one", tmp_path / "missing", tmp_path / "out", {}),
        ("phase, blocks; got 'wavelets'", source, tmp_path / "out", {"method": "wavelets"}),
        ("blocks must be", source, tmp_path / "out", {"method": "blocks", "blocks": 41}),
        ("whole number, 0 or more", source, tmp_path / "out", {"seed": -1}),
    ]
    for message, origin, output, options in unusable:
        with pytest.raises(UserError, match=message):
            scramble_stimuli(origin, output, **{"method": "phase", **options})
    assert [path.name for path in occupied.iterdir()] == ["z.png"]


def test_scrambling_a_file_that_is_not_an_image_names_it(tmp_path: Path) -> None:
    saved(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"b\.png"):
        scramble_stimuli(tmp_path / "in", tmp_path / "out", method="phase")


def test_scramble_reports_clipping_and_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    text = np.full((64, 64), 255, np.uint8)
    text[28:36, 8:56:4] = 0
    (tmp_path / "set").mkdir()
    Image.fromarray(text).save(tmp_path / "set" / "a.png")
    notes: list[str] = []
    scramble_stimuli(tmp_path / "set", tmp_path / "out", method="phase", note=notes.append)
    assert "a.png" in notes[0]
    assert "clipped" in notes[0]
    (tmp_path / "set" / "b.png").write_text("no image")
    with pytest.raises(UserError, match=r"b\.png"):
        scramble_stimuli(tmp_path / "set", tmp_path / "again", method="phase")
    assert not (tmp_path / "again").exists()


def test_a_missing_folder_or_image_to_scramble_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "set/faces/1.png")
    for link, target in (("faces/2.png", "gone"), ("places", "not mounted")):
        try:
            (tmp_path / "set" / link).symlink_to(target)
        except OSError:
            pytest.skip("links cannot be made here")
        with pytest.raises(UserError, match=rf"{link} is a broken link: fetch"):
            scramble_stimuli(tmp_path / "set", tmp_path / "out", method="blocks")
        (tmp_path / "set" / link).unlink()
    (tmp_path / "set/README.md").symlink_to("gone")
    scramble_stimuli(tmp_path / "set", tmp_path / "out", method="blocks")
