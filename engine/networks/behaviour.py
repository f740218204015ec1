"""A network is what it computes: how its modules are set up, and what it answers to fixed images.

Weights and types of modules do not tell a slope of 0.01 from one of 0.9, nor one ``forward`` from
another. Answers do, to the digits that one kind of device keeps; they are compared, not hashed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..variables import PROJECTIONS, apart
from .backbones import Backbone, provenance_of
from .layers import named_modules
from .precision import TF32_EPS, multiplied
from .probe import probe

# Modules that a store lists, and characters of each.
_MOST_MODULES, _LONGEST = 1_000, 200
# What a module says of itself that changes no answer: where an object lies, and whether memory is
# used again.
_SAYS_NOTHING = re.compile(r" at 0x[0-9a-fA-F]+|(, )?\binplace(=\w+)?")
# Their texts name precision and device of parameters, which the weights' hash covers.
_LISTS = (nn.ParameterList, nn.ParameterDict)
# A value's random weight is that of its column times that of its row, in blocks of so many values.
_WIDTH, _BLOCK = 4096, 2**20
# Of rounding, as far as it is measured and in units of a precision, how much more an answer may
# differ; at least and at most so much of its norm.
_MORE, _ULPS, _LEAST, _MOST = 4, 8, 1e-4, 0.3
# Tensors that a network gives, as a whole, of which answers are kept.
_MOST_TENSORS = 8


def network_of(
    backbone: Backbone, device: torch.device, layers: Collection[str]
) -> tuple[str | None, dict[str, Any]]:
    """Probe a network, and describe it for the root of a store.

    Returns
    -------
    a warning if responses depend on more than the image (see :func:`.probe.probe`), or None; and
    the attributes of the root that identify the network
    """
    tf32 = TF32_EPS if backbone.precision == "tf32" else 0
    root = next(name for name, _ in named_modules(backbone.model))
    answers = Answers([*layers, root])
    with multiplied(backbone.precision, device):
        found = probe(backbone.model, backbone.preprocessing.crop, layers, tf32, answers)
    said = {**provenance_of(backbone, device), **configuration(backbone.model)}
    if known := answers.record():
        said["answers"] = known
    return found, json.loads(json.dumps(said))  # lists, as they are read again


def configuration(model: nn.Module) -> dict[str, Any]:
    """How the modules of a network are set up, as they say it themselves: a hash, and a list.

    Without what differs from run to run, and what changes no answer.
    """
    said = [f"{name}: {_text(module)}" for name, module in named_modules(model)]
    return {
        "configuration_sha256": hashlib.sha256("\n".join(said).encode()).hexdigest(),
        "modules": [one[:_LONGEST] for one in said[:_MOST_MODULES]],
    }


def _text(module: nn.Module) -> str:
    kind, said = type(module), ""
    if not isinstance(module, _LISTS):
        with suppress(Exception):  # what others have written may fail
            own = kind.__repr__ is not nn.Module.__repr__ and not any(module.children())
            said = repr(module) if own else module.extra_repr()
            said = said.removeprefix(f"{kind.__name__}(").removesuffix(")") if own else said
    said = " ".join(_SAYS_NOTHING.sub("", said).split()).removeprefix(", ")
    return f"{kind.__name__}({said})"


class Answers:
    """The answers of layers, and of the network as a whole, to the images of a probe.

    A norm is kept of each, and sums by fixed random weights; and how far rounding moves these:
    another network's are further away.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = set(names)
        self._sums: dict[tuple[str, int], list[float]] = {}
        self._least: dict[tuple[str, int], float] = {}

    def hear(self, name: str, number: int, tensor: torch.Tensor) -> None:
        """Take the tensor ``[image, ...]`` that a layer gives, of several the one so numbered."""
        if name in self._names and number < _MOST_TENSORS:
            self._sums[name, number] = _summed(tensor)

    def hear_rounded(self, eps: float, name: str, number: int, tensor: torch.Tensor) -> None:
        """Take what a layer gives for images that differ by about what rounding changes.

        ``eps`` is the coarsest precision in the network.
        """
        if (sums := self._sums.get((name, number))) is not None:
            moved = apart(sums, _summed(tensor))
            self._least[name, number] = max(_LEAST, _ULPS * eps, _MORE * moved)

    def drop(self, names: Collection[str]) -> None:
        """Forget layers whose answers are not the same each time."""
        self._names -= set(names)

    def record(self) -> dict[str, list[float]]:
        """Layer -> norm, sums, and the least difference from those of another network.

        Without layers that rounding, or chance, changes as a whole.
        """
        return {
            f"{name}[{number}]" if number else name: [
                float(f"{x:.6g}") for x in (*self._sums[name, number], least)
            ]
            for (name, number), least in self._least.items()
            if name in self._names and least < _MOST
        }


def _summed(tensor: torch.Tensor) -> list[float]:
    """The norm of all values that are finite, and their sums by fixed random weights."""
    square, sums = 0.0, np.zeros(PROJECTIONS)
    # Block by block: all in double precision would take more memory than the pass does.
    blocks = (block for image in tensor for block in torch.split(image.reshape(-1), _BLOCK))
    for number, block in enumerate(blocks):
        finite = torch.where(block.isfinite(), block, 0)
        padded = nn.functional.pad(finite, (0, -len(block) % _WIDTH)).to(torch.float64)
        rows = padded.cpu().numpy().reshape(-1, _WIDTH)
        # By one thread, and not by a library's: what is small would wait for the others.
        square += np.einsum("rw,rw", rows, rows)
        across, down = _weights(0, PROJECTIONS, _WIDTH), _weights(1 + number, 1, len(rows))[0]
        sums += [down @ np.einsum("rw,w->r", rows, one) for one in across]
    return [math.sqrt(square), *sums.tolist()]


@lru_cache(maxsize=64)
def _weights(seed: int, rows: int, columns: int) -> NDArray[np.float64]:
    """Normal deviates, of a generator that does not change any more."""
    return np.random.RandomState(seed).randn(rows, columns)
