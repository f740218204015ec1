"""Name to network, with its weights, preprocessing and precision.

A local weights file and ``none`` (untrained, from a seed) work for every library and plug-in
(:mod:`.libraries`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import UserError
from ..imports import uncollected
from ..preprocessing import Preprocessing
from ..registry import UNTRAINED
from ..spec import Network
from ..values import as_record
from .checkpoints import local_file
from .libraries.architecture import LIBRARIES, Architecture, Library, in_one_line
from .libraries.factory import AS_BUILT, factory
from .libraries.given import own_preprocessing
from .placement import cast
from .uncompiled import plain
from .weights import download, hash_weights, load_strictly

_PREPARED = ("resize", "crop", "mean", "std")


@dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode with its preprocessing.

    Attributes
    ----------
    name : str
        Full name of the network.
    model : torch.nn.Module
        The module.
    preprocessing : Preprocessing
        How images are prepared.
    weights : str
        Where the weights come from, in words.
    weights_hash : str
        Hash of their content before casting to ``precision``.
    precision : str or None
        Precision it computes in; None is the network's own.
    compiled : bool
        Whether a scan runs it under ``torch.compile``.
    assumed : str
        What is assumed of a preprocessing that nothing tells.
    notes : tuple of str
        Messages to the user about the weights.
    package : str
        Package that the network is from, if that is none of fusiform's own requirements.
    weights_path : str
        Full path of a file of weights.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    weights: str
    weights_hash: str
    precision: str | None = None
    compiled: bool = False
    assumed: str = ""
    notes: tuple[str, ...] = ()
    package: str = ""
    weights_path: str = ""


def load_backbone(network: Network | str | nn.Module) -> Backbone:
    """Build a network, load its weights and prepare it as a scan would run it.

    Parameters
    ----------
    network : Network, str or torch.nn.Module
        A network, or its name or torch module alone.

    Returns
    -------
    Backbone
        The module in evaluation mode, and its preprocessing.

    Raises
    ------
    UserError
        The name or tag is unknown; weights cannot be downloaded or read, or do not fit; weights are
        given for a module; a module cannot be cast to the precision; the preprocessing does not
        fit.

    Examples
    --------
    >>> backbone = fusiform.load_backbone(fusiform.Network("resnet18", weights="none"))
    >>> backbone.name, backbone.preprocessing.crop
    ('torchvision:resnet18', 224)
    >>> backbone.model.training
    False
    """
    network = Network.of(network)
    if isinstance(network.model, str):
        backbone = _built(network, network.model)
    else:
        if network.weights != "default":
            raise UserError(
                f"a torch module keeps the weights it has; got weights={network.weights!r}: load "
                "them into it first"
            )
        model = plain(network.model)
        if any(is_lazy(one) or one.is_meta for one in chain(model.parameters(), model.buffers())):
            raise UserError(
                f"a network has its weights; {type(model).__name__} has some without values, lazy "
                "or on the device meta: run or load it first"
            )
        name = type(model).__name__
        found = own_preprocessing(model)
        chosen = overridden(found, network.preprocessing)
        backbone = Backbone(
            name, model, chosen, "as given", hash_weights(model), assumed=_assumed(found, network)
        )
    own = isinstance(network.model, str)
    model, precision = cast(backbone.model, network.precision, own=own)
    return replace(backbone, model=model, precision=precision, compiled=network.compile)


def find_architecture(name: str) -> Architecture:
    """Architecture by name, see :func:`load_backbone`.

    Raises
    ------
    UserError : unknown name, or a plug-in that fails
    """
    library, colon, rest = name.partition(":")
    if not colon:
        library, rest = "torchvision", name
    with uncollected(), in_one_line(name):  # libraries are imported now
        find: Library | None = LIBRARIES.load(library)
        found = find(rest) if find else factory(name, library, rest)
    if not isinstance(found, Architecture):
        raise UserError(
            f"a plug-in of {LIBRARIES.group} returns a fusiform.Architecture; {library!r} returned "
            f"{type(found).__name__}: see docs/how-to/plugins.md"
        )
    return found


def _built(network: Network, name: str) -> Backbone:
    """A network by name, with its weights and its own or the given preprocessing."""
    source, weights, seed = find_architecture(name), network.weights, network.seed
    notes: list[str] = []
    weights_path = ""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if file := local_file(weights):
            model, preprocessing = source.build()
            model = plain(model)
            described, notes = load_strictly(model, *file, source.name, source.tower)
            weights_path = ":".join([str(file[0].absolute()), *filter(None, file[1:])])
        elif weights == "none" or (weights == "default" and source.tags == [AS_BUILT]):
            model, preprocessing = source.build()
            described = f"{UNTRAINED}{seed}" if weights == "none" else AS_BUILT
        else:
            described = source.tag(weights)
            assert source.trained is not None
            fetch: Callable[[], Any] = partial(source.trained, described)
            if source.downloads:
                fetch = partial(
                    download, fetch, f"the weights of {source.name} ({described})",
                    'give `weights` as a file, or `weights="none"` for an untrained network',
                )  # fmt: skip
            model, preprocessing = source.checked(fetch())
    model = plain(model).requires_grad_(False)
    chosen = overridden(preprocessing, network.preprocessing)
    hashed = hash_weights(model)
    return Backbone(
        source.name, model, chosen, described, hashed,
        assumed=_assumed(preprocessing, network), notes=tuple(notes), package=source.package,
        weights_path=weights_path,
    )  # fmt: skip


def _assumed(found: Preprocessing | UserError | None, network: Network) -> str:
    """A note on the values that are assumed, where neither the network nor the user gives them."""
    given = network.preprocessing
    if found is not None or isinstance(given, Preprocessing):
        return ""
    usual = Preprocessing()
    values = {name: getattr(usual, name) for name in _PREPARED if name not in (given or {})}
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    return said and (
        f"warning: nothing tells how images are prepared for this network; assumed: {said} "
        f"(others: give `{'`, `'.join(values)}`)"
    )


def preprocessing_of(network: Network | None) -> Preprocessing:
    """Preprocessing of a network as a scan uses it; the usual one without a network.

    Raises
    ------
    UserError : see :func:`load_backbone`
    """
    if network is None:
        return Preprocessing()
    if isinstance(network.preprocessing, Preprocessing):
        return network.preprocessing
    return load_backbone(network).preprocessing


def overridden(
    own: Preprocessing | UserError | None, given: Preprocessing | Mapping[str, Any] | None
) -> Preprocessing:
    """A network's own preprocessing, or the usual one, replaced as a whole or by single values.

    Raises
    ------
    UserError : a crop larger than the resized image, or a value out of range; ``own``, if that is
        an error and size, mean and std are not all given
    """
    if isinstance(given, Preprocessing):
        return given
    if isinstance(own, UserError):
        if not {"resize", "crop", "mean", "std"} <= {*(given or {})}:
            raise own
        own = None
    own = own or Preprocessing()
    chosen = replace(own, **dict(given or {}))
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
        **({"weights_path": path} if (path := backbone.weights_path) else {}),
        "weights_sha256": backbone.weights_hash,
        # The same weights with another activation function make a different network.
        "modules_sha256": hashlib.sha256(kinds.encode()).hexdigest(),
        "preprocessing": preprocessing,
        "device_type": device.type,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **({"precision": backbone.precision} if backbone.precision else {}),
        **({"compiled": True} if backbone.compiled else {}),
        **({"versions": {package: version(package)}} if (package := backbone.package) else {}),
    }
