"""Name to network, with its weights, preprocessing and precision.

A local weights file and ``none`` (untrained, from a seed) work for every library
(:mod:`.libraries`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..errors import UserError, nearest
from ..limits import refuse_seed
from ..preprocessing import Preprocessing
from ..values import as_record
from .checkpoints import local_file
from .libraries import find_architecture
from .placement import cast
from .uncompiled import plain
from .weights import download, hash_weights, load_strictly


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
    source = find_architecture(name)
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
            tag = source.tag(weights)
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
