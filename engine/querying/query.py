"""Queries for the units that meet a predicate: their number, location and values.

    faces: t > 5 and csi > 1/3
    faces + bodies > scenes: t > 5 or d_prime > 1
    selective and channel == 12
    faces:

    query = [ contrast ":" ] [ rule ]

Without a contrast, a query is about every category; without a rule, it matches all units. ``t`` is
against the pooled rest, ``t_each`` the smallest t against each other category, as stored. Nothing
is evaluated as code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from .. import blocks
from ..contrasts.language.contrast import contrast_end
from ..contrasts.language.rule import PROBABILITIES, Rule, Vocabulary, parse_rule
from ..errors import UserError, nearest
from ..layer import Layer
from ..limits import refuse_numbers
from ..store.reader import require_complete
from ..store.store_reader import StoreReader
from ..table import Table, joined
from ..texts import in_bytes
from ..values import listed
from . import grouping
from .chunks import Part, coordinates, queried_contrasts, source_of
from .grouping import Group, table_of
from .rows import Rows
from .search import MEANS, Matches, Search

if TYPE_CHECKING:
    import xarray

# Categories up to which their means are default columns: a row has a value of each.
MOST_MEANS = 100


class Query:
    """A query of a store, as :meth:`fusiform.Store.query` returns it.

    Nothing is read until a result is requested. A query is a contrast, a colon, and a rule, such
    as ``faces: t > 5 and csi > 1/3``, ``faces + bodies > scenes: t > 5 or d_prime > 1``, or
    ``selective and channel == 12``. ``t`` is against the pooled rest, ``t_each`` the smallest t
    against each other category, as stored. Nothing is evaluated as code.

    Parameters
    ----------
    store : Store
        The store to ask.
    text : str
        The query. Without a contrast, it is about every category; without a rule, it matches all
        units.
    layers : str or sequence of str, default "*"
        Names or globs of layers.
    saved : str, optional
        Query the t, q, ..., ``selective`` that :func:`fusiform.save_contrast` saved under this
        name.

    Attributes
    ----------
    layers : list of Layer
        The layers.
    contrasts : tuple of str
        The contrasts.
    dims : tuple of str
        Dimensions of any layer.
    columns : tuple of str
        The default columns of a table of units.
    has_means : bool
        Whether the mean response to every category is a default column: up to 100 of them.

    Raises
    ------
    UserError
        The query cannot be parsed (a caret points at the character), the scan has not finished, or
        a layer is unknown.

    Examples
    --------
    >>> query = fusiform.open_store("r18.zarr").query("faces: csi > 0.1", "layer4.1")
    >>> query.contrasts
    ('faces',)
    >>> query.columns[:3]
    ('t', 't_each', 'q_each')
    """

    def __init__(
        self,
        store: StoreReader,
        text: str,
        layers: str | Sequence[str] = "*",
        saved: str | None = None,
    ) -> None:
        require_complete(store)
        self.store, self.text = store, text
        self.layers = store.layers_named(layers)
        self._source = source_of(store, saved)
        colon = contrast_end(text, store.categories)
        contrast = text if colon is not None else None
        if colon is not None and not text[:colon].strip():
            raise UserError(f"a query has a contrast before its colon; got {text!r}")
        self._queried = queried_contrasts(store, self._source, contrast, colon)
        self.contrasts = tuple(queried.contrast.text for queried in self._queried)
        start = 0 if colon is None else colon + 1
        rows = self.layers, self._queried, store.categories, store.coordinates
        self._rows = Rows(self._source, *rows)
        self.dims = self._rows.dims
        rule = Rule("and", ())
        if text[start:].strip():
            numbers = (*self._source.measures, *self._places)
            known = Vocabulary(numbers, self._source.flags, top=False)
            rule = parse_rule(text, known, start)
        self._require(condition.measure for condition in rule.conditions())
        self._search = Search(store, self.layers, self._source, self._queried, rule)

    def __repr__(self) -> str:
        units = sum(layer.units for layer in self.layers)
        return f"<fusiform query {self.text!r} of {units:,} units in {len(self.layers)} layers>"

    def _repr_html_(self) -> str:
        from .notebook import query_html

        return query_html(self.text, self.store, self.layers, self.contrasts, self.columns)

    @property
    def _places(self) -> tuple[str, ...]:
        """Dimensions of layers, and coordinates of units."""
        return (*self.dims, *self._source.coordinates)

    @property
    def columns(self) -> tuple[str, ...]:
        """The default columns of a table of units; ``means`` if :attr:`has_means`."""
        means = (MEANS,) if self.has_means else ()
        names = (*(n for n in self._source.stored if n != "selective"), "d_prime", *means)
        return tuple(dict.fromkeys(name for name in names if not self._is_unavailable(name)))

    @property
    def has_means(self) -> bool:
        """Whether the mean response to every category is a default column: up to 100 of them."""
        return len(self.store.categories) <= MOST_MEANS

    def units(self, columns: str | Sequence[str] | None = None) -> Table:
        """All matching units, in the order of the store.

        Parameters
        ----------
        columns : str or sequence of str, optional
            Measures, flags, or ``means`` for the mean response to every category; by default those
            of :attr:`columns`.

        Returns
        -------
        Table
            A row per unit and contrast: ``layer``, ``contrast``, the index along each dimension,
            and the columns.

        Raises
        ------
        UserError
            A column is unknown, or the table does not fit in memory.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces: channel < 2", "layer4.1")
        >>> frame = query.units("t").frame()
        >>> list(frame.columns), len(frame)
        (['layer', 'contrast', 'channel', 'y', 'x', 't'], 8)
        """
        tables, held, room = [], 0, blocks.room(whole=True)
        for table in self.parts(columns):
            tables.append(table)
            held += table.nbytes
            if 2 * held > room:
                rows = int(self.counts(["layer"])["matching"].sum())
                cost = 2 * rows * held // sum(map(len, tables))
                raise UserError(
                    f"a table of all units is held in memory; {rows:,} rows take "
                    f"{in_bytes(cost)} of {in_bytes(room)}: take them in `parts`"
                )
        return joined(tables)

    def parts(self, columns: str | Sequence[str] | None = None) -> Iterator[Table]:
        """As :meth:`units`, but in parts as they are found.

        A few parts are in memory at a time, whatever their number.

        Parameters
        ----------
        columns : str or sequence of str, optional
            As in :meth:`units`.

        Yields
        ------
        Table
            Some of the rows; the first table has none.

        Raises
        ------
        UserError
            A column is unknown.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces: channel < 2", "layer4.1")
        >>> sum(len(part) for part in query.parts("t"))
        8
        """
        names = self._named(columns)
        yield self._rows.none(names)
        yield from self._search.map(self._search.parts(), *self._table_of(names))

    def top(self, size: int, by: str = "t", columns: str | Sequence[str] | None = None) -> Table:
        """The matching units with the largest measure, best first.

        Ties keep the order of the store.

        Parameters
        ----------
        size : int
            Number of units, over all layers and contrasts.
        by : str, default "t"
            The measure; of p and q the smallest come first.
        columns : str or sequence of str, optional
            As in :meth:`units`.

        Returns
        -------
        Table
            As of :meth:`units`, with ``by`` among the columns.

        Raises
        ------
        UserError
            The measure or a column is unknown, or ``size`` is below 1.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces:", "layer4.1")
        >>> best = query.top(3, by="csi", columns="t")
        >>> list(best.columns), len(best)
        (['layer', 'contrast', 'channel', 'y', 'x', 'csi', 't'], 3)
        """
        refuse_numbers(top=size)
        if size < 1:
            raise UserError(f"the top is at least 1 unit; got {size}")
        self._require_measure(by)
        names = self._named(columns)
        if by not in names:
            names = (by, *names)
        found, order = self._search.top(size, by, *self._table_of(names))
        return joined([self._rows.none(names), *found]).take(order)

    def counts(self, by: str | Sequence[str] = ("layer", "contrast")) -> Table:
        """Numbers of matching units and of all units, by group.

        Parameters
        ----------
        by : str or sequence of str, default ("layer", "contrast")
            Any of ``layer``, ``contrast``, and the dimensions of layers (``channel``, ``y``, ...);
            layers without all of these dimensions are left out. Groups without units or matches are
            listed too.

        Returns
        -------
        Table
            Columns ``by``, ``matching``, ``units``, and ``share``, their ratio.

        Raises
        ------
        UserError
            There is no such dimension, or no layer has all of them.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces: channel < 2")
        >>> query.counts("layer").frame()
              layer  matching  units     share
        0  layer3.1        32   4096  0.007812
        1  layer4.1         8   2048  0.003906
        """
        by = listed(by)
        dims = self._dims_of(by)
        layers = [layer for layer in self.layers if set(dims) <= set(layer.dims)]
        if not layers:
            kinds = dict.fromkeys(" x ".join(layer.dims) for layer in self.layers)
            raise UserError(f"no layer has {' and '.join(dims)}: layers have {', '.join(kinds)}")
        counted = grouping.Counts(by, dims, layers, self.contrasts)
        add = partial(grouping.counts_along, dims)
        for found in self._search.map(self._search.parts(layers), add, dims):
            counted.add(*found)
        return counted.table()

    def quantiles(
        self,
        measure: str,
        at: float | Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        by: str | Sequence[str] = ("layer", "contrast"),
    ) -> Table:
        """Exact quantiles of a measure over the matching units, with linear interpolation.

        The measure of all matching units is in memory. NaN is ignored, infinite values are not:
        between a finite and an infinite value, a quantile is infinite.

        Parameters
        ----------
        measure : str
            A measure such as ``t``, ``csi`` or ``d_prime``.
        at : float or sequence of float, default (0.05, 0.25, 0.5, 0.75, 0.95)
            Which quantiles, from 0 to 1.
        by : str or sequence of str, default ("layer", "contrast")
            ``layer``, ``contrast`` or both.

        Returns
        -------
        Table
            Columns ``by``, ``units`` (number of values), and ``q5``, ``q25``, ... in per cent.

        Raises
        ------
        UserError
            The measure is unknown, a quantile is beyond 0 to 1, or ``by`` is a dimension.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces:", "layer4.1")
        >>> list(query.quantiles("t", at=[0.5, 0.95]).columns)
        ['layer', 'contrast', 'units', 'q50', 'q95']
        """
        at, by = listed(at), listed(by)
        for q in at:
            if not 0 <= q <= 1:
                raise UserError(f"quantiles are from 0 to 1; got {q:g}")
        names = (*by, "units", *(f"q{100 * q:g}" for q in at))
        return table_of(names, grouping.quantile_rows(self._values(measure, by), at))

    def histogram(
        self, measure: str, bins: int = 20, by: str | Sequence[str] = ("layer", "contrast")
    ) -> Table:
        """Histogram of a measure over the matching units, with the same bins in all groups.

        Bins span the finite values; a bin includes its lower edge, the last one both edges. NaN is
        ignored. If there are infinite values, all groups have an extra bin from -inf to -inf or
        from inf to inf.

        Parameters
        ----------
        measure : str
            A measure such as ``t``, ``csi`` or ``d_prime``.
        bins : int, default 20
            Number of bins.
        by : str or sequence of str, default ("layer", "contrast")
            ``layer``, ``contrast`` or both.

        Returns
        -------
        Table
            Columns ``by``, ``from`` and ``to`` (the edges of the bin), and ``units``.

        Raises
        ------
        UserError
            The measure is unknown, there is no bin, or ``by`` is a dimension.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces:", "layer4.1")
        >>> counted = query.histogram("t", bins=4)
        >>> list(counted.columns), counted["units"].sum()
        (['layer', 'contrast', 'from', 'to', 'units'], np.int64(2048))
        """
        refuse_numbers(bins=bins)
        if bins < 1:
            raise UserError(f"a histogram has at least 1 bin; got {bins}")
        by = listed(by)
        rows = grouping.histogram_rows(list(self._values(measure, by)), bins)
        return table_of((*by, "from", "to", "units"), rows)

    def masks(self) -> xarray.DataTree:
        """Lazy boolean masks of the matching units for every layer.

        Returns
        -------
        xarray.DataTree
            Every layer has ``matches [contrast, *layer dims]``, a dask array with a block per chunk
            of the store; a block is read when it is computed, unless its extremes exclude a match.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces: channel < 2", "layer4.1")
        >>> matches = query.masks()["layer4.1"]["matches"]
        >>> dict(matches.sizes), matches.sum().compute().item()
        ({'contrast': 1, 'channel': 512, 'y': 2, 'x': 2}, 8)
        """
        import xarray
        from dask import array as dask_array

        nodes = {}
        for layer in self.layers:
            parts = list(self._search.parts([layer]))
            chunk = self.store.chunk_shape(layer)
            lengths = [
                tuple(min(length, size - start) for start in range(0, size, length))
                for size, length in zip(layer.shape, chunk, strict=True)
            ]
            lazy = dask_array.map_blocks(  # type: ignore[no-untyped-call]
                partial(_block, self._search, parts, tuple(map(len, lengths))),
                chunks=((len(self._queried),), *lengths),
                name=f"matches-{uuid4().hex}",
                meta=np.empty((0,) * (1 + len(layer.shape)), np.bool_),
            )
            attributes = {"long_name": "unit matches the query", "query": self.text}
            mask = xarray.DataArray(lazy, dims=("contrast", *layer.dims), attrs=attributes)
            index: dict[str, Any] = {"contrast": list(self.contrasts), **coordinates(layer)}
            for name in self.store.coordinates.get(layer.name, ()):
                index[name] = layer.dims, self.store.coordinate(layer, name)
            nodes[layer.name] = xarray.Dataset({"matches": mask}, index)
        return xarray.DataTree.from_dict(nodes)

    def _table_of(self, names: Sequence[str]) -> tuple[Any, Sequence[str], int]:
        """The maker of a table of matches, the values it asks for, and the bytes of a row."""
        return partial(self._rows.of, columns=names), names, self._rows.bytes_per_row(names)

    def _values(self, measure: str, by: Sequence[str]) -> Iterator[Group]:
        """The values of a measure over the matching units by group, without NaN."""
        if self._dims_of(by):
            raise UserError(
                f"quantiles and histograms are by layer and contrast; got {', '.join(by)}: "
                "write the units, and group them yourself"
            )
        self._require_measure(measure)
        groups: dict[tuple[str, ...], list[NDArray[Any]]] = {}

        def key(layer: Layer, contrast: str) -> tuple[str, ...]:
            names = {"layer": layer.name, "contrast": contrast}
            return tuple(names[name] for name in by)

        for layer, contrast in product(self.layers, self.contrasts):
            groups[key(layer, contrast)] = []

        def values(found: Matches) -> list[Group]:
            own = found.values(measure)
            known = ~np.isnan(own)
            numbers, starts = np.unique(found.contrasts[known], return_index=True)
            parts = np.split(own[known], starts[1:]) if len(numbers) else []
            return [
                (key(found.block.layer, self.contrasts[number]), part)
                for number, part in zip(numbers, parts, strict=True)
            ]

        for found in self._search.map(self._search.parts(), values, [measure], 8):
            for group, own in found:
                groups[group].append(own)
        for group, parts in groups.items():
            yield group, np.concatenate(parts) if parts else np.empty(0)

    def _dims_of(self, by: Sequence[str]) -> list[str]:
        known = ("layer", "contrast", *self.dims)
        for name in by:
            if name not in known:
                raise UserError(f"units are grouped by {', '.join(known)}; got {name!r}")
        return [name for name in by if name in self.dims]

    def _named(self, columns: str | Sequence[str] | None) -> Sequence[str]:
        if columns is None:
            return self.columns
        columns = listed(columns)
        self._require(name for name in columns if name != MEANS)
        return columns

    def _require(self, names: Iterable[str]) -> None:
        """Raise for names that are unknown, or unavailable under the contrasts of the query."""
        for name in names:
            known = (*self._source.measures, *self._source.flags, *self._places)
            if name not in known:
                raise UserError(
                    f"there is no measure or dimension {name!r}: {nearest(name, known)}"
                )
            if self._is_unavailable(name):
                raise UserError(
                    f"{name} is stored for every category against all others, not for "
                    f"{self.contrasts[0]!r}: save that contrast first, or use t"
                )

    def _require_measure(self, name: str) -> None:
        if name in (*self._source.flags, *self._places):
            raise UserError(f"a measure such as t is needed; {name} is none")
        self._require([name])

    def _is_unavailable(self, name: str) -> bool:
        computed = name in self._source.measures and name not in ("q", "q_each", "p_null")
        of_any = name in (*self._places, MEANS, "dead", "nonfinite", "preferred")
        return not (computed or of_any or self._queried[0].stored)


def _block(
    search: Search, parts: Sequence[Part], grid: tuple[int, ...], block_id: tuple[int, ...]
) -> Any:
    return search.mask(parts[int(np.ravel_multi_index(block_id[1:], grid))])


def top_of_all(tables: Sequence[Table], size: int, by: str) -> Table:
    """The top of several tables, each a result of :meth:`Query.top`."""
    whole = joined(tables)
    sign = 1.0 if by in PROBABILITIES else -1.0
    return whole.take(np.argsort(sign * whole[by], kind="stable")[:size])
