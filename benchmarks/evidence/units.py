"""Units of a trained vision transformer: elements, heads, patches, hidden units.

Needs the test data.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fusiform.engine.bench.measure import run

from ..shared import DOMAINS, head, heading, link_images, row, save, scan, summary_rows, testdata

NETWORK = "timm:vit_tiny_patch16_224"
WEIGHTS = "vit_tiny_patch16_224_imagenet.safetensors"
# Units, and the layers that have them, by the number of their block.
KINDS = [
    ("all", "blocks.{}"),
    ("head", "blocks.{}.attn.proj.input"),
    ("patch", "blocks.{}"),
    ("patch", "blocks.{}.mlp.act"),
]
SHOWN, IMAGES = (2, 5, 8, 11), 480
TESTS = [("each other domain, q <= 0.05", ()), ("the pooled rest, t > 5", ("--where", "t > 5"))]


def main() -> None:
    weights = str(testdata() / "weights" / WEIGHTS)
    lines = [
        *heading(__name__, "Units of a trained vision transformer", needs_testdata=True),
        "",
        f"ViT-Ti/16 (`{NETWORK}`, `{WEIGHTS}`), {IMAGES} photographs of fLoc in five domains, two",
        "folds. In a cell: selective units, % of the layer; in brackets, % of those selected on "
        "one",
        "fold that are selected on the other again. `patch` is a mean over the 196 patches, `head`",
        "the norm of a head's output before the output projection, averaged over all tokens: with",
        "three heads in a layer one of them is 33 %. `mlp.act` are hidden units. Low-level",
        "differences select many units of an untrained network, too: see `first_light.md`.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        link_images(stimuli, IMAGES)
        stores = []
        for number, (units, layer) in enumerate(KINDS):
            output = Path(folder) / f"{number}.zarr"
            layers = [layer.format(depth) for depth in SHOWN]
            found = scan(NETWORK, stimuli, output, weights=weights, units=units, layers=layers)
            print(units, layers, f"{found.seconds:.0f} s", flush=True)
            stores.append(output)
        for name, options in TESTS:
            against = ("--test", "rest") if options else ()
            lines += ["", f"Against {name}:", "", *head("layer", "units", "each", *DOMAINS)]
            for (units, layer), store in zip(KINDS, stores, strict=True):
                shown = run("summary", str(store), "--format", "json", *against, *options).output
                lines += _rows(units, layer, summary_rows(shown))
    save(__name__, lines)


def _rows(units: str, layer: str, rows: list[dict[str, Any]]) -> list[str]:
    found = []
    for depth in SHOWN:
        own = {one["contrast"]: one for one in rows if one["layer"] == layer.format(depth)}
        cells = [_cell(own[domain]) for domain in DOMAINS]
        found.append(
            row(layer.format(depth), units, f"{next(iter(own.values()))['units']:,.0f}", *cells)
        )
    return found


def _cell(one: dict[str, Any]) -> str:
    again = "-" if one["replicated"] is None else f"{100 * one['replicated']:.0f}"
    return f"{100 * one['share']:.1f} ({again})"
