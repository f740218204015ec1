"""The frozen values that all rooms of the engine speak in, and the registry of the store's names.

Nothing here imports torch, zarr or dask: the command line can afford to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from .errors import UserError
from .urls import without_credentials

SCHEMA_VERSION = 3
# Of a recording, which is a store of its own.
RECORDING_VERSION = 1
# Sums by random weights that are kept of a layer's answers to fixed images.
PROJECTIONS = 3

INTERPOLATIONS: tuple[str, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
# What decodes JPEG files -> how it can resize them. Anything else is decoded by Pillow.
DECODERS: dict[str, tuple[str, ...]] = {
    "pillow": INTERPOLATIONS,
    "torchvision": ("bilinear", "bicubic"),
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """From an upright 8-bit picture to the network's input, the same for every network.

    The shorter side is resized to ``resize`` pixels (antialiased; with ``squash`` both sides are,
    whatever the proportions), the central ``crop`` x ``crop`` square is cut out (a side that is
    shorter is padded with black), values are scaled to [0, 1], and ``mean`` and ``std`` (per RGB
    channel) normalise them. ``decoder`` reads JPEG files: ``pillow``, or ``torchvision``, whose
    pixels differ from Pillow's by rounding.
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    squash: bool = False
    decoder: str = "pillow"

    def __post_init__(self) -> None:
        refuse_numbers(resize=self.resize, crop=self.crop)
        if self.resize < 1 or self.crop < 1:
            raise UserError(
                f"resize and crop are numbers of pixels, at least 1; "
                f"got resize {self.resize}, crop {self.crop}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"interpolation is one of {', '.join(INTERPOLATIONS)}; got {self.interpolation!r}"
            )
        if self.decoder not in DECODERS:
            raise UserError(f"a decoder is {' or '.join(DECODERS)}; got {self.decoder!r}")
        if self.interpolation not in (known := DECODERS[self.decoder]):
            raise UserError(
                f"{self.decoder} resizes by {' or '.join(known)}; got {self.interpolation}: choose "
                "another --interpolation, or leave out --decoder"
            )
        if not _are_normal(self.mean, -1e6) or not _are_normal(self.std, 1e-6):
            raise UserError(
                f"mean and std are three numbers each (R, G, B), std above 0; "
                f"got mean {self.mean}, std {self.std}: values are in [0, 1] before, so that more "
                "than 1e6, or a std below 1e-6, is a slip"
            )

    def __str__(self) -> str:
        def listed(values: tuple[float, ...]) -> str:
            return " ".join(f"{value:.4g}" for value in values)

        by = "" if self.decoder == "pillow" else f", JPEGs by {self.decoder}"
        return f"{self.geometry}, mean {listed(self.mean)}, std {listed(self.std)}{by}"

    @property
    def geometry(self) -> str:
        """What it does to a picture before values are scaled, in words."""
        how = "squash to" if self.squash else "resize"
        padded = ", padded with black" if self.pads else ""
        return f"{how} {self.resize} ({self.interpolation}), crop {self.crop}{padded}"

    @property
    def pads(self) -> bool:
        """Whether the crop is larger than what images are resized to."""
        return self.crop > self.resize

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a picture is resized to, by torchvision's rules."""
        if self.squash:
            return self.resize, self.resize
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the crop in a resized picture, below 0 where black is laid around it."""

        def start(side: int) -> int:
            spare = side - self.crop
            return -(-spare // 2) if spare < 0 else round(spare / 2.0)

        return start(width), start(height)


def _are_normal(values: Any, least: float) -> bool:
    """Whether these are three finite numbers that pixels can be normalised by."""
    listed = list(values) if isinstance(values, Iterable) else []
    return len(listed) == 3 and all(
        isinstance(one, Real) and least <= float(one) <= 1e6 for one in listed
    )


# The largest numbers that make sense, and why: what is larger is a slip, refused before any work.
BOUNDS: dict[str, tuple[int, str]] = {
    "resize": (8_192, "no network takes larger images"),
    "crop": (8_192, "no network takes larger images"),
    "size": (4_096, "no network takes larger images"),
    "per_category": (100_000, "more would take days to draw"),
    "folds": (10_000, "each needs two images of every category"),
    "null": (1_000_000, "more change no digit of p that is shown"),
    "null_units": (2**31 - 1, "no layer has more units"),
    "batch_size": (1_000_000, "no machine has memory for more"),
    "decode_workers": (1_024, "each is a thread, or a process"),
    "workers": (1_024, "each is a process of this machine"),
    "threads_per_worker": (1_024, "no machine has more cores"),
    "resamples": (1_000_000, "more change no digit that is shown"),
    "rearrangements": (1_000_000, "more change no digit of p that is shown"),
    "bins": (100_000, "more are no histogram that anyone reads"),
    "top": (2**31 - 1, "no layer has more units"),
    "random": (2**31 - 1, "no layer has more units"),
    "project": (2**31 - 1, "no layer has more units"),
    "images": (2**31 - 1, "no set has more stimuli"),
    "repeats": (10_000, "more take days"),
    "units": (2**31 - 1, "no layer has more units"),
}
_MOST_SEED = 2**63 - 1


def refuse_numbers(**numbers: Any) -> None:
    """Refuse what is no whole number, or more than makes sense; None is passed over.

    Raises
    ------
    UserError : see ``BOUNDS``
    """
    for name, value in numbers.items():
        if value is None:
            continue
        most, why = BOUNDS[name]
        said = name.replace("_", " ")
        if not isinstance(value, Integral):
            raise UserError(f"{said} has to be a whole number; got {value!r}")
        if int(value) > most:
            raise UserError(f"{said} may be at most {most:,} ({why}); got {value:,}: choose less")


def refuse_seed(seed: Any) -> None:
    """Refuse what random numbers cannot be drawn from.

    Raises
    ------
    UserError : it is no whole number of 63 bits
    """
    if not isinstance(seed, Integral) or int(seed) < 0:
        raise UserError(f"a seed is a whole number, 0 or more; got {seed}: choose another")
    if int(seed) > _MOST_SEED:
        raise UserError(f"a seed is a whole number, at most 2**63 - 1; got {seed}: choose another")


# What a scan takes as the units of a layer, and what a unit then is.
UNITS: dict[str, str] = {
    "all": "every element of a layer's output",
    "channel": "means over positions, one a channel",
    "token": "means over channels, one a token or place",
    "cls": "channels of the first token",
}
# What a network can be made to compute in.
PRECISIONS: tuple[str, ...] = ("float32", "tf32", "bfloat16", "float16")


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
    def is_nameless(self) -> bool:
        """Whether there are dimensions of which it is not known what they are."""
        return any(dim.startswith("axis_") for dim in self.dims)

    @property
    def state_bytes(self) -> int:
        """Bytes of live state: two float64 sums and a pivot in the activations' precision."""
        pivot = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}[self.dtype]
        return self.units * (16 + pivot)


def dims_of(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a layer's dimensions, as far as its output's ``shape`` for one stimulus tells.

    Of three, the two equal neighbours are space. Where nothing tells, dimensions are ``axis_N``.
    """
    if len(shape) == 1:
        return ("unit",)
    if len(shape) == 2:
        return ("token", "channel")
    if len(shape) == 3:
        first, middle, last = shape
        if first != middle == last:
            return ("channel", "y", "x")
        if first == middle != last > 1:
            return ("y", "x", "channel")
    return tuple(f"axis_{axis}" for axis in range(len(shape)))


@dataclass(frozen=True)
class Variable:
    """One array of the store: its leading dimensions, type, and what it holds."""

    leading: tuple[str, ...]
    dtype: str
    long_name: str
    formula: str = ""
    units: str = "1"

    def attributes(self) -> dict[str, Any]:
        """What a reader without fusiform sees beside the numbers."""
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
# What the status of a stimulus is that is in the counts.
SHOWN = "shown"
# Names at the root of the store, beside which the layers stand.
ROOT_NAMES = frozenset(("category", "fold", "count", "stimulus", *STIMULUS_COLUMNS))

# What numbers the units of a layer.
COORDINATES: dict[str, str] = {
    "channel": "channel, or feature map",
    "y": "row, from the top",
    "x": "column, from the left",
    "token": "place in the sequence",
    "unit": "unit",
}

# The types that moments are kept in.
STORE_DTYPES = ("float64", "float32")
MOMENTS = ("mean", "m2")
# The group of a layer that holds its moments under shuffled labels.
SHUFFLED = "shuffled"
# Smallest and largest value of every chunk: what a query need not read.
EXTREMES = "extremes"

_WELCH = "(m_a - m_b) / sqrt(v_a / n_a + v_b / n_b), m means, v = m2 / (n - 1), n counts"

# Every array that a layer's group of the store may hold.
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


# What can be asked of a unit under a contrast, by the names of rules and of saved variables.
# Formulas and sources: docs/definitions.md.
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
    "ratio": "response to the target over response to the baseline",
    "log_ratio": "log2 of the ratio of responses",
    "response": "mean response to the target's categories",
    "baseline_response": "mean response to the baseline's categories",
    "f": "F of a one-way analysis of variance over all categories",
    "p_f": "p of F",
    "eta_squared": "share of the variance that lies between all categories",
    "class_selectivity": "as csi, a the largest category mean, b the mean of all others",
    "sparseness": "lifetime sparseness of the category means",
    "margin": "largest category mean above the next",
    "preferred_category": "index of the category with the largest mean",
}


# Those that are saved of a contrast beside its masks, unless others are named.
SAVED = ("t", "log10_p", "q", "csi", "d_prime")
# Saved as float32, but for these.
MEASURE_TYPES: dict[str, str] = {"preferred_category": "int32"}


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """How far two answers of a layer are apart, in units of the larger norm; see ``PROJECTIONS``.

    ``one`` and ``other`` are a norm, and sums by random weights.
    """
    size = max(one[0], other[0])
    own, its = (values[1 : 1 + PROJECTIONS] for values in (one, other))
    distance = math.dist(own, its) / math.sqrt(PROJECTIONS)
    return max(abs(one[0] - other[0]), distance) / size if size else 0.0


def as_record(value: Any) -> dict[str, Any]:
    """A frozen value as plain JSON types, for provenance and fingerprints."""
    return asdict(value)


def in_json(value: Any) -> Any:
    """A value of plain types and arrays as strict JSON can hold it.

    JSON has no infinities: they become "Infinity" and "-Infinity", and NaN becomes null, so that
    the most selective unit does not read as one without a value. URLs lose their credentials.
    """
    if hasattr(value, "tolist"):  # of numpy, which is not loaded for this
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
    """All JSON that people and programs are given; see :func:`in_json`."""
    return json.dumps(in_json(value), indent=indent, allow_nan=False)


def listed(given: Any) -> list[Any]:
    """Several, of which one may stand by itself: a text is what it names, never its letters."""
    if isinstance(given, str | Path) or not isinstance(given, Iterable):
        return [given]
    return list(given)
