"""Libraries of networks: torchvision, open_clip's visual towers, timm, and a user's own factory.

A new library is a function from a model's name to an :class:`Architecture`, and an entry in
``_LIBRARIES``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UserError, describe_failure, first_line, nearest, shortened
from ..imports import postponed, uncollected
from ..preprocessing import INTERPOLATIONS, Preprocessing
from .weights import quiet


@dataclass(frozen=True)
class Architecture:
    """An architecture of a library.

    ``untrained()`` builds it; ``trained(tag)`` builds it with the library's weights ``tag`` and may
    download them. ``tags`` lists the library's weights, the default first. ``tower`` is the name of
    this network inside a larger one that a checkpoint may hold.
    """

    name: str
    untrained: Callable[[], tuple[nn.Module, Preprocessing]]
    trained: Callable[[str], tuple[nn.Module, Preprocessing]] | None = None
    tags: list[str] = field(default_factory=list)
    tower: str = ""

    def tag(self, weights: str) -> str:
        """The library's tag that ``weights`` names; the default one for ``default``.

        Raises
        ------
        UserError : unknown tag, or no weights in the library
        """
        if self.trained is None or not self.tags:
            raise UserError(
                f"weights of {self.name} are 'none' or a local file; got {weights!r}"
                + ("" if weights == "default" else ", which does not exist")
            )
        if weights.lower() == "default":
            return self.tags[0]
        if weights not in self.tags:
            raise UserError(
                f"weights are default, none, a local file, or a tag of {self.name} "
                f"({shortened(self.tags)}); got {weights!r}"
            )
        return weights


def find_architecture(name: str) -> Architecture:
    """Architecture by name, see :func:`.backbones.load_backbone`.

    Raises
    ------
    UserError : unknown name
    """
    library, colon, rest = name.partition(":")
    with uncollected():  # they are imported now
        if not colon:
            return _torchvision(name)
        if library in _LIBRARIES:
            return _LIBRARIES[library](rest)
    return _factory(name, library, rest)


def _torchvision(name: str) -> Architecture:
    # torchvision imports torch's compiler, most of its own time, for an operator of detectors.
    with postponed("torch._dynamo.utils", "is_compile_supported"):
        from torchvision import models

    if name not in models.list_models():
        raise UserError(
            f"{name!r} is not a torchvision model: {nearest(name, models.list_models())} "
            "(or name clip:NAME, timm:NAME or package.module:factory)"
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

    def untrained() -> tuple[nn.Module, Preprocessing]:
        # Weights from elsewhere were most likely trained with the architecture's first recipe.
        # Later torchvision recipes use other image sizes.
        preprocessing = preset(offered[0]) if offered else Preprocessing()
        return models.get_model(name, weights=None), preprocessing

    def trained(tag: str) -> tuple[nn.Module, Preprocessing]:
        entry = models.get_model_weights(name)[tag]
        preprocessing = preset(entry)  # raises before downloading a model that takes no images
        return models.get_model(name, weights=entry), preprocessing

    return Architecture(f"torchvision:{name}", untrained, trained, tags)


def _clip(name: str) -> Architecture:
    import open_clip

    if name not in open_clip.list_models():
        near = nearest(name, open_clip.list_models())
        raise UserError(f"{name!r} is not an open_clip model: {near}")
    tags = open_clip.list_pretrained_tags_by_model(name)

    def build(tag: str | None) -> tuple[nn.Module, Preprocessing]:
        # OpenAI's networks use another GELU than open_clip's default. With the default, their
        # weights would load silently and compute something else.
        offered = open_clip.get_pretrained_cfg(name, tag) if tag else {}
        with quiet():
            model = open_clip.create_model(
                name, pretrained=tag, force_quick_gelu=bool(offered.get("quick_gelu"))
            )
        chosen = open_clip.get_model_preprocess_cfg(model)
        size = chosen["size"] if isinstance(chosen["size"], int) else chosen["size"][0]
        if chosen["resize_mode"] == "longest":
            raise UserError(f"fusiform crops images to a square; clip:{name} pads them")
        return model.visual, Preprocessing(
            size,
            size,
            chosen["interpolation"],
            tuple(chosen["mean"]),
            tuple(chosen["std"]),
            squash=chosen["resize_mode"] == "squash",
        )

    return Architecture(
        f"clip:{name}",
        lambda: build(None),
        build,
        sorted(tags, key=lambda tag: tag != "openai"),
        tower="visual",
    )


def _timm(name: str) -> Architecture:
    import timm
    from timm.data.config import resolve_model_data_config

    if not timm.is_model(name):
        raise UserError(f"{name!r} is not a timm model: {nearest(name, timm.list_models())}")

    def build(pretrained: bool) -> tuple[nn.Module, Preprocessing]:
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


def _factory(name: str, module: str, function: str) -> Architecture:
    def build() -> tuple[nn.Module, Preprocessing]:
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as python -m does
        with _users_code(name):
            try:
                factory = getattr(importlib.import_module(module), function)
            except (ImportError, AttributeError, TypeError, ValueError) as error:
                if describe_failure(error):
                    raise
                valid = function.isidentifier()
                reason = first_line(error) if valid else "a factory has a Python name"
                raise UserError(
                    f"a model is torchvision:NAME, clip:NAME, timm:NAME or package.module:factory; "
                    f"cannot import {name!r} ({reason})"
                ) from None  # its text may hold credentials
            if problem := _not_callable(factory):
                raise UserError(f"a factory is a function without arguments; {name} {problem}")
            made = factory()
        match made:
            case nn.Module() as model:
                return model, Preprocessing()
            case (nn.Module() as model, Preprocessing() as preprocessing):
                return model, preprocessing
            case (*parts,):
                returned = ", ".join(type(part).__name__ for part in parts) or "nothing"
            case other:
                returned = type(other).__name__
        raise UserError(
            f"a factory returns a torch module, or a module and a fusiform.Preprocessing; "
            f"{name} returned {returned}"
        )

    return Architecture(name, build)


def _not_callable(factory: Any) -> str | None:
    """Reason why a factory cannot be called without arguments; None if it can."""
    if not callable(factory):
        return f"is a {type(factory).__name__}"
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        return f"takes some ({first_line(error)})"
    except ValueError:  # its signature is unknown
        pass
    return None


@contextmanager
def _users_code(name: str) -> Iterator[None]:
    """Run the user's code without stdin, and turn its failure into one line that says where.

    Raises
    ------
    UserError : the code raised an error that is not the machine's fault, or exited
    """
    stdin = sys.stdin
    try:
        with Path(os.devnull).open() as sys.stdin:
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if describe_failure(error):
            raise
        *_, last = traceback.extract_tb(error.__traceback__)
        location = f"{Path(last.filename).name}, line {last.lineno}"
        raise UserError(
            f"a factory returns a network; {name} raised {type(error).__name__} "
            f"({first_line(error)}; {location}): fix it"
        ) from error
    finally:
        sys.stdin = stdin


_LIBRARIES = {"torchvision": _torchvision, "clip": _clip, "timm": _timm}
