"""Geometry of responses: dissimilarity matrices of all stimuli, and similarity between layers.

Everything is computed from inner products of stimuli, summed over units block by block: memory
grows with the square of the number of stimuli, but not with units.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...kernels.concordance import doubled_ranks, kendall, spearman
from ...kernels.similarity import (
    Patterns,
    Symmetric,
    alignments,
    correlation_distances,
    correlation_triangle,
    euclidean_distances,
    euclidean_triangle,
    extend,
    patterns_of,
)
from .. import blocks
from ..errors import UserError
from ..files import new_file, output_path, write_arrays
from ..texts import in_bytes
from .recording import Recording

Floats = NDArray[np.float64]
Distance = Literal["correlation", "euclidean"]
Similarity = Literal["spearman", "kendall", "cka", "cka_unbiased"]
# Matrices of this many stimuli fit into a few gigabytes.
_MOST_STIMULI = 10_000


@dataclass(frozen=True)
class Products:
    """Inner products of a layer's responses to stimuli; estimates if the layer was projected.

    ``patterns`` holds them for the ``stimuli [stimulus]``, which are rows of the recording.
    """

    layer: str
    stimuli: NDArray[np.int64]
    patterns: Patterns

    @property
    def units(self) -> int:
        """Number of units."""
        return self.patterns.units

    def distances(self, distance: Distance = "correlation") -> Floats:
        """Dissimilarity matrix ``[stimulus, stimulus]``.

        ``correlation`` is 1 - Pearson's r over units (Kriegeskorte et al. 2008), NaN for a stimulus
        with constant responses. ``euclidean`` is the root of the sum of squared differences over
        units.

        Raises
        ------
        UserError : the distance is unknown
        """
        refuse_distance(distance)
        if distance == "correlation":
            return correlation_distances(self.patterns)
        return euclidean_distances(self.patterns)

    def triangle(self, distance: Distance = "correlation") -> Floats:
        """:meth:`distances` above the diagonal, row by row."""
        refuse_distance(distance)
        units, mean, products, gram = self.patterns
        if distance == "correlation":
            return correlation_triangle(units, mean, Symmetric(products))[0]
        return euclidean_triangle(Symmetric(gram))[0]


def products(recording: Recording, layer: str) -> Products:
    """Inner products of a layer's responses to all shown stimuli, summed block by block of units.

    Raises
    ------
    UserError : the layer is unknown, there are too many stimuli for a matrix, or a response is not
        finite
    """
    rows = np.flatnonzero(recording.shown)
    if len(rows) > _MOST_STIMULI:
        raise UserError(
            f"a matrix of all stimuli has at most {_MOST_STIMULI:,} rows; {recording.path} has "
            f"{len(rows):,} stimuli: record fewer"
        )
    if recording.recorded(layer).projected:
        return Products(layer, rows, _unprojected(recording, layer, rows))
    found = patterns_of(np.empty((len(rows), 0)))
    for columns in recording.blocks(layer):
        values = recording.part(layer, columns)[rows].astype(np.float64)
        if not np.isfinite(values).all():
            raise UserError(
                f"distances need finite responses; some units of {layer} gave NaN or infinity: "
                "choose other units"
            )
        found = extend(found, values)
    return Products(layer, rows, found)


def _unprojected(recording: Recording, layer: str, rows: NDArray[np.int64]) -> Patterns:
    """Patterns estimated from a projection of deviations from the mean, and that mean."""
    units, means = recording.recorded(layer).units, recording.means(layer)[rows]
    deviations = np.zeros((len(rows), len(rows)))
    for columns in recording.blocks(layer):
        values = recording.part(layer, columns)[rows].astype(np.float64)
        deviations += values @ values.T
    return Patterns(units, means, deviations, _centred(deviations + units * np.outer(means, means)))


def upper(matrix: Floats) -> Floats:
    """The entries above the diagonal, row by row."""
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])


@dataclass(frozen=True)
class Geometry:
    """Mean dissimilarities of a layer within categories and between them."""

    layer: str
    units: int
    projected: bool
    stimuli: int
    distance: str
    within: float | None
    between: float | None
    ratio: float | None


def geometry(
    recording: Recording, layers: str | Sequence[str] = "*", distance: Distance = "correlation"
) -> list[Geometry]:
    """Mean dissimilarities within and between categories, layer by layer."""
    refuse_distance(distance)
    labels = recording.labels
    rows = []
    for layer in recording.layers_named(layers):
        found, own = products(recording, layer.name), recording.recorded(layer.name)
        category = labels[found.stimuli]
        same = np.concatenate([category[n + 1 :] == one for n, one in enumerate(category)])
        distances = found.triangle(distance)
        within, between = (_mean(distances[same == one]) for one in (True, False))
        rows.append(
            Geometry(
                layer=layer.name,
                units=own.units,
                projected=own.projected,
                stimuli=len(category),
                distance=distance,
                within=within,
                between=between,
                ratio=between / within if within and between is not None else None,
            )
        )
    return rows


def refuse_matrices(output: Path) -> None:
    """Raise a ``UserError`` unless ``output`` is a writable path with the suffix ``.npz``."""
    if output.suffix != ".npz":
        raise UserError(f"matrices are written to a .npz file; got {output}: name one")
    output_path(output, "a matrix")


def write_matrices(
    recording: Recording,
    output: Path,
    layers: str | Sequence[str] = "*",
    distance: Distance = "correlation",
) -> None:
    """Write the dissimilarity matrices of layers to a ``.npz`` file, by layer name.

    The arrays ``stimulus_path`` and ``stimulus_category`` describe their rows.
    """
    refuse_matrices(output)
    rows = np.flatnonzero(recording.shown)
    names = np.array(recording.categories)[recording.labels[rows]]
    named = recording.layers_named(layers)
    arrays = ((one.name, products(recording, one.name).distances(distance)) for one in named)
    paths = np.array([str(path) for path in recording.stimulus_column("stimulus_path")[rows]])
    table = ("stimulus_path", paths), ("stimulus_category", names)
    with new_file(output, "a matrix") as file:
        write_arrays(file, itertools.chain(table, arrays))


@dataclass(frozen=True)
class Agreement:
    """Similarity of two layers' geometries."""

    layer: str
    other: str
    value: float | None


def agreement(
    recording: Recording,
    layers: str | Sequence[str] = "*",
    similarity: Similarity = "spearman",
    distance: Distance = "correlation",
) -> list[Agreement]:
    """Compare all pairs of layers by their dissimilarities, or by CKA.

    ``spearman`` and ``kendall`` (tau-b) correlate the dissimilarities above the diagonal; ``cka``
    is the linear centred kernel alignment of the responses (Kornblith et al. 2019), which uses no
    distance, and ``cka_unbiased`` that by an unbiased estimator (Song et al. 2012, Nguyen et al.
    2021).

    Raises
    ------
    UserError : the similarity or distance is unknown
    """
    refuse_distance(distance)
    if similarity not in (known := get_args(Similarity)):
        raise UserError(f"layers are compared by {', '.join(known)}; got {similarity!r}")
    named = recording.layers_named(layers)
    _refuse_large(recording, len(named), similarity)
    found = (products(recording, layer.name) for layer in named)
    if similarity.startswith("cka"):
        grams = [Symmetric(one.patterns.gram) for one in found]
        values = alignments(grams, grams, unbiased=similarity == "cka_unbiased")
    else:
        values = _ranked(similarity, [one.triangle(distance) for one in found])
    return [
        Agreement(one.name, other.name, value if np.isfinite(value) else None)
        for number, one in enumerate(named)
        for other, value in zip(
            named[number + 1 :], values[number, number + 1 :].tolist(), strict=True
        )
    ]


def _refuse_large(recording: Recording, layers: int, similarity: str) -> None:
    """Raise a ``UserError`` if what is compared between layers does not fit into memory."""
    stimuli = int(recording.shown.sum())
    size = layers * stimuli**2 * (8 if similarity.startswith("cka") else 6) + 40 * stimuli**2
    if size > (room := blocks.room(whole=True)):
        raise UserError(
            f"pairs of {stimuli:,} stimuli in {layers:,} layers take about {in_bytes(size)}; got "
            f"{in_bytes(room)} of memory{blocks.whose()}: choose fewer layers, or record fewer "
            "stimuli"
        )


def refuse_distance(distance: str) -> None:
    """Raise a ``UserError`` if the distance is unknown."""
    if distance not in (known := get_args(Distance)):
        raise UserError(f"a distance is {' or '.join(known)}; got {distance!r}: choose one")


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _centred(kernel: Floats) -> Floats:
    """Gram matrix of responses after centring every unit over stimuli."""
    means = kernel.mean(axis=0)
    return np.asarray(kernel - means - means[:, None] + means.mean())


def _ranked(similarity: str, triangles: list[Floats]) -> Floats:
    """Spearman's or Kendall's correlation ``[layer, layer]``, over the pairs finite in both."""
    known = [np.isfinite(one) for one in triangles]
    if all((one == known[0]).all() for one in known):
        return _correlated(similarity, [one[known[0]] for one in triangles])
    found = np.full((len(triangles), len(triangles)), np.nan)
    for i, j in itertools.combinations(range(len(triangles)), 2):
        both = known[i] & known[j]
        found[i, j] = _correlated(similarity, [triangles[i][both], triangles[j][both]])[0, 1]
    return found


def _correlated(similarity: str, values: list[Floats]) -> Floats:
    ranks = np.stack([doubled_ranks(one) for one in values])
    return spearman(ranks, ranks) if similarity == "spearman" else kendall(ranks)
