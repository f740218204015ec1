"""Every question of the README to real networks: the answers and their cost.

Needs the test data. A trained ResNet-50, an untrained one, and an untrained CLIP ResNet-50, on 480
photographs.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from fusiform.engine.bench.measure import Finished

from ..shared import RESNET50, answered, asked, head, heading, save, testdata

SOME = "--layers layer4.2,avgpool"
FLOC = "floc --groups floc"
# From photographs to a figure: docs/how-to/study.md shows these commands, and what they print.
WALK = (
    f"stimuli check {FLOC}",
    f"plan resnet50 {FLOC} --weights {RESNET50} --memory-budget 1500MiB",
    f"scan resnet50 {FLOC} --weights {RESNET50} -o r50.zarr",
    f"scan resnet50 {FLOC} --weights none -o r50-untrained.zarr",
    f"summary r50.zarr r50-untrained.zarr {SOME}",
    f"select r50.zarr --contrast 'faces > bodies + objects' --contrast 'faces + bodies > places' "
    f"--test rest --where 'q <= 0.05 and csi > 1/3' {SOME}",
    "query r50.zarr 'faces: t > 5 and csi > 0.33' --layers 'layer4.*' --top 5",
    f"analyse r50.zarr shares spread {SOME}",
    f"compare r50.zarr r50-untrained.zarr --measures share,csi {SOME}",
    "record --from r50.zarr --select '*' --top 25 -o r50.responses.zarr",
    "responses r50.responses.zarr best --contrast faces --layers layer4.2 --top 2",
    "report r50.zarr r50-untrained.zarr --recording r50.responses.zarr -o report.html "
    "--figures figures",
)
OTHERS = (
    f"scan clip:RN50 {FLOC} --weights none --resize 256 --crop 224 --interpolation bilinear "
    "-o clip-untrained.zarr",
    "compare r50-untrained.zarr clip-untrained.zarr --layers layer4.2 --measures share,gini",
    "responses r50.responses.zarr layers --layers layer3.5,layer4.0,layer4.1,layer4.2,avgpool",
)
# What is only timed.
TIMED = (
    "analyse r50.zarr",
    "compare r50.zarr r50-untrained.zarr",
    "compare r50.zarr r50-untrained.zarr clip-untrained.zarr",
    "responses r50.responses.zarr auc",
    "responses r50.responses.zarr ceiling",
    "report r50.zarr r50-untrained.zarr clip-untrained.zarr --recording r50.responses.zarr "
    "-o three.html",
)
# Columns of the terminal that answers are printed for.
COLUMNS = 100


def main() -> None:
    data = testdata()
    lines = [
        *heading(__name__, "The answers", needs_testdata=True),
        "",
        "Stimuli: fLoc (Stigliani, Weiner & Grill-Spector 2015), 96 photographs in each of 5",
        f"domains. On a terminal of {COLUMNS} columns.",
        "",
        "## From photographs to a figure",
    ]
    costs: list[tuple[str, Finished]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["COLUMNS"] = str(COLUMNS)
        Path("floc").symlink_to(data / "stimuli" / "floc")
        Path(RESNET50).symlink_to(data / "weights" / RESNET50)
        for command in WALK:
            found = asked(command)
            lines += answered(command, found)
            if not command.startswith(("stimuli", "plan", "scan")):
                costs.append((command, found))
        lines += ["", "## More answers"]
        for command in OTHERS:
            lines += answered(command)
        costs += [(command, asked(command)) for command in TIMED]
        sizes = {name: Path(name).stat().st_size / 1e6 for name in ("report.html", "three.html")}
    lines += [
        "",
        "## What asking costs",
        "",
        "Each command in a process of its own: seconds with imports, and the most memory that it",
        "had of its own (without mapped files). All 18 layers (5.7 million units) but where layers",
        "are named.",
        "",
        *head("command", "s", "MiB"),
        *(
            f"| `{command}` | {cost.seconds:.1f} | {cost.anonymous_bytes / 2**20:.0f} |"
            for command, cost in costs
        ),
        "",
        "Pages: " + ", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()) + ".",
    ]
    save(__name__, re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).splitlines())
