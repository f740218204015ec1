"""Checkpoints of a training run: their positions on an axis, and when selectivity begins.

Onsets are exploratory: their intervals are not corrected for the number of networks, layers and
contrasts.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..analyses.resampling import intervals
from ..contrasts.chance import chance, reached
from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import Criterion
from ..errors import UserError, shortened
from ..registry import UNTRAINED
from ..store.store_reader import StoreReader
from ..values import listed
from .draws import Drawn

_REFERENCES = ("untrained", "chance")
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
_UNNAMED = "checkpoint"
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_WORD = re.compile(r"([^\W\d_]+)[-_=. ]*$")
# Trained networks whose names can differ.
_FEWEST = 2
_MOST = sys.float_info.max
# Longer whole numbers are shown as floats.
_LONGEST = 1e15


class Axis(NamedTuple):
    """The ``name`` of an axis, such as epoch, and the positions ``at`` of networks on it."""

    name: str
    at: tuple[float, ...]


@dataclass(frozen=True)
class Onset:
    """The position from which the share of selective units exceeds a reference.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    reference : str
        ``untrained``, the first network: the interval of the difference lies above 0; or
        ``chance``, the share that 5 % of the network's own shuffles reach.
    first : float or None
        First position above the reference; None if none is.
    lasting : float or None
        First position from which all later ones are above it too; None if none is.
    """

    layer: str
    contrast: str
    reference: str
    first: float | None
    lasting: float | None


def in_order(
    stores: Sequence[StoreReader], at: float | Sequence[float] | None, reads_names: bool
) -> tuple[list[StoreReader], Axis | None, list[str]]:
    """Put networks in the order of their positions, and tell if that changes their order.

    Parameters
    ----------
    at : position of every network
    reads_names : without ``at``, whether names that differ in exactly one number tell the
        positions; an untrained network whose name has no such number is then at 0

    Raises
    ------
    UserError : ``at`` are not as many finite numbers, or two networks are at one position
    """
    named, remarks = _from_names(stores) if reads_names or at is not None else (None, [])
    if at is not None:
        given = _finite(at, len(stores))
        remarks, named = [], Axis(named.name if named and named.at == given else _UNNAMED, given)
    if named is None:
        return list(stores), None, remarks
    order = sorted(range(len(stores)), key=named.at.__getitem__)
    ordered = [stores[number] for number in order]
    axis = Axis(named.name, tuple(named.at[number] for number in order))
    for number, (own, its) in enumerate(pairwise(axis.at)):
        if own == its:
            raise UserError(
                f"checkpoints have different positions; {ordered[number].path} and "
                f"{ordered[number + 1].path} are both at {axis.name} {position(own)}: leave one "
                "out, or give positions (`at`)"
            )
    if order != sorted(order):
        remarks.append(f"networks are put in the order of {axis.name}: "
                       f"{shortened(map(position, axis.at))}")  # fmt: skip
    return ordered, axis, remarks


def position(at: float) -> str:
    """A position in words."""
    return f"{int(at):,}" if at.is_integer() and abs(at) < _LONGEST else f"{at:.15g}"


class Onsets:
    """Compares the share of selective units of networks on an axis with the references.

    Parameters
    ----------
    names : for every network, names of the first network's layers and of their counterparts
    """

    def __init__(
        self,
        stores: Sequence[StoreReader],
        axis: Axis,
        criterion: Criterion,
        contrasts: str | Sequence[str] | None,
        names: Sequence[Mapping[str, str]],
    ) -> None:
        self._at = axis.at
        self._is_untrained = axis.at[0] == 0 or _has_random_weights(stores[0])
        without = [store.path for store in stores if not store.shuffles]
        self.remarks: list[str] = []
        if 0 < len(without) < len(stores):
            text = f"no onset above chance: scanned without `null`: {shortened(without)}"
            self.remarks.append(text)
        self._chance: list[dict[str, Floats]] = []
        for store, own in zip(stores, names, strict=True) if not without else ():
            layers = [store.layer(name) for name in dict.fromkeys(own.values())]
            parsed = parse_contrasts(contrasts, store.categories)
            shares = chance(store, criterion, parsed, layers)
            self._chance.append({layer.name: reached(drawn) for layer, drawn in shares})
        self._layer, self._contrasts = "", tuple[str, ...]()
        self._untrained: Floats = np.empty(0)
        self._above: dict[tuple[str, str], dict[float, Mask]] = {}

    def add(self, number: int, drawn: Drawn) -> None:
        """Add a layer of the network of a number, after those of lower numbers."""
        values, draws = drawn.measures["share"]
        if number == 0:
            self._layer, self._contrasts, self._untrained = drawn.layer, drawn.contrasts, draws
            self._above |= {(self._layer, reference): {} for reference in _REFERENCES}
        elif self._is_untrained and len(draws) and len(self._untrained):
            lows = [low for low, _ in intervals(draws - self._untrained)]
            above = np.array([low is not None and low > 0 for low in lows])
            self._above[self._layer, "untrained"][self._at[number]] = above
        if self._chance:
            above = values > self._chance[number][drawn.layer]
            self._above[self._layer, "chance"][self._at[number]] = above

    @property
    def found(self) -> tuple[Onset, ...]:
        """The onsets of every layer, reference and contrast; none if there is no reference."""
        onsets = []
        for (layer, reference), steps in self._above.items():
            for index, contrast in enumerate(self._contrasts if steps else ()):
                own = {at: bool(mask[index]) for at, mask in steps.items()}
                onsets.append(Onset(layer, contrast, reference, *onset(own)))
        return tuple(onsets)


def onset(above: Mapping[float, bool]) -> tuple[float | None, float | None]:
    """The first position that is above, and the first from which all are; None if none is."""
    first = next((at for at, is_above in above.items() if is_above), None)
    last_run = list(takewhile(above.__getitem__, reversed(above)))
    return first, last_run[-1] if last_run else None


def _has_random_weights(store: StoreReader) -> bool:
    return str(store.provenance["weights"]).startswith(UNTRAINED)


def _finite(at: float | Sequence[float], networks: int) -> tuple[float, ...]:
    given = listed(at)
    if len(given) != networks:
        raise UserError(
            f"`at` has the position of every network; got {len(given)} for {networks} networks"
        )
    for one in given:
        known = isinstance(one, Real) and not isinstance(one, bool)
        # A whole number of hundreds of digits is no float.
        if not known or (isinstance(one, int) and abs(one) > _MOST) or not math.isfinite(one):
            raise UserError(f"positions (`at`) are finite numbers; got {str(one)[:50]!r}")
    return tuple(map(float, given))


def _from_names(stores: Sequence[StoreReader]) -> tuple[Axis | None, list[str]]:
    """The axis of the only number in which the names of trained networks differ.

    If they differ in several, a remark instead.
    """
    names = [_NUMBER.split(str(store.path)) for store in stores]
    trained = [own for own, store in zip(names, stores, strict=True)
               if not _has_random_weights(store)]  # fmt: skip
    texts = {tuple(own[::2]) for own in trained}
    if len(trained) < _FEWEST or len(texts) > 1:
        return None, []
    first = trained[0]
    varied = [i for i in range(1, len(first), 2) if len({float(own[i]) for own in trained}) > 1]
    if len(varied) != 1:
        several = f"names of stores differ in {len(varied)} numbers: give positions (`at`)"
        return None, [several] * bool(varied)
    (place,) = varied

    def of(own: list[str]) -> float:
        alike = len(own) == len(first) and own[:place] == first[:place]
        return float(own[place]) if alike and own[place + 1 :] == first[place + 1 :] else 0.0

    word = _WORD.search(first[place - 1])
    at = tuple(map(of, names))
    return (Axis(word[1] if word else _UNNAMED, at), []) if np.isfinite(at).all() else (None, [])
