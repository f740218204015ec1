"""Compare: what training adds to the selectivity of an untrained network.

``python examples/compare_networks.py`` compares two untrained networks of different seeds, offline.
``--weights FILE`` (or ``default``) compares a trained network with an untrained one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import fusiform
from fusiform import Criterion, Design, Network


def main() -> None:
    """Scan two networks with the same stimuli and print their differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--stimuli", type=Path, help="a folder per category; drawn by default")
    given = parser.parse_args()
    design = Design(layers=["layer3.1", "layer4.1", "avgpool"])
    networks = {
        "untrained.zarr": Network(given.network, weights="none", seed=0),
        "other.zarr": Network(given.network, weights=given.weights, seed=1),
    }
    with tempfile.TemporaryDirectory() as folder:
        stimuli = given.stimuli or Path(folder) / "stimuli"
        if given.stimuli is None:
            fusiform.make_stimuli(stimuli, per_category=32)
        stores = [
            fusiform.scan(network, stimuli, Path(folder) / name, design=design)
            for name, network in networks.items()
        ]
        comparison = fusiform.compare(stores, Criterion("rest"), measures=["share", "csi"])
        for row in comparison.differences:
            if row.difference is None or row.low is None or row.high is None:
                continue
            significant = "*" if row.low * row.high > 0 else ""  # the interval excludes 0
            print(
                f"{row.layer:9} {row.contrast:17} {row.measure:6} {row.value:8.4f} "
                f"{row.other_value:8.4f} {row.difference:+8.4f} "
                f"[{row.low:+.4f}, {row.high:+.4f}] {significant}"
            )


if __name__ == "__main__":
    main()
