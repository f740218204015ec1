"""HTML of stores, recordings and queries for notebooks.

Of a store on a disk, the masks of selective units are counted if they are few; nothing else is read
or computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..errors import UserError
from ..layer import Layer
from ..markup import definitions, table, tag
from ..results import shares_html
from ..store.location import name_of
from ..urls import Url
from .info import facts, info_of

if TYPE_CHECKING:
    from ..store.reader import Reader
    from ..store.store_reader import StoreReader
    from .store import Store

# Layers, or contrasts, listed at most.
_MOST = 50
# Masks (a unit and a category each) that are counted to show a store, in a fraction of a second.
_MOST_MASKS = 2**26
# Facts that are seen at once.
_FIRST = ("model", "stimuli", "categories", "layers", "recorded", "criterion")


def store_html(store: Store) -> str:
    """A store: its shares of selective units, what was scanned, and what to ask next."""
    following = (
        "fusiform.summary(store), store.query('selective').top(10), "
        "fusiform.plot.by_depth(fusiform.analyse(store))"
    )
    return _described(store, following, _shares(store))


def recording_html(recording: Reader) -> str:
    """A recording: what was recorded, and what to ask next."""
    following = (
        "frame(), to_xarray(), to_anndata(), unit(layer, unit), "
        "fusiform.plot.best_images(recording, contrast)"
    )
    return _described(recording, following)


def _described(store: Reader, following: str, shown: str = "") -> str:
    """Metadata of a store or recording, most of it collapsed, around what else is shown."""
    found = info_of(store)
    rows = list(facts(found))
    first = [row for row in rows if row[0] in _FIRST or (row[0] == "status" and not found.complete)]
    others = [row for row in rows if row not in first]
    return tag(
        "div",
        tag("strong", f"fusiform.{type(store).__name__}"),
        f" {name_of(store.path)}",
        definitions(first),
        shown,
        tag("details", tag("summary", "how it was made"), definitions(others)),
        _layers(f"{len(store.layers):,} layers, {found.units:,} units", store.layers),
        tag("p", f"next: {following}"),
    )


def _shares(store: Store) -> Markup:
    """Shares of selective units as the scan stored them; why not, if they cannot be read."""
    units = sum(layer.units for layer in store.layers)
    many = units * len(store.categories) > _MOST_MASKS
    if isinstance(store.path, Url) or many or not info_of(store).complete:
        return Markup()
    try:
        counts = store.query("selective").counts()
    except UserError as error:
        return tag("p", str(error))
    keys = zip(counts["layer"], counts["contrast"], strict=True)
    return shares_html(dict(zip(keys, counts["share"].tolist(), strict=True)))


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
