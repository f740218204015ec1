"""Time that a network on the CPU would save in bfloat16, measured where it has instructions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING

from ..errors import UserError, first_line
from ..spec import Network
from .checks import Finding

if TYPE_CHECKING:
    from torch import nn

    from ..scanning.progress import Listener
    from ..scanning.setup import Setup

# The cost in t, as docs/reference/definitions.md quotes it from benchmarks/results/precision.md.
CHANGE_IN_T = "99 in 100 t's of a trained ResNet-18 move by less than 0.16"
# Savings of less than this share of the time are within the noise of the measurement.
NOISE = 0.05
_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
# Turns after one that does not count. Images are as many as take 0.15 seconds in float32; an
# image that takes so many seconds is too slow to try, and turns that take so many are the last.
_TURNS, _SECONDS, _SLOW, _LONG = 3, 0.15, 3.0, 15.0
# The network that doctor measures, and its images in a batch.
_NETWORK, _IMAGES = "resnet18", 8


def instructions() -> str | None:
    """The processor's instructions for products of bfloat16; None without them."""
    import torch

    known = torch.cpu.get_capabilities()
    return next((said for name, said in _INSTRUCTIONS.items() if known.get(name)), None)


def share_of_time(model: nn.Module, layers: Collection[str], crop: int, images: int) -> float:
    """Time of a forward pass in bfloat16 as a share of its time in float32, taken in turns.

    Parameters
    ----------
    model : in float32, on the CPU; its weights are rounded to bfloat16
    layers : the pass ends after the last of them
    crop, images : side and number of the images, which are noise
    """
    import torch

    from ..bench.measure import ratio
    from ..networks.hooks import capture
    from ..networks.layers import untouched
    from ..scanning.memory import recycled
    from ..scanning.timing import seconds

    noise = torch.rand(images, crop, crop, 3, generator=torch.Generator().manual_seed(0))
    pixels = noise.permute(0, 3, 1, 2)  # channels last, as a scan shows them
    taken: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    with recycled(), untouched(model), capture(model, layers, lambda *_: None) as show:
        try:
            for _ in range(_TURNS + 1):
                for dtype, own in taken.items():
                    model.to(dtype)
                    own.append(seconds(partial(show, pixels.to(dtype))))
                if sum(map(sum, taken.values())) > _LONG:
                    break
        finally:
            model.to(torch.float32)
    whole, half = (own[1:] or own for own in taken.values())
    return ratio(half, whole)


def share_of_scan(setup: Setup, pace: float, listener: Listener) -> float | None:
    """:func:`share_of_time` of a scan's network.

    None if the scan names a precision or is compiled, if its network is not in float32 on a CPU
    with :func:`instructions` or sees no pictures, or if it could not be measured.

    Parameters
    ----------
    pace : images per second of the network
    listener : is told why the share could not be measured
    """
    import torch

    network, backbone = setup.request.network, setup.backbone
    if network.precision is not None or backbone.compiled or setup.device.type != "cpu":
        return None
    dtypes = {parameter.dtype for parameter in backbone.model.parameters()}
    if setup.sample is not None:  # it is no picture of noise
        return None
    if dtypes != {torch.float32} or instructions() is None:
        return None
    if pace * _SLOW < 1:
        listener.note(f"bfloat16 is not measured: an image takes {1 / pace:.0f} s")
        return None
    images = max(1, min(setup.plan.batch_size, int(pace * _SECONDS)))
    try:
        # The module that a user gave stays as it is.
        own = isinstance(network.model, str)
        model = backbone.model if own else deepcopy(backbone.model)
        layers = [layer.name for layer in setup.layers]
        return share_of_time(model, layers, backbone.preprocessing.crop, images)
    except Exception as error:  # a user's module may raise anything, and can be scanned as it is
        listener.note(f"bfloat16 could not be measured: {first_line(error)[:200]}")
        return None


def check_bfloat16(device: str | None) -> Iterator[Finding]:
    """Time of a ResNet-18 in bfloat16, if a scan would take a CPU that has instructions for it."""
    from ..networks.backbones import load_backbone
    from ..networks.placement import device_for, place

    known = instructions()
    try:
        target = device_for(device)
    except UserError:  # the check of devices has said so
        return
    if known is None or target.type != "cpu":
        return
    backbone = load_backbone(Network(_NETWORK, weights="none"))
    crop = backbone.preprocessing.crop
    share = share_of_time(place(backbone.model, target), ["avgpool"], crop, _IMAGES)
    yield judge_bfloat16(known, share)


def judge_bfloat16(known: str, share: float) -> Finding:
    """The instructions, and the share of float32's time that a ResNet-18 takes with them."""
    found = f"{known}; in bfloat16 a ResNet-18 takes {share:.2f} of its time in float32"
    return Finding("bfloat16", found + (f", and {CHANGE_IN_T}" if share < 1 - NOISE else ""))
