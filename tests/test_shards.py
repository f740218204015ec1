"""Tar shards are read in place; malformed ones are refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusiform.engine.errors import UserError
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue
from fusiform.engine.stimuli.columns import Contents

from . import flat

Files = dict[str, bytes]


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def shard(path: Path, files: Files, form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def refusal(source: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_catalogue(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LABELLED: dict[str, Callable[[str], tuple[str, bytes]]] = {
    "cls": lambda label: (".cls", f"{label}\n".encode()),
    "txt": lambda label: (".txt", label.encode()),
    "json": lambda label: (".json", json.dumps({"x": 1, "label": label}).encode()),
}


@pytest.mark.parametrize("kind", LABELLED)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_label_file_beside_an_image_gives_its_category(
    tmp_path: Path, kind: str, form: int
) -> None:
    labels, content = ["9", "10", "9", "10", "9"], [picture(i) for i in range(5)]
    for number in range(2):
        files: Files = {}
        for i in range(number, 5, 2):
            suffix, said = LABELLED[kind](labels[i])
            files |= {f"./00{i}.png": content[i], f"./00{i}{suffix}": said}
        shard(tmp_path / f"s-{10 - number}.tar", files, form)
    found = read_catalogue(tmp_path)
    assert found.categories == ("9", "10")
    expected = ["s-10.tar/000.png", "s-10.tar/002.png", "s-10.tar/004.png"]
    assert found.names == (*expected, "s-9.tar/001.png", "s-9.tar/003.png")
    assert [found.read(i) for i in range(5)] == [content[i] for i in (0, 2, 4, 1, 3)]
    assert found.path(0) == tmp_path / expected[0]
    assert found.notes == ()


def test_a_folder_in_a_shard_is_a_category(tmp_path: Path) -> None:
    files = {f"{c}/é {i}.png": picture(i) for c in ("b", "a", "c/d") for i in range(2)}
    source = shard(tmp_path / "set.tar", {**files, "b/notes.md": b"x", "b/.hidden.png": b"x"})
    for place in (tmp_path, source):
        found = read_catalogue(place)
        assert found.categories == ("a", "b", "c/d")
        assert found.names[0] == "set.tar/a/é 0.png"
        assert "passed over 1 files" in found.notes[0]
    grouped = read_catalogue(source, {"x": ["c/d", "a"], "y": ["b"]})
    assert grouped.categories == ("x", "y")
    assert grouped.names[:3] == ["set.tar/c/d/é 0.png", "set.tar/c/d/é 1.png", "set.tar/a/é 0.png"]
    assert [grouped.read(i) for i in range(3)] == [picture(0), picture(1), picture(0)]


def test_long_and_non_utf8_member_names_are_kept(tmp_path: Path) -> None:
    names = [f"a/{'x' * 300}.png", "b/caf\udce9.png"]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        shard(tmp_path / "set.tar", {name: picture(i) for i, name in enumerate(names)}, form)
        found = read_catalogue(tmp_path)
        assert found.names == tuple(f"set.tar/{name}" for name in names)
        assert found.shown_names[1] == "set.tar/b/caf\\xe9.png"
        assert [found.read(i) for i in range(2)] == [picture(0), picture(1)]


def test_folders_come_before_shards(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture(0))
    shard(tmp_path / "set.tar", {"c/1.png": picture(1), "d/1.png": picture(2)})
    assert read_catalogue(tmp_path).categories == ("a", "b")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_shard_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        member = tarfile.TarInfo("a/1.png")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    assert "a/1.png in" in refusal(tmp_path)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return shard(tmp_path / "set.tar", {f"{'ab'[i % 2]}/{i}.png": picture(i) for i in range(6)})


def test_a_shard_truncated_anywhere_is_refused(whole: Path) -> None:
    content = whole.read_bytes()
    with tarfile.open(whole) as tar:
        end = tar.getmembers()[-1].offset_data + 512
    for length in [0, 100, *range(512, end + 1, 512)]:
        whole.write_bytes(content[:length])
        assert "or is damaged" in refusal(whole.parent), length


def test_a_damaged_tar_header_is_not_taken_for_the_end(whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    with tarfile.open(whole) as tar:
        headers = [member.offset for member in tar.getmembers()]
    for place in headers:
        damaged = bytearray(content)
        damaged[place + 5] ^= 1
        whole.write_bytes(damaged)
        message = refusal(whole.parent)
        assert "or is damaged" in message
        assert not place or f"no header at byte {place:,}" in message


def test_a_file_that_is_not_a_tar_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "set.tar"
    with tarfile.open(source, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a/1.png"))
    assert "uncompressed" in refusal(source)
    source.write_bytes(b"no tar\n" * 500)
    assert "or is damaged" in refusal(source)


def test_a_sample_with_several_images_or_labels_is_refused(tmp_path: Path) -> None:
    one = shard(tmp_path / "1.tar", {"k.png": picture(0), "k.seg.png": picture(1), "k.cls": b"1"})
    assert "k.png, k.seg.png" in refusal(one)
    assert "k.png in" in refusal(shard(tmp_path / "2.tar", {"k.png": picture(0)}))
    twice = {"a/1.png": picture(0), "./a/1.png": picture(1), "b/1.png": picture(2)}
    assert "a/1.png occurs 2 times" in refusal(shard(tmp_path / "3.tar", twice))


@pytest.mark.parametrize("said", [b"\xff", b"[" * 100_000, b"{", b"x" * (2**20 + 1)])
def test_an_image_without_a_category_is_refused(tmp_path: Path, said: bytes) -> None:
    assert "k.json in" in refusal(shard(tmp_path / "1.tar", {"k.png": picture(0), "k.json": said}))


@pytest.mark.parametrize("zeros", [0, 512, 5 * 2**20])
def test_concatenated_archives_are_read_to_the_end(tmp_path: Path, zeros: int) -> None:
    files = {f"{'ab'[i % 2]}/{i}.png": picture(i) for i in range(6)}
    parts = [
        shard(tmp_path / "part", dict([*files.items()][i : i + 2])).read_bytes() for i in (0, 2, 4)
    ]
    (tmp_path / "set.tar").write_bytes(bytes(zeros).join(parts))
    found = read_catalogue(tmp_path / "set.tar")
    assert sorted(found.names) == sorted(f"set.tar/{name}" for name in files)
    assert [found.read(i) for i in range(6)] == [picture(i) for i in (0, 2, 4, 1, 3, 5)]


def test_trailing_bytes_after_an_archive_are_refused(whole: Path) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content + b"signed by me\n" * 100)
    assert "or is damaged" in refusal(whole)
    whole.write_bytes(content * 2)
    assert "occurs 2 times" in refusal(whole)
    with whole.open("r+b") as file:
        file.truncate(2**40)
    assert "bytes of zeros" in refusal(whole)


APART: dict[str, tuple[Files, ...]] = {
    "in order of kind": ({f"x/{i}.png": b"" for i in range(4)}, {f"x/{i}.cls": b"1" for i in "01"}),
    "in a folder of labels": ({f"x/{i}.png": b"" for i in "01"}, {"labels/1.txt": b"one"}),
    "in json": ({"x/0.png": b""}, {"y/0.png": b""}, {"x/0.json": b'{"label": "one"}'}),
    "a second label": ({"0.png": b"", "0.txt": b"a"}, {"1.png": b"", "1.txt": b"b", "0.cls": b"1"}),
    "a second image": ({"x/0.png": b"", "x/0.cls": b"1", "x/1.png": b"", "x/0.jpg": b""},),
}  # fmt: skip


@pytest.mark.parametrize("kind", APART)
@pytest.mark.parametrize("shards", [1, 2])
def test_labels_not_next_to_their_images_are_refused(
    tmp_path: Path, kind: str, shards: int
) -> None:
    if shards == 1 or kind.startswith("a second"):
        shard(tmp_path / "1.tar", {name: c for part in APART[kind] for name, c in part.items()})
    else:
        for number, part in enumerate(APART[kind]):
            shard(tmp_path / f"{number}.tar", part)
    message = refusal(tmp_path)
    assert "are not: create it again" in message
    assert "tar --sort=name" in message


def test_members_that_are_not_labels_may_lie_anywhere(tmp_path: Path) -> None:
    files = {f"{c}/{i}.png": picture(i) for c in "ab" for i in range(2)}
    said = {"a/0.json": b'{"width": 8}', "README.txt": b"\xff", "a/1.json": b"no json"}
    found = read_catalogue(shard(tmp_path / "1.tar", {**files, **said}))
    assert found.categories == ("a", "b")
    assert found.notes == ("passed over 3 files in shards that are not images",)
    for number in range(2):  # the same keys in another shard
        files = {"0.png": picture(0), "0.cls": b"%d" % number, "1.svg": b"", "1.cls": b"0"}
        shard(tmp_path / f"set/{number}.tar", files)
    assert read_catalogue(tmp_path / "set").categories == ("0", "1")


def test_images_with_missing_labels_are_counted(tmp_path: Path) -> None:
    files = {f"x/{i}.png": picture(i) for i in range(3)} | {"x/0.cls": b"1", "x/1.cls": b"2"}
    found = read_catalogue(shard(tmp_path / "1.tar", dict(sorted(files.items()))))
    assert found.categories == ("1", "2", "x")
    assert found.notes == (
        "1 samples in shards have no label file, while 2 have one: their "
        "folder's name is their category",
    )


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".TAR.ZST"])
def test_compressed_shards_are_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    rule = "shards are uncompressed tar files"
    assert f"{rule}; {tmp_path} has a{suffix}" in refusal(tmp_path)
    assert rule in refusal(tmp_path / f"a{suffix}")
    shard(tmp_path / "b.tar", {"a/1.png": picture(0), "b/1.png": picture(1)})
    assert read_catalogue(tmp_path).notes == (
        f"passed over 1 compressed archives (decompress them to .tar) beside the shards: a{suffix}",
    )


def test_mixed_kinds_of_labels_are_counted(tmp_path: Path) -> None:
    kinds, files = [".cls", ".txt", ".json", ".txt"], Files()
    for i, kind in enumerate(kinds):
        label = b'{"label": "b"}' if kind == ".json" else b"%d" % i
        files |= {f"{i}.png": picture(i), f"{i}{kind}": label}
    found = read_catalogue(shard(tmp_path / "1.tar", files))
    assert found.notes == ("labels are of several kinds: 1 by .cls, 1 by .json, 2 by .txt",)
    both = {f"{i}{s}": b"%d" % i for i in range(2) for s in (".cls", ".txt")}
    files = {f"{i}.png": picture(i) for i in range(2)} | both
    assert read_catalogue(shard(tmp_path / "2.tar", dict(sorted(files.items())))).notes == ()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shard(tmp_path / "1.tar", {"a/1.png": picture(0), "b/1.png": picture(1)})
    try:
        (tmp_path / "2.tar").symlink_to(tmp_path / "gone.tar")
    except OSError:
        pytest.skip("links cannot be made here")
    assert "2.tar (No such file or directory)" in refusal(tmp_path)
    (tmp_path / "2.tar").rename(tmp_path / "faces")
    (tmp_path / "3.png").touch()
    assert read_catalogue(tmp_path).notes == (
        "passed over 1 images beside the shards: 3.png",
        "passed over 1 broken links beside the shards: faces",
    )


def test_outputs_beside_shards_do_not_make_them_a_folder_of_folders(tmp_path: Path) -> None:
    shard(tmp_path / "1.tar", {"a/1.png": picture(0), "b/1.png": picture(1)})
    (tmp_path / "out.zarr.partial").mkdir()
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr/zarr.json").touch()
    assert len(read_catalogue(tmp_path)) == 2


@pytest.mark.parametrize("name", ["._x", "x.png", ".y"])
def test_a_member_of_negative_size_raises_one_line(whole: Path, name: str) -> None:
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    whole.write_bytes(bytes(header) + whole.read_bytes())
    assert "or is damaged" in refusal(whole)


def look_again(found: Catalogue) -> Contents:
    return replace(found).contents


def test_a_shard_that_changes_during_a_scan_is_noticed(whole: Path) -> None:
    found = read_catalogue(whole)
    kept = found.contents
    content = whole.read_bytes()
    whole.write_bytes(content[:1200])
    problems = [content.problem for content in look_again(found)]
    assert problems[0] == ""
    assert set(problems[1:]) == {"is in a file that is cut short"}
    assert not kept.problems
    whole.unlink()
    assert {one.problem for one in look_again(found)} == {
        "cannot be read (No such file or directory)"
    }


@pytest.mark.smoke
def test_a_scan_of_shards_equals_that_of_the_files(tmp_path: Path) -> None:
    files = {f"{'ab'[i % 2]}/{i}.png": picture(i) for i in range(12)}
    for name, content in files.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    shard(tmp_path / "shards/1.tar", dict([*files.items()][:5]))
    shard(tmp_path / "shards/2.tar", dict([*files.items()][5:]))
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    stores = [
        flat.scan(
            net, tmp_path / kind, tmp_path / f"{kind}.zarr", layers="0", device="cpu",
            preprocessing={"resize": 8, "crop": 8}, batch_size=5,
        )
        for kind in ("files", "shards")
    ]  # fmt: skip
    assert len({store.provenance["fingerprint"] for store in stores}) == 1
    for variable in ("mean", "m2", "t", "selective"):
        np.testing.assert_array_equal(*(one.read(one.layers[0], variable) for one in stores))
    assert stores[1].stimulus_column("stimulus_path")[0] == "1.tar/a/0.png"
    report = flat.check_stimuli(tmp_path / "shards")
    assert report.sound
