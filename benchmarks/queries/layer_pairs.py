"""Pairs of layers: all at once against scipy pair by pair, by number of layers and categories.

Spearman's and Kendall's correlation of dissimilarities, and linear CKA, as ``analyse consistency``
computes them and as one would write them: a call for each pair. Ten minutes.
"""

from __future__ import annotations

import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from fusiform.kernels.concordance import doubled_ranks, kendall, spearman
from fusiform.kernels.similarity import Symmetric, alignments, patterns_of

from ..shared import clocked, head, heading, row, save

LAYERS, CATEGORIES = (10, 100, 300), (5, 20, 100)
UNITS = 400
# Pairs of the other way that are timed; the rest is a multiple.
TIMED = 200


class Layers(NamedTuple):
    """Dissimilarities ``[layer, pair]`` and Gram matrices of random layers that resemble others."""

    triangles: np.ndarray
    grams: list[np.ndarray]


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)


def main(arguments: Namespace) -> None:
    lines = _head(arguments.repeats)
    for categories in CATEGORIES:
        for layers in arguments.layers:
            made = _made(layers, categories)
            for name, (ours, theirs) in _ways().items():
                lines.append(_line(name, made, ours, theirs, arguments.repeats))
                print(lines[-1], flush=True)
    save(__name__, lines)


def _head(repeats: int) -> list[str]:
    return [
        *heading(__name__, "Pairs of layers", f"--repeats {repeats}"),
        f"Medians of {repeats}; the two ways took turns. Pair by pair: {TIMED} pairs were timed,",
        "and their time multiplied. Difference: the largest between the two, on these pairs.",
        "",
        *head("similarity", "categories", "layers", "pairs", "all at once, s", "pair by pair, s",
              "ratio", "difference"),
    ]  # fmt: skip


def _made(layers: int, categories: int) -> Layers:
    rng = np.random.default_rng([layers, categories])
    shared = rng.normal(size=(categories, UNITS))
    means = [shared + rng.normal(size=shared.shape) for _ in range(layers)]
    upper = np.triu_indices(categories, 1)
    triangles = np.stack([1 - np.corrcoef(one)[upper] for one in means])
    return Layers(triangles, [patterns_of(one).gram for one in means])


def _ways() -> dict[str, tuple[Callable[[Layers], Any], Callable[[Layers, int, int], float]]]:
    """Similarities of all pairs of layers, and of one pair."""

    def ranks(made: Layers) -> Any:
        return np.stack([doubled_ranks(one) for one in made.triangles])

    def all_spearman(made: Layers) -> Any:
        table = ranks(made)
        return spearman(table, table)

    def all_cka(made: Layers) -> Any:
        grams = [Symmetric(one) for one in made.grams]
        return alignments(grams, grams)

    def of_grams(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))

    return {
        "Spearman": (all_spearman, lambda made, i, j: float(
            stats.spearmanr(made.triangles[i], made.triangles[j]).statistic)),
        "Kendall": (lambda made: kendall(ranks(made)), lambda made, i, j: float(
            stats.kendalltau(made.triangles[i], made.triangles[j]).statistic)),
        "CKA": (all_cka, lambda made, i, j: of_grams(made.grams[i], made.grams[j])),
    }  # fmt: skip


def _line(
    name: str,
    made: Layers,
    ours: Callable[[Layers], Any],
    theirs: Callable[[Layers, int, int], float],
    repeats: int,
) -> str:
    pairs = list(combinations_with_replacement(range(len(made.grams)), 2))
    timed = pairs[:: max(1, len(pairs) // TIMED)]
    found = ours(made)  # compiles
    apart = max(abs(found[pair] - theirs(made, *pair)) for pair in timed)
    own, other = [], []
    for _ in range(repeats):
        own.append(clocked(ours, made))
        seconds = clocked(lambda: [theirs(made, *pair) for pair in timed])
        other.append(seconds * len(pairs) / len(timed))
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    once, each = statistics.median(own), statistics.median(other)
    categories = len(made.grams[0])
    return row(name, categories, f"{len(made.grams):,}", f"{len(pairs):,}", f"{once:.4f}",
               f"{each:.3g}", f"{ratio:,.0f}", f"{apart:.0e}")  # fmt: skip
