"""Test whether a network's responses to an image depend on the batch or the run."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .inputs import Inputs
from .layers import untouched
from .modules import INPUT, named_modules, run
from .placement import as_input

if TYPE_CHECKING:
    from .behaviour import Answers

# Values compared per image and tensor.
_VALUES = 1024
# Number of images; a pair of them; the larger batch with the pair in it, and the pair's rows there.
IMAGES, _PAIR, _LARGER_BATCH, _ROWS = 3, (0, 1), (2, 1, 0), (2, 1)
# Repetitions for a network that draws random numbers: if it drops a part of itself one time in
# five, all but a thousandth of probes see it.
_REPEATS = 30
# Tolerances for rounding, relative to a tensor's norm: absolute, and in units of epsilon.
_LEAST, _ULPS = 1e-4, {"run": 4, "batch": 8}
# Size of input noise that stands for rounding, and by what factor a change must exceed its effect.
_NOISE, _MORE = 4e-6, 4


class _Event(NamedTuple):
    """An input or output tensor of a module, and the module whose code made it."""

    module: str
    is_output: bool
    call: int
    number: int
    made_by: str

    @property
    def layer(self) -> str:
        """Name of the layer that the tensor belongs to."""
        return self.module if self.is_output else self.module + INPUT


_Events = dict[_Event, torch.Tensor]
_Observer = Callable[[str, int, torch.Tensor], None]


def probe(
    model: nn.Module,
    shown: int | Inputs,
    layers: Collection[str],
    eps: float = 0,
    answers: Answers | None = None,
) -> str | None:
    """A warning if responses of ``layers`` to an image depend on more than the image; else None.

    Runs the same images twice (``_REPEATS`` times if the network draws random numbers), then in
    another batch. Differences of the size of rounding errors do not count: ``eps``, or the coarsest
    precision of any tensor, sets that size. Restores the state of the network and of random
    generators. Images have the side ``shown``, or it holds three stimuli. ``answers`` receive the
    tensors of layers.
    """
    images = shown if isinstance(shown, Inputs) else _scenes(model, shown)
    pair = images[list(_PAIR)]
    with untouched(model):
        once, drawn = _shown(model, pair, _PAIR, seed=0, observe=answers.add if answers else None)
        eps = max([eps, *(torch.finfo(values.dtype).eps for values in once.values())])
        for seed in range(1, 1 + (_REPEATS if drawn else 1)):
            again, _ = _shown(model, pair, _PAIR, seed)
            found = _lost(once, again)
            found += _changed(once, again, max(_LEAST, _ULPS["run"] * eps))
            if answers:
                answers.drop({event.layer for event in found})
            if affected := _affected(found, layers):
                return (
                    "warning: the network gives different responses to the same images, from "
                    f"{_named(model, found[0])} on, in {affected} of {len(layers)} layers: their "
                    "measures contain this noise, and another scan gives other results"
                )
        other, _ = _shown(model, images[list(_LARGER_BATCH)], _ROWS, seed=0)
        least = max(_LEAST, _ULPS["batch"] * eps)
        amplified = _affected(_changed(once, other, least), layers)
        if not (answers or amplified):
            return None
        noisy = _noisy(pair, max(_NOISE, 2 * eps))
        observe = partial(answers.add_rounded, eps) if answers else None
        rounded, _ = _shown(model, noisy, _PAIR, seed=0, observe=observe)
    found = _changed(once, other, least, rounded)
    if not (affected := _affected(found, layers)):
        return None
    return (
        "warning: responses to an image depend on the other images in its batch, "
        f"from {_named(model, found[0])} on, in {affected} of {len(layers)} layers: images are "
        "shown category by category, so categories also differ by their batches, and another "
        "`batch_size` gives other results"
    )


def _drawn_so_far(model: nn.Module) -> list[Any]:
    """States of all random generators that a forward pass may use."""
    _, key, *others = np.random.get_state()
    states: list[Any] = [random.getstate(), list(key), others]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    generators = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
    return states + [state.tolist() for state in generators]


def _shown(
    model: nn.Module,
    images: torch.Tensor | Inputs,
    rows: Collection[int],
    seed: int,
    observe: _Observer | None = None,
) -> tuple[_Events, bool]:
    """Tensors of a forward pass, and whether it drew random numbers.

    ``observe(layer, number, tensor)`` receives every input and output ``[image, ...]``.
    """
    torch.manual_seed(seed)
    before = _drawn_so_far(model)
    found = _events(model, images, rows, observe)
    return found, _drawn_so_far(model) != before


def _scenes(model: nn.Module, crop: int) -> torch.Tensor:
    """Images that differ in colour, contrast and layout."""
    own = torch.Generator().manual_seed(0)
    colour, contrast, coarse, fine = (
        torch.randn(IMAGES, 3, side, side, generator=own) for side in (1, 1, 8, crop)
    )
    coarse = nn.functional.interpolate(coarse, (crop, crop), mode="bilinear")
    scenes = colour + (0.3 + contrast.abs()) * (coarse + 0.2 * fine)
    scenes[-1] *= 4  # the extreme values of its batch
    return as_input(scenes, model)


def _noisy(images: Any, share: float) -> Any:
    """The images with noise of about the size of rounding errors; whole numbers as they are."""
    if isinstance(images, Inputs):
        return images.mapped(lambda one: _noisy(one, share) if one.is_floating_point() else one)
    own = torch.Generator().manual_seed(1)
    noise = torch.randn(images.shape, generator=own).to(images.device)
    return (images.float() * (1 + share * noise)).to(images.dtype)


def _events(
    model: nn.Module,
    images: torch.Tensor | Inputs,
    rows: Collection[int],
    observe: _Observer | None,
) -> _Events:
    """Sample ``[row, value]`` every input and output of every module, in order of execution.

    Only tensors with a row, or a column, for every image count.
    """
    found: _Events = {}
    inside: list[str] = [next(name for name, _ in named_modules(model))]
    calls: Counter[tuple[str, bool]] = Counter()

    def keep(name: str, is_output: bool, value: Any, made_by: str) -> None:
        calls[name, is_output] += 1
        for number, tensor in enumerate(_tensors(value)):
            by_image = _by_image(tensor, len(images))
            if by_image is not None:
                event = _Event(name, is_output, calls[name, is_output], number, made_by)
                found[event] = _sample(by_image, rows)
                if observe:
                    observe(event.layer, number, by_image)

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
    """The tensor as ``[image, ...]``; None without a row, or a column, for every image."""
    axis = next((axis for axis, size in enumerate(tensor.shape[:2]) if size == images), None)
    return tensor.detach().movedim(axis, 0) if axis is not None and tensor.numel() else None


def _sample(by_image: torch.Tensor, rows: Collection[int]) -> torch.Tensor:
    """Some values of every row, without copying the rest."""
    along = tuple(index.to(by_image.device) for index in _chosen(by_image.shape[1:]))
    return torch.stack([by_image[row][along] for row in rows])


@lru_cache(maxsize=64)
def _chosen(shape: torch.Size) -> tuple[torch.Tensor, ...]:
    """Indices of some values of a tensor, along each of its axes."""
    units = shape.numel()
    own = torch.Generator().manual_seed(units)
    chosen = torch.arange(units) if units <= _VALUES else (
        torch.randint(units, (_VALUES,), generator=own)
    )  # fmt: skip
    # By numpy: torch's unravel_index imports sympy.
    along = np.unravel_index(chosen.numpy(), shape) if shape else ()
    return tuple(map(torch.from_numpy, along))


def _changed(
    one: _Events, other: _Events, least: float, rounded: _Events | None = None
) -> list[_Event]:
    """Tensors, in order, that differ by more than ``least`` and more than ``rounded`` ones do."""
    return [
        event
        for event, values in one.items()
        if event in other and (change := _distance(values, other[event])) > least
        if not rounded or event not in rounded
        or change > _MORE * _distance(values, rounded[event])
    ]  # fmt: skip


def _lost(one: _Events, other: _Events) -> list[_Event]:
    """Tensors of modules that ran in only one of two passes."""
    return [event for event in {**one, **other} if (event in one) != (event in other)]


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference relative to the first sample, over values finite in both."""
    if one.shape != other.shape:
        return 0.0
    a, b = one.cpu().double(), other.cpu().double()
    both = a.isfinite() & b.isfinite()
    apart, size = float((a - b)[both].norm()), float(a[both].norm())
    return apart / max(size, 1e-300) if apart else 0.0


def _affected(found: Collection[_Event], layers: Collection[str]) -> int:
    return len({event.layer for event in found} & set(layers))


def _named(model: nn.Module, event: _Event) -> str:
    """The module that made a tensor, and how many modules are like it."""
    modules = dict(named_modules(model))
    module = modules[event.made_by]

    def kind(one: nn.Module) -> tuple[Any, ...]:
        return type(one), one.training, getattr(one, "track_running_stats", None)

    alike = sum(kind(one) == kind(module) for one in modules.values())
    of = f", the first of {alike}" if alike > 1 else ""
    return f"{event.made_by} ({type(module).__name__}{of})"
