"""timm: networks by ``timm:NAME``."""

from __future__ import annotations

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
    from timm.data.config import resolve_model_data_config

    if not timm.is_model(name):
        raise UserError(f"{name!r} is not a timm model: {nearest(name, timm.list_models())}")

    def build(pretrained: bool) -> Built:
        with quiet():
            model = timm.create_model(name, pretrained=pretrained)
        chosen = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
        _, height, crop = chosen["input_size"]
        if chosen["crop_mode"] == "border":
            raise UserError(f"fusiform crops images to a square; timm:{name} pads them")
        if height != crop:
            raise UserError(f"fusiform crops square images; timm:{name} takes {height} x {crop}")
        interpolation = chosen["interpolation"]
        return model, Preprocessing(
            int(crop / chosen["crop_pct"]),
            crop,
            interpolation if interpolation in INTERPOLATIONS else "bicubic",
            tuple(chosen["mean"]),
            tuple(chosen["std"]),
            squash=chosen["crop_mode"] == "squash",
        )

    return Architecture(f"timm:{name}", lambda: build(False), lambda _: build(True), ["default"])
