"""
Lesion selective units, and controls
====================================

Does a network need its face-selective units, and need them for faces more than for other images?
Silence them, and as many other units of the layer, and see what changes.
"""

# %%
# The store of :doc:`localise`, made here if that script has not run:

from pathlib import Path

import matplotlib.pyplot as plt

import fusiform
from fusiform import Criterion, LesionRequest, Network, plot

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
# Silence
# -------
# The 5 % of a layer's units that prefer faces most; and as many others, drawn at random, *matched*
# in how strongly they respond, or *least* in preferring either side. Each half of the stimuli
# chooses the units that are silenced for the other half. The readout is the probability of the
# class that the intact network chooses.

strongest = Criterion("rest", "top 5% by t")
request = LesionRequest("faces", "blocks.6.0", strongest, draws=2)
found = fusiform.measure_lesions(store, request)
plot.lesions(found, "probability")
plt.show()

# %%
# The result
# ----------
# The change for faces less that for other categories, by the selective units less that by a
# control, with its 95 % interval over stimuli (:doc:`/reference/definitions`):

for row in found.differences:
    if (row.quantity, row.category) == ("probability", found.contrast_row):
        interval = f"[{row.low:.2f}, {row.high:.2f}]"
        print(f"selective - {row.control:8} {row.difference:.2f} {interval}")

# %%
# Without the selective units the network loses its choice for faces; controls hardly change it,
# also those that respond as strongly. For other categories the four lesions differ little.
