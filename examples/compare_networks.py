"""
Trained against untrained
=========================

Is selectivity learnt, or does the architecture have it with random weights? Scan both with the same
stimuli and compare them layer by layer.
"""

# %%
# Two stores, made here if no other script has:

from pathlib import Path

import matplotlib.pyplot as plt

import fusiform
from fusiform import Criterion, Network, plot

folder = Path("gallery-data")
stimuli = folder / "stimuli"
if not stimuli.exists():
    fusiform.make_stimuli(stimuli, per_category=32, size=128)
stores = [folder / "trained.zarr", folder / "untrained.zarr"]
for path, weights in zip(stores, ["default", "none"], strict=True):
    if not path.exists():
        small = {"resize": 128, "crop": 128}
        network = Network("demo:efficientnet_lite0", weights, preprocessing=small)
        fusiform.scan(network, stimuli, path)

# %%
# Shares by depth
# ---------------
# No unit of the untrained network exceeds each other category, the default criterion. With a weaker
# one, all others together, both networks have selective units:

criterion = Criterion("rest")
figure, axes = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
for ax, path in zip(axes, stores, strict=True):
    plot.by_depth(fusiform.analyse(path, criterion, resamples=200), ax=ax)
axes[1].set_ylim(axes[0].get_ylim())
plt.show()

# %%
# Differences
# -----------
# The layers of both networks are paired by name. Intervals are over feature maps, and those of
# differences that exclude 0 have a star; :doc:`/reference/definitions` says what they cover.

found = fusiform.compare(stores, criterion, "global_pool.pool", measures="share")
print(f"{'':17} trained  untrained  untrained - trained, 95 %")
for row in found.differences:
    star = "*" if row.low * row.high > 0 else ""
    print(
        f"{row.contrast:17} {row.value:7.3f} {row.other_value:10.3f} "
        f"{row.difference:+11.3f} [{row.low:+.3f}, {row.high:+.3f}] {star}"
    )

# %%
# Training adds selective units for every category. It does not start from nothing: a tenth of the
# untrained units of the last layer already prefer drawn faces to the rest, by much less (compare
# ``measures=["csi"]``).
