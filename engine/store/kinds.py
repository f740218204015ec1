"""What a root says it is: of a scan, or of a recording."""

from __future__ import annotations

from dataclasses import dataclass

from ..variables import RECORDING_VERSION, SCHEMA_VERSION


@dataclass(frozen=True)
class Kind:
    """A kind of zarr store that fusiform writes: what its root calls itself, and what makes it.

    ``work`` is what fills it, ``under_way`` what its status is meanwhile.
    """

    schema: str
    version: int
    noun: str
    command: str
    work: str
    under_way: str


STORE = Kind("fusiform", SCHEMA_VERSION, "store", "scan", "scan", "scanning")
RECORDING = Kind(
    "fusiform recording", RECORDING_VERSION, "recording", "record", "recording", "recording"
)
