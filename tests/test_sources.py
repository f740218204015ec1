"""Arrays, datasets and tables are stimulus sets like the folder of the same images."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import fusiform
from fusiform.engine.decoding.pictures import picture_of
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.querying.store import Store
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.scanning.timing import measure_decoding, spread
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue
from fusiform.engine.stimuli.check import check_stimuli
from fusiform.engine.stimuli.images import UnfitStimulus

from . import flat

SIZES = {"resize": 12, "crop": 8}
PREPROCESSING = Preprocessing(**SIZES)
# Not in natural order, and in turns: sources sort them, and keep the order within a category.
LABELS = np.array(["faces 10", "faces 9"] * 6)
AS_OBJECTS = LABELS.astype(object)
ORDER = [*range(1, 12, 2), *range(0, 12, 2)]
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 20, 16, 3), dtype=np.uint8)
BY_CATEGORY = {name: IMAGES[name == LABELS] for name in ("faces 10", "faces 9")}


def png(image: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def folder(place: Path) -> Path:
    for number, category in enumerate(LABELS):
        own = place / "folder" / category
        own.mkdir(parents=True, exist_ok=True)
        (own / f"{number}.png").write_bytes(png(IMAGES[number]))
    return place / "folder"


def tar(place: Path) -> Path:
    with tarfile.open(place / "set.tar", "w") as written:
        for row, source in ((row, folder(place)) for row in ORDER):
            path = source / LABELS[row] / f"{row}.png"
            written.add(path, path.relative_to(source))
    return place / "set.tar"


def hdf5(place: Path, labels: Any = AS_OBJECTS, **options: Any) -> Path:
    with h5py.File(place / "set.h5", "w", userblock_size=512) as file:
        file.create_dataset("stim/imgBrick", data=IMAGES, **options)
        if labels is not None:
            file["stim/labels"] = labels
    return place / "set.h5:stim/imgBrick"


def of_categories(place: Path) -> Path:
    with h5py.File(place / "set.hdf5", "w") as file:
        for name, images in BY_CATEGORY.items():
            file[name] = images
    return place / "set.hdf5"


def listed(place: Path) -> Path:
    """NSD's layout: images alone in HDF5, categories in a table."""
    hdf5(place, labels=None)
    rows = [f"set.h5:stim/imgBrick/{row},{LABELS[row]}" for row in ORDER]
    (place / "set.csv").write_text("\n".join(["path,category", *rows, ""]))
    return place / "set.csv"


def npz(place: Path) -> Path:
    np.savez(place / "set.npz", images=IMAGES, labels=LABELS)
    return place / "set.npz"


def npz_of_categories(place: Path) -> Path:
    np.savez(place / "set.npz", **BY_CATEGORY)
    return place / "set.npz"


def npy(place: Path) -> Path:
    np.save(place / "images.npy", IMAGES)
    np.save(place / "labels.npy", LABELS)
    return place / "images.npy"


def npy_of_categories(place: Path) -> Path:
    (place / "arrays").mkdir()
    for name, images in BY_CATEGORY.items():
        np.save(place / "arrays" / f"{name}.npy", images)
    return place / "arrays"


def dataset(
    place: Path,
    features: dict[str, Any] | None = None,
    label: Any = None,
    image: Any = None,
    compression: str | None = None,
) -> Path:
    """Files as ``datasets.Dataset.save_to_disk`` writes them: a label is a number of a name."""
    source = place / "dataset"
    source.mkdir(exist_ok=True)
    if features is None:
        names = ["faces 9", "faces 10"]
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    label = [int(name == "faces 10") for name in LABELS] if label is None else label
    image = image or [{"bytes": png(own), "path": None} for own in IMAGES]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {"image": pa.array(image, kind), "label": pa.array(label)}
    table = pa.table({name: columns.get(name, columns["label"]) for name in features})
    for number in range(2):
        part = table.slice(6 * number, 6)
        options = pa.ipc.IpcWriteOptions(compression=compression)
        path = source / f"data-{number:05d}-of-00002.arrow"
        with pa.ipc.new_stream(os.fspath(path), part.schema, options=options) as writer:
            writer.write_table(part, 4)
    files = [{"filename": path.name} for path in sorted(source.glob("*.arrow"))]
    (source / "state.json").write_text(json.dumps({"_data_files": files}))
    (source / "dataset_info.json").write_text(json.dumps({"features": features}))
    return source


def events(place: Path) -> Path:
    """A BIDS dataset, in which some images are shown twice."""
    shutil.move(folder(place), place / "stimuli")
    func = place / "sub-01" / "func"
    func.mkdir(parents=True)
    rows = ["onset\tduration\ttrial_type\tstim_file"]
    rows += [f"{t}\t1\t{LABELS[row]}\t{LABELS[row]}/{row}.png" for t, row in enumerate(ORDER)]
    rows += ["99\t1\tfixation\tn/a", rows[1], rows[2].replace("\tfaces 9/", "\t./faces 9/")]
    (func / "sub-01_task-loc_events.tsv").write_text("\n".join(rows) + "\n")
    return func / "sub-01_task-loc_events.tsv"


KINDS: dict[str, Callable[[Path], Path]] = {
    "tar": tar,
    "hdf5": hdf5,
    "hdf5 chunks": lambda place: hdf5(place, chunks=(5, 8, 16, 1)),
    "hdf5 compressed": lambda place: hdf5(place, compression="gzip", chunks=(5, 8, 16, 1)),
    "hdf5 of categories": of_categories,
    "manifest of hdf5": listed,
    "npz": npz,
    "npz of categories": npz_of_categories,
    "npy": npy,
    "npy of categories": npy_of_categories,
    "dataset": dataset,
    "events": events,
}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return KINDS[request.param](tmp_path / "set")


@pytest.fixture
def scanned(tmp_path: Path) -> Callable[..., Store]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))

    def scan(stimuli: Path, name: str = "", **options: Any) -> Store:
        output = tmp_path / f"{name or len(list(tmp_path.iterdir()))}.zarr"
        return flat.scan(
            net, stimuli, output, layers="0", device="cpu", batch_size=5, preprocessing=SIZES,
            **options,
        )  # fmt: skip

    return scan


def require_same_bits(one: Store, other: Store) -> None:
    assert one.categories == other.categories
    for variable in ("mean", "m2", "t", "selective"):
        own, its = (store.read(store.layers[0], variable) for store in (one, other))
        np.testing.assert_array_equal(own, its)


def refusal(source: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_catalogue(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the same images


def test_every_source_gives_the_bits_of_a_folder(
    source: Path, tmp_path: Path, scanned: Callable[..., Store]
) -> None:
    expected = scanned(folder(tmp_path))
    found = scanned(source)
    require_same_bits(expected, found)
    packed = tmp_path / "packed.zarr"
    assert flat.pack_stimuli(source, packed, preprocessing=SIZES) == 12
    require_same_bits(expected, scanned(packed))
    assert scanned(packed).provenance["fingerprint"] == found.provenance["fingerprint"]


def test_every_source_is_checked(source: Path) -> None:
    report = check_stimuli(source)
    assert report.sound
    assert report.misnamed == ()
    assert [row.stimuli for row in report.categories] == [6, 6]


def test_every_source_is_decoded_by_processes(source: Path) -> None:
    found = read_catalogue(source)
    plan = make_plan(found.labels, found.categories, folds=1, batch_size=5)
    _ = found.contents
    for part in flat.decode_ahead(found, plan, PREPROCESSING, 2, processes=True):
        for stimulus, picture in zip(part.batch.stimuli, part.pixels, strict=True):
            own = picture_of(found.path(stimulus), png(IMAGES[ORDER[stimulus]]), PREPROCESSING)
            np.testing.assert_array_equal(picture, own)


def test_every_source_takes_groups(source: Path) -> None:
    found = read_catalogue(source, {"b": ["faces 10"], "a": ["faces 9"]})
    assert found.categories == ("b", "a")
    one = Image.open(io.BytesIO(found.read(0))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(one), IMAGES[0])
    part = found.chosen(np.array([7, 2])).absolute()
    assert [part.read(i) for i in range(2)] == [found.read(7), found.read(2)]
    assert part.root.is_absolute()


def test_raw_pixels_have_the_hash_of_their_pnm_file(tmp_path: Path) -> None:
    for number in range(12):
        own = tmp_path / "pnm" / LABELS[number]
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[number]).save(own / f"{number}.ppm")
    expected = read_catalogue(tmp_path / "pnm").contents.digests
    for kind in (hdf5, of_categories, listed, npz, npy):
        np.testing.assert_array_equal(read_catalogue(kind(tmp_path)).contents.digests, expected)


@pytest.mark.parametrize("shape", [(12, 20, 16), (12, 20, 16, 1)])
def test_grey_arrays_are_grey_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    grey = IMAGES[..., 0].reshape(shape)
    np.savez(tmp_path / "set.npz", images=grey, labels=LABELS)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"], file["labels"] = grey, LABELS.astype(object)
    for name in ("set.npz", "set.h5"):
        found = read_catalogue(tmp_path / name)
        image = Image.open(io.BytesIO(found.read(3)))
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), IMAGES[ORDER[3], ..., 0])


@pytest.mark.parametrize(
    "labels", [LABELS.astype("S"), np.arange(12) % 2, (np.arange(12) % 2)[None]]
)
def test_labels_are_texts_or_whole_numbers(tmp_path: Path, labels: NDArray[Any]) -> None:
    expected = ("0", "1") if labels.dtype.kind == "i" else ("faces 9", "faces 10")
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=labels)
    for source in (hdf5(tmp_path, labels), tmp_path / "set.npz"):
        found = read_catalogue(source)
        assert found.categories == expected
        assert found.shown_names[0].endswith("/0" if labels.dtype.kind == "i" else "/1")


def test_labels_in_utf8_are_read_whatever_they_are_declared_as(tmp_path: Path) -> None:
    labels = np.char.encode(np.array(["Gesichter", "Häuser"] * 6), "utf-8")
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=labels)
    for source in (hdf5(tmp_path, labels), tmp_path / "set.npz"):
        assert read_catalogue(source).categories == ("Gesichter", "Häuser")


def test_workers_open_hdf5_themselves(
    tmp_path: Path, write_module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write_module("import torch\ndef make(): return torch.nn.Conv2d(3, 4, 3)\n")
    listed(tmp_path)
    monkeypatch.chdir(tmp_path)
    stores = [
        flat.scan(
            f"{module}:make", "set.csv", f"{workers}.zarr", layers="*", preprocessing=SIZES,
            device="cpu", weights="none", workers=workers,
        )
        for workers in (None, 2)
    ]  # fmt: skip
    require_same_bits(*stores)


def test_the_plan_decodes_arrays(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    found = flat.plan(net, hdf5(tmp_path), layers="0", device="cpu", preprocessing=SIZES)
    assert found.decoding > 0
    copies = spread(read_catalogue(tmp_path / "set.h5:stim"), 12, tmp_path)
    measured = measure_decoding(copies, PREPROCESSING, 1)
    assert (measured.tried, measured.failed, measured.side) == (12, 0, 16)


def test_a_stopped_scan_resumes(tmp_path: Path, scanned: Callable[..., Store]) -> None:
    source = hdf5(tmp_path)

    def stop(event: Any) -> None:
        if event.stage == "scan" and event.done == 5:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        scanned(source, "stopped", progress=Listener(progress=stop))
    notes: list[str] = []
    found = scanned(source, "stopped", progress=Listener(note=notes.append))
    assert any("of 12 stimuli were shown" in note for note in notes), notes
    require_same_bits(found, scanned(source))


def test_recordings_find_the_images_of_a_scan(
    tmp_path: Path, scanned: Callable[..., Store]
) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    values = []
    for kind in (folder, hdf5):
        store = scanned(kind(tmp_path), kind.__name__)
        recorded = flat.record(
            net, kind(tmp_path), tmp_path / f"r-{kind.__name__}.zarr", store=store.path, random=3,
            device="cpu",
        )  # fmt: skip
        values.append(recorded.part("0"))
    np.testing.assert_array_equal(*values)


def test_a_store_finds_arrays_that_were_moved_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    hdf5(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    source = "set.h5:stim/imgBrick"
    flat.scan(net, source, "s.zarr", layers="0", device="cpu", preprocessing=SIZES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    store = fusiform.open_store(tmp_path / "there" / "s.zarr")
    assert store.stimuli.source == tmp_path / "there" / source


# ---- stimuli that cannot be shown


def cut(source: Path) -> Path:
    """Cut the file of arrays short after it was listed."""
    path = Path(str(source).partition(":")[0])
    os.truncate(path, path.stat().st_size * 2 // 3)
    return path


@pytest.mark.parametrize("kind", [hdf5, of_categories, listed, npz, npy, dataset])
def test_images_lost_or_changed_after_listing_are_named(
    kind: Callable[[Path], Path], tmp_path: Path, scanned: Callable[..., Store]
) -> None:
    source = kind(tmp_path)
    found = read_catalogue(source)
    _ = found.contents
    assert found.contents.problems == {}
    part = found.read(7).split(b"255\n", 1)[-1]
    path, content = next(
        (path, content)
        for path in tmp_path.rglob("*.*")
        if path.is_file() and part in (content := path.read_bytes())
    )
    at = content.index(part)
    path.write_bytes(content[: at + 90] + bytes([content[at + 90] ^ 255]) + content[at + 91 :])
    with pytest.raises(UnfitStimulus, match="has changed since the scan began"):
        found.require_unchanged(7, found.read(7))
    os.truncate(path, at + 10)
    with pytest.raises(UnfitStimulus, match=r"cut short|cannot be read") as caught:
        found.read(7)
    assert "\n" not in str(caught.value)


def test_lost_images_are_skipped_and_counted(
    tmp_path: Path, scanned: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = npy(tmp_path)
    own = Catalogue.read

    def read(catalogue: Catalogue, stimulus: int) -> bytes:
        if catalogue.names[stimulus] == "images.npy/4":
            raise UnfitStimulus(catalogue.path(stimulus), "is in a file that is cut short")
        return own(catalogue, stimulus)

    monkeypatch.setattr(Catalogue, "read", read)
    with pytest.raises(UserError, match=r"images.npy/4 is in a file that is cut short"):
        scanned(source)
    store = scanned(source, on_error="skip")
    assert store.skipped == {"faces 10": 1}


@pytest.mark.parametrize("kind", [hdf5, of_categories, npz, npy])
def test_a_file_cut_short_is_refused(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    source = kind(tmp_path)
    path = cut(source)
    assert f"{path} is not, or is damaged" in refusal(source)


def test_a_dataset_cut_short_is_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path) / "data-00001-of-00002.arrow"
    os.truncate(path, path.stat().st_size * 2 // 3)
    assert f"{path} is not (" in refusal(tmp_path / "dataset")
    with pa.OSFile(os.fspath(dataset(tmp_path) / path.name)) as file:
        pa.ipc.open_stream(file).read_next_batch()
        between = file.tell()
    os.truncate(path, between)
    assert f"{path} is not (it does not end as a stream" in refusal(tmp_path / "dataset")


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("data-00001-of-00002.arrow", "lacks data-00001-of-00002.arrow: restore"),
        ("state.json", "lacks state.json: restore"),
        ("dataset_info.json", "lacks dataset_info.json: restore"),
    ],
)
def test_a_dataset_without_one_of_its_files_is_refused(
    tmp_path: Path, lost: str, said: str
) -> None:
    source = dataset(tmp_path)
    (source / lost).unlink()
    assert said in refusal(source)


def test_archives_beside_a_dataset_do_not_replace_it(tmp_path: Path) -> None:
    source = dataset(tmp_path)
    (source / "backup.tar.gz").touch()
    assert len(read_catalogue(source)) == 12
    shutil.move(tar(tmp_path), source)
    assert len(read_catalogue(source)) == 12


# ---- refusals


def test_images_of_another_type_or_shape_are_refused_with_a_remedy(tmp_path: Path) -> None:
    for images, said in {
        "floats": (IMAGES / 255, "float64, 12 x 20 x 16 x 3: scale it to 0 to 255"),
        "channels": (np.moveaxis(IMAGES, 3, 1), "12 x 3 x 20 x 16: put the channels last"),
        "alpha": (np.zeros((12, 9, 9, 4), np.uint8), "leave out the fourth channel"),
        "single": (IMAGES[0], "20 x 16 x 3: give it the shape of images"),
        "empty": (np.zeros((12, 0, 9, 3), np.uint8), "12 x 0 x 9 x 3: give it the shape"),
    }.values():
        np.savez(tmp_path / "set.npz", images=images, labels=LABELS)
        assert said in refusal(tmp_path / "set.npz")
        with h5py.File(tmp_path / "set.h5", "w") as file:
            file["images"], file["labels"] = images, LABELS.astype(object)
        assert said in refusal(tmp_path / "set.h5")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS[:7], "has 7 for 12 images"),
        (np.arange(12) / 2, "is float64: save it with astype(int)"),
        (np.array(["a", " ", *"bcdefghijk"]), "number 1 of set"),
        (np.array(["a", "x" * 5000, *"bcdefghijk"]), "has 5,000 characters"),
    ],
)
def test_labels_that_are_no_categories_are_refused(
    tmp_path: Path, labels: NDArray[Any], said: str
) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=labels)
    assert said in refusal(tmp_path / "set.npz")
    texts = labels.astype(object) if labels.dtype.kind == "U" else labels
    assert said in refusal(hdf5(tmp_path, texts))


@pytest.mark.parametrize("kind", ["V4", complex, h5py.ref_dtype, h5py.vlen_dtype(int), "i4,f4"])
def test_hdf5_has_labels_that_are_neither_texts_nor_numbers(tmp_path: Path, kind: Any) -> None:
    source = hdf5(tmp_path, None)
    with h5py.File(tmp_path / "set.h5", "a") as file:
        file.create_dataset("stim/labels", 12, kind)
    assert "labels are texts or whole numbers; set.h5:stim/labels is" in refusal(source)


@pytest.mark.parametrize("order", "<>")
def test_numbers_that_are_no_characters_are_refused(tmp_path: Path, order: str) -> None:
    codes = LABELS.astype(f"{order}U8").view(f"{order}u4")
    codes[3] |= 2**30
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", codes.view(f"{order}U8"))
    assert "labels.npy is not, or is damaged (its texts are none)" in refusal(
        tmp_path / "images.npy"
    )


def test_arrays_that_do_not_exist_are_refused_by_name(tmp_path: Path) -> None:
    hdf5(tmp_path)
    npz(tmp_path)
    assert "no 'stim/imgs'" in refusal(tmp_path / "set.h5:stim/imgs")
    assert "did you mean images?" in refusal(tmp_path / "set.npz:image")
    assert "passed over what is no array of set.h5 itself: stim" in refusal(tmp_path / "set.h5")
    assert "does not exist" in refusal(tmp_path / "gone.h5:images")
    np.savez(tmp_path / "flat.npz", images=IMAGES.reshape(12, -1), labels=LABELS)
    assert "flat.npz:images (uint8, 12 x 960)" in refusal(tmp_path / "flat.npz")
    np.save(tmp_path / "images.npy", IMAGES)
    assert "leave out :x" in refusal(tmp_path / "images.npy:x")


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    np.savez(tmp_path / "set.npz", images=IMAGES)
    for source, name in (
        (tmp_path / "images.npy", "images.npy"),
        (tmp_path / "set.npz", "set.npz:images"),
        (hdf5(tmp_path, None), "set.h5:stim/imgBrick"),
    ):
        assert f"{name} has no array labels beside it" in refusal(source)


def test_labels_beside_several_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", train=IMAGES, test=IMAGES, labels=LABELS)
    assert "name one, as FILE:ARRAY" in refusal(tmp_path / "set.npz")
    assert len(read_catalogue(tmp_path / "set.npz:test")) == 12


def test_compressed_and_fortran_arrays_are_refused_with_the_remedy(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "set.npz", **BY_CATEGORY)
    assert "is compressed: save it with numpy.savez" in refusal(tmp_path / "set.npz")
    np.savez(tmp_path / "set.npz", images=np.asfortranarray(IMAGES), labels=LABELS)
    assert "save numpy.ascontiguousarray(images)" in refusal(tmp_path / "set.npz")


def test_chunks_of_many_images_are_noted_with_the_remedy(tmp_path: Path) -> None:
    (note,) = read_catalogue(hdf5(tmp_path, compression="gzip", chunks=(5, 8, 16, 1))).notes
    assert "h5repack -l stim/imgBrick:CHUNK=1x20x16x3 set.h5 NEW.h5 is faster" in note
    assert read_catalogue(hdf5(tmp_path, compression="gzip", chunks=(1, 20, 16, 3))).notes == ()


def test_files_without_h5py_are_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = hdf5(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'fusiform[hdf5]'" in refusal(source)


def test_arrays_beside_folders_are_named(tmp_path: Path) -> None:
    npz(folder(tmp_path))
    assert any("set.npz" in note for note in read_catalogue(tmp_path / "folder").notes)
    npz(tar(tmp_path).parent)
    shutil.rmtree(tmp_path / "folder")
    assert any("set.npz" in note for note in read_catalogue(tmp_path).notes)


def test_other_files_beside_numpy_arrays_are_named(tmp_path: Path) -> None:
    source = npy_of_categories(tmp_path)
    for name in ("a.png", "b.npz", "c.tar.gz"):
        (source / name).touch()
    expected = "passed over 3 files beside the .npy files: a.png, b.npz, c.tar.gz"
    assert read_catalogue(source).notes == (expected,)
    npz(tmp_path)
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as file:
        file.writestr("readme.txt", "")
    expected = "passed over 1 files beside the .npy files: readme.txt"
    assert read_catalogue(tmp_path / "set.npz").notes == (expected,)


def test_labels_beside_those_that_count_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS, category=LABELS)
    expected = "passed over arrays that are not images: category"
    for name in ("set.npz", "set.npz:images"):
        assert read_catalogue(tmp_path / name).notes == (expected,)


def test_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    source = npy_of_categories(tmp_path)
    shutil.copy(source / "faces 9.npy", source / "faces 9.NPY")
    if len(list(source.iterdir())) == 3:  # case counts in this file system
        assert "has faces 9 2 times: keep one" in refusal(source)
    npz(tmp_path)
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as file, pytest.warns(match="Duplicate name"):
        file.writestr("images.npy", (source / "faces 9.npy").read_bytes())
    assert "has images.npy 2 times: keep one" in refusal(tmp_path / "set.npz")


# ---- strangers


class Ran:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["images", "labels"])
@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_nothing_is_unpickled(tmp_path: Path, name: str, kind: str) -> None:
    arrays = {"images": IMAGES, "labels": LABELS}
    arrays[name] = np.array([Ran(tmp_path / "ran")] * 12, dtype=object)
    if kind == "npz":
        np.savez(tmp_path / "set.npz", **arrays)
    for own, values in arrays.items():
        np.save(tmp_path / f"{own}.npy", values)
    message = refusal(tmp_path / ("set.npz" if kind == "npz" else "images.npy"))
    assert "object" in message
    assert not (tmp_path / "ran").exists()


def test_hdf5_that_leads_to_other_files_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"], file["labels"] = IMAGES, LABELS.astype(object)
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint8)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "images", IMAGES.shape)
    (tmp_path / "raw").write_bytes(IMAGES.tobytes())
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.h5", "images")
        file["inside"] = h5py.ExternalLink("other.h5", "/")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset(
            "external", IMAGES.shape, np.uint8, external=[(str(tmp_path / "raw"), 0, IMAGES.size)]
        )
        file["labels"] = LABELS.astype(object)
    for name in ("linked", "inside/images"):
        assert "is a link to another" in refusal(tmp_path / f"set.h5:{name}")
    for name in ("virtual", "external"):
        assert "has its values in other files" in refusal(tmp_path / f"set.h5:{name}")


def test_soft_links_through_other_hdf5_files_are_passed_over(tmp_path: Path) -> None:
    """At the place of the other file's images, this file has other bytes."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"], file["labels"] = IMAGES, LABELS.astype(object)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["padding"] = np.zeros(2**17, np.uint8)
        file["inside"] = h5py.ExternalLink("other.h5", "/")
        file["linked"], file["labels"] = (
            h5py.SoftLink(f"/inside/{one}") for one in ("images", "labels")
        )
        file["here"], file["own"] = IMAGES, h5py.SoftLink("/here")
        file["pipe"] = h5py.ExternalLink("pipe", "/")  # opened, it would wait for a writer
        file["loop"], file["waits"] = h5py.SoftLink("/loop"), h5py.SoftLink("pipe/images")
    os.mkfifo(tmp_path / "pipe")
    noted = (
        "passed over what is no array of set.h5 itself: inside, labels, linked, loop, pipe, waits"
    )
    assert noted in read_catalogue(tmp_path / "set.h5").notes
    assert read_catalogue(tmp_path / "set.h5").categories == ("here", "own")
    assert "itself: labels" in refusal(tmp_path / "set.h5:here")
    for name in ("pipe/images", "waits", "loop"):
        assert "is a link to another" in refusal(tmp_path / f"set.h5:{name}")


def test_arrays_that_claim_images_without_end_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for name in "ab":
            file.create_dataset(name, (2**40, 8, 8, 3), np.uint8, chunks=(1, 8, 8, 3))
    assert "more images than its file has bytes" in refusal(tmp_path / "set.h5")


@pytest.mark.parametrize("way", ["dots", "absolute", "link"])
def test_manifests_open_no_array_outside_their_folder(tmp_path: Path, way: str) -> None:
    (tmp_path / "in").mkdir()
    hdf5(tmp_path, labels=None)
    named = {"dots": "../set.h5", "absolute": f"{tmp_path}/set.h5", "link": "link.h5"}[way]
    (tmp_path / "in" / "link.h5").symlink_to(tmp_path / "set.h5")
    rows = [f"{named}:stim/imgBrick/{row},{LABELS[row]}" for row in range(12)]
    manifest = tmp_path / "in" / "set.csv"
    manifest.write_text("\n".join(["path,category", *rows]))
    assert "leads out of" in refusal(manifest)
    assert len(read_catalogue(manifest, root=tmp_path)) == 12


def test_manifests_name_images_of_arrays_beside_files(tmp_path: Path) -> None:
    npz(tmp_path)
    np.save(tmp_path / "own.npy", IMAGES)
    folder(tmp_path)
    rows = ["folder/faces 10/0.png,a", "set.npz:images/01,a", "own.npy/2,b", "./own.npy/3,b"]
    (tmp_path / "set.csv").write_text("\n".join(["path,category", *rows]))
    found = read_catalogue(tmp_path / "set.csv")
    assert found.names[1:3] == ["set.npz:images/1", "own.npy/2"]
    for stimulus in range(4):
        shown = np.asarray(Image.open(io.BytesIO(found.read(stimulus))))
        np.testing.assert_array_equal(shown, IMAGES[stimulus])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("set.npz:images/12", "set.npz:images has 12"),
        ("set.npz/0", "set.csv line 3 names set.npz without its array: known: images, labels"),
        ("set.npz:images/2.0", "set.csv line 3 names set.npz:images/2.0: correct it"),
        ("set.npz:images[2]", "set.csv line 3 names set.npz:images[2]: correct it"),
        ("set.npz:labels/0", "an array of images is uint8"),
        ("gone.npz:images/0", "set.csv line 3 names the file gone.npz, which is not in"),
        ("set.npz:images/001", "repeats set.npz:images/001"),
    ],
)
def test_manifests_name_images_that_exist_and_once(tmp_path: Path, row: str, said: str) -> None:
    npz(tmp_path)
    (tmp_path / "set.csv").write_text(f"path,category\nset.npz:images/1,a\n{row},b\n")
    assert said in refusal(tmp_path / "set.csv")


# ---- datasets


def test_paths_in_a_dataset_stay_in_its_folder(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": f"{number}.png"} for number in range(12)]
    source = dataset(tmp_path, image=images)
    for number in range(12):
        (source / f"{number}.png").write_bytes(png(IMAGES[number]))
    found = read_catalogue(source)
    assert found.names[0] == "1.png"
    assert [found.read(i) for i in range(12)] == [png(IMAGES[row]) for row in ORDER]
    images[3]["path"] = f"{tmp_path}/other.png"
    assert "other.png leads out of" in refusal(dataset(tmp_path, image=images))
    assert len(read_catalogue(source, root=tmp_path)) == 12
    images[3]["path"] = "2.png"
    assert "2.png occurs 2 times" in refusal(dataset(tmp_path, image=images))


def test_files_of_a_dataset_stay_in_its_folder(tmp_path: Path) -> None:
    source = dataset(tmp_path)
    (source / "data-00000-of-00002.arrow").rename(tmp_path / "x.arrow")
    (source / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x.arrow"}]}))
    assert "../x.arrow leads out of" in refusal(source)


IMAGE, TEXT = {"_type": "Image"}, {"dtype": "string", "_type": "Value"}
CLASSES = {"names": ["faces 9", "faces 10"], "_type": "ClassLabel"}


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"image": IMAGE}, "{source} has none (columns: image): name one"),
        ({"label": CLASSES}, "one column of images; {source} has none (columns: label)"),
        ({"image": IMAGE, "a": CLASSES, "b": CLASSES}, "has a, b (columns: image, a, b): name one"),
        ({"image": IMAGE, "other": IMAGE, "label": CLASSES}, "has image, other"),
        ({"image": IMAGE, "label": {**CLASSES, "names": ["a", "a"]}}, "different names"),
        ({"image": IMAGE, "label": {**CLASSES, "names": ["a", ""]}}, "different names, none empty"),
        ("features", "one column of images"),
    ],
)
def test_datasets_without_images_or_categories_are_refused(
    tmp_path: Path, features: Any, said: str
) -> None:
    source = dataset(tmp_path)
    (source / "dataset_info.json").write_text(json.dumps({"features": features}))
    assert said.format(source=source) in refusal(source)


def test_a_column_of_a_dataset_can_be_named(tmp_path: Path) -> None:
    labels = [str(name) for name in LABELS]
    source = dataset(tmp_path, {"image": IMAGE, "kind": TEXT, "x": TEXT}, label=labels)
    assert read_catalogue(Path(f"{source}:kind")).categories == ("faces 9", "faces 10")
    assert "did you mean kind?" in refusal(Path(f"{source}:kin"))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "uint64"])
def test_whole_numbers_of_any_size_are_categories(tmp_path: Path, kind: str) -> None:
    numbers = pa.array([0, 1] * 6, getattr(pa, kind)())
    source = dataset(tmp_path, {"image": IMAGE, "label": {"dtype": kind}}, label=numbers)
    assert read_catalogue(source).categories == ("0", "1")


@pytest.mark.parametrize("label", [-1, 2, None])
def test_rows_without_a_class_are_refused(tmp_path: Path, label: int | None) -> None:
    labels = [0, 1] * 4 + [label] + [0, 1, 0]
    assert "label in row 2 of" in refusal(dataset(tmp_path, label=labels))


def test_rows_without_an_image_are_refused(tmp_path: Path) -> None:
    for missing in ({"bytes": None, "path": None}, None):
        images = [*({"bytes": png(own), "path": "x.png"} for own in IMAGES[:11]), missing]
        assert "row 5 of" in refusal(dataset(tmp_path, image=images))


def test_compressed_datasets_and_several_splits_are_refused(tmp_path: Path) -> None:
    assert "is compressed: save it again" in refusal(dataset(tmp_path, compression="zstd"))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "has train, test: name one" in refusal(tmp_path)


def test_metadata_that_are_not_json_are_refused(tmp_path: Path) -> None:
    source = dataset(tmp_path)
    for content in ("[]", "{", "[" * 100_000):
        (source / "state.json").write_text(content)
        assert "metadata are JSON" in refusal(source)


# ---- BIDS


def test_trials_of_a_stimulus_count_once_and_blanks_are_noted(tmp_path: Path) -> None:
    found = read_catalogue(events(tmp_path))
    assert len(found) == 12
    assert found.root == tmp_path / "stimuli"
    name = "sub-01_task-loc_events.tsv"
    assert found.notes == (
        f"{name} has 1 trials without a stimulus",
        f"{name} has 2 further trials of a stimulus",
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1\t1\thouses\tfaces 10/0.png", "which was faces 10 before"),
        ("1\t1\tn/a\tx.png", "has n/a for x.png"),
        ("1\t1\tfaces\t../../x.png", "../../x.png leads out of"),
    ],
)
def test_trials_without_one_category_inside_are_refused(
    tmp_path: Path, row: str, said: str
) -> None:
    source = events(tmp_path)
    with source.open("a") as file:
        file.write(row + "\n")
    assert said in refusal(source)


def test_tables_without_columns_or_folder_are_refused(tmp_path: Path) -> None:
    source = events(tmp_path)
    content = source.read_text()
    source.write_text(content.replace("trial_type", "kind"))
    assert "lacks trial_type" in refusal(source)
    source.write_text(content.replace("\t", ","))
    assert "has tabs between its columns" in refusal(source)
    source.write_text(content)
    shutil.move(tmp_path / "stimuli", tmp_path / "elsewhere")
    assert "in its folder stimuli" in refusal(source)


def test_a_table_in_the_folder_of_stimuli_names_its_files(tmp_path: Path) -> None:
    source = events(tmp_path)
    source.rename(tmp_path / "stimuli" / "stimuli.tsv")
    assert len(read_catalogue(tmp_path / "stimuli" / "stimuli.tsv").contents.problems) == 0
