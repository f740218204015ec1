"""The part of an analysis that a plot was asked to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..analyses.analyse import Analysis
from ..analyses.peaks import first_layer
from ..analyses.specificity import BINS
from ..errors import UserError
from .palette import of_category
from .panel import chosen, named, require
from .tables import edges, network, short


def findings_of(
    analysis: Analysis, table: str, contrasts: str | Sequence[str] | None, *layers: str
) -> dict[str, Any]:
    """The rows of a table as a page has them, unrounded, of some contrasts."""
    require(analysis, Analysis, "`analyse`")
    if not getattr(analysis, table):
        if analysis.folds == 1 and table == "confusion":
            raise UserError("preferred categories are compared between folds; the scan had one")
        raise UserError(f"{table} was not analysed, or has no rows: name it in `analyses`")
    known = analysis.contrasts
    if table == "confusion":
        known = analysis.categories
    names = chosen(contrasts, known)
    styles = [of_category(known.index(name)) for name in names]
    return {
        "criterion": analysis.criterion,
        "contrasts": [{"name": n, **style} for n, style in zip(names, styles, strict=True)],
        "edges": {name: edges(name) for name in BINS},
        "stores": [network(analysis, short(analysis.store), names, layers)],
    }


def shown_layer(analysis: Analysis, layer: str | None) -> str:
    """A layer of an analysis; by default the one with the largest share."""
    require(analysis, Analysis, "`analyse`")
    if layer is not None:
        return named(layer, analysis.layers, "layer")
    if not analysis.shares:
        raise UserError("the layer with the largest share is unknown: name one in `layer`")
    return first_layer(analysis)


def needs_folds(analysis: Analysis, table: str) -> bool:
    """Whether a table has no values because the scan had one fold."""
    return analysis.folds == 1 and table in ("specificity", "strength")
