"""Scans of the same images from every kind of stimulus set: seconds, and memory by their number.

Takes some minutes. Every row is a process of its own, with a network of one small layer.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from PIL import Image

from ..shared import again, files_of, head, heading, row, save, scan

NUMBERS = (2_000, 20_000)
SIDE, CATEGORIES = 64, 4
SIZES = {"resize": 32, "crop": 32}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--set", help="scan one set, here")


def main(arguments: Namespace) -> None:
    if arguments.set:
        print(json.dumps(measure(arguments.set)))
        return
    rows = []
    for kind, write in KINDS.items():
        least: dict[str, Any] = {}
        for number in NUMBERS:
            with tempfile.TemporaryDirectory() as folder:
                source = write(Path(folder), number)
                size = sum(files_of(Path(folder)))
                found = json.loads(again(__name__, "--set", str(source)).output)
            least = least or found
            rows.append(_row(kind, number, size, found, found["peak"] - least["peak"]))
            print(rows[-1], flush=True)
    lines = [
        *heading(__name__, "Images from every kind of stimulus set"),
        f"Images of {SIDE} x {SIDE} random pixels in {CATEGORIES} categories. `list`: from the",
        "source to a catalogue; `hash`: every image read and hashed; `scan`: a whole scan, which",
        "lists and hashes again, with a network of one small layer. `peak`: memory of the process",
        "at its highest, and by how much it is above that of the smaller set.",
        "",
        *head("source", "images", "on disk", "list", "hash", "scan", "peak", "more"),
        *rows,
    ]
    save(__name__, lines)


def _row(kind: str, number: int, size: int, found: dict[str, Any], more: int) -> str:
    seconds = (f"{found[step]:.1f} s" for step in ("list", "hash", "scan"))
    peak, above = f"{found['peak'] / 2**20:,.0f} MiB", f"{more / 2**20:+,.0f} MiB"
    return row(kind, f"{number:,}", f"{size / 1e6:,.0f} MB", *seconds, peak, above)


def network() -> Any:
    """A network of one small layer."""
    return torch.nn.Conv2d(3, 4, 8, stride=8)


def measure(source: str) -> dict[str, Any]:
    """List, hash and scan one set, in this process."""
    from fusiform.engine.scanning.memory import peak_memory
    from fusiform.engine.stimuli.catalogue import read_catalogue

    started = time.perf_counter()
    catalogue = read_catalogue(source)
    listed = time.perf_counter()
    problems = catalogue.contents.problems
    hashed = time.perf_counter()
    assert not problems
    with tempfile.TemporaryDirectory() as folder:
        found = scan(
            f"{__name__}:network", source, Path(folder) / "s.zarr", layers="*",
            preprocessing=SIZES, memory_budget="2GiB", batch_size=64,
        )  # fmt: skip
    return {
        "list": listed - started,
        "hash": hashed - listed,
        "scan": found.seconds,
        "peak": peak_memory(),
    }


def _images(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (number, SIDE, SIDE, 3), dtype=np.uint8)


def _labels(number: int) -> NDArray[Any]:
    return np.array([f"c{i % CATEGORIES}" for i in range(number)])


def _png(image: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def _folder(place: Path, number: int) -> Path:
    for i, (image, label) in enumerate(zip(_images(number), _labels(number), strict=True)):
        path = place / label / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_png(image))
    return place


def _tar(place: Path, number: int) -> Path:
    with tarfile.open(place / "set.tar", "w") as tar:
        for i, (image, label) in enumerate(zip(_images(number), _labels(number), strict=True)):
            content = _png(image)
            member = tarfile.TarInfo(f"{label}/{i}.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return place / "set.tar"


def _hdf5(place: Path, number: int, **options: Any) -> Path:
    with h5py.File(place / "set.h5", "w") as file:
        file.create_dataset("images", data=_images(number), **options)
        file["labels"] = _labels(number).astype(object)
    return place / "set.h5"


def _compressed(place: Path, number: int) -> Path:
    return _hdf5(place, number, compression="gzip", chunks=(1, SIDE, SIDE, 3))


def _npz(place: Path, number: int) -> Path:
    np.savez(place / "set.npz", images=_images(number), labels=_labels(number))
    return place / "set.npz"


def _dataset(place: Path, number: int) -> Path:
    """A dataset as Hugging Face's ``save_to_disk`` writes it."""
    files = [{"bytes": _png(image), "path": None} for image in _images(number)]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    labels = [i % CATEGORIES for i in range(number)]
    table = pyarrow.table({"image": pyarrow.array(files, kind), "label": labels})
    with pyarrow.ipc.new_stream(str(place / "data.arrow"), table.schema) as writer:
        writer.write_table(table, 1000)
    names = [f"c{i}" for i in range(CATEGORIES)]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    (place / "dataset_info.json").write_text(json.dumps({"features": features}))
    (place / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return place


KINDS: dict[str, Callable[[Path, int], Path]] = {
    "folder of PNG": _folder,
    "tar of PNG": _tar,
    "dataset of PNG": _dataset,
    "HDF5": _hdf5,
    "HDF5, gzip": _compressed,
    "npz": _npz,
}
