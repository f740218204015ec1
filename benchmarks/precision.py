"""What half precision costs in t, and what it gives in speed, on this CPU.

``python benchmarks/precision.py`` with FUSIFORM_TESTDATA set writes ``results/precision.md``. Scans
in all precisions take turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from cost import described
from end_to_end import link_images

from fusiform import Result, scan
from fusiform.engine.layer import Layer
from fusiform.engine.scanning.progress import Listener, Progress

RESULTS = Path(__file__).parent / "results" / "precision.md"
WEIGHTS = "resnet18_imagenet_compressed.safetensors"
PRECISIONS = ("float32", "bfloat16", "float16")
IMAGES, TURNS, THRESHOLD = 400, 3, 5


def main() -> None:
    testdata = Path(os.environ["FUSIFORM_TESTDATA"]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        link_images(stimuli, IMAGES)
        paces: dict[str, list[float]] = defaultdict(list)
        stores: dict[str, Result] = {}
        loads: list[float] = []
        for _ in range(TURNS):
            for precision in PRECISIONS:
                output = Path(folder) / f"{precision}.zarr"
                stores[precision], pace = _scanned(testdata, stimuli, output, precision)
                paces[precision].append(pace)
                loads.append(os.getloadavg()[0])
                print(precision, f"{pace:.1f} images/s", flush=True)
        layers = stores["float32"].layers
        rows = [_row(layer, stores) for layer in layers]
    halves = PRECISIONS[1:]
    lines = [
        "# Half precision",
        "",
        "Regenerate: `FUSIFORM_TESTDATA=... python benchmarks/precision.py`",
        described(),
        f"ResNet-18, trained; {IMAGES} photographs of fLoc in five categories, batches of 32, all",
        "blocks.",
        "",
        f"t is that of each category against the rest. `t > {THRESHOLD}`: share of units and",
        "categories; `otherwise`: share that is above in one precision and not in the other than",
        "float32; `largest`: the largest difference of a t from that in float32, and that of 99 in",
        "a hundred. It is 1.00 where a unit responds to a single image in one precision alone.",
        "",
        f"| layer | units | t > {THRESHOLD}, float32 | "
        + " | ".join(f"{name} | otherwise | largest (99 %)" for name in halves)
        + " |",
        "|---|---|---|" + "---|---|---|" * len(halves),
        *rows,
        "",
        "Images a second, of the whole scan from the first batch to the last (median of "
        f"{TURNS} turns; decoding goes on beside it; the machine's load was {min(loads):.0f} to "
        f"{max(loads):.0f}):",
        "",
        "| " + " | ".join(PRECISIONS) + " |",
        "|" + "---|" * len(PRECISIONS),
        "| " + " | ".join(f"{statistics.median(paces[name]):.1f}" for name in PRECISIONS) + " |",
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


def _scanned(testdata: Path, stimuli: Path, output: Path, precision: str) -> tuple[Result, float]:
    """The store, and images a second after the first batch."""
    seen: list[tuple[float, int]] = []

    def progress(event: Progress) -> None:
        if event.stage == "scan":
            seen.append((time.perf_counter(), event.done))

    result = scan(
        "resnet18", stimuli, output, weights=str(testdata / "weights" / WEIGHTS), device="cpu",
        precision=precision, overwrite=True, listener=Listener(progress=progress),
    )  # fmt: skip
    (started, before), (ended, after) = seen[0], seen[-1]
    return result, (after - before) / (ended - started)


def _row(layer: Layer, stores: dict[str, Result]) -> str:
    t = {name: store.read(layer, "t") for name, store in stores.items()}
    whole = t["float32"] > THRESHOLD
    cells = [layer.name, f"{layer.units:,}", f"{100 * whole.mean():.3f} %"]
    for name in PRECISIONS[1:]:
        both = np.isfinite(t[name]) & np.isfinite(t["float32"])
        apart = np.abs(t[name] - t["float32"])[both]
        above = t[name] > THRESHOLD
        cells += [
            f"{100 * above.mean():.3f} %",
            f"{100 * (above != whole).mean():.3f} %",
            f"{apart.max():.2f} ({np.quantile(apart, 0.99):.3f})",
        ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
