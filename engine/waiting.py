"""Groups of moments that share a file, and wait in memory until it is full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .layer import Layer

# Values per file of moments, if it holds several groups; and the bytes of such groups of all layers
# together, which wait in memory until their files are full.
_MOMENT_VALUES, _HELD_BYTES = 2**19, 2**28
# Bytes of a unit's mean and m2 in memory.
_MOMENT_BYTES = 16


def groups_held(layers: Sequence[Layer], groups: int) -> Mapping[str, int]:
    """Groups of moments that share a file, for every layer.

    They wait in memory until the file is full: with many layers, fewer share one.
    """
    values = _MOMENT_VALUES
    while True:
        held = {one.name: min(groups, max(1, values // one.units)) for one in layers}
        if sum(_waiting(layers, held).values()) <= _HELD_BYTES:
            return held
        values //= 2


def waiting_bytes(layers: Sequence[Layer], groups: int) -> dict[str, int]:
    """Bytes of the moments of every layer that wait until their file is full."""
    return _waiting(layers, groups_held(layers, groups))


def _waiting(layers: Sequence[Layer], held: Mapping[str, int]) -> dict[str, int]:
    shared = {one.name: held[one.name] if held[one.name] > 1 else 0 for one in layers}
    return {one.name: _MOMENT_BYTES * one.units * shared[one.name] for one in layers}
