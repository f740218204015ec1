"""
Criteria side by side
=====================

How many units are "face-selective" depends on the criterion. This script asks one store with four
criteria: how many units does each select, do they replicate, and are they the same units?
"""

# %%
# The store of :doc:`localise`, made here if that script has not run:

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import fusiform
from fusiform import Criterion, Network

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
# Four criteria
# -------------
# ``each`` exceeds every other category, ``rest`` all of them together. The fLoc criterion is a
# threshold of a linear model's t, and the last takes the units with the largest t, however small
# that is. :doc:`/reference/definitions` has the tests, and presets from publications.

criteria = {
    "each (default)": Criterion(),
    "rest": Criterion("rest"),
    "fLoc: t > 3": Criterion("glm", "t > 3"),
    "top 1 %": Criterion("rest", "top 1%"),
}
layer, category = "blocks.6.0", "faces"
tables = [store.frame(one, layer, category) for one in criteria.values()]
table = pd.concat(tables).set_axis(list(criteria))

# %%
# How many, and how many again
# ----------------------------
# *Replicated* is the share of the units selected on one half of the stimuli that the other half
# selects too; the CSI is measured there.
#
# How much they overlap
# ---------------------
# Jaccard's index is the number of units that both select, over the number that either selects.

masks = [store.mask(category, layer, one) for one in criteria.values()]
both = np.array([[(a & b).sum() for b in masks] for a in masks])
jaccard = both / [[(a | b).sum() for b in masks] for a in masks]

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left, right = axes
(100 * table[["share", "replicated"]]).plot.bar(ax=left, rot=20)
left.set(ylabel="%", title=f"units selective for {category} in {layer}")
right.imshow(jaccard, cmap="Blues", vmin=0, vmax=1)
right.set_xticks(range(4), criteria, rotation=20)
right.set_yticks(range(4), criteria)
right.set_title("Jaccard's index")
for (i, j), value in np.ndenumerate(jaccard):
    colour = "white" if value > 0.5 else "black"
    right.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
plt.show()

# %%
# The result
# ----------

print(table[["selective", "units", "replicated", "csi"]].round(2).to_string())

# %%
# ``rest`` selects three times as many units as ``each``, which excludes those that respond to a
# second category as strongly. ``rest`` and the fLoc criterion select nearly the same units. The top
# 1 % are the most selective, but the other half of the stimuli ranks others above most of them.
