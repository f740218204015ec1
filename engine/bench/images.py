"""Images: speed of decoding, and peak memory of scans by number of images."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from PIL import Image

from ..localizer import make_stimuli
from ..preprocessing import Preprocessing
from ..scanning import timing
from ..spec import Network
from .measure import Measurement, ratio, run

# Pictures drawn for each of the six categories; larger sets repeat them.
_DRAWN = 8
_DECODED = 96
# Scans per number of images; the median of their peaks counts.
_SCANS = 3


def measure_decoding(
    preprocessing: Preprocessing, *, threads: int, repeats: int, sides: Sequence[int] = (256, 1024)
) -> Iterator[Measurement]:
    """Images per second, from JPEG files of several sizes to the input of the network."""
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            drawn = make_stimuli(Path(folder) / str(side), per_category=2, size=side)
            paths = list(islice(cycle([as_jpeg(path) for path in drawn]), _DECODED))
            rates: dict[int, list[float]] = {workers: [] for workers in sorted({1, threads})}
            for _ in range(repeats):  # they take turns
                for workers, measured in rates.items():
                    measured.append(timing.measure_decoding(paths, preprocessing, workers).rate)
            for workers, measured in rates.items():
                yield Measurement(
                    "decoding",
                    f"JPEG, {side} x {side}",
                    f"{workers} thread{'s' * (workers > 1)}",
                    median(measured),
                    "images/s",
                    {} if workers == 1 else {"of 1 thread": ratio(measured, rates[1])},
                )


def as_jpeg(path: Path) -> Path:
    """Write a picture as a colour JPEG file beside it."""
    jpeg = path.with_suffix(".jpg")
    with Image.open(path) as image:
        image.convert("RGB").save(jpeg, quality=90)
    return jpeg


def measure_memory(
    network: Network, target: str, *, numbers: Sequence[int], batch_size: int
) -> Iterator[Measurement]:
    """Peak resident memory of whole scans by number of images, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = make_stimuli(Path(folder) / "drawn", per_category=_DRAWN)
        drawn.sort(key=lambda path: int(path.stem.rpartition("-")[2]))  # categories alternate
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
    """Fill a new ``folder`` with ``number`` images, in folders named as those of ``drawn``."""
    for i, path in enumerate(islice(cycle(drawn), number)):
        image = folder / path.parent.name / f"{i}{path.suffix}"
        image.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.hardlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, image)
