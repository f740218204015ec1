"""Positions of selective units within a layer, and their spatial autocorrelation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...kernels.spatial import NEIGHBOURS, morans_i, normalised_entropy
from ..errors import UserError
from .census import Census
from .resampling import Chance, Floats, chance_levels, generator, or_none

# Values permuted at a time.
_VALUES = 2**20
_ENTROPY = {"entropy": normalised_entropy}
Neighbours = Literal["rook", "queen"]


@dataclass(frozen=True)
class Localisation:
    """The selective units of one layer and contrast by position.

    Values are None if no unit is selective, all positions are equal, or there is one.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    grid : str
        The positions: ``image``, the layer's rows and columns; ``patches``, a square number of
        tokens, in rows; ``class token, patches``, one token more, which is left out; ``sequence``,
        any other number of tokens, in one row.
    neighbours : str
        ``rook`` or ``queen``.
    places : int
        Number of positions.
    selective : int
        Number of selective units.
    entropy : float or None
        Entropy of their numbers: 1 if all positions have equally many, 0 if one has all.
    random : Chance or None
        Its chance level.
    moran_i : float or None
        Moran's I of the map among neighbours.
    expected : float or None
        Its mean over all permutations of the positions.
    p : float or None
        Share of random permutations (the identity among them) in which it is at least as large.
    map : tuple of tuple, [y][x]
        Share of a position's living units that are selective, None if there are none.
    """

    layer: str
    contrast: str
    grid: str
    neighbours: str
    places: int
    selective: int
    entropy: float | None
    random: Chance | None
    moran_i: float | None
    expected: float | None
    p: float | None
    map: tuple[tuple[float | None, ...], ...]


def localisation(
    censuses: Iterable[Census],
    resamples: int = 1000,
    seed: int = 0,
    neighbours: Neighbours = "rook",
) -> list[Localisation]:
    """Positions of selective units, a row per contrast and layer with positions.

    Parameters
    ----------
    resamples : number of draws of random units, and of random permutations of the positions
    neighbours : positions that share an edge (``rook``), or an edge or a corner (``queen``)

    Raises
    ------
    UserError : ``neighbours`` is neither
    """
    if neighbours not in NEIGHBOURS:
        raise UserError(
            f"neighbours on a map are {' or '.join(NEIGHBOURS)}; got {neighbours!r}: choose one"
        )
    return [row for census in censuses for row in _of_layer(census, resamples, seed, neighbours)]


def _of_layer(census: Census, resamples: int, seed: int, neighbours: str) -> list[Localisation]:
    if census.place_living is None or census.by_place is None:
        return []
    grid = _grid(census)
    living, counts = (_on_grid(n, grid) for n in (census.place_living, census.by_place))
    alive = living > 0
    rows = []
    for contrast, count in zip(census.contrasts, counts, strict=True):
        shares = np.divide(count, living, out=np.zeros(living.shape), where=alive)
        entropy = random = moran = p = None
        selective, places = int(count.sum()), int(alive.sum())
        if selective and places > 1:
            rng = generator(seed, census, contrast)
            entropy = float(normalised_entropy(count[alive]))
            random = chance_levels(selective, living[alive], _ENTROPY, resamples, rng)
            moran, p = _moran(shares, alive, neighbours, resamples, rng)
        rows.append(
            Localisation(
                layer=census.layer.name,
                contrast=contrast,
                grid=grid,
                neighbours=neighbours,
                places=places,
                selective=selective,
                entropy=entropy,
                random=random["entropy"] if random else None,
                moran_i=moran,
                expected=None if moran is None else -1 / (places - 1),
                p=p,
                map=tuple(
                    tuple(share if lives else None for share, lives in zip(*row, strict=True))
                    for row in zip(shares.tolist(), alive.tolist(), strict=True)
                ),
            )
        )
    return rows


def _grid(census: Census) -> str:
    """The kind of a layer's positions; for tokens it follows from their number."""
    if "token" not in census.layer.dims:
        return "image"
    tokens = census.layer.shape[census.layer.dims.index("token")]
    if tokens > 1 and math.isqrt(tokens) ** 2 == tokens:
        return "patches"
    if tokens > 2 and math.isqrt(tokens - 1) ** 2 == tokens - 1:
        return "class token, patches"
    return "sequence"


def _on_grid(counts: NDArray[np.int64], grid: str) -> NDArray[np.int64]:
    """Numbers ``[..., token]`` as ``[..., y, x]``."""
    if grid == "image":
        return counts
    own = counts[..., 1:] if grid.startswith("class") else counts
    rows = 1 if grid == "sequence" else math.isqrt(own.shape[-1])
    return own.reshape(*own.shape[:-1], rows, -1)


def _moran(
    shares: Floats, alive: NDArray[np.bool_], neighbours: str, resamples: int,
    rng: np.random.Generator,
) -> tuple[float | None, float | None]:  # fmt: skip
    """Moran's I and its one-sided p: neighbours are more similar than by chance."""
    own = or_none(float(morans_i(shares, alive, neighbours)))
    if own is None:
        return None, None
    as_large, step = 1, max(1, _VALUES // shares.size)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        orders = np.zeros((size, *shares.shape))
        orders[:, alive] = rng.permuted(np.tile(shares[alive], (size, 1)), axis=1)
        # Sums in another order differ by rounding; equal values must count.
        as_large += int((morans_i(orders, alive, neighbours) >= own - 1e-12).sum())
    return own, as_large / (resamples + 1)
