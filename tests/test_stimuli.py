"""Catalogues have the same order everywhere; every kind of picture is decoded as displayed."""

from __future__ import annotations

import hashlib
import os
import random
import re
import struct
import sys
import unicodedata
import warnings
import zlib
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
from fusiform.engine.stimuli.check import StimuliReport, check_stimuli
from fusiform.engine.stimuli.columns import Content
from fusiform.engine.stimuli.entries import image_files
from fusiform.engine.stimuli.images import (
    UnfitStimulus,
    natural_key,
    open_image,
    read_header,
    read_stimulus,
)

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(path: Path, pixels: NDArray[Any] | Image.Image = GREY, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def folders(root: Path, *paths: str) -> Path:
    """A stimulus set with an image at each path."""
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
def test_order_is_natural_and_independent_of_creation_order(tmp_path: Path, seed: int) -> None:
    expected = ["img1.png", "img2.PNG", "IMG3.png", "img10.png", "img11.png", "img100.png"]
    names = [f"{folder}/{name}" for folder in ("set2", "Set3", "set10") for name in expected]
    found = read_catalogue(folders(tmp_path, *random.Random(seed).sample(names, len(names))))
    assert found.categories == ("set2", "Set3", "set10")
    assert list(found.names) == names


def test_hidden_files_are_ignored_and_other_files_noted(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "a/.hidden.png", ".cache/1.png", "a/inner/1.png")
    (root / "a/.DS_Store").touch()
    (root / "a/Thumbs.db").touch()
    (root / "readme.txt").touch()
    found = read_catalogue(root)
    assert found.names == ("a/1.png", "b/1.png")
    assert found.notes == (
        "a: passed over 1 files that are not images by name: Thumbs.db",
        "a: passed over 1 images in subfolders: a/inner (1); `groups` adds them "
        "(a=a,a/inner), and must name every other category too",
    )
    assert read_catalogue(root, {"a": ["a", "a/inner"], "b": ["b"]}).names[1] == "a/inner/1.png"


def refused_names(report: StimuliReport) -> dict[str, str]:
    return {one.name: one.reason for one in report.refused}


def test_broken_links_are_missing_stimuli(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    linked(root / "a/3.png", Path("../.git/annex/objects/x/y/K.png"))
    linked(root / "a/4.png", root / "a/4.png")
    linked(root / "b/more", tmp_path / "gone")
    found = read_catalogue(root)
    assert found.names == (*(f"a/{i}.png" for i in (1, 2, 3, 4)), "b/1.png", "b/2.png")
    assert found.notes == (
        "a: 2 images are broken links",
        "b: passed over broken links: more",
    )
    assert found.contents[2] == Content("", "is a broken link")
    assert found.contents[3] == Content("", "cannot be read (Too many levels of symbolic links)")
    assert refused_names(check_stimuli(root)) == {
        "a/3.png": "is a broken link",
        "a/4.png": "cannot be read (Too many levels of symbolic links)",
    }


def test_a_category_behind_a_broken_link_is_not_left_out(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    linked(root / "c", tmp_path / "not mounted", folder=True)
    linked(root / "v1.5", tmp_path / "not mounted", folder=True)
    linked(root / "README.md", Path("gone"))
    linked(root / "LICENSE", Path(".git/annex/objects/K"))
    found = read_catalogue(root)
    assert found.categories == ("a", "b", "c", "v1.5")
    assert found.notes == (
        "passed over broken links: LICENSE, README.md",
        "c: the folder is a broken link",
        "v1.5: the folder is a broken link",
    )
    assert refused_names(check_stimuli(root)) == dict.fromkeys(("c", "v1.5"), "is a broken link")
    chosen = read_catalogue(root, {"x": ["a"], "y": ["b"]})
    assert (chosen.names, chosen.notes) == (("a/1.png", "b/1.png"), ())
    linked(root / "a/deep", tmp_path / "not mounted", folder=True)
    deep = read_catalogue(root, {"x": ["a/deep"], "y": ["b"]})
    assert list(deep.contents.problems.values()) == ["is a broken link"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_folder_or_pipe_named_like_an_image_raises(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(root / "a/2.png")
    assert refused_names(check_stimuli(root)) == {"a/2.png": "is a pipe, a socket or a device"}


def test_images_nested_within_a_category_are_counted_and_named(tmp_path: Path) -> None:
    nested = ("a/l/1.png", "a/l/2.png", "a/r/deep/1.png", "a/__MACOSX/1.png", "a/x.zarr/1.png")
    root = folders(tmp_path, "a/1.png", "b/1.png", *nested)
    (root / "a/x.zarr/zarr.json").touch()
    linked(root / "a/up", root, folder=True)
    note = (
        "a: passed over 3 images in subfolders: a/l (2), a/r/deep (1); "
        "`groups` adds them (a=a,a/l,...), and must name every other category too"
    )
    assert read_catalogue(root).notes == (note,)
    split = folders(tmp_path / "split", "train/a/1.png", "train/b/1.png", "val/a/1.png")
    assert "train in" in refusal(split)
    assert "passed over 2 images in subfolders: train/a (1), train/b (1)" in refusal(split)


def test_images_and_shards_beside_category_folders_are_named(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "3.png", "12.png")
    for name in ("more.tar", "x.tgz", "y.TAR.GZ", ".z.tgz"):
        (root / name).touch()
    assert read_catalogue(root).notes == (
        "passed over 2 images outside the category folders: 3.png, 12.png",
        "passed over 1 .tar files beside the folders: more.tar",
        "passed over 2 compressed archives beside the folders: x.tgz, y.TAR.GZ",
    )


@pytest.mark.parametrize("names", [["train"], ["train", "val"]])
@pytest.mark.parametrize("shard", ["0.tar", "0.tar.gz"])
def test_folders_of_shards_are_not_categories(tmp_path: Path, names: list[str], shard: str) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / shard).touch()
    message = refusal(tmp_path)
    assert f"train in {tmp_path} has shards ({shard}): name {tmp_path / 'train'} itself" in message


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "locked/1.png")
    scandir, is_file = os.scandir, Path.is_file

    def refuse(path: Any) -> None:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))

    def guarded_scandir(path: Any) -> Any:
        refuse(path)
        return scandir(path)

    def guarded_is_file(path: Path) -> bool:  # as in Python 3.11
        refuse(path.parent)
        return is_file(path)

    monkeypatch.setattr(os, "scandir", guarded_scandir)
    monkeypatch.setattr(Path, "is_file", guarded_is_file)
    expected = f"cannot read the stimuli in {root / 'locked'} (Permission denied)"
    assert expected in refusal(root)
    assert expected in refusal(root, {"x": ["a"], "y": ["locked"]})
    assert expected in refusal(root / "locked")
    assert read_catalogue(root, {"x": ["a"], "y": ["b"]}).names == ("a/1.png", "b/1.png")


def test_junk_and_empty_folders_are_not_categories(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "__MACOSX/a/._1.png", "@eaDir/1.png")
    for name in ("vacant", "hidden", "windows", "__pycache__"):
        (root / name).mkdir()
    (root / "hidden/.gitkeep").touch()
    (root / "windows/Thumbs.db").touch()
    found = read_catalogue(root)
    assert found.categories == ("a", "b")
    told = "@eaDir (junk), __MACOSX (junk), __pycache__ (junk)"
    told += ", hidden (empty), vacant (empty), windows (empty)"
    assert found.notes == (f"passed over folders that are not categories: {told}",)
    assert "y in" in refusal(root, {"x": ["a"], "y": ["vacant"]})
    assert "only (empty)" in refusal(emptied(tmp_path / "set"))


def emptied(root: Path) -> Path:
    (folders(root, "a/1.png") / "only").mkdir()
    return root


def test_outputs_beside_the_stimuli_are_not_categories(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "faces.old/1.png")
    for store in ("one.zarr", "r.responses.zarr", "two.zarr.partial", "one.zarr.old"):
        (root / store / "conv").mkdir(parents=True)
        (root / store / "zarr.json").touch()
    (root / "p.zarr.partial-0123abcd/pictures").mkdir(parents=True)
    (root / "new.partial").mkdir()
    found = read_catalogue(root)
    assert found.categories == ("a", "b", "faces.old")
    told = "one.zarr (zarr), r.responses.zarr (zarr)"
    assert found.notes == (f"passed over folders that are not categories: {told}",)


def test_notes_are_about_chosen_folders_only(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    (root / "a/notes.txt").touch()
    (root / "c/notes.txt").touch()
    found = read_catalogue(root, {"x": ["a"], "y": ["b"]})
    assert found.notes == ("a: passed over 1 files that are not images by name: notes.txt",)


# Groups


def test_groups_join_choose_and_order(tmp_path: Path) -> None:
    root = folders(tmp_path, "adult/1.png", "child/1.png", "house/1.png", "word/1.png")
    found = read_catalogue(root, {"places": ["house"], "faces": ["child", "adult"]})
    assert found.categories == ("places", "faces")
    assert found.names == ("house/1.png", "child/1.png", "adult/1.png")
    assert found.labels.tolist() == [0, 1, 1]


def test_a_group_may_name_a_nested_folder(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "a/b/2.png", "c/3.png")
    found = read_catalogue(root, {"inner": ["a/b"], "outer": ["a", "c"]})
    assert found.names == ("a/b/2.png", "a/1.png", "c/3.png")


@pytest.mark.parametrize("spelling", ["a/", "./a", "b/../a", "a/."])
def test_a_folder_in_two_groups_raises_however_it_is_spelt(tmp_path: Path, spelling: str) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    message = refusal(root, {"first": ["a"], "second": [spelling]})
    assert "a is in the groups first and second" in message


def test_a_group_of_an_unknown_folder_raises_with_the_nearest_name(tmp_path: Path) -> None:
    root = folders(tmp_path, "adult/1.png", "house/1.png")
    message = refusal(root, {"faces": ["adults"], "places": ["house"]})
    assert "faces names" in message
    assert "'adults'" in message
    assert "did you mean adult?" in message


# Manifests


def manifest(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_a_manifest_lists_paths_relative_to_itself_or_absolute(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "z/1.png", "é 2.png")
    elsewhere = saved(tmp_path / "set" / "elsewhere.png")
    lines = f"category,path,note\nlate,é 2.png,x\nearly,z/1.png,\nlate,{elsewhere},y\n"
    found = read_catalogue(manifest(root / "set.CSV", lines, "utf-8-sig"))
    assert found.categories == ("late", "early")
    assert found.names == ("é 2.png", str(elsewhere), "z/1.png")
    assert all(found.path(stimulus).is_file() for stimulus in range(3))


AS_SPREADSHEETS_WRITE_IT = {
    "plain": "path,category\n1.png,a\n2.png,b\n",
    "space after the comma": "path, category\n1.png, a\n2.png, b\n",
    "quotes after it": 'path, "category"\n"1.png", "a"\n"2.png", "b"\n',
    "byte order mark": "\ufeffpath,category\n1.png,a\n2.png,b\n",
    "lines of Windows": "path,category\r\n1.png,a\r\n2.png,b\r\n",
    "lines of old Macs": "path,category\r1.png,a\r2.png,b\r",
    "empty lines": "\npath,category\n\n1.png,a\n,\n2.png,b\n\n",
    "empty columns": "path,category,,\n1.png,a,,\n2.png,b,,,\n",
    "an index, and others twice": ",path,category,x,x\n0,1.png,a,7,8\n1,2.png,b\n",
}


@pytest.mark.parametrize("what", AS_SPREADSHEETS_WRITE_IT)
def test_a_manifest_written_by_a_spreadsheet_is_read(tmp_path: Path, what: str) -> None:
    found = read_catalogue(manifest(tmp_path / "set.csv", AS_SPREADSHEETS_WRITE_IT[what]))
    assert (found.names, found.categories) == (("1.png", "2.png"), ("a", "b"))


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
        ("path,category\n1.png,a\n2.png,b\n1.png,b\n", ["line 4", "repeats 1.png"]),
        ("path;category\n1.png;a\n2.png;b\n", ["has ';': save it with commas"]),
        ('"path";"category"\n"1.png";"a"\n', ["has ';': save it with commas"]),
        ("\ufeff\npath\tcategory\r\n1.png\ta\r\n", ["has '\\t': save it with commas"]),
        ("path,category,category\n1.png,a,x\n2.png,b,x\n", ["category twice"]),
        ("path,category, path\n1.png,a,x\n2.png,b,x\n", ["path twice"]),
        ("path,category\nhouse, big.png,a\n2.png,b\n", ["line 2", "3 for 2", "quote cells"]),
        ('path,category\n"1.png,a\n2.png,b\n', ["is CSV in UTF-8"]),
    ],
)
def test_a_faulty_manifest_raises_with_the_line(
    tmp_path: Path, text: str, culprits: list[str]
) -> None:
    source = manifest(tmp_path / "set.csv", text)
    message = refusal(source)
    assert all(culprit in message for culprit in [str(source), *culprits]), message


def test_a_manifest_in_another_encoding_is_refused(tmp_path: Path) -> None:
    source = manifest(tmp_path / "set.csv", "path,category\né.png,a\n", "latin-1")
    assert f"{source} is not" in refusal(source)


# Invalid stimulus sets


def test_a_missing_or_unknown_kind_of_source_raises(tmp_path: Path) -> None:
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


def test_an_unreadable_folder_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert f"{tmp_path} (Permission denied)" in refusal(tmp_path)


# Paths outside the set


def outsider(path: Path) -> str:
    """A manifest entry for an image outside the set in ``path``."""
    saved(path.parent / "elsewhere" / "1.png")
    return "../elsewhere/1.png"


def linked(path: Path, target: Path, *, folder: bool = False) -> None:
    try:
        path.symlink_to(target, target_is_directory=folder)
    except OSError:
        pytest.skip("links cannot be made here")


@pytest.mark.parametrize("kind", ["relative", "absolute", "link", "linked folder", "dots inside"])
def test_manifest_paths_outside_its_folder_raise(tmp_path: Path, kind: str) -> None:
    root = folders(tmp_path / "set", "1.png", "2.png", "sub/3.png")
    entry = outsider(root)
    outside = (root / entry).resolve()
    if kind == "absolute":
        entry = str(outside)
    elif kind == "link":
        entry = "link.png"
        linked(root / entry, outside)
    elif kind == "linked folder":
        entry = "there/1.png"
        linked(root / "there", outside.parent, folder=True)
    elif kind == "dots inside":
        entry = "sub/../../elsewhere/1.png"
    source = manifest(root / "set.csv", f"path,category\n1.png,a\n{entry},b\n")
    message = refusal(source)
    assert f"{entry} is outside {root}: copy" in message
    assert "`root`" in message
    assert read_catalogue(source, root=tmp_path).names == ("1.png", entry)
    assert f"is outside {root} and {root / 'sub'}" in refusal(source, root=root / "sub")


def test_manifest_paths_with_dots_and_links_inside_are_accepted(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "1.png", "sub/2.png", "sub/4.png")
    linked(root / "3.png", root / "sub/2.png")
    linked(root / "there", root / "sub", folder=True)
    linked(tmp_path / "named", root, folder=True)
    paths = ["sub/../1.png", "3.png", "there/4.png", str(root / "sub/2.png")]
    lines = "".join(f"{path},{'ab'[i % 2]}\n" for i, path in enumerate(paths))
    manifest(root / "set.csv", f"path,category\n{lines}")
    assert len(read_catalogue(tmp_path / "named/set.csv")) == 4


def test_all_manifest_paths_outside_are_counted(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "1.png")
    outsider(root)
    entries = "".join(f"../elsewhere/1.png{' ' * n}/,b\n" for n in range(3))
    source = manifest(root / "set.csv", f"path,category\n1.png,a\n{entries}")
    assert "and so are 2 more" in refusal(source)


def test_links_in_a_folder_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "a/1.png", "b/1.png")
    outsider(root)
    linked(root / "c", tmp_path / "elsewhere", folder=True)
    linked(root / "b/2.png", tmp_path / "elsewhere/1.png")
    assert len(read_catalogue(root)) == 4


def test_a_stimulus_folder_may_be_a_link(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "a/1.png", "b/1.png")
    linked(tmp_path / "named", root, folder=True)
    assert len(read_catalogue(tmp_path / "named")) == 2


def test_a_root_that_is_not_a_folder_raises(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "a/1.png", "b/1.png")
    assert "`root`" in refusal(root, root=tmp_path / "gone")


# Names


HARMLESS = [
    "[red]bold <script>alert(1)<\\script> & 'x'.png",
    "line\nbreak\ttab\x1b[31m.png",
    "\u202egnp.exe\u2066.png",
    "\u00e9 e\u0301 \U0001f9e0.png",
    "-rf --output.png",
    "a" * 251 + ".png",
]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_any_file_name_is_kept_unchanged(tmp_path: Path) -> None:
    raw = os.fsdecode(b"caf\xe9")
    categories = [*(name.removesuffix(".png") for name in HARMLESS), raw]
    for category in categories:
        folders(tmp_path, *(f"{category}/{name}" for name in (*HARMLESS, f"{raw}.png")))
    (tmp_path / raw / "notes.txt").touch()
    found = read_catalogue(tmp_path)
    assert set(found.categories) == {*categories[:-1], "caf\\xe9"}
    assert len(found) == 49
    for i, name in enumerate(found.shown_names):
        assert name.replace("caf\\xe9", raw) == found.names[i]
        assert name.encode()
        assert found.path(i).is_file()
    assert all(found.problem == "" for found in found.contents)
    assert "caf\\xe9: passed over 1" in found.notes[0]
    joined = read_catalogue(tmp_path, {raw: [raw], "other": [categories[0]]})
    assert joined.categories == ("caf\\xe9", "other")


def test_names_with_the_same_escaped_form_raise(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    message = refusal(root, {"caf\udce9": ["a"], "caf\\xe9": ["b"]})
    assert "both caf\\xe9" in message


BUILDING, HEAD = "b\u00e2timents", "t\u00eates"


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def tells_forms_apart(folder: Path) -> bool:
    """Whether the file system distinguishes both Unicode forms of a name."""
    (folder / "\u00e9").touch()
    return not (folder / "e\u0301").exists()


def test_groups_find_folders_in_decomposed_unicode(tmp_path: Path) -> None:
    mac = [decomposed(f"{name}/1.png") for name in (BUILDING, HEAD, f"{HEAD}/\u00e9")]
    root = folders(tmp_path, *mac)
    found = read_catalogue(root, {"x": [BUILDING], "y": [f"{HEAD}/\u00e9"]})
    assert found.names == (mac[0], mac[2])


def test_two_unicode_forms_of_a_name_are_one_category_with_a_note(tmp_path: Path) -> None:
    rows = [("1", BUILDING), ("2", decomposed(BUILDING)), ("3", HEAD), ("4", BUILDING)]
    lines = "".join(f"{path}.png,{category}\n" for path, category in rows)
    found = read_catalogue(manifest(tmp_path / "set.csv", f"path,category\n{lines}"))
    assert found.categories == (BUILDING, HEAD)
    assert found.names == ("1.png", "2.png", "4.png", "3.png")
    assert found.notes == (
        f"{BUILDING}: joined 2 categories that are written alike, in different Unicode forms",
    )
    (tmp_path / "set").mkdir()
    if tells_forms_apart(tmp_path):
        root = folders(tmp_path / "set", *(f"{c}/{i}.png" for i, c in rows))
        found = read_catalogue(root)
        assert np.bincount(found.labels).tolist() == [3, 1]
        assert "in different Unicode forms" in found.notes[0]


def test_a_manifest_finds_files_in_another_unicode_form(tmp_path: Path) -> None:
    if not tells_forms_apart(tmp_path):
        pytest.skip("no other form here")
    there = [decomposed(f"{HEAD}/\u00e9.png"), "\u00e9.png", decomposed("\u00e9.png"), "4.png"]
    root = folders(tmp_path / "set", *there)
    listed = [f"{HEAD}/\u00e9.png", *there[1:]]
    lines = "".join(f"{path},{'ab'[i % 2]}\n" for i, path in enumerate(listed))
    found = read_catalogue(manifest(root / "set.csv", f"path,category\n{lines}"))
    assert found.names == (there[0], there[2], there[1], there[3])
    assert found.contents.problems == {}
    assert found.notes == (
        "1 files have the listed names in another Unicode form",
        "1 stimuli have the names of others, in another Unicode form",
    )
    lines = f"path,category\n{listed[0]},a\n{there[0]},b\n"
    assert "repeats" in refusal(manifest(root / "set.csv", lines))


def test_order_is_the_same_in_every_unicode_form() -> None:
    names = ["zebra", "\u00e9cole", "eclair", "\u00e9t\u00e9"]
    mac = sorted(map(decomposed, names), key=natural_key)
    assert [unicodedata.normalize("NFC", one) for one in mac] == sorted(names, key=natural_key)


def test_a_name_with_a_nul_raises(tmp_path: Path) -> None:
    source = manifest(tmp_path / "set.csv", "path,category\n1.png,a\n2\0.png,b\n")
    assert "NUL" in refusal(source)


# Content


def hashed(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_contents_are_hashes_and_problems(tmp_path: Path) -> None:
    root = folders(tmp_path, "a/1.png", "b/1.png")
    saved(root / "a/2.jpg", COLOUR)
    (root / "b/2.png").write_bytes(b"not an image\n")
    (root / "b/3.png").write_bytes(b"")
    assert read_catalogue(root).contents == (
        Content(hashed(root / "a/1.png"), ""),
        Content(hashed(root / "a/2.jpg"), ""),
        Content(hashed(root / "b/1.png"), ""),
        Content(hashed(root / "b/2.png"), "is not an image"),
        Content("", "is empty"),
    )


def test_contents_of_many_stimuli_keep_their_order(tmp_path: Path) -> None:
    for i in range(150):
        saved(tmp_path / f"{'ab'[i % 2]}/{i}.png", np.full((2, 2), i, np.uint8))
    found = read_catalogue(tmp_path)
    assert [content.sha256 for content in found.contents] == [
        hashed(found.path(i)) for i in range(150)
    ]


@pytest.mark.parametrize("content", [b"", b"not an image\n", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe"])
def test_a_file_that_is_an_image_by_name_only_raises(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "2.png"
    path.write_bytes(content)
    with pytest.raises(UnfitStimulus, match=r"2\.png is (not an image|empty)"):
        open_image(path)
    with pytest.raises(UnfitStimulus, match=r"2\.png is (not an image|empty)"):
        read_header(path, content)


def test_heic_under_the_name_of_a_jpeg_is_told(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UnfitStimulus, match=r"1\.jpg is HEIC, AVIF or a video.*save it as JPEG"):
        open_image(path)


def test_postscript_files_are_not_executed(tmp_path: Path) -> None:
    # Pillow would start Ghostscript.
    path = saved(tmp_path / "drawing.eps", COLOUR)
    path = path.rename(tmp_path / "drawing.png")
    with pytest.raises(UnfitStimulus, match="is not an image"):
        open_image(path)


def test_a_missing_stimulus_is_listed_as_a_problem(tmp_path: Path) -> None:
    saved(tmp_path / "1.png")
    source = manifest(tmp_path / "set.csv", "path,category\n1.png,a\ngone.png,b\n")
    lost = read_catalogue(source).contents[1]
    assert lost == Content("", "cannot be read (No such file or directory)")


# Reading


def test_a_stimulus_file_is_read_whole(tmp_path: Path) -> None:
    path = saved(tmp_path / "1.png")
    assert read_stimulus(path) == path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices are made as Linux does it")
def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in {"pipe.png": "is a pipe", ".": "is a folder"}.items():
        with pytest.raises(UnfitStimulus, match=reason):
            read_stimulus(tmp_path / name)
    manifest(tmp_path / "set.csv", "path,category\npipe.png,a\n/dev/zero,b\n")
    problems = [c.problem for c in read_catalogue(tmp_path / "set.csv", root="/").contents]
    assert problems == ["is a pipe, a socket or a device"] * 2


def test_an_unreadable_file_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = saved(tmp_path / "1.png")
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(UnfitStimulus) as caught:
        read_stimulus(path)
    assert caught.value.reason == "cannot be read (Permission denied)"
    assert str(path) in str(caught.value)


def test_a_file_of_more_than_a_gibibyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "vast.png"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(UnfitStimulus, match="1,073,741,825 bytes"):
        read_stimulus(path)


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


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=12)))
@example(["a1", "a", "ab", "a01", "a1b", "aB", "é2", "é10", "0", "00", "-", "img" + "9" * 40])
def test_numbers_come_before_text_and_names_decide_between_equals(names: list[str]) -> None:
    def plain(name: str) -> Any:
        parts = re.findall(r"[0-9]+|[^0-9]+", name)
        kinds = [(0, int(p), "") if p[0] in "0123456789" else (1, 0, p.casefold()) for p in parts]
        return kinds, name

    assert sorted(names, key=natural_key) == sorted(names, key=plain)


def test_image_files_are_recognised_by_suffix_in_either_case(tmp_path: Path) -> None:
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
def test_grey_and_colour_are_read_unchanged(tmp_path: Path, suffix: str) -> None:
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


FRAMES = [Image.fromarray(np.full((4, 4), grey, np.uint8)) for grey in (10, 200)]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_a_file_of_several_frames_raises(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", FRAMES[0], save_all=True, append_images=FRAMES[1:])
    with pytest.raises(UnfitStimulus, match="more than one frame"):
        read_header(path, path.read_bytes())
    with pytest.raises(UnfitStimulus, match="more than one frame"):
        open_image(path)


def test_the_first_picture_of_a_multi_picture_jpeg_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "camera.jpg"
    FRAMES[0].save(path, "MPO", save_all=True, append_images=FRAMES[1:])
    assert read_header(path, path.read_bytes()).kind == "JPEG"
    assert np.unique(shown(path)).tolist() == [10]


def test_a_large_transparent_picture_is_laid_over_grey_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgba = RNG.integers(0, 256, (31, 7, 4), dtype=np.uint8)
    wide = RNG.integers(0, 65536, (31, 7), dtype=np.uint16)
    paths = [saved(tmp_path / "rgba.png", rgba), saved(tmp_path / "wide.png", wide)]
    whole = [shown(path) for path in paths]
    monkeypatch.setattr("fusiform.engine.stimuli.images._STRIP", 15)
    for path, expected in zip(paths, whole, strict=True):
        np.testing.assert_array_equal(shown(path), expected)


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


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA"])
def test_a_truncated_image_raises_with_its_name(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "cut.png"
    whole = encoded(LARGER, kind)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"cut\.png"):
        open_image(path)


def test_a_tiff_directory_with_a_wrong_type_raises_with_its_name(tmp_path: Path) -> None:
    # A fraction as the offset of the pixels: Pillow raises TypeError.
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
        read_header(path, bytes(content))
        assert open_image(path, bytes(content)).mode in ("L", "RGB")
    except UserError as error:
        assert "damaged" in str(error)  # noqa: PT017


def test_float_pixels_raise(tmp_path: Path) -> None:
    path = saved(tmp_path / "floats.tif", GREY.astype(np.float32))
    with pytest.raises(UserError, match=r"floats\.tif holds floats"):
        open_image(path)


@pytest.mark.parametrize(("low", "high"), [(-1, 9), (0, 65536)])
def test_integers_beyond_16_bits_raise(tmp_path: Path, low: int, high: int) -> None:
    path = saved(tmp_path / "wide.tif", np.array([[low, high]], np.int32))
    with pytest.raises(UserError, match=rf"wide\.tif has grey values from {low} to {high}"):
        open_image(path)


def test_32_bit_integers_within_16_bits_are_scaled(tmp_path: Path) -> None:
    path = saved(tmp_path / "wide.tif", 257 * GREY.astype(np.int32))
    np.testing.assert_array_equal(shown(path), GREY)


def test_a_picture_too_large_to_decode_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "vast.png", LARGER)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnfitStimulus, match=r"vast\.png has 1,280 pixels; at most 200 are"):
        read_header(path, path.read_bytes())
    with pytest.raises(UnfitStimulus, match=r"vast\.png has 1,280 pixels; at most 200 are"):
        open_image(path)


def test_pillow_warnings_do_not_reach_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "large.png", LARGER)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns between this and twice this
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(shown(path), LARGER)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_picture_without_pixels_raises(tmp_path: Path, kind: str) -> None:
    content = bytearray(FILES[kind])
    sides = {"PNG": (">I", 16), "GIF": ("<H", 6), "BMP": ("<I", 18)}
    if kind == "TIFF":
        form, place = "<I", content.index(struct.pack("<HH", 256, 4)) + 8
    else:
        form, place = sides[kind]
    assert struct.unpack_from(form, content, place) == (40,)
    struct.pack_into(form, content, place, 0)
    if kind == "PNG":
        struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    if kind == "GIF":  # the frame within the screen
        struct.pack_into("<H", content, content.index(b",\0\0\0\0") + 5, 0)
    with pytest.raises(UnfitStimulus, match="nothing is in it"):
        open_image(tmp_path / "nothing is in it", bytes(content))


@pytest.mark.parametrize(
    "error", [SyntaxError, MemoryError, RecursionError, struct.error, KeyError]
)
def test_any_pillow_exception_becomes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("several\nlines\x1b of it")

    path = saved(tmp_path / "1.png")
    content = path.read_bytes()
    for place in ("PIL.Image.open", "PIL.ImageFile.ImageFile.load"):
        with monkeypatch.context() as patch:
            patch.setattr(place, fail)
            with pytest.raises(UnfitStimulus) as caught:
                open_image(path, content)
        assert str(caught.value).isprintable()


def test_a_stimulus_listed_under_two_spellings_raises(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,category\na/1.png,x\n./a/1.png,y\n")
    with pytest.raises(UserError, match="line 3"):
        read_catalogue(tmp_path / "m.csv")
