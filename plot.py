"""Plots of results: functions that take a result and an ``ax``, and return the axes.

They need matplotlib (``pip install 'fusiform[figures]'``). Without ``ax`` they draw a new figure.
"""

from fusiform.engine.plotting.best import best_images
from fusiform.engine.plotting.brains import regions
from fusiform.engine.plotting.depth import by_depth
from fusiform.engine.plotting.in_layer import (
    confusion,
    consistency,
    distributions,
    map,
    overlap,
)
from fusiform.engine.plotting.lesions import lesions
from fusiform.engine.plotting.localizers import localizers
from fusiform.engine.plotting.training import training
from fusiform.engine.plotting.tuning import tuning

__all__ = [
    "best_images",
    "by_depth",
    "confusion",
    "consistency",
    "distributions",
    "lesions",
    "localizers",
    "map",
    "overlap",
    "regions",
    "training",
    "tuning",
]
