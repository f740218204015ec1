"""The check of a stimulus set names every fault; its statistics equal plain formulas."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

import fusiform
from fusiform import UserError
from fusiform.cli import main
from fusiform.engine.stimuli.check import Duplicate, Misnamed, Refused
from fusiform.engine.stimuli.check_report import advice, lines, table
from fusiform.engine.stimuli.lowlevel import difference, luma, mean_and_contrast, spectral_slope
from fusiform.engine.stimuli.scramble import phase_scramble

from .flat import check_stimuli

RNG = np.random.default_rng(0)


def noise(*shape: int, low: int = 0, high: int = 256) -> NDArray[np.uint8]:
    return RNG.integers(low, high, shape, dtype=np.uint8)


def saved(path: Path, pixels: NDArray[Any] | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A sound set: two categories of three grey pictures."""
    for category in "ab":
        for i in range(3):
            saved(tmp_path / "set" / category / f"{i}.png", noise(16, 20))
    return tmp_path / "set"


# Undecodable stimuli


def test_check_reports_a_sound_set_as_sound(sound: Path) -> None:
    report = check_stimuli(sound)
    assert report.sound
    assert report.stimuli == 6
    assert (report.refused, report.misnamed, report.duplicates, report.notes) == ((), (), (), ())
    assert [row.stimuli for row in report.categories] == [3, 3]


def test_check_lists_every_undecodable_stimulus_with_its_reason(sound: Path) -> None:
    whole = (sound / "a/0.png").read_bytes()
    (sound / "a/3.png").write_bytes(b"no picture")
    (sound / "a/4.png").write_bytes(b"")
    (sound / "b/3.png").write_bytes(whole[: len(whole) // 2])  # found by decoding only
    saved(sound / "b/4.tif", np.zeros((4, 4), np.float32))
    frames = [Image.fromarray(noise(4, 4)) for _ in range(2)]
    saved(sound / "b/5.gif", frames[0], save_all=True, append_images=frames[1:])
    report = check_stimuli(sound)
    assert not report.sound
    assert report.refused[:2] == (
        Refused("a/3.png", "a", "is not an image"),
        Refused("a/4.png", "a", "is empty"),
    )
    assert [one.name for one in report.refused[2:]] == ["b/3.png", "b/4.tif", "b/5.gif"]
    reasons = " ".join(one.reason for one in report.refused[2:])
    assert all(word in reasons for word in ("cannot be decoded", "floats", "more than one frame"))
    assert report.stimuli == 11
    assert [row.stimuli for row in report.categories] == [3, 3]


def test_a_category_without_decodable_stimuli_has_an_empty_row(sound: Path) -> None:
    for path in (sound / "a").iterdir():
        path.write_bytes(b"")
    report = check_stimuli(sound)
    assert report.categories[0].stimuli == 0
    assert math.isnan(report.categories[0].means["luma"])
    assert math.isnan(report.differences[0].eta_squared)
    assert table(report)[1][:5] == ["a", "0", "", "", "- (-)"]
    assert advice(report) == []
    json.dumps(report.as_record(), allow_nan=False)


def test_a_wrong_suffix_is_noted_and_the_picture_read(sound: Path) -> None:
    saved(sound / "a/3.png", noise(9, 9)).rename(sound / "a/3.jpg")
    saved(sound / "a/4.jpeg", noise(9, 9))
    saved(sound / "a/5.TIFF", noise(9, 9), format="TIFF")
    report = check_stimuli(sound)
    assert report.misnamed == (Misnamed("a/3.jpg", "PNG"),)
    assert report.sound
    assert report.categories[0].stimuli == 6


def test_checking_something_else_than_a_stimulus_set_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        check_stimuli(tmp_path / "gone")


def test_progress_of_the_check_reaches_the_end(sound: Path) -> None:
    heard: list[tuple[int, int]] = []
    for i in range(3, 20):
        saved(sound / f"a/{i}.png", noise(4, 4))
    check_stimuli(sound, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(16, 23), (23, 23)]


# Duplicates


def test_the_same_picture_in_two_categories_is_a_problem(sound: Path) -> None:
    (sound / "b/again.png").write_bytes((sound / "a/1.png").read_bytes())
    report = check_stimuli(sound)
    assert report.duplicates == (Duplicate(("a/1.png", "b/again.png"), ("a", "b"), "content"),)
    assert report.duplicates[0].across
    assert not report.sound
    assert "in several categories (same content): a/1.png, b/again.png" in lines(report)


def test_the_same_picture_twice_in_a_category_is_a_note(sound: Path) -> None:
    (sound / "b/again.png").write_bytes((sound / "b/1.png").read_bytes())
    report = check_stimuli(sound)
    assert report.duplicates == (Duplicate(("b/1.png", "b/again.png"), ("b",), "content"),)
    assert report.sound
    assert "note: in b twice (same content): b/1.png, b/again.png" in lines(report)


def test_the_same_pixels_in_another_kind_of_file_are_found(sound: Path) -> None:
    grey = Image.open(sound / "a/0.png")
    saved(sound / "b/other.bmp", grey)
    saved(sound / "b/equal.png", grey.convert("RGB"))
    saved(sound / "b/turned.png", grey.transpose(Image.Transpose.ROTATE_180))
    (found,) = check_stimuli(sound).duplicates
    assert found == Duplicate(("a/0.png", "b/equal.png", "b/other.bmp"), ("a", "b"), "pixels")


def test_large_pictures_are_checked_for_duplicates_in_strips(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(sound / "b/colour.png", np.dstack([noise(16, 20)] * 2 + [noise(16, 20)]))
    saved(sound / "a/other.bmp", Image.open(sound / "b/colour.png"))
    whole = check_stimuli(sound)
    monkeypatch.setattr("fusiform.engine.stimuli.images._STRIP", 50)
    assert check_stimuli(sound) == whole
    assert len(whole.duplicates) == 1
    assert [row.modes for row in whole.categories] == [{"colour": 1, "grey": 3}] * 2


# Confounds


def test_picture_sizes_and_modes_are_counted(sound: Path) -> None:
    saved(sound / "a/3.png", noise(10, 50))
    saved(sound / "a/4.png", noise(30, 20, 3))
    saved(sound / "a/5.png", noise(16, 20, 4))
    saved(sound / "a/6.png", np.repeat(noise(16, 20, 1), 3, axis=2))
    row, other = check_stimuli(sound).categories
    assert (row.sizes, row.smallest, row.largest) == (3, (20, 16), (20, 30))
    assert row.modes == {"colour": 1, "colour with alpha": 1, "grey": 5}
    assert row.means["side"] == pytest.approx(np.mean(np.sqrt([320, 320, 320, 500, 600, 320, 320])))
    assert row.means["colour"] == pytest.approx(2 / 7)
    assert (other.sizes, other.smallest, other.largest) == (1, (20, 16), (20, 16))
    assert table(check_stimuli(sound))[1][2:4] == [
        "3: 20 x 16 .. 20 x 30", "1 colour, 1 colour with alpha, 5 grey",
    ]  # fmt: skip


def test_image_statistics_equal_plain_formulas(sound: Path) -> None:
    report = check_stimuli(sound)
    for row in report.categories:
        pictures = [np.asarray(Image.open(sound / row.category / f"{i}.png")) / 255 for i in "012"]
        luminances, contrasts = [p.mean() for p in pictures], [p.std() for p in pictures]
        assert row.means["luma"] == pytest.approx(np.mean(luminances))
        assert row.sds["luma"] == pytest.approx(np.std(luminances, ddof=1))
        assert row.means["contrast"] == pytest.approx(np.mean(contrasts))
        slopes = [slope_by_loops(p) for p in pictures]
        assert row.means["slope"] == pytest.approx(np.mean(slopes))
    assert [one.measure for one in report.differences] == [
        "luma", "contrast", "slope", "side", "colour",
    ]  # fmt: skip


def test_luma_is_the_weighted_sum_of_the_channels() -> None:
    pixels = noise(13, 7, 3)
    grey = luma(Image.fromarray(pixels))
    weighted = pixels @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(np.asarray(grey), weighted, atol=0.51)
    mean, contrast = mean_and_contrast(grey)
    assert mean == pytest.approx(np.asarray(grey).mean() / 255)
    assert contrast == pytest.approx(np.asarray(grey).std() / 255)


def slope_by_loops(grey: NDArray[Any]) -> float:
    height, width = grey.shape
    shorter = min(height, width)
    spectrum = np.abs(np.fft.fft2(grey - grey.mean()))
    rings: dict[int, list[float]] = {}
    for y in range(height):
        for x in range(width):
            down, across = min(y, height - y) / height, min(x, width - x) / width
            rings.setdefault(round(shorter * math.hypot(down, across)), []).append(spectrum[y, x])
    ks = range(1, shorter // 2 + 1)
    amplitudes = [np.log10(np.mean(rings[k])) for k in ks]
    return float(np.polyfit(np.log10(ks), amplitudes, 1)[0])


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (16, 24), (31, 18), (4, 4), (40, 5)])
def test_the_spectral_slope_equals_that_of_the_radial_mean_amplitude(
    shape: tuple[int, int],
) -> None:
    pixels = noise(*shape)
    assert spectral_slope(Image.fromarray(pixels)) == pytest.approx(slope_by_loops(pixels))


@pytest.mark.parametrize("exponent", [0.0, -1.0, -1.5])
def test_the_slope_of_a_known_spectrum_is_recovered(exponent: float) -> None:
    frequency = np.hypot(np.fft.fftfreq(128)[:, np.newaxis], np.fft.rfftfreq(128))
    frequency[0, 0] = 1
    phases = np.exp(2j * np.pi * RNG.random(frequency.shape))
    picture = np.fft.irfft2(frequency**exponent * phases, (128, 128))
    picture = 127.5 + 40 * picture / picture.std()
    grey = Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    assert spectral_slope(grey) == pytest.approx(exponent, abs=0.05)


def test_a_phase_scrambled_picture_keeps_its_spectral_slope() -> None:
    picture = np.kron(noise(12, 12, low=100, high=156), np.ones((5, 5), np.uint8))
    scrambled = np.rint(phase_scramble(picture, np.random.default_rng(1))).astype(np.uint8)
    slopes = [spectral_slope(Image.fromarray(one)) for one in (picture, scrambled)]
    assert slopes[1] == pytest.approx(slopes[0], abs=0.02)
    assert slopes[0] < -0.5


@pytest.mark.parametrize("shape", [(9, 9), (1, 1), (1, 50), (2, 3)])
def test_a_uniform_or_tiny_picture_has_no_spectral_slope(shape: tuple[int, int]) -> None:
    pixels = np.full(shape, 7, np.uint8) if shape == (9, 9) else noise(*shape)
    assert math.isnan(spectral_slope(Image.fromarray(pixels)))


def test_large_pictures_are_downsampled_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusiform.engine.stimuli.lowlevel._LONGEST", 16)
    coarse = noise(8, 15)
    large = Image.fromarray(np.kron(coarse, np.ones((3, 3), np.uint8)))
    assert spectral_slope(large) == pytest.approx(slope_by_loops(coarse))


def test_eta_squared_and_p_equal_one_way_anova() -> None:
    chance = np.random.default_rng(3)
    groups = [chance.normal(mean, 1, n) for mean, n in ((0, 5), (0.5, 9), (4, 7))]
    found = difference("luma", [*groups, np.array([np.nan])])
    everything = np.concatenate(groups)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    total = ((everything - everything.mean()) ** 2).sum()
    assert found.eta_squared == pytest.approx(1 - within / total)
    assert found.p == pytest.approx(stats.f_oneway(*groups).pvalue)
    assert found.large


@pytest.mark.parametrize(
    ("groups", "eta", "p", "large"),
    [
        ([[1, 1, 1], [1, 1]], 0.0, 1.0, False),
        ([[1, 1, 1], [2, 2]], 1.0, 0.0, True),
        ([[1, 2, 3], []], math.nan, math.nan, False),
        ([[1], [2]], math.nan, math.nan, False),
        ([[1, 4, 2], [5, 2, 4]], 2 / 9, 0.346, False),  # large by chance
    ],
)
def test_eta_squared_of_degenerate_groups(
    groups: list[list[float]], eta: float, p: float, large: bool
) -> None:
    found = difference("luma", [np.array(group, np.float64) for group in groups])
    assert found.eta_squared == pytest.approx(eta, abs=5e-3, nan_ok=True)
    assert found.p == pytest.approx(p, abs=5e-3, nan_ok=True)
    assert found.large == large


@pytest.mark.parametrize(
    ("measure", "first", "gap", "large"),
    [
        # luma and contrast that a set was matched in, to a grey level
        ("luma", 0.547, 0.004, False),
        ("luma", 0.52, 0.02, True),
        ("contrast", 0.144, 0.004, False),
        ("contrast", 0.144, 0.03, True),
        ("slope", -1.40, 0.09, False),
        ("slope", -1.40, 0.19, True),
        ("side", 256, 2, False),
        ("side", 256, 40, True),
        ("colour", 0, 0.04, False),
        ("colour", 0, 1, True),
    ],
)
def test_only_differences_of_a_size_that_matters_are_large(
    measure: str, first: float, gap: float, large: bool
) -> None:
    one = first + gap * np.array([-1e-3, 0, 1e-3])
    found = difference(measure, [one, one + gap])
    assert found.gap == pytest.approx(gap / first if measure == "side" else gap)
    assert found.eta_squared > 0.9
    assert found.p < 0.01
    assert found.large == large


def test_the_sizes_that_matter_are_named(sound: Path) -> None:
    assert advice(check_stimuli(sound)) == []
    for i in range(3):
        saved(sound / f"b/{i}.png", noise(16, 20, low=100, high=140))
    assert advice(check_stimuli(sound))[-1] == (
        "* luma by 0.02, contrast by 0.02, slope by 0.1, side by 5 %, colour by 5 % or more; and "
        "eta squared of 0.14 or more, with p of 0.05 or less"
    )


def test_categories_that_differ_in_luminance_are_flagged(sound: Path) -> None:
    for i in range(3):
        saved(sound / f"b/{i}.png", noise(16, 20, low=100, high=140))
    report = check_stimuli(sound)
    assert report.sound
    flagged = {one.measure for one in report.differences if one.large}
    assert "contrast" in flagged
    assert not flagged & {"side", "colour"}
    assert "*" in table(report)[-1][5]
    (line,) = [line for line in advice(report) if line.startswith("* contrast differs")]
    assert "in b," in line
    assert "a contrast between them may reflect contrast" in line


# The command line


def command(*arguments: object) -> int:
    sys.argv = ["fusiform", "stimuli", "check", *map(str, arguments)]
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.fixture(autouse=True)
def _same_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_the_check_command_reports_a_sound_set(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(sound) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    first, _, *shown = printed.out.splitlines()
    assert first == "6 stimuli, 2 categories; 0 cannot be shown, 0 are in several categories"
    assert [line.split()[:2] for line in shown[2:4]] == [["a", "3"], ["b", "3"]]
    assert shown[4].startswith("eta squared")


def test_the_check_command_exits_with_1_and_lists_every_problem(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sound / "a/3\n\x1b[31m.png").write_bytes(b"")
    (sound / "b/copy.png").write_bytes((sound / "a/1.png").read_bytes())
    assert command(sound) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("1 cannot be shown, 1 are in several categories")
    assert printed[1] == r"cannot be shown: a/3\n\x1b[31m.png is empty"
    assert printed[2] == "in several categories (same content): a/1.png, b/copy.png"


def test_the_check_command_prints_json(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(sound / "a/0.png", np.full((16, 20), 7, np.uint8))
    saved(sound / "c/0.png", noise(16, 20))
    assert command(sound, "--groups", "x=a", "--groups", "y=b,c", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] is True
    assert [row["category"] for row in found["categories"]] == ["x", "y"]
    assert [row["stimuli"] for row in found["categories"]] == [3, 4]
    assert found["differences"][0]["measure"] == "luma"
    assert isinstance(found["differences"][0]["large"], bool)


def test_the_check_command_takes_a_root(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = sound.parent / "lists" / "set.csv"
    manifest.parent.mkdir()
    manifest.write_text("path,category\n../set/a/0.png,a\n../set/b/0.png,b\n")
    assert command(manifest) == 2
    assert "--root" in capsys.readouterr().err
    assert command(manifest, "--root", sound) == 0


def test_the_package_exports_the_stimulus_check() -> None:
    assert "check_stimuli" in fusiform.__all__
