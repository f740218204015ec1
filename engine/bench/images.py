"""Images: how fast they are decoded, and that a scan's memory does not grow with their number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from PIL import Image

from ..scanning.decode import prepare
from ..spec import Preprocessing
from ..stimuli.images import open_image
from ..stimuli.localizer import make_localizer
from .measure import Measurement, run, seconds

# Pictures drawn for each of the six categories; larger sets repeat them.
_DRAWN = 8
_DECODED = 96


def measure_decoding(
    preprocessing: Preprocessing, *, threads: int, repeats: int, sides: Sequence[int] = (256, 1024)
) -> Iterator[Measurement]:
    """Images per second and thread, from JPEG files of several sizes to the network's input."""
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            paths = [
                _as_jpeg(path)
                for path in make_localizer(Path(folder) / str(side), per_category=2, size=side)
            ]
            single = 0.0
            for workers in sorted({1, threads}):
                taken = [
                    seconds(partial(_decode, paths, preprocessing, workers)) for _ in range(repeats)
                ]
                rate = _DECODED / median(taken)
                single = single or rate
                yield Measurement(
                    "decoding",
                    f"JPEG, {side} x {side}",
                    f"{workers} thread{'s' * (workers > 1)}",
                    rate,
                    "images/s",
                    {} if workers == 1 else {"of 1 thread": rate / single},
                )


def _as_jpeg(path: Path) -> Path:
    jpeg = path.with_suffix(".jpg")
    with Image.open(path) as image:
        image.convert("RGB").save(jpeg, quality=90)
    return jpeg


def _decode(paths: Sequence[Path], preprocessing: Preprocessing, workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        shown = islice(cycle(paths), _DECODED)
        list(pool.map(lambda path: prepare(open_image(path), preprocessing), shown))


def measure_memory(
    model: str, weights: str, target: str, *, numbers: Sequence[int], batch_size: int
) -> Iterator[Measurement]:
    """Largest resident memory of whole scans of ever more images, each a process of its own."""
    smallest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        drawn = make_localizer(Path(folder) / "drawn", per_category=_DRAWN)
        drawn.sort(key=lambda path: int(path.stem.rpartition("-")[2]))  # every category in turn
        for number in sorted(numbers):
            stimuli = Path(folder) / str(number)
            repeat_images(drawn, stimuli, number)
            finished = run(
                *("scan", model, str(stimuli), "-o", f"{stimuli}.zarr", "--weights", weights),
                *("--device", target, "--batch-size", str(batch_size)),
            )
            smallest = smallest or finished.peak_bytes
            yield Measurement(
                "memory",
                "peak of a whole scan",
                f"{number:,} images",
                finished.peak_bytes / 2**20,
                "MiB",
                {f"of {min(numbers):,} images": finished.peak_bytes / smallest},
            )


def repeat_images(drawn: Sequence[Path], folder: Path, number: int) -> None:
    """Fill a new ``folder`` with ``number`` images, a folder per category as ``drawn`` has it."""
    for i, path in enumerate(islice(cycle(drawn), number)):
        category = folder / path.parent.name
        category.mkdir(parents=True, exist_ok=True)
        (category / f"{i}{path.suffix}").hardlink_to(path)
