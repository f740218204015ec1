"""Localise: which units of a ResNet prefer a category, how surely, and where they lie.

``python examples/localise.py`` draws the built-in stimuli and scans an untrained network, offline.
``--stimuli FOLDER --weights FILE`` (or ``--weights default``) are your own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import fusiform


def main() -> None:
    """Scan, select, look at the strongest units."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--network", default="resnet18")
    arguments.add_argument("--weights", default="none")
    arguments.add_argument("--stimuli", type=Path, help="a folder per category; else drawn")
    arguments.add_argument("--category", default="words")
    arguments.add_argument("--layer", default="layer4.1")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = given.stimuli or Path(folder) / "stimuli"
        if given.stimuli is None:
            fusiform.make_localizer(stimuli, per_category=48)
        result = fusiform.scan(
            given.network, stimuli, Path(folder) / "o.zarr", weights=given.weights
        )
        print(result)

        # How many units of each layer, and what is left of it on images that did not select them.
        # Untrained networks have next to no units that pass against each other category by itself
        # (the default test); against all others together some do.
        criterion = fusiform.Criterion("rest")
        for row in fusiform.summarise(result, criterion):
            if row.contrast == given.category:
                replicated = "-" if row.replicated is None else f"{row.replicated:.0%}"
                print(f"{row.layer:9} {row.share:6.2%} selective, {replicated} of them again")

        # Are they gathered in few feature maps, and at one place of the image?
        found = fusiform.analyse(result, criterion, given.layer, given.category)
        (spread,), (places,) = found.spread, found.localisation
        if spread.gini is not None and spread.random is not None:
            by_chance = spread.random["gini"].mean
            print(f"Gini over feature maps {spread.gini:.2f}, by chance {by_chance:.2f}")
        if places.moran_i is not None:
            print(f"Moran's I over places {places.moran_i:.2f}, p {places.p:.3f}")

        # The strongest, with their mean responses to every category.
        strongest = result.query(f"{given.category}: t > 0", given.layer).top(5, by="t")
        print(strongest.frame().to_string(index=False))


if __name__ == "__main__":
    main()
