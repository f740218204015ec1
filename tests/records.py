"""Records of an answer in long form, put together again."""

from __future__ import annotations

import json
from typing import Any


def rows_of(text: str, fold: int | None = None) -> list[dict[str, Any]]:
    """The rows of ``summary`` or ``select --format json``: a dict per layer and contrast."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for one in json.loads(text):
        if one["fold"] == fold:
            own = {name: one[name] for name in ("store", "criterion", "layer", "contrast")}
            row = rows.setdefault(tuple(own.values()), own)
            assert one["quantity"] not in row
            row[one["quantity"]] = one["value"]
    return list(rows.values())
