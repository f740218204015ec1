"""Bounds of numbers, seeds and sizes in bytes, checked before any work."""

from __future__ import annotations

import re
from numbers import Integral
from typing import Any

from .errors import UserError

# Largest sensible value of a parameter, and why. A larger one is taken for a typing error.
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
    "draws": (10_000, "each silences units once more for every stimulus"),
    "bins": (100_000, "more are no histogram that anyone reads"),
    "top": (2**31 - 1, "no layer has more units"),
    "random": (2**31 - 1, "no layer has more units"),
    "project": (2**31 - 1, "no layer has more units"),
    "images": (2**31 - 1, "no set has more stimuli"),
    "scan_images": (2**31 - 1, "no set has more stimuli"),
    "repeats": (10_000, "more take days"),
    "array_units": (2**31 - 1, "no layer has more units"),
}
_MOST_SEED = 2**63 - 1
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def refuse_numbers(**numbers: Any) -> None:
    """Raise for values that are not whole numbers or exceed ``BOUNDS``; None passes.

    Raises
    ------
    UserError : a value is not a whole number, or too large
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
    """Raise unless ``seed`` is a whole number from 0 to 2**63 - 1.

    Raises
    ------
    UserError : it is not
    """
    if not isinstance(seed, Integral) or int(seed) < 0:
        raise UserError(f"a seed is a whole number, 0 or more; got {seed}: choose another")
    if int(seed) > _MOST_SEED:
        raise UserError(f"a seed is a whole number, at most 2**63 - 1; got {seed}: choose another")


def bytes_of(size: str | int) -> int:
    """Parse a size such as ``8GiB``, ``500 MB`` or ``2g``.

    Raises
    ------
    UserError : it is not a size above 0
    """
    if isinstance(size, int):
        found: float = size
    elif not isinstance(size, str):
        raise UserError(f"a memory budget is a number of bytes such as 8GiB; got {size!r}")
    else:
        match = _SIZE.fullmatch(size.strip())
        if match is None or (match[3] and not match[2]):
            raise UserError(f"a memory budget is a number of bytes such as 8GiB; got {size!r}")
        step = _UNITS[match[2].lower()]
        if match[3]:
            step = 1024 ** list(_UNITS).index(match[2].lower())
        found = float(match[1]) * step
    if found < 1:
        raise UserError(f"a memory budget is a number of bytes above 0; got {size!r}")
    return int(found)
