"""Memory of a scan, and how it fits a budget: batch size and number of passes.

Memory per unit is known; memory of a forward pass is measured in the trial pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..errors import UserError
from ..layer import Layer
from ..machine import control_group_limits, memory, resident_memory
from ..moments.plan import BUNDLE, parts_within
from .memory import recycled

# The default batch size, then the ones tried if it does not fit.
BATCH_SIZES = (32, 16, 8, 4, 2, 1)
# Fixed cost of a forward pass, in units of the cost per stimulus.
_OVERHEAD = 4
# Share of free memory left to other programs if no budget is given.
_MARGIN = 0.1
# Bytes per unit: moments of a group; and, for the largest layer or bundle, finished groups. On the
# CPU one is read out, others wait or are written, and a file of one is encoded. A GPU needs room to
# compute.
_MOMENTS, _READ_OUT = 16, 112
# Finished groups that may wait on the CPU; on a GPU, their bytes on the host, which are not part of
# its budget. There a batch takes milliseconds and does not wait for a group of all layers.
_PENDING, _PENDING_BYTES = 3, 2**28
# Batches in memory at once: as 8-bit pixels, and normalised for the network.
_DECODED, _NORMALISED = 4, 2
# Thread stacks, compiled code, buffers of the store, and the largest chunk of contrasts.
_WORKSPACE = 384 * 2**20


def free_memory(device: torch.device) -> int | None:
    """Bytes this process can use in total on ``device``, minus a margin; None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int((1 - _MARGIN) * free) + torch.cuda.memory_reserved(device)
    known = memory(control_group_limits())
    own = resident_memory("self").get("VmRSS", 0)
    return None if known is None else int((1 - _MARGIN) * known.available) + own


def used_memory(device: torch.device) -> int:
    """Bytes this process uses on ``device``; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return resident_memory("self").get("VmRSS", 0)


def pending_writes(layers: Sequence[Layer], device: torch.device) -> int:
    """Most finished groups of a bundle of layers that may wait to be written."""
    if device.type != "cuda":
        return _PENDING
    return max(_PENDING, _PENDING_BYTES // (_MOMENTS * _most_units(layers)))


@contextmanager
def growth(device: torch.device) -> Iterator[list[int]]:
    """Measure memory growth: on exit, the yielded list holds the peak growth in bytes.

    On the CPU, memory freed inside is kept until the end, as in a scan.
    """
    grown: list[int] = []
    with recycled():
        before = used_memory(device)
        yield grown
        grown.append(max(0, used_memory(device) - before))
    if device.type == "cuda":
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Footprint:
    """Memory of a scan in bytes, by what it depends on.

    ``program`` includes the network. ``forward`` is the cost per stimulus of a forward pass over
    images of ``crop`` x ``crop`` pixels. Every unit of a layer has its moments: more if shards
    ``cut`` groups, and more for a ``null`` of (groups, units). Finished moments are ``waiting``
    for others of their file: bytes by layer. In a recording, ``recorded`` gives the bytes of a
    layer instead.
    """

    program: int
    forward: int
    crop: int
    cut: bool = False
    null: tuple[int, int] = field(default=(0, 0))
    recorded: Callable[[Layer], int] | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)

    def live(self, layer: Layer) -> int:
        """Bytes of a layer's live moments."""
        if self.recorded:
            return self.recorded(layer)
        groups, units = self.null
        shuffled = groups * min(units, layer.units) * (20 if layer.dtype != "float64" else 24)
        return layer.state_bytes + (_MOMENTS * layer.units if self.cut else 0) + shuffled

    def of_layer(self, layer: Layer) -> int:
        """Bytes of a layer's moments, live and waiting."""
        return self.live(layer) + self.waiting.get(layer.name, 0)

    def of_batch(self, batch_size: int) -> int:
        """Of a batch, from pixels to activations."""
        pixels = 3 * self.crop**2
        return batch_size * (self.forward + (_DECODED + 4 * _NORMALISED) * pixels)

    def without_moments(self, layers: Sequence[Layer], batch_size: int) -> int:
        """Bytes of everything except the layers' moments."""
        read_out = 0 if self.recorded else _READ_OUT * _most_units(layers)
        return self.program + self.of_batch(batch_size) + read_out + _WORKSPACE

    def peak(self, layers: Sequence[Layer], batch_size: int) -> int:
        """Peak bytes of one pass over ``layers``."""
        return self.without_moments(layers, batch_size) + sum(map(self.of_layer, layers))


class Fit(NamedTuple):
    """How a scan fits its budget; ``parts`` are the layers of each pass over the stimuli."""

    batch_size: int
    parts: tuple[tuple[Layer, ...], ...]
    peak: int


def fit(
    layers: Sequence[Layer],
    footprint_of: Callable[[int], Footprint],
    budget: int | None,
    batch_size: int | None,
) -> Fit:
    """Fastest batch size and passes that fit a budget.

    Parameters
    ----------
    footprint_of : footprint by batch size, which decides where groups are cut
    budget : bytes; None for no limit
    batch_size : the requested one; by default 32, or less if that does not fit

    Raises
    ------
    UserError : even one layer at a time in the smallest batch does not fit
    """
    sizes = BATCH_SIZES if batch_size is None else (batch_size,)
    fits = []
    for size in sizes:
        footprint = footprint_of(size)
        room = None if budget is None else budget - footprint.without_moments(layers, size)
        if room is None or room >= max(map(footprint.of_layer, layers)):
            parts = parts_within(layers, footprint.of_layer, room)
            peak = max(footprint.peak(part, size) for part in parts)
            fits.append(Fit(size, tuple(parts), peak))
    if not fits:
        assert budget is not None
        raise _too_little(layers, footprint_of(sizes[-1]), budget, sizes[-1])
    return min(fits, key=lambda one: len(one.parts) * (1 + _OVERHEAD / one.batch_size))


def _most_units(layers: Sequence[Layer]) -> int:
    """Units of the largest layer, at least those of a full bundle."""
    return max(BUNDLE, *(layer.units for layer in layers))


def _too_little(
    layers: Sequence[Layer], footprint: Footprint, budget: int, batch_size: int
) -> UserError:
    costly = sorted(layers, key=footprint.of_layer, reverse=True)[:3]
    least = footprint.without_moments(layers, batch_size) + footprint.of_layer(costly[0])
    named = ", ".join(f"{one.name} {footprint.of_layer(one) / 2**20:,.0f} MiB" for one in costly)
    return UserError(
        f"a scan must fit its memory budget; one layer at a time, in batches of {batch_size}, "
        f"needs {least / 2**30:.2f} GiB of {budget / 2**30:.2f} GiB (program and network "
        f"{footprint.program / 2**30:.2f}, a batch "
        f"{footprint.of_batch(batch_size) / 2**30:.2f}; moments of {named}): raise "
        "`memory_budget`, or choose fewer or smaller `layers`"
    )
