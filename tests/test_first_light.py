"""On the real photographs and trained weights the known answer comes out, to the digits known."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from first_light import DOMAINS

import fusiform

# Per cent of units with Welch t > 5 against the pooled rest, by independent code that kept every
# activation and asked scipy.
EXPECTED = {
    "layer1.1": (0.52, 0.01, 0.05, 0.01, 0.00),
    "layer2.1": (0.43, 0.06, 0.11, 0.01, 0.07),
    "layer3.1": (3.90, 0.63, 1.77, 0.35, 0.30),
    "layer4.1": (8.45, 2.72, 5.90, 4.43, 4.89),
    "avgpool": (13.28, 8.01, 12.50, 15.43, 14.84),
}


@pytest.mark.slow
def test_trained_resnet18_selects_what_independent_code_found(
    testdata: Path, tmp_path: Path
) -> None:
    with (tmp_path / "floc40.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "category"])
        for domain, folders in DOMAINS.items():
            for folder in folders:
                for i in range(1, 41):
                    image = testdata / "stimuli" / "floc" / folder / f"{folder}-{i}.jpg"
                    writer.writerow([image, domain])
    store = fusiform.scan(
        "resnet18",
        tmp_path / "floc40.csv",
        tmp_path / "r18.zarr",
        weights=str(testdata / "weights" / "resnet18_imagenet_compressed.safetensors"),
        layers=list(EXPECTED),
    )
    found: dict[str, list[float]] = {}
    for row in fusiform.summarise(store, fusiform.Criterion("rest", "t > 5")):
        found.setdefault(row.layer, []).append(round(100 * row.share, 2))
    assert {layer: tuple(shares) for layer, shares in found.items()} == EXPECTED
