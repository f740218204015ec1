"""Recordings: responses of chosen units to every stimulus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest
from ..registry import SHOWN
from ..store.reader import require_complete
from ..store.recording_reader import RecordingReader

if TYPE_CHECKING:
    import anndata
    import dask.array
    import pandas
    import xarray


class Recording(RecordingReader):
    """Responses of chosen units to every stimulus, read on demand.

    Rows are stimuli in the order shown: by category, then fold; stimuli that could not be shown
    come last, with NaN responses. :func:`fusiform.record` and :func:`fusiform.open_recording`
    return a recording.

    Attributes
    ----------
    path : pathlib.Path or URL
        Folder, archive or URL.
    categories : tuple of str
        Names of the categories.
    folds : int
        Number of folds.
    layers : tuple of Layer
        The recorded layers.
    counts : array of int, [category, fold]
        Numbers of stimuli.
    choices : tuple of str
        How units were chosen: contrasts as written, ``random``, ``mask``, ``all``.
    dims : tuple of str
        Dimensions of any layer.
    labels : array of int, [stimulus]
        Category index of every stimulus.
    fold_of : array of int, [stimulus]
        Fold of every stimulus; -1 if it has none.
    shown : array of bool, [stimulus]
        Whether each stimulus was shown.
    provenance : dict
        All attributes of the root: versions, hashes, how the recording was made.

    See Also
    --------
    open_recording : Open a recording that exists.

    Examples
    --------
    >>> recording = fusiform.open_recording("r18.responses.zarr")
    >>> [layer.name for layer in recording.layers], len(recording.labels)
    (['layer3.1', 'layer4.1'], 24)
    """

    def _repr_html_(self) -> str:
        from ..querying.notebook import recording_html

        return recording_html(self)

    def frame(self, layers: str | Sequence[str] = "*") -> pandas.DataFrame:
        """Responses as a pandas DataFrame: a row per stimulus, a column per unit.

        Parameters
        ----------
        layers : str or sequence of str, default "*"
            Names or globs of layers.

        Returns
        -------
        pandas.DataFrame
            Rows are indexed by ``stimulus`` (path), ``category`` and ``fold``; columns by
            ``layer``, ``unit`` (its index in the flattened layer), and its index along each
            dimension.

        Raises
        ------
        UserError
            A layer is unknown or was projected; the responses do not fit in memory.

        Examples
        --------
        >>> frame = fusiform.open_recording("r18.responses.zarr").frame("layer4.1")
        >>> list(frame.index.names), list(frame.columns.names)
        (['stimulus', 'category', 'fold'], ['layer', 'unit', 'channel', 'y', 'x'])
        """
        from .conversion import to_frame

        return to_frame(self, layers)

    def to_xarray(self, layers: str | Sequence[str] = "*") -> xarray.Dataset:
        """Lazy responses as an ``xarray.Dataset``, with coordinates.

        Parameters
        ----------
        layers : str or sequence of str, default "*"
            Names or globs of layers.

        Returns
        -------
        xarray.Dataset
            ``response [stimulus, unit]`` and ``chosen [choice, unit]``. Coordinates of a stimulus
            are ``stimulus`` (path), ``category``, ``fold`` and ``shown``; those of a unit are
            ``layer``, ``unit`` (its index in the flattened layer), and its index along each
            dimension: ``channel``, ``y``, ``x``, ..., NaN if its layer lacks one. ``choice`` names
            how units were chosen.

        Raises
        ------
        UserError
            A layer is unknown or was projected.

        Examples
        --------
        >>> responses = fusiform.open_recording("r18.responses.zarr").to_xarray("layer4.1")
        >>> responses["response"].dims, responses["chosen"].dims
        (('stimulus', 'unit'), ('choice', 'unit'))
        """
        from .conversion import to_xarray

        return to_xarray(self, layers)

    def to_anndata(self, layers: str | Sequence[str] = "*") -> anndata.AnnData:
        """Responses as AnnData: stimuli are ``obs``, units ``var``, as in :meth:`to_xarray`.

        Parameters
        ----------
        layers : str or sequence of str, default "*"
            Names or globs of layers.

        Returns
        -------
        anndata.AnnData
            ``varm["chosen"] [unit, choice]`` marks the units of each of ``uns["choices"]``.

        Raises
        ------
        UserError
            anndata is missing; see also :meth:`frame`.

        Examples
        --------
        >>> cells = fusiform.open_recording("r18.responses.zarr").to_anndata("layer4.1")
        >>> cells.n_obs, list(cells.obs.columns)
        (24, ['category', 'fold', 'shown'])
        """
        from .conversion import to_anndata

        return to_anndata(self, layers)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of any layer."""
        return tuple(dict.fromkeys(dim for layer in self.layers for dim in layer.dims))

    def responses(self, layer: str) -> dask.array.Array:
        """A layer's responses as a lazy dask array.

        Parameters
        ----------
        layer : str
            Name of a layer.

        Returns
        -------
        dask.array.Array, [stimulus, unit]
            The responses, float32; of a projected layer ``[stimulus, dimension]``.

        Examples
        --------
        >>> responses = fusiform.open_recording("r18.responses.zarr").responses("layer4.1")
        >>> responses.shape[0], responses.dtype
        (24, dtype('float32'))
        """
        from dask import array as dask_array
        from dask.delayed import delayed

        blocks = [
            dask_array.from_delayed(  # type: ignore[no-untyped-call]
                delayed(self.part)(layer, columns),
                (self.schema.stimuli, columns.stop - columns.start),
                np.float32,
            )
            for columns in self.blocks(layer)
        ]
        found: dask.array.Array = dask_array.concatenate(blocks, axis=1)  # type: ignore[no-untyped-call]
        return found

    def unit(self, layer: str, unit: int) -> NDArray[np.float32]:
        """Responses of one unit.

        Parameters
        ----------
        layer : str
            Name of a layer.
        unit : int
            Index of the unit in the flattened layer.

        Returns
        -------
        array of float, [stimulus]
            The responses, float32.

        Raises
        ------
        UserError
            The unit was not recorded.

        Examples
        --------
        >>> recording = fusiform.open_recording("r18.responses.zarr")
        >>> unit = recording.units("layer4.1")[0]
        >>> recording.unit("layer4.1", unit).shape
        (24,)
        """
        column = self.column(layer, unit)
        return self.part(layer, slice(column, column + 1))[:, 0]

    def column(self, layer: str, unit: int) -> int:
        """Column of a unit in the responses of its layer.

        Parameters
        ----------
        layer : str
            Name of a layer.
        unit : int
            Index of the unit in the flattened layer.

        Returns
        -------
        int
            The column.

        Raises
        ------
        UserError
            The unit was not recorded, or the layer was projected.

        Examples
        --------
        >>> recording = fusiform.open_recording("r18.responses.zarr")
        >>> unit = recording.units("layer4.1")[2]
        >>> recording.column("layer4.1", unit)
        2
        """
        self.require_units(layer)
        units = self.units(layer)
        column = int(np.searchsorted(units, unit))
        if column == len(units) or units[column] != unit:
            raise UserError(
                f"{self.path} has {len(units):,} units of {layer}; {unit} is none of them: "
                "'fusiform responses' lists them"
            )
        return column

    def columns_chosen_by(self, layer: str, choice: str) -> NDArray[np.int64]:
        """Columns of the units of a choice.

        Parameters
        ----------
        layer : str
            Name of a layer.
        choice : str
            A contrast, ``random`` or ``mask``: one of ``choices``.

        Returns
        -------
        array of int
            The columns, in order.

        Raises
        ------
        UserError
            The choice is unknown, or the layer was projected.

        Examples
        --------
        >>> recording = fusiform.open_recording("r18.responses.zarr")
        >>> len(recording.columns_chosen_by("layer4.1", "faces"))
        5
        """
        self.require_units(layer)
        if choice not in self.choices:
            raise UserError(
                f"units of {self.path} were chosen by {', '.join(self.choices)}; got {choice!r}: "
                f"{nearest(choice, self.choices)}"
            )
        return np.flatnonzero(self.chosen(layer)[self.choices.index(choice)])

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """Whether each stimulus was shown ``[stimulus]``."""
        return np.asarray(self.stimulus_column("stimulus_status") == SHOWN)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Category index of every stimulus ``[stimulus]``."""
        return np.asarray(self.stimulus_column("stimulus_category"), np.int64)

    @cached_property
    def fold_of(self) -> NDArray[np.int64]:
        """Fold of every stimulus ``[stimulus]``; -1 if it has none."""
        return np.asarray(self.stimulus_column("stimulus_fold"), np.int64)

    def rows_of(self, categories: Sequence[int], fold: int | None = None) -> NDArray[np.int64]:
        """Rows of the shown stimuli of some categories, in order.

        Parameters
        ----------
        categories : sequence of int
            Indices of categories.
        fold : int, optional
            A fold; by default all.

        Returns
        -------
        array of int
            The rows.

        Examples
        --------
        >>> recording = fusiform.open_recording("r18.responses.zarr")
        >>> recording.rows_of([recording.categories.index("faces")])
        array([4, 5, 6, 7])
        """
        own = self.shown & np.isin(self.labels, list(categories))
        if fold is not None:
            own &= self.fold_of == fold
        return np.flatnonzero(own)


def open_recording(path: Path | str) -> Recording:
    """Open a recording; only metadata is read.

    Parameters
    ----------
    path : str or path
        A folder or archive, or the URL of an object store or web server.

    Returns
    -------
    Recording
        The recording.

    Raises
    ------
    UserError
        ``path`` is not a recording, has another schema version, or is unfinished.

    Examples
    --------
    >>> recording = fusiform.open_recording("r18.responses.zarr")
    >>> recording.categories[:2]
    ('bodies', 'faces')
    """
    found = Recording.open(path)
    require_complete(found)
    return found


def most(
    recording: Recording, layer: str, unit: int, n: int, folds: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Rows of the ``n`` stimuli that drive a unit most, the strongest first.

    ``unit`` is its index in the flattened layer, ``folds`` those of the stimuli, by default all.
    Ties keep their order; NaN is ignored.

    Raises
    ------
    UserError : the unit was not recorded
    """
    return _ranked(recording, -recording.unit(layer, unit), folds)[:n]


def least(
    recording: Recording, layer: str, unit: int, n: int, folds: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Rows of the ``n`` stimuli that drive a unit least, the weakest first; see :func:`most`."""
    return _ranked(recording, recording.unit(layer, unit), folds)[:n]


def _ranked(
    recording: Recording, keys: NDArray[Any], folds: Sequence[int] | None
) -> NDArray[np.int64]:
    order = np.argsort(keys, kind="stable")
    kept = ~np.isnan(keys[order])
    if folds is not None:
        kept &= np.isin(recording.fold_of[order], folds)
    return np.asarray(order[kept])
