"""Known answers: trained and untrained ResNets on localizer photographs; shuffled labels.

Needs the test data. Every number comes from the commands in the report.
"""

from __future__ import annotations

import csv
import os
import random
import re
import shlex
import tempfile
from pathlib import Path
from typing import Any

from fusiform.engine.bench.measure import run

from ..shared import DOMAINS, RESNET18, RESNET50, heading, save, summary_rows, testdata

NETWORKS = [  # name, model, weights or seed of an untrained one
    ("ResNet-18, trained", "resnet18", RESNET18),
    ("ResNet-18, untrained, seed 0", "resnet18", 0),
    ("ResNet-18, untrained, seed 1", "resnet18", 1),
    ("ResNet-50, trained", "resnet50", RESNET50),
    ("ResNet-50, untrained, seed 0", "resnet50", 0),
    ("ResNet-50, untrained, seed 1", "resnet50", 1),
]
NULL = ("--null", "100")


def main() -> None:
    data = testdata()
    lines = [
        *heading(__name__, "First light", needs_testdata=True),
        "",
        "Stimuli: VPNL/fLoc (Stigliani, Weiner & Grill-Spector 2015), images 1 to 40 of each",
        "folder, two folders per domain, `scrambled` left out: 80 images in each of 5 domains,",
        "listed in `floc40.csv`. Resize 256 (bilinear), crop 224, ImageNet mean and std.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        by_domain = {
            domain: [(pair, i) for pair in pairs for i in range(1, 41)]
            for domain, pairs in DOMAINS.items()
        }
        _write_manifest(Path("floc40.csv"), data, by_domain)
        depth, networks = [], []
        for name, model, source in NETWORKS:
            share, section = _network(model, source, data)
            depth.append(f"| {name} | {_by_depth(share)} |")
            networks += ["", f"## {name}", "", *section]
        lines += [
            "",
            "## Does the share of selective units rise with depth?",
            "",
            "Units with Welch t > 5 against the pooled rest, % of all units of the blocks of "
            "layer1,",
            "and of layer4. In the trained networks it rises for all five domains. In the",
            "untrained ones it falls for faces and stays at 0 for places; for characters it rises",
            "too, in some beyond the trained ones, and for bodies and objects a little: low-level",
            "differences, which an untrained network passes on. It is no null.",
            "",
            f"| network | {' | '.join(DOMAINS)} |",
            "|" + "---|" * (1 + len(DOMAINS)),
            *depth,
            *networks,
        ]
        lines += ["", "## Trained and untrained side by side", "", *_side_by_side()]
        lines += ["", "## Labels shuffled", "", *_shuffled(data, by_domain)]
        lines += ["", "## What the tutorial shows", "", *_tutorial(data)]
    save(__name__, re.sub(r"\n{3,}", "\n\n", "\n".join(lines).strip()).splitlines())


def _by_depth(rows: list[dict[str, Any]]) -> str:
    """Share in the first and the last stage, a cell per domain."""
    cells = []
    for domain in DOMAINS:
        shares = []
        for stage in ("layer1.", "layer4."):
            blocks = [r for r in rows if r["contrast"] == domain and r["layer"].startswith(stage)]
            selective, units = (sum(r[name] for r in blocks) for name in ("selective", "units"))
            shares.append(f"{100 * selective / units:.2f}")
        cells.append(" to ".join(shares))
    return " | ".join(cells)


def _network(model: str, source: str | int, data: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the first table, and the section of the report."""
    if isinstance(source, str):
        options = f"--weights {source}"
        weights = ["--weights", str(data / "weights" / source)]
        store = f"{model}.zarr"
    else:
        options = f"--weights none --seed {source}"
        weights = options.split()
        store = f"{model}-untrained-{source}.zarr"
    _run("scan", model, "floc40.csv", "--root", str(data), *weights, *NULL, "-o", store)
    above_5 = ("--test", "rest", "--where", "t > 5")
    share = summary_rows(_run("summary", store, *above_5, "--format", "json"))
    each = summary_rows(_run("summary", store, "--format", "json"))
    return share, [
        "```",
        f"fusiform scan {model} floc40.csv {options} {' '.join(NULL)} -o {store}",
        f"fusiform summary {store} --test rest --where 't > 5'    # first table",
        f"fusiform summary {store}                                # second table",
        "```",
        "",
        "Units with Welch t > 5 against the pooled rest, % of the layer; in brackets the % of",
        "those selected on one fold that pass again on the other.",
        "",
        *_table(share),
        "",
        "Units selective at q <= 0.05 against each other domain, % of the layer (replicated %).",
        "",
        *_table(each),
    ]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    cells: dict[str, list[str]] = {}
    for row in rows:
        again = "-" if row["replicated"] is None else f"{100 * row['replicated']:.0f}"
        head = [f"{row['units']:,.0f}", f"{100 * row['dead'] / row['units']:.2f}"]
        cells.setdefault(row["layer"], head).append(f"{100 * row['share']:.2f} ({again})")
    head = ["layer", "units", "dead %", *DOMAINS]
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join([layer, *row]) + " |" for layer, row in cells.items()),
    ]


def _side_by_side() -> list[str]:
    lines = [
        "Units selective by the default criterion. 1 is the trained network.",
        "",
    ]
    for model, layers in (
        ("resnet18", "maxpool,layer?.1,avgpool"),
        ("resnet50", "maxpool,layer1.2,layer2.3,layer3.5,layer4.2,avgpool"),
    ):
        stores = [f"{model}.zarr", *(f"{model}-untrained-{seed}.zarr" for seed in (0, 1))]
        lines += _shown("summary", *stores, "--layers", layers)
    return lines


def _shuffled(data: Path, by_domain: dict[str, list[tuple[str, int]]]) -> list[str]:
    """Real responses under labels that mean nothing: every share is chance."""
    images = [image for images in by_domain.values() for image in images]
    random.Random(0).shuffle(images)
    _write_manifest(
        Path("shuffled40.csv"),
        data,
        {domain: images[80 * k : 80 * (k + 1)] for k, domain in enumerate(DOMAINS)},
    )
    places = ["--root", str(data), "--weights", str(data / "weights" / NETWORKS[0][2])]
    _run("scan", "resnet18", "shuffled40.csv", *places, *NULL, "-o", "shuffled.zarr")
    lines = [
        "The trained ResNet-18 and the 400 photographs, dealt at random into five sets of 80",
        f"(`shuffled40.csv`; otherwise `fusiform scan resnet18` as above, with {' '.join(NULL)}).",
        "Units of a layer see the same photographs and are not independent: the share of one deal",
        "scatters about its mean over 100 deals, `chance %`. That is the nominal 5 % for `p_null`.",
        "p is somewhat too large here: one-sided Welch tests of skewed responses, 80 images",
        "against 320.",
        "",
    ]
    for options in (
        ("--test", "rest", "--where", "p <= 0.05"),
        ("--test", "rest", "--where", "p_null <= 0.05"),
        ("--test", "rest"),
    ):
        lines += _shown("summary", "shuffled.zarr", *options, "--layers", "layer?.1,avgpool")
    return lines


def _shown(*arguments: str) -> list[str]:
    command = f"$ fusiform {shlex.join(arguments)}"
    return ["```", command, *_run(*arguments).splitlines(), "```", ""]


def _tutorial(data: Path) -> list[str]:
    """The tutorial's outputs."""
    Path("stimuli").symlink_to(data / "stimuli")
    Path("r50.safetensors").symlink_to(data / "weights" / RESNET50)
    scan = [
        "resnet50",
        "stimuli/floc",
        "--groups",
        "floc",
        "--weights",
        "r50.safetensors",
        "-o",
        "r50.zarr",
    ]
    shown = ("--layers", "layer4.2,avgpool")
    _run("scan", *scan, "--overwrite")
    return [
        "```",
        f"$ fusiform scan {shlex.join(scan)}",
        "```",
        "",
        *_shown("summary", "r50.zarr", *shown),
        *_shown(
            "select", "r50.zarr", "--contrast", "faces > bodies + objects, faces + bodies > places",
            "--contrast", "faces - (bodies + objects)/2", "--test", "rest",
            "--where", "q <= 0.05 and csi > 1/3", *shown,
        ),
        *_shown("summary", "resnet50.zarr", "resnet50-untrained-0.zarr", *shown),
    ]  # fmt: skip


def _write_manifest(path: Path, data: Path, chosen: dict[str, list[tuple[str, int]]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "category"])
        for category, images in chosen.items():
            for folder, i in images:
                image = data / "stimuli" / "floc" / folder / f"{folder}-{i}.jpg"
                writer.writerow([image, category])


def _run(*arguments: str) -> str:
    """Output of one ``fusiform`` command in a process of its own."""
    print("$", shlex.join(["fusiform", *arguments]), flush=True)
    return run(*arguments).output
