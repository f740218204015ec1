"""Readouts: numbers that a network's output gives for every stimulus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..analyses.resampling import Floats
from ..errors import UserError, users_code
from ..networks.inputs import Inputs, called
from ..networks.modules import single_tensor
from ..plugins import imported
from .result import CLASSES, QUANTITIES

# Modules whose output a network returns as class scores or probabilities.
_LAST = (nn.Linear, nn.Conv2d, nn.Softmax, nn.LogSoftmax)
# Largest difference from 1 of a sum of probabilities.
_ROUNDING = 1e-3


class Readout(Protocol):
    """Numbers for every stimulus of a batch.

    Attributes
    ----------
    quantities : their names; empty before the first batch
    """

    quantities: tuple[str, ...]

    def values(self, intact: Any, lesioned: Any, categories: Sequence[str]) -> Floats:
        """Values ``[stimulus, quantity]`` of an output of the lesioned network.

        ``intact`` is that of the intact network for the same stimuli, and may be the same object;
        ``categories`` are those of the stimuli.
        """


class ClassProbabilities:
    """Changes of the probabilities of classes, by softmax of the network's scores.

    For probabilities p of the intact and q of the lesioned network, and the class k of the largest
    p: q_k; whether k has the largest q; and the total variation distance sum |p - q| / 2.
    """

    quantities = tuple(QUANTITIES)

    def values(self, intact: Any, lesioned: Any, categories: Sequence[str]) -> Floats:
        """See :meth:`Readout.values`."""
        del categories
        p, q = _probabilities(intact), _probabilities(lesioned)
        rows, chosen = np.arange(len(p)), p.argmax(axis=1)
        same = q.argmax(axis=1) == chosen
        return np.stack([q[rows, chosen], same, np.abs(p - q).sum(axis=1) / 2], axis=1)


class Function:
    """A user's function of the network's output and the stimuli's categories."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.quantities: tuple[str, ...] = ()
        self._function = imported(name, "a readout is made by")

    def values(self, intact: Any, lesioned: Any, categories: Sequence[str]) -> Floats:
        """See :meth:`Readout.values`.

        Raises
        ------
        UserError : the function fails, or does not return finite numbers, a row for every stimulus
        """
        del intact
        with users_code(
            lambda kind, why: (
                f"a readout takes a network's output and the stimuli's categories; {self._name} "
                f"raised {kind} ({why}): fix it"
            )
        ):
            found = self._function(lesioned, list(categories))
            if isinstance(found, torch.Tensor):
                found = found.detach().cpu()
            given = np.asarray(found)
        values = self._checked(given, len(categories))
        name = self._name.rpartition(":")[2]
        several = values.shape[1] > 1
        self.quantities = (
            tuple(f"{name}[{k}]" for k in range(values.shape[1])) if several else (name,)
        )
        return values

    def _checked(self, given: Any, stimuli: int) -> Floats:
        numbers = given.dtype.kind in "fiub"
        own = f"shape {list(given.shape)} for {stimuli} stimuli" if numbers else f"{given.dtype}"
        if numbers and given.ndim in (1, 2) and len(given) == stimuli and given[:1].size:
            values: Floats = given.astype(np.float64).reshape(stimuli, -1)
            known = len(self.quantities)
            if np.isfinite(values).all() and values.shape[1] == (known or values.shape[1]):
                return values
            own = f"{values.shape[1]} numbers, and {known} before" if known else "NaN or infinity"
        raise UserError(
            "a readout returns finite numbers [stimulus] or [stimulus, quantity], as many of each "
            f"stimulus in every batch; {self._name} returned {own}: fix it"
        )


def readout_of(name: str | None, model: nn.Module, sample: torch.Tensor | Inputs) -> Readout:
    """The readout of this name: a function's, or class probabilities.

    Without a name it is tried on ``sample`` whether the network returns class scores.

    Raises
    ------
    UserError : it does not; a function that cannot be imported
    """
    if name is not None and name != CLASSES:
        return Function(name)
    if name is None:
        came = _not_scores(model, sample)
        if came:
            raise UserError(
                "class probabilities are of a network that ends in class scores; this one returns "
                f"{came}: give a `readout`, package.module:function (or {CLASSES}, if they are "
                "scores)"
            )
    return ClassProbabilities()


def _not_scores(model: nn.Module, sample: torch.Tensor | Inputs) -> str:
    """Describe what a network returns instead of class scores; empty if it returns scores.

    Scores are named ``logits``, or are ``[stimulus, class]`` as a linear layer returns them. The
    features of a network without a head look the same, but come from a norm or a pool.
    """
    makers: dict[int, nn.Module] = {}

    def remember(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            makers[output.data_ptr()] = module

    hooks = [one.register_forward_hook(remember) for one in model.modules() if _is_last(one)]
    try:
        with torch.no_grad():
            output = called(model, sample)
    finally:
        for hook in hooks:
            hook.remove()
    scores = _scores(output)
    if scores is None:
        return f"a {type(output).__name__}"
    if scores is not output or scores.data_ptr() in makers:
        return ""
    return f"{list(scores.shape[1:])} numbers that no linear layer made"


def _is_last(module: nn.Module) -> bool:
    return isinstance(module, _LAST)


def _scores(output: Any) -> torch.Tensor | None:
    """Scores ``[stimulus, class]`` in an output; None if there are none."""
    found = getattr(output, "logits", None)
    if found is None:
        found = single_tensor(output)
    return found if found is not None and found.ndim == 2 and found.shape[1] > 1 else None


def _probabilities(output: Any) -> Floats:
    """Probabilities ``[stimulus, class]``: the softmax of scores, or the output if they are that.

    Raises
    ------
    UserError : the output holds no scores, or some are NaN
    """
    scores = _scores(output)
    if scores is None:
        raise UserError(
            "class probabilities are of scores [stimulus, class]; the network returned a "
            f"{type(output).__name__}: give a `readout`"
        )
    values = scores.detach().cpu().double()
    if values.isnan().any():
        raise UserError("class scores are numbers; the network returned NaN: choose `precision`")
    sums = values.sum(dim=1)
    if bool((values >= 0).all()) and bool(((sums - 1).abs() < _ROUNDING).all()):
        return np.asarray(values)
    return np.asarray(values.softmax(dim=1))
