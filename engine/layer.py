"""A recordable layer, the units taken from it, and the names of its dimensions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .errors import UserError, nearest

# Units of a layer, and what each of them is.
UNITS: dict[str, str] = {
    "all": "every element of a layer's output",
    "channel": "means over positions, one per channel",
    "token": "means over channels, one per token or place",
    "cls": "channels of the first token",
    "patch": "means over patches, one per channel; without class token and registers",
    "head": "norms of attention heads' outputs before the output projection, means over tokens",
}
# Units that a user's function makes of a layer's output: package.module:function.
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

# Precisions of activations that are recorded -> bytes of a value.
DTYPES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}

# Names of dimensions that number the units of a layer.
COORDINATES: dict[str, str] = {
    "channel": "channel, or feature map",
    "y": "row, from the top",
    "x": "column, from the left",
    "token": "place in the sequence",
    "head": "attention head",
    "unit": "unit",
}


@dataclass(frozen=True)
class Layer:
    """A recordable layer: a module of the network and its output for one stimulus.

    A unit is one element of the output.

    Attributes
    ----------
    name : str
        Dotted name of the module.
    kind : str
        Class of the module.
    dims : tuple of str
        Names of the dimensions, without that of the batch.
    shape : tuple of int
        Their lengths.
    dtype : str
        Type of the activations.
    units : int
        Number of units.
    """

    name: str
    kind: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def units(self) -> int:
        """Number of units."""
        return math.prod(self.shape)

    @property
    def is_nameless(self) -> bool:
        """Whether some dimensions have no known meaning."""
        return any(dim.startswith("axis_") for dim in self.dims)

    @property
    def passes_on(self) -> bool:
        """Whether the module returns what it takes; a network may have it as a placeholder."""
        return self.kind == "Identity"

    @property
    def state_bytes(self) -> int:
        """Bytes of live moments: two float64 sums and a pivot in the activations' precision."""
        return self.units * (16 + DTYPES[self.dtype])

    def where(self, place: Mapping[str, int], between: str = " ") -> str:
        """The place of a unit along the dimensions in words; those of length 1 tell nothing."""
        lengths = dict(zip(self.dims, self.shape, strict=True))
        telling = [dim for dim in place if lengths[dim] > 1 or self.units == 1]
        return between.join(f"{dim} {place[dim]}" for dim in telling)


def columns(layers: Sequence[Layer]) -> Iterator[tuple[Layer, slice]]:
    """The layers of a bundle, and the slice of its units that each has."""
    start = 0
    for layer in layers:
        yield layer, slice(start, start + layer.units)
        start += layer.units


def dims_of(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a layer's dimensions, guessed from the ``shape`` of its output for one stimulus.

    Of three, two equal neighbours are space. Ambiguous dimensions are called ``axis_N``.
    """
    if len(shape) == 1:
        return ("unit",)
    if len(shape) == 2:
        return ("token", "channel")
    if len(shape) == 3:
        first, middle, last = shape
        if first != middle == last:
            return ("channel", "y", "x")
        if first == middle != last > 1:
            return ("y", "x", "channel")
    return tuple(f"axis_{axis}" for axis in range(len(shape)))


def is_function(units: str) -> bool:
    """Whether units are those of a user's function, ``package.module:function``."""
    return _FUNCTION.fullmatch(units) is not None


def describe_units(units: str) -> str:
    """Meaning of a scan's units, in words."""
    return f"those of the function {units}" if is_function(units) else UNITS[units]


def refuse_units(units: str) -> None:
    """Raise for units other than ``UNITS`` and functions.

    Raises
    ------
    UserError : unknown units
    """
    if not isinstance(units, str) or not (units in UNITS or is_function(units)):
        raise UserError(
            f"units are {', '.join(UNITS)}, or package.module:function; got {units!r}: "
            f"{nearest(str(units), UNITS)}"
        )
