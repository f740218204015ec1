"""The loop that one would write: ``python loop.py MODEL STIMULI`` shows a network every image."""

from __future__ import annotations

import sys

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, models


def show(model: str, stimuli: str) -> None:
    """Show an untrained network a folder of images, in batches of 32."""
    network = models.get_model(model, weights=None).eval()
    transforms = next(iter(models.get_model_weights(model))).transforms()
    images = datasets.ImageFolder(stimuli, transforms)
    with torch.inference_mode():
        for batch, _ in DataLoader(images, batch_size=32, num_workers=1):
            network(batch)


if __name__ == "__main__":
    show(*sys.argv[1:])
