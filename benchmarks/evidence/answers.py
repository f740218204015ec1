"""Every question of the README to real networks: the answers and their cost.

Needs the test data. A trained ResNet-50, an untrained one, and an untrained CLIP ResNet-50, on 480
photographs.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from pathlib import Path

from fusiform.engine.bench.measure import Finished, run

from ..shared import RESNET50, head, heading, save, testdata

SOME = "--layers layer4.2,avgpool"
# Networks by their stores: a name, and the options of its scan.
NETWORKS = {
    "r50.zarr": f"resnet50 --weights {RESNET50}",
    "r50-untrained.zarr": "resnet50 --weights none",
    "clip-untrained.zarr": "clip:RN50 --weights none --resize 256 --crop 224 "
    "--interpolation bilinear",
}
# What is asked and shown, and what is only timed.
SHOWN = (
    f"analyse r50.zarr shares spread localisation {SOME}",
    f"compare r50.zarr r50-untrained.zarr {SOME} --measures share,csi",
    "compare r50-untrained.zarr clip-untrained.zarr --layers layer4.2 --measures share,gini",
    "responses r50.responses.zarr best --contrast faces --layers layer4.2 --top 2",
    "responses r50.responses.zarr layers --layers layer3.5,layer4.0,layer4.1,layer4.2,avgpool",
)
TIMED = (
    "analyse r50.zarr",
    "compare r50.zarr r50-untrained.zarr",
    "compare r50.zarr r50-untrained.zarr clip-untrained.zarr",
    "responses r50.responses.zarr auc",
    "responses r50.responses.zarr ceiling",
    "report r50.zarr r50-untrained.zarr -o two.html",
    "report r50.zarr r50-untrained.zarr clip-untrained.zarr --recording r50.responses.zarr "
    "-o three.html",
)
RECORD = "--from r50.zarr --select '*' --top 25"


def main() -> None:
    data = testdata()
    lines = [
        *heading(__name__, "The answers", needs_testdata=True),
        "",
        "Stimuli: fLoc (Stigliani, Weiner & Grill-Spector 2015), 96 photographs in each of 5",
        "domains. Networks:",
        "",
        "```",
    ]
    costs: list[tuple[str, Finished]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("floc").symlink_to(data / "stimuli" / "floc")
        Path(RESNET50).symlink_to(data / "weights" / RESNET50)
        for store, network in NETWORKS.items():
            model, _, options = network.partition(" ")
            line = f"scan {model} floc --groups floc {options} -o {store}"
            lines.append(f"fusiform {line}")
            _run(line)
        record = f"record resnet50 floc {RECORD} -o r50.responses.zarr"
        costs.append((record, _run(record)))
        lines += [f"fusiform {record}", "```"]
        for command in SHOWN:
            shown = _run(command).output.rstrip()
            lines += ["", "```", f"$ fusiform {command}", shown, "```"]
        costs += [(command, _run(command)) for command in TIMED]
        sizes = {name: Path(name).stat().st_size / 1e6 for name in ("two.html", "three.html")}
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


def _run(command: str) -> Finished:
    print(f"fusiform {command}", flush=True)
    return run(*shlex.split(command))
