"""What a result is a result of: the fingerprint under which stores may be merged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

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


def fingerprint(
    provenance: Mapping[str, Any],
    sha256: Sequence[str],
    category: Sequence[int],
    fold: Sequence[int],
) -> str:
    """SHA-256 of everything that determines a result.

    ``provenance`` are the attributes of a store's root, the others the columns of its stimulus
    table: together they also give the order of showing.
    """
    identity = {name: provenance[name] for name in IDENTITY if name in provenance}
    identity["stimuli"] = [
        [digest, int(k), int(f)] for digest, k, f in zip(sha256, category, fold, strict=True)
    ]
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
