"""Packed sets give the bits of their files, can be read by zarr, and are checked for damage."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import tarfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import fusiform
from fusiform.engine import beside
from fusiform.engine.decoding.pictures import prepare
from fusiform.engine.errors import UserError
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.querying.store import Store
from fusiform.engine.scanning import pack
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.stimuli.catalogue import read_catalogue
from fusiform.engine.stimuli.images import UnfitStimulus, open_image
from fusiform.engine.stimuli.packed import layout

from . import flat

SIZES = {"resize": 12, "crop": 8}
PREPROCESSING = Preprocessing(**SIZES)
PICTURE_BYTES = 8 * 8 * 3
IN_FILE = 5


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Force several picture files, the last one partly filled."""
    monkeypatch.setattr(layout, "_SHARD_BYTES", IN_FILE * PICTURE_BYTES)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Colour and grey pictures of several kinds and shapes, in three folders of four."""
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "files" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shape = (20 + number, 31 - number, 3) if number % 2 else (17, 16 + number)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        image.save(folder / f"é {number}{'.png' if number % 4 else '.jpg'}")
    return tmp_path / "files"


@pytest.fixture
def packed(files: Path) -> Path:
    output = files.with_name("packed.zarr")
    assert flat.pack_stimuli(files, output, preprocessing=SIZES) == 12
    return output


@pytest.fixture
def scanned(tmp_path: Path) -> Callable[..., Store]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))

    def scan(stimuli: Path, **options: Any) -> Store:
        return flat.scan(
            net, stimuli, tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr", layers="0",
            device="cpu", batch_size=5, preprocessing=SIZES, **options,
        )  # fmt: skip

    return scan


def require_same_bits(one: Store, other: Store) -> None:
    assert one.provenance["fingerprint"] == other.provenance["fingerprint"]
    for variable in ("mean", "m2", "t", "selective"):
        own, its = (store.read(store.layers[0], variable) for store in (one, other))
        np.testing.assert_array_equal(own, its)


def refusal(source: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_catalogue(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("groups", [None, {"y": ["c", "a"], "x": ["b"]}], ids=["all", "groups"])
def test_a_scan_of_a_packed_set_gives_the_bits_of_its_files(
    files: Path, scanned: Callable[..., Store], groups: dict[str, list[str]] | None
) -> None:
    output = files.with_name("packed.zarr")
    flat.pack_stimuli(files, output, preprocessing=SIZES, groups=groups)
    of_files = scanned(files, groups=groups)
    require_same_bits(of_files, scanned(output))
    assert (
        of_files.stimulus_column("stimulus_path")[0]
        == scanned(output).stimulus_column("stimulus_path")[0]
    )


def test_pictures_with_padding_are_packed_as_they_are_shown(files: Path, tmp_path: Path) -> None:
    padded, output = Preprocessing(13, 16), files.with_name("packed.zarr")
    flat.pack_stimuli(files, output, preprocessing=padded)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    stores = [
        flat.scan(net, source, tmp_path / f"{k}.zarr", layers="0", preprocessing=padded)
        for k, source in enumerate((files, output))
    ]
    require_same_bits(*stores)
    assert stores[0].provenance["preprocessing"]["crop"] == 16


def test_groups_join_categories_of_a_packed_set(
    files: Path, packed: Path, scanned: Callable[..., Store]
) -> None:
    groups = {"y": ["c", "a"], "x": ["b"]}
    require_same_bits(scanned(files, groups=groups), scanned(packed, groups=groups))


def test_a_packed_set_is_normalised_by_the_scanned_network(
    files: Path, packed: Path, tmp_path: Path
) -> None:
    other = Preprocessing(**SIZES, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    stores = [
        flat.scan(net, source, tmp_path / f"{i}.zarr", layers="0", device="cpu",
                      preprocessing=other)
        for i, source in enumerate((files, packed))
    ]  # fmt: skip
    require_same_bits(*stores)


def test_shards_can_be_packed(tmp_path: Path, files: Path, scanned: Callable[..., Store]) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for path in sorted(files.rglob("*.*")):
            tar.add(path, path.relative_to(files))
    flat.pack_stimuli(tmp_path / "set.tar", tmp_path / "set.zarr", preprocessing=SIZES)
    require_same_bits(scanned(tmp_path / "set.tar"), scanned(tmp_path / "set.zarr"))


def test_zarr_and_xarray_read_the_packed_pictures(files: Path, packed: Path) -> None:
    catalogue = read_catalogue(files)
    expected = [prepare(open_image(catalogue.path(i)), PREPROCESSING) for i in range(12)]
    array = zarr.open_group(packed, mode="r")["pictures"]
    np.testing.assert_array_equal(array[:], expected)
    np.testing.assert_array_equal(array[11], expected[11])
    assert array.shards == (IN_FILE, 8, 8, 3)
    assert len(list((packed / "pictures/c").iterdir())) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xarray.open_dataset(packed, engine="zarr")
    np.testing.assert_array_equal(found.pictures, expected)
    assert list(found.stimulus_path.values) == list(catalogue.names)
    assert list(found.category.values) == list(catalogue.categories)
    np.testing.assert_array_equal(found.stimulus_category, catalogue.labels)
    hashes = [catalogue.contents.sha256(i) for i in range(12)]
    assert list(found.stimulus_sha256.values) == hashes
    assert found.attrs["preprocessing"] == {
        "resize": 12, "crop": 8, "interpolation": "bilinear", "squash": False,
    }  # fmt: skip


def test_the_catalogue_of_a_packed_set_equals_that_of_its_files(files: Path, packed: Path) -> None:
    of_files, of_packed = read_catalogue(files), read_catalogue(packed)
    assert of_packed.names == of_files.names
    assert of_packed.categories == of_files.categories
    assert of_packed.contents == of_files.contents
    assert of_packed.path(0) == packed / of_files.names[0]
    image = open_image(of_packed.path(3), of_packed.read(3))
    expected = prepare(open_image(of_files.path(3)), PREPROCESSING)
    np.testing.assert_array_equal(np.asarray(image), expected)
    report = flat.check_stimuli(packed)
    assert report.sound
    assert not report.misnamed


def test_a_subset_of_a_packed_set_reads_its_own_pictures(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_catalogue(packed)
    chosen = np.array([7, 2, 11])
    monkeypatch.chdir(tmp_path)
    part = read_catalogue(packed.name).chosen(chosen).absolute()
    monkeypatch.chdir("/")
    assert [part.read(i) for i in range(3)] == [whole.read(i) for i in chosen.tolist()]


@pytest.mark.parametrize("number", [1, 4, 5, 6, 10])
def test_any_number_of_pictures_can_be_packed(tmp_path: Path, number: int) -> None:
    pictures = np.random.default_rng(number).integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    with pack.Shards(tmp_path, 8) as shards:
        shards.add(pictures[:3])
        shards.add(pictures[3:])
    (tmp_path / "pictures/zarr.json").write_text(
        json.dumps(layout.metadata(number, 1, 8)["pictures"])
    )
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "pictures", mode="r")[:], pictures)


@pytest.mark.parametrize(
    "other", [{"resize": 13}, {"crop": 9}, {"interpolation": "bicubic"}, {"squash": True}]
)
def test_a_network_with_other_preprocessing_is_refused(
    packed: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    with pytest.raises(UserError) as caught:
        flat.scan(
            net, packed, tmp_path / "r.zarr", device="cpu", layers="0",
            preprocessing=SIZES | other,
        )  # fmt: skip
    message = str(caught.value)
    for one in (PREPROCESSING, Preprocessing(**(SIZES | other))):
        assert one.geometry in message
    assert "Sequential takes" in message
    assert not (tmp_path / "r.zarr").exists()


def picture_file(packed: Path, number: int) -> Path:
    return packed / f"pictures/c/{number}/0/0/0"


def test_every_damaged_byte_of_a_packed_file_is_noticed(packed: Path) -> None:
    catalogue = read_catalogue(packed)
    pictures = catalogue.pictures
    assert pictures
    path = picture_file(packed, 2)  # of pictures 10 and 11
    content = path.read_bytes()
    sound = [pictures.picture(i, path).tobytes() for i in (10, 11)]

    def is_refused(i: int, expected: bytes) -> bool:
        """Either it raises, or the pictures are unchanged."""
        try:
            found = pictures.picture(i, path)
        except UnfitStimulus as unfit:
            return unfit.reason == "is damaged in its packed set, by its checksum"
        assert found.tobytes() == expected
        return False

    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        failed = sum(is_refused(i, as_it_was) for i, as_it_was in zip((10, 11), sound, strict=True))
        in_a_picture = place < 2 * (PICTURE_BYTES + 4)
        assert failed == (1 if in_a_picture else 2)


@pytest.mark.parametrize("change", ["damaged", "missing", "cut short"])
def test_damaged_packed_pictures_stop_a_scan_or_are_skipped(
    packed: Path, scanned: Callable[..., Store], change: str
) -> None:
    path = picture_file(packed, 2)
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes(content if change == "damaged" else content[:300])
    with pytest.raises(UserError, match=change) as caught:
        scanned(packed, folds=1)
    assert "\n" not in str(caught.value)
    store = scanned(packed, folds=1, on_error="skip")
    status = store.stimulus_column("stimulus_status")
    assert sum(one != "shown" for one in status) == (1 if change == "damaged" else 2)
    assert change in str(status[10])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("attributes", "schema"), "fusiform"),
        (("attributes", "schema_version"), 2),
        (("attributes", "preprocessing"), []),
        (("attributes", "preprocessing", "crop"), 2**40),
        (("attributes", "preprocessing", "crop"), True),
        (("attributes", "preprocessing", "resize"), 2**62),
        (("attributes", "preprocessing", "mean"), 0),
        (("attributes",), 3),
        (("consolidated_metadata",), None),
        (("consolidated_metadata", "metadata", "pictures", "shape"), [2**60, 8, 8, 3]),
        (("consolidated_metadata", "metadata", "pictures", "shape"), []),
        (("consolidated_metadata", "metadata", "pictures", "shape"), [{}, 8, 8, 3]),
        (("consolidated_metadata", "metadata", "category", "shape"), [2**26]),
        (("consolidated_metadata", "metadata", "category", "codecs"), [{"name": "zstd"}]),
        (("consolidated_metadata", "metadata", "other"), {}),
    ],
)
def test_hostile_packed_metadata_are_refused(
    packed: Path, place: tuple[str, ...], value: object
) -> None:
    path = packed / "zarr.json"
    root = json.loads(path.read_text())
    inside = root
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    path.write_text(json.dumps(root))
    assert "pack the set again" in refusal(packed)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", "{", "\ufffe", " " * (2**20 + 1)])
def test_malformed_packed_metadata_are_refused(packed: Path, text: str) -> None:
    (packed / "zarr.json").write_text(text)
    assert "pack the set again" in refusal(packed)


def test_a_store_is_refused_as_a_packed_set(made_path: Path) -> None:
    assert "a set packed by" in refusal(made_path)


COLUMNS = ("category", "stimulus_path", "stimulus_category", "stimulus_sha256")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_damaged_column_of_a_packed_set_is_refused(packed: Path, column: str) -> None:
    path = packed / column / "c/0"
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        assert "checksum" in refusal(packed)
    path.write_bytes(content[:2])
    assert "pack the set again" in refusal(packed)
    path.unlink()
    assert "pack the set again" in refusal(packed)
    os.mkfifo(path)
    assert "pack the set again" in refusal(packed)


@pytest.fixture(scope="module")
def columns() -> dict[str, bytes]:
    """Valid columns of two stimuli in two categories."""
    return {
        "category": layout.encoded(["a", "b"]),
        "stimulus_path": layout.encoded(["a/1.png", "b/1.png"]),
        "stimulus_category": layout.with_checksum(np.arange(2, dtype="<i4").tobytes()),
        "stimulus_sha256": layout.encoded(["1" * 64, "2" * 64]),
    }


@pytest.mark.parametrize(
    ("column", "content", "said"),
    [
        ("category", layout.encoded(["a", "a"]), "twice"),
        ("category", layout.encoded(["a"]), "number of texts"),
        ("category", layout.encoded(["a", "b", "c"]), "number of texts"),
        ("category", layout.with_checksum(b"\2\0\0\0" + b"\xff" * 8), "number of texts"),
        ("category", layout.with_checksum(b"\2\0\0\0" + 2 * b"\1\0\0\0\xff"), "utf-8"),
        ("category", layout.encoded(["a", "b" * 20_000]), "at most"),
        ("stimulus_path", layout.encoded(["a\0", "b"]), "NUL"),
        ("stimulus_category", layout.with_checksum(b"\0\0\0\0\2\0\0\0"), "unknown categ"),
        (
            "stimulus_category",
            layout.with_checksum(b"\0\0\0\0\xff\xff\xff\xff"),
            "unknown categories",
        ),
        ("stimulus_category", layout.with_checksum(b"\0\0\0\0"), "unknown categories"),
        ("stimulus_category", layout.with_checksum(b""), "categories"),
        ("stimulus_category", layout.with_checksum(b"\0\0\0\0\1"), "pack the set again"),
        ("stimulus_category", layout.with_checksum(bytes(8)), "has none"),
        ("stimulus_sha256", layout.encoded(["1" * 64, "0" * 64]), "SHA-256"),
        ("stimulus_sha256", layout.encoded(["1" * 64, "2" * 62]), "SHA-256"),
        ("stimulus_sha256", layout.encoded(["1" * 64, "g" * 64]), "pack the set again"),
    ],
)
def test_inconsistent_columns_of_a_packed_set_are_refused(
    tmp_path: Path, columns: dict[str, bytes], column: str, content: bytes, said: str
) -> None:
    write_set(tmp_path / "set.zarr", columns)
    assert read_catalogue(tmp_path / "set.zarr").names == ["a/1.png", "b/1.png"]
    write_set(tmp_path / "set.zarr", {**columns, column: content})
    assert said in refusal(tmp_path / "set.zarr")


def write_set(folder: Path, columns: dict[str, bytes]) -> None:
    """Write a set of two stimuli without its pictures."""
    attributes = {
        "schema": layout.SCHEMA,
        "schema_version": layout.VERSION,
        "preprocessing": layout.prepared(PREPROCESSING),
    }
    gathered = {"metadata": layout.metadata(2, 2, 8)}
    for name, content in columns.items():
        layout.column_path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        layout.column_path(folder, name).write_bytes(content)
    root = {"attributes": attributes, "consolidated_metadata": gathered}
    (folder / "zarr.json").write_text(json.dumps(root))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damage=st.data())
def test_any_damage_to_a_packed_set_is_noticed_or_harmless(
    packed: Path, damage: st.DataObject
) -> None:
    path = damage.draw(st.sampled_from(sorted(p for p in packed.rglob("*") if p.is_file())))
    content = path.read_bytes()
    start = damage.draw(st.integers(0, len(content) - 1))
    length = damage.draw(st.integers(0, 8))
    new = content[:start] + damage.draw(st.binary(max_size=8)) + content[start + length :]
    sound = packed.with_name("sound.zarr")
    if not sound.exists():
        shutil.copytree(packed, sound)
    path.write_bytes(new)
    expected = read_catalogue(sound)
    with suppress(UserError):
        found = read_catalogue(packed)
        assert found.names == expected.names
        for stimulus in range(12):
            with suppress(UnfitStimulus):
                assert found.read(stimulus) == expected.read(stimulus)
    path.write_bytes(content)


def test_names_in_a_packed_set_are_never_opened(tmp_path: Path, columns: dict[str, bytes]) -> None:
    outside = layout.encoded(["../../etc/passwd", "/etc/passwd"])
    write_set(tmp_path / "set.zarr", {**columns, "stimulus_path": outside})
    found = read_catalogue(tmp_path / "set.zarr")
    for stimulus in range(2):
        with pytest.raises(UnfitStimulus, match="cannot be read"):
            found.read(stimulus)
    assert set(found.contents.problems) == {0, 1}


class Stopped(Exception):
    pass


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("where", ["decode", "publish", "table"])
def test_a_pack_that_fails_leaves_nothing(
    files: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: object) -> None:
        raise Stopped

    seen = Listener(progress=fail) if where == "decode" else Listener()
    if where != "decode":
        monkeypatch.setattr(pack, {"publish": "publish", "table": "_json"}[where], fail)
    with pytest.raises(Stopped):
        flat.pack_stimuli(files, files.with_name("p.zarr"), preprocessing=SIZES, progress=seen)
    assert left(files.parent) == {"files"}


def test_a_killed_pack_leaves_nothing_that_looks_whole(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[Path] = []
    write = pack._write
    monkeypatch.setattr(beside, "_settle", lambda *_: None)  # no clean-up runs after a kill

    def count(path: Path, content: bytes) -> None:
        writes.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(pack, "_write", count)
        flat.pack_stimuli(files, files.with_name("whole.zarr"), preprocessing=SIZES)
    for last in range(len(writes)):
        done = iter(range(last))

        def stop(path: Path, content: bytes, done: Iterator[int] = done) -> None:
            if next(done, None) is None:
                raise Stopped
            write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(pack, "_write", stop)
            with pytest.raises(Stopped):
                flat.pack_stimuli(files, files.with_name("p.zarr"), preprocessing=SIZES)
        (partial,) = files.parent.glob("p.zarr.partial-*")
        assert refusal(partial)
        assert refusal(partial / "new")
        assert not files.with_name("p.zarr").exists()
        shutil.rmtree(partial)


def test_a_packed_set_is_flushed_before_it_is_published(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    publish = pack.publish

    def look(folder: Path, final: Path) -> None:
        assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} <= flushed
        publish(folder, final)

    monkeypatch.setattr(os, "fsync", lambda number: flushed.add(os.fstat(number).st_ino))
    monkeypatch.setattr(pack, "publish", look)
    flat.pack_stimuli(files, files.with_name("p.zarr"), preprocessing=SIZES)
    assert files.parent.stat().st_ino in flushed


def damaged_jpeg() -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, "JPEG")
    return content.getvalue()[:-200]  # with a valid header


@pytest.mark.parametrize("content", [b"no image", damaged_jpeg()], ids=["none", "damaged"])
def test_undecodable_files_stop_packing_or_are_skipped(files: Path, content: bytes) -> None:
    (files / "b" / "broken.jpg").write_bytes(content)
    output = files.with_name("p.zarr")
    with pytest.raises(UserError, match=r"broken\.jpg") as caught:
        flat.pack_stimuli(files, output, preprocessing=SIZES)
    assert '`on_error="skip"`' in str(caught.value)
    assert left(files.parent) == {"files"}
    notes: list[str] = []
    options = {"preprocessing": SIZES, "on_error": "skip", "progress": Listener(notes.append)}
    assert flat.pack_stimuli(files, output, **options) == 12
    assert sum("skipped: " in note and "broken.jpg" in note for note in notes) == 1
    (note,) = read_catalogue(output).notes
    assert note.startswith("left out when it was packed: b/broken.jpg ")
    (files / "b" / "broken.jpg").unlink()
    assert read_catalogue(output).names == read_catalogue(files).names
    assert read_catalogue(output).contents == read_catalogue(files).contents


def test_packing_a_category_without_decodable_files_raises(files: Path) -> None:
    for number in range(2):
        (files / "d").mkdir(exist_ok=True)
        (files / "d" / f"{number}.jpg").write_bytes(damaged_jpeg())
    with pytest.raises(UserError, match="none of d can be decoded"):
        flat.pack_stimuli(files, files.with_name("p.zarr"), preprocessing=SIZES, on_error="skip")
    assert left(files.parent) == {"files"}


def test_unusable_outputs_of_pack_raise(files: Path, packed: Path) -> None:
    before = {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    for output, said in (
        (packed, "never overwrites"),
        (files / "no" / "p.zarr", "must exist"),
        ("s3://bucket/p.zarr", "is a folder"),
    ):
        with pytest.raises(UserError, match=said):
            flat.pack_stimuli(files, output, preprocessing=SIZES)
    with pytest.raises(UserError, match="is a packed set"):
        flat.pack_stimuli(packed, packed.with_name("q.zarr"), preprocessing=SIZES)
    with pytest.raises(UserError, match="at least 1 thread"):
        flat.pack_stimuli(files, packed.with_name("q.zarr"), decode_workers=0)
    with pytest.raises(UserError, match="no 'size'"):
        flat.pack_stimuli(files, packed.with_name("q.zarr"), preprocessing={"size": 3})
    assert {path: path.read_bytes() for path in before} == before
    assert left(files.parent) == {"files", "packed.zarr"}


def test_packing_takes_the_networks_preprocessing(
    files: Path, write_module: Callable[[str], str]
) -> None:
    name = write_module(
        "import torch, fusiform\n"
        "def net():\n"
        "    return torch.nn.Conv2d(3, 4, 3), fusiform.Preprocessing(10, 9, 'bicubic')\n"
    )
    output = files.with_name("p.zarr")
    flat.pack_stimuli(files, output, model=f"{name}:net", preprocessing={"crop": 7})
    found = read_catalogue(output).pictures
    assert found
    assert found.preprocessing.geometry == "resize 10 (bicubic), crop 7"


def test_plan_measures_packed_sets(files: Path, packed: Path, tmp_path: Path) -> None:
    from fusiform.engine.scanning.timing import as_measured, measure_decoding, spread

    catalogue = read_catalogue(packed)
    paths = spread(catalogue, 6, tmp_path)
    left_to_do = as_measured(PREPROCESSING, catalogue)
    measured = measure_decoding(paths, left_to_do, 1)
    assert (measured.tried, measured.failed, measured.side) == (6, 0, 8)
    expected = [catalogue.pictures.picture(i, packed) for i in range(0, 12, 2)]
    found = [prepare(open_image(path), left_to_do) for path in paths]
    np.testing.assert_array_equal(found, expected)
    assert as_measured(PREPROCESSING, read_catalogue(files)) == PREPROCESSING


def test_the_command_line_packs_and_scans(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiform.cli import main

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["fusiform", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), capsys.readouterr().err

    monkeypatch.chdir(files.parent)
    sizes = ("--resize", "40", "--crop", "32")
    code, said = run("stimuli", "pack", "files", "-o", "p.zarr", *sizes, "--groups", "x=a,b",
                     "--groups", "y=c")  # fmt: skip
    assert code == 0
    assert "packed 12 stimuli" in said
    scan = ("scan", "resnet18", "p.zarr", "-o", "r.zarr", "--weights", "none", "--device", "cpu")
    code, said = run(*scan)
    assert code == 2
    assert said.count("\n") == 1
    assert "resize 40 (bilinear), crop 32" in said
    assert "torchvision:resnet18 takes resize 256 (bilinear), crop 224" in said
    code, said = run(*scan, *sizes, "--layers", "avgpool")
    assert code == 0
    assert fusiform.open_store("r.zarr").categories == ("x", "y")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pack_leaves_nothing(files: Path, number: int) -> None:
    told = Listener(progress=lambda _: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt) as stopped:
        flat.pack_stimuli(files, files.with_name("p.zarr"), preprocessing=SIZES, progress=told)
    assert stopped.value.signal == number
    assert left(files.parent) == {"files"}
