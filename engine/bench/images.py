"""Images: how fast they are decoded, and that a scan's memory does not grow with their number."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from PIL import Image

from ..decoding.pictures import prepare
from ..localizer import make_stimuli
from ..preprocessing import Preprocessing
from ..spec import Network
from ..stimuli.images import open_image
from .measure import Measurement, ratio, run, side_by_side

# Pictures drawn for each of the six categories; larger sets repeat them.
_DRAWN = 8
_DECODED = 96
# Scans of which the median peak is taken.
_SCANS = 3


def measure_decoding(
    preprocessing: Preprocessing, *, threads: int, repeats: int, sides: Sequence[int] = (256, 1024)
) -> Iterator[Measurement]:
    """Images per second, from JPEG files of several sizes to the network's input."""
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            drawn = make_stimuli(Path(folder) / str(side), per_category=2, size=side)
            paths = list(islice(cycle([as_jpeg(path) for path in drawn]), _DECODED))
            works = {
                workers: partial(decode, paths, preprocessing, workers)
                for workers in sorted({1, threads})
            }
            taken = side_by_side({str(workers): work for workers, work in works.items()}, repeats)
            for workers in works:
                seconds = taken[str(workers)]
                yield Measurement(
                    "decoding",
                    f"JPEG, {side} x {side}",
                    f"{workers} thread{'s' * (workers > 1)}",
                    _DECODED / median(seconds),
                    "images/s",
                    {} if workers == 1 else {"of 1 thread": ratio(taken["1"], seconds)},
                )


def as_jpeg(path: Path) -> Path:
    """The picture as a colour JPEG file beside it."""
    jpeg = path.with_suffix(".jpg")
    with Image.open(path) as image:
        image.convert("RGB").save(jpeg, quality=90)
    return jpeg


def decode(paths: Sequence[Path], preprocessing: Preprocessing, workers: int) -> None:
    """Decode all images as a scan does, on ``workers`` threads."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda path: prepare(open_image(path), preprocessing), paths))


def measure_memory(
    network: Network, target: str, *, numbers: Sequence[int], batch_size: int
) -> Iterator[Measurement]:
    """Largest resident memory of whole scans of ever more images, each a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = make_stimuli(Path(folder) / "drawn", per_category=_DRAWN)
        drawn.sort(key=lambda path: int(path.stem.rpartition("-")[2]))  # every category in turn
        smallest: list[float] = []
        for number in sorted(set(numbers)):
            stimuli = Path(folder) / str(number)
            repeat_images(drawn, stimuli, number)
            scan = (
                *("scan", str(network.model), str(stimuli), "-o", f"{stimuli}.zarr"),
                *("--weights", network.weights, "--device", target),
                *("--batch-size", str(batch_size), "--overwrite"),
            )
            peaks = [run(*scan).peak_bytes / 2**20 for _ in range(_SCANS)]
            smallest = smallest or peaks
            yield Measurement(
                "memory",
                "peak of a whole scan",
                f"{number:,} images",
                median(peaks),
                "MiB",
                {f"of {min(numbers):,} images": median(peaks) / median(smallest)},
                f"{_SCANS} scans: {min(peaks):,.0f} to {max(peaks):,.0f}",
            )


def repeat_images(drawn: Sequence[Path], folder: Path, number: int) -> None:
    """Fill a new ``folder`` with ``number`` images, a folder per category as ``drawn`` has it."""
    for i, path in enumerate(islice(cycle(drawn), number)):
        image = folder / path.parent.name / f"{i}{path.suffix}"
        image.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.hardlink_to(path)
        except OSError:  # not every file system has links
            shutil.copyfile(path, image)
