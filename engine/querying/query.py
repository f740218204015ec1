"""Queries: which units meet a predicate, how many, where, and what is measured of them.

    faces: t > 5 and csi > 1/3
    faces + bodies > scenes: t > 5 or d_prime > 1
    selective and channel == 12
    faces:

    query = [ contrast ":" ] [ rule ]

Without a contrast it is of every category, without a rule of all units. ``t`` is that of the
category against the pooled rest, ``t_each`` the smallest against each other category, as stored.
Nothing is evaluated as code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ..contrasts.language.rule import PROBABILITIES, Rule, Vocabulary, parse_rule
from ..errors import UserError, nearest
from ..layer import Layer
from ..limits import refuse_numbers
from ..store.reading import Store, require_complete
from ..values import listed
from .chunks import Part, asked_of, places, source_of
from .search import Found, Search
from .table import NOWHERE, Table, joined

if TYPE_CHECKING:
    import xarray

# A column for every category: the mean response to it.
MEANS = "means"


class Query:
    """A query of a store. Nothing is read before a result is asked for.

    Parameters
    ----------
    text : see the head of this module
    layers : names or globs, one or several
    saved : query the contrast that :func:`fusiform.save_contrast` wrote under
        this name: its t, q, ..., ``selective``

    Raises
    ------
    UserError : with a caret under the character where the query cannot be read on; the scan has not
        finished, or no layer has such a name
    """

    def __init__(
        self, store: Store, text: str, layers: str | Sequence[str] = "*", saved: str | None = None
    ) -> None:
        require_complete(store)
        self.store, self.text = store, text
        self.layers = store.layers_named(layers)
        self._source = source_of(store, saved)
        colon = _colon(text, store.categories)
        contrast = text if colon is not None else None
        if colon is not None and not text[:colon].strip():
            raise UserError(f"a query begins with a contrast before its colon; got {text!r}")
        self._asked = asked_of(store, self._source, contrast, colon)
        self.contrasts = tuple(asked.contrast.text for asked in self._asked)
        start = 0 if colon is None else colon + 1
        self.dims = tuple(dict.fromkeys(dim for layer in self.layers for dim in layer.dims))
        rule = Rule("and", ())
        if text[start:].strip():
            known = Vocabulary((*self._source.measures, *self.dims), self._source.flags, top=False)
            rule = parse_rule(text, known, start)
        self._require(condition.measure for condition in rule.conditions())
        self._search = Search(store, self.layers, self._source, self._asked, rule)

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return f"<fusiform query {self.text!r} of {units:,} units in {len(self.layers)} layers>"

    def _repr_html_(self) -> str:
        from .notebook import query_html

        return query_html(self.text, self.store, self.layers, self.contrasts, self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table shows of a unit unless other columns are named."""
        names = (*(n for n in self._source.stored if n != "selective"), "d_prime", MEANS)
        unknown = {name for name in names if self._is_unknown(name)}
        return tuple(dict.fromkeys(name for name in names if name not in unknown))

    def units(self, columns: str | Sequence[str] | None = None) -> Table:
        """All units that match, in the order of the store.

        Parameters
        ----------
        columns : measures, flags, or ``means`` for the mean response to every category
        """
        return joined(list(self.parts(columns)))

    def parts(self, columns: str | Sequence[str] | None = None) -> Iterator[Table]:
        """As :meth:`units`, in parts as they are found; the first is empty."""
        names = self._named(columns)
        yield self._described([], names)
        tables = partial(self._described, columns=names)
        yield from self._search.found(self._search.parts, lambda found: tables([found]))

    def top(self, size: int, by: str = "t", columns: str | Sequence[str] | None = None) -> Table:
        """The matching units with the most of a measure (of p and q: the least), most first.

        Of equals, those that come first in the store.
        """
        refuse_numbers(top=size)
        if size < 1:
            raise UserError(f"the top is at least 1 unit; got {size}")
        self._require_measure(by)
        names = self._named(columns)
        if by not in names:
            names = (by, *names)
        return self._described(self._search.best(size, by), names)

    def counts(self, by: str | Sequence[str] = ("layer", "contrast")) -> Table:
        """How many units match, of how many, in groups.

        Parameters
        ----------
        by : any of ``layer``, ``contrast``, and the dimensions of layers (``channel``, ``y``, ...);
            layers that have not all of these are left out. Groups without any unit are listed, as
            are those without a match
        """
        by = listed(by)
        dims = self._dims_of(by)
        layers = [layer for layer in self.layers if set(dims) <= set(layer.dims)]
        if not layers:
            raise UserError(f"no layer has {' and '.join(dims)}: {_listed_dims(self.layers)}")
        shapes = {layer: _shape_of(layer, dims) for layer in layers}
        counted = {
            (layer, k): np.zeros(shapes[layer], np.int64)
            for layer in layers
            for k in range(len(self._asked))
        }
        parts = (part for part in self._search.parts if part.layer in shapes)
        for layer, k, counts in self._search.found(parts, partial(_counted, dims, shapes)):
            counted[layer, k] += counts
        return self._grouped(by, dims, counted)

    def quantiles(
        self,
        measure: str,
        at: float | Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        by: str | Sequence[str] = ("layer", "contrast"),
    ) -> Table:
        """Quantiles of a measure over the units that match, with linear interpolation.

        Exact; the measure is held of all units that match. NaN is left out; infinite values are
        not: between a finite value and an infinite one, a quantile is the infinite one.
        """
        at = listed(at)
        for q in at:
            if not 0 <= q <= 1:
                raise UserError(f"quantiles are from 0 to 1; got {q:g}")
        by, rows = listed(by), []
        for group, values in self._values(measure, by):
            found = _quantiles(values, at) if len(values) else np.full(len(at), np.nan)
            rows.append((*group, len(values), *found.tolist()))
        return _table_of((*by, "units", *(f"q{100 * q:g}" for q in at)), rows)

    def histogram(
        self, measure: str, bins: int = 20, by: str | Sequence[str] = ("layer", "contrast")
    ) -> Table:
        """How many of the units that match have a measure in each bin; the same bins in all groups.

        From the least to the largest finite value; a bin holds its lower edge, the last one both.
        NaN is left out. Where a value is infinite, all groups have a bin from -inf to -inf before
        the others, or one from inf to inf after them.
        """
        refuse_numbers(bins=bins)
        if bins < 1:
            raise UserError(f"a histogram has at least 1 bin; got {bins}")
        by = listed(by)
        groups = list(self._values(measure, by))
        known = [own for _, values in groups if len(own := values[np.isfinite(values)])]
        below, above = (
            [end] if any((values == end).any() for _, values in groups) else []
            for end in (-np.inf, np.inf)
        )
        bounds = (min(v.min() for v in known), max(v.max() for v in known)) if known else (0, 1)
        edges = np.histogram_bin_edges(np.empty(0), bins, (float(bounds[0]), float(bounds[1])))
        rows = []
        for group, values in groups:
            counts = np.histogram(values[np.isfinite(values)].astype(np.float64), edges)[0]
            ends = [[np.count_nonzero(values == end) for end in side] for side in (below, above)]
            lows, highs = (*below, *edges[:-1], *above), (*below, *edges[1:], *above)
            for low, high, count in zip(lows, highs, (*ends[0], *counts, *ends[1]), strict=True):
                rows.append((*group, float(low), float(high), int(count)))
        return _table_of((*by, "from", "to", "units"), rows)

    def masks(self) -> xarray.DataTree:
        """Where units match: a lazy boolean ``matches [contrast, *layer dims]`` for every layer.

        Dask arrays, a block per chunk of the store; a block is read when it is computed, and not
        even then where its extremes say that none of its units can match.
        """
        import xarray
        from dask import array as dask_array

        nodes = {}
        for layer in self.layers:
            parts = [part for part in self._search.parts if part.layer == layer]
            chunk = self.store.chunk_shape(layer)
            lengths = [
                tuple(min(length, size - start) for start in range(0, size, length))
                for size, length in zip(layer.shape, chunk, strict=True)
            ]
            lazy = dask_array.map_blocks(  # type: ignore[no-untyped-call]
                partial(_block, self._search, parts, tuple(map(len, lengths))),
                chunks=((len(self._asked),), *lengths),
                name=f"matches-{uuid4().hex}",
                meta=np.empty((0,) * (1 + len(layer.shape)), np.bool_),
            )
            attributes = {"long_name": "unit matches the query", "query": self.text}
            mask = xarray.DataArray(lazy, dims=("contrast", *layer.dims), attrs=attributes)
            coordinates = {"contrast": list(self.contrasts), **places(layer)}
            nodes[layer.name] = xarray.Dataset({"matches": mask}, coordinates)
        return xarray.DataTree.from_dict(nodes)

    def _described(self, found: Sequence[Found], columns: Sequence[str]) -> Table:
        """A row per unit: layer, contrast, its place, and what the columns name of it."""
        table: dict[str, Any] = {
            "layer": _repeated([one.chunk.layer.name for one in found], found),
            "contrast": _repeated([one.asked.contrast.text for one in found], found),
        }
        for dim in self.dims:
            table[dim] = _concatenated(
                [
                    one.chunk.values(dim, one.asked, one.units)
                    if dim in one.chunk.layer.dims
                    else np.full(len(one.units), NOWHERE)
                    for one in found
                ],
                np.int32,
            )
        for name in columns:
            if name == MEANS:
                means = [one.chunk.responses(one.units) for one in found]
                for k, category in enumerate(self.store.categories):
                    table[f"mean {category}"] = _concatenated([m[k] for m in means], np.float64)
            elif name not in self.dims:
                values = [one.chunk.values(name, one.asked, one.units) for one in found]
                table[name] = _concatenated(values, self._dtype(name))
        return Table(table)

    def _dtype(self, name: str) -> type:
        if name in self._source.flags:
            return np.bool_
        stored = name in self._source.stored and all(asked.stored for asked in self._asked)
        return np.float32 if stored else np.float64

    def _grouped(
        self,
        by: Sequence[str],
        dims: Sequence[str],
        counted: dict[tuple[Layer, int], NDArray[np.int64]],
    ) -> Table:
        """Counts of layers and contrasts, added up where these do not tell groups apart."""
        sums: dict[tuple[Any, ...], list[int]] = {}
        for (layer, k), counts in counted.items():
            each = layer.units // counts.size
            own = {"layer": layer.name, "contrast": self.contrasts[k]}
            for place, count in np.ndenumerate(counts):
                names = {**own, **dict(zip(dims, place, strict=True))}
                sums_of = sums.setdefault(tuple(names[name] for name in by), [0, 0])
                sums_of[0] += int(count)
                sums_of[1] += each
        rows = [(*group, matching, units) for group, (matching, units) in sums.items()]
        table = _table_of((*by, "matching", "units"), rows)
        share = table["matching"] / table["units"]
        return Table({**table.columns, "share": share})

    def _values(
        self, measure: str, by: Sequence[str]
    ) -> Iterator[tuple[tuple[str, ...], NDArray[Any]]]:
        """The values, but for NaN, of a measure over the units that match, group by group."""
        if self._dims_of(by):
            raise UserError(
                f"quantiles and histograms are by layer and contrast; got {', '.join(by)}: "
                "write the units, and group them as you like"
            )
        self._require_measure(measure)
        groups: dict[tuple[str, ...], list[NDArray[Any]]] = {}
        for layer, contrast in product(self.layers, self.contrasts):
            names = {"layer": layer.name, "contrast": contrast}
            groups[tuple(names[name] for name in by)] = []

        def values(found: Found) -> tuple[tuple[str, ...], NDArray[Any]]:
            names = {"layer": found.chunk.layer.name, "contrast": found.asked.contrast.text}
            own = found.chunk.values(measure, found.asked, found.units)
            return tuple(names[name] for name in by), own[~np.isnan(own)]

        for group, own in self._search.found(self._search.parts, values):
            groups[group].append(own)
        for group, parts in groups.items():
            yield group, np.concatenate(parts) if parts else np.empty(0)

    def _dims_of(self, by: Sequence[str]) -> list[str]:
        for name in by:
            if name not in ("layer", "contrast", *self.dims):
                known = ("layer", "contrast", *self.dims)
                raise UserError(f"units are grouped by {', '.join(known)}; got {name!r}")
        return [name for name in by if name in self.dims]

    def _named(self, columns: str | Sequence[str] | None) -> Sequence[str]:
        if columns is None:
            return self.columns
        columns = listed(columns)
        self._require(name for name in columns if name != MEANS)
        return columns

    def _require(self, names: Iterable[str]) -> None:
        """Refuse what is not known of a unit under the contrasts asked."""
        for name in names:
            known = (*self._source.measures, *self._source.flags, *self.dims)
            if name not in known:
                raise UserError(f"nothing is called {name!r} here: {nearest(name, known)}")
            if self._is_unknown(name):
                raise UserError(
                    f"{name} was written of every category against all others; it is not known of "
                    f"{self.contrasts[0]!r}: save that contrast first, or ask for t"
                )

    def _require_measure(self, name: str) -> None:
        if name in (*self._source.flags, *self.dims):
            raise UserError(f"a measure is needed here, such as t; {name} is none")
        self._require([name])

    def _is_unknown(self, name: str) -> bool:
        computed = name in self._source.measures and name not in ("q", "q_each", "p_null")
        of_any = name in (*self.dims, MEANS, "dead", "nonfinite", "preferred")
        return not (computed or of_any or all(asked.stored for asked in self._asked))


def _block(
    search: Search, parts: Sequence[Part], grid: tuple[int, ...], block_id: tuple[int, ...]
) -> Any:
    return search.mask(parts[int(np.ravel_multi_index(block_id[1:], grid))])


def _counted(
    dims: Sequence[str], shapes: dict[Layer, tuple[int, ...]], found: Found
) -> tuple[Layer, int, Any]:
    """How many units were found at each place along ``dims``."""
    layer = found.chunk.layer
    counts: Any = len(found.units)
    if dims:
        own = [found.chunk.values(dim, found.asked, found.units) for dim in dims]
        flat = np.ravel_multi_index(own, shapes[layer])
        counts = np.bincount(flat, minlength=math.prod(shapes[layer])).reshape(shapes[layer])
    return layer, found.asked.number, counts


def top_of_all(tables: Sequence[Table], size: int, by: str) -> Table:
    """The top of several tables that are each a top, as by :meth:`Query.top`."""
    whole = joined(tables)
    sign = 1.0 if by in PROBABILITIES else -1.0
    return whole.take(np.argsort(sign * whole[by], kind="stable")[:size])


def _quantiles(values: NDArray[Any], at: Sequence[float]) -> NDArray[Any]:
    """Quantiles by linear interpolation; next to an infinite value, that one."""
    with np.errstate(invalid="ignore"):  # inf - inf
        found = np.quantile(values, at)
    lower, higher = (np.quantile(values, at, method=how) for how in ("lower", "higher"))
    known: NDArray[Any] = np.where(np.isinf(lower), lower, higher)
    return np.where(np.isnan(found), known, found)


def _colon(text: str, categories: Sequence[str]) -> int | None:
    """Where the contrast of a query ends: the first colon outside quotes.

    Or the one after the name of a category that the query begins with, whatever is in that.
    """
    for name in sorted(categories, key=len, reverse=True):
        rest = text.lstrip().removeprefix(name.strip()).lstrip()
        if rest.startswith(":") and len(rest) < len(text.lstrip()):
            return len(text) - len(rest)
    quote = ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == ":":
            return place
    return None


def _shape_of(layer: Layer, dims: Sequence[str]) -> tuple[int, ...]:
    return tuple(layer.shape[layer.dims.index(dim)] for dim in dims)


def _listed_dims(layers: Sequence[Layer]) -> str:
    kinds = dict.fromkeys(" x ".join(layer.dims) for layer in layers)
    return f"layers here are {', '.join(kinds)}"


def _repeated(names: Sequence[str], found: Sequence[Found]) -> NDArray[Any]:
    return np.repeat(np.array(names, object), [len(one.units) for one in found])


def _concatenated(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *(part.astype(dtype) for part in parts)])


def _table_of(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return Table({name: list(values) for name, values in zip(names, columns, strict=True)})
