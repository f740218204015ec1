"""What a scan gives: a store that answers questions."""

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
from ..layer import Layer
from ..store.reading import Store, require_complete
from .chunks import places
from .query import Query

if TYPE_CHECKING:
    import xarray


class Result(Store):
    """The result of a scan: what it holds, and what can be asked of it.

    Numbers are read when they are asked for. ``path`` is its folder or URL; ``categories``,
    ``folds``, ``counts [category, fold]`` and ``layers`` describe it, ``provenance`` says how it
    came about.
    """

    def _repr_html_(self) -> str:
        from .notebook import store_html

        return store_html(self)

    def query(
        self, text: str, layers: str | Sequence[str] = "*", saved: str | None = None
    ) -> Query:
        """Units that meet a predicate: ``query("faces: t > 5 and csi > 1/3")``; nothing is read.

        Parameters
        ----------
        text : as :mod:`.query` reads it
        layers : names or globs, one or several
        saved : ask what was saved under this name instead of what the scan left

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
        """Which units a criterion selects, as lazy masks; a layer is looked at when it is computed.

        For every layer ``selective [contrast, *layer dims]`` on all stimuli, ``selective_fold
        [contrast, fold, *layer dims]`` on each fold's alone, ``dead`` and ``nonfinite [*layer
        dims]``: dask arrays of one block, as p is corrected over a layer. A family that is the
        whole model is looked at as a whole.

        Parameters
        ----------
        contrasts : as :mod:`.language.contrast` reads them; by default every category

        Raises
        ------
        UserError : the scan has not finished, a contrast cannot be read, no layer has such a name
        """
        import xarray
        from dask import array as dask_array
        from dask.delayed import delayed

        from ..contrasts.evaluate import Selection
        from ..contrasts.select import select

        require_complete(self)
        wanted = self.layers_named(layers)
        parsed = parse_contrasts(contrasts, self.categories)
        names = [one.text for one in parsed]

        def looked_at(asked: Sequence[Layer]) -> dict[str, Selection]:
            return {layer.name: one for layer, one in select(self, criterion, parsed, asked)}

        together = delayed(looked_at)(wanted) if criterion.family == "model" else None
        leading = {
            "selective": {"contrast": len(names)},
            "selective_fold": {"contrast": len(names), "fold": self.folds},
            "dead": {},
            "nonfinite": {},
        }
        nodes = {}
        for layer in wanted:
            looked = delayed(looked_at)([layer]) if together is None else together
            own = looked[layer.name]
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
            coordinates = {"contrast": names, **places(layer)}
            nodes[layer.name] = xarray.Dataset(
                variables, coordinates, {"criterion": str(criterion)}
            )
        return xarray.DataTree.from_dict(nodes)

    def mask(self, contrast: str, layer: str, criterion: Criterion = DEFAULT) -> NDArray[np.bool_]:
        """The units of a layer that a criterion selects, in the shape of the layer's output.

        Ready for a forward hook, or for :func:`fusiform.lesion`; where the scan reduced the layer,
        in the shape that it then had, for ``lesion(..., units=result.units)``.

        Raises
        ------
        UserError : see :meth:`select`
        """
        own = self.layer(layer)
        selected = self.select(contrast, criterion, own.name)[own.name].to_dataset()
        return np.asarray(selected["selective"][0])


def open_store(path: Path | str) -> Result:
    """Open the result of a scan for reading; nothing but metadata is read.

    Parameters
    ----------
    path : a folder, or the URL of an object store (``s3://``, ``gs://``, ``az://``) or web server

    Raises
    ------
    UserError : ``path`` is no store, or one of another schema version
    """
    return Result.open(path)


def _without_pools() -> None:
    """In a forked child: dask would hand work to threads that only its parent has."""
    if threaded := sys.modules.get("dask.threaded"):
        threaded.default_pool = None  # type: ignore[attr-defined]
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_without_pools)


def _shaped(selection: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.asarray(getattr(selection, name)).reshape(shape)
