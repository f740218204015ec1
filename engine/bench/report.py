"""``fusiform bench``, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..decoding.ahead import default_workers
from ..errors import UserError, nearest, shortened
from ..limits import refuse_numbers
from ..machine import resident_memory
from ..networks.backbones import load_backbone
from ..networks.compiled import refuse_without_compiler
from ..networks.placement import device_for, has_float64, refuse_precision
from ..scanning.memory import recycled
from ..spec import Network
from ..values import listed
from .images import measure_decoding, measure_memory
from .kernels import LEAST_UNITS, measure_kernels
from .measure import Measurement
from .network import measure_network

PARTS = ("kernels", "network", "decoding", "memory")
# Six categories, two folds, two images each: the fewest that a scan accepts.
_FEWEST_IMAGES = 24


def bench(
    network: Network | str = "resnet50",
    *,
    parts: str | Sequence[str] = PARTS,
    device: str | None = None,
    array_units: int = 5_500_000,
    batch_sizes: int | Sequence[int] = (8, 32, 128),
    scan_images: int | Sequence[int] = (100, 1000),
    batch_size: int = 32,
    repeats: int = 7,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Measurement]:
    """Measure the cost of a scan on this machine; alternatives take turns.

    Parameters
    ----------
    network : Network or str, default "resnet50"
        A network, or a name: untrained weights cost the same. Its ``precision`` and ``compile``
        apply to the part ``network``.
    parts : str or sequence of str, optional
        ``kernels`` (GB/s against the read bandwidth; on a GPU against a copy), ``network`` (one
        batch with all blocks recorded against the bare forward pass), ``decoding`` (images per
        second and thread), ``memory`` (peak of whole scans by number of images); by default all.
    device : str, optional
        As in :class:`fusiform.Resources`.
    array_units : int, default 5500000
        Units of the kernels' arrays ``[batch size, units]``; the largest takes
        ``4 x units x batch size`` bytes, and twice that in float64.
    batch_sizes : int or sequence of int, default (8, 32, 128)
        Batch sizes of the kernels' arrays.
    scan_images : int or sequence of int, default (100, 1000)
        Numbers of images to scan, for ``memory``.
    batch_size : int, default 32
        Images per forward pass, for ``network`` and ``memory``.
    repeats : int, default 7
        Turns; the median counts. ``memory`` takes three scans each.
    note : callable, optional
        Called with the name of each part that begins.

    Returns
    -------
    iterator of Measurement
        The measurements, one by one.

    Raises
    ------
    UserError
        A part, device, precision or model is unknown; there is no compiler; a number is out of
        range.

    Examples
    --------
    >>> small = fusiform.Network("squeezenet1_1", weights="none", preprocessing={"crop": 64})
    >>> measured = list(fusiform.bench(small, parts="network", batch_size=1, repeats=1))
    >>> measured[0].what, measured[0].unit
    ('bare forward pass', 'ms')
    """
    network = Network(network, weights="none") if isinstance(network, str) else network
    parts, batch_sizes, images = listed(parts), listed(batch_sizes), listed(scan_images)
    _check(parts, batch_sizes, images, array_units, batch_size=batch_size, repeats=repeats)
    plain = replace(network, precision=None, compile=False)
    target = device_for(device)
    if not has_float64(target):
        raise UserError(
            f"bench measures kernels that add up in float64; {target} has none, and its moments "
            'are added up on the CPU: use `device="cpu"`'
        )
    refuse_precision(network.precision, target)
    if network.compile and "network" in parts:
        refuse_without_compiler(target)
    if set(parts) != {"kernels"}:
        load_backbone(plain)  # fails now, not after minutes of kernels

    def measured() -> Iterator[Measurement]:
        for part in parts:
            note(f"measuring: {part}")
            if part == "kernels":
                with recycled():
                    yield from measure_kernels(
                        target,
                        units=array_units,
                        batch_sizes=sorted(set(batch_sizes)),
                        repeats=repeats,
                    )
            elif part == "network":
                yield from measure_network(network, target, batch_size=batch_size, repeats=repeats)
            elif part == "decoding":
                preprocessing = load_backbone(plain).preprocessing
                threads = default_workers()
                yield from measure_decoding(preprocessing, threads=threads, repeats=repeats)
            else:
                yield from measure_memory(
                    network, str(target), numbers=images, batch_size=batch_size
                )

    return measured()


def _check(
    parts: Sequence[str],
    batch_sizes: Sequence[int],
    images: Sequence[int],
    units: int,
    *,
    batch_size: int,
    repeats: int,
) -> None:
    for part in parts:
        if part not in PARTS:
            raise UserError(f"there is no part {part!r} to measure: {nearest(part, PARTS)}")
    refuse_numbers(batch_size=batch_size, repeats=repeats, array_units=units)
    for name, each in (("batch_size", batch_sizes), ("scan_images", images)):
        for number in each:
            refuse_numbers(**{name: number})
    if not batch_sizes or min(batch_size, repeats, *batch_sizes) < 1 or units < LEAST_UNITS:
        raise UserError(
            f"batch sizes and repeats are 1 or more, units {LEAST_UNITS:,} or more; got "
            f"{shortened([batch_size, *batch_sizes])}, {repeats} and {units:,}"
        )
    if not images or min(images) < _FEWEST_IMAGES:
        raise UserError(
            f"a scan is measured from {_FEWEST_IMAGES} images on; got {shortened(images) or 'none'}"
        )
    if "memory" in parts and not resident_memory("self"):
        raise UserError("a process's peak memory is measured on Linux only: leave memory out")
