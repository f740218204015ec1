"""How fast this machine reads memory: the yardstick of the kernels in :mod:`.cpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from .jit import inner, parallel

_TILE = 65_536


@inner
def _parity(words: Any) -> Any:
    found = np.int64(0)
    for i in range(len(words)):
        found ^= words[i]
    return found


@parallel
def read(words: NDArray[np.int64]) -> int:
    """Read every one of ``words`` once, on all threads, and do next to nothing with it."""
    tiles = (len(words) + _TILE - 1) // _TILE
    found = np.zeros(tiles, np.int64)
    for tile in prange(tiles):
        found[tile] = _parity(words[tile * _TILE : (tile + 1) * _TILE])
    return int(found.sum())
