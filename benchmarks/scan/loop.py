"""The loop that one would write: ``python loop.py MODEL STIMULI`` shows a network every image."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms


def show(model: str, stimuli: str) -> None:
    """Show an untrained network a folder of images, in batches of 32."""
    network, preprocess = _built(model)
    images = datasets.ImageFolder(stimuli, preprocess)
    with torch.inference_mode():
        for batch, _ in DataLoader(images, batch_size=32, num_workers=1):
            network(batch)


def _built(model: str) -> tuple[Any, Any]:
    """A network of torchvision, or of ``package.module:factory``, and its transforms."""
    module, _, factory = model.partition(":")
    if not factory:
        network = models.get_model(model, weights=None).eval()
        return network, next(iter(models.get_model_weights(model))).transforms()
    network, asked = getattr(import_module(module), factory)()
    steps = [
        transforms.Resize(asked.resize),
        transforms.CenterCrop(asked.crop),
        transforms.ToTensor(),
        transforms.Normalize(asked.mean, asked.std),
    ]
    return network, transforms.Compose(steps)


if __name__ == "__main__":
    show(*sys.argv[1:])
