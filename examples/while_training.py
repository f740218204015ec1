"""
Selectivity while a network learns
==================================

When do units become selective? A small network learns to tell faces, scenes and words apart, and is
scanned at the end of every epoch, in memory.
"""

# %%
# Images
# ------
# Two sets of drawings: the network is scanned with the first, and learns from the second. Tensors
# are shown to it as they are.

from collections import OrderedDict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

import fusiform
from fusiform import Criterion, Design, plot


def pictures(folder):
    """Pictures ``[n, 3, 32, 32]`` of a folder, from -1 to 1."""
    files = sorted(folder.iterdir())
    images = [Image.open(file).convert("RGB").resize((32, 32)) for file in files]
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1


categories, sets = ["faces", "scenes", "words"], []
for seed, name in enumerate(["stimuli", "second-stimuli"]):
    folder = Path("gallery-data") / name
    if not folder.exists():
        fusiform.make_stimuli(folder, per_category=32, size=128, seed=seed)
    sets.append({category: pictures(folder / category) for category in categories})
shown, learnt = sets

# %%
# A training loop that scans
# --------------------------
# The network comes back in training mode, and training goes on with the random numbers that it
# would have drawn without the scan.

images = torch.cat(list(learnt.values()))
labels = torch.arange(3).repeat_interleave(32)
torch.manual_seed(0)
network = nn.Sequential(OrderedDict(
    first=nn.Conv2d(3, 16, 5, stride=2), norm=nn.BatchNorm2d(16), relu1=nn.ReLU(),
    second=nn.Conv2d(16, 32, 3, stride=2), relu2=nn.ReLU(),
    pool=nn.AdaptiveAvgPool2d(2), features=nn.Flatten(), classes=nn.Linear(128, 3),
))  # fmt: skip
optimiser = torch.optim.Adam(network.parameters(), 3e-3)
design = Design(layers=["relu2", "features"])
stores = [fusiform.scan(network, shown, design=design)]
for _ in range(8):
    for batch in torch.randperm(len(images)).split(8):
        optimiser.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimiser.step()
    stores.append(fusiform.scan(network, shown, design=design))

# %%
# Epoch by epoch
# --------------
# Checkpoint 0 is the untrained network. Bands are 95 % intervals over feature maps.

epochs = range(len(stores))
found = fusiform.compare(stores, Criterion("rest"), measures="share", at=epochs)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for ax, layer in zip(axes, design.layers, strict=True):
    plot.training(found, layer, ax=ax)
plt.show()

# %%
# The result
# ----------
# The epoch from which the share of selective units is above that of the untrained network, to the
# last (:doc:`/reference/definitions`):

for row in found.onsets:
    since = "never" if row.lasting is None else f"from epoch {row.lasting:.0f} on"
    print(f"{row.layer:8} {row.contrast:6} {since}")

# %%
# Units come to prefer faces, and those that average over positions first; a few prefer scenes, and
# none words. Three classes need no unit for each.
