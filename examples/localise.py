"""Localise: which units of a ResNet prefer a category, how reliably, and where they are.

``python examples/localise.py`` draws the built-in stimuli and scans an untrained network, offline.
Use ``--stimuli FOLDER --weights FILE`` (or ``--weights default``) for your own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import fusiform
from fusiform import Criterion, Network


def main() -> None:
    """Scan, select, and print the strongest units."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--stimuli", type=Path, help="a folder per category; drawn by default")
    parser.add_argument("--category", default="words")
    parser.add_argument("--layer", default="layer4.1")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = given.stimuli or Path(folder) / "stimuli"
        if given.stimuli is None:
            fusiform.make_stimuli(stimuli, per_category=48)
        network = Network(given.network, weights=given.weights)
        store = fusiform.scan(network, stimuli, Path(folder) / "o.zarr")
        print(store)

        # The share of selective units in each layer, and how many of them replicate on other
        # images. Untrained networks have almost no units that exceed each other category (the
        # default test), but some that exceed all others together.
        criterion = Criterion("rest")
        for row in fusiform.summary(store, criterion):
            if row.contrast == given.category:
                replicated = "-" if row.replicated is None else f"{row.replicated:.0%}"
                print(f"{row.layer:9} {row.share:6.2%} selective, {replicated} replicated")

        # Do they cluster in a few feature maps, and in one part of the image?
        found = fusiform.analyse(store, criterion, given.layer, given.category)
        (spread,), (places,) = found.spread, found.localisation
        if spread.gini is not None and spread.random is not None:
            chance = spread.random["gini"].mean
            print(f"Gini over feature maps {spread.gini:.2f}, by chance {chance:.2f}")
        if places.moran_i is not None:
            print(f"Moran's I over positions {places.moran_i:.2f}, p {places.p:.3f}")

        # The strongest units, with their mean responses to every category.
        strongest = store.query(f"{given.category}: t > 0", given.layer).top(5, by="t")
        print(strongest.frame().to_string(index=False))


if __name__ == "__main__":
    main()
