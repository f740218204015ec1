"""Values as a scan might meet them: in several units, in any order, batches and parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiform.kernels.moments import Moments, merge

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
# Batches [stimulus, unit], the group of each of their rows, and the number of groups.
RunGroups = Callable[[list[Any], list[Rows], int], Moments]


def streamed(
    sets: Sequence[Floats], run_groups: RunGroups, rng: np.random.Generator, units: int, parts: int
) -> Moments:
    """Moments ``[set, 1]``, ``[set, unit]`` of sets of values that come mixed, in random batches.

    Every unit has all values of a set, in an order of its own. A set is dealt at random to
    ``parts`` groups, which are merged in the end, two at a time that are drawn at random.
    """
    x = np.concatenate([rng.permuted(np.tile(values, (units, 1)), axis=1).T for values in sets])
    groups = np.repeat(np.arange(len(sets)), [len(values) for values in sets]) * parts
    groups += rng.integers(parts, size=len(groups))
    order = rng.permutation(len(x))
    batches = [order[rows] for rows in cut(len(x), rng)]
    found = run_groups([x[b] for b in batches], [groups[b] for b in batches], len(sets) * parts)
    merged = [_merged(found, range(k, k + parts), rng) for k in range(0, len(sets) * parts, parts)]
    count, mean, m2 = (np.array(part) for part in zip(*merged, strict=True))
    return Moments(count[:, np.newaxis], mean, m2)


def cut(stimuli: int, rng: np.random.Generator) -> list[Rows]:
    """The rows of up to twenty batches, in order, cut at random."""
    places = np.sort(rng.integers(0, stimuli, min(19, 1 + stimuli // 8)))
    return [rows for rows in np.split(np.arange(stimuli), places) if len(rows)]


def _merged(found: Moments, groups: range, rng: np.random.Generator) -> Moments:
    count = found.count[:, 0].tolist()
    left = [Moments(count[k], found.mean[k], found.m2[k]) for k in groups if count[k]]
    while len(left) > 1:
        a, b = left.pop(rng.integers(len(left))), left.pop(rng.integers(len(left)))
        left.append(merge(a, b))
    return left[0]


def _jumping(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    jumps = rng.normal(0, 1e4, (1 + shape[0] // 32, shape[1]))
    return rng.normal(np.repeat(jumps, 32, axis=0)[: shape[0]], 1)


def _any_magnitude(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.asarray(rng.choice([-1, 1], shape) * 10 ** rng.uniform(-10, 10, shape))


def _far_pivot(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    x = rng.normal(0, 1, shape)
    x[0] = 1e4
    return x


# Activations [stimulus, unit] that are hard in one way or another.
REGIMES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "mean 0, sd 1": lambda rng, shape: rng.normal(0, 1, shape),
    "mean 1e4, sd 1e-2": lambda rng, shape: rng.normal(1e4, 1e-2, shape),
    "mean jumps by 1e4 every 32": _jumping,
    "magnitudes 1e-10 to 1e10": _any_magnitude,
    "first 1e4 sd away": _far_pivot,
}
