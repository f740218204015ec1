"""What a result is a result of: the fingerprint under which stores may be merged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import SHOWN

# Attributes of the root that determine the numbers, beside the stimuli.
IDENTITY: dict[str, str] = {
    "model": "network",
    "weights_sha256": "weights",
    "modules_sha256": "modules",
    "preprocessing": "preprocessing",
    "layers": "layers",
    "categories": "categories",
    "folds": "folds",
    "batch_size": "batch size",
    "device_type": "kind of device",
    "store_dtype": "precision of the store",
    "null": "shuffled labels",
}


def fingerprint(provenance: Mapping[str, Any], stimuli: Mapping[str, Sequence[Any]]) -> str:
    """SHA-256 of everything that determines a result.

    ``provenance`` are the attributes of a store's root, ``stimuli`` the columns of its stimulus
    table, of which those that were shown count: together they also give the order of showing.
    """
    columns = ("sha256", "category", "fold", "status")
    rows = zip(*(stimuli[f"stimulus_{column}"] for column in columns), strict=True)
    identity = {name: provenance[name] for name in IDENTITY if name in provenance}
    identity["stimuli"] = [
        [digest, int(k), int(f)] for digest, k, f, status in rows if status == SHOWN
    ]
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
