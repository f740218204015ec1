"""Two localizers on a trained ResNet-18: units in common, and one set as the test of the other.

Needs the test data.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from fusiform.engine.bench.measure import run

from ..shared import RESNET18, heading, save, testdata

COMPARE = "compare floc.zarr funcloc.zarr --localizers --categories faces,places=houses,objects"
SCANS = (
    f"scan resnet18 floc --groups floc --weights {RESNET18} -o floc.zarr -q",
    f"scan resnet18 funcloc --weights {RESNET18} -o funcloc.zarr -q",
)
SHOWN = (
    f"{COMPARE} --wide",
    f"record resnet18 funcloc --from floc.zarr --weights {RESNET18} --layers layer4.1,avgpool "
    "--select 'faces > places + objects' -o faces.responses.zarr -q",
    "responses faces.responses.zarr auc --contrast faces --wide",
)


def main() -> None:
    data = testdata()
    lines = [
        *heading(__name__, "Two localizers on one network", needs_testdata=True),
        "",
        "1: fLoc (Stigliani, Weiner & Grill-Spector 2015), 96 photographs in each of 5 domains.",
        "2: FuncLoc (J. M. Tyszka), 40 photographs each of faces, houses and objects.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in ("floc", "funcloc"):
            Path(name).symlink_to(data / "stimuli" / name)
        Path(RESNET18).symlink_to(data / "weights" / RESNET18)
        for command in (*SCANS, *SHOWN):
            print(f"fusiform {command}", flush=True)
            found = run(*shlex.split(command))
            lines += ["", "```", f"$ fusiform {command}", *found.output.splitlines(), "```"]
    save(__name__, lines)
