"""
Another contrast, later
=======================

A store keeps the moments of every unit, category and fold. It answers questions that nobody had
when the network ran: another contrast, another rule, single units. The network is not needed.
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
# Contrasts
# ---------
# Both sides of a contrast are categories joined by ``+``. Animate against inanimate, faces against
# bodies, and words against their own scrambled controls:

contrasts = [
    "faces + bodies > scenes + words",
    "faces > bodies",
    "words > scrambled_words",
]
criterion = Criterion("rest", "q <= 0.05 and csi > 1/3")
found = fusiform.analyse(store, criterion, contrasts=contrasts)
plot.by_depth(found)

# %%
# Single units
# ------------
# A query finds units by any of their measures. It reads only the chunks that can hold a match.

asked = store.query("faces > bodies: t > 3 and csi > 1/3", "blocks.*")
asked.top(5, by="t").frame()[["layer", "channel", "y", "x", "t", "csi"]]

# %%
# What do the selected units of a layer respond to, on held-out stimuli?

plot.tuning(store, "global_pool.pool", criterion, contrasts)
plt.show()

# %%
# The result
# ----------

last = store.frame(criterion, "global_pool.pool", contrasts)
columns = ["contrast", "selective", "units", "replicated", "csi"]
print(last[columns].round(2).to_string(index=False))

# %%
# Units that tell words from their scrambled controls are found from the first blocks on. Those that
# tell faces from bodies become more numerous with depth.
