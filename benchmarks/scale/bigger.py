"""A hundred million units: an RN50x64 at 448 pixels planned, scanned and queried.

Needs the test data. Also large transformers with all tokens, and a ConvNeXt. Only a few photographs
are shown: half an hour, 12 GiB of memory, and 9 GB in the folder for temporary files.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path

from fusiform.engine.bench.measure import run

from ..shared import files_of, head, heading, save, testdata

IMAGES = 8
LARGEST = "clip:RN50x64"
SCANS = (
    ("convnext_large", "6GiB"),
    ("clip:ViT-L-14", "6GiB"),
    ("clip:ViT-H-14", "6GiB"),
    (LARGEST, "7GiB"),
    (LARGEST, "12GiB"),
)
STORE = ("--store-dtype", "float32")
ASKED = (
    ["summary", "--layers", "layer4.*"],
    ["select", "--test", "rest", "--where", "t > 5"],
    ["query", "t > 5 and csi > 1/3"],
)
_GIB = 2**30


def main() -> None:
    lines = [
        *heading(__name__, "More than a hundred million units", needs_testdata=True),
        f"Untrained networks, every block, all tokens; {2 * IMAGES} photographs of two categories",
        f"in two folds, moments in float32. {LARGEST} takes pictures of 448 pixels. GiB are the",
        "most resident memory of a command: given, projected by `fusiform plan`, and measured.",
        "Seconds include start-up, the building of the network, and contrasts.",
        "",
        *head("network", "units", "batches of", "passes", "given", "projected", "measured", "s"),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stimuli, store = folder / "stimuli", folder / "o.zarr"
        _link(stimuli)
        for model, budget in SCANS:
            lines.append(_scanned(model, stimuli, store, budget))
            print(lines[-1], flush=True)
        lines += [
            "",
            f"The store of the last is asked, {sum(files_of(store)) / 1e9:.1f} GB of it:",
            "",
            *head("command", "GiB", "s"),
        ]
        for command, *options in ASKED:
            asked = run(command, str(store), *options)
            text = shlex.join([command, "STORE", *options])
            lines.append(
                f"| `fusiform {text}` | {asked.peak_bytes / _GIB:.2f} | {asked.seconds:.0f} |"
            )
            print(lines[-1], flush=True)
    save(__name__, lines)


def _link(stimuli: Path) -> None:
    photographs = testdata() / "stimuli" / "floc"
    for name in ("adult", "house"):
        (stimuli / name).mkdir(parents=True)
        for image in sorted((photographs / name).iterdir())[:IMAGES]:
            (stimuli / name / image.name).symlink_to(image)


def _scanned(model: str, stimuli: Path, store: Path, budget: str) -> str:
    options = ["--memory-budget", budget, *STORE, "-q"]
    planned = run("plan", model, str(stimuli), *options, "--json")
    found = json.loads(planned.output)
    scan = ["scan", model, str(stimuli), "-o", str(store), "--overwrite", "--weights", "none"]
    scanned = run(*scan, *options)
    units = sum(layer["units"] for layer in found["layers"])
    given, projected = found["budget_bytes"] / _GIB, found["peak_bytes"] / _GIB
    return (
        f"| {model} | {units:,} | {found['batch_size']} | {len(found['passes'])} | {given:.2f} | "
        f"{projected:.2f} | {scanned.peak_bytes / _GIB:.2f} | {scanned.seconds:.0f} |"
    )
