"""Recordings as xarray datasets, pandas frames and AnnData: stimuli by units, with their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import blocks
from ..errors import UserError
from ..table import NOWHERE, Labels, Table, joined
from ..texts import in_bytes
from .frames import units_of

if TYPE_CHECKING:
    import anndata
    import pandas
    import xarray

    from .recording import Recording


def to_xarray(recording: Recording, layers: str | Sequence[str] = "*") -> xarray.Dataset:
    """See :meth:`.recording.Recording.to_xarray`."""
    import xarray
    from dask import array as dask_array

    units = _units(recording, layers)
    names = _layers(recording, layers)
    response = dask_array.concatenate(  # type: ignore[no-untyped-call]
        [recording.responses(name) for name in names], axis=1
    )
    chosen = np.concatenate([recording.chosen(name) for name in names], axis=1)
    stimuli = {name: values.astype(str) if values.dtype == object else values
               for name, values in _stimuli(recording).columns.items()}  # fmt: skip
    along = {"layer": units["layer"].astype(str), "unit": units["unit"].astype(np.int64)}
    along |= {dim: _with_nan(units[dim]) for dim in units.stored if dim not in along}
    return xarray.Dataset(
        {"response": (("stimulus", "unit"), response), "chosen": (("choice", "unit"), chosen)},
        {
            **{name: ("stimulus", values) for name, values in stimuli.items()},
            **{name: ("unit", values) for name, values in along.items()},
            "choice": list(recording.choices),
        },
        _source(recording),
    )


def to_frame(recording: Recording, layers: str | Sequence[str] = "*") -> pandas.DataFrame:
    """See :meth:`.recording.Recording.frame`."""
    import pandas

    values, units = _values(recording, layers), _units(recording, layers)
    stimuli = _stimuli(recording).without("shown").frame()
    return pandas.DataFrame(
        values,
        pandas.MultiIndex.from_frame(stimuli),
        pandas.MultiIndex.from_frame(units.frame()),
    )


def to_anndata(recording: Recording, layers: str | Sequence[str] = "*") -> anndata.AnnData:
    """See :meth:`.recording.Recording.to_anndata`."""
    try:
        from anndata import AnnData
    except ImportError:
        raise UserError("AnnData needs anndata: pip install 'fusiform[anndata]'") from None
    import pandas

    values, units = _values(recording, layers), _units(recording, layers).columns
    stimuli = _stimuli(recording).frame().set_index("stimulus")
    stimuli["category"] = pandas.Categorical(stimuli["category"], recording.categories)
    stimuli.index.name = None
    names = [f"{layer}:{unit}" for layer, unit in zip(units["layer"], units["unit"], strict=True)]
    places = {name: own if own.dtype == object else _with_nan(own) for name, own in units.items()}
    chosen = [recording.chosen(name) for name in _layers(recording, layers)]
    return AnnData(
        values,
        obs=stimuli,
        var=pandas.DataFrame(places, index=names),
        varm={"chosen": np.concatenate(chosen, axis=1).T},
        uns={"choices": np.array(recording.choices, object), **_source(recording)},
    )


def _layers(recording: Recording, layers: str | Sequence[str]) -> list[str]:
    """Names of layers; raise if one was projected."""
    names = [layer.name for layer in recording.layers_named(layers)]
    for name in names:
        recording.require_units(name)
    return names


def _source(recording: Recording) -> dict[str, Any]:
    """Where the responses come from."""
    names = ("model", "weights", "fingerprint")
    return {name: recording.provenance[name] for name in names if name in recording.provenance}


def _stimuli(recording: Recording) -> Table:
    """The stimuli in order: path, category, fold, and whether they were shown."""
    return Table(
        {
            "stimulus": [str(path) for path in recording.stimulus_column("stimulus_path")],
            "category": Labels(recording.labels.astype(np.int32), recording.categories),
            "fold": recording.fold_of,
            "shown": recording.shown,
        }
    )


def _units(recording: Recording, layers: str | Sequence[str]) -> Table:
    """The layer, index and place of every recorded unit, along dimensions that any layer has."""
    names = _layers(recording, layers)
    found = joined([units_of(recording, name, recording.units(name)) for name in names])
    dims = {dim for name in names for dim in recording.layer(name).dims}
    return found.without(*(set(recording.dims) - dims - {"unit"}))


def _values(recording: Recording, layers: str | Sequence[str]) -> NDArray[np.float32]:
    """Responses ``[stimulus, unit]``.

    Raises
    ------
    UserError : they do not fit in memory
    """
    names = _layers(recording, layers)
    units = sum(recording.recorded(name).units for name in names)
    size, room = 4 * recording.schema.stimuli * units, blocks.room(whole=True)
    if 2 * size > room:
        raise UserError(
            f"responses of {units:,} units to {recording.schema.stimuli:,} stimuli take "
            f"{in_bytes(2 * size)} to convert; got {in_bytes(room)} of memory{blocks.whose()}: "
            "choose fewer `layers`, or read them lazily with to_xarray"
        )
    found = np.empty((recording.schema.stimuli, units), np.float32)
    start = 0
    for name in names:
        for columns in recording.blocks(name):
            part = recording.part(name, columns)
            found[:, start : start + part.shape[1]] = part
            start += part.shape[1]
    return found


def _with_nan(places: NDArray[Any]) -> NDArray[Any]:
    """Indices along a dimension; NaN for units of layers that lack it."""
    nowhere = places == NOWHERE
    return np.where(nowhere, np.nan, places) if nowhere.any() else places.astype(np.int64)
