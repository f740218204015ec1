"""Figures for print of results beside analyses, by the functions of :mod:`fusiform.plot`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..comparing.brains.compare import BrainComparison
from ..comparing.differences import Comparison
from ..comparing.localizers import LocalizerComparison
from ..lesions.result import LesionEffects
from .axes import panels
from .brains import regions
from .lesions import lesions
from .localizers import localizers
from .training import training

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches of a panel with its legend.
_WIDTH, _HEIGHT = 5.5, 3.2


def figures(results: Sequence[Any], layer: str) -> Iterator[tuple[str, Figure]]:
    """A figure of every result, and its name; a panel per measure, region or quantity.

    Training is shown in a ``layer``, or in the last one if the result lacks it.
    """
    numbers: Counter[str] = Counter()
    for result in results:
        name, drawn = _panels(result, layer)
        numbers[name] += 1
        figure, axes = panels(len(drawn), 1, _HEIGHT, _WIDTH, sharex=True)
        for axis, draw in zip(axes, drawn, strict=True):
            draw(ax=axis)
        yield name if numbers[name] == 1 else f"{name}-{numbers[name]}", figure


def _panels(result: Any, layer: str) -> tuple[str, list[Callable[..., Axes]]]:
    """The name of a result's figure, and functions that draw its panels."""
    if isinstance(result, Comparison):
        layers = [row.layer for row in result.values]
        own = layer if layer in layers else layers[-1]
        measures = dict.fromkeys(row.measure for row in result.values)
        return "training", [partial(training, result, own, name) for name in measures]
    if isinstance(result, BrainComparison):
        known = dict.fromkeys(row.region for row in result.correlations)
        return "regions", [partial(regions, result, name) for name in known]
    if isinstance(result, LocalizerComparison):
        return "localizers", [partial(localizers, result)]
    assert isinstance(result, LesionEffects)
    return "lesions", [partial(lesions, result, name) for name in result.quantities]
