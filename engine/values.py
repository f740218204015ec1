"""Values as JSON holds them, as lists, and as mappings that do not change."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar

from .urls import without_credentials

# Forms of an answer: printed for people, or a file of one table.
Format = Literal["table", "csv", "json", "parquet", "npz"]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class FrozenMapping(Mapping[_Key, _Value]):
    """An immutable mapping; equal to another with the same items in the same order."""

    def __init__(self, items: Mapping[_Key, _Value]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: _Key) -> _Value:
        return self._items[key]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def as_record(value: Any) -> dict[str, Any]:
    """A frozen value as plain JSON types, for provenance and fingerprints."""
    return asdict(value)


def in_json(value: Any) -> Any:
    """A value of plain types and arrays, in types of strict JSON.

    Infinities become "Infinity" and "-Infinity" and NaN becomes null, so that the most selective
    unit does not read as missing. URLs lose their credentials.
    """
    if hasattr(value, "tolist"):  # NumPy, without loading it
        value = value.tolist()
    if isinstance(value, Mapping):
        return {name: in_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(one) for one in value]
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON for people and programs; see :func:`in_json`."""
    return json.dumps(in_json(value), indent=indent, allow_nan=False)


def listed(given: Any) -> list[Any]:
    """A list of one or several values; a text counts as one."""
    if isinstance(given, str | Path) or not isinstance(given, Iterable):
        return [given]
    return list(given)
