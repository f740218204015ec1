"""Whether a network gives for an image the same in any batch and at any time: a few passes tell."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from .layers import as_input, named_modules, run, untouched

if TYPE_CHECKING:
    from .behaviour import Answers

# What is to happen when it does not.
ON_NONDETERMINISM = ("note", "stop")
# Of a tensor, so many values of every image are compared.
_VALUES = 1024
# Images that are shown; and the same two of them among others, elsewhere in a larger batch.
_IMAGES, _TWICE, _AMONG_OTHERS, _PLACES = 3, (0, 1), (2, 1, 0), (2, 1)
# Repetitions for a network that draws random numbers: one that leaves out a part of itself one time
# in five does so in all but a thousandth of such probes.
_REPEATS = 30
# Differences by rounding, relative to a tensor's norm: at least, and in units of its precision.
_LEAST, _ULPS = 1e-4, {"run": 4, "batch": 8}
# What rounding may make of the input, and how much more than by that an output has to change.
_NOISE, _MORE = 4e-6, 4


class _Event(NamedTuple):
    """A tensor that a module is given or gives, and the module whose code has made it."""

    module: str
    gives: bool
    call: int
    number: int
    made_by: str


_Events = dict[_Event, torch.Tensor]
_Hear = Callable[[str, int, torch.Tensor], None]


def refuse_on_nondeterminism(given: str) -> None:
    """Refuse what is none of ``ON_NONDETERMINISM``.

    Raises
    ------
    UserError : it is none
    """
    if given not in ON_NONDETERMINISM:
        raise UserError(
            "at a network whose answer depends on the batch or the run a scan is to "
            f"{' or '.join(ON_NONDETERMINISM)}; got {given!r}"
        )


def probe(
    model: nn.Module,
    crop: int,
    layers: Collection[str],
    eps: float = 0,
    answers: Answers | None = None,
) -> str | None:
    """In words, why responses of ``layers`` to an image are not a matter of the image alone.

    The same images are shown twice, or ``_REPEATS`` times if the network draws random numbers, and
    among others in another order and number; None where all differences are such as rounding
    makes. Of precisions, the coarsest that is met counts, or ``eps``. The state of the network and
    of random generators is as before. ``answers`` hear what layers give.
    """
    images = _scenes(model, crop)
    pair = images[list(_TWICE)]
    with untouched(model):
        once, drawn = _shown(model, pair, _TWICE, seed=0, hear=answers.hear if answers else None)
        eps = max([eps, *(torch.finfo(values.dtype).eps for values in once.values())])
        for seed in range(1, 1 + (_REPEATS if drawn else 1)):
            again, _ = _shown(model, pair, _TWICE, seed)
            found = _lost(once, again)
            found += _changed(once, again, max(_LEAST, _ULPS["run"] * eps))
            if answers:
                answers.drop({event.module for event in found if event.gives})
            if touched := _touched(found, layers):
                return (
                    f"warning: shown the same images again, the network gives other numbers, from "
                    f"{_named(model, found[0])} on, in {touched} of {len(layers)} layers: what is "
                    "measured of them holds this noise, and another scan gives other results"
                )
        other, _ = _shown(model, images[list(_AMONG_OTHERS)], _PLACES, seed=0)
        least = max(_LEAST, _ULPS["batch"] * eps)
        amplified = _touched(_changed(once, other, least), layers)
        if not (answers or amplified):
            return None
        noisy = _noisy(pair, max(_NOISE, 2 * eps))
        hear = partial(answers.hear_rounded, eps) if answers else None
        rounded, _ = _shown(model, noisy, _TWICE, seed=0, hear=hear)
    found = _changed(once, other, least, rounded)
    if not (touched := _touched(found, layers)):
        return None
    return (
        f"warning: what the network gives for an image depends on the other images in its batch, "
        f"from {_named(model, found[0])} on, in {touched} of {len(layers)} layers: images are "
        "shown category by category, so that categories differ by their batches too, and another "
        "--batch-size gives other results"
    )


def _drawn_so_far(model: nn.Module) -> list[Any]:
    """States of all random generators that a pass may draw from."""
    _, key, *others = np.random.get_state()
    states: list[Any] = [random.getstate(), list(key), others]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    generators = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
    return states + [state.tolist() for state in generators]


def _shown(
    model: nn.Module,
    images: torch.Tensor,
    rows: Collection[int],
    seed: int,
    hear: _Hear | None = None,
) -> tuple[_Events, bool]:
    """The tensors of a pass, and whether random numbers were drawn in it.

    ``hear`` is told what modules give, each tensor ``[image, ...]``, and which of several it is.
    """
    torch.manual_seed(seed)
    before = _drawn_so_far(model)
    found = _events(model, images, rows, hear)
    return found, _drawn_so_far(model) != before


def _scenes(model: nn.Module, crop: int) -> torch.Tensor:
    """Images that differ in colour, in contrast, and in what is where."""
    own = torch.Generator().manual_seed(0)
    colour, contrast, coarse, fine = (
        torch.randn(_IMAGES, 3, side, side, generator=own) for side in (1, 1, 8, crop)
    )
    coarse = nn.functional.interpolate(coarse, (crop, crop), mode="bilinear")
    scenes = colour + (0.3 + contrast.abs()) * (coarse + 0.2 * fine)
    scenes[-1] *= 4  # it has the extremes of its batch
    return as_input(scenes, model)


def _noisy(images: torch.Tensor, share: float) -> torch.Tensor:
    """The images changed by about what rounding changes."""
    own = torch.Generator().manual_seed(1)
    noise = torch.randn(images.shape, generator=own).to(images.device)
    return (images.float() * (1 + share * noise)).to(images.dtype)


def _events(
    model: nn.Module, images: torch.Tensor, rows: Collection[int], hear: _Hear | None
) -> _Events:
    """A sample of every tensor that goes in or out of a module, of these images ``[row, value]``.

    In the order in which they come; of tensors that have a row, or a column, for every image.
    """
    found: _Events = {}
    inside: list[str] = [next(name for name, _ in named_modules(model))]
    calls: Counter[tuple[str, bool]] = Counter()

    def keep(name: str, gives: bool, value: Any, made_by: str) -> None:
        calls[name, gives] += 1
        for number, tensor in enumerate(_tensors(value)):
            by_image = _by_image(tensor, len(images))
            if by_image is not None:
                event = _Event(name, gives, calls[name, gives], number, made_by)
                found[event] = _sample(by_image, rows)
                if gives and hear:
                    hear(name, number, by_image)

    def enter(name: str, given: Any) -> None:
        keep(name, False, given, inside[-1])
        inside.append(name)

    def leave(name: str, output: Any) -> None:
        inside.pop()
        keep(name, True, output, name)

    hooks = []
    for name, module in named_modules(model):
        if not isinstance(module, torch.jit.ScriptModule):
            hooks += [
                module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: enter(name, (args, kwargs)),
                    with_kwargs=True,
                ),
                module.register_forward_hook(lambda _, __, out, name=name: leave(name, out)),
            ]
    try:
        run(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and not value.is_sparse:
            yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _by_image(tensor: torch.Tensor, images: int) -> torch.Tensor | None:
    """The tensor ``[image, ...]``; None where it has no row, or column, for every image."""
    axis = next((axis for axis, size in enumerate(tensor.shape[:2]) if size == images), None)
    return tensor.detach().movedim(axis, 0) if axis is not None and tensor.numel() else None


def _sample(by_image: torch.Tensor, rows: Collection[int]) -> torch.Tensor:
    """Some values of every row, without a copy of the others."""
    units = by_image[0].numel()
    own = torch.Generator().manual_seed(units)
    places = torch.arange(units) if units <= _VALUES else (
        torch.randint(units, (_VALUES,), generator=own)
    )  # fmt: skip
    along = torch.unravel_index(places.to(by_image.device), by_image.shape[1:])
    return torch.stack([by_image[row][along] for row in rows])


def _changed(
    one: _Events, other: _Events, least: float, rounded: _Events | None = None
) -> list[_Event]:
    """The tensors, in order, that differ by more than ``least``, and than what was ``rounded``."""
    return [
        event
        for event, values in one.items()
        if event in other and (change := _distance(values, other[event])) > least
        if not rounded or event not in rounded
        or change > _MORE * _distance(values, rounded[event])
    ]  # fmt: skip


def _lost(one: _Events, other: _Events) -> list[_Event]:
    """The tensors of modules that ran in one of two passes alone."""
    return [event for event in {**one, **other} if (event in one) != (event in other)]


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of two samples, relative to the first; of what is finite in both."""
    if one.shape != other.shape:
        return 0.0
    a, b = one.double(), other.double()
    both = a.isfinite() & b.isfinite()
    apart, size = float((a - b)[both].norm()), float(a[both].norm())
    return apart / max(size, 1e-300) if apart else 0.0


def _touched(found: Collection[_Event], layers: Collection[str]) -> int:
    return len({event.module for event in found if event.gives} & set(layers))


def _named(model: nn.Module, event: _Event) -> str:
    """The module that has made a tensor, and how many there are like it."""
    modules = dict(named_modules(model))
    module = modules[event.made_by]

    def kind(one: nn.Module) -> tuple[Any, ...]:
        return type(one), one.training, getattr(one, "track_running_stats", None)

    alike = sum(kind(one) == kind(module) for one in modules.values())
    of = f", the first of {alike}" if alike > 1 else ""
    return f"{event.made_by} ({type(module).__name__}{of})"
