"""Layers where contrasts peak."""

from __future__ import annotations

from .analyse import Analysis
from .shares import Share


def peaks_of(analysis: Analysis) -> dict[tuple[str, bool], Share]:
    """The layer with the largest share of selective units, by contrast and by being placeless."""
    found: dict[tuple[str, bool], Share] = {}
    apart = set(analysis.placeless)
    for row in analysis.shares:
        key = row.contrast, row.layer in apart
        if key not in found or row.share > found[key].share:
            found[key] = row
    return found


def first_layer(analysis: Analysis) -> str:
    """The layer to show first: the one with the largest share among those with positions."""
    apart = set(analysis.placeless)
    rows = [row for row in analysis.shares if row.layer not in apart]
    return max(rows, key=lambda row: row.share).layer
