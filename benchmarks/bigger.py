"""A hundred million units on this machine: an RN50x64 at 448 pixels, every block, real decoding.

``python benchmarks/bigger.py`` with FUSIFORM_TESTDATA set writes ``results/bigger.md``. It shows a
few photographs only, takes minutes, and 8 GB of disk in the folder for temporary files.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from cost import described

from fusiform.engine.bench.measure import run_python

RESULTS = Path(__file__).parent / "results" / "bigger.md"
MODEL, IMAGES, BUDGETS = "clip:RN50x64", 8, ("12GiB", "7GiB")
STORE = ("--store-dtype", "float32", "--group", "faces=adult", "--group", "places=house")
_GIB = 2**30


def main() -> None:
    lines = [
        "# More than a hundred million units",
        "",
        "Regenerate: `FUSIFORM_TESTDATA=... python benchmarks/bigger.py`",
        described(),
        f"`{MODEL}`, untrained, every block: 66 layers, 134,874,112 units; "
        f"{2 * IMAGES} photographs of two",
        "categories in two folds. Resident memory at its largest, of each command's process.",
        "",
        "| command | budget, GiB | projected | measured | s |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stimuli, store = folder / "stimuli", folder / "big.zarr"
        photographs = Path(os.environ["FUSIFORM_TESTDATA"]).resolve() / "stimuli" / "floc"
        for name in ("adult", "house"):
            (stimuli / name).mkdir(parents=True)
            for image in sorted((photographs / name).iterdir())[:IMAGES]:
                (stimuli / name / image.name).symlink_to(image)
        for budget in BUDGETS:
            options = ["--memory-budget", budget, "--layers", "blocks"]
            planned = run_python(
                "-m", "fusiform", "plan", MODEL, str(stimuli), *options, *STORE, "--json", "-q"
            )
            found = json.loads(planned.output)
            passes = len(found["passes"])
            started = time.perf_counter()
            scanned = run_python(
                "-m", "fusiform", "scan", MODEL, str(stimuli), "-o", str(store), "--overwrite",
                "--weights", "none", "-q", *options, *STORE,
            )  # fmt: skip
            shown = f"batches of {found['batch_size']}, {passes} pass{'es' * (passes > 1)}"
            lines.append(
                f"| scan, {shown} | {found['budget_bytes'] / _GIB:.2f} | "
                f"{found['peak_bytes'] / _GIB:.2f} | {scanned.peak_bytes / _GIB:.2f} | "
                f"{time.perf_counter() - started:.0f} |"
            )
            print(lines[-1], flush=True)
        for command in (
            ["summary", str(store), "--layers", "layer4.*"],
            ["select", str(store), "--all", "--test", "rest", "--where", "t > 5"],
            ["query", str(store), "t > 5 and csi > 1/3"],
        ):
            started = time.perf_counter()
            asked = run_python("-m", "fusiform", *command)
            text = " ".join([command[0], *command[2:]])
            lines.append(
                f"| {text} | | | {asked.peak_bytes / _GIB:.2f} | "
                f"{time.perf_counter() - started:.0f} |"
            )
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
