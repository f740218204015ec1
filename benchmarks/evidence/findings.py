"""Real networks: trained and untrained, in training, lesioned, beside brains.

Needs the test data, and the network of the extra ``demo``. ``--folder`` keeps the stores, the
report and its figures, and takes stores that are there already.
"""

from __future__ import annotations

import os
import re
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..shared import (
    DOMAINS,
    RESNET18,
    RESNET50,
    VIT,
    answered,
    asked,
    head,
    heading,
    row,
    save,
    testdata,
)

EFFICIENTNET = "efficientnet_lite0.safetensors"
FLOC = "floc --groups floc"
SMALL = "--resize 32 --crop 32 --mean 0.47 0.47 0.47 --std 1 1 1"
EPOCHS = (1, 2, 5, 13, 25, 45, 82, 132)
TABLE = "vtc_fLoc_betas.csv"
MEASURES = (
    ("share", "Share of selective units, %", 100),
    ("csi", "Held-out CSI of selective units", 1),
    ("replicated", "Selected again on the other fold, %", 100),
)
READING = """\
- Faces: in each of the five trained networks more units of the last block are selective for faces
  than in its untrained twin. In early layers it is the reverse in three of the five.
- Replication: of the face-selective units of the trained last blocks, 61 to 77 % are selected again
  on the other fold. An untrained network is no null: 17 % of the last block of an untrained
  ResNet-50 are selective for characters, and 68 % of these replicate.
- Evenness: in trained networks, units selective for faces are in far fewer feature maps than as
  many random units.
- Training: the ResNet-20 was never taught faces. In its last block the share exceeds the untrained
  network's from the first epoch on.
- Another localizer: of the units that fLoc selects for faces, a third to a half is selected again
  with another laboratory's photographs, fewer than on fLoc's own other fold. Much of the overlap is
  due to the same feature maps.
- Regions: units selective for faces, bodies and characters correlate with pFus, OTS and pOTS.
  Without the categories that selected them, none of these correlations is significant: most of
  them holds by construction.
- Lesions: without its face-selective units of layer4.1, a ResNet-18 gives its chosen class less
  probability for faces (by 0.14), and as many units of the same mean activation matter less (0.02).
  So it is for places.
""".splitlines()
# Columns of the terminal that answers are printed for.
COLUMNS = 100


@dataclass(frozen=True)
class Scanned:
    """A trained network and its untrained twin: stores NAME.zarr and NAME-untrained.zarr.

    ``shown`` are the layers of the tables: an early one, one in the middle, and the last block.
    """

    title: str
    name: str
    model: str
    weights: str
    shown: tuple[str, str, str]
    options: str = ""

    def scans(self) -> Iterator[str]:
        """The two commands."""
        for end, weights in (("", self.weights), ("-untrained", "none")):
            options = f"--weights {weights} {self.options}".rstrip()
            yield f"scan {self.model} {FLOC} {options} -o {self.name}{end}.zarr"


RESNET20 = Scanned(
    "ResNet-20 (CIFAR-10)", "resnet20", "resnet20_cifar10:build", "epoch_132.safetensors",
    ("layer1.2", "layer2.2", "layer3.2"), SMALL,
)  # fmt: skip
NETWORKS = (
    Scanned("ResNet-18", "resnet18", "resnet18", RESNET18, ("layer1.1", "layer3.1", "layer4.1")),
    Scanned("ResNet-50", "resnet50", "resnet50", RESNET50, ("layer1.2", "layer3.5", "layer4.2")),
    Scanned("ViT-Ti/16", "vit", "timm:vit_tiny_patch16_224", VIT,
            ("blocks.0", "blocks.6", "blocks.11")),
    Scanned("EfficientNet-Lite0", "efficientnet", "timm:tf_efficientnet_lite0", EFFICIENTNET,
            ("blocks.1.1", "blocks.4.2", "blocks.6.0")),
    RESNET20,
)  # fmt: skip


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="keep the stores, the report and figures here")


def main(given: Namespace) -> None:
    data = testdata()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(_prepared(given.folder or Path(folder), data))
        os.environ["COLUMNS"] = str(COLUMNS)
        lines = [
            *heading(__name__, "Findings on real networks", needs_testdata=True),
            "",
            "Stimuli: fLoc (Stigliani, Weiner & Grill-Spector 2015), 96 photographs in each of 5",
            "domains, and a second localizer (FuncLoc, 40 faces, 40 houses, 40 objects). One",
            "trained network of each kind, and one untrained: intervals are over feature maps of",
            "these networks, not over trainings, and are not corrected for the number of rows. All",
            "of it is exploratory. `*`: the interval of the difference excludes 0.",
            "",
            *READING,
            *_networks(),
            *_training(),
            *_localizers(),
            *_regions(),
            *_lesions(),
            *_paper(),
        ]
    save(__name__, re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).splitlines())


def _prepared(folder: Path, data: Path) -> Path:
    """The folder that commands run in, with links to stimuli and weights."""
    from safetensors.torch import save_file

    from fusiform import load_backbone

    folder = folder.resolve()
    folder.mkdir(exist_ok=True)
    weights = data / "weights"
    linked = [data / "stimuli" / "floc", data / "stimuli" / "funcloc"]
    linked += [data / "brains" / TABLE, *(weights / name for name in (RESNET18, RESNET50, VIT))]
    linked += sorted((weights / "resnet20_cifar10").glob("epoch_*.safetensors"))
    for path in linked:
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    if not (folder / EFFICIENTNET).exists():
        trained = load_backbone("demo:efficientnet_lite0").model
        save_file(trained.state_dict(), folder / EFFICIENTNET)
    # The ResNet-20 is a factory of the user's own.
    places = [str(data / "networks"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return folder


def _scanned(command: str) -> str:
    """Run a scan whose store is not there yet, and return the command."""
    if not Path(command.split()[-1]).exists():
        asked(command)
    return f"fusiform {command}"


# Trained and untrained networks


def _networks() -> Iterator[str]:
    """Every network beside its untrained twin, in three layers."""
    yield from ("", "## Five networks and their untrained twins", "", "```")
    for one in NETWORKS:
        for command in one.scans():
            yield _scanned(command)
    yield from (
        "```",
        "",
        "In every cell trained / untrained, as `compare NAME.zarr NAME-untrained.zarr` tells; `-`:",
        "no unit is selective.",
    )
    compared = {one: _compared(one) for one in NETWORKS}
    for measure, title, times in MEASURES:
        yield from ("", f"{title}.", "", *head("network", "layer", *DOMAINS))
        for one, found in compared.items():
            for layer in one.shown:
                cells = (_pair(found[layer, domain, measure], times) for domain in DOMAINS)
                yield row(one.title, layer, *cells)
    yield from _evenness()
    yield from _consistency()


def _compared(one: Scanned) -> dict[tuple[str, str, str], Any]:
    """Differences between a network and its twin, by layer, domain and measure."""
    import fusiform

    stores = [f"{one.name}.zarr", f"{one.name}-untrained.zarr"]
    measures = [name for name, *_ in MEASURES]
    found = fusiform.compare(stores, layers=one.shown, measures=measures)
    return {(row.layer, row.contrast, row.measure): row for row in found.differences}


def _pair(row: Any, times: float) -> str:
    values = (row.value, row.other_value)
    shown = ("-" if value is None else f"{times * value:.2f}" for value in values)
    excludes_0 = row.low is not None and row.low * row.high > 0
    return " / ".join(shown) + "*" * excludes_0


def _analysed(name: str, shown: Sequence[str]) -> Any:
    import fusiform

    return fusiform.analyse(name, layers=shown, analyses=["spread", "consistency"])


def _evenness() -> Iterator[str]:
    yield from (
        "",
        "Evenness over feature maps in the last block: Gini of the selective units (0: all maps",
        "have as many), in brackets that of as many random units.",
        "",
        *head("network", "", *DOMAINS),
    )
    for one in NETWORKS:
        for end in ("", "-untrained"):
            found = _analysed(f"{one.name}{end}.zarr", one.shown[-1:])
            cells = (
                "-" if row.gini is None or not row.random
                else f"{row.gini:.2f} ({row.random['gini'].mean:.2f})"
                for row in found.spread
            )  # fmt: skip
            yield row(one.title, end.strip("-") or "trained", *cells)


def _consistency() -> Iterator[str]:
    yield from (
        "",
        "Consistency: Spearman's correlation of the dissimilarities of the five domains between",
        "layers, one fold of the stimuli against the other (ten numbers: rough).",
        "",
        *head("network", "", "first with last", "middle with last", "last with itself"),
    )
    for one in NETWORKS:
        for end in ("", "-untrained"):
            found = _analysed(f"{one.name}{end}.zarr", one.shown).consistency
            values = [found.spearman_folds[i][2] for i in range(3)]
            cells = ("-" if value is None else f"{value:.2f}" for value in values)
            yield row(one.title, end.strip("-") or "trained", *cells)


# The other questions, as commands and what they print


def _training() -> Iterator[str]:
    yield from ("", "## A training run", "", "```")
    stores = []
    for epoch in EPOCHS:
        stores.append(f"epoch_{epoch:03}.zarr")
        weights = f"epoch_{epoch:03}.safetensors"
        command = f"scan {RESNET20.model} {FLOC} --weights {weights} {SMALL} -o {stores[-1]}"
        yield _scanned(command)
    yield "```"
    names = " ".join([*stores, "resnet20-untrained.zarr"])
    layers = ",".join(RESNET20.shown)
    measures = ",".join(name for name, *_ in MEASURES)
    yield from answered(
        f"compare {names} --against previous --measures {measures} --layers {layers} --all --wide"
    )


def _localizers() -> Iterator[str]:
    """Overlap and cross-validation in the last block of every trained network."""
    import fusiform

    yield from ("", "## A second localizer", "", "```")
    for one in NETWORKS:
        options = f"--weights {one.weights} {one.options}".rstrip()
        yield _scanned(f"scan {one.model} funcloc {options} -o {one.name}-funcloc.zarr")
    matched = "faces,objects,places=houses"
    yield from (
        f"fusiform compare NAME.zarr NAME-funcloc.zarr --localizers --categories {matched}",
        "```",
        "",
        "In the last block. Both: units that both localizers select, in brackets the middle 95 %",
        "if the units of each lay at random in the feature maps where they are. Again, d': units",
        "that fLoc selects, on the other photographs, with the interval; in brackets the same",
        "between the folds of fLoc, and of all living units on the other photographs.",
        "`localizers.md` has every layer of the ResNet-18.",
        "",
        *head("network", "", "Jaccard", "both (in maps)", "again, %", "d'"),
    )
    for one in NETWORKS:
        found = fusiform.compare_localizers(
            [f"{one.name}.zarr", f"{one.name}-funcloc.zarr"],
            layers=one.shown[-1:], categories=matched.split(","),
        )  # fmt: skip
        crossed = {
            (row.contrast, row.measure): row for row in found.cross_validation if row.selecting == 1
        }
        for line in found.overlap:
            again, d_prime = (crossed[line.contrast, name] for name in ("replicated", "d_prime"))
            yield row(
                one.title,
                found.labels[line.contrast],
                "-" if line.jaccard is None else f"{line.jaccard:.2f}",
                f"{line.both:,} ({_span(line.map_chance_low, line.map_chance_high, 0)})",
                _crossed(again, 100, 1),
                _crossed(d_prime, 1, 2),
            )


def _span(low: float | None, high: float | None, digits: int) -> str:
    if low is None or high is None:
        return "-"
    return f"{low:,.{digits}f} to {high:,.{digits}f}"


def _crossed(one: Any, times: float, digits: int) -> str:
    """A measure of units on the other localizer, with its interval and what it compares with."""
    values = (one.value, one.within, one.all_units)
    value, within, every = ("-" if v is None else f"{times * v:.{digits}f}" for v in values)
    if one.low is None:
        return f"{value} ({within}; {every})"
    return f"{value}, {_span(times * one.low, times * one.high, digits)} ({within}; {every})"


def _regions() -> Iterator[str]:
    yield from ("", "## Regions of human ventral temporal cortex", "", "```")
    for end, weights in (("", RESNET18), ("-untrained", "none")):
        command = f"scan resnet18 floc --weights {weights} -o resnet18-folders{end}.zarr"
        yield _scanned(command)
    yield "```"
    stores = "resnet18-folders.zarr resnet18-folders-untrained.zarr"
    yield from answered(f"compare {stores} --roi {TABLE} --control-units --wide")


def _lesions() -> Iterator[str]:
    yield from ("", "## Lesions")
    yield from answered("lesion --from resnet18.zarr --contrast faces,places --layers layer4.1")


def _paper() -> Iterator[str]:
    yield from (
        "",
        "## The paper's own comparison",
        "",
        "Lu & Wang compare a ResNet-50 with the ResNet-50 of CLIP. Its trained weights were not at",
        "hand, so it stays open. Two scans, which download them, and a comparison would answer it:",
        "",
        "```",
        "fusiform scan resnet50 STIMULI --groups floc -o resnet50.zarr",
        "fusiform scan clip:RN50 STIMULI --groups floc --resize 256 --crop 224 "
        "--interpolation bilinear -o clip.zarr",
        "fusiform compare resnet50.zarr clip.zarr",
        "```",
    )
