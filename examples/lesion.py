"""Lesion: silence the units that prefer a category, and as many controls; measure what changes.

``python examples/lesion.py`` draws the built-in stimuli and lesions an untrained network, offline.
With a trained network and photographs of your own, a folder for each category, it shows whether
recognising one category depends on the units that prefer it::

    python examples/lesion.py --weights resnet18.pth --stimuli photographs/ --category faces
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import fusiform
from fusiform import Criterion, Design, LesionRequest, Network


def main() -> None:
    """Scan, silence selective units and controls, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--stimuli", type=Path, help="a folder per category; drawn by default")
    parser.add_argument("--category", default="words")
    parser.add_argument("--layer", default="layer4.1", help="the layer to lesion")
    parser.add_argument("--draws", type=int, default=2, help="draws of each random control")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = given.stimuli or Path(folder) / "stimuli"
        if given.stimuli is None:
            fusiform.make_stimuli(stimuli, per_category=8)
        # The store is in memory: it selects the units, on each half of the stimuli.
        network = Network(given.network, given.weights)
        store = fusiform.scan(network, stimuli, design=Design(given.layer))
        # A twentieth of the layer; see `fusiform lesion --help` for the controls.
        top = Criterion("rest", "top 5% by t")
        request = LesionRequest(given.category, given.layer, top, draws=given.draws)
        found = fusiform.measure_lesions(store, request)
    for one in found.silenced:
        print(f"{one.lesion:10} {one.units:.0f} units, mean response {one.response:.3f}")
    print("\nchange of the probability of the class that the intact network chooses")
    effects = [row for row in found.effects if row.quantity == "probability"]
    print(f"{'':18} {'intact':>8}", *(f"{name:>10}" for name in found.lesions))
    for category in dict.fromkeys(row.category for row in effects):
        own = [row for row in effects if row.category == category]
        changes = (f"{row.change:10.2g}" for row in own)
        print(f"{category:18} {own[0].intact:8.3f}", *changes)
    print("\nhow much more the selective units change that category than others, 95 %")
    for row in found.differences:
        if (row.quantity, row.category) == ("probability", found.contrast_row):
            print(f"than {row.control:10} {row.difference:9.2g} [{row.low:.2g}, {row.high:.2g}]")


if __name__ == "__main__":
    main()
