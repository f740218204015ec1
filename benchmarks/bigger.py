"""A hundred million units on this machine: an RN50x64 at 448 pixels, every block, real decoding.

``python benchmarks/bigger.py`` with FUSIFORM_TESTDATA set writes ``results/bigger.md``; large
transformers with all tokens, and a ConvNeXt, as well. It shows a few photographs only, and takes
half an hour, 12 GiB of memory and 9 GB of disk in the folder for temporary files.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import time
from pathlib import Path

from cost import described

from fusiform.engine.bench.measure import run_python

RESULTS = Path(__file__).parent / "results" / "bigger.md"
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
    ["select", "--all", "--test", "rest", "--where", "t > 5"],
    ["query", "t > 5 and csi > 1/3"],
)
_GIB = 2**30


def main() -> None:
    lines = [
        "# More than a hundred million units",
        "",
        "Regenerate: `FUSIFORM_TESTDATA=... python benchmarks/bigger.py`",
        described(),
        f"Untrained networks, every block, all tokens; {2 * IMAGES} photographs of two categories",
        f"in two folds, moments in float32. {LARGEST} takes pictures of 448 pixels. GiB are the",
        "most resident memory of a command: given, projected by `fusiform plan`, and measured.",
        "Seconds include start-up, the building of the network, and contrasts.",
        "",
        "| network | units | batches of | passes | given | projected | measured | s |",
        "|---|---|---|---|---|---|---|---|",
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
            f"The store of the last is asked, {_size(store) / 1e9:.1f} GB of it:",
            "",
            "| command | GiB | s |",
            "|---|---|---|",
        ]
        for command, *options in ASKED:
            started = time.perf_counter()
            asked = run_python("-m", "fusiform", command, str(store), *options)
            seconds, text = time.perf_counter() - started, shlex.join([command, "STORE", *options])
            lines.append(f"| `fusiform {text}` | {asked.peak_bytes / _GIB:.2f} | {seconds:.0f} |")
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


def _link(stimuli: Path) -> None:
    photographs = Path(os.environ["FUSIFORM_TESTDATA"]).resolve() / "stimuli" / "floc"
    for name in ("adult", "house"):
        (stimuli / name).mkdir(parents=True)
        for image in sorted((photographs / name).iterdir())[:IMAGES]:
            (stimuli / name / image.name).symlink_to(image)


def _scanned(model: str, stimuli: Path, store: Path, budget: str) -> str:
    options = ["--memory-budget", budget, *STORE, "-q"]
    planned = run_python("-m", "fusiform", "plan", model, str(stimuli), *options, "--json")
    found = json.loads(planned.output)
    started = time.perf_counter()
    scan = ["scan", model, str(stimuli), "-o", str(store), "--overwrite", "--weights", "none"]
    scanned = run_python("-m", "fusiform", *scan, *options)
    seconds = time.perf_counter() - started
    units = sum(layer["units"] for layer in found["layers"])
    given, projected = found["budget_bytes"] / _GIB, found["peak_bytes"] / _GIB
    return (
        f"| {model} | {units:,} | {found['batch_size']} | {len(found['passes'])} | {given:.2f} | "
        f"{projected:.2f} | {scanned.peak_bytes / _GIB:.2f} | {seconds:.0f} |"
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
