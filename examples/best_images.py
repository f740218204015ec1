"""
The best images of the strongest units
======================================

A scan keeps moments, not single responses. What did the strongest units respond to? A second pass
records chosen units image by image.
"""

# %%
# The store of :doc:`localise`, made here if that script has not run:

from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt

import fusiform
from fusiform import Design, Network, UnitRequest, plot

stimuli = Path("gallery-data/stimuli")
trained = Path("gallery-data/trained.zarr")
if not stimuli.exists():
    fusiform.make_stimuli(stimuli, per_category=32, size=128)
if not trained.exists():
    small = {"resize": 128, "crop": 128}
    network = Network("demo:efficientnet_lite0", preprocessing=small)
    fusiform.scan(network, stimuli, trained)

# %%
# Record
# ------
# With a store, network and stimuli are its own, and are checked to be the same. The recording is in
# memory.

units = UnitRequest(select=["faces", "bodies", "words"], top=10)
layers = ["blocks.5.2", "global_pool.pool"]
design = Design(layers=layers)
recording = fusiform.record(store=trained, units=units, design=design)
print(recording)

# %%
# Look
# ----
# The four units of the last layer that tell faces from all other images best, by the area under the
# ROC curve, and the six images to which each responds most:

last = "global_pool.pool"
plot.best_images(recording, "faces", last, units=4, images=6)

# %%
# And words:

plot.best_images(recording, "words", last, units=4, images=6)
plt.show()

# %%
# The result
# ----------
# The category of the image that each recorded unit of the last layer responds to most:

best = recording.frame(last).idxmax()
print(Counter(category for _, category, _ in best))

# %%
# Units were selected by means over many images; their best single image is of that category, too.
