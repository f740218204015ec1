"""Identity of a network beyond its weights: module configuration and answers to fixed images.

Weights and module types do not distinguish a slope of 0.01 from one of 0.9, or one ``forward`` from
another. Answers do. Their digits depend on the device, so they are compared and not hashed.
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

from ..registry import PROJECTIONS, apart
from .backbones import Backbone, provenance_of
from .inputs import Inputs
from .modules import named_modules
from .placement import TF32_EPS, multiplied
from .probe import IMAGES, probe

# Modules listed in a store, and characters per module.
_MOST_MODULES, _LONGEST = 1_000, 200
# Parts of a module's repr that do not affect the output: memory addresses and `inplace`.
_IRRELEVANT = re.compile(r" at 0x[0-9a-fA-F]+|(, )?\binplace(=\w+)?")
# Their reprs name precision and device of parameters, which the weights' hash covers.
_LISTS = (nn.ParameterList, nn.ParameterDict)
# The random weight of a value is the product of a row's and a column's, in blocks of this size.
_WIDTH, _BLOCK = 4096, 2**20
# Tolerance of an answer: this multiple of the measured rounding and of the precision's epsilon,
# within these limits relative to its norm.
_MORE, _ULPS, _LEAST, _MOST = 4, 8, 1e-4, 0.3
# Output tensors per module whose answers are kept.
_MOST_TENSORS = 8


def network_of(
    backbone: Backbone,
    device: torch.device,
    layers: Collection[str],
    shown: int | Inputs | None = None,
) -> tuple[str | None, dict[str, Any]]:
    """Probe a network and describe it for the root of a store.

    It is shown images of the side ``shown`` (by default its own), or three stimuli, whose answers
    are not kept: those of other stimuli could not be compared with them.

    Returns
    -------
    a warning if responses depend on more than the image (see :func:`.probe.probe`), or None; and
    the root attributes that identify the network
    """
    tf32 = TF32_EPS if backbone.precision == "tf32" else 0
    root = next(name for name, _ in named_modules(backbone.model))
    answers = Answers([*layers, root])
    shown = backbone.preprocessing.crop if shown is None else shown
    kept = None if isinstance(shown, Inputs) else answers
    with multiplied(backbone.precision, device):
        shown = shown[:IMAGES] if isinstance(shown, Inputs) else shown
        warning = probe(backbone.model, shown, layers, tf32, kept)
    attributes = {**provenance_of(backbone, device), **configuration(backbone.model)}
    if known := answers.record():
        attributes["answers"] = known
    return warning, json.loads(json.dumps(attributes))  # tuples become lists, as when read back


def configuration(model: nn.Module) -> dict[str, Any]:
    """Hash and list of the modules' own descriptions, without what does not affect the output."""
    texts = [f"{name}: {_text(module)}" for name, module in named_modules(model)]
    return {
        "configuration_sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        "modules": [text[:_LONGEST] for text in texts[:_MOST_MODULES]],
    }


def _text(module: nn.Module) -> str:
    kind, text = type(module), ""
    if not isinstance(module, _LISTS):
        with suppress(Exception):  # a third-party repr may fail
            own = kind.__repr__ is not nn.Module.__repr__ and not any(module.children())
            text = repr(module) if own else module.extra_repr()
            text = text.removeprefix(f"{kind.__name__}(").removesuffix(")") if own else text
    text = " ".join(_IRRELEVANT.sub("", text).split()).removeprefix(", ")
    return f"{kind.__name__}({text})"


class Answers:
    """Answers of layers, and of the whole network, to the images of a probe.

    For each, a norm, sums by fixed random weights, and a tolerance for rounding: the answers of a
    different network lie further apart.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = set(names)
        self._sums: dict[tuple[str, int], list[float]] = {}
        self._least: dict[tuple[str, int], float] = {}

    def add(self, name: str, number: int, tensor: torch.Tensor) -> None:
        """Add tensor ``number`` of a layer, ``[image, ...]``."""
        if name in self._names and number < _MOST_TENSORS:
            self._sums[name, number] = _summed(tensor)

    def add_rounded(self, eps: float, name: str, number: int, tensor: torch.Tensor) -> None:
        """Add a layer's tensor for images perturbed by about the size of rounding errors.

        ``eps`` is that of the coarsest precision in the network.
        """
        if (sums := self._sums.get((name, number))) is not None:
            moved = apart(sums, _summed(tensor))
            self._least[name, number] = max(_LEAST, _ULPS * eps, _MORE * moved)

    def drop(self, names: Collection[str]) -> None:
        """Forget layers whose answers are not reproducible."""
        self._names -= set(names)

    def record(self) -> dict[str, list[float]]:
        """Layer -> norm, sums and tolerance, without layers that rounding or chance dominates."""
        return {
            f"{name}[{number}]" if number else name: [
                float(f"{x:.6g}") for x in (*self._sums[name, number], least)
            ]
            for (name, number), least in self._least.items()
            if name in self._names and least < _MOST
        }


def _summed(tensor: torch.Tensor) -> list[float]:
    """Norm of all finite values, and their sums by fixed random weights."""
    square, sums = 0.0, np.zeros(PROJECTIONS)
    # In blocks: all values in double precision would take more memory than the forward pass.
    blocks = (block for image in tensor for block in torch.split(image.reshape(-1), _BLOCK))
    for number, block in enumerate(blocks):
        finite = torch.where(block.isfinite(), block, 0)
        padded = nn.functional.pad(finite, (0, -len(block) % _WIDTH))
        rows = padded.cpu().to(torch.float64).numpy().reshape(-1, _WIDTH)
        # einsum runs on one thread: small blocks are not worth the threads of a BLAS.
        square += np.einsum("rw,rw", rows, rows)
        across, down = _weights(0, PROJECTIONS, _WIDTH), _weights(1 + number, 1, len(rows))[0]
        sums += [down @ np.einsum("rw,w->r", rows, one) for one in across]
    return [math.sqrt(square), *sums.tolist()]


@lru_cache(maxsize=64)
def _weights(seed: int, rows: int, columns: int) -> NDArray[np.float64]:
    """Normal deviates from numpy's frozen legacy generator."""
    return np.random.RandomState(seed).randn(rows, columns)
