"""What a second pass gives: a recording, which answers questions about single stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest
from ..store.recording import Recorded
from ..store.root import require_complete
from ..variables import SHOWN

if TYPE_CHECKING:
    import dask.array


class Recording(Recorded):
    """Responses of chosen units to every stimulus, read when they are asked for.

    ``path`` is its folder or URL; ``layers``, ``categories``, ``folds`` and ``counts [category,
    fold]`` describe it, ``choices`` say by what units were chosen, ``provenance`` how it came
    about. Rows are stimuli in the order in which they were shown: category by category, fold by
    fold, those that could not be shown last, with NaN for responses.
    """

    def responses(self, layer: str) -> dask.array.Array:
        """A layer's responses ``[stimulus, unit]``, float32, as a lazy dask array of columns.

        Where the layer was projected they are ``[stimulus, dimension]``.
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
        """The responses of one unit ``[stimulus]``, by its place in the flat layer.

        Raises
        ------
        UserError : it is not recorded
        """
        column = self.column(layer, unit)
        return self.part(layer, slice(column, column + 1))[:, 0]

    def column(self, layer: str, unit: int) -> int:
        """The column of a unit, by its place in the flat layer.

        Raises
        ------
        UserError : it is not recorded, or the layer was projected
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
        """The columns of the units that a choice (a contrast, ``random``, ``mask``) has chosen.

        Raises
        ------
        UserError : there was no such choice, or the layer was projected
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
        """Which stimuli were shown ``[stimulus]``."""
        return np.asarray(self.stimuli("stimulus_status") == SHOWN)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The category of every stimulus ``[stimulus]``, as an index."""
        return np.asarray(self.stimuli("stimulus_category"), np.int64)

    @cached_property
    def fold_of(self) -> NDArray[np.int64]:
        """The fold of every stimulus ``[stimulus]``; -1 where it was given none."""
        return np.asarray(self.stimuli("stimulus_fold"), np.int64)

    def rows_of(self, categories: Sequence[int], fold: int | None = None) -> NDArray[np.int64]:
        """The stimuli of some categories that were shown, of all folds or one, in order."""
        own = self.shown & np.isin(self.labels, list(categories))
        if fold is not None:
            own &= self.fold_of == fold
        return np.flatnonzero(own)


def open_recording(path: Path | str) -> Recording:
    """Open a recording for reading; nothing but metadata is read.

    Parameters
    ----------
    path : a folder, or the URL of an object store or web server

    Raises
    ------
    UserError : ``path`` is no recording, one of another schema version, or not finished
    """
    found = Recording.open(path)
    require_complete(found)
    return found


def most(recording: Recording, layer: str, unit: int, n: int) -> NDArray[np.int64]:
    """The ``n`` stimuli that drive a unit most, the strongest first, as rows of the recording.

    ``unit`` is its place in the flat layer. Of equals the first come first; NaN aside.

    Raises
    ------
    UserError : the unit is not recorded
    """
    return _ranked(-recording.unit(layer, unit))[:n]


def least(recording: Recording, layer: str, unit: int, n: int) -> NDArray[np.int64]:
    """The ``n`` stimuli that drive a unit least, the weakest first; as :func:`most`."""
    return _ranked(recording.unit(layer, unit))[:n]


def _ranked(keys: NDArray[Any]) -> NDArray[np.int64]:
    order = np.argsort(keys, kind="stable")
    return np.asarray(order[~np.isnan(keys[order])])
