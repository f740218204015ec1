"""Forward passes: decoded batches in, activations handed to a taker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..decoding.ahead import Decoded, normalise
from ..layer import Layer
from ..moments.accumulate import kernels_for
from ..moments.plan import Batch, Plan
from ..networks.backbones import Backbone
from ..networks.compiled import compiled
from ..networks.hooks import OnActivation, capture
from ..networks.inputs import Inputs
from ..networks.layers import untouched
from ..networks.out_of_memory import explained
from ..networks.placement import has_float64, input_dtype, multiplied

# Activations on the host at most, of a device without float64.
ON_HOST = 2


class Taker(Protocol):
    """Takes the activations of some layers, batch by batch, and can be saved between batches."""

    @property
    def layers(self) -> Collection[str]:
        """Names of the layers."""

    def begin(self, batch: Batch) -> None:
        """Begin a batch. Its activations follow, layer by layer."""

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """Take a layer's activation ``[stimulus, ...]`` without keeping it."""

    def save(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything not written yet: records in JSON types, and arrays."""

    def resume(self, headers: Mapping[str, Any], contents: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what :meth:`save` returned; empty values start from the beginning."""

    def finish(self) -> None:
        """Write what is left after the last stimulus."""


@contextmanager
def showing(
    backbone: Backbone,
    layers: Sequence[Layer],
    plan: Plan,
    device: torch.device,
    taker: Taker,
    sample: Inputs | None = None,
) -> Iterator[Callable[[Decoded], None]]:
    """Yield a function that shows the network one batch of ``plan`` and calls ``taker``.

    Failed stimuli still pass through the network, but are not counted. ``layers`` are those of the
    whole scan; ``taker`` may take some of them. ``sample`` are stimuli that are no images.
    """
    dtype = input_dtype(backbone.model)
    side = backbone.preprocessing.crop
    shape = (plan.batch_size, 3, side, side)
    with (
        untouched(backbone.model),
        multiplied(backbone.precision, device),
        explained(backbone.model, shape, dtype, device, sample),
        compiled(backbone.model, [layer.name for layer in layers] if backbone.compiled else []),
        _handing(taker, device) as (take, all_taken),
        capture(backbone.model, taker.layers, take) as show,
    ):

        def shown(decoded: Decoded) -> None:
            taker.begin(decoded.batch.without(decoded.failed))
            pixels = _filled(decoded.pixels, plan)
            if isinstance(pixels, Inputs):
                show(pixels.to(device, dtype))
            else:
                show(normalise(pixels, backbone.preprocessing, device, dtype))
            all_taken()

        yield shown


@contextmanager
def _handing(
    taker: Taker, device: torch.device
) -> Iterator[tuple[OnActivation, Callable[[], None]]]:
    """Yield how activations reach ``taker``, and a function that waits until it has taken all.

    Those of a device without float64 are copied to the host. A thread hands them on, in order,
    while the network continues on the device.
    """
    if has_float64(device):
        yield taker.take, lambda: None
        return
    pending: deque[Future[Any]] = deque()

    def wait(left: int = 0) -> None:
        while len(pending) > left:
            pending.popleft().result()

    with ThreadPoolExecutor(1, thread_name_prefix="moments") as pool:
        pending.append(pool.submit(kernels_for, torch.device("cpu")))  # of this thread

        def take(layer: str, activation: torch.Tensor) -> None:
            wait(ON_HOST - 1)
            # Copied now, also on the CPU: a later operation may change it in place.
            copy = activation.to("cpu", copy=True)
            pending.append(pool.submit(taker.take, layer, copy))

        yield take, wait


def _filled(
    pixels: NDArray[np.uint8] | torch.Tensor | Inputs, plan: Plan
) -> NDArray[np.uint8] | torch.Tensor | Inputs:
    """A short last batch filled up with its last image; the extra rows belong to no run.

    Networks round differently at another batch size: a constant unit would seem to vary.
    """
    missing = plan.batch_size - len(pixels)
    if not missing or plan.n_batches == 1:
        return pixels
    return pixels[[*range(len(pixels)), *[-1] * missing]]
