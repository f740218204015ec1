"""Public functions with the fields of their nouns as keywords, as most tests call them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, TypeVar

import fusiform
from fusiform import Design, Network, Recording, Resources, Stimuli, Store, UnitRequest
from fusiform.engine.decoding import ahead
from fusiform.engine.networks.backbones import Backbone

_Noun = TypeVar("_Noun")


def scan(model: Any, stimuli: Any, output: Any, **options: Any) -> Store:
    """``fusiform.scan``."""
    network, stimuli = _taken(Network, options, model), _taken(Stimuli, options, stimuli)
    design, resources = _taken(Design, options), _taken(Resources, options)
    return fusiform.scan(network, stimuli, output, design=design, resources=resources, **options)


def record(model: Any, stimuli: Any, output: Any, **options: Any) -> Recording:
    """``fusiform.record``, where None means what is not given."""
    options = {name: value for name, value in options.items() if value is not None}
    network, stimuli = _taken(Network, options, model), _taken(Stimuli, options, stimuli)
    design, resources = _taken(Design, options), _taken(Resources, options)
    options["units"] = _taken(UnitRequest, options)
    return fusiform.record(network, stimuli, output, design=design, resources=resources, **options)


def plan(model: Any, stimuli: Any, **options: Any) -> Any:
    """``fusiform.plan``."""
    network, stimuli = _taken(Network, options, model), _taken(Stimuli, options, stimuli)
    design, resources = _taken(Design, options), _taken(Resources, options)
    return fusiform.plan(network, stimuli, design=design, resources=resources, **options)


def pack_stimuli(stimuli: Any, output: Any, *, model: Any = None, **options: Any) -> int:
    """``fusiform.pack_stimuli``."""
    if model is not None:
        options["network"] = Network(model, options.pop("weights", "default"))
    return fusiform.pack_stimuli(_taken(Stimuli, options, stimuli), output, **options)


def check_stimuli(stimuli: Any, groups: Any = None, root: Any = None, **options: Any) -> Any:
    """``fusiform.check_stimuli``."""
    return fusiform.check_stimuli(Stimuli(stimuli, groups, root), **options)


def bench(model: Any = "resnet50", *, weights: str = "none", **options: Any) -> Iterator[Any]:
    """``fusiform.bench``."""
    options["weights"] = weights
    network = _taken(Network, options, model)
    return fusiform.bench(network, **options)


def load_backbone(model: Any, weights: str = "default", seed: int = 0, **options: Any) -> Backbone:
    """``fusiform.load_backbone``."""
    return fusiform.load_backbone(Network(model, weights, seed, **options))


def decode_ahead(
    catalogue: Any, plan: Any, preprocessing: Any, workers: int, **options: Any
) -> Iterator[ahead.Decoded]:
    """``decode_ahead``."""
    names = ("skip", "device", "processes")
    own = {name: options.pop(name) for name in names if name in options}
    return ahead.decode_ahead(
        ahead.ImageSource(catalogue, preprocessing, workers, **own), plan, **options
    )


def _taken(noun: type[_Noun], options: dict[str, Any], *first: Any) -> _Noun:
    """A noun made of those of ``options`` that are its fields, which it takes out."""
    names = [field.name for field in fields(noun)]  # type: ignore[arg-type]
    own = {name: options.pop(name) for name in names if name in options}
    return noun(*first, **own)
