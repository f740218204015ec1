"""The drawn stimulus set is reproducible, varied and controlled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fusiform.engine.errors import UserError
from fusiform.engine.localizer import CATEGORIES, make_stimuli
from fusiform.engine.localizer.canvas import Canvas, Frame, capsule, ellipse, hull, noise
from fusiform.engine.localizer.make import _ARTISTS
from fusiform.engine.localizer.scenes import KINDS
from fusiform.engine.localizer.words import _AVOIDED, _placed, _set, pseudo_word

EACH, SIZE = 10, 96


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("localizer") / "set"
    make_stimuli(directory, per_category=EACH, size=SIZE)
    return directory


def read(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float64)


def pictures(directory: Path, category: str) -> NDArray[np.float64]:
    paths = [directory / category / f"{category}-{i}.png" for i in range(1, EACH + 1)]
    return np.stack([read(path) for path in paths])


def test_the_six_categories_are_written_as_grey_pictures(tmp_path: Path) -> None:
    paths = make_stimuli(tmp_path / "new" / "set", per_category=2, size=40)
    root = tmp_path / "new" / "set"
    assert paths == [root / c / f"{c}-{i}.png" for c in CATEGORIES for i in (1, 2)]
    assert sorted(root.glob("*/*")) == sorted(paths)
    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (40, 40))


@pytest.mark.smoke
def test_a_seed_gives_the_same_bytes_for_any_number_of_pictures(
    localizer: Path, tmp_path: Path
) -> None:
    """A smaller set of the same seed holds the same pictures."""
    for path in make_stimuli(tmp_path / "again", per_category=3, size=SIZE, seed=0):
        same = localizer / path.parent.name / path.name
        assert path.read_bytes() == same.read_bytes(), path.name


def test_another_seed_gives_other_pictures(localizer: Path, tmp_path: Path) -> None:
    for path in make_stimuli(tmp_path / "other", per_category=2, size=SIZE, seed=1):
        assert (read(path) != read(localizer / path.parent.name / path.name)).mean() > 0.5


@pytest.mark.parametrize("category", CATEGORIES)
def test_pictures_of_a_category_differ(localizer: Path, category: str) -> None:
    stack = pictures(localizer, category).reshape(EACH, -1)
    correlation = np.corrcoef(stack) - np.eye(EACH)
    assert correlation.max() < 0.9
    assert np.median(correlation) < 0.5
    means, spreads = stack.mean(axis=1), stack.std(axis=1)
    assert np.ptp(means) > 15
    assert np.ptp(spreads) > 3


@pytest.mark.parametrize("category", CATEGORIES)
def test_brightness_and_contrast_do_not_predict_the_category(
    localizer: Path, category: str
) -> None:
    stack = pictures(localizer, category)
    means, spreads = stack.mean(axis=(1, 2)), stack.std(axis=(1, 2))
    assert means.min() > 90
    assert means.max() < 165
    assert spreads.min() > 8
    assert spreads.max() < 48
    assert np.mean((stack == 0) | (stack == 255)) < 0.03


@pytest.mark.parametrize("category", ["scenes", "words"])
def test_scrambled_controls_have_the_spectrum_of_their_originals(
    localizer: Path, category: str
) -> None:
    originals, controls = (pictures(localizer, c) for c in (category, f"scrambled_{category}"))
    for original, control in zip(originals, controls, strict=True):
        before, after = np.abs(np.fft.fft2(original)), np.abs(np.fft.fft2(control))
        # Rounding to 8 bits is white noise of variance 1/12, whose amplitude at each frequency is
        # sqrt(pixels / 12) on average; clipping adds a little.
        rounding = np.sqrt(SIZE * SIZE / 12)
        assert abs(before[0, 0] - after[0, 0]) < 0.002 * before[0, 0]
        assert np.sqrt(np.mean((before - after)[1:, 1:] ** 2)) < 2 * rounding
        assert abs(np.corrcoef(original.ravel(), control.ravel())[0, 1]) < 0.7
        assert np.mean((control == 0) | (control == 255)) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_scene_fills_the_picture(kind: str) -> None:
    for seed in range(3):
        picture = KINDS[kind](np.random.default_rng([9, seed]), 64)
        assert picture.shape == (64, 64)
        assert np.isfinite(picture).all()
        # No quarter of the picture is empty.
        quarters = picture.reshape(2, 32, 2, 32).std(axis=(1, 3))
        assert quarters.min() > 1, (kind, seed)


@pytest.mark.parametrize("category", _ARTISTS)
@pytest.mark.parametrize("size", [32, 45, 300])
def test_pictures_of_any_size_can_be_drawn(category: str, size: int) -> None:
    for seed in range(4):
        picture = _ARTISTS[category](np.random.default_rng([5, seed]), size)
        assert picture.shape == (size, size)
        assert np.isfinite(picture).all()


def test_pseudo_words_are_letters_only_varied_and_clean() -> None:
    rng = np.random.default_rng(0)
    words = [pseudo_word(rng) for _ in range(300)]
    assert all(word.isascii() and word.isalpha() and 4 <= len(word) <= 9 for word in words)
    assert len({word.lower() for word in words}) > 270
    assert {word.islower() for word in words} == {word.isupper() for word in words} == {True, False}
    assert not any(part in word.lower() for word in words for part in _AVOIDED)


def test_words_do_not_touch_the_border() -> None:
    """For any size, slant and rotation."""
    for seed in range(40):
        rng = np.random.default_rng([7, seed])
        mask = np.asarray(_placed(_set([pseudo_word(rng)], rng), rng, 192))
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert mask.max() > 128, seed
        assert border.max() == 0, seed


def test_the_canvas_paints_shades_and_leaves_the_background() -> None:
    canvas = Canvas(50)
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    canvas.polygon(0.2 + 0.6 * unit, 100)
    canvas.shade(3 * unit - 1.0, 0.5, 0.01)
    picture = canvas.over(np.full((50, 50), 200.0))
    np.testing.assert_allclose(picture[20:30, 20:30], 50, atol=1)
    np.testing.assert_array_equal(picture[:8], 200)
    edge = picture[25, 8:12]
    assert (np.diff(edge) <= 0).all()


def test_outlines_are_drawn_where_specified() -> None:
    ring = ellipse(0.3, 0.4, 0.1, 0.2)
    np.testing.assert_allclose(np.hypot((ring[:, 0] - 0.3) / 0.1, (ring[:, 1] - 0.4) / 0.2), 1)
    limb = capsule((0, 0), (3, 4), 0.5, 0.25)
    np.testing.assert_allclose(np.hypot(*limb[10:].T), 0.5)
    np.testing.assert_allclose(np.hypot(*(limb[:10] - (3, 4)).T), 0.25)
    corners = hull(np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0.5, 0.5), (0.2, 0.7)]))
    assert {tuple(corner) for corner in corners.tolist()} == {(0, 0), (1, 0), (1, 1), (0, 1)}


def test_a_frame_and_its_grid_are_inverse() -> None:
    frame = Frame((0.4, 0.7), 0.3, turn=0.5, flip=True)
    x, y = frame.grid(20)
    back = frame(np.column_stack([x.ravel(), y.ravel()])).reshape(20, 20, 2)
    rows, columns = np.indices((20, 20))
    np.testing.assert_allclose(back[..., 0], (columns + 0.5) / 20)
    np.testing.assert_allclose(back[..., 1], (rows + 0.5) / 20)


@pytest.mark.parametrize("exponent", [0.7, 1.5])
def test_the_spectrum_of_noise_falls_off_as_specified(exponent: float) -> None:
    field = noise(np.random.default_rng(0), 128, exponent)
    amplitude = np.abs(np.fft.fft2(field))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    use = (frequency > 0.02) & (frequency < 0.5)
    slope = np.polyfit(np.log(frequency[use]), np.log(amplitude[use]), 1)[0]
    assert abs(field.mean()) < 1e-12
    assert abs(field.std() - 1) < 1e-12
    assert abs(slope + exponent) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_category": 0}, "at least 1 picture; got 0"),
        ({"size": 31}, "at least 32 pixels; got 31"),
        ({"seed": -1}, "0 or more; got -1"),
    ],
)
def test_localizer_arguments_out_of_range_raise(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_stimuli(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_drawing_a_localizer_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    for occupied in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(UserError, match="new or empty folder"):
            make_stimuli(occupied, per_category=1)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    (tmp_path / "empty").mkdir()
    assert len(make_stimuli(tmp_path / "empty", per_category=1, size=32)) == 6
