"""Random projections that preserve distances, generated block by block from a seed.

Entries are 1 or -1 with equal probability (Achlioptas 2003, J. Comput. Syst. Sci. 66, 671-687,
theorem 1.1): random bits of a counter-based generator (Philox 4x64-10, Salmon et al. 2011, SC '11)
keyed by the seed and the block's number. They are the same on every device and in any order of
blocks, and the whole matrix is never in memory.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Units per block.
BLOCK = 8192


def signs(seed: int, block: int, units: int, dim: int) -> NDArray[np.float32]:
    """Entries ``[unit, dim]`` of a block, 1 or -1; fewer than ``BLOCK`` units: its first rows."""
    generator = np.random.Philox(key=np.array([seed, block], np.uint64))
    words: NDArray[np.uint64] = generator.random_raw(-(-units * dim // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=units * dim)
    entries = bits.astype(np.float32).reshape(units, dim)
    entries *= 2
    entries -= 1
    return entries


def bound(points: int, dim: int) -> float:
    """Largest relative error eps of all squared distances between ``points`` points.

    Holds with a probability of at least 1 - 1/points (Achlioptas 2003, theorem 1.1 with beta 1):
    dim >= (4 + 2 beta) ln(points) / (eps^2/2 - eps^3/3). 1 if the theorem gives nothing smaller.
    """
    needed = 6 * math.log(max(points, 2)) / dim
    low, high = 0.0, 1.0
    if needed >= 1 / 2 - 1 / 3:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle**2 / 2 - middle**3 / 3 < needed:
            low = middle
        else:
            high = middle
    return high
