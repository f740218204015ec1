"""Inputs of networks that see no pictures: tensors, or tuples and dictionaries of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Inputs:
    """A batch for a network: a tensor, or a tuple or dictionary of tensors, a row per stimulus.

    A tuple holds the positional arguments of the network, a dictionary those by name.
    """

    values: Any

    def __len__(self) -> int:
        return len(next(tensors_in(self.values)))

    def __getitem__(self, rows: Any) -> Inputs:
        return self.mapped(lambda tensor: tensor[rows])

    def mapped(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
        """``function`` of every tensor."""
        return Inputs(_mapped(function, self.values))

    def to(self, device: torch.device, dtype: torch.dtype) -> Inputs:
        """On a device; floating-point numbers in the dtype of the network's parameters."""
        return self.mapped(
            lambda one: one.to(device, dtype if one.is_floating_point() else one.dtype)
        )

    @property
    def bytes_each(self) -> int:
        """Bytes of the input of one stimulus."""
        return sum(one[:1].nbytes for one in tensors_in(self.values))

    @property
    def side(self) -> int | None:
        """Side of square colour images in floating point; None for anything else."""
        one = self.values
        is_square = isinstance(one, torch.Tensor) and one.ndim == 4 and one.shape[2] == one.shape[3]
        if is_square and one.shape[1] == 3 and one.is_floating_point():
            return int(one.shape[2])
        return None

    @classmethod
    def joined(cls, items: list[Any]) -> Inputs:
        """A batch of single inputs of the same form."""
        first, *_ = items
        if isinstance(first, Mapping):
            return cls({name: cls.joined([one[name] for one in items]).values for name in first})
        if isinstance(first, tuple):
            return cls(tuple(cls.joined(list(own)).values for own in zip(*items, strict=True)))
        return cls(torch.stack(items))


def tensors_in(values: Any) -> Iterator[torch.Tensor]:
    """The tensors of an input, in order."""
    if isinstance(values, torch.Tensor):
        yield values
    else:
        for one in values.values() if isinstance(values, Mapping) else values:
            yield from tensors_in(one)


def called(model: nn.Module, inputs: torch.Tensor | Inputs) -> Any:
    """The network's output for a batch."""
    if not isinstance(inputs, Inputs):
        return model(inputs)
    if isinstance(inputs.values, Mapping):
        return model(**inputs.values)
    return model(*inputs.values) if isinstance(inputs.values, tuple) else model(inputs.values)


def _mapped(function: Callable[[torch.Tensor], torch.Tensor], values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return function(values)
    if isinstance(values, Mapping):
        return {name: _mapped(function, one) for name, one in values.items()}
    return tuple(_mapped(function, one) for one in values)
