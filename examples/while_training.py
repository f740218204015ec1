"""While training: how selectivity grows, from a scan in memory at the end of every epoch.

``python examples/while_training.py`` trains a small network to tell faces, scenes and words of the
built-in set apart, offline. Its last lines tell from which epoch on each category exceeds the
untrained network.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

import fusiform
from fusiform import Criterion, Design

CATEGORIES = ("faces", "scenes", "words")


def main() -> None:
    """Train, and print the share of selective units after every epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    given = parser.parse_args()
    shown, trained = drawn(given.side, seed=0), drawn(given.side, seed=1)
    images = torch.cat(list(trained.values()))
    labels = torch.arange(len(CATEGORIES)).repeat_interleave(len(images) // len(CATEGORIES))

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(128, len(CATEGORIES)),
    )  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    criterion, stores = Criterion("rest", "t > 2"), []
    for epoch in range(given.epochs + 1):
        if epoch:
            network.train()
            for batch in torch.randperm(len(images)).split(8):
                optimiser.zero_grad()
                cross_entropy(network(images[batch]), labels[batch]).backward()
                optimiser.step()
        # Tensors are shown as they are. The network comes back in training mode, and training goes
        # on with the random numbers that it would have drawn without the scan.
        stores.append(fusiform.scan(network, shown, design=Design(layers=["4", "6"])))
        found = stores[-1].frame(criterion).pivot(index="layer", columns="contrast")
        print(f"after epoch {epoch}, share of units selective for each category:")
        print(found["share"].round(3).to_string())

    compared = fusiform.compare(stores, criterion, measures="share", at=range(len(stores)))
    for onset in compared.onsets:
        first = "never" if onset.first is None else f"first after epoch {onset.first:.0f}"
        print(f"{onset.layer} {onset.contrast}: above the {onset.reference} network {first}")


def drawn(side: int, seed: int) -> dict[str, torch.Tensor]:
    """Pictures ``[n, 3, side, side]`` of the built-in set by category, from -1 to 1."""
    found: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in fusiform.make_stimuli(Path(folder) / "set", per_category=24, seed=seed):
            with Image.open(path) as image:
                picture = np.asarray(image.convert("RGB").resize((side, side)))
            found.setdefault(path.parent.name, []).append(picture)
    return {
        name: torch.from_numpy(np.stack(found[name])).permute(0, 3, 1, 2) / 127.5 - 1
        for name in CATEGORIES
    }


if __name__ == "__main__":
    main()
