"""HTML of stores, recordings and queries for notebooks; nothing is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..layer import Layer
from ..markup import definitions, table, tag
from ..store.location import name_of
from .info import facts, info_of

if TYPE_CHECKING:
    from ..store.reader import Reader
    from ..store.store_reader import StoreReader

# Layers, or contrasts, listed at most.
_MOST = 50


def store_html(store: Reader, following: str = "") -> str:
    """Metadata of a store or recording, with a collapsible list of layers.

    ``following`` names what to ask next.
    """
    rows = [*facts(info_of(store)), *([("next", following)] if following else [])]
    units = sum(layer.units for layer in store.layers)
    return tag(
        "div",
        tag("strong", f"fusiform.{type(store).__name__}"),
        f" {name_of(store.path)}",
        definitions(rows),
        _layers(f"{len(store.layers):,} layers, {units:,} units", store.layers),
    )


def query_html(
    text: str,
    store: StoreReader,
    layers: Sequence[Layer],
    contrasts: Iterable[str],
    columns: Iterable[str],
) -> str:
    """A query with its store, contrasts and columns."""
    units = sum(layer.units for layer in layers)
    rows = {
        "query": text,
        "store": str(store.path),
        "contrasts": _listed(contrasts),
        "columns": ", ".join(columns),
        "next": "counts(), top(n), units(), quantiles(measure), histogram(measure), masks()",
    }
    return tag(
        "div",
        tag("strong", "fusiform.Query"),
        definitions(rows.items()),
        _layers(f"{units:,} units in {len(layers):,} layers", layers),
    )


def _layers(summary: str, layers: Sequence[Layer]) -> Markup:
    rows = [
        (layer.name, layer.kind, " x ".join(map(str, layer.shape)), ", ".join(layer.dims),
         f"{layer.units:,}")
        for layer in layers[:_MOST]
    ]  # fmt: skip
    more = len(layers) - len(rows)
    return tag(
        "details",
        tag("summary", summary),
        table(("layer", "type", "shape", "dims", "units"), rows),
        *([tag("p", f"and {more:,} more")] if more else []),
    )


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    more = f", and {len(named) - _MOST:,} more" if len(named) > _MOST else ""
    return ", ".join(named[:_MOST]) + more
