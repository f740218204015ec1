"""A trained ResNet-18 on real photographs gives the known shares of selective units."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import fusiform
from benchmarks.shared import DOMAINS

from . import flat

# Per cent of units with Welch's t > 5 against the pooled rest, from independent code that kept
# every activation and used scipy.
EXPECTED = {
    "layer1.1": (0.52, 0.01, 0.05, 0.01, 0.00),
    "layer2.1": (0.43, 0.06, 0.11, 0.01, 0.07),
    "layer3.1": (3.90, 0.63, 1.77, 0.35, 0.30),
    "layer4.1": (8.45, 2.72, 5.90, 4.43, 4.89),
    "avgpool": (13.28, 8.01, 12.50, 15.43, 14.84),
}


def scan(
    testdata: Path, output: Path, domains: Iterable[str], images: Iterable[int]
) -> fusiform.Store:
    """Scan a trained ResNet-18 with some photographs of some domains."""
    manifest = output.with_suffix(".csv")
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "category"])
        for domain in domains:
            for folder in DOMAINS[domain]:
                for i in images:
                    image = testdata / "stimuli" / "floc" / folder / f"{folder}-{i}.jpg"
                    writer.writerow([image, domain])
    weights = testdata / "weights" / "resnet18_imagenet_compressed.safetensors"
    return flat.scan(
        "resnet18",
        manifest,
        output,
        root=testdata,
        weights=str(weights),
        layers=list(EXPECTED),
    )


@pytest.mark.slow
def test_trained_resnet18_selects_what_independent_code_found(
    testdata: Path, tmp_path: Path
) -> None:
    whole = scan(testdata, tmp_path / "r18.zarr", DOMAINS, range(1, 41))
    found: dict[str, list[float]] = {}
    for row in fusiform.summary(whole, fusiform.Criterion("rest", "t > 5")):
        found.setdefault(row.layer, []).append(round(100 * row.share, 2))
    assert {layer: tuple(shares) for layer, shares in found.items()} == EXPECTED

    # Domains scanned separately and merged: the same contrasts, and the same moments up to
    # rounding, because the shards are split elsewhere.
    parts = [
        scan(testdata, tmp_path / f"{number}.zarr", domains, range(1, 41)).path
        for number, domains in enumerate((list(DOMAINS)[:2], list(DOMAINS)[2:]))
    ]
    merged = fusiform.merge(parts, tmp_path / "domains.zarr")
    for layer in whole.layers:
        for variable in ("mean", "m2"):
            expected = whole.read(layer, variable)
            np.testing.assert_allclose(
                merged.read(layer, variable), expected, rtol=1e-12, atol=1e-12 * expected.max()
            )
        for variable in ("t", "q_each"):
            expected = whole.read(layer, variable)
            np.testing.assert_allclose(merged.read(layer, variable), expected, rtol=1e-6, atol=1e-6)

    # Stimuli scanned separately: the same moments up to rounding.
    parts = [
        scan(testdata, tmp_path / f"from{first}.zarr", DOMAINS, range(first, first + 20)).path
        for first in (1, 21)
    ]
    merged = fusiform.merge(parts, tmp_path / "stimuli.zarr")
    assert merged.counts.tolist() == whole.counts.tolist()
    for layer in whole.layers:
        for variable in ("mean", "m2"):
            expected = whole.read(layer, variable)
            np.testing.assert_allclose(
                merged.read(layer, variable), expected, rtol=1e-12, atol=1e-12 * expected.max()
            )
