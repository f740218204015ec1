"""torchvision: networks by ``NAME`` alone, or ``torchvision:NAME``."""

from __future__ import annotations

from typing import Any

from ...errors import UserError, nearest
from ...imports import postponed
from ...preprocessing import Preprocessing
from .architecture import Architecture, Built, forms


def find(name: str) -> Architecture:
    """A network of torchvision.

    Raises
    ------
    UserError : unknown name
    """
    # torchvision imports torch's compiler, most of its own time, for an operator of detectors.
    with postponed("torch._dynamo.utils", "is_compile_supported"):
        from torchvision import models

    if name not in models.list_models():
        raise UserError(
            f"{name!r} is not a torchvision model: {nearest(name, models.list_models())} "
            f"(others are {forms()})"
        )
    offered = list(models.get_model_weights(name))
    default = models.get_model_weights(name).DEFAULT.name if offered else ""
    tags = sorted((w.name for w in offered), key=lambda tag: tag != default)

    def preset(entry: Any) -> Preprocessing:
        transforms = entry.transforms()
        if not hasattr(transforms, "crop_size"):
            raise UserError(f"fusiform scans image classifiers; {name} takes other inputs")
        return Preprocessing(
            transforms.resize_size[0],
            transforms.crop_size[0],
            transforms.interpolation.value,
            tuple(transforms.mean),
            tuple(transforms.std),
        )

    def untrained() -> Built:
        # Weights from elsewhere were most likely trained with the architecture's first recipe.
        # Later torchvision recipes use other image sizes.
        # Raises before a model that takes no images is built, which would download a part of it.
        preprocessing = preset(offered[0]) if offered else None
        return models.get_model(name, weights=None), preprocessing

    def trained(tag: str) -> Built:
        entry = models.get_model_weights(name)[tag]
        preprocessing = preset(entry)  # raises before downloading a model that takes no images
        return models.get_model(name, weights=entry), preprocessing

    return Architecture(f"torchvision:{name}", untrained, trained, tags)
