"""Known answers of a trained ViT-Ti on localizer photographs. Needs the test data."""

from __future__ import annotations

import os
import shlex
import tempfile

from fusiform.engine.bench.measure import run

from ..shared import DOMAINS, VIT, heading, save, testdata

LAYERS = ("--layers", "blocks.0,blocks.5,blocks.11")


def main() -> None:
    data = testdata()
    groups = [f"{domain}={','.join(folders)}" for domain, folders in DOMAINS.items()]
    scan = ["timm:vit_tiny_patch16_224", *(word for one in groups for word in ("--group", one))]
    scan += ["--mean", *["0.5"] * 3, "--std", *["0.5"] * 3, "-o", "vit.zarr"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run("scan", *scan, str(data / "stimuli/floc"), "--weights", str(data / "weights" / VIT))
        shown = run("summary", "vit.zarr", *LAYERS).output
    lines = [
        *heading(__name__, "A vision transformer", needs_testdata=True),
        "",
        "Stimuli: fLoc (Stigliani, Weiner & Grill-Spector 2015), 96 photographs in each of 5",
        "domains.",
        "",
        "```",
        f"$ fusiform scan {shlex.join(scan)} stimuli/floc --weights {VIT}",
        f"$ fusiform summary vit.zarr {shlex.join(LAYERS)}",
        *shown.splitlines(),
        "```",
    ]
    save(__name__, lines)
