"""The catalogue has the same order anywhere, and every kind of picture is read as people see it."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fusiform.engine.errors import UserError
from fusiform.engine.stimuli.catalogue import read_catalogue
from fusiform.engine.stimuli.images import check_header, image_files, natural_key, open_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(path: Path, pixels: NDArray[Any] | Image.Image = GREY, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def folders(root: Path, *paths: str) -> Path:
    """A stimulus set with an image at each of ``paths``."""
    for path in paths:
        saved(root / path)
    return root


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_catalogue(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The catalogue of a folder


def test_every_folder_is_a_category_and_its_images_stand_together(tmp_path: Path) -> None:
    root = folders(tmp_path, "b/1.png", "a/1.png", "b/2.png", "a/2.png", "c/1.png")
    found = read_catalogue(root)
    assert found.categories == ("a", "b", "c")
    assert found.names == ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/1.png")
    assert found.labels.tolist() == [0, 0, 1, 1, 2]
    assert np.bincount(found.labels).tolist() == [2, 2, 1]
    assert len(found) == 5
    assert found.path(4) == root / "c/1.png"
    assert found.notes == ()


@pytest.mark.parametrize("seed", range(3))
def test_order_is_natural_whatever_the_order_of_creation(tmp_path: Path, seed: int) -> None:
    expected = ["img1.png", "img2.PNG", "IMG3.png", "img10.png", "img11.png", "img100.png"]
    names = [f"{folder}/{name}" for folder in ("set2", "Set3", "set10") for name in expected]
    found = read_catalogue(folders(tmp_path, *random.Random(seed).sample(names, len(names))))
    assert found.categories == ("set2", "Set3", "set10")
    assert list(found.names) == names


def test_hidden_files_are_passed_over_silently_and_others_are_noted(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "a/.hidden.png", ".cache/1.png", "a/inner/1.png")
    (root / "a/.DS_Store").touch()
    (root / "a/Thumbs.db").touch()
    (root / "readme.txt").touch()
    found = read_catalogue(root)
    assert found.names == ("a/1.png", "b/1.png")
    assert found.notes == (f"{root / 'a'}: passed over 2 that are no image files by name",)


def test_notes_are_about_chosen_folders_only(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    (root / "a/notes.txt").touch()
    (root / "c/notes.txt").touch()
    found = read_catalogue(root, {"x": ["a"], "y": ["b"]})
    assert found.notes == (f"{root / 'a'}: passed over 1 that are no image files by name",)


# Groups


def test_groups_join_choose_and_order(tmp_path: Path) -> None:
    root = folders(tmp_path, "adult/1.png", "child/1.png", "house/1.png", "word/1.png")
    found = read_catalogue(root, {"places": ["house"], "faces": ["child", "adult"]})
    assert found.categories == ("places", "faces")
    assert found.names == ("house/1.png", "child/1.png", "adult/1.png")
    assert found.labels.tolist() == [0, 1, 1]


def test_a_group_may_name_a_folder_in_a_folder(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "a/b/2.png", "c/3.png")
    found = read_catalogue(root, {"inner": ["a/b"], "outer": ["a", "c"]})
    assert found.names == ("a/b/2.png", "a/1.png", "c/3.png")


@pytest.mark.parametrize("spelling", ["a/", "./a", "b/../a", "a/."])
def test_a_folder_in_two_groups_is_refused_however_it_is_spelt(
    tmp_path: Path, spelling: str
) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    message = refusal(root, {"first": ["a"], "second": [spelling]})
    assert "a is in --group first and in --group second" in message


def test_a_group_of_an_unknown_folder_is_refused_with_the_nearest(tmp_path: Path) -> None:
    root = folders(tmp_path, "adult/1.png", "house/1.png")
    message = refusal(root, {"faces": ["adults"], "places": ["house"]})
    assert "--group faces" in message
    assert "'adults'" in message
    assert "did you mean adult?" in message


# Manifests


def manifest(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_a_manifest_lists_paths_relative_to_itself_or_absolute(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "z/1.png", "é 2.png")
    elsewhere = saved(tmp_path / "elsewhere.png")
    lines = f"category,path,note\nlate,é 2.png,x\nearly,z/1.png,\nlate,{elsewhere},y\n"
    found = read_catalogue(manifest(root / "set.CSV", lines, "utf-8-sig"))
    assert found.categories == ("late", "early")
    assert found.names == ("é 2.png", str(elsewhere), "z/1.png")
    assert all(found.path(stimulus).is_file() for stimulus in range(3))


def test_groups_join_the_categories_of_a_manifest(tmp_path: Path) -> None:
    source = manifest(tmp_path / "set.csv", "path,category\n1.png,a\n2.png,b\n3.png,c\n4.png,a\n")
    found = read_catalogue(source, {"x": ["c"], "y": ["b", "a"]})
    assert found.categories == ("x", "y")
    assert found.names == ("3.png", "2.png", "1.png", "4.png")


@pytest.mark.parametrize(
    ("text", "culprits"),
    [
        ("", ["none"]),
        ("file,category\n1.png,a\n", ["file, category"]),
        ("path,category\n1.png,a\n2.png\n", ["line 3", "2.png", "no category"]),
        ("path,category\n ,a\n", ["line 2", "no path", "a"]),
        ("path,category\n1.png,a\n2.png,b\n1.png,b\n", ["line 4", "1.png again"]),
    ],
)
def test_a_faulty_manifest_is_refused_by_line(
    tmp_path: Path, text: str, culprits: list[str]
) -> None:
    source = manifest(tmp_path / "set.csv", text)
    message = refusal(source)
    assert all(culprit in message for culprit in [str(source), *culprits]), message


def test_a_manifest_in_another_encoding_is_refused(tmp_path: Path) -> None:
    source = manifest(tmp_path / "set.csv", "path,category\né.png,a\n", "latin-1")
    assert f"{source} is not" in refusal(source)


# What cannot be a stimulus set


def test_a_source_that_is_missing_or_neither_folder_nor_manifest_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nowhere'} does not exist" in refusal(tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere.csv'} does not exist" in refusal(tmp_path / "nowhere.csv")
    (tmp_path / "set.txt").touch()
    assert f"{tmp_path / 'set.txt'} is neither" in refusal(tmp_path / "set.txt")


def test_fewer_than_two_categories_are_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} has none" in refusal(tmp_path)
    assert f"{tmp_path} has only" in refusal(folders(tmp_path, "only/1.png"))
    folders(tmp_path, "other/1.png")
    assert f"{tmp_path} has faces" in refusal(tmp_path, {"faces": ["only"]})


def test_a_category_without_images_is_refused(tmp_path: Path) -> None:
    root = folders(tmp_path, "full/1.png")
    (root / "vacant").mkdir()
    (root / "vacant/list.txt").touch()
    assert f"vacant in {root} has none" in refusal(root)


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert f"{tmp_path} (Permission denied)" in refusal(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode on this system")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    Path(root / "b" / os.fsdecode(b"caf\xe9.png")).write_bytes((root / "b/1.png").read_bytes())
    assert "b/caf\\udce9.png" in refusal(root)


# Content


def test_hashes_are_sha256_of_each_files_content(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    saved(root / "a/2.jpg", COLOUR)
    found = read_catalogue(root)
    expected = [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in found.names]
    assert list(found.hashes) == expected


@pytest.mark.parametrize("content", [b"", b"not an image\n", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_an_image_by_name_only_is_refused(tmp_path: Path, content: bytes) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    (root / "b/2.png").write_bytes(content)
    with pytest.raises(UserError, match=r"b/2\.png is not one"):
        _ = read_catalogue(root).hashes
    with pytest.raises(UserError, match=r"b/2\.png is not one"):
        open_image(root / "b/2.png")


def test_a_stimulus_that_is_not_there_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "1.png")
    source = manifest(tmp_path / "set.csv", "path,category\n1.png,a\ngone.png,b\n")
    with pytest.raises(UserError, match=r"cannot read .*gone\.png \(No such file"):
        _ = read_catalogue(source).hashes


# Natural order


@given(st.lists(st.integers(0, 10**30)), st.sampled_from(["img", "", "é-", "a1b"]))
def test_names_that_differ_in_a_number_are_sorted_by_it(numbers: list[int], prefix: str) -> None:
    names = [f"{prefix}{number}.png" for number in numbers]
    assert sorted(names, key=natural_key) == [f"{prefix}{n}.png" for n in sorted(numbers)]


@given(st.lists(st.text(), unique=True), st.randoms(use_true_random=False))
@example(["a", "A", "01", "1", "1a", "a1", "", "\u0661", "²"], random.Random(0))
def test_natural_order_is_total_and_the_same_for_every_shuffle(
    names: list[str], chance: random.Random
) -> None:
    expected, backwards = sorted(names, key=natural_key), names[::-1]
    assert sorted(backwards, key=natural_key) == expected
    assert sorted(chance.sample(names, len(names)), key=natural_key) == expected


def test_image_files_are_told_by_suffix_in_either_case(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.Jpeg", "c.webp", "d.txt", "e", ".f.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.Jpeg", "b.PNG", "c.webp"]


# Pictures


def shown(path: Path) -> NDArray[np.uint8]:
    image = open_image(path)
    assert image.mode in ("L", "RGB")
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_grey_and_colour_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    lossless = {"lossless": True} if suffix == "webp" else {}
    np.testing.assert_array_equal(
        shown(saved(tmp_path / f"c.{suffix}", COLOUR, **lossless)), COLOUR
    )
    if suffix != "webp":
        np.testing.assert_array_equal(shown(saved(tmp_path / f"g.{suffix}", GREY)), GREY)


def test_transparent_pixels_are_laid_over_mid_grey(tmp_path: Path) -> None:
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[0], alpha[1] = 0, 51
    expected = COLOUR.astype(float)
    expected[0] = 128
    expected[1] = 0.2 * expected[1] + 0.8 * 128
    result = shown(saved(tmp_path / "rgba.png", np.dstack([COLOUR, alpha])))
    np.testing.assert_array_equal(result[[0, 2, 3, 4, 5]], expected[[0, 2, 3, 4, 5]])
    np.testing.assert_allclose(result[1], expected[1], atol=1)


def test_grey_with_transparency_stays_grey(tmp_path: Path) -> None:
    alpha = np.where(np.arange(9) < 4, 0, 255).astype(np.uint8)[np.newaxis].repeat(6, axis=0)
    picture = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    expected = np.where(alpha == 0, 128, GREY)
    np.testing.assert_array_equal(shown(saved(tmp_path / "la.png", picture)), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_colour_declared_transparent_is_laid_over_mid_grey(tmp_path: Path, mode: str) -> None:
    black = np.zeros((6, 9, 3), np.uint8)
    black[:, 5:] = 255
    picture = Image.fromarray(black).convert(mode)
    key = (0, 0, 0) if mode == "RGB" else 0
    result = shown(saved(tmp_path / "key.png", picture, transparency=key))
    expected = np.where(black == 0, 128, 255)
    np.testing.assert_array_equal(result, expected if mode == "RGB" else expected[..., 0])


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palettes_become_colour(tmp_path: Path, suffix: str) -> None:
    indices = (np.arange(54) % 4).astype(np.uint8).reshape(6, 9)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colours.tobytes())
    opaque = shown(saved(tmp_path / f"opaque.{suffix}", picture))
    np.testing.assert_array_equal(opaque, colours[indices])
    seen_through = shown(saved(tmp_path / f"transparent.{suffix}", picture, transparency=2))
    expected = np.where((indices == 2)[..., np.newaxis], 128, colours[indices])
    np.testing.assert_array_equal(seen_through, expected)


def test_cmyk_becomes_colour(tmp_path: Path) -> None:
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255)]
    picture = Image.new("CMYK", (5, 1))
    picture.putdata(inks)
    expected = [(255,) * 3, (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)]
    np.testing.assert_array_equal(shown(saved(tmp_path / "inks.tif", picture)), [expected])


def test_black_and_white_becomes_grey(tmp_path: Path) -> None:
    result = shown(saved(tmp_path / "bits.png", Image.fromarray(GREY > 99)))
    np.testing.assert_array_equal(result, np.where(GREY > 99, 255, 0))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    result = shown(saved(tmp_path / f"wide.{suffix}", wide))
    np.testing.assert_array_equal(result.ravel(), np.rint(np.arange(65536) / 257))
    assert result[0, 0] == 0
    assert result[-1, -1] == 255
    np.testing.assert_array_equal(result.ravel()[::257], np.arange(256))


def test_big_endian_16_bit_grey_is_read_by_value(tmp_path: Path) -> None:
    wide = (257 * GREY.astype(np.uint16)).astype(">u2")
    path = tmp_path / "big.tif"
    tags = [
        (256, 9),
        (257, 6),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (279, wide.nbytes),
    ]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0)
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8 + wide.nbytes) + wide.tobytes() + directory)
    np.testing.assert_array_equal(shown(path), GREY)


def test_an_animation_shows_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), grey, np.uint8)) for grey in (10, 200)]
    path = saved(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    assert np.unique(shown(path)).tolist() == [10]


UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "16.png"])
def test_every_exif_orientation_comes_out_upright(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    pixels = 257 * GREY.astype(np.uint16) if suffix == "16.png" else COLOUR
    stored = shown(saved(tmp_path / f"plain.{suffix}", pixels))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"turned.{suffix}", pixels, exif=exif)
    np.testing.assert_array_equal(shown(path), UPRIGHT[orientation](stored))


# Damage


def encoded(image: NDArray[Any], kind: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


LARGER = RNG.integers(0, 256, (32, 40, 3), dtype=np.uint8)
FILES = {kind: encoded(LARGER, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(FILES[kind][: len(FILES[kind]) // 2])
    with pytest.raises(UserError, match=r"cut\.png"):
        open_image(path)


def test_an_image_whose_directory_has_a_wrong_type_is_refused_by_name(tmp_path: Path) -> None:
    # The offset of the pixels as a fraction: Pillow fails with a TypeError.
    offset, fraction = struct.pack("<HH", 273, 4), struct.pack("<HH", 273, 5)
    assert FILES["TIFF"].count(offset) == 1
    path = tmp_path / "odd.tif"
    path.write_bytes(FILES["TIFF"].replace(offset, fraction))
    with pytest.raises(UserError, match=r"odd\.tif"):
        open_image(path)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]), st.data())
def test_a_damaged_file_is_a_picture_or_a_user_error(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = Path("damaged")
    try:
        check_header(path, bytes(content))
        assert open_image(path, bytes(content)).mode in ("L", "RGB")
    except UserError as error:
        assert "damaged" in str(error)  # noqa: PT017


def test_floats_are_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "floats.tif", GREY.astype(np.float32))
    with pytest.raises(UserError, match=r"floats\.tif holds floats"):
        open_image(path)


@pytest.mark.parametrize(("low", "high"), [(-1, 9), (0, 65536)])
def test_integers_beyond_16_bits_are_refused_by_name(tmp_path: Path, low: int, high: int) -> None:
    path = saved(tmp_path / "wide.tif", np.array([[low, high]], np.int32))
    with pytest.raises(UserError, match=rf"wide\.tif has {low} to {high}"):
        open_image(path)


def test_32_bit_integers_within_16_bits_are_scaled(tmp_path: Path) -> None:
    path = saved(tmp_path / "wide.tif", 257 * GREY.astype(np.int32))
    np.testing.assert_array_equal(shown(path), GREY)


def test_a_picture_too_large_to_decode_is_refused_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "vast.png", LARGER)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"vast\.png \(Image size"):
        check_header(path, path.read_bytes())
    with pytest.raises(UserError, match=r"vast\.png \(Image size"):
        open_image(path)


def test_a_stimulus_listed_under_two_spellings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,category\na/1.png,x\n./a/1.png,y\n")
    with pytest.raises(UserError, match="line 3"):
        read_catalogue(tmp_path / "m.csv")
