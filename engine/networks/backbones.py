"""Name to network: torchvision, open_clip's visual towers, timm, or a user's own factory.

Every source builds an architecture and knows its preprocessing and the library's own trained
weights. A local weights file and ``none`` (untrained, from a seed) work for all sources.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, fault_of, first_line, nearest, shortened
from ..limits import refuse_seed
from ..preprocessing import INTERPOLATIONS, Preprocessing
from ..values import as_record
from .checkpoints import local_file
from .precision import cast
from .uncompiled import plain
from .weights import download, hash_weights, load_strictly, quiet


@dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode with its preprocessing.

    ``weights`` says where the weights come from; ``weights_hash`` is the hash of their content
    before casting to ``precision`` (None: the network's own). ``compiled`` networks run under
    torch.compile. ``notes`` are messages to the user about the weights.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    weights: str
    weights_hash: str
    precision: str | None = None
    compiled: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """One architecture of a library.

    ``untrained()`` builds it; ``trained(tag)`` builds it with the library's weights ``tag`` and may
    download them. ``tags`` lists the library's weights, the default first. ``tower`` is the name of
    this network inside a larger one that a checkpoint may hold.
    """

    name: str
    untrained: Callable[[], tuple[nn.Module, Preprocessing]]
    trained: Callable[[str], tuple[nn.Module, Preprocessing]] | None = None
    tags: list[str] = field(default_factory=list)
    tower: str = ""


def load_backbone(name: str, weights: str = "default", seed: int = 0) -> Backbone:
    """Build the network ``name`` and load its weights.

    Parameters
    ----------
    name : ``NAME`` or ``torchvision:NAME``, ``clip:NAME`` (the visual tower of an open_clip model),
        ``timm:NAME``, or ``package.module:factory``, a function without arguments that returns a
        network, or a network and its :class:`Preprocessing`
    weights : ``default`` (the library's own, or as the factory built them), ``none`` (untrained,
        drawn from ``seed``), a tag of the library, or a local ``.safetensors`` or torch file.
        FILE:KEY selects one of several sets of weights in it (``run.pth:state_dict_ema``)
    seed : random seed of untrained weights

    Raises
    ------
    UserError : unknown name or tag, a seed out of range, or weights that cannot be downloaded or
        read, or do not fit
    """
    refuse_seed(seed)
    source = _find(name)
    notes: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if file := local_file(weights):
            model, preprocessing = source.untrained()
            model = plain(model)
            described, notes = load_strictly(model, *file, source.name, source.tower)
        elif weights == "none" or (weights == "default" and source.trained is None):
            model, preprocessing = source.untrained()
            described = f"untrained, seed {seed}" if weights == "none" else "as the factory built"
        else:
            tag = _known_tag(source, weights)
            assert source.trained is not None
            trained = source.trained
            model, preprocessing = download(lambda: trained(tag), f"{source.name} ({tag})")
            described = tag
    model = plain(model).requires_grad_(False)
    hashed = hash_weights(model)
    return Backbone(source.name, model, preprocessing, described, hashed, notes=tuple(notes))


def backbone_of(
    model: str | nn.Module,
    weights: str,
    seed: int,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
    precision: str | None = None,
    compile: bool = False,
) -> Backbone:
    """Network of a scan, given by name or as a module, with its preprocessing.

    ``preprocessing`` replaces the network's own, as a whole or by single values; ``precision`` too.

    Raises
    ------
    UserError : see :func:`load_backbone`; weights given for a module; unknown preprocessing; a
        module that cannot be cast to ``precision``
    """
    if isinstance(model, str):
        backbone = load_backbone(model, weights, seed)
    else:
        if weights != "default":
            raise UserError(
                f"a torch module keeps the weights it has; got weights={weights!r}: load them into "
                "it first"
            )
        model = plain(model)
        name = type(model).__name__
        backbone = Backbone(name, model, Preprocessing(), "as given", hash_weights(model))
    network, differing = cast(backbone.model, precision, own=isinstance(model, str))
    backbone = replace(backbone, model=network, precision=differing, compiled=compile)
    return replace(backbone, preprocessing=_overridden(backbone.preprocessing, preprocessing))


def preprocessing_of(
    model: str | None,
    weights: str,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
) -> Preprocessing:
    """Preprocessing of a named network (None: the default), overridden as in a scan.

    Raises
    ------
    UserError : see :func:`load_backbone`; unknown preprocessing
    """
    own = Preprocessing()
    if model is not None and not isinstance(preprocessing, Preprocessing):
        own = load_backbone(model, weights).preprocessing
    return _overridden(own, preprocessing)


def _overridden(
    own: Preprocessing, given: Preprocessing | Mapping[str, Any] | None
) -> Preprocessing:
    if isinstance(given, Preprocessing):
        return given
    if not isinstance(given, Mapping | None):
        raise UserError(
            "preprocessing is a fusiform.Preprocessing or a dictionary of its fields such as "
            f"{{'crop': 288}}; got {given!r}"
        )
    overrides, known = dict(given or {}), as_record(own)
    for name in overrides.keys() - known.keys():
        raise UserError(f"preprocessing has no {name!r}: {nearest(name, known)}")
    chosen = replace(own, **overrides)
    if chosen.pads and not own.pads:
        raise UserError(
            f"a crop must fit into the resized image; got crop {chosen.crop} of {chosen.resize}: "
            "lower `crop` or raise `resize`"
        )
    return chosen


def provenance_of(backbone: Backbone, device: torch.device) -> dict[str, Any]:
    """Attributes that identify the network in a store."""
    preprocessing = as_record(backbone.preprocessing)
    if preprocessing["decoder"] == "pillow":
        del preprocessing["decoder"]
    kinds = "\n".join(type(module).__name__ for module in backbone.model.modules())
    return {
        "model": backbone.name,
        "weights": backbone.weights,
        "weights_sha256": backbone.weights_hash,
        # The same weights with another activation function make a different network.
        "modules_sha256": hashlib.sha256(kinds.encode()).hexdigest(),
        "preprocessing": preprocessing,
        "device_type": device.type,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **({"precision": backbone.precision} if backbone.precision else {}),
        **({"compiled": True} if backbone.compiled else {}),
    }


def _known_tag(source: _Source, weights: str) -> str:
    if source.trained is None or not source.tags:
        raise UserError(
            f"weights of {source.name} are 'none' or a local file; got {weights!r}"
            + ("" if weights == "default" else ", which does not exist")
        )
    if weights.lower() == "default":
        return source.tags[0]
    if weights not in source.tags:
        raise UserError(
            f"weights are default, none, a local file, or a tag of {source.name} "
            f"({shortened(source.tags)}); got {weights!r}"
        )
    return weights


def _find(name: str) -> _Source:
    library, colon, rest = name.partition(":")
    if not colon:
        return _torchvision(name)
    if library in _LIBRARIES:
        return _LIBRARIES[library](rest)
    return _factory(name, library, rest)


def _torchvision(name: str) -> _Source:
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

    return _Source(f"torchvision:{name}", untrained, trained, tags)


def _clip(name: str) -> _Source:
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
            raise UserError(f"fusiform does not pad images; clip:{name} needs it")
        return model.visual, Preprocessing(
            size,
            size,
            chosen["interpolation"],
            tuple(chosen["mean"]),
            tuple(chosen["std"]),
            squash=chosen["resize_mode"] == "squash",
        )

    return _Source(
        f"clip:{name}",
        lambda: build(None),
        build,
        sorted(tags, key=lambda tag: tag != "openai"),
        tower="visual",
    )


def _timm(name: str) -> _Source:
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
            raise UserError(f"fusiform does not pad images; timm:{name} needs it")
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

    return _Source(f"timm:{name}", lambda: build(False), lambda _: build(True), ["default"])


def _factory(name: str, module: str, function: str) -> _Source:
    def build() -> tuple[nn.Module, Preprocessing]:
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as python -m does
        with _users_code(name):
            try:
                factory = getattr(importlib.import_module(module), function)
            except (ImportError, AttributeError, TypeError, ValueError) as error:
                if fault_of(error):
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

    return _Source(name, build)


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
        if fault_of(error):
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
