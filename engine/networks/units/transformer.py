"""Tokens before the patches, and attention heads: told by names of parameters and attributes.

The names are those of torchvision, timm, open_clip, transformers and DINOv2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isqrt

from torch import nn

from ...layer import Layer
from ..modules import INPUT, named_modules

# Parameters of the class token, and of other tokens that are no patches.
CLASS_TOKENS = ("class_token", "cls_token", "class_embedding")
_OTHER_TOKENS = ("dist_token", "distillation_token", "reg_token", "register_tokens")
# Attributes that number tokens before the patches, and heads; names of attention's output
# projection.
_PREFIX, _HEADS = "num_prefix_tokens", ("num_heads", "num_attention_heads")
_PROJECTIONS = ("proj", "out_proj", "o_proj", "projection", "projection_layer")


@dataclass(frozen=True)
class Transformer:
    """Tokens and attention heads of a network, as far as names and shapes tell.

    Parameters
    ----------
    prefix : tokens before the patches: class token, registers
    has_class_token : whether a parameter has the name of one
    heads : input of attention's output projection -> number of heads
    grids : numbers of places of the maps in the network, such as its patches
    """

    prefix: int = 0
    has_class_token: bool = False
    heads: Mapping[str, int] = field(default_factory=dict)
    grids: frozenset[int] = frozenset()

    def before_patches(self, tokens: int) -> tuple[int, bool]:
        """Number of ``tokens`` before the patches, and whether it is a guess.

        The rest is as many as a map has places, or square. It is a guess where names tell of no
        such number.
        """
        for is_map in (self.grids.__contains__, is_square):
            for first in (self.prefix, 0):
                if first < tokens and is_map(tokens - first):
                    return first, False
        grid = max((grid for grid in self.grids if grid <= tokens), default=isqrt(tokens) ** 2)
        return tokens - grid, True


def transformer_of(model: nn.Module, layers: Iterable[Layer] = ()) -> Transformer:
    """Tokens and heads of a network, and of its ``layers`` the maps."""
    tokens: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        own = name.rpartition(".")[2]
        if own in (*CLASS_TOKENS, *_OTHER_TOKENS):
            tokens.setdefault(own, parameter.shape[-2] if parameter.ndim > 1 else 1)
    told = [getattr(module, _PREFIX, None) for module in model.modules()]
    return Transformer(
        next((number for number in told if isinstance(number, int)), sum(tokens.values())),
        any(name in tokens for name in CLASS_TOKENS),
        _heads(model),
        frozenset(
            layer.units // layer.shape[layer.dims.index("channel")]
            for layer in layers
            if set(layer.dims) == {"channel", "y", "x"}
        ),
    )


def _heads(model: nn.Module) -> dict[str, int]:
    modules = dict(named_modules(model))
    found = {}
    for name, module in modules.items():
        above, _, own = name.rpartition(".")
        owners = [modules[above]] if own in _PROJECTIONS and above in modules else []
        beside = modules.get(above.rpartition(".")[0])
        if own == "dense" and beside and "attention" in type(beside).__name__.lower():
            owners = [*beside.children()]  # transformers: one of them computes the attention
        number = _number_of_heads(owners)
        if isinstance(module, nn.Linear) and number and module.in_features % number == 0:
            found[name + INPUT] = number
    return found


def _number_of_heads(modules: Iterable[nn.Module]) -> int | None:
    told = [getattr(module, name, None) for module in modules for name in _HEADS]
    return next((number for number in told if isinstance(number, int) and number > 0), None)


def is_square(tokens: int) -> bool:
    """Whether tokens can be a square of patches."""
    return tokens > 0 and isqrt(tokens) ** 2 == tokens
