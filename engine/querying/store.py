"""The store as users see it: description, queries, selections and masks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..contrasts.lesion_request import CONTROLS, LesionRequest
from ..errors import UserError
from ..layer import Layer
from ..store.reader import require_complete
from ..store.store_reader import StoreReader
from ..table import Table
from .chunks import coordinates
from .query import Query

if TYPE_CHECKING:
    import pandas
    import xarray

# Columns of a frame: counts, and means of the selected units that may be missing.
_COUNTED = ("layer", "contrast", "units", "dead", "nonfinite", "selective", "share")
_MEASURED = ("replicated", "csi", "d_prime", "response")


class Store(StoreReader):
    """The result of a scan, to describe, query and select from.

    Arrays are read on demand. :func:`fusiform.scan` and :func:`fusiform.open_store` return a store.

    Attributes
    ----------
    path : pathlib.Path or URL
        Folder, archive or URL.
    categories : tuple of str
        Names of the categories.
    folds : int
        Number of folds.
    layers : tuple of Layer
        The layers in network order, each with ``name``, ``dims``, ``shape`` and ``units``.
    counts : array of int, [category, fold]
        Numbers of stimuli.
    network : Network
        The network that was shown; a module stands by its class, and must be given again.
    stimuli : Stimuli
        The stimuli, where they are now.
    design : Design
        The design, its layers by name.
    units : str
        The units of the scan, see :class:`fusiform.Design`.
    coordinates : dict of str to tuple of str
        Layer -> names of the coordinates of its units.
    saved : dict of str to dict
        Saved contrasts: name -> its contrasts, criterion and measures.
    shuffles : int
        Number of label shuffles of the permutation null; 0 without one.
    skipped : dict of str to int
        Number of stimuli that could not be shown, for every category that has any.
    provenance : dict
        All attributes of the root: versions, hashes, preprocessing, times.

    See Also
    --------
    open_store : Open a store that exists.

    Examples
    --------
    >>> store = fusiform.open_store("r18.zarr")
    >>> store.categories
    ('bodies', 'faces', 'scenes', 'scrambled_scenes', 'scrambled_words', 'words')
    >>> [(layer.name, layer.shape) for layer in store.layers]
    [('layer3.1', (256, 4, 4)), ('layer4.1', (512, 2, 2))]
    >>> store.counts[store.categories.index("faces")]
    array([2, 2])
    """

    def _repr_html_(self) -> str:
        from .notebook import store_html

        return store_html(self)

    def frame(
        self,
        criterion: Criterion = DEFAULT,
        layers: str | Sequence[str] = "*",
        contrasts: str | Sequence[str] | None = None,
    ) -> pandas.DataFrame:
        """The summary of the store as a pandas DataFrame, a row per layer and contrast.

        Parameters
        ----------
        criterion : Criterion, optional
            The criterion that selects units.
        layers : str or sequence of str, default "*"
            Names or globs of layers.
        contrasts : str or sequence of str, optional
            As in :func:`fusiform.summary`.

        Returns
        -------
        pandas.DataFrame
            Columns are those of a row of :func:`fusiform.summary`; values of held-out stimuli are
            averaged over folds.

        Raises
        ------
        UserError
            As :func:`fusiform.summary` does.

        Examples
        --------
        >>> store = fusiform.open_store("r18.zarr")
        >>> top = fusiform.Criterion("rest", "top 1%")
        >>> frame = store.frame(top, "layer4.1", ["faces", "words"])
        >>> frame[["layer", "contrast", "units", "selective"]]
              layer contrast  units  selective
        0  layer4.1    faces   2048         20
        1  layer4.1    words   2048         20
        """
        from ..contrasts.summary import summary  # compiled code, which few need

        rows = summary(self, criterion, layers, contrasts)
        columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in _COUNTED}
        for name in _MEASURED:
            values = [getattr(row, name) for row in rows]
            columns[name] = np.array(values, np.float64)  # NaN for None
        return Table(columns).frame()

    def query(
        self, text: str, layers: str | Sequence[str] = "*", saved: str | None = None
    ) -> Query:
        """A lazy query for units: ``query("faces: t > 5 and csi > 1/3")``.

        Parameters
        ----------
        text : str
            A contrast, a colon, and a rule over measures. Without a contrast, the query is about
            every category; without a rule, it matches all units. See :class:`Query
            <fusiform.engine.querying.query.Query>`.
        layers : str or sequence of str, default "*"
            Names or globs of layers.
        saved : str, optional
            Query the contrast saved under this name instead of the scan's own.

        Returns
        -------
        Query
            The query; nothing is read before a result is requested.

        Raises
        ------
        UserError
            The query cannot be parsed (a caret points at the character), the scan has not finished,
            or a layer or name is unknown.

        Examples
        --------
        >>> store = fusiform.open_store("r18.zarr")
        >>> store.query("faces: t > 2 and csi > 0.1", layers="layer4.*")
        <fusiform query 'faces: t > 2 and csi > 0.1' of 2,048 units in 1 layers>
        """
        return Query(self, text, layers, saved)

    def select(
        self,
        contrasts: str | Sequence[str] | None = None,
        criterion: Criterion = DEFAULT,
        layers: str | Sequence[str] = "*",
    ) -> xarray.DataTree:
        """Lazy masks of the units that a criterion selects.

        Parameters
        ----------
        contrasts : str or sequence of str, optional
            Contrasts such as ``faces`` (against all others), ``faces > bodies + scenes``, or a
            weighted sum ``2 * faces - bodies - scenes``; by default every category.
        criterion : Criterion, optional
            The criterion that selects units.
        layers : str or sequence of str, default "*"
            Names or globs of layers.

        Returns
        -------
        xarray.DataTree
            Every layer has ``selective [contrast, *layer dims]`` on all stimuli, ``selective_fold
            [contrast, fold, *layer dims]`` on each fold, and ``dead`` and ``nonfinite [*layer
            dims]``. They are dask arrays of one block, as p is corrected over a layer; where a unit
            is compared with those of other layers (the family ``model``, ``top 1% of model``),
            computing one layer evaluates all.

        Raises
        ------
        UserError
            The scan has not finished, a contrast cannot be parsed, or a layer is unknown.

        Examples
        --------
        >>> store = fusiform.open_store("r18.zarr")
        >>> top = fusiform.Criterion("rest", "top 1%")
        >>> tree = store.select("faces > bodies + scenes", top, "layer4.1")
        >>> tree["layer4.1"]["selective"].sum().compute().item()
        20
        """
        import xarray
        from dask import array as dask_array
        from dask.delayed import delayed

        from ..contrasts.select import select
        from ..contrasts.slab import Selection

        require_complete(self)
        named = self.layers_named(layers)
        parsed = parse_contrasts(contrasts, self.categories)
        names = [one.text for one in parsed]

        def evaluated(layers: Sequence[Layer]) -> dict[str, Selection]:
            return {layer.name: one for layer, one in select(self, criterion, parsed, layers)}

        whole = delayed(evaluated)(named) if criterion.spans_model else None
        leading = {
            "selective": {"contrast": len(names)},
            "selective_fold": {"contrast": len(names), "fold": self.folds},
            "dead": {},
            "nonfinite": {},
        }
        nodes = {}
        for layer in named:
            own = (delayed(evaluated)([layer]) if whole is None else whole)[layer.name]
            shapes = {k: (*dims.values(), *layer.shape) for k, dims in leading.items()}
            variables: dict[str, Any] = {
                name: (
                    (*dims, *layer.dims),
                    dask_array.from_delayed(  # type: ignore[no-untyped-call]
                        delayed(_shaped)(own, name, shapes[name]), shapes[name], np.bool_
                    ),
                )
                for name, dims in leading.items()
            }
            index = {"contrast": names, **coordinates(layer)}
            nodes[layer.name] = xarray.Dataset(variables, index, {"criterion": str(criterion)})
        return xarray.DataTree.from_dict(nodes)

    def mask(self, contrast: str, layer: str, criterion: Criterion = DEFAULT) -> NDArray[np.bool_]:
        r"""Mask of the units of a layer that a criterion selects.

        It fits a forward hook or :func:`fusiform.lesion`.

        Parameters
        ----------
        contrast : str
            A contrast, as in :meth:`select`.
        layer : str
            Name of a layer.
        criterion : Criterion, optional
            The criterion that selects units.

        Returns
        -------
        array of bool, [\*layer dims]
            The mask, in the shape of the layer's output for one stimulus. If the scan reduced the
            layer, it has the reduced shape, for ``lesion(..., units=store.units)``.

        Raises
        ------
        UserError
            As :meth:`select` does.

        Examples
        --------
        >>> store = fusiform.open_store("r18.zarr")
        >>> mask = store.mask("faces", "layer4.1", fusiform.Criterion("rest", "top 1%"))
        >>> mask.shape, mask.sum()
        ((512, 2, 2), np.int64(20))
        """
        own = self.layer(layer)
        selected = self.select(contrast, criterion, own.name)[own.name].to_dataset()
        return np.asarray(selected["selective"][0])

    def lesions(
        self,
        contrast: str,
        layers: str | Sequence[str],
        criterion: Criterion = DEFAULT,
        *,
        controls: str | Sequence[str] = tuple(CONTROLS),
        draws: int = 5,
        seed: int = 0,
        fold: int | None = None,
    ) -> dict[str, list[dict[str, NDArray[np.bool_]]]]:
        """Masks of the units that a criterion selects, and of controls for a lesion of them.

        Every control silences as many units of each layer as are selective; all of them are living
        and not selective.

        Parameters
        ----------
        contrast : str
            The contrast whose selective units are silenced.
        layers : str or sequence of str
            Names or globs of layers.
        criterion : Criterion, optional
            When a unit counts as selective.
        controls : str or sequence of str, optional
            Some of ``matched``, ``random``, ``least``, see :class:`fusiform.LesionRequest`; by
            default all.
        draws : int, default 5
            Draws of each control that is random.
        seed : int, default 0
            Seed of the draws.
        fold : int, optional
            Choose all units by the stimuli of this fold alone; by default by all stimuli.

        Returns
        -------
        dict of str to list of dict
            For each lesion a list of draws: one of ``selective`` and ``least``, ``draws`` of
            ``matched`` and ``random``. A draw has a mask for each layer with selective units, in
            the shape of its output, for :func:`fusiform.lesion`.

        Raises
        ------
        UserError
            The contrast, a layer, a control or the fold is unknown; there are no selective units,
            or too few others.

        Examples
        --------
        >>> store = fusiform.open_store("r18.zarr")
        >>> top = fusiform.Criterion("rest", "top 1%")
        >>> masks = store.lesions("faces", "layer4.1", top, draws=2)
        >>> {name: len(draws) for name, draws in masks.items()}
        {'selective': 1, 'matched': 2, 'random': 2, 'least': 1}
        >>> masks["matched"][0]["layer4.1"].sum()
        np.int64(20)
        """
        from ..contrasts.controls import candidates, lesions_of

        request = LesionRequest(contrast, layers, criterion, controls, draws, seed)
        if fold is not None and fold not in range(self.folds):
            raise UserError(
                f"{self.path} has folds 0 to {self.folds - 1}; got {fold!r}: choose one of them"
            )
        (own,) = candidates(self, request, [fold])
        return lesions_of(own, request)


def open_store(path: Path | str) -> Store:
    """Open the result of a scan; only metadata is read.

    Parameters
    ----------
    path : str or path
        A folder or archive, or the URL of an object store (``s3://``, ``gs://``, ``az://``) or web
        server.

    Returns
    -------
    Store
        The store.

    Raises
    ------
    UserError
        ``path`` is not a store, or has another schema version.

    See Also
    --------
    info : Describe a store, finished or not.
    check : Verify its content.

    Examples
    --------
    >>> store = fusiform.open_store("r18.zarr")
    >>> [layer.name for layer in store.layers], store.folds
    (['layer3.1', 'layer4.1'], 2)
    """
    return Store.open(path)


def _without_pools() -> None:
    """Drop dask's thread pools in a forked child, whose threads exist only in the parent."""
    if threaded := sys.modules.get("dask.threaded"):
        threaded.default_pool = None  # type: ignore[attr-defined]
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_without_pools)


def _shaped(selection: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.asarray(getattr(selection, name)).reshape(shape)
