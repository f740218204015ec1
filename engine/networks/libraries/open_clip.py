"""open_clip: visual towers, by ``clip:NAME``."""

from __future__ import annotations

from torch import nn

from ...errors import UserError, nearest
from ...preprocessing import Preprocessing
from ..weights import quiet
from .architecture import Architecture, Built


def find(name: str) -> Architecture:
    """A visual tower of open_clip.

    Raises
    ------
    UserError : unknown name
    """
    import open_clip

    if name not in open_clip.list_models():
        near = nearest(name, open_clip.list_models())
        raise UserError(f"{name!r} is not an open_clip model: {near}")
    tags = open_clip.list_pretrained_tags_by_model(name)

    def build(tag: str | None) -> Built:
        # OpenAI's networks use another GELU than open_clip's default. With the default, their
        # weights would load silently and compute something else.
        offered = open_clip.get_pretrained_cfg(name, tag) if tag else {}
        with quiet():
            model = open_clip.create_model(
                name, pretrained=tag, force_quick_gelu=bool(offered.get("quick_gelu"))
            )
        return model.visual, preprocessing_of(model.visual, f"clip:{name}")

    return Architecture(
        f"clip:{name}",
        lambda: build(None),
        build,
        sorted(tags, key=lambda tag: tag != "openai"),
        tower="visual",
    )


def preprocessing_of(tower: nn.Module, name: str) -> Preprocessing:
    """Preprocessing as a visual tower of open_clip keeps it.

    Raises
    ------
    UserError : it pads images
    """
    import open_clip

    chosen = open_clip.get_model_preprocess_cfg(tower)
    size = chosen["size"] if isinstance(chosen["size"], int) else chosen["size"][0]
    if chosen["resize_mode"] == "longest":
        raise UserError(f"fusiform crops images to a square; {name} pads them")
    return Preprocessing(
        size,
        size,
        chosen["interpolation"],
        tuple(chosen["mean"]),
        tuple(chosen["std"]),
        squash=chosen["resize_mode"] == "squash",
    )
