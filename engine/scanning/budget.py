"""What a scan takes of memory, and how it fits: batch size, and passes over the stimuli.

What is kept of a unit is known, what a forward pass takes is measured on the trial pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..errors import UserError
from ..layer import Layer
from ..machine import control_group_limits, memory
from ..moments.plan import parts_within
from .memory import recycled, resident_memory

# The batch size of a scan that has room for it, and what is tried where there is none.
BATCH_SIZES = (32, 16, 8, 4, 2, 1)
# Of a forward pass, the part that does not grow with the batch, in stimuli: what a small one costs.
_OVERHEAD = 4
# Of what is free, the share that is left to others where no budget is given.
_MARGIN = 0.1
# Bytes per unit: of a group that several shards share, what the earlier ones have seen; and of the
# largest layer, while a finished group is read out, put in order, and written.
_EARLIER, _READ_OUT = 16, 112
# Decoded batches that there are at a time, as 8-bit pixels, and batches as the network takes them.
_DECODED, _NORMALISED = 4, 2
# Threads and their stacks, compiled code, buffers of the store; and the largest slab of contrasts.
_WORKSPACE = 384 * 2**20


def free_memory(device: torch.device) -> int | None:
    """Bytes that this program can have in all where it runs, less a margin; None if not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int((1 - _MARGIN) * free) + torch.cuda.memory_reserved(device)
    known = memory(control_group_limits())
    own = resident_memory("self").get("VmRSS", 0)
    return None if known is None else int((1 - _MARGIN) * known.available) + own


def used_memory(device: torch.device) -> int:
    """Bytes that this program has where it runs; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return resident_memory("self").get("VmRSS", 0)


@contextmanager
def growth(device: torch.device) -> Iterator[list[int]]:
    """Give a list that holds, when the context ends, by how much this program grew at its largest.

    On the CPU memory that is freed inside is kept until the end, as in a scan.
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
    """Bytes that a scan takes, by what they depend on.

    ``program`` with its network; ``forward`` for each stimulus of a batch in a forward pass over
    images of ``crop`` x ``crop`` pixels; for each of a layer's units its live moments, more where
    groups are ``cut`` by shards, and those of a ``null`` of so many groups and units. Of a
    recording, ``recorded`` says what is held of a layer instead.
    """

    program: int
    forward: int
    crop: int
    cut: bool = False
    null: tuple[int, int] = field(default=(0, 0))
    recorded: Callable[[Layer], int] | None = None

    def of_layer(self, layer: Layer) -> int:
        """All that is live of a layer."""
        if self.recorded:
            return self.recorded(layer)
        groups, units = self.null
        shuffled = groups * min(units, layer.units) * (20 if layer.dtype != "float64" else 24)
        return layer.state_bytes + (_EARLIER * layer.units if self.cut else 0) + shuffled

    def of_batch(self, batch_size: int) -> int:
        """Of a batch, from pixels to activations."""
        pixels = 3 * self.crop**2
        return batch_size * (self.forward + (_DECODED + 4 * _NORMALISED) * pixels)

    def without_moments(self, layers: Sequence[Layer], batch_size: int) -> int:
        """All but what is live of the layers."""
        read_out = 0 if self.recorded else _READ_OUT * max(layer.units for layer in layers)
        return self.program + self.of_batch(batch_size) + read_out + _WORKSPACE

    def peak(self, layers: Sequence[Layer], batch_size: int) -> int:
        """The most that a scan of ``layers``, shown at a time, takes."""
        return self.without_moments(layers, batch_size) + sum(map(self.of_layer, layers))


class Fit(NamedTuple):
    """How a scan fits: ``parts`` of the layers, for each of which all stimuli are shown."""

    batch_size: int
    parts: tuple[tuple[Layer, ...], ...]
    peak: int


def fit(
    layers: Sequence[Layer],
    footprint_of: Callable[[int], Footprint],
    budget: int | None,
    batch_size: int | None,
) -> Fit:
    """The batch size and the passes that take the least time, of those that a budget has room for.

    Parameters
    ----------
    footprint_of : by batch size, which decides where groups are cut
    budget : bytes; None where nothing is known to be kept to
    batch_size : the one that was asked for; by default 32, or less where that does not fit

    Raises
    ------
    UserError : even the smallest batch and one layer at a time do not fit
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


def _too_little(
    layers: Sequence[Layer], footprint: Footprint, budget: int, batch_size: int
) -> UserError:
    costly = sorted(layers, key=footprint.of_layer, reverse=True)[:3]
    least = footprint.without_moments(layers, batch_size) + footprint.of_layer(costly[0])
    named = ", ".join(f"{one.name} {footprint.of_layer(one) / 2**20:,.0f} MiB" for one in costly)
    return UserError(
        f"a scan has to fit into its memory budget; one layer at a time, in batches of "
        f"{batch_size}, takes {least / 2**30:.2f} GiB of {budget / 2**30:.2f} GiB (program and "
        f"network {footprint.program / 2**30:.2f}, a batch "
        f"{footprint.of_batch(batch_size) / 2**30:.2f}; live moments of {named}): raise "
        "--memory-budget, or record fewer or smaller --layers"
    )
