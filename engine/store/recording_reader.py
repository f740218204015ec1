"""Reading a recording: the responses of chosen units to every stimulus. Never imports torch.

Every layer is a group with ``unit [unit]``, ``chosen [choice, unit]`` and ``response [stimulus,
unit]``; or, if it was projected, ``response [stimulus, projected]`` and ``mean [stimulus]``. The
root is like that of a store. The schema: ``docs/reference/store.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .attributes import recording_schema
from .location import name_of
from .reader import Reader
from .schema import RECORDING, RecordedLayer, RecordingSchema

# Layer name -> indices of its recorded units in the flattened layer.
Units = Mapping[str, NDArray[np.int64]]


def recorded_attribute(units: Units) -> dict[str, Any]:
    """The ``recorded`` attribute: number and SHA-256 of the recorded units of every layer."""
    return {
        name: {
            "units": len(own),
            "sha256": hashlib.sha256(own.astype("<i8").tobytes()).hexdigest(),
        }
        for name, own in units.items()
    }


class RecordingReader(Reader):
    """Reads a recording; responses are read on demand."""

    kind = RECORDING
    schema: RecordingSchema
    _schema_of = staticmethod(recording_schema)

    def __repr__(self) -> str:
        units = sum(own.units for own in self.schema.recorded.values())
        return (
            f"<fusiform.{type(self).__name__} {name_of(self.path)}: {self.provenance['model']} "
            f"({self.provenance['weights']}), {units:,} units of {len(self.layers)} layers, "
            f"{self.schema.stimuli:,} stimuli>"
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """How units were chosen: contrasts as written, ``random``, ``mask``, ``all``."""
        return self.schema.choices

    def recorded(self, layer: str) -> RecordedLayer:
        """Number of recorded units of a layer, and of columns that hold them."""
        return self.schema.recorded[self.layer(layer).name]

    def units(self, layer: str) -> NDArray[np.int64]:
        """The recorded units of a layer.

        Parameters
        ----------
        layer : str
            Name of a layer.

        Returns
        -------
        array of int, [unit]
            Increasing indices in the flattened layer.

        Raises
        ------
        UserError
            The layer is unknown, or the recording is damaged.

        Examples
        --------
        >>> recording = fusiform.open_recording("r18.responses.zarr")
        >>> units = recording.units("layer4.1")
        >>> units.max() < 512 * 2 * 2
        np.True_
        """
        own = self.layer(layer)
        key = f"{own.name}/unit"
        units: NDArray[np.int64] = self._part(key)
        in_order = (np.diff(units) > 0).all()
        if not in_order or units[0] < 0 or units[-1] >= own.units:
            raise self._unreadable(key, "it holds no increasing indices of its layer")
        return units

    def chosen(self, layer: str) -> NDArray[np.bool_]:
        """The units that each of ``choices`` chose ``[choice, unit]``."""
        return self._part(f"{self.layer(layer).name}/chosen")

    def means(self, layer: str) -> NDArray[np.float64]:
        """Mean response to every stimulus over the units of a projected layer ``[stimulus]``."""
        return self._part(f"{self.layer(layer).name}/mean")

    def part(
        self, layer: str, columns: slice = slice(None), rows: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Some columns of a layer's responses ``[stimulus, column]``, to all stimuli or ``rows``.

        NaN for stimuli that were not shown.
        """
        return self._part(f"{self.layer(layer).name}/response", (rows, columns))

    def blocks(self, layer: str) -> Iterator[slice]:
        """The columns of a layer, chunk by chunk: each block is best read together."""
        own = self.layer(layer).name
        width = self._opened(f"{own}/response").grid.chunk[1]
        columns = self.schema.recorded[own].columns
        for start in range(0, columns, width):
            yield slice(start, min(start + width, columns))

    def require_units(self, layer: str) -> None:
        """Raise unless single units of a layer were recorded.

        Raises
        ------
        UserError : the layer was projected
        """
        own = self.recorded(layer)
        if own.projected:
            raise UserError(
                f"this needs the responses of single units; {layer} was recorded as a projection "
                f"of {own.units:,} units to {own.columns:,} dimensions: record fewer units, or "
                "without `project`"
            )
