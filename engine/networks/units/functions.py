"""A user's own function from a layer's activation to its units, such as a sparse autoencoder.

The name ``package.module:function`` is imported wherever the network runs, on workers too.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import torch

from ...errors import UserError, users_code
from ...layer import DTYPES
from ...plugins import imported

_RULE = "units are made by"
_UNCHANGED = "a function of units leaves the activation as it is"
# Largest difference of a stimulus's units between two batches, relative to the norm of the batch.
_ROUNDING = 0.05


def called(name: str, activation: torch.Tensor) -> torch.Tensor:
    """Units ``[stimulus, ...]`` that a function makes of an activation ``[stimulus, ...]``.

    Raises
    ------
    UserError : it cannot be imported, fails, changes the activation, or does not return a
        floating-point tensor with one row per stimulus
    """
    function, version = imported(name, _RULE), activation._version
    with users_code(
        lambda kind, why: (
            f"a function of units takes an activation; {name} raised {kind} for "
            f"{list(activation.shape)} ({why}): fix it, or choose other `layers`"
        )
    ):
        units = function(activation)
    if activation._version != version:
        raise UserError(f"{_UNCHANGED}; {name} changes it in place: let it work on a copy")
    if not isinstance(units, torch.Tensor):
        came = type(units).__name__
    elif units.device != activation.device:
        came = f"one on {units.device} for {activation.device}"
    elif str(units.dtype).removeprefix("torch.") not in DTYPES or units.layout != torch.strided:
        came = f"{units.dtype} ({units.layout})"
    elif units.ndim < 2 or len(units) != len(activation) or not units[0].numel():
        came = f"shape {list(units.shape)} for {len(activation)} stimuli"
    else:
        return units.detach()
    raise UserError(
        "a function of units returns a floating-point tensor [stimulus, unit, ...] with one row "
        f"per stimulus; {name} returned {came}: fix it"
    )


def tried(name: str, activation: torch.Tensor) -> torch.Tensor:
    """Units as :func:`called` returns them, of a function that is tried on noise.

    Raises
    ------
    UserError : see :func:`called`; the function changes the activation by a way around torch, or
        gives a stimulus other units beside other stimuli or when it is called again
    """
    before = activation.clone()
    units = called(name, activation)
    if not torch.allclose(activation, before, rtol=0, atol=0, equal_nan=True):
        raise UserError(f"{_UNCHANGED}; {name} changes it in place: let it work on a copy")
    alone = called(name, activation[:1].clone())
    if units.shape[1:] == alone.shape[1:] and not _about_same(units, alone):
        raise UserError(
            f"a function of units gives the same for a stimulus in every batch; {name} does not: "
            "take nothing from other stimuli or calls, and draw nothing at random"
        )
    return units


def _about_same(units: torch.Tensor, alone: torch.Tensor) -> bool:
    """Whether the first row of units differs from the same ``alone`` by rounding at most."""
    apart = torch.linalg.vector_norm(units[:1].double() - alone.double())
    return not apart > _ROUNDING * torch.linalg.vector_norm(units.double())  # NaN says nothing


def source_sha256(name: str) -> str:
    """SHA-256 of the file that defines the function; of its name where there is no such file.

    Raises
    ------
    UserError : it cannot be imported
    """
    function = imported(name, _RULE)
    defined = inspect.unwrap(function) if inspect.isroutine(function) else type(function)
    try:
        source = Path(inspect.getfile(defined)).read_bytes()
    except (TypeError, OSError):  # built in, or from no file
        source = name.encode()
    return hashlib.sha256(source).hexdigest()
