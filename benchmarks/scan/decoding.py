"""Images decoded per second by threads, and by processes as on a GPU.

Photographs from the test data, if it is there, and drawn images in colour. Takes minutes; leave the
machine alone meanwhile.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from fusiform import Preprocessing, make_stimuli
from fusiform.engine.bench.images import as_jpeg, repeat_images
from fusiform.engine.decoding.ahead import ImageSource, decode_ahead
from fusiform.engine.moments.plan import Plan, make_plan
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue

from ..shared import head, heading, photographs, save

SHOWN = Preprocessing(resize=256, crop=224)
WORKERS, TURNS, BATCH = (1, 2, 4, 8, 16), 3, 32
# How many images of each set, and the side of those that are drawn.
IMAGES, DRAWN = 4096, {256: 4096, 768: 1024}


def main() -> None:
    """Measure, and write the report."""
    lines = [
        *heading(__name__, "What decode workers give", needs_testdata=True),
        "JPEG files, read, compared with their SHA-256, decoded, resized and cut to "
        f"{SHOWN.crop} x {SHOWN.crop}, in",
        f"batches of {BATCH}. Images a second after a quarter of them, when processes have begun;",
        f"medians of {TURNS} turns. In brackets what an image takes of the scan's own program:",
        "microseconds that it computes, and how often one of its threads waits for something.",
        "",
        *head("images", "workers", "threads", "processes"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, catalogue in _sets(Path(folder)).items():
            plan = make_plan(catalogue.labels, catalogue.categories, folds=2, batch_size=BATCH)
            for workers in WORKERS:
                lines.append(f"| {name} | {workers} | " + _row(catalogue, plan, workers))
                print(lines[-1], flush=True)
                save(__name__, lines)


def _sets(folder: Path) -> dict[str, Catalogue]:
    found = {}
    if paths := photographs():
        repeat_images(paths, folder / "floc", IMAGES)
        found["photographs, 256 x 256, grey"] = read_catalogue(folder / "floc")
    for side, number in DRAWN.items():
        drawn = make_stimuli(folder / f"drawn {side}", per_category=8, size=side)
        repeat_images([as_jpeg(path) for path in drawn], folder / f"{side}", number)
        found[f"drawn, {side} x {side}, colour"] = read_catalogue(folder / f"{side}")
    return found


def _row(catalogue: Catalogue, plan: Plan, workers: int) -> str:
    ways: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(TURNS):
        for processes, taken in ways.items():
            source = ImageSource(catalogue, SHOWN, workers, processes=processes)
            batches = decode_ahead(source, plan)
            for _ in islice(batches, plan.n_batches // 4):
                pass
            before = _spent()
            shown = sum(len(one.batch.stimuli) for one in batches)
            spent = zip(before, _spent(), strict=True)
            taken.append([(after - earlier) / shown for earlier, after in spent])
    cells = []
    for taken in ways.values():
        clock, own, waits = (statistics.median(part) for part in zip(*taken, strict=True))
        cells.append(f"{1 / clock:,.0f} ({1e6 * own:.0f}, {waits:.0f})")
    return " | ".join(cells) + " |"


def _spent() -> tuple[float, float, int]:
    """Seconds, those that this program has computed, and how often its threads have waited."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, usage.ru_nvcsw
