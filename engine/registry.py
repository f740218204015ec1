"""The registry of the store: its arrays, its stimulus table, and the measures of a contrast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 4
RECORDING_VERSION = 1
# Types of stored moments.
STORE_DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Variable:
    """One array of the store: its leading dimensions, type and meaning."""

    leading: tuple[str, ...]
    dtype: str
    long_name: str
    formula: str = ""
    units: str = "1"

    def attributes(self) -> dict[str, Any]:
        """Attributes of the array, for readers without fusiform."""
        formula = {"formula": self.formula} if self.formula else {}
        return {"long_name": self.long_name, "units": self.units, **formula}


# The stimulus table, a column per array.
STIMULUS_COLUMNS: dict[str, str] = {
    "stimulus_path": "path in the stimulus folder or manifest",
    "stimulus_category": "index of the category",
    "stimulus_fold": "fold, -1 where it was given none",
    "stimulus_sha256": "SHA-256 of the file, nothing where it could not be read",
    "stimulus_status": "shown, or why it was not",
}
# Status of a stimulus that was counted.
SHOWN = "shown"
# Names at the root of the store that no layer can have.
ROOT_NAMES = frozenset(("category", "fold", "count", "stimulus", *STIMULUS_COLUMNS))

MOMENTS = ("mean", "m2")
# Group of a layer with its moments under shuffled labels.
SHUFFLED = "shuffled"
# Names in tables and rules of queries that are no measures.
_QUERIED = frozenset((
    "layer", "unit", "contrast", "category", "fold", "channel", "y", "x", "token", "head", "means",
    "matching", "units", "dead", "nonfinite", "preferred", "selective", "and", "or", "not", "top",
    "by", "chunk", "bound", "variable",
))  # fmt: skip
# Group of a layer with coordinates of its units.
PLACED = "coordinates"
# Smallest and largest value of every chunk, so that queries can skip chunks.
EXTREMES = "extremes"

_WELCH = "(m_a - m_b) / sqrt(v_a / n_a + v_b / n_b), m means, v = m2 / (n - 1), n counts"

# Arrays of a layer's group in the store.
VARIABLES: dict[str, Variable] = {
    "mean": Variable(("category", "fold"), "float64", "mean response", "sum(x) / n"),
    "m2": Variable(
        ("category", "fold"),
        "float64",
        "sum of squared deviations from the mean response",
        "sum((x - mean)**2)",
    ),
    "t": Variable(
        ("category",),
        "float32",
        "Welch t, category against the pooled rest",
        f"{_WELCH}; a the category, b all other stimuli (Welch 1947)",
    ),
    "t_each": Variable(
        ("category",),
        "float32",
        "smallest Welch t, category against each other category",
        f"min over b of {_WELCH}; a the category, b another (Nichols et al. 2005)",
    ),
    "q_each": Variable(
        ("category",),
        "float32",
        "Benjamini-Hochberg q within the layer, category against each",
        "of the largest p of the t that t_each is the smallest of (Benjamini & Hochberg 1995)",
    ),
    "csi": Variable(
        ("category",),
        "float32",
        "Category Selectivity Index",
        "(a - b) / (|a| + |b|), a the category's mean response, b the mean of the other "
        "categories' means; 0 where both are 0",
    ),
    "selective": Variable(("category",), "bool", "unit meets the criterion on all stimuli"),
    "selective_fold": Variable(
        ("category", "fold"), "bool", "unit meets the criterion on this fold's stimuli alone"
    ),
    "dead": Variable((), "bool", "constant over all stimuli"),
    "nonfinite": Variable((), "bool", "NaN or infinite for some stimulus; never selective"),
}

# Measures of a unit under a contrast, by their names in rules and saved variables.
# Formulas and sources: docs/reference/definitions.md.
MEASURES: dict[str, str] = {
    "t": "t of the criterion's test",
    "p": "p of t",
    "log10_p": "log10 of p, also where p is too small for a double",
    "q": "p corrected for the number of tests in the family",
    "p_null": "share of t under shuffled labels that is as large or larger",
    "csi": "Category Selectivity Index, (a - b) / (|a| + |b|), a the mean of the target's category "
    "means, b that of the baseline's",
    "csi_pooled": "as csi, a and b the means of all stimuli of a side",
    "csi_strongest": "as csi, b the largest of the baseline's category means",
    "csi_clamped": "as csi, negative a and b taken as 0",
    "d_prime": "difference of means over the root of the mean variance of target and baseline",
    "cohens_d": "difference of means over the pooled standard deviation",
    "hedges_g": "Cohen's d corrected for small samples",
    "auc_normal": "area under the ROC curve if responses were normal",
    "ratio": "response to the target over response to the baseline",
    "log_ratio": "log2 of the ratio of responses",
    "response": "mean response to the target's categories",
    "baseline_response": "mean response to the baseline's categories",
    "f": "F of a one-way analysis of variance over all categories",
    "p_f": "p of F",
    "eta_squared": "share of the variance that lies between all categories",
    "class_selectivity": "as csi, a the largest category mean, b the mean of all others",
    "category_sparseness": "lifetime sparseness over categories, of the category means",
    "margin": "largest category mean above the next",
    "preferred_category": "index of the category with the largest mean",
}

# Measures that stores were saved with under another name; they are read, and no longer computed.
FORMER_MEASURES = ("sparseness",)  # category_sparseness
# Measures saved with a contrast by default, beside its masks.
SAVED = ("t", "log10_p", "q", "csi", "d_prime")
# Measures not saved as float32.
MEASURE_TYPES: dict[str, str] = {"preferred_category": "int32"}

# What a store says of the weights of an untrained network, before the seed.
UNTRAINED = "untrained, seed "
# Preprocessing of a store whose stimuli were shown as they were given.
AS_GIVEN: dict[str, str] = {"inputs": "as given"}
# Random projections kept of a layer's answers to fixed images.
PROJECTIONS = 3


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """Distance between two answers of a layer, relative to the larger norm.

    An answer is a norm followed by ``PROJECTIONS`` random projections.
    """
    size = max(one[0], other[0])
    own, its = (values[1 : 1 + PROJECTIONS] for values in (one, other))
    distance = math.dist(own, its) / math.sqrt(PROJECTIONS)
    return max(abs(one[0] - other[0]), distance) / size if size else 0.0


def is_coordinate_name(name: Any) -> bool:
    """Whether a coordinate of units can have this name, beside all that queries and tables name."""
    taken = {*VARIABLES, *MEASURES, *FORMER_MEASURES, *_QUERIED}
    return (
        isinstance(name, str)
        and len(name) <= 100
        and name.isidentifier()
        and name not in taken
        and not name.startswith("axis_")
    )
