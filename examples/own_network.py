"""
A network of your own
=====================

Any ``torch.nn.Module`` can be scanned, and images can be arrays of your program: no file is read or
written. Here a small network with random weights sees images that a few lines make.
"""

# %%
# Images in memory
# ----------------
# A dictionary has an array ``[n, height, width, 3]`` for each category. Bars have an orientation,
# noise has none.

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import fusiform
from fusiform import Design, Network

rng = np.random.default_rng(0)
y, x = np.mgrid[:64, :64]


def bars(across):
    """Bars of random width and phase."""
    width, phase = rng.uniform([0.4, 0], [0.8, 7], (24, 2)).T[..., None, None]
    return 60 * np.sin(width * across + phase)


def images_of(patterns):
    """Patterns ``[n, height, width]`` on noise, as 8-bit images."""
    noisy = 128 + patterns + rng.normal(0, 30, patterns.shape)
    grey = noisy.clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


images = {
    "vertical": images_of(bars(x)),
    "horizontal": images_of(bars(y)),
    "noise": images_of(np.zeros((24, 64, 64))),
}
figure, axes = plt.subplots(1, 3, figsize=(6, 2.2), layout="constrained")
for ax, (name, own) in zip(axes, images.items(), strict=True):
    ax.imshow(own[0])
    ax.set(title=name, xticks=[], yticks=[])

# %%
# The scan
# --------
# The module keeps its weights, and comes back as it was. It does not say how images are prepared
# for it, so ``preprocessing`` does (:doc:`/how-to/networks`). The layers are both rectified
# convolutions, and the means of feature maps.

torch.manual_seed(0)
module = nn.Sequential(
    nn.Conv2d(3, 32, 7, stride=2), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 5), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(),
)  # fmt: skip
prepared = {
    "resize": 64, "crop": 64, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
}  # fmt: skip
network = Network(module, preprocessing=prepared)
store = fusiform.scan(network, images, design=Design(layers=["1", "4", "6"]))

# %%
# The result
# ----------

table = store.frame()
shares = table.pivot(index="layer", columns="contrast", values="share")
figure, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
(100 * shares).plot.bar(rot=0, ax=ax, ylabel="selective units (%)")
plt.show()
columns = ["layer", "contrast", "selective", "units"]
print(table[columns].to_string(index=False))

# %%
# With random weights, a position of a feature map hardly prefers an orientation, as its response
# depends on where the bars happen to lie. The mean of a map does not: three quarters of
# the maps prefer one orientation or the other.
