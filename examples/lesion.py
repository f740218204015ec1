"""Lesion: silence the units of a layer that prefer a category, and measure later layers.

The control silences as many units drawn at random. ``python examples/lesion.py`` draws the built-in
stimuli and lesions an untrained network, offline; ``--weights FILE`` lesions a trained one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import fusiform
from fusiform import Criterion, Design, Network


def main() -> None:
    """Scan, silence, scan again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--stimuli", type=Path, help="a folder per category; drawn by default")
    parser.add_argument("--category", default="words")
    parser.add_argument("--layer", default="layer3.1", help="the layer to lesion")
    parser.add_argument("--later", default="avgpool", help="the layer to measure")
    given = parser.parse_args()
    backbone = fusiform.load_backbone(Network(given.network, given.weights))
    network = Network(backbone.model, preprocessing=backbone.preprocessing)
    design = Design(layers=[given.layer, given.later])
    with tempfile.TemporaryDirectory() as folder:
        stimuli = given.stimuli or Path(folder) / "stimuli"
        if given.stimuli is None:
            fusiform.make_stimuli(stimuli, per_category=16)

        def scan(name: str) -> tuple[fusiform.Store, dict[str, float]]:
            """A scan, and the mean d' of the later layer's units for each category."""
            store = fusiform.scan(network, stimuli, Path(folder) / f"{name}.zarr", design=design)
            found = {}
            for category in store.categories:
                units = store.query(f"{category}: not dead", given.later).units(["d_prime"])
                found[category] = float(units.columns["d_prime"].mean())
            return store, found

        store, intact = scan("intact")
        top = Criterion("rest", "top 10% by t")
        preferring = store.mask(given.category, given.layer, top)
        random = np.zeros(preferring.size, bool)
        drawn = np.random.default_rng(0).choice(random.size, preferring.sum(), replace=False)
        random[drawn] = True
        masks = {"preferring": preferring, "random": random.reshape(preferring.shape)}
        lesioned = {}
        for name, mask in masks.items():
            with fusiform.lesion(backbone.model, {given.layer: mask}):
                _, lesioned[name] = scan(name)
        print(f"mean d' in {given.later}, intact and after a lesion of a tenth of {given.layer}")
        print(f"{'':17} {'intact':>8} {'preferring ' + given.category:>20} {'random':>8}")
        for category, value in intact.items():
            after = [lesioned[name][category] for name in masks]
            print(f"{category:17} {value:8.3f} {after[0]:20.3f} {after[1]:8.3f}")


if __name__ == "__main__":
    main()
