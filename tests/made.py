"""A synthetic store of random responses; each unit prefers one category or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from fusiform.engine.contrasts import select
from fusiform.engine.layer import Layer
from fusiform.engine.store.store_reader import StoreReader
from fusiform.engine.store.writing.creating import create_store
from fusiform.engine.store.writing.store_draft import StoreDraft
from fusiform.kernels.moments import Moments

LAYERS = (
    Layer("layer1.0", "BasicBlock", ("channel", "y", "x"), (5, 3, 2), "float32"),
    Layer("encoder.ln", "LayerNorm", ("token", "channel"), (4, 6), "float32"),
    Layer("head", "Linear", ("unit",), (11,), "float32"),
)
CATEGORIES = ("faces", "bodies", "<b>words</b>", "scenes")
COUNTS = np.array([[12, 11], [9, 9], [10, 12], [11, 13]])


def samples(layer: Layer) -> list[list[np.ndarray]]:
    """Responses ``[category][fold] [stimulus, unit]``; a fifth of the units prefer each."""
    rng = np.random.default_rng(len(layer.name))
    drawn = []
    for k in range(len(CATEGORIES)):
        preferred = 2.0 * (np.arange(layer.units) % (len(CATEGORIES) + 1) == k)
        drawn.append([rng.normal(preferred, 1, (n, layer.units)) for n in COUNTS[k]])
    for groups in drawn:
        for group in groups:
            group[:, 0] = 0.5  # a dead unit
    return drawn


def contents(layers: Sequence[Layer] = LAYERS, counts: np.ndarray = COUNTS) -> dict[str, Any]:
    """Arguments of ``create_store`` for the synthetic store."""
    # One row per stimulus, in plan order.
    table = np.repeat(np.argwhere(counts), counts.ravel(), axis=0)
    return {
        "layers": layers,
        "categories": CATEGORIES,
        "counts": counts,
        "stimuli": {
            "stimulus_path": [f"é/{i}.png" for i in range(len(table))],
            "stimulus_category": table[:, 0],
            "stimulus_fold": table[:, 1],
            "stimulus_sha256": [f"{i:064x}" for i in range(len(table))],
            "stimulus_status": ["shown"] * len(table),
        },
        "provenance": {"model": "made-up", "weights": "none"},
    }


def write(
    draft: StoreDraft,
    layers: Sequence[Layer] = LAYERS,
    drawn: Callable[[Layer], list[list[np.ndarray]]] = samples,
) -> None:
    """Write the moments of the responses, and the contrasts."""
    for layer in layers:
        for category, folds in enumerate(drawn(layer)):
            for fold, x in enumerate(folds):
                mean, m2 = x.mean(0).reshape(layer.shape), ((x - x.mean(0)) ** 2).sum(0)
                draft.write_moments(
                    layer, category, fold, Moments(len(x), mean, m2.reshape(layer.shape))
                )
    select.materialise(draft)


def fill(
    path: Path,
    layers: Sequence[Layer] = LAYERS,
    drawn: Callable[[Layer], list[list[np.ndarray]]] = samples,
) -> StoreDraft:
    """Write a finished synthetic store."""
    counts = np.array([[len(group) for group in folds] for folds in drawn(layers[0])])
    draft = create_store(path, **contents(layers, counts))
    write(draft, layers, drawn)
    draft.complete()
    return draft


def moments_of(store: StoreReader, layer: Layer, category: int, fold: int) -> Moments:
    """Moments of one category and fold: ``mean, m2 [*layer dims]``."""
    own = slice(category, category + 1), slice(fold, fold + 1)
    ((_, moments),) = store.moments_between(layer, *own)
    return moments


def annotate(path: Path, **attributes: Any) -> None:
    """Change attributes of a store's root."""
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs.update(attributes)
