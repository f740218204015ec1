"""Units to silence, and controls for them: as many other living units of the same layers.

Units that respond strongly matter to a network whatever they prefer. The control ``matched``
therefore has the same numbers of units in every bin of the mean response (subclassification:
Cochran 1968, Biometrics 24).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..errors import UserError
from ..layer import Layer
from ..store.store_reader import StoreReader
from .language.contrast import Contrast, parse_contrasts
from .language.criterion import Criterion
from .lesion_request import SELECTIVE, LesionRequest
from .measures import Measured
from .sample import Floats, Sample
from .select import select_slabs

Mask = NDArray[np.bool_]
# Layer -> units to silence, in the shape of the layer.
Masks = dict[str, Mask]
# Bins of the mean response: at most so many, with at least so many living units on average.
_BINS, _UNITS_PER_BIN = 100, 20


@dataclass(frozen=True)
class Candidates:
    """The units of a layer, as the stimuli of one ``fold`` (None: all stimuli) tell of them.

    ``selective`` and ``living [unit]`` mark units; living ones are finite and vary over these
    stimuli. ``mean [unit]`` is the mean response to the
    stimuli, ``t [unit]`` Welch's t of the contrast against its pooled baseline.
    """

    layer: Layer
    fold: int | None
    selective: Mask
    living: Mask
    mean: Floats
    t: Floats

    @property
    def others(self) -> NDArray[np.int64]:
        """Indices of the living units that are not selective."""
        return np.flatnonzero(self.living & ~self.selective)


def contrast_of(request: LesionRequest, store: StoreReader) -> Contrast:
    """The contrast of a request, in a store.

    Raises
    ------
    UserError : it cannot be parsed, or there are several
    """
    parsed = parse_contrasts(request.contrast, store.categories)
    if len(parsed) != 1:
        named = ", ".join(one.text for one in parsed)
        raise UserError(f"a lesion silences the units of one contrast; got {named}: name one")
    return parsed[0]


def candidates(
    store: StoreReader, request: LesionRequest, folds: Sequence[int | None]
) -> list[list[Candidates]]:
    """The units of every layer of a request, for each of ``folds`` (None: all stimuli).

    Layers without a selective unit are left out.

    Raises
    ------
    UserError : the scan has not finished; an unknown layer or category; no unit is selective, or
        too few others are left for a control
    """
    contrast, layers = contrast_of(request, store), store.layers_named(request.layers)
    found: list[list[Candidates]] = [[] for _ in folds]
    for layer, slabs in select_slabs(store, request.criterion, [contrast], layers):
        parts: list[list[Candidates]] = [[] for _ in folds]
        for (slab, _), selection in zip(store.slabs(layer), slabs, strict=True):
            moments = store.moments(layer, slab)
            living = ~(selection.dead | selection.nonfinite)
            for own, fold in zip(parts, folds, strict=True):
                if fold is None:
                    mask, sample = selection.selective[0], reduce(merge, moments)
                else:
                    mask, sample = selection.selective_fold[0, fold], moments[fold]
                own.append(_candidates(layer, fold, mask, living, sample, contrast))
        for own, part in zip(found, parts, strict=True):
            own.append(_joined(part))
    for own, fold in zip(found, folds, strict=True):
        own[:] = [one for one in own if one.selective.any()]
        _require_units(own, request, contrast, fold)
    return found


def _candidates(
    layer: Layer, fold: int | None, selective: Mask, living: Mask, own: Moments, contrast: Contrast
) -> Candidates:
    sample = Sample(own)
    with np.errstate(all="ignore"):
        t = Measured(sample, contrast, Criterion("rest")).t
    living = living & (sample.total.m2 > 0)
    return Candidates(layer, fold, selective & living, living, sample.total.mean, t)


def _joined(parts: Sequence[Candidates]) -> Candidates:
    """The slabs of a layer as one."""
    return replace(
        parts[0],
        selective=np.concatenate([part.selective for part in parts]),
        living=np.concatenate([part.living for part in parts]),
        mean=np.concatenate([part.mean for part in parts]),
        t=np.concatenate([part.t for part in parts]),
    )


def _require_units(
    own: Sequence[Candidates], request: LesionRequest, contrast: Contrast, fold: int | None
) -> None:
    on = "" if fold is None else f" on the stimuli of fold {fold}"
    if not own:
        raise UserError(
            f"a lesion silences selective units; none of {', '.join(request.layers)} is selective "
            f"for {contrast.text}{on} ({request.criterion}): choose another criterion or layer"
        )
    for one in own if request.controls else ():
        number, others = int(one.selective.sum()), len(one.others)
        if others < number:
            raise UserError(
                f"a control silences as many other living units; {one.layer.name} has {number:,} "
                f"units selective for {contrast.text}{on} and {others:,} others: choose a stricter "
                "criterion"
            )


def lesions_of(own: Sequence[Candidates], request: LesionRequest) -> dict[str, list[Masks]]:
    """Masks of the selective units and of every draw of each control, by name.

    They depend on the request's seed, the layer, the fold and the number of the draw.
    """
    return {
        name: [{one.layer.name: _mask(one, name, draw, request.seed) for one in own}
               for draw in range(request.draws_of(name))]
        for name in (SELECTIVE, *request.controls)
    }  # fmt: skip


def _mask(own: Candidates, name: str, draw: int, seed: int) -> Mask:
    """One draw of a control, or the selective units, in the shape of the layer."""
    if name == SELECTIVE:
        return own.selective.reshape(own.layer.shape)
    fold = 0 if own.fold is None else own.fold + 1
    rng = np.random.default_rng([seed, draw, fold, *f"{name}\n{own.layer.name}".encode()])
    number, others = int(own.selective.sum()), own.others
    if name == "matched":
        units = _matched(own, rng)
    elif name == "random":
        units = rng.choice(others, number, replace=False)
    else:
        units = others[np.argsort(np.abs(own.t[others]), kind="stable")[:number]]  # NaN last
    mask = np.zeros(len(own.living), np.bool_)
    mask[units] = True
    return mask.reshape(own.layer.shape)


def _matched(own: Candidates, rng: np.random.Generator) -> NDArray[np.int64]:
    """As many other units as there are selective ones in every bin of the mean response.

    Bins hold equal numbers of the layer's living units, in the order of their means.
    """
    living = np.flatnonzero(own.living)
    ranked = living[np.argsort(own.mean[living], kind="stable")]
    bins = max(1, min(_BINS, len(ranked) // _UNITS_PER_BIN))
    bin_of = np.full(len(own.living), -1)
    bin_of[ranked] = np.arange(len(ranked)) * bins // len(ranked)
    others = own.others
    available = np.bincount(bin_of[others], minlength=bins)
    numbers = matched_numbers(np.bincount(bin_of[own.selective], minlength=bins), available)
    parts = [
        rng.choice(others[bin_of[others] == one], numbers[one], replace=False)
        for one in np.flatnonzero(numbers)
    ]
    return np.concatenate(parts)


def matched_numbers(
    selective: NDArray[np.int64], available: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Controls to draw from every bin: as many as are ``selective`` there.

    A bin with too few ``available`` takes all of them, and the rest from the nearest bins that have
    more than they need, the lower of two first. Bins are served from the highest down, where
    selective units are most.
    """
    numbers = np.minimum(selective, available)
    spare = available - numbers
    for short in np.flatnonzero(selective > available)[::-1]:
        missing = selective[short] - available[short]
        for other in np.argsort(np.abs(np.arange(len(spare)) - short), kind="stable"):
            moved = min(missing, spare[other])
            numbers[other], spare[other] = numbers[other] + moved, spare[other] - moved
            missing -= moved
    return numbers
