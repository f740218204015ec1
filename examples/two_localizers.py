"""
Two localizers, one network
===========================

Would another stimulus set have found the same units? Scan a network with two localizers and compare
what each selects.
"""

# %%
# Two sets
# --------
# The second set has other drawings of the same categories; a real comparison would take another
# laboratory's localizer. The first store is that of :doc:`localise`, made here if that script has
# not run.

from pathlib import Path

import matplotlib.pyplot as plt

import fusiform
from fusiform import Criterion, Network, plot

folder, stores = Path("gallery-data"), []
small = {"resize": 128, "crop": 128}
network = Network("demo:efficientnet_lite0", preprocessing=small)
sets = {"stimuli": "trained.zarr", "second-stimuli": "second.zarr"}
for seed, (stimuli, store) in enumerate(sets.items()):
    if not (folder / stimuli).exists():
        fusiform.make_stimuli(folder / stimuli, per_category=32, size=128, seed=seed)
    if not (folder / store).exists():
        fusiform.scan(network, folder / stimuli, folder / store)
    stores.append(folder / store)

# %%
# Overlap
# -------
# The overlap of the units that both select, against what units drawn at random would share
# (:doc:`/reference/definitions`).

found = fusiform.compare_localizers(stores, Criterion("rest"), "blocks.[56].*")
plot.localizers(found)
plt.show()

# %%
# The result
# ----------

for row in found.overlap:
    if row.layer == "blocks.6.0":
        print(
            f"{row.contrast:16} {row.selective:,} and {row.other_selective:,} units, "
            f"{row.both:,} in both (at random {row.chance:.0f}): Dice {row.dice:.2f}"
        )

# %%
# Both sets select mostly the same units, more than units drawn at random from the same feature maps
# would share: the selection does not hang on which 32 drawings were shown.
