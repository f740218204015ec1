"""timm: networks by ``timm:NAME``."""

from __future__ import annotations

from torch import nn

from ...errors import UserError, nearest
from ...preprocessing import INTERPOLATIONS, Preprocessing
from ..weights import quiet
from .architecture import Architecture, Built


def find(name: str) -> Architecture:
    """A network of timm.

    Raises
    ------
    UserError : unknown name
    """
    import timm

    if not timm.is_model(name):
        raise UserError(f"{name!r} is not a timm model: {nearest(name, timm.list_models())}")

    def build(pretrained: bool) -> Built:
        with quiet():
            model = timm.create_model(name, pretrained=pretrained)
        return model, preprocessing_of(model, f"timm:{name}")

    return Architecture(f"timm:{name}", lambda: build(False), lambda _: build(True), ["default"])


def preprocessing_of(model: nn.Module, name: str) -> Preprocessing:
    """Preprocessing as the configuration in a network of timm says.

    Raises
    ------
    UserError : it pads images, or they are not square
    """
    from timm.data.config import resolve_model_data_config

    chosen = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    _, height, crop = chosen["input_size"]
    if chosen["crop_mode"] == "border":
        raise UserError(f"fusiform crops images to a square; {name} pads them")
    if height != crop:
        raise UserError(f"fusiform crops square images; {name} takes {height} x {crop}")
    interpolation = chosen["interpolation"]
    return Preprocessing(
        int(crop / chosen["crop_pct"]),
        crop,
        interpolation if interpolation in INTERPOLATIONS else "bicubic",
        tuple(chosen["mean"]),
        tuple(chosen["std"]),
        squash=chosen["crop_mode"] == "squash",
    )
