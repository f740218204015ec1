"""Analyses of a store: their cost, and their results for a trained and an untrained network.

Takes two stores with every block recorded (``r50.zarr r50-untrained.zarr``). Ten minutes.
"""

from __future__ import annotations

import json
import resource
import statistics
from argparse import ArgumentParser, Namespace
from typing import Any, NamedTuple

from fusiform.engine.analyses.analyse import ANALYSES
from fusiform.engine.bench.measure import Finished, run

from ..shared import head, heading, save

LAYERS = ("maxpool", "layer1.0", "layer2.3", "layer3.5", "layer4.2", "avgpool")
CATEGORIES = ("faces", "characters")


def options(parser: ArgumentParser) -> None:
    stores = ("r50.zarr", "r50-untrained.zarr")
    parser.add_argument("stores", nargs="*", default=stores, help="trained, untrained")
    parser.add_argument("--repeats", type=int, default=3)


def main(arguments: Namespace) -> None:
    trained, untrained = arguments.stores
    asked: dict[str, list[_Asked]] = {name: [] for name in (*ANALYSES, "")}
    for _ in range(arguments.repeats):  # they take turns
        for name, taken in asked.items():
            taken.append(_asked("analyse", trained, *filter(None, [name]), "--format", "json"))
            print(name or "all", f"{taken[-1].finished.seconds:.1f} s", flush=True)
    outputs = asked[""][-1].finished.output, run("analyse", untrained, "--format", "json").output
    results = [_by_key(json.loads(output)) for output in outputs]
    lines = [*_head(arguments.repeats), *_costs(asked), *_said(results)]
    save(__name__, lines)


class _Asked(NamedTuple):
    """A command that has run, and the seconds of processors that it took."""

    finished: Finished
    processor_seconds: float


def _asked(*arguments: str) -> _Asked:
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    finished = run(*arguments)
    return _Asked(finished, spent() - before)


def _head(repeats: int) -> list[str]:
    return [
        *heading(__name__, "Analyses", f"r50.zarr r50-untrained.zarr --repeats {repeats}"),
        f"Whole processes, start-up included; medians of {repeats}. Memory is what a process has",
        "of its own, without mapped files, looked at 50 times a second.",
        "Where a machine has other work meanwhile, only the seconds of processors tell.",
        "",
        "ResNet-50, the stem, 16 blocks and the pooled output: 5.7 million units, 480 photographs",
        "(fLoc) of five domains, two folds, the default criterion; trained (kill-the-bits), and",
        "untrained from seed 0.",
    ]


def _costs(asked: dict[str, list[_Asked]]) -> list[str]:
    rows = [
        f"| {f'`{name}`' if name else 'all of them'} "
        f"| {statistics.median(one.finished.seconds for one in taken):.1f} "
        f"| {statistics.median(one.processor_seconds for one in taken):.1f} "
        f"| {statistics.median(one.finished.anonymous_bytes for one in taken) / 2**20:,.0f} |"
        for name, taken in asked.items()
    ]
    head = ["| fusiform analyse r50.zarr ... | s | of processors, s | MiB |", "|---|---|---|---|"]
    return ["", "## What it costs", "", *head, *rows]


def _said(results: list[_Values]) -> list[str]:
    """Of every analysis the numbers of some layers, trained and untrained."""
    lines = [
        "", "## What it says", "",
        "Trained, then untrained. Brackets: 95 % over draws of whole feature maps; of",
        "maps with any and Gini 95 % of as many units thrown at random. CSI: of the units",
        "selected on one fold, on the other. Response: its difference between preferred and other",
        "categories, in standard deviations of the layer. Reliability: Spearman's correlation",
        "between the dissimilarities of the two folds.", "",
        *head("layer", "category", "selective %", "held-out CSI", "maps with any %", "Gini",
              "Moran's I", "response"),
    ]  # fmt: skip
    for layer in LAYERS:
        for category in CATEGORIES:
            cells = [_cells(result, layer, category) for result in results]
            both = " | ".join(f"{a}; {b}" for a, b in zip(*cells, strict=True))
            lines.append(f"| {layer} | {category} | {both} |")
    lines += ["", "| layer | reliability | CKA with the last layer |", "|---|---|---|"]
    layers = list(dict.fromkeys(key[1] for key in results[0]))
    for layer in layers:
        pairs = (("reliability", None), ("cka", layers[-1]))
        values = [
            "; ".join(
                _decimal(one["consistency", layer, None, other, name]["value"]) for one in results
            )
            for name, other in pairs
        ]
        lines.append(f"| {layer} | {' | '.join(values)} |")
    return lines


# Records of an analysis by analysis, layer, contrast, other and quantity.
_Values = dict[tuple[str | None, ...], dict[str, Any]]


def _by_key(records: list[dict[str, Any]]) -> _Values:
    names = ("analysis", "layer", "contrast", "other", "quantity")
    return {tuple(one[name] for name in names): one for one in records}


def _cells(result: _Values, layer: str, contrast: str) -> list[str]:
    def of(analysis: str, quantity: str) -> dict[str, Any]:
        return result[analysis, layer, contrast, None, quantity]

    def by_chance(quantity: str, scale: float = 1) -> str:
        chance = of("spread", f"{quantity}_chance")
        return _within(of("spread", quantity)["value"], chance["low"], chance["high"], scale)

    share, csi = of("shares", "share"), of("specificity", "csi_mean")
    difference = of("strength", "difference")
    return [
        _within(share["value"], share["low"], share["high"], 100),
        _within(csi["value"], csi["low"], csi["high"]),
        by_chance("share_with_any", 100),
        by_chance("gini"),
        _decimal(of("localisation", "moran_i")["value"]),
        _within(difference["value"], difference["low"], difference["high"]),
    ]


def _within(value: float | None, low: float | None, high: float | None, scale: float = 1) -> str:
    if value is None:
        return "-"
    span = "" if low is None or high is None else f" ({scale * low:.2f} to {scale * high:.2f})"
    return f"{scale * value:.2f}{span}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
