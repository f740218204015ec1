"""Half precision: its error in t, and its speed on this CPU.

Needs the test data. Scans in all precisions take turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fusiform.engine.layer import Layer

from ..shared import RESNET18, heading, link_images, row, save, scan, testdata

PRECISIONS = ("float32", "bfloat16", "float16")
IMAGES, TURNS, THRESHOLD = 400, 3, 5


def main() -> None:
    weights = str(testdata() / "weights" / RESNET18)
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        link_images(stimuli, IMAGES)
        paces: dict[str, list[float]] = defaultdict(list)
        stores: dict[str, Any] = {}
        loads: list[float] = []
        for _ in range(TURNS):
            for precision in PRECISIONS:
                output = Path(folder) / f"{precision}.zarr"
                found = scan("resnet18", stimuli, output, weights=weights, precision=precision)
                stores[precision] = found.store
                paces[precision].append(found.pace)
                loads.append(os.getloadavg()[0])
                print(precision, f"{found.pace:.1f} images/s", flush=True)
        layers = stores["float32"].layers
        rows = [_row(layer, stores) for layer in layers]
    halves = PRECISIONS[1:]
    lines = [
        *heading(__name__, "Half precision", needs_testdata=True),
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
    save(__name__, lines)


def _row(layer: Layer, stores: dict[str, Any]) -> str:
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
    return row(*cells)
