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

    Arrays are read on demand. ``path`` is a folder or URL; ``categories``, ``folds``, ``counts
    [category, fold]`` and ``layers`` describe the store; ``network``, ``stimuli`` and ``design``
    are the values it was made with; ``provenance`` holds all attributes of its root.
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

        Parameters and columns are those of :func:`fusiform.summary`; those of held-out stimuli are
        averaged over folds.
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
        text : the query, see :mod:`.query`
        layers : names or globs of layers
        saved : query the contrast saved under this name instead of the scan's own

        Raises
        ------
        UserError : see :class:`.query.Query`
        """
        return Query(self, text, layers, saved)

    def select(
        self,
        contrasts: str | Sequence[str] | None = None,
        criterion: Criterion = DEFAULT,
        layers: str | Sequence[str] = "*",
    ) -> xarray.DataTree:
        """Lazy masks of the units that a criterion selects.

        Every layer has ``selective [contrast, *layer dims]`` on all stimuli, ``selective_fold
        [contrast, fold, *layer dims]`` on each fold, and ``dead`` and ``nonfinite [*layer dims]``.
        They are dask arrays of one block, as p is corrected over a layer; where a unit is compared
        with those of other layers (the family ``model``, ``top 1% of model``), computing one layer
        evaluates all.

        Parameters
        ----------
        contrasts : as :mod:`.language.contrast` reads them; by default every category

        Raises
        ------
        UserError : the scan has not finished, a contrast cannot be parsed, or a layer is unknown
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
        """Mask of the units of a layer that a criterion selects, in the shape of its output.

        It fits a forward hook or :func:`fusiform.lesion`. If the scan reduced the layer, it has the
        reduced shape, for ``lesion(..., units=store.units)``.

        Raises
        ------
        UserError : see :meth:`select`
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

        Each is a list of draws: one of ``selective`` and ``least``, ``draws`` of ``matched`` and
        ``random``. A draw has a mask for each layer with selective units, in the shape of its
        output, for :func:`fusiform.lesion`. Every control silences as many units of each layer as
        are selective, all of them living and not selective.

        Parameters
        ----------
        contrast, layers, controls, draws, seed : see :class:`fusiform.LesionRequest`
        criterion : when a unit counts as selective
        fold : choose all units by the stimuli of this fold alone; by default by all stimuli

        Raises
        ------
        UserError : an unknown contrast, layer, control or fold; no selective units, or too few
            others
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
    path : a folder, or the URL of an object store (``s3://``, ``gs://``, ``az://``) or web server

    Raises
    ------
    UserError : ``path`` is not a store, or has another schema version
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
