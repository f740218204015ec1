"""Preprocessing of a torch module that a user gives, as the library that built it left it there."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import UserError
from ...preprocessing import Preprocessing


def own_preprocessing(model: nn.Module) -> Preprocessing | UserError | None:
    """Preprocessing of a network of timm, open_clip or transformers; None where nothing tells it.

    An error that asks the user for it if it is of a kind that fusiform does not do. Nothing is
    downloaded: a network of transformers has its image processor in its folder or in the cache.
    """
    name, given = type(model).__name__, vars(model)
    try:
        if isinstance(given.get("preprocess_cfg"), dict):
            from . import open_clip

            return open_clip.preprocessing_of(model, name)
        if given.get("pretrained_cfg"):
            from . import timm

            return timm.preprocessing_of(model, name)
    except UserError as error:
        return error
    except (KeyError, TypeError, ValueError, AttributeError):  # something else of this name
        return None
    config: Any = given.get("config")
    source = getattr(config, "name_or_path", "")
    if source and "PreTrainedModel" in {kind.__name__ for kind in type(model).__mro__}:
        from .processors import preprocessing_of

        found = preprocessing_of(source, name, local=True)
        return found if isinstance(found, Preprocessing) else None
    return None
