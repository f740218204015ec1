"""
Where in the image
==================

A unit of a convolutional layer looks at a part of the image. Are the selective units of a layer
spread over all positions, or gathered at some? And over all feature maps, or a few?
"""

# %%
# The store of :doc:`localise`, made here if that script has not run:

from pathlib import Path

import matplotlib.pyplot as plt

import fusiform
from fusiform import Criterion, Network, plot

stimuli = Path("gallery-data/stimuli")
trained = Path("gallery-data/trained.zarr")
if not stimuli.exists():
    fusiform.make_stimuli(stimuli, per_category=32, size=128)
if not trained.exists():
    small = {"resize": 128, "crop": 128}
    network = Network("demo:efficientnet_lite0", preprocessing=small)
    fusiform.scan(network, stimuli, trained)
store = fusiform.open_store(trained)

# %%
# Positions
# ---------
# The share of the units at each position that respond more to a category than to all others
# together.

layer, categories = "blocks.4.2", ["faces", "bodies", "words"]
found = fusiform.analyse(store, Criterion("rest"), layer, categories)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
for ax, category in zip(axes, categories, strict=True):
    plot.map(found, category, layer, ax=ax)
plt.show()

# %%
# The result
# ----------
# Moran's I is 1 where neighbouring positions have equal shares; its p comes from shuffled
# positions. The Gini index of feature maps is 0 if all have equally many selective units; random
# units are the level of chance. :doc:`/reference/definitions` has both.

for places, maps in zip(found.localisation, found.spread, strict=True):
    print(
        f"{places.contrast:7} Moran's I {places.moran_i:.2f} (p {places.p:.3f}), "
        f"Gini {maps.gini:.2f} (random units {maps.random['gini'].mean:.2f})"
    )

# %%
# Neighbouring positions have similar shares in all three maps: selective units gather in parts of
# the image. They also gather in few feature maps, more than random units would.
