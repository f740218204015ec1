"""Lesion: silence the units of a layer that prefer a category, and see what later layers lose.

The control is a lesion of as many units drawn at random. ``python examples/lesion.py`` draws the
built-in stimuli and lesions an untrained network, offline; ``--weights FILE`` a trained one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import fusiform


def main() -> None:
    """Scan, silence, scan again."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--network", default="resnet18")
    arguments.add_argument("--weights", default="none")
    arguments.add_argument("--stimuli", type=Path, help="a folder per category; else drawn")
    arguments.add_argument("--category", default="words")
    arguments.add_argument("--layer", default="layer3.1", help="where units are silenced")
    arguments.add_argument("--later", default="avgpool", help="where it is looked what is lost")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = given.stimuli or Path(folder) / "stimuli"
        if given.stimuli is None:
            fusiform.make_localizer(stimuli, per_category=16)
        backbone = fusiform.load_backbone(given.network, given.weights)
        options = {"layers": [given.layer, given.later], "preprocessing": backbone.preprocessing}

        def scanned(name: str) -> dict[str, float]:
            """The mean d' of the later layer's units, by category."""
            store = Path(folder) / f"{name}.zarr"
            found = fusiform.scan(backbone.model, stimuli, store, **options)
            of = {name: found.query(f"{name}: not dead", given.later) for name in found.categories}
            return {
                name: float(query.units(["d_prime"]).columns["d_prime"].mean())
                for name, query in of.items()
            }

        whole = scanned("whole")
        result = fusiform.open_store(Path(folder) / "whole.zarr")
        top = fusiform.Criterion("rest", "top 10% by t")
        preferring = result.mask(given.category, given.layer, top)
        drawn = np.zeros(preferring.size, bool)
        drawn[np.random.default_rng(0).choice(drawn.size, preferring.sum(), replace=False)] = True
        after = {}
        masks = {"preferring": preferring, "random": drawn.reshape(preferring.shape)}
        for name, mask in masks.items():
            with fusiform.lesion(backbone.model, {given.layer: mask}):
                after[name] = scanned(name)
        print(f"mean d' over {given.later}, and after a lesion of a tenth of {given.layer}")
        print(f"{'':17} {'whole':>8} {'preferring ' + given.category:>20} {'random':>8}")
        for category, value in whole.items():
            left = [after[name][category] for name in masks]
            print(f"{category:17} {value:8.3f} {left[0]:20.3f} {left[1]:8.3f}")


if __name__ == "__main__":
    main()
