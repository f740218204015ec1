"""
Measure on held-out stimuli
===========================

Units that were selected because they responded strongly to faces respond strongly to *those* faces,
for whatever reason. To measure them on the stimuli that selected them is to count the luck twice.
This script shows how much: with pictures of noise, where there is nothing to find.
"""

# %%
# Noise with names
# ----------------
# The images of two "categories" are drawn from the same distribution. The trained network of
# :doc:`localise` sees them, and the drawings of faces and bodies beside them.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fusiform
from fusiform import Criterion, Design, Network, Stimuli

folder = Path("gallery-data/stimuli")
if not folder.exists():
    fusiform.make_stimuli(folder, per_category=32, size=128)

rng = np.random.default_rng(0)
names = ["faces", "bodies"]
shape = (32, 128, 128, 3)
noise = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name in names}
drawings = Stimuli(folder, groups={name: [name] for name in names})

small = {"resize": 128, "crop": 128}
network = Network("demo:efficientnet_lite0", preprocessing=small)
layer = Design(layers="global_pool.pool")
stores = {
    "drawings": fusiform.scan(network, drawings, design=layer),
    "noise": fusiform.scan(network, noise, design=layer),
}

# %%
# Twice the same units
# --------------------
# The 50 units with the largest t, measured on the stimuli that selected them, and on the others:
# fusiform selects on each half of the stimuli and measures on the other, by default.

top, rows = Criterion("rest", "top 50 by t"), {}
for name, store in stores.items():
    same = store.query("faces: t > 0").top(50, by="t").frame()
    held_out = store.frame(top, contrasts="faces")
    rows[name] = same["d_prime"].mean(), held_out["d_prime"].item()

figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
places = np.arange(2)
for shift, (name, values) in zip((-0.2, 0.2), rows.items(), strict=True):
    ax.bar(places + shift, values, 0.4, label=name)
ax.axhline(0, color="k", linewidth=0.5)
ax.set_xticks(places, ["the stimuli that selected", "held-out stimuli"])
ax.set(ylabel="mean d' of 50 units, faces against bodies", ylim=(-0.1, 3))
ax.legend(frameon=False)
plt.show()

# %%
# The result
# ----------

for name, (same, other) in rows.items():
    print(f"{name:9} d' {same:.2f} where they were selected, {other:.2f} held out")

# %%
# In noise the best of 1,280 units seem to prefer one name to the other, until other images of the
# same names are shown. Units that prefer drawn faces keep nearly all of their d'.
#
# How a test avoids the other trap, many units and few of them true, is a matter of q and of
# shuffled labels (``Design(null=100)``): :doc:`/reference/definitions`.
