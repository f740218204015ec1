"""The frozen values that all rooms of the engine speak in, and the registry of the store's names.

Nothing here imports torch, zarr or dask: the command line can afford to.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .errors import UserError

SCHEMA_VERSION = 1

INTERPOLATIONS: tuple[str, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """From an upright 8-bit picture to the network's input, the same for every network.

    The shorter side is resized to ``resize`` pixels (antialiased; with ``squash`` both sides are,
    whatever the proportions), the central ``crop`` x ``crop`` square is cut out, values are scaled
    to [0, 1], and ``mean`` and ``std`` (per RGB channel) normalise them.
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    squash: bool = False

    def __post_init__(self) -> None:
        if self.resize < 1 or self.crop < 1:
            raise UserError(
                f"resize and crop are numbers of pixels, at least 1; "
                f"got resize {self.resize}, crop {self.crop}"
            )
        if self.crop > self.resize:
            raise UserError(
                f"a crop has to fit into the resized image; got crop {self.crop} of "
                f"{self.resize}: lower the crop or raise the resize"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"interpolation is one of {', '.join(INTERPOLATIONS)}; got {self.interpolation!r}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(
                f"mean and std are three numbers each (R, G, B), std above 0; "
                f"got mean {self.mean}, std {self.std}"
            )

    def __str__(self) -> str:
        def listed(values: tuple[float, ...]) -> str:
            return " ".join(f"{value:.4g}" for value in values)

        return (
            f"{'squash to' if self.squash else 'resize'} {self.resize} ({self.interpolation}), "
            f"crop {self.crop}, "
            f"mean {listed(self.mean)}, std {listed(self.std)}"
        )


@dataclass(frozen=True)
class Layer:
    """One recordable layer: a module of the network, and what one stimulus gives there.

    ``dims`` and ``shape`` describe the output without its batch dimension; a unit is one element.
    """

    name: str
    kind: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def units(self) -> int:
        """Number of units."""
        return math.prod(self.shape)

    @property
    def state_bytes(self) -> int:
        """Bytes of live state: two float64 sums and a pivot in the activations' precision."""
        pivot = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}[self.dtype]
        return self.units * (16 + pivot)


@dataclass(frozen=True)
class Criterion:
    """When a unit counts as selective for a category.

    ``contrast`` is ``each`` (Welch against each other category, all of which must hold) or ``rest``
    (Welch against all other categories pooled). The unit is selective when its t is above 0 and its
    Benjamini-Hochberg q within the layer at most ``q``; or, where ``t`` is given, when its t is
    above ``t`` (0 or more).
    """

    contrast: Literal["each", "rest"] = "each"
    q: float = 0.05
    t: float | None = None

    def __post_init__(self) -> None:
        if self.contrast not in ("each", "rest"):
            raise UserError(f"a criterion's contrast is each or rest; got {self.contrast!r}")
        if not 0 < self.q < 1:
            raise UserError(f"q is a false discovery rate between 0 and 1; got {self.q}")
        if self.t is not None and not self.t >= 0:
            raise UserError(f"a selective unit's t is above 0; got the threshold t {self.t}")

    def __str__(self) -> str:
        against = "each other category" if self.contrast == "each" else "the pooled rest"
        rule = f"BH q <= {self.q:g} in the layer" if self.t is None else f"t > {self.t:g}"
        return f"Welch t against {against}, {rule}"


@dataclass(frozen=True)
class Variable:
    """One array of the store: its leading dimensions, type, and what it holds."""

    leading: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"

    def attributes(self) -> dict[str, Any]:
        """What a reader without fusiform sees beside the numbers."""
        return {"long_name": self.long_name, "units": self.units}


STIMULUS_COLUMNS = ("stimulus_path", "stimulus_category", "stimulus_fold", "stimulus_sha256")
# Names at the root of the store, beside which the layers stand.
ROOT_NAMES = frozenset(("category", "fold", "count", "stimulus", *STIMULUS_COLUMNS))

# Every array that a layer's group of the store may hold.
VARIABLES: dict[str, Variable] = {
    "mean": Variable(("category", "fold"), "float64", "mean response"),
    "m2": Variable(
        ("category", "fold"), "float64", "sum of squared deviations from the mean response"
    ),
    "t": Variable(("category",), "float32", "Welch t, category against the pooled rest"),
    "t_each": Variable(
        ("category",), "float32", "smallest Welch t, category against each other category"
    ),
    "q_each": Variable(
        ("category",), "float32", "Benjamini-Hochberg q within the layer, category against each"
    ),
    "csi": Variable(
        ("category",),
        "float32",
        "Category Selectivity Index, (a - b) / (|a| + |b|), a the category's mean response, b the "
        "mean of the other categories' means",
    ),
    "selective": Variable(("category",), "bool", "unit meets the criterion on all stimuli"),
    "selective_fold": Variable(
        ("category", "fold"), "bool", "unit meets the criterion on this fold's stimuli alone"
    ),
    "dead": Variable((), "bool", "constant over all stimuli"),
    "nonfinite": Variable((), "bool", "NaN or infinite for some stimulus; never selective"),
}


def as_record(value: Any) -> dict[str, Any]:
    """A frozen value as plain JSON types, for provenance and fingerprints."""
    return asdict(value)
