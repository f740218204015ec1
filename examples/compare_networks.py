"""Compare: what training adds to the selectivity that an untrained network has already.

``python examples/compare_networks.py`` compares two untrained networks of different seeds, offline;
``--weights FILE`` (or ``default``) a trained one with an untrained one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import fusiform


def main() -> None:
    """Scan both with the same stimuli, and put them side by side."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--network", default="resnet18")
    arguments.add_argument("--weights", default="none")
    arguments.add_argument("--stimuli", type=Path, help="a folder per category; else drawn")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = given.stimuli or Path(folder) / "stimuli"
        if given.stimuli is None:
            fusiform.make_localizer(stimuli, per_category=32)
        layers = ["layer3.1", "layer4.1", "avgpool"]
        untrained, other = (
            fusiform.scan(given.network, stimuli, Path(folder) / f"{seed}.zarr",
                          weights=weights, seed=seed, layers=layers)
            for seed, weights in enumerate(["none", given.weights])
        )  # fmt: skip
        comparison = fusiform.compare(
            [untrained, other], fusiform.Criterion("rest"), measures=["share", "csi"]
        )
        for one in comparison.differences:
            if one.difference is None or one.low is None or one.high is None:
                continue
            surely = "differs" if one.low * one.high > 0 else ""
            print(
                f"{one.layer:9} {one.contrast:17} {one.measure:6} {one.value:8.4f} "
                f"{one.other_value:8.4f} {one.difference:+8.4f} "
                f"[{one.low:+.4f}, {one.high:+.4f}] {surely}"
            )


if __name__ == "__main__":
    main()
