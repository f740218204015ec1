"""Layers where contrasts peak, and layers whose shares do not compare with those of maps."""

from __future__ import annotations

from .analyse import Analysis
from .shares import Share


def placeless(analysis: Analysis) -> tuple[str, ...]:
    """Layers without positions, such as pooled ones, of a network that has others.

    Their units average over the image and are few: their shares do not compare with those of maps.
    """
    mapped = {row.layer for row in analysis.localisation if sum(map(len, row.map)) > 1}
    known = mapped.union(analysis.nameless)
    return tuple(name for name in analysis.layers if name not in known) if mapped else ()


def peaks_of(analysis: Analysis) -> dict[tuple[str, bool], Share]:
    """The layer with the largest share of selective units, by contrast and :func:`placeless`."""
    found: dict[tuple[str, bool], Share] = {}
    apart = set(placeless(analysis))
    for row in analysis.shares:
        key = row.contrast, row.layer in apart
        if key not in found or row.share > found[key].share:
            found[key] = row
    return found


def first_layer(analysis: Analysis) -> str:
    """The layer to show first: the one with the largest share among those with positions."""
    apart = set(placeless(analysis))
    rows = [row for row in analysis.shares if row.layer not in apart]
    return max(rows, key=lambda row: row.share).layer
