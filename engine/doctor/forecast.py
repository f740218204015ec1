"""Memory, disk and time that a scan will take, measured before it is run.

The network is shown a few batches of noise, and a few of the stimuli are decoded.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..layer import Layer
from ..machine import control_group_limits, usable_cores
from ..spec import Design, Network, Request, Resources, Stimuli

if TYPE_CHECKING:
    from torch import nn

    from ..scanning.progress import Listener
    from ..scanning.setup import Setup
    from ..scanning.timing import Decoding

# What decoding is measured on.
_STIMULI = 96


@dataclass(frozen=True)
class Forecast:
    """Result of :func:`fusiform.plan`: memory, disk and time that a scan will take.

    Attributes
    ----------
    model : str
        Name of the network.
    device : str
        Where it runs.
    layers : tuple of Layer
        The layers to be recorded.
    passes : tuple of tuple of str
        Names of the layers of each pass over the stimuli.
    stimuli : int
        Number of stimuli.
    categories : tuple of str
        Their categories.
    folds : int
        Number of folds.
    batch_size : int
        Stimuli per forward pass.
    batches : int
        Number of forward passes.
    state_bytes : int
        Bytes of the live moments of the largest pass.
    store_bytes : int
        Most bytes that the store takes on the disk.
    activation_bytes : int
        Bytes that all activations would take in float32.
    peak_bytes : int
        Most memory of the program where the network runs, in bytes.
    budget_bytes : int or None
        The memory budget in bytes.
    network : float
        Speed of the network, in images per second.
    decoding : float
        Speed of decoding, in images per second.
    decode_workers : int
        Threads or processes that decode.
    advice : str
        How to speed up decoding, if the network waits for it.
    seconds : float
        Time of all passes, without compilation.
    contrast_seconds : float
        Time of the contrasts, in seconds.
    bfloat16_seconds : float or None
        Time of the passes with the network in bfloat16. None unless the scan is on a CPU with
        instructions for it, leaves a network in float32 as it is, uncompiled, and could be
        measured.
    bound : str
        The slower of ``decoding`` and ``network``, for which the scan waits.
    """

    model: str
    device: str
    layers: tuple[Layer, ...]
    passes: tuple[tuple[str, ...], ...]
    stimuli: int
    categories: tuple[str, ...]
    folds: int
    batch_size: int
    batches: int
    state_bytes: int
    store_bytes: int
    activation_bytes: int
    peak_bytes: int
    budget_bytes: int | None
    network: float
    decoding: float
    decode_workers: int
    advice: str
    seconds: float
    contrast_seconds: float
    bfloat16_seconds: float | None = None

    @property
    def bound(self) -> str:
        """The slower of ``decoding`` and ``network``, for which the scan waits."""
        return "decoding" if self.decoding < self.network else "network"


def plan(
    network: Network | str | nn.Module,
    stimuli: Any,
    output: str | Path | None = None,
    *,
    design: Design = Design(),
    resources: Resources = Resources(),
    overwrite: bool = False,
    restart: bool = False,
    go_back: bool = False,
    progress: bool | Listener = True,
) -> Forecast:
    """Memory, disk and time of a scan, before it runs.

    Weights make no difference and are not loaded. Stimuli are listed, and some are decoded. The
    network is shown a few batches of noise. Nothing is written.

    Parameters
    ----------
    network : Network, str or torch.nn.Module
        As in :func:`fusiform.scan`.
    stimuli : Stimuli, str, path, mapping, Dataset or iterable
        As in :func:`fusiform.scan`.
    output : str or path, optional
        The store to be created, which must not exist unless it may be replaced.
    design : Design, optional
        As in :func:`fusiform.scan`.
    resources : Resources, optional
        As in :func:`fusiform.scan`.
    overwrite : bool, default False
        As in :func:`fusiform.scan`.
    restart : bool, default False
        As in :func:`fusiform.scan`.
    go_back : bool, default False
        As in :func:`fusiform.scan`.
    progress : bool or Listener, default True
        As in :func:`fusiform.scan`.

    Returns
    -------
    Forecast
        Numbers of batches and passes, bytes of memory and disk, and seconds.

    Raises
    ------
    UserError
        The scan cannot be carried out as requested; it does not fit into memory; the output exists,
        unless it may be replaced.

    See Also
    --------
    scan : Run the scan.
    doctor : Check the machine.

    Examples
    --------
    >>> network = fusiform.Network("resnet18", preprocessing={"resize": 64, "crop": 64})
    >>> forecast = fusiform.plan(network, "stimuli", design=fusiform.Design(layers="layer4.1"))
    >>> forecast.passes, forecast.stimuli, forecast.seconds > 0
    ((('layer4.1',),), 24, True)
    """
    from ..scanning.bar import listening
    from ..store.writing.publishing import refuse_existing
    from ..store.writing.resuming import Existing, as_begun

    existing, network = Existing(overwrite, restart, go_back), Network.of(network)
    if isinstance(network.model, str):
        network = replace(network, weights="none", seed=0)
    request = Request(network, Stimuli.of(stimuli), design, resources)
    if request.stimuli.is_stream:
        raise UserError(
            "a plan says how long all stimuli take, and a stream does not say how many come: give "
            "a map-style Dataset"
        )
    if output is not None:
        refuse_existing(output, overwrite, unfinished=True)
        request = request if existing.restart else as_begun(request, output)
    with listening(progress) as listener:
        listener.begin("loading libraries")
        from ..networks.lending import lent
        from ..scanning.setup import check_machine, set_up
        from ..scanning.stimulus_set import listed_stimuli

        check_machine(request)
        with lent(network.model):
            shown = listed_stimuli(request.stimuli, listener)
            return _forecast(set_up(request, shown, listener), listener)


def _forecast(setup: Setup, listener: Listener) -> Forecast:
    """Measure the network and the decoding of a setup."""
    from ..contrasts.select import seconds_per_unit
    from ..scanning.coordinates import read_coordinates
    from ..store.writing.store_draft import max_store_bytes
    from .half_precision import share_of_scan

    design, plan, footprint = setup.design, setup.plan, setup.footprint
    read_coordinates(design.coordinates, setup.layers)  # refuses a table that a scan would
    categories, parts = setup.catalogue.categories, setup.fitting.parts
    sizes = len(categories), design.folds, design.store_dtype
    store_bytes = max_store_bytes(setup.layers, *sizes)
    listener.notes(setup.remarks_on_size(store_bytes))
    listener.begin("timing the network")
    per_batch, workers = _rehearsed(setup), setup.images.workers
    decoding, resize = _decoding(setup, workers), setup.backbone.preprocessing.resize
    network = len(parts) * plan.batch_size / sum(per_batch)
    shown, per_image = len(parts) * len(plan.order), 1 / decoding.rate
    # On the CPU both share the cores; else the slower one sets the pace.
    spent = (per_image + 1 / network) if setup.device.type == "cpu" else max(per_image, 1 / network)
    share = share_of_scan(setup, network, listener)
    cores = usable_cores(control_group_limits())
    advised = not setup.request.stimuli.are_objects  # the program prepares them
    units = sum(layer.units for layer in setup.layers)
    return Forecast(
        model=setup.backbone.name,
        device=str(setup.device),
        layers=setup.layers,
        passes=tuple(tuple(layer.name for layer in part) for part in parts),
        stimuli=len(plan.order),
        categories=categories,
        folds=design.folds,
        batch_size=plan.batch_size,
        batches=plan.n_batches * len(parts),
        state_bytes=max(sum(map(footprint.live, part)) for part in parts),
        store_bytes=store_bytes,
        activation_bytes=setup.activation_bytes,
        peak_bytes=setup.fitting.peak,
        budget_bytes=setup.budget,
        network=network,
        decoding=decoding.rate,
        decode_workers=decoding.workers,
        advice=decoding.advice(network, resize, cores) if advised else "",
        seconds=shown * spent,
        contrast_seconds=units * seconds_per_unit(len(categories), design.folds),
        bfloat16_seconds=None if share is None else shown * (per_image + share / network),
    )


def _rehearsed(setup: Setup) -> list[float]:
    """Seconds per batch of every part of the layers."""
    import numpy as np

    from ..decoding.ahead import Decoded
    from ..moments.accumulators import Live
    from ..networks.placement import moments_device
    from ..scanning.forward import showing
    from ..scanning.memory import recycled
    from ..scanning.timing import seconds_per_batch

    plan, side = setup.plan, setup.backbone.preprocessing.crop
    batch = next(plan.batches())
    number = len(batch.stimuli)
    if setup.sample:
        pixels: Any = setup.sample[[0] * number]
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (number, side, side, 3), np.uint8)
    seconds = []
    for part in setup.fitting.parts:
        device = moments_device(setup.device)
        live = Live(part, device, lambda *_: None, None, reductions=setup.reductions)
        with (
            recycled(),
            showing(setup.backbone, setup.layers, plan, setup.device, live, setup.sample) as show,
        ):
            shown = partial(show, Decoded(batch, pixels, {}))
            if setup.backbone.compiled:
                shown()  # compiles
            seconds.append(seconds_per_batch(shown, setup.device))
    return seconds


def _decoding(setup: Setup, workers: int) -> Decoding:
    """Speed of decoding stimuli spread over the set, or of asking for objects.

    Raises
    ------
    UserError : none of them can be
    """
    from ..decoding.ahead import needs_processes
    from ..decoding.objects import ObjectCatalogue
    from ..scanning.timing import as_measured, measure_decoding, spread

    if isinstance(setup.catalogue, ObjectCatalogue):
        return _asking(setup)
    with tempfile.TemporaryDirectory() as folder:
        paths = spread(setup.catalogue, _STIMULI, Path(folder))
        preprocessing = as_measured(setup.backbone.preprocessing, setup.catalogue)
        apart = needs_processes(setup.catalogue, setup.device, workers)
        measured = measure_decoding(paths, preprocessing, workers, processes=apart)
    if not measured.rate:
        raise UserError(
            f"stimuli are images that can be decoded; of {measured.tried} tried none is: "
            "'fusiform stimuli check' says why"
        )
    return measured


def _asking(setup: Setup) -> Decoding:
    """Speed of asking for objects, and of resizing them, in this thread."""
    from ..scanning.timing import Decoding, seconds

    plan = replace(setup.plan, order=setup.plan.order[:_STIMULI])
    some = replace(setup, plan=plan)
    taken = seconds(lambda: [*some.batches(0, lambda: None, lambda _: None)])
    number = len(plan.order)
    return Decoding(number / taken, 1, 0, 0, number)
